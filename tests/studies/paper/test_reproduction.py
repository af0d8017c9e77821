"""Plans and their cells: tuned, trained, noted, gone on with, and test images opened in one place only.

That nothing but `Reproduction._opened` reaches test images is shown twice: by watching every run that a reproduction
makes (what is in its task, and what is gathered), and by reading the code (who passes `test=True`, who makes a `Run`).
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mdfa_core
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.data import ArraySplit, LazySplit
from mdfa_core.runs.notes import CellNote, SearchNote
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.workers import InProcess, Job
from mdfa_core.studies.paper import recipes
from mdfa_core.studies.paper.measures import TESTED, TRAINED
from mdfa_core.studies.paper.published import CELLS, TABLES
from mdfa_core.studies.paper.recipes import PROFILES
from mdfa_core.studies.paper.reproduction import DRAW, Plan, Reproduction, chosen_cells
from mdfa_core.studies.reports.results import results
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import NUMERICS, Run
from tests.studies.reports.made_up import record_of
from tests.support.workers import ShuffledWorkers

NAMES = ("table-1/fc/tanh/mdfa/2", "table-3/fc/tanh/bp/3")
PACKAGE = Path(mdfa_core.__file__).parent


def plan(*names: str, **settings: Any) -> Plan:
    """The smoke profile, shorter still."""
    cells = tuple(CELLS[name] for name in names or NAMES)
    return Plan(**{"profile": "smoke", "cells": cells, "epochs": 2, **settings})


# --------------------------------------------------------------------------------------------------- the test images


def test_only_opened_runs_have_test_images_and_only_the_final_ones_are_opened(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Job] = []  # made by `_opened`
    running: list[Job] = []  # innermost last
    made: list[tuple[bool, bool]] = []  # of every run: in such a job, has test images
    gathered: list[bool] = []  # of every look at test images: in such a job

    def inside() -> bool:
        return bool(running) and any(running[-1] is job for job in opened)

    def noted(self: Reproduction, experiments: Any) -> Sweep:
        sweep = original(self, experiments)
        opened.extend(sweep.jobs)
        return sweep

    def watched(self: Job) -> Any:
        running.append(self)
        try:
            return run(self)
        finally:
            running.pop()

    def made_run(self: Run, *arguments: Any, **options: Any) -> None:
        initial(self, *arguments, **options)
        made.append((inside(), any(len(task.test) > 0 for task in self.tasks)))

    original, initial, run = Reproduction._opened, Run.__init__, Job.run
    monkeypatch.setattr(Reproduction, "_opened", noted)
    monkeypatch.setattr(Job, "run", watched)
    monkeypatch.setattr(Run, "__init__", made_run)
    for kind in (ArraySplit, LazySplit):

        def spy(self: Any, index: Any, gather: Any = kind.gather) -> Any:
            if self.part == "test" and len(self) > 0:
                gathered.append(inside())
            return gather(self, index)

        monkeypatch.setattr(kind, "gather", spy)
    work = Reproduction(plan(epochs=4), store, device="cpu")
    work.seconds()
    doing = {stage.doing for stage in work}

    assert {"tuning", "final runs"} <= doing
    assert {has for in_such, has in made if in_such} == {True}
    assert {has for in_such, has in made if not in_such} == {False}
    assert gathered
    assert all(gathered)
    keys = [key for note in store.notes(CellNote).values() for key in note.chosen.keys]
    assert sorted(keys) == sorted(record.key for record in store.records() if not record.sealed)
    assert len(gathered) == len(keys) == 4  # the digits' test images are one chunk: each task was looked at once


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call in the package: module, function around it, call."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        around = {
            call: function.name
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for call in ast.walk(function)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield module, around.get(node, ""), node


def test_the_code_asks_for_test_images_in_one_place_a_study() -> None:
    """`test=True` is written once for the tables and once for the neighbouring rules.

    A `test` that is passed on comes from there, or from who calls `Run` or `train`.
    """
    asked, passed, unsaid = set(), set(), set()
    for module, function, call in _calls():
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        said = [keyword.value for keyword in call.keywords if keyword.arg == "test"]
        if name in ("Run", "Sweep", "Job", "train") and not said:
            unsaid.add((module, name))
        for value in said:
            if isinstance(value, ast.Constant) and value.value is True:
                asked.add((module, function))
            elif name in ("Run", "Sweep", "Job", "train") and not isinstance(value, ast.Constant):
                passed.add((module, name, ast.unparse(value)))

    assert asked == {("studies.paper.reproduction", "_opened"), ("studies.comparison", "_opened")}
    assert passed == {
        ("runs.workers", "Run", "self.test"),  # Job.run
        ("runs.sweep", "Job", "test"),  # Sweep
        ("training.run", "Run", "test"),  # train
        ("training.history", "Run", "test"),  # fit
    }
    # Left out, it is False in Sweep and Job, and True in Run and train: those are single runs that choose nothing.
    assert [inspect.signature(kind).parameters["test"].default for kind in (Sweep, Job, Run)] == [False, False, True]
    assert {module for module, name in unsaid if name in ("Run", "train")} <= {
        "bench.probe_cost",
        "cli.train",
        "stage.widget",
        "studies.theory.agreement",
        "studies.theory.descent",
        "studies.theory.premises",
    }
    assert {pair for pair in unsaid if pair[1] in ("Sweep", "Job")} == {
        ("studies.paper.reproduction", "Sweep"),
        ("studies.comparison", "Sweep"),
        ("runs.timing", "Job"),
    }


# -------------------------------------------------------------------------------------------------------- filled cells


def test_cells_are_tuned_trained_and_noted(store: Store) -> None:
    wanted = plan()
    stages = list(Reproduction(wanted, store, device="cpu"))
    search = store.note(SearchNote, "smoke/table-1/fc/tanh/mdfa/2@epochs=2")
    cell = store.note(CellNote, "smoke/table-1/fc/tanh/mdfa/2@epochs=2")

    assert set(store.notes(CellNote)) == set(store.notes(SearchNote)) == {wanted.name(c) for c in wanted.cells}
    assert cell is not None
    assert search is not None
    assert cell.cell == asdict(CELLS[NAMES[0]])
    assert (cell.profile, cell.data, cell.tuned_for) == ("smoke", "digits", NAMES[0])
    assert cell.search == search.name
    assert cell.chosen.settings == search.chosen
    assert search.chosen in recipes.candidates(CELLS[NAMES[0]])
    records = [store.named(key) for key in cell.chosen.keys]
    expected = wanted.final(CELLS[NAMES[0]], search.chosen)
    assert [record.experiment for record in records if record] == expected
    assert all(record is not None and record.test_accuracy is not None for record in records)
    if cell.fit is not None:
        assert len(cell.fit.keys) == 2
    parts = [stage.part for stage in stages]
    assert parts == sorted(parts)
    assert 0 < parts[0] < parts[-1] <= 1
    tuning = [stage.part for stage in stages if stage.doing == "tuning" and stage.cell.name == NAMES[0]]
    assert tuning[-1] == pytest.approx(wanted.epochs_to_search(stages[0].cell) / _whole(wanted))


def _whole(wanted: Plan) -> int:
    return sum(map(wanted.epochs_to_train, wanted.cells))


def test_the_epochs_of_a_plan_are_those_it_trains(store: Store) -> None:
    wanted = plan(NAMES[0], epochs=12)  # longer than the search's rounds, so that none of its runs is a final one
    list(Reproduction(wanted, store, device="cpu"))
    note = store.note(CellNote, wanted.name(wanted.cells[0]))
    assert note is not None

    another = note.fit is not None and note.fit.settings != note.chosen.settings
    expected = wanted.epochs_to_train(wanted.cells[0]) - (0 if another else 12 * 2)
    assert sum(record.experiment.epochs for record in store.records()) == expected


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_reproduction_left_at_any_stage_goes_on(store: Store, tmp_path: Path, stop: int) -> None:
    for _ in itertools.islice(Reproduction(plan(), store, device="cpu"), stop):
        pass
    finished = {record.key: record for record in store.records()}
    list(Reproduction(plan(), store, device="cpu"))

    again = {record.key: record for record in store.records()}
    assert all(again[key] == record for key, record in finished.items() if not record.sealed)
    assert not list(Reproduction(plan(), store, device="cpu"))
    with Store(tmp_path / "whole.sqlite") as whole:
        list(Reproduction(plan(), whole, device="cpu"))
        assert whole.notes(CellNote) == store.notes(CellNote)
        assert set(whole.keys()) == set(again)


def test_workers_fill_several_cells_at_a_time_with_the_same_outcome(store: Store, tmp_path: Path) -> None:
    several = ShuffledWorkers(7)  # more than a cell's final runs
    stages = list(Reproduction(plan(), store, device="cpu", workers=several))

    assert (
        max(len({(job.experiments[0].method, job.experiments[0].outputs) for job in jobs}) for jobs in several.held) > 1
    )
    parts = [stage.part for stage in stages]
    assert parts == sorted(parts)
    assert parts[-1] <= 1
    with Store(tmp_path / "alone.sqlite") as alone:
        list(Reproduction(plan(), alone, device="cpu"))
        assert alone.notes(CellNote) == store.notes(CellNote)
        assert {r.key: r.curve for r in alone.records()} == {r.key: r.curve for r in store.records()}


def test_a_search_is_asked_again_and_its_note_stays_while_it_says_the_same(store: Store) -> None:
    wanted = plan(NAMES[0])
    name = wanted.name(wanted.cells[0])
    list(Reproduction(wanted, store, device="cpu"))
    first = store.note(SearchNote, name)
    assert first is not None
    list(Reproduction(wanted, store, device="cpu"))
    assert store.note(SearchNote, name) == first

    halved = tuple(replace(trial, validation=trial.validation / 2) for trial in first.trials)
    store.put(replace(first, trials=halved))  # as if the search had been on other data, or by older code
    list(Reproduction(wanted, store, device="cpu"))
    again = store.note(SearchNote, name)
    assert again is not None
    assert again.trials == first.trials


@pytest.mark.parametrize(("epochs", "measured"), [(3, [1, 2, 3]), (21, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 21])])
def test_signs_are_measured_in_the_runs_that_are_reported(store: Store, epochs: int, measured: list[int]) -> None:
    list(Reproduction(plan(NAMES[0], epochs=epochs), store, device="cpu"))

    for record in store.records():
        assert [probe.epoch for probe in record.probes] == ([] if record.sealed else measured)


def test_a_search_over_other_candidates_is_not_taken_for_this_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(NAMES[0])
    list(Reproduction(wanted, store, device="cpu"))
    before = len(store)
    other = replace(recipes.PAPER_GRID, forward=("normal:0.3", "normal:0.2", "normal:0.05", "zeros"))
    monkeypatch.setattr(recipes, "PAPER_GRID", other)
    list(Reproduction(wanted, store, device="cpu"))

    assert len(store) > before
    search = store.note(SearchNote, wanted.name(wanted.cells[0]))
    assert search is not None
    assert search.candidates == recipes.candidates(wanted.cells[0])


def test_a_cell_remembers_with_what_its_test_images_were_opened_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each set of runs once, and the one that the cell is made of not at all."""
    PROFILES.add("untuned", replace(PROFILES["smoke"], rungs=()))
    wanted = Plan(profile="untuned", cells=(CELLS[NAMES[0]],), epochs=1)
    notes = []
    try:
        for rate in (0.1, 0.1, 0.2, 0.3, 0.1):
            settings = {"learning_rate": rate}
            monkeypatch.setattr(recipes, "_shipped", lambda s=settings: {NAMES[0]: {"settings": s, "fit": s}})
            list(Reproduction(wanted, store, device="cpu"))
            notes += store.notes(CellNote).values()
    finally:
        PROFILES.remove("untuned")

    rates = [[one.settings["learning_rate"] for one in note.opened_before or ()] for note in notes]
    assert rates == [[], [], [0.1], [0.1, 0.2], [0.2, 0.3]]
    assert notes[3].opened_before == (notes[0].chosen, notes[2].chosen)


