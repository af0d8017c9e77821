"""Traces survive writing and reading; files that are no traces raise one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction import EXAMPLES, BranchTrace, example, read_any, read_trace, write_trace

TRACE = BranchTrace([7, 2**64 - 1, 7, 9], [True, False, False, True], instructions=21, command="ls -l")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_a_written_trace_is_read_back(tmp_path: Path, outcomes: list[tuple[int, bool]]) -> None:
    trace = BranchTrace([pc for pc, _ in outcomes], [taken for _, taken in outcomes])
    write_trace(trace, tmp_path / "t.npz")

    assert list(read_trace(tmp_path / "t.npz")) == outcomes
    assert read_any(tmp_path / "t.npz") == trace


def test_a_file_has_the_command_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_trace(TRACE, tmp_path / name)
    read = read_trace(tmp_path / "a")

    assert (read.instructions, read.command) == (21, "ls -l")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_trace_counts_slices_and_compares() -> None:
    assert (len(TRACE), TRACE.branches, TRACE.taken_share) == (4, 3, 0.5)
    assert list(TRACE[1:3]) == [(2**64 - 1, False), (7, False)]
    assert TRACE[:4] == TRACE
    assert TRACE[1:] != TRACE
    assert np.isnan(TRACE[:0].taken_share)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int32, np.int64, object])
def test_addresses_and_outcomes_may_be_arrays(kind: type) -> None:
    trace = BranchTrace(np.array([7, 9, 7], kind), np.array([1, 0, 1], kind))

    assert trace == BranchTrace((7, 9, 7), (True, False, True))
    assert (trace.pcs.dtype, trace.taken.dtype) == (np.uint64, np.bool_)


def test_what_is_no_trace_is_refused() -> None:
    with pytest.raises(InvalidValue, match="2 addresses and 1 outcomes"):
        BranchTrace((1, 2), (True,))
    with pytest.raises(InvalidValue, match="address -4: give integers of 0 to"):
        BranchTrace((3, -4), (True, True))
    with pytest.raises(InvalidValue, match="address 18446744073709551616: give"):
        BranchTrace((2**64,), (True,))
    for addresses in (np.array([3, -4]), np.array([3.0, 4.0]), np.zeros((2, 2), np.uint64), np.array([True, False])):
        with pytest.raises(InvalidValue, match="a branch has the address"):
            BranchTrace(addresses, (True, True))
    for outcomes in (["N", "T"], [0, 2], [[True], [False]], [None, True]):
        with pytest.raises(InvalidValue, match="a branch has the outcome"):
            BranchTrace((1, 2), outcomes)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="no example trace of ls: choose one of gzip,"):
        example("ls")


def damaged(tmp_path: Path, change: dict[str, object]) -> Path:
    write_trace(TRACE, tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= change
    np.savez(tmp_path / "t.npz", **{name: a for name, a in arrays.items() if a is not None})  # type: ignore[arg-type]
    return tmp_path / "t.npz"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2 of the format, and this program reads 1"),
        ({"addresses": None}, "is an archive, but no branch trace"),
        ({"addresses": np.zeros(1, np.uint64)}, "do not fit together"),
        ({"addresses": np.zeros(3, np.float32)}, "do not fit together"),
        ({"outcomes": np.zeros(2, np.uint8)}, "do not fit together"),
        ({"sequence": np.zeros((2, 2), np.uint16)}, "do not fit together"),
        ({"sequence": np.zeros(0, np.uint16), "outcomes": np.zeros(0, np.uint8)}, "has no conditional branch"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_trace(damaged(tmp_path, change))


def test_a_file_that_is_missing_empty_foreign_cut_or_changed_is_refused(tmp_path: Path) -> None:
    write_trace(TRACE, tmp_path / "t")
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("branches\n")
    (tmp_path / "array").write_bytes(b"\x93NUMPY")
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle").write_bytes(b"\x80\x04N.")
    places = [n for n in range(0, len(whole), 7)]
    for place in places:
        (tmp_path / f"changed{place}").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])

    for name in ("missing", "empty", "text", "array", "cut", "pickle"):
        for read in (read_trace, read_any):
            with pytest.raises(DataError) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    for place in places:  # a changed byte may be one that nobody reads, such as a time
        try:
            assert read_trace(tmp_path / f"changed{place}") == TRACE
        except DataError:
            continue
    with pytest.raises(DataError, match="cannot be written"):
        write_trace(TRACE, tmp_path / "absent" / "t")


@pytest.mark.parametrize("program", EXAMPLES)
def test_the_examples_are_real_traces(program: str) -> None:
    trace = example(program)

    assert len(trace) == 20_000
    assert trace.branches > 20
    assert 0.1 < trace.taken_share < 0.9
    assert program in trace.command
