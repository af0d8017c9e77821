"""Branch traces: the outcomes of a program's conditional branches in order, and the compact file that stores them.

The file is a compressed NumPy archive (.npz) with these arrays:

    addresses     uint64    distinct addresses of branches, in the order of their first execution
    sequence      uint16 or uint32, one number for each executed branch: its place in `addresses`
    outcomes      uint8     eight outcomes a byte, first outcome in the highest bit, 1 = taken
    instructions  int64     executed instructions, 0 if unknown
    command       text      the recorded command line, empty if unknown
    version       int64     1
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mdfa_core.base.errors import DataError, InvalidValue

VERSION = 1
EXAMPLES = ("gzip", "python", "sort", "sqlite")
"""Programs of which the package has 20,000 branches."""


class BranchTrace:
    """The conditional branches that a program executed, in order.

    Attributes:
        pcs: address of every executed branch; uint64, shape (branches,).
        taken: whether the branch was taken; bool, shape (branches,).
        instructions: number of instructions that the program executed meanwhile; 0 if unknown.
        command: the recorded command line; empty if unknown.

    Raises:
        InvalidValue: the numbers of addresses and outcomes differ, an address does not have 64 bits, or an outcome is
            neither true nor false.
    """

    def __init__(
        self,
        pcs: Sequence[int] | np.ndarray,
        taken: Sequence[bool] | np.ndarray,
        *,
        instructions: int = 0,
        command: str = "",
    ) -> None:
        if len(pcs) != len(taken):
            raise InvalidValue(
                f"a trace has {len(pcs)} addresses and {len(taken)} outcomes: give one outcome per address"
            )
        checked = isinstance(pcs, np.ndarray) and pcs.dtype.kind == "u" and pcs.ndim == 1
        for pc in () if checked else pcs:
            if not (isinstance(pc, int | np.integer) and 0 <= pc < 1 << 64):
                raise InvalidValue(f"a branch has the address {pc}: give integers of 0 to 2⁶⁴ − 1")
        outcomes = np.asarray(taken)
        for outcome in () if outcomes.dtype.kind == "b" and outcomes.ndim == 1 else outcomes.tolist():
            if outcome not in (0, 1):
                raise InvalidValue(f"a branch has the outcome {outcome!r}: give True or False, or 1 or 0")
        self.pcs = np.asarray(pcs, np.uint64)
        self.taken = outcomes.astype(np.bool_)
        self.instructions, self.command = instructions, command

    def __len__(self) -> int:
        return len(self.pcs)

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        return zip(self.pcs.tolist(), self.taken.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        """Whether addresses and outcomes are equal."""
        if not isinstance(other, BranchTrace):
            return NotImplemented
        return np.array_equal(self.pcs, other.pcs) and np.array_equal(self.taken, other.taken)

    def __getitem__(self, part: slice) -> BranchTrace:
        """A part of the trace, without its number of instructions, which is unknown."""
        return BranchTrace(self.pcs[part], self.taken[part], command=self.command)

    @property
    def branches(self) -> int:
        """Number of distinct branch instructions."""
        return len(np.unique(self.pcs))

    @property
    def taken_share(self) -> float:
        """Share of taken outcomes; NaN for an empty trace."""
        return float(self.taken.mean()) if len(self) else float("nan")


def write_trace(trace: BranchTrace, path: str | Path) -> None:
    """Write a trace to a compact file (see above). Equal traces give equal files.

    Raises:
        DataError: the file cannot be written.
    """
    found, first, inverse = np.unique(trace.pcs, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    try:
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file,
                addresses=found[order],
                sequence=place[inverse].astype(np.uint16 if len(found) <= 1 << 16 else np.uint32),
                outcomes=np.packbits(trace.taken),
                instructions=np.int64(trace.instructions),
                command=np.array(trace.command),
                version=np.int64(VERSION),
            )
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): free some space or name another file"
        ) from None


def read_trace(path: str | Path) -> BranchTrace:
    """Read a trace that `write_trace` wrote.

    Raises:
        DataError: the file is missing, damaged, empty or no branch trace, or of a later version.
    """
    try:
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): give a recorded branch trace") from None
    except (
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,  # zipfile: an unknown compression
    ) as error:
        raise DataError(f"{path} is no undamaged branch trace ({error}): record it again") from None
    try:
        version = int(stored["version"])
        if version != VERSION:
            raise DataError(f"{path} has version {version} of the format, and this program reads {VERSION}: update it")
        addresses, sequence, outcomes = stored["addresses"], stored["sequence"], stored["outcomes"]
        instructions, command = int(stored["instructions"]), str(stored["command"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} is an archive, but no branch trace: give a recorded branch trace") from None
    if (
        addresses.dtype != np.uint64
        or sequence.dtype not in (np.uint16, np.uint32)
        or outcomes.dtype != np.uint8
        or any(array.ndim != 1 for array in (addresses, sequence, outcomes))
        or len(outcomes) != (len(sequence) + 7) // 8
        or (len(sequence) and int(sequence.max()) >= len(addresses))
    ):
        raise DataError(f"{path} has addresses and outcomes that do not fit together: record it again")
    if not len(sequence):
        raise DataError(f"{path} has no conditional branch: record a longer run")
    taken = np.unpackbits(outcomes, count=len(sequence)).astype(np.bool_)
    return BranchTrace(addresses[sequence], taken, instructions=instructions, command=command)


def example(program: str) -> BranchTrace:
    """20,000 branches of a real program, from the middle of its run.

    Raises:
        InvalidValue: the package has no such trace.
    """
    if program not in EXAMPLES:
        raise InvalidValue(f"there is no example trace of {program}: choose one of {', '.join(EXAMPLES)}")
    return read_trace(Path(__file__).parent / "slices" / f"{program}.npz")
