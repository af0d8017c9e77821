"""Held-out tasks: what counts as within the published spread, and the published page."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN, Measure
from mdfa_core.studies.paper.published import CELLS, Cell
from mdfa_core.studies.paper.reproduced import reproduced
from mdfa_core.studies.paper.statistics import Scores
from mdfa_core.studies.reports import held_out
from mdfa_core.studies.reports.held_out import Comparison
from tests.studies.reports.made_up import note_of, record_of

ROOT = Path(__file__).resolve().parents[3]
CELL = CELLS["table-3/fc/tanh/mdfa/3"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("held_out_script", ROOT / "studies" / "held_out.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compared(published: list[float], held: list[float]) -> Comparison:
    return Comparison(
        cell=CELL,
        measure=TESTED,
        published=Scores.of(dict(enumerate(published))),
        held_out=Scores.of(dict(enumerate(held, start=10))),
    )


def test_the_expected_difference_is_students_prediction_interval() -> None:
    one = compared([70, 72, 74, 76, 78], [81, 80, 79, 80, 80])
    half = 2.7764451 * 10**0.5 * (1 / 5 + 1 / 5) ** 0.5  # t(0.975, 4) · s · √(1/n + 1/m)
    assert one.difference == pytest.approx(6)
    assert (one.expected.low, one.expected.high) == pytest.approx((-half, half))
    assert not one.agrees
    assert compared([70, 72, 74, 76, 78], [78, 80, 79, 80, 80]).agrees


def test_a_tie_at_the_ceiling_agrees_though_there_is_no_spread() -> None:
    assert compared([100] * 5, [99.9, 100, 100, 100, 100]).agrees
    assert not compared([100] * 5, [99.0, 100, 100, 100, 100]).agrees


@pytest.mark.parametrize(
    ("cell", "trained"),
    [(CELL, [TRAINED]), (CELLS["table-1/fc/tanh/mdfa/2"], [TRAINED, TRAINED_CHOSEN])],  # one network; two networks
)
def test_a_store_is_compared_with_the_published_figures(
    cell: Cell, trained: list[Measure], tmp_path: Path, script: ModuleType
) -> None:
    known = reproduced(cell)
    assert known is not None
    share = known.scores[TESTED].mean / 100
    runs = [record_of(cell, task, 0.5, share) for task in range(10, 15)]
    with Store(tmp_path / "runs.sqlite") as store:
        store.add(runs)
        store.put(note_of(cell, runs, variant="quick@seeds=10,11,12,13,14"))
        found = held_out.comparisons(store)
        (tmp_path / "out").mkdir()
        paths = script.publish(store, tmp_path / "out")
    assert {one.measure: one.agrees for one in found} == dict.fromkeys(trained, False) | {TESTED: True}
    assert f"1 of {len(trained) + 1} accuracies of 1 cell on tasks 10 to 14" in held_out.sentence(found)
    assert held_out.sentence(found) in paths[1].read_text(encoding="utf-8")


def test_an_empty_store_has_no_comparison(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        found = held_out.comparisons(store)
    assert held_out.sentence(found) == "No accuracy of a published cell was measured on held-out tasks."


def test_tasks_that_are_published_are_not_held_out(script: ModuleType) -> None:
    for seeds in ("4-8", "0", ""):
        with pytest.raises(InvalidValue, match="give held-out tasks, from 5 on, such as 10-14"):
            script.planned([CELL.name], seeds)
    with pytest.raises(InvalidValue, match="'table-9' is no cell"):
        script.planned(["table-9"], "10-14")
    plan = script.planned([CELL.name], "10-12")
    assert (plan.tasks, plan.cells) == ((10, 11, 12), (CELL,))


def test_the_published_page_is_that_of_the_published_runs(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        store.merge(ROOT / "docs" / "results" / "held_out.jsonl.gz")
        found = held_out.comparisons(store)
    page = (ROOT / "docs" / "results" / "held_out.md").read_text(encoding="utf-8")
    assert held_out.page(found) == page
    assert all(min(one.held_out.tasks) >= 10 for one in found)
    better = [replace(one, held_out=one.published) for one in found]
    assert held_out.page(better) != page