def test_without_a_search_the_settings_that_come_along_are_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"settings": {"learning_rate": 0.1}, "fit": {"learning_rate": 0.2}}
    monkeypatch.setattr(recipes, "_shipped", lambda: {"table-1/fc/relu/mdfa/2": both})
    PROFILES.add("untuned", replace(PROFILES["smoke"], rungs=()))
    try:
        wanted = Plan(profile="untuned", cells=(CELLS[NAMES[0]],), epochs=1, seeds=(3,))
        stages = list(Reproduction(wanted, store, device="cpu"))
    finally:
        PROFILES.remove("untuned")

    note = store.note(CellNote, "untuned/table-1/fc/tanh/mdfa/2@seeds=3;epochs=1")
    assert note is not None
    assert (note.search, note.tuned_for, note.chosen.settings) == (None, "table-1/fc/relu/mdfa/2", both["settings"])
    assert {stage.doing for stage in stages} <= {"final runs", "best fit"}
    assert all(record.experiment.seed == 3 for record in store.records())
    assert not store.notes(SearchNote)


def test_the_released_profile_runs_its_defaults_on_toy_data(store: Store) -> None:
    toy = PROFILES["smoke"]
    PROFILES.add("toy-released", replace(PROFILES["released"], cifar=toy.cifar, imagenet=toy.imagenet, tasks=2))
    try:
        names = ("table-1/fc/tanh/bp/2", "table-1/fc/tanh/mdfa/2", "table-1/conv/tanh/dfa/2")
        wanted = Plan(profile="toy-released", cells=tuple(CELLS[name] for name in names), epochs=2)
        list(Reproduction(wanted, store, device="cpu"))
        found = {result.cell.name: result for result in results(store, "toy-released")}
    finally:
        PROFILES.remove("toy-released")

    assert [found[name].chosen.records[0].experiment.loss_scale for name in names] == ["sum", "mean", "sum"]
    for name in names:
        result = found[name]
        running = [100 * (record.best_running_accuracy or 0) for record in result.chosen.records]
        assert result.chosen.settings == dict(recipes.RELEASED_DEFAULTS)
        shown = result.scores(TRAINED)
        assert shown is not None
        assert list(shown.tasks.values()) == running
    assert not store.notes(SearchNote)


