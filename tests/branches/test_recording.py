"""What is recorded is what the program did: outcomes against counts made by the program itself."""

from __future__ import annotations

import gc
import sys
from types import FrameType

import pytest

from mdfa_core.branches import PROGRAMS, record
from mdfa_core.errors import InvalidValue


def outcomes_by_branch(trace) -> dict[int, list[bool]]:  # type: ignore[no-untyped-def]
    found: dict[int, list[bool]] = {}
    for pc, taken in trace:
        found.setdefault(pc, []).append(taken)
    return found


def test_a_for_loop_falls_through_n_times_and_jumps_once() -> None:
    def loop() -> None:
        for _ in (1, 2, 3, 4):
            pass

    assert record(loop).taken == (False, False, False, False, True)


def test_every_if_is_recorded_as_the_program_decided() -> None:
    decisions = [True, False, False, True, True, False]
    done: list[int] = []

    def program() -> None:
        for n, decision in enumerate(decisions):
            if decision:
                done.append(n)

    loop, test = outcomes_by_branch(record(program)).values()
    assert loop == [False] * len(decisions) + [True]
    # The jump is over the body if the condition is false, or to the next round if the compiler turned it round.
    assert test in (decisions, [not decision for decision in decisions])


def test_far_jumps_and_generators_are_followed() -> None:
    body = "\n".join(f"        x += {n}" for n in range(400))  # long enough for EXTENDED_ARG before the jumps
    scope: dict[str, object] = {}
    exec(f"def far(values):\n    x = 0\n    for v in values:\n        if v:\n            x += 1\n{body}\n", scope)
    values = [1, 0, 0, 1, 0]

    trace = outcomes_by_branch(record(lambda: scope["far"](value for value in values)))  # type: ignore[operator]

    lengths = sorted(len(outcomes) for outcomes in trace.values())
    assert lengths == [5, 6, 6]  # the test, the loop, the generator's own loop
    loops = [outcomes for outcomes in trace.values() if len(outcomes) == 6]
    assert loops == [[False] * 5 + [True]] * 2


def test_a_jump_that_an_exception_interrupts_has_no_outcome() -> None:
    class Undecided:
        def __bool__(self) -> bool:
            raise ValueError

    def program() -> None:
        try:
            if Undecided():
                pass
        except ValueError:
            pass

    assert len(record(program)) <= 1  # at most the handler's own test of the exception


def test_recording_ends_at_the_limit_and_gives_the_tracer_back() -> None:
    finished = []

    def program() -> None:
        for n in range(100):
            finished.append(n)

    before = sys.gettrace()
    trace = record(program, limit=7)

    assert len(trace) == 7
    assert len(finished) == 100
    assert sys.gettrace() is before


def test_the_tracer_comes_back_after_an_error() -> None:
    def earlier(frame: FrameType, event: str, argument: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(earlier)
    try:
        with pytest.raises(ZeroDivisionError):
            record(lambda: 1 / 0)
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after is earlier


def test_other_programs_finalizers_are_not_recorded() -> None:
    class Circle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            for _ in range(50):
                pass

    def program() -> None:
        kept = [[] for _ in range(5000)]  # enough for a collection, were there one
        assert kept

    gc.collect()
    alone = record(program)
    circles = [Circle() for _ in range(100)]
    del circles

    assert record(program) == alone
    assert gc.isenabled()


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at most 0 branches"):
        record(lambda: None, limit=0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_one_trace_a_seed(name: str) -> None:
    first = record(lambda: PROGRAMS[name](0), limit=5000)

    assert first == record(lambda: PROGRAMS[name](0), limit=5000)
    assert first.branches >= 3
    assert 0.02 < first.taken_share < 0.98
    assert len(first) == 5000


def test_the_programs_compute_what_they_say() -> None:
    values = PROGRAMS["sort"](3)
    assert values == sorted(values)  # type: ignore[type-var, call-overload]
    assert PROGRAMS["queens"](3) == 40
    assert PROGRAMS["sieve"](0) == 430
    text = ""
    for distance, length, character in PROGRAMS["compress"](1):  # type: ignore[attr-defined]
        for _ in range(length):
            text += text[-distance]
        text += character
    assert len(text.split()) == 60
