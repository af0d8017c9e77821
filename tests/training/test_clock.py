"""Intervals: which ones are allowed, and when a report is due."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from mdfa_core import Every
from mdfa_core.base.errors import InvalidValue
from mdfa_core.training.clock import Clock
from mdfa_core.training.events import (
    Probed,
    Progress,
)
from tests.support.runs import (
    SMALL,
    of_kind,
    trained,
)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps": 1, "epochs": 1},
        {"steps": 1, "seconds": 1.0},
        {"steps": 1, "epochs": 1, "seconds": 1.0},
        *({name: value} for name in ("steps", "epochs", "seconds") for value in (0, -1, True, "1", math.nan, [1])),
        *({name: value} for name in ("steps", "epochs") for value in (1.0, 0.5, math.inf)),
        {"seconds": math.inf},
        {"seconds": -0.1},
    ],
    ids=str,
)
def test_every_takes_exactly_one_positive_number(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=r"Every got .*: give ") as caught:
        Every(**given)
    for name in given:
        assert name in str(caught.value)


def test_every_is_named_and_compared() -> None:
    with pytest.raises(TypeError):
        Every(3)  # type: ignore[misc]
    assert Every(steps=3) == Every(steps=3) != Every(epochs=3)
    assert Every(seconds=2).seconds == 2


def _due(every: Every, steps_per_epoch: int, steps: int) -> list[int]:
    """When `every` should be due, from its description."""
    if every.steps is not None:
        due = {step for step in range(1, steps + 1) if step % every.steps == 0}
    elif every.epochs is not None:
        due = {step for step in range(1, steps + 1) if step % (every.epochs * steps_per_epoch) == 0}
    else:
        due = set(range(1, steps + 1)) if every.seconds == 1e-9 else {1}
    return sorted(due | {steps})


@pytest.mark.parametrize(
    "every",
    [
        Every(steps=1),
        Every(steps=4),
        Every(steps=100),
        Every(epochs=1),
        Every(epochs=2),
        Every(epochs=9),
        Every(seconds=1e-9),
        Every(seconds=1000),
        Every(seconds=1000.5),
    ],
    ids=str,
)
def test_reports_come_when_they_are_due(every: Every) -> None:
    experiment = SMALL.replace(epochs=5)

    progress = of_kind(Progress, trained(experiment, progress=every))
    probed = of_kind(Probed, trained(experiment, probe=every))

    assert [event.step for event in progress] == _due(every, 3, 15)
    if every.seconds != 1e-9:  # a share of the time alone decides there
        assert [event.step for event in probed] == _due(every, 3, 15)


def test_reports_take_at_most_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("mdfa_core.training.clock.time", SimpleNamespace(monotonic=lambda: now[0]))
    clock, reported = Clock(Every(seconds=1.0), share=0.2), []
    for step in range(1, 41):  # of half a second each, and a second longer with a report
        if clock.due(step, 1, epoch_ends=False, run_ends=False):
            reported.append(step)
            now[0] += 1.0
            clock.took(1.0)
        now[0] += 0.5
    assert reported == [1, 9, 17, 25, 33]