def test_the_time_is_that_of_all_epochs_over_all_workers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Four(InProcess):
        @property
        def count(self) -> int:
            return 4

    monkeypatch.setattr("mdfa_core.studies.paper.reproduction.seconds_an_epoch", lambda experiment, **options: 2.0)
    one, four = (Reproduction(plan(), store, device="cpu", workers=w).seconds() for w in (None, Four()))

    assert one == 2.0 * _whole(plan())
    assert four == one / 4
    assert len(store) == 0


TIMES = {"sgd": 1.0, "rmsprop": 2.0, "adam": 5.0}


def _timed(experiment: Experiment, **_: Any) -> float:
    return TIMES[experiment.optimizer]


def test_the_time_of_a_search_is_that_of_its_slowest_optimizer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfa_core.studies.paper.reproduction.seconds_an_epoch", _timed)

    assert Reproduction(plan(), store, device="cpu").seconds() == TIMES["adam"] * _whole(plan())


@pytest.mark.parametrize(
    ("fit", "epoch"), [("adam", 2.0 + 5.0), ("sgd", 2.0 + 1.0), ("rmsprop", 2.0)], ids=["slower", "faster", "the same"]
)
def test_the_time_of_tuned_settings_is_theirs(
    fit: str, epoch: float, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"settings": {"optimizer": "rmsprop"}, "fit": {"optimizer": fit}}
    monkeypatch.setattr(recipes, "_shipped", lambda: {NAMES[0]: both})
    monkeypatch.setattr("mdfa_core.studies.paper.reproduction.seconds_an_epoch", _timed)

    wanted = Plan(profile="quick", cells=(CELLS[NAMES[0]],), epochs=3, seeds=(0, 4))
    assert Reproduction(wanted, store, device="cpu").seconds() == epoch * 3 * 2


