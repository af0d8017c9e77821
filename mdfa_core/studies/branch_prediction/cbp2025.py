"""Traces of the Championship Branch Prediction 2025 (CBP-2025): read the conditional branches.

A file is gzipped and lists every executed instruction in little-endian bytes:

    address      8 bytes
    class        1 byte: 1 load, 2 store, 3 conditional branch, 4, 5, 9, 10, 11 other branches, 0, 6, 7 the rest
    memory       load or store: address 8 bytes, size 1, base update 1; a store also: register offset 1
    outcome      branch: taken 1 byte; if it is taken also: target 8 bytes
    inputs       number 1 byte, then the register of each, 1 byte
    outputs      number 1 byte, then the register of each, 1 byte: 32 to 63 are SIMD registers
    values       8 bytes for each output, 16 for a SIMD register

A store has at most one output, its updated base, which is never a SIMD register. Source: `lib/trace_reader.h` of the
championship's kit, github.com/ramisheikh/cbp2025.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction.jit import compiled
from mdfa_core.studies.branch_prediction.traces import BranchTrace

CHUNK = 1 << 24
"""Bytes that are read at once: whole traces have gigabytes."""
_SHORTEST = 12  # bytes of a conditional branch
_LOAD, _STORE, _CONDITIONAL, _UNDEFINED, _LAST = 1, 2, 3, 8, 11  # classes
_REGISTERS = 66


def read_cbp2025(path: str | Path, *, limit: int | None = None) -> BranchTrace:
    """Read the conditional branches of a trace of CBP-2025, with the number of instructions executed meanwhile.

    Args:
        path: the file.
        limit: number of conditional branches after which to stop; None reads all.

    Raises:
        DataError: the file is missing, damaged or cut, or is no such trace.
        InvalidValue: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise InvalidValue(f"the limit is {limit} branches: give at least 1, or None for all of them")
    pcs: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    found = instructions = 0
    rest = b""
    for chunk in _chunks(Path(path)):
        data = np.frombuffer(rest + chunk, np.uint8)
        room = len(data) // _SHORTEST + 1 if limit is None else limit - found
        places, outcomes = np.empty(room, np.int64), np.empty(room, np.bool_)
        used, branches, read, sound = _scan(data, places, outcomes)
        instructions += read
        if not sound:
            raise DataError(
                f"{path}: instruction {instructions + 1:,} has a class, outcome or register that CBP-2025 does not "
                f"know: give an undamaged trace of that championship"
            )
        pcs.append(data[places[:branches, None] + np.arange(8)].view("<u8")[:, 0])
        taken.append(outcomes[:branches])
        found += branches
        rest = data[used:].tobytes()
        if found == limit:
            break
    else:
        if rest or not instructions:
            raise DataError(f"{path} ends within instruction {instructions + 1:,}: it is truncated, download it again")
    return BranchTrace(np.concatenate(pcs).astype(np.uint64), np.concatenate(taken), instructions=instructions)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as a branch trace ({error}): give an undamaged file of CBP-2025"
        ) from error


@compiled
def _scan(data: np.ndarray, places: np.ndarray, outcomes: np.ndarray) -> tuple[int, int, int, bool]:
    """Find conditional branches among whole instructions, as many as `places` and `outcomes` hold.

    Returns:
        Bytes used, branches, instructions, and False if the next instruction has an impossible value.
    """
    end, start, branches, instructions = len(data), 0, 0, 0
    while branches < len(places) and start + 9 <= end:
        kind = int(data[start + 8])  # int: bytes would overflow in sums without Numba
        if kind == _UNDEFINED or kind > _LAST:
            return start, branches, instructions, False
        at = start + 9
        jump = False
        if kind in (_LOAD, _STORE):
            at += 10 if kind == _LOAD else 11
        elif kind in (_CONDITIONAL, 4, 5, 9, 10, 11):
            if at >= end:
                break
            if data[at] > 1 or (kind != _CONDITIONAL and data[at] == 0):
                return start, branches, instructions, False
            jump = data[at] == 1
            at += 9 if jump else 1
        if at >= end:
            break
        at += 1 + int(data[at])
        if at >= end:
            break
        outputs = int(data[at])
        at += 1
        if at + outputs > end:
            break
        values = 0
        for register in data[at : at + outputs]:
            if register >= _REGISTERS:
                return start, branches, instructions, False
            values += 16 if 32 <= register < 64 else 8
        at += outputs + values
        if at > end:
            break
        if kind == _CONDITIONAL:
            places[branches], outcomes[branches] = start, jump
            branches += 1
        instructions += 1
        start = at
    return start, branches, instructions, True
