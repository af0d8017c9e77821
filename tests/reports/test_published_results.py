"""The committed results are those of the committed runs, and the settings that come along are the chosen ones."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mdfa_core.paper.published import CELLS, TABLES, TASKS, Cell
from mdfa_core.paper.recipes import PROFILES, tuned
from mdfa_core.paper.reproduced import reproduced
from mdfa_core.reports import document, tables
from mdfa_core.reports.results import CELL, STUDY, Result
from mdfa_core.store import Store
from tests.reports.made_up import note_of, record_of

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


@pytest.fixture(scope="module")
def found(store: Store, publishing: ModuleType) -> tuple[Result, ...]:
    return tuple(publishing.published(store))


def test_the_figures_are_those_of_the_runs(found: tuple[Result, ...]) -> None:
    assert tables.csv(tables.figures(found)) == (RESULTS / "figures.csv").read_text(encoding="utf-8")


def test_the_report_is_that_of_the_runs(found: tuple[Result, ...]) -> None:
    def undated(text: str) -> list[str]:
        return [line for line in text.splitlines() if "Written " not in line]

    report = (RESULTS / "report.md").read_text(encoding="utf-8")
    assert undated(document.markdown(found)) == undated(report)


def test_the_settings_that_come_along_are_the_chosen_ones(store: Store, publishing: ModuleType) -> None:
    shipped = json.loads(publishing.TUNED.read_text(encoding="utf-8"))

    assert shipped == publishing.tuned(store)
    for cell in CELLS.values():
        near = [c for c in map(CELLS.get, shipped) if c and (c.method, c.network) == (cell.method, cell.network)]
        near = [c for c in near if c.activation == cell.activation] or near
        near = [c for c in near if TABLES[c.table].data == TABLES[cell.table].data] or near
        least = min(abs(c.classes - cell.classes) for c in near)
        assert tuned(cell).source in ([cell] if cell.name in shipped else near)
        assert abs(tuned(cell).source.classes - cell.classes) == least


def test_the_figures_that_come_along_are_those_of_the_runs(found: tuple[Result, ...], publishing: ModuleType) -> None:
    assert json.loads(publishing.REPRODUCED.read_text(encoding="utf-8")) == publishing.reproduced(found)
    for result in found:
        shipped = reproduced(result.cell)
        assert (shipped is None) == (not result.records)
        if shipped is not None:
            assert (shipped.profile, shipped.tuned_for) == (result.profile, result.tuned_for)
        for split in result.cell.splits:
            assert result.scores(split) == (None if shipped is None else shipped.scores.get(split))


def test_every_cell_is_of_five_tasks_whose_test_images_were_opened(found: tuple[Result, ...]) -> None:
    for result in found:
        assert [run.experiment.task for run in result.records] == list(range(TASKS) if result.profile else ())
        assert not any(run.sealed for run in result.records)
        assert all(run.sealed or run in result.records for run in result.fitted)


def test_settings_are_from_the_cells_own_search_before_or_else_from_one_that_comes_along(
    store: Store, found: tuple[Result, ...]
) -> None:
    for result in found:
        name = result.cell.name
        if result.profile is None or result.tuned_for is None:
            continue
        note = store.look(CELL, f"{result.profile}/{name}")
        if PROFILES[result.profile].rungs:
            search = store.look(STUDY, f"{result.profile}/{name}")
            assert result.tuned_for == result.cell
            assert result.study is not None
            assert result.study.document == search
            assert search["chosen"] == result.settings
            assert all(run.provenance.finished[:19] >= search["ended"][:19] for run in result.records)
        else:
            assert note["study"] is store.look(STUDY, f"{result.profile}/{name}") is None
            assert result.borrowed is None or result.study is None
            assert result.settings == tuned(result.tuned_for).settings
            assert not result.fitted or result.fit_settings == tuned(result.tuned_for).fit
            assert tuned(result.tuned_for).source == result.tuned_for
        for run in result.records:
            assert run.experiment.replace(**result.settings) == run.experiment


def test_what_is_published(publishing: ModuleType, tmp_path: Path) -> None:
    """A tuned result before one with settings from elsewhere; nothing changed, nothing in part."""
    source, both, quick, changed, part = (CELLS[f"table-3/fc/tanh/bp/{n}"] for n in (3, 5, 10, 25, 50))
    gone = CELLS["table-4/conv/tanh/bp/3"]
    with Store(tmp_path / "runs.sqlite") as store:

        def put(name: str, cell: Cell, share: float, tasks: int = TASKS, kept: int = TASKS) -> None:
            profile = name.partition("/")[0]
            runs = [record_of(cell, task, share, share, checksum=f"{name} {task}") for task in range(tasks)]
            store.add(runs[:kept])
            of = cell if profile == "full" else source
            store.put("cell", name, note_of(cell, runs, profile=profile) | {"tuned for": of.name})

        put(f"full/{source.name}", source, 0.9)
        put(f"full/{both.name}", both, 0.8)
        put(f"quick/{both.name}", both, 0.7)
        put(f"full/{quick.name}@seeds=0", quick, 0.9, tasks=1)  # does not stand before a whole one
        put(f"quick/{quick.name}", quick, 0.6)
        put(f"full/{changed.name}@epochs=2", changed, 0.9)
        put(f"quick/{part.name}@seeds=0,1", part, 0.9, tasks=2)
        put(f"full/{gone.name}", gone, 0.9, kept=4)

        found = publishing.published(store)
        told = publishing.reproduced(found)
        assert {name: (entry["profile"], entry["tuned for"]) for name, entry in told.items()} == {
            source.name: ("full", source.name),
            both.name: ("full", both.name),
            quick.name: ("quick", source.name),
        }
        assert told[quick.name]["test"] == pytest.approx({str(task): 60 for task in range(TASKS)})
        assert list(publishing.tuned(store)) == [source.name, both.name]
    frame = tables.beside(found, 3).set_index(["Classes", "Method"])
    for classes, profile, tuned_for in (("5", "full", "itself"), ("10", "quick", source.name), ("25", "", "")):
        assert tuple(frame.loc[(classes, "BP"), ["profile", "tuned for"]]) == (profile, tuned_for)
    for form in (document.markdown(found), document.html(found)):
        assert "names another cell for 1 of the 3 cells" in " ".join(re.sub("<[^>]+>", "", form).split())
