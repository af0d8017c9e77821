"""The reader of CBP-2025 on files that an obvious writer makes from the published layout."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction import BranchTrace, cbp2025, read_any, read_cbp2025

LOAD, STORE, CONDITIONAL, RETURN, CALL = 1, 2, 3, 11, 9
BRANCHES = (CONDITIONAL, 4, 5, CALL, 10, RETURN)


def instruction(kind: int, pc: int = 0, taken: bool = True, inputs: bytes = b"", outputs: bytes = b"") -> bytes:
    """The bytes of one instruction, field by field."""
    written = struct.pack("<QB", pc, kind)
    if kind in (LOAD, STORE):
        written += struct.pack("<QBB", 0xDEAD, 8, 0) + (b"\1" if kind == STORE else b"")
    if kind in BRANCHES:
        written += struct.pack("<?Q", True, pc + 64) if taken else b"\0"
    written += bytes([len(inputs)]) + inputs + bytes([len(outputs)]) + outputs
    return written + b"".join(b"\xff" * (16 if 32 <= register <= 63 else 8) for register in outputs)


def pack(path: Path, *instructions: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(instructions)))
    return path


addresses = st.integers(0, 2**64 - 65)
registers = st.lists(st.integers(0, 65), max_size=5).map(bytes)
any_instruction = st.one_of(
    st.builds(instruction, st.sampled_from((0, LOAD, 6, 7)), addresses, inputs=registers, outputs=registers),
    st.builds(instruction, st.just(STORE), addresses, inputs=registers, outputs=st.sampled_from((b"", b"\5"))),
    st.builds(instruction, st.sampled_from(BRANCHES[1:]), addresses, inputs=registers, outputs=registers),
)


@pytest.mark.parametrize("chunk", [1, 13, 1 << 24])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(addresses, st.booleans()) | any_instruction, min_size=1, max_size=12))
def test_conditional_branches_are_found_among_all_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, parts: list
) -> None:
    monkeypatch.setattr(cbp2025, "CHUNK", chunk)
    branches = [part for part in parts if isinstance(part, tuple)]
    path = pack(
        tmp_path / "t.gz",
        *(p if isinstance(p, bytes) else instruction(CONDITIONAL, *p, b"\x40") for p in parts),
    )
    read = read_cbp2025(path)

    assert list(read) == branches
    assert read.instructions == len(parts)


def test_the_format_is_recognised_and_reading_stops_at_the_limit(tmp_path: Path) -> None:
    outcomes = [(2**64 - 65, True), (8, False), (8, True)]
    path = pack(tmp_path / "t", *(instruction(0) + instruction(CONDITIONAL, *each) for each in outcomes))

    assert read_any(path) == read_cbp2025(path) == BranchTrace(*zip(*outcomes, strict=True))
    part = read_cbp2025(path, limit=2)
    assert (list(part), part.instructions) == (outcomes[:2], 4)
    with pytest.raises(InvalidValue, match="the limit is 0 branches: give at least 1"):
        read_cbp2025(path, limit=0)


def test_the_scan_is_the_same_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = getattr(cbp2025._scan, "py_func", cbp2025._scan)
    data = np.frombuffer(
        instruction(STORE, inputs=bytes(250)) + instruction(CONDITIONAL, 5, outputs=b"\x28" * 200), np.uint8
    )
    places, outcomes = np.empty(3, np.int64), np.empty(3, np.bool_)

    assert scan(data, places, outcomes) == cbp2025._scan(data, places, outcomes) == (len(data), 1, 2, True)
    assert data[places[0]] == 5


@pytest.mark.parametrize(
    "wrong",
    [
        instruction(8),
        instruction(12),
        instruction(CONDITIONAL, 1, False).replace(b"\3\0", b"\3\2"),
        instruction(RETURN, 1, False),
        instruction(0, outputs=b"\x42"),
    ],
    ids=["undefined", "unknown class", "outcome 2", "a return that is not taken", "register 66"],
)
def test_an_impossible_instruction_is_refused(tmp_path: Path, wrong: bytes) -> None:
    path = pack(tmp_path / "t.gz", instruction(CONDITIONAL, 4), wrong, instruction(0))
    with pytest.raises(DataError, match="instruction 2 has a class, outcome or register that CBP-2025 does not know"):
        read_cbp2025(path)


@pytest.mark.parametrize("kept", range(1, len(instruction(LOAD, outputs=b"\5")) + 0))
def test_a_trace_that_ends_within_an_instruction_is_refused(tmp_path: Path, kept: int) -> None:
    path = pack(tmp_path / "t.gz", instruction(CONDITIONAL, 4), instruction(LOAD, outputs=b"\5")[:kept])
    with pytest.raises(DataError, match="ends within instruction 2: it is truncated, download it again"):
        read_cbp2025(path)


def test_a_file_that_is_missing_empty_foreign_or_cut_is_refused(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole", *(instruction(CONDITIONAL, n) for n in range(500))).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty").write_bytes(gzip.compress(b""))
    (tmp_path / "text").write_bytes(gzip.compress(b"A letter to a friend, and no trace of branches."))
    (tmp_path / "plain").write_bytes(instruction(CONDITIONAL, 4))

    for name in ("missing", "cut", "empty", "text", "plain"):
        for read in (read_cbp2025, read_any):
            with pytest.raises(DataError) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
            assert name in str(caught.value)
