"""Every preset's claim, held on the data it is shown with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch

from mdfa_app.settings.presets import PRESETS
from mdfa_app.settings.rules import rules
from mdfa_core import Every, Run
from mdfa_core.training.events import Evaluated, Probed

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Shown:
    """What one rule of a preset shows, by epoch from 1."""

    accuracy: dict[int, float]
    signs: dict[int, float | None]
    saturated: dict[int, float]


@functools.cache
def shown(preset: str, rule: str, epochs: int) -> Shown:
    torch.set_num_threads(1)
    chosen = rules()[rule]
    run = Run(chosen.experiment(PRESETS[preset].experiment.replace(epochs=epochs)), device="cpu")
    run.set_method(chosen.method)
    events = list(run.events(probe=Every(epochs=1)))
    probes = [event for event in events if isinstance(event, Probed)]
    return Shown(
        {event.epoch: event.train_accuracy[0] for event in events if isinstance(event, Evaluated)},
        {event.epoch: event.unit.overall[0] for event in probes},
        {event.epoch: event.saturation[0][0] for event in probes},
    )


def test_one_output() -> None:
    assert set(shown("one-output", "mdfa", 100).signs.values()) == {1.0}
    for rule in ("dfa", "fa"):
        free = shown("one-output", rule, 100)
        assert free.signs[1] == pytest.approx(0.5, abs=0.06)
        assert 0.6 <= (free.signs[100] or 0) <= 0.72
        assert free.accuracy[100] > 0.97


def test_two_outputs() -> None:
    mdfa = shown("two-outputs", "mdfa", 100)
    assert mdfa.signs[1] == pytest.approx(0.5, abs=0.06)
    assert 0.57 <= (mdfa.signs[100] or 0) <= 0.76
    assert mdfa.accuracy[100] > 0.97


def test_relu() -> None:
    mdfa = shown("relu", "mdfa", 100)
    assert set(mdfa.signs.values()) == {1.0}
    assert mdfa.accuracy[20] < 0.65
    assert mdfa.saturated[100] > 0.75
    assert all(shown("relu", rule, 20).accuracy[20] > 0.89 for rule in ("dfa", "bp"))


def test_zeros() -> None:
    bp = shown("zeros", "bp", 30)
    assert set(bp.signs.values()) == {None}
    assert bp.accuracy[30] < 0.55
    for rule in ("dfa", "mdfa", "fa"):
        assert shown("zeros", rule, 30).accuracy[30] > 0.9
    assert (shown("zeros", "dfa", 30).signs[30] or 0) > 0.98


def test_fast_start() -> None:
    mdfa, bp = (shown("fast-start", rule, 100).accuracy for rule in ("mdfa", "bp"))
    assert mdfa[1] > 0.7
    assert bp[1] < 0.55
    assert mdfa[20] < 1.0
    assert mdfa[100] >= bp[100]


def test_released_u1() -> None:
    for rule in ("mdfa", "dfa"):
        released = shown("released-u1", rule, 20)
        assert released.saturated[1] > 0.5
        assert released.accuracy[20] < 0.7


def test_let_go() -> None:
    assert set(shown("let-go", "mdfa", 3).signs.values()) == {1.0}
    assert shown("let-go", "mdfa-free", 3).signs[1] == pytest.approx(0.5, abs=0.06)


def test_plane() -> None:
    mdfa, bp = shown("plane", "mdfa", 60), shown("plane", "bp", 60)
    assert set(mdfa.signs.values()) == {1.0}
    assert bp.accuracy[10] > mdfa.accuracy[10] + 0.03
    assert bp.accuracy[60] > 0.98 > mdfa.accuracy[60] > 0.95
