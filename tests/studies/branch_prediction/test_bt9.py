"""Championship files are read by their format; damaged files raise one sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction import BranchTrace, read_bt9, write_bt9

# In the manner of the championship's files: comments, mnemonics, physical addresses, an unconditional branch, dummies.
SAMPLE = """BT9_SPA_TRACE_FORMAT
bt9_minor_version: 0      # a comment
has_physical_address: 1
md5_checksum: none
total_instruction_count: 400
BT9_NODES
#NODE id virtual physical opcode size
NODE 0 0 - 0 0
NODE 1 0x400a10 0x10 0x74 2 class: JMP+DIR+CND behavior: DYN+DIR taken_cnt: 2 not_taken_cnt: 1 # mnemonic: "jz 0x4"
NODE 2 0x400a20 - 0xeb 2 class: JMP+DIR+UCD behavior: AT+DIR
NODE 3 020 - 0x75 2 class: JMP+IND+CND
NODE 4 0 - 0 0
BT9_EDGES
EDGE 0 0 1 N 0 - 0 traverse_cnt: 1
EDGE 1 1 2 T 0x400a20 0x99 7
EDGE 2 2 1 T 0x400a10 - 3
EDGE 3 1 3 N 0 - 1

EDGE 4 3 4 T 0x1 - 1
BT9_EDGE_SEQUENCE
0
1  # taken
2
0x1
2
3
4
EOF
1
"""


def trace_of(*outcomes: tuple[int, bool]) -> BranchTrace:
    return BranchTrace([pc for pc, _ in outcomes], [taken for _, taken in outcomes])


@pytest.mark.parametrize("packed", [False, True])
def test_only_conditional_branches_are_read_in_order(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "sample.trace"
    path.write_bytes(gzip.compress(SAMPLE.encode()) if packed else SAMPLE.encode())

    assert read_bt9(path) == trace_of((0x400A10, True), (0x400A10, True), (0x400A10, False), (16, True))
    assert read_bt9(path, limit=2) == trace_of((0x400A10, True), (0x400A10, True))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 4), st.booleans()), max_size=60), st.booleans())
def test_a_written_trace_is_read_back(tmp_path: Path, outcomes: list[tuple[int, bool]], packed: bool) -> None:
    path = tmp_path / ("t.bt9.gz" if packed else "t.bt9")
    write_bt9(trace_of(*outcomes), path)

    assert read_bt9(path) == trace_of(*outcomes)


def test_a_written_file_has_the_formats_lines(tmp_path: Path) -> None:
    write_bt9(trace_of((16, True), (32, False), (16, True)), tmp_path / "t")
    lines = (tmp_path / "t").read_text().splitlines()

    assert lines[0] == "BT9_SPA_TRACE_FORMAT"
    assert lines[lines.index("BT9_NODES") + 1 : lines.index("BT9_EDGES")] == [
        "NODE 0 0x0 - 0x0 0",
        "NODE 1 0x10 - 0x0 4 class: JMP+DIR+CND taken_cnt: 2 not_taken_cnt: 0",
        "NODE 2 0x20 - 0x0 4 class: JMP+DIR+CND taken_cnt: 0 not_taken_cnt: 1",
        "NODE 3 0x0 - 0x0 0",
    ]
    assert lines[lines.index("BT9_EDGES") + 1 : lines.index("BT9_EDGE_SEQUENCE")] == [
        "EDGE 0 0 1 N 0x0 - 0",
        "EDGE 1 1 2 T 0x20 - 0",
        "EDGE 2 2 1 N 0x0 - 0",
        "EDGE 3 1 3 T 0x0 - 0",
    ]
    assert lines[lines.index("BT9_EDGE_SEQUENCE") + 1 :] == ["0", "1", "2", "3", "EOF"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_lets_nothing_in_is_refused(limit: int, tmp_path: Path) -> None:
    write_bt9(trace_of((16, True)), tmp_path / "t")
    with pytest.raises(InvalidValue, match=f"the limit is {limit} branches: give at least 1, or None"):
        read_bt9(tmp_path / "t", limit=limit)


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent/t cannot be written \(No such file .*\): free some space or name"):
        write_bt9(trace_of((16, True)), tmp_path / "absent" / "t")


def test_one_trace_gives_one_file(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_bt9(trace_of((1, True), (2, False)), tmp_path / name)

    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


REFUSED = [
    (lambda text: text.replace("BT9_SPA", "BT8_SPA"), "does not begin with BT9_SPA_TRACE_FORMAT"),
    (lambda text: "", "does not begin with BT9_SPA_TRACE_FORMAT"),
    (lambda text: text.split("BT9_EDGES")[0], "ends in BT9_NODES, before BT9_EDGE_SEQUENCE"),
    (lambda text: text.replace("BT9_NODES\n", ""), "starts BT9_EDGES after header"),
    (lambda text: text.replace("NODE 2 ", "NODE 1 "), r"line 10 .* node 1 a second time"),
    (lambda text: text.replace("EDGE 2 ", "EDGE 1 "), r"line 16 .* edge 1 a second time"),
    (lambda text: text.replace("NODE 2 ", "BRANCH 2 "), r"line 10 .* is not a node"),
    (lambda text: text.replace("0x400a20 - 0xeb", "0xZZ - 0xeb"), r"the address '0xZZ': give an integer"),
    (lambda text: text.replace("020 - 0x75", "0x10000000000000000 - 0x75"), r"line 11 .* of 0 to 2⁶⁴ − 1"),
    (lambda text: text.replace("020 - 0x75", "029 - 0x75"), r"the address '029': give an integer"),
    (lambda text: text.replace("JMP+IND+CND", "HOP+IND+CND"), r"line 11 .* class HOP\+IND\+CND"),
    (lambda text: text.replace("class: JMP+IND+CND", ""), r"line 11 .* class none"),
    (lambda text: text.replace("3 N 0", "3 X 0"), r"line 17 .* is not an edge"),
    (lambda text: text.replace("EDGE 3 1 3", "EDGE 3 9 3"), "edge from node 9"),
    (lambda text: text.replace("\n0x1\n", "\n17\n"), "names edge 17"),
    (lambda text: text.replace("\n0x1\n", "\n-1\n"), "the edge id '-1'"),
]


@pytest.mark.parametrize(("damage", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_damaged_file_is_refused(damage, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "damaged"
    path.write_text(damage(SAMPLE))

    with pytest.raises(DataError, match=message) as caught:
        read_bt9(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_binary_or_cut_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(SAMPLE.encode())
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped").write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    (tmp_path / "binary").write_bytes(b"BT9_SPA_TRACE_FORMAT\n\xff\xfe\x80")

    for name in ("missing", "cut", "flipped", "binary"):
        with pytest.raises(DataError, match=r"cannot be read as a branch trace|is not|give a|download it again"):
            read_bt9(tmp_path / name)
