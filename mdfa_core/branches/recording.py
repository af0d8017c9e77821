"""Record the conditional jumps that CPython executes while a Python function runs."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from mdfa_core.branches.traces import BranchTrace
from mdfa_core.errors import InvalidValue

# Instructions after a jump that do no work of their own, and that some versions of CPython do not stop at.
_PASSED = {"END_FOR", "NOT_TAKEN"}


@dataclass(frozen=True)
class _Jumps:
    """A code object's conditional jumps.

    Attributes:
        start: offset of an instruction → offset of the first EXTENDED_ARG that belongs to it, else the same: CPython
            3.11 stops at that prefix alone.
        at: start of a jump → its address, where a fall-through lands, where the jump lands.
    """

    start: dict[int, int]
    at: dict[int, tuple[int, int, int]]


def record(function: Callable[[], Any], *, limit: int = 100_000) -> BranchTrace:
    """Run `function` and return the outcomes of the conditional jumps in all Python code it called.

    A jump is a bytecode instruction that can go two ways: POP_JUMP…IF…, JUMP_IF…_OR_POP and FOR_ITER, whose jump is the
    loop's end. It is taken if the interpreter next executes its target. Its address is its place, in instructions of
    two bytes, when the code objects lie one behind the other in the order of their first call; so a trace depends on
    the program, its input and Python's version, and on nothing else. What C code decides is not seen, nor are
    jumps interrupted by an exception. Outcomes stand in the order in which they became known. Garbage is not collected
    meanwhile.

    Args:
        function: what to run, in this thread; its result is dropped.
        limit: outcomes after which recording ends; the function still runs to its end.

    Raises:
        InvalidValue: the limit is below 1.
    """
    if limit < 1:
        raise InvalidValue(f"a trace of at most {limit} branches was asked for: allow at least 1")
    pcs: list[int] = []
    taken: list[bool] = []
    known: dict[CodeType, _Jumps] = {}
    end = 0

    def jumps_of(code: CodeType) -> _Jumps:
        nonlocal end
        if code not in known:
            known[code] = _conditional_jumps(code, end)
            end += len(code.co_code) // 2
        return known[code]

    def called(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        if frame is own:
            return None
        jumps = jumps_of(frame.f_code)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        pending: tuple[int, int, int] | None = None

        def executes(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
            nonlocal pending
            place = jumps.start.get(frame.f_lasti)
            if event != "opcode" or place is None:
                return executes
            if pending is not None and place in pending[1:]:
                pcs.append(pending[0])
                taken.append(place == pending[2])
                if len(pcs) >= limit:
                    sys.settrace(None)
                    return None
            pending = jumps.at.get(place)
            return executes

        return executes

    own = sys._getframe()
    before, collecting = sys.gettrace(), gc.isenabled()
    gc.disable()  # a collection calls other programs' finalizers, in this thread, at moments of its own
    sys.settrace(called)
    try:
        function()
    finally:
        sys.settrace(before)
        if collecting:
            gc.enable()
    return BranchTrace(tuple(pcs[:limit]), tuple(taken[:limit]))


def _conditional_jumps(code: CodeType, base: int) -> _Jumps:
    start: dict[int, int] = {}
    jumps = []
    prefix = None
    for i in dis.get_instructions(code):
        if i.opname in _PASSED:
            continue
        first = start[i.offset] = i.offset if prefix is None else prefix
        prefix = first if i.opname == "EXTENDED_ARG" else None
        if i.opname == "FOR_ITER" or ("JUMP" in i.opname and "IF" in i.opname):
            jumps.append(i)

    def landing(offset: int) -> int:
        return next((start[place] for place in start if place >= offset), -1)

    at = {start[i.offset]: (base + i.offset // 2, landing(i.offset + 2), landing(i.argval)) for i in jumps}
    return _Jumps(start, at)
