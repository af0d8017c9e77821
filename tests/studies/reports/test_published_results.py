"""The committed results are those of the committed runs, and the settings that come along are the chosen ones."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from matplotlib.figure import Figure

from mdfa_core.runs.notes import CellNote, SearchNote
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import REPORTED
from mdfa_core.studies.paper.propositions import judge
from mdfa_core.studies.paper.published import CELLS, TABLES, TASKS, Cell
from mdfa_core.studies.paper.recipes import PROFILES, tuned
from mdfa_core.studies.paper.reproduced import reproduced
from mdfa_core.studies.paper.reproduction import Plan
from mdfa_core.studies.reports import document, pages, select, tables, tidy
from mdfa_core.studies.reports.figures import FIGURES
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.results import CellResult, Role, of_table, verdicts
from tests.studies.reports.made_up import note_of, record_of

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("results") / "runs.sqlite") as merged:
        merged.merge(RESULTS / "runs.jsonl.gz")
        yield merged


@pytest.fixture(scope="module")
def publishing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_script", ROOT / "studies" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(store: Store, publishing: ModuleType) -> tuple[CellResult, ...]:
    return tuple(publishing.published(store))


def test_the_runs_merge_without_loss(store: Store, publishing: ModuleType, tmp_path: Path) -> None:
    store.export(tmp_path / "runs.jsonl.gz")
    assert (tmp_path / "runs.jsonl.gz").read_bytes() == (RESULTS / "runs.jsonl.gz").read_bytes()
    keys = {key for note in store.notes(CellNote).values() for found in note.runs.values() for key in found}
    assert keys <= set(store.keys())
    assert publishing.TUNED.is_file()
    assert publishing.REPRODUCED.is_file()


def test_the_states_of_the_code_are_counted_from_the_runs(store: Store, publishing: ModuleType) -> None:
    frame = publishing.code(store)
    assert tables.csv(frame) == (RESULTS / "code.csv").read_text(encoding="utf-8")
    runs = frame.groupby("code")["runs"].sum()
    assert (runs["commit gone"], runs["dirty"], runs.sum()) == (1813, 26, len(store))
    if (lost := publishing.lost_commits(store)) is not None:
        assert lost == json.loads(publishing.LOST_COMMITS.read_text(encoding="utf-8"))


def test_the_figures_are_those_of_the_runs(found: tuple[CellResult, ...]) -> None:
    assert tables.csv(tables.figures(found)) == (RESULTS / "figures.csv").read_text(encoding="utf-8")


WORDS = 1200  # of the page of results


def test_the_pages_are_those_of_the_runs(store: Store, found: tuple[CellResult, ...], publishing: ModuleType) -> None:
    drawn = {name: titled((RESULTS / "figures" / f"{name}.svg").read_text(encoding="utf-8")) for name in FIGURES}
    page = publishing.PAGE.read_text(encoding="utf-8")
    assert pages.results_page(publishing.facts(store, found), drawn) == page
    assert pages.sentences_page(found) == (RESULTS / "sentences.md").read_text(encoding="utf-8")
    for number in TABLES:
        assert pages.table_page(found, number) == (RESULTS / f"table-{number}.md").read_text(encoding="utf-8")
    assert all(len(note.split()) <= 150 for note in pages.NOTES.values())


def test_a_page_of_a_table_shows_one_table_and_folds_the_rest(found: tuple[CellResult, ...]) -> None:
    for number in TABLES:
        page = pages.table_page(found, number)
        shown = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)
        assert len([word for word in shown.split() if re.search(r"\w", word)]) <= 700
        assert shown.count("| Method ") == 1
        folds = page.count("<details>")
        more = not tables.draws(of_table(found, number)).empty
        assert folds == (4 + more if any(result.run for result in of_table(found, number)) else 0)


@pytest.mark.parametrize(
    ("below", "paper", "match"),
    [
        ((3, 2), 3, "No. In training, it is below BP in 3 of 3 cells, as in the paper, and on test images in 2."),
        ((1, 0), 2, "No. In training, it is below BP in 1 of 3 cells, and on test images in 0."),
        ((0, 0), 0, "In training, it is below BP in 0 of 3 cells, and on test images in 0."),
    ],
)
def test_whether_mdfa_matches_bp(below: tuple[int, int], paper: int, match: str) -> None:
    rows = [
        {"train below": n < below[0], "test below": n < below[1], "train below in the paper": n < paper}
        for n in range(3)
    ]
    assert pages._match(rows) == match


def test_the_code_of_cells_is_told(found: tuple[CellResult, ...]) -> None:
    run = next(result for result in found if result.run)

    def of(commit: str | None) -> CellResult:
        records = tuple(
            replace(record, provenance=replace(record.provenance, commit=commit)) for record in run.chosen.records
        )
        return replace(run, chosen=replace(run.chosen, records=records), fit=None)

    gone = json.loads((ROOT / "mdfa_core" / "studies" / "paper" / "lost_commits.json").read_text(encoding="utf-8"))[0]
    cells = [of("a" * 40), of(gone), of(f"{'a' * 40}-dirty"), of(gone)]
    assert (
        pages._code_sentence(cells) == "Of the runs of 4 cells, the commit of 2 is gone and 1 had uncommitted changes."
    )
    assert pages._code_sentence(cells[:1]) == pages._code_sentence([]) == ""


def test_both_spreads_of_cells_with_more_tasks_and_seeds_are_told(found: tuple[CellResult, ...]) -> None:
    """Made-up cells: several tasks with two seeds each, test accuracies 10 t and 10 t + a distance in percent."""
    cell = CELLS["table-1/fc/tanh/mdfa/2"]
    original = next(result for result in found if result.cell == cell)
    record = original.chosen.records[0]

    def of(tasks: int, distance: float) -> CellResult:
        runs = tuple(
            replace(
                record,
                test_accuracy=(10 * task + distance * draw) / 100,
                experiment=record.experiment.replace(seed=task + 1000 * draw, task_seed=task if draw else None),
            )
            for task in range(tasks)
            for draw in (0, 1)
        )
        return replace(original, chosen=replace(original.chosen, records=runs))

    more = of(6, 4)
    told = pages._spread_sentence([of(5, 1), more, of(9, 9)])
    over = statistics.stdev(10 * task for task in range(6))
    assert told == (
        "3 cells were run on 5 to 9 tasks. The median standard deviation of test accuracy is "
        f"{over:.1f} points over tasks and {8**0.5:.1f} over 2 seeds of one task (3 cells)."
    )
    assert "More tasks and seeds" in pages.table_page([more], 1)
    assert pages._spread_sentence([original.comparable]) == ""
    assert pages._spread_sentence([of(1, 4)]) == pages._spread_sentence([]) == ""
    assert "More tasks and seeds" not in pages.table_page([original.comparable], 1)


def test_the_time_of_a_run_is_that_of_all_its_cores() -> None:
    runs = [
        {"device": device, "threads": threads, "seconds": 3600.0}
        for device, threads in (("cpu", 1), ("cpu", 4), ("cuda:0 (Card)", 4))
    ]
    assert pages._hours(runs) == "1.0 h on a shared GPU and 5.0 h on CPU cores"


QUESTIONS = (
    "Is 100 % training accuracy reproduced, and by which network?",
    "Does mDFA match BP in convolutional networks?",
    "Which cells disagree most, and why?",
    "How were hyperparameters tuned?",
    "What was not run?",
)


def test_the_page_answers_five_questions(store: Store, found: tuple[CellResult, ...], publishing: ModuleType) -> None:
    """Each answer follows its question, and has the numbers of the runs."""
    page = publishing.PAGE.read_text(encoding="utf-8")
    answers = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    assert [title for title in answers if title.endswith("?")][:5] == list(QUESTIONS)
    told = publishing.facts(store, found)
    reached, match, disagree, tuning, missing = (answers[title] for title in QUESTIONS)
    assert all(f"| {row['fit']} | {row['chosen']} |" in reached for row in told.fits)
    assert all(row["train"] in match and row["test"] in match for row in told.convs)
    assert told.cause_sentence in disagree
    assert all(
        f"| {row['paper']} | {row['released']} | {row['here']} | {row['settings']} |" in disagree
        for row in told.largest
    )
    assert f"{told.tuned} cells were tuned" in tuning
    assert all(part in missing for part in told.missing)


def titled(svg: str) -> Drawing:
    """A drawing with the title and description of a published figure."""
    finding, reading = (unescape(re.findall(f"<{tag} [^>]*>(.*?)</{tag}>", svg)[0]) for tag in ("title", "desc"))
    return Drawing(figure=Figure(), finding=finding, reading=reading)


def test_the_page_is_short(publishing: ModuleType) -> None:
    page = publishing.PAGE.read_text(encoding="utf-8")
    read = re.sub(r"<!--.*?-->|\]\([^)]*\)", " ", page, flags=re.DOTALL)
    assert len([word for word in read.split() if re.search(r"\w", word)]) <= WORDS
    assert {f"figures/{name}.svg" for name in FIGURES} == set(re.findall(r"!\[[^]]*\]\(([^)]*)\)", page))
    assert all(f"`mdfa runs plot {name}`" in page for name in FIGURES)


@pytest.mark.slow
def test_the_rows_and_figures_are_those_of_the_runs(
    store: Store, found: tuple[CellResult, ...], tmp_path: Path
) -> None:
    tidy.write(tidy.frame(store, found), tmp_path / "results.csv.gz")
    assert (tmp_path / "results.csv.gz").read_bytes() == (RESULTS / "results.csv.gz").read_bytes()
    table = pd.read_csv(RESULTS / "results.csv.gz")
    for name, figure in FIGURES.items():
        assert figure.draw(table).svg == (RESULTS / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def test_verdicts_are_recomputed_from_the_rows(found: tuple[CellResult, ...]) -> None:
    again = judge(select.evidence(pd.read_csv(RESULTS / "results.csv.gz")))
    for ours, theirs in zip(again, verdicts(found), strict=True):
        assert ours.tally == theirs.tally
        assert [one.symbol for one in ours.cells] == [one.symbol for one in theirs.cells]


def test_the_settings_that_come_along_are_those_of_the_published_cells(
    store: Store, found: tuple[CellResult, ...], publishing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = json.loads(publishing.TUNED.read_text(encoding="utf-8"))
    monkeypatch.setattr(publishing, "published", lambda of: found if of is store else pytest.fail("another store"))

    assert shipped == publishing.tuned(store)
    for result in found:
        ours = tuned(result.cell)
        if result.tuned_for is None:
            assert result.cell.name not in shipped
            assert "source" not in shipped[ours.source.name]
        else:
            assert (ours.settings, ours.source) == (result.chosen.settings, result.tuned_for)
            assert ours.fit == (result.fit or result.chosen).settings


def test_every_published_cell_is_found_again_by_the_profile_quick(store: Store, found: tuple[CellResult, ...]) -> None:
    for result in found:
        if not result.run:
            continue
        plan, ours = Plan(profile="quick", cells=(result.cell,)), tuned(result.cell)
        runs = tuple(store.find(plan.final(result.cell, ours.settings)))
        assert {run.experiment.seed for run in runs if not run.sealed} == set(plan.tasks), result.cell.name
        if not all(run.best_train_accuracy == 1.0 for run in runs):
            fitted = store.find(plan.final(result.cell, ours.fit))
            assert {run.experiment.seed for run in fitted} == set(plan.tasks), result.cell.name


def test_the_packaged_figures_are_those_of_the_runs(found: tuple[CellResult, ...], publishing: ModuleType) -> None:
    assert json.loads(publishing.REPRODUCED.read_text(encoding="utf-8")) == publishing.reproduced(found)
    for result in found:
        shipped = reproduced(result.cell)
        assert (shipped is None) == (not result.run)
        if shipped is not None:
            assert (shipped.profile, shipped.tuned_for) == (result.profile, result.tuned_for)
        for measure in REPORTED:
            assert result.comparable.scores(measure) == (None if shipped is None else shipped.scores.get(measure))


def test_every_cell_is_of_five_tasks_whose_test_images_were_opened(found: tuple[CellResult, ...]) -> None:
    for result in found:
        five = result.comparable.chosen
        assert five.tasks == tuple(range(TASKS) if result.profile else ())
        assert len(five.records) == len(five.tasks)
        assert not any(run.sealed for run in result.chosen.records)
        assert all(run.sealed or run in result.chosen.records for run in (result.fit or Role()).records)


def test_settings_are_from_the_cells_own_search_before_or_else_from_one_that_comes_along(
    store: Store, found: tuple[CellResult, ...]
) -> None:
    for result in found:
        if result.profile is None or result.tuned_for is None:
            continue
        name = f"{result.profile}/{result.cell.name}"
        note, search = store.note(CellNote, name), store.note(SearchNote, name)
        assert note is not None
        if PROFILES[result.profile].rungs:
            assert result.tuned_for == result.cell
            assert search is not None
            assert result.search is not None
            assert result.search.trials == search.trials  # that of a plan with more tasks or draws has another name
            assert search.chosen == result.chosen.settings
            assert all(run.provenance.finished[:19] >= search.ended[:19] for run in result.chosen.records)
        else:
            assert note.search is search is None
            assert result.borrowed is None or result.search is None
        for run in result.chosen.records:
            assert run.experiment.replace(**result.chosen.settings) == run.experiment


@pytest.mark.usefixtures("unplotted")
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
            store.put(note_of(cell, runs, name=name, profile=profile, tuned_for=of.name))

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
        assert told[quick.name]["chosen"]["test"] == pytest.approx({str(task): 60 for task in range(TASKS)})
        assert {name: entry.get("source") for name, entry in publishing.tuned(store).items()} == {
            source.name: None,
            both.name: None,
            quick.name: source.name,
        }
    frame = tables.beside(found, 3).set_index(["Classes", "Method"])
    for classes, profile, tuned_for in (("5", "full", "itself"), ("10", "quick", source.name), ("25", "", "")):
        assert tuple(frame.loc[(classes, "BP"), ["profile", "tuned for"]]) == (profile, tuned_for)
    for form in (document.markdown(found), document.html(found)):
        assert "names another cell for 1 of the 3 cells" in " ".join(re.sub("<[^>]+>", "", form).split())