# --------------------------------------------------------------------------------------------------------------- plans


def test_draws_have_other_seeds_on_the_same_task(store: Store) -> None:
    cell = CELLS[NAMES[0]]
    wanted = plan(NAMES[0], seeds=(0, 3), draws=3)
    assert [(run.seed, run.effective_task_seed) for run in wanted.final(cell, {})] == [
        (0, 0), (3, 3), (1000, 0), (1003, 3), (2000, 0), (2003, 3),
    ]  # fmt: skip
    assert wanted.final(cell, {})[:2] == wanted.fits(cell, {}) == plan(NAMES[0], seeds=(0, 3)).final(cell, {})
    assert wanted.rungs == plan(NAMES[0], seeds=(0, 3)).rungs

    stages = list(Reproduction(wanted, store, device="cpu"))
    parts = [stage.part for stage in stages]
    assert parts == sorted(parts)
    assert parts[-1] <= 1
    note = store.note(CellNote, f"smoke/{NAMES[0]}@seeds=0,3;draws=3;epochs=2")
    assert note is not None
    runs = [store.named(key) for key in note.chosen.keys]
    assert [run.experiment.seed for run in runs if run] == [0, 3, 1000, 1003, 2000, 2003]
    assert len({run.checksum for run in runs if run}) == 2  # the images are those of the two tasks
    assert note.fit is None or len(note.fit.keys) == 2
    trained = len(store)
    again = Reproduction(plan(NAMES[0], seeds=(0, 3)), store, device="cpu")
    list(again)
    assert len(store) == trained  # one draw needs no run more

    (result,) = [one for one in results(store, wanted.variant) if one.run]
    scores = result.scores(TESTED)
    assert scores is not None
    assert (len(scores.tasks), scores.seeds) == (2, 3)


@pytest.fixture
def drawn_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two tasks with two seeds each, all in the store; those with the task's own seed fit every image."""
    monkeypatch.setattr("mdfa_core.runs.sweep.task_summary", lambda *of: SimpleNamespace(checksum="made up"))
    cell = CELLS[NAMES[0]]
    wanted = Plan(profile="quick", cells=(cell,), seeds=(0, 3), draws=2)
    for run in wanted.final(cell, recipes.untuned(cell, PROFILES["quick"]).settings):
        share = 1.0 if run.seed < DRAW else 0.9
        record = record_of(cell, run.seed, share, 0.8, checksum="made up", numerics=NUMERICS)
        store.add([replace(record, experiment=run)])
    return wanted


