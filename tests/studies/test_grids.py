"""Every rule has equally many candidates in a grid, with settings that it reads and no others."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mdfa_core import METHODS, Experiment
from mdfa_core.studies.grids import PAPER_GRID, RULES_GRID, Grid

GRIDS = pytest.mark.parametrize(("grid", "size"), [(PAPER_GRID, 72), (RULES_GRID, 36)], ids=["paper", "rules"])


@GRIDS
@pytest.mark.parametrize("method", METHODS)
def test_every_rule_has_as_many_candidates_and_only_settings_it_reads(method: str, grid: Grid, size: int) -> None:
    transport, found = METHODS[method].transport, grid.candidates(method)

    assert len(found) == size == len({tuple(sorted(settings.items())) for settings in found})
    for settings in found:
        Experiment(method=method).replace(**settings)  # refuses values that are not allowed
        assert ("feedback_init" in settings) is transport.needs_feedback
        assert ("l2" in settings) is (transport.wants_penalty and bool(grid.penalties))


@GRIDS
def test_no_rule_sees_an_optimizer_rate_or_forward_distribution_that_was_left_out_for_another(
    grid: Grid, size: int
) -> None:
    def values(method: str, *names: str) -> set[tuple[Any, ...]]:
        return {tuple(settings[name] for name in names) for settings in grid.candidates(method)}

    assert values("mdfa", "optimizer", "learning_rate") < values("bp", "optimizer", "learning_rate")
    for method in METHODS:
        assert values(method, "forward_init") == values("bp", "forward_init")


def test_candidates_are_the_product_of_the_choices() -> None:
    made = itertools.product(
        [("sgd", r) for r in (0.01, 0.03, 0.1, 0.003, 0.001)]
        + [(o, r) for o in ("rmsprop", "adam") for r in (1e-4, 1e-3)],
        ("zeros", "uniform:1", "normal:0.1", "normal:0.01"),
        ("normal:1", "uniform:1"),
    )
    assert [tuple(settings.values()) for settings in PAPER_GRID.candidates("mdfa")] == [
        (optimizer, rate, forward, feedback) for (optimizer, rate), forward, feedback in made
    ]


@pytest.mark.parametrize("method", METHODS)
def test_the_first_candidates_for_the_rules_differ_in_every_setting(method: str) -> None:
    first = RULES_GRID.candidates(method)[:12]
    assert {settings["forward_init"] for settings in first} == {"zeros", "uniform:1", "normal:0.1"}
    assert len({settings["optimizer"] for settings in first}) == 3
    assert len({settings["learning_rate"] for settings in first}) >= 4
