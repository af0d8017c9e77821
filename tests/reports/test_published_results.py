"""The committed results are those of the committed runs, and the settings that come along are the chosen ones."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mdfa_core.paper.published import CELLS
from mdfa_core.paper.recipes import tuned
from mdfa_core.paper.reproduced import reproduced
from mdfa_core.reports import document, tables
from mdfa_core.reports.results import results
from mdfa_core.store import Store

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = DOCS / "results"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("results") / "runs.sqlite") as merged:
        merged.merge(RESULTS / "runs.jsonl.gz")
        yield merged


@pytest.fixture(scope="module")
def publishing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_script", DOCS / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figures_are_those_of_the_runs(store: Store) -> None:
    assert tables.csv(tables.figures(results(store, "full"))) == (RESULTS / "figures.csv").read_text(encoding="utf-8")


def test_the_report_is_that_of_the_runs(store: Store) -> None:
    def undated(text: str) -> list[str]:
        return [line for line in text.splitlines() if "Written " not in line]

    report = (RESULTS / "report.md").read_text(encoding="utf-8")
    assert undated(document.markdown(results(store, "full"))) == undated(report)


def test_the_settings_that_come_along_are_the_chosen_ones(store: Store, publishing: ModuleType) -> None:
    shipped = json.loads(publishing.TUNED.read_text(encoding="utf-8"))

    assert shipped == publishing.tuned(store)
    for name in shipped:
        assert tuned(CELLS[name]).source == CELLS[name]
    assert tuned(CELLS["table-5/fc/tanh/mdfa/10"]).source == CELLS["table-3/fc/tanh/mdfa/3"]


def test_the_figures_that_come_along_are_those_of_the_runs(store: Store, publishing: ModuleType) -> None:
    found = results(store, "full")

    assert json.loads(publishing.REPRODUCED.read_text(encoding="utf-8")) == publishing.reproduced(found)
    for result in found:
        shipped = reproduced(result.cell)
        assert (shipped is None) == (not result.records)
        for split in result.cell.splits:
            assert result.scores(split) == (None if shipped is None else shipped.scores.get(split))


def test_every_cell_is_of_five_tasks_whose_test_images_were_opened_after_its_search(store: Store) -> None:
    for name, note in store.notes("cell").items():
        runs = [store.named(key) for key in note["keys"]]
        assert [run.experiment.task for run in runs if run is not None] == [0, 1, 2, 3, 4], name
        assert all(run is not None and not run.sealed for run in runs)
        search = store.look("study", name)
        assert search["chosen"] == note["settings"]
        assert all(run is not None and run.provenance.finished[:19] >= search["ended"][:19] for run in runs)