def test_no_best_fit_is_trained_if_every_task_is_fitted_with_its_own_seed(store: Store, drawn_twice: Plan) -> None:
    assert list(Reproduction(drawn_twice, store, device="cpu")) == []
    note = store.note(CellNote, drawn_twice.name(drawn_twice.cells[0]))
    assert note is not None
    assert len(note.chosen.keys) == 4
    assert note.fit is None


def test_the_best_fit_comes_after_all_draws(store: Store, drawn_twice: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = drawn_twice.cells
    settings = recipes.untuned(cell, PROFILES["quick"]).settings
    records = [replace(r, best_train_accuracy=0.9) for r in store.find(drawn_twice.final(cell, settings))]
    monkeypatch.setattr(Sweep, "records", lambda self: records)
    monkeypatch.setattr(Reproduction, "_sealed", lambda self, runs: None)
    final, fit = itertools.islice(Reproduction(drawn_twice, store, device="cpu")._fill(cell), 2)
    each = PROFILES["quick"].epochs
    assert (final.doing, final.before, fit.doing, fit.before, fit.each) == ("final runs", 0, "best fit", 4 * each, each)


def test_a_plan_says_what_differs_from_its_profile() -> None:
    assert plan(epochs=None).changed == ""
    assert plan(seeds=(4, 2), image_size=32).changed == "@seeds=2,4;epochs=2;size=32"
    assert plan(NAMES[0], seeds=(4,)).name(CELLS[NAMES[0]]) == f"smoke/{NAMES[0]}@seeds=4;epochs=2"
    assert (plan(epochs=None).final_epochs, plan().final_epochs) == (PROFILES["smoke"].epochs, 2)
    assert [rung.epochs for rung in plan().rungs] == [2, 2]
    assert [rung.tasks for rung in plan(seeds=(7,)).rungs] == [1, 1]


@pytest.mark.parametrize("profile", list(PROFILES))
def test_the_profiles_own_values_are_no_change(profile: str) -> None:
    own = PROFILES[profile]
    given = {"seeds": tuple(reversed(range(own.tasks))), "epochs": own.epochs, "image_size": own.imagenet.image_size}
    cells = (CELLS[NAMES[0]], CELLS["table-2/fc/tanh/mdfa/2"])
    same = Plan(profile=profile, cells=cells, **given)  # type: ignore[arg-type]

    assert same == Plan(profile=profile, cells=cells)
    assert same.variant == profile
    assert Plan(profile=profile, cells=cells, **given | {"seeds": (0,)}).variant == f"{profile}@seeds=0"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"profile": "huge"}, UnknownName, "unknown profile 'huge'"),
        ({"seeds": ()}, InvalidValue, "give at least one, each once"),
        ({"seeds": (1, 1)}, InvalidValue, "give at least one, each once"),
        ({"seeds": (0, -1)}, InvalidValue, "the seed is -1"),
        ({"epochs": 0}, InvalidValue, "epochs"),
        ({"cells": (CELLS["table-3/fc/tanh/mdfa/50"],)}, InvalidValue, "needs 50 classes, but digits has 10"),
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_run_is_refused(settings: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        plan(**settings)

    assert message in str(caught.value)


def test_cells_are_chosen_by_what_the_tables_have() -> None:
    assert len(chosen_cells(tuple(TABLES), profile="full")) == len(CELLS)
    assert {c.classes for c in chosen_cells([3], profile="smoke")} == {3, 5, 10}
    chosen = chosen_cells([1], profile="full", methods=["bp"], networks=["conv"], activations=["relu", "tanh"])
    assert {c.name for c in chosen} == {"table-1/conv/relu/bp/2", "table-1/conv/tanh/bp/2"}
    with pytest.raises(UnknownName, match="unknown classes 7: choose one of"):
        chosen_cells([3], profile="full", classes=[7])
    with pytest.raises(UnknownName, match="unknown table 7: choose one of 1, 2, 3, 4, 5, 6"):
        chosen_cells([7], profile="full")
    with pytest.raises(InvalidValue, match="needs 50 classes, but digits has 10: choose a cell of fewer classes"):
        chosen_cells([3], profile="smoke", classes=[50])
    assert {c.classes for c in chosen_cells([3], profile="smoke", classes=[50, 10])} == {10}
