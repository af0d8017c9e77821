"""The grid of the released program's settings: which cells it covers, in which order, and the steps to this project."""

from __future__ import annotations

import itertools

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper import recipes
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.paper.released import (
    GRID,
    disagreeing,
    experiments,
    largest_difference,
    measured,
    parts,
    stepped,
    steps,
    within_spreads,
)
from mdfa_core.studies.paper.statistics import Scores

DFA3 = CELLS["table-3/fc/tanh/dfa/3"]


def test_a_cell_disagrees_if_an_accuracy_is_outside_the_two_spreads() -> None:
    found = set(disagreeing())
    assert DFA3 in found
    for cell in CELLS.values():
        outside = [
            abs(here.mean - cell.published[split].mean) > cell.published[split].std + (here.std or 0)
            for split, here in measured(cell).items()
        ]
        assert any(outside) is (cell in found)


def test_the_two_spreads_are_added() -> None:
    figure = DFA3.published["train"]
    for shift, near in ((-2.9, True), (-3.1, False), (2.9, True), (3.1, False)):
        mean = figure.mean + shift + (figure.std if shift > 0 else -figure.std)
        here = Scores.of({0: mean - 3 / 2**0.5, 1: mean + 3 / 2**0.5})  # a spread of 3 points
        assert within_spreads(DFA3, "train", here) is near


def test_every_setting_is_run_on_five_tasks_by_the_released_protocol() -> None:
    made = {setting.title: experiments(DFA3, setting.settings) for setting in GRID}
    assert len(made) == len(GRID)
    for setting, runs in zip(GRID, made.values(), strict=True):
        assert [run.seed for run in runs] == [0, 1, 2, 3, 4]
        for run in runs:
            assert run.to_dict().items() >= (setting.settings | recipes.released_protocol(DFA3)).items()
            assert (run.data, run.network, run.outputs, run.epochs) == ("cifar100", "cifar-fc", 3, 100)
    assert dict(recipes.RELEASED_DEFAULTS) in [setting.settings for setting in GRID]


def test_titles_are_in_the_programs_spelling() -> None:
    assert [GRID[0].title, GRID[1].title] == ["U1/U1, SGD 0.01", "0/U1, RMSprop 0.0001"]


def test_the_first_setting_of_all_cells_comes_first_in_the_order_of_patterns() -> None:
    cells = disagreeing()
    todo = parts(cells)
    ahead = todo[: len(cells)]
    assert {part.name for part in ahead} == {GRID[0].title}
    assert {part.name for part in todo[len(cells) :]}.isdisjoint({GRID[0].title})
    tables = [part.cell.table for part in ahead if (part.cell.table, part.cell.classes >= 10) != (4, False)]
    assert tables.index(3) < tables.index(1) < tables.index(4) < tables.index(5)
    wished = parts(cells, ("table-5/*", "table-1/fc/*"))
    assert wished[0].cell.table == 5
    assert {part.cell for part in wished} == set(cells)
    with pytest.raises(InvalidValue, match=r"'table-7/\*' matches no cell: give patterns such as"):
        parts(cells, ("table-7/*",))


def test_large_differences_and_short_runs_come_first() -> None:
    cells = disagreeing()
    todo = parts(cells)
    assert {(part.cell, part.name) for part in todo} >= {(cell, setting.title) for cell in cells for setting in GRID}
    assert all(len(part.experiments) == 5 for part in todo)
    assert (todo[0].cell.table, todo[0].cell.classes, todo[0].name) == (3, 3, GRID[0].title)
    assert largest_difference(todo[0].cell) > 40
    for cell in cells:  # the settings of one cell keep their order
        names = [part.name for part in todo if part.cell == cell]
        assert [name for name in names if name in {s.title for s in GRID}] == [setting.title for setting in GRID]


def test_the_steps_lead_from_the_grid_to_the_published_runs() -> None:
    assert {(cell.table, cell.activation, cell.classes) for cell in stepped()} == {(1, "relu", 2), (3, "tanh", 3)}
    for cell in stepped():
        walked = [experiments(cell, GRID[0].settings | dict(step.changes)) for step in steps(cell)]
        assert walked[0] == experiments(cell, GRID[0].settings)
        full = recipes.base(cell, recipes.PROFILES["full"])
        assert walked[-1] == [full.replace(**recipes.tuned(cell).settings, seed=seed) for seed in range(5)]
        for before, after in itertools.pairwise(walked):
            changed = {n for n, v in after[0].to_dict().items() if before[0].to_dict()[n] != v}
            kinds = [{"convention"}, {"forward_init", "feedback_init"}, {"optimizer", "learning_rate"}, {"evaluation"}]
            assert any(changed <= kind for kind in kinds)
