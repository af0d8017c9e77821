"""The reproduction of the paper's cells: tune if the profile says so, train, and evaluate the test set once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.runs.notes import CellNote, Round, SearchNote, Selection, Settings
from mdfa_core.runs.scheduling import Advance, schedule
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.timing import seconds_an_epoch
from mdfa_core.runs.tuning import Search
from mdfa_core.runs.workers import InProcess, Workers
from mdfa_core.studies.paper import recipes
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell
from mdfa_core.studies.paper.recipes import PROFILES, TableProfile
from mdfa_core.training import Every, Experiment

DRAW = 1000
"""Draw d of task t has the seed t + DRAW · d, and the classes and split of task t."""

PROBES = 10
"""Approximate number of sign measurements in a run that a table reports; the last one is at its end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which cells are run, and how.

    Attributes:
        profile: a name in `PROFILES`.
        cells: in the order they are run.
        seeds: of the tasks, sorted; None: 0, 1, …, as many as the profile has tasks.
        draws: runs of the chosen settings per task. Draw 0 has the task's own seed. Further draws have other weights,
            feedback and batches on the same images. Searches and best fits have one draw.
        epochs: of the final runs, and the most epochs of a search's round; None: the profile's.
        image_size: pixels per side, for image folders; None: the profile's.

    A value that equals the profile's becomes None.
    """

    profile: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...] | None = None
    draws: int = 1
    epochs: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        for cell in self.cells:
            self.base(cell)  # refuses cells with too many classes for the profile's data
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) != len(self.seeds)):
            raise InvalidValue(f"the seeds are {self.seeds}: give at least one, each once")
        for seed in self.seeds or ():
            Experiment(seed=seed)  # refuses seeds that are not allowed
        if self.draws < 1:
            raise InvalidValue(f"draws is {self.draws!r}: give a positive integer")
        if self.draws > 1 and max(self.tasks) >= DRAW:
            raise InvalidValue(
                f"the largest seed is {max(self.tasks)} with {self.draws} draws: give seeds below {DRAW}, or one draw"
            )
        self._leave_out_what_is_the_profiles()

    def _leave_out_what_is_the_profiles(self) -> None:
        """Equal plans get equal names in a store, however they are written."""
        own = self._profile
        seeds = None if self.seeds is None else tuple(sorted(self.seeds))
        for name, value, usual in (
            ("seeds", seeds, tuple(range(own.tasks))),
            ("epochs", self.epochs, own.epochs),
            ("image_size", self.image_size, own.imagenet.image_size),
        ):
            object.__setattr__(self, name, None if value == usual else value)

    @property
    def changed(self) -> str:
        """The differences from the profile, as a suffix of names in a store; empty if there are none."""
        parts = []
        if self.seeds is not None:
            parts.append("seeds=" + ",".join(map(str, self.seeds)))
        if self.draws > 1:
            parts.append(f"draws={self.draws}")
        parts += [f"{n}={v}" for n, v in (("epochs", self.epochs), ("size", self.image_size)) if v is not None]
        return "@" + ";".join(parts) if parts else ""

    @property
    def variant(self) -> str:
        """The profile's name, followed by the differences from it."""
        return self.profile + self.changed

    @property
    def _profile(self) -> TableProfile:
        return PROFILES[self.profile]

    @property
    def final_epochs(self) -> int:
        """Epochs of a final run."""
        return self._profile.epochs if self.epochs is None else self.epochs

    @property
    def tasks(self) -> tuple[int, ...]:
        """The seeds of a cell's tasks."""
        return tuple(range(self._profile.tasks)) if self.seeds is None else self.seeds

    @property
    def rungs(self) -> tuple[Round, ...]:
        """The rounds of a cell's search; empty if cells are not tuned."""
        return tuple(
            replace(r, epochs=min(r.epochs, self.final_epochs), tasks=min(r.tasks, len(self.tasks)))
            for r in self._profile.rungs
        )

    def base(self, cell: Cell) -> Experiment:
        """A cell's experiment, without its tuned settings."""
        return recipes.base(cell, self._profile, image_size=self.image_size).replace(epochs=self.final_epochs)

    def final(self, cell: Cell, settings: Mapping[str, Any]) -> list[Experiment]:
        """The final runs of a cell with the chosen settings: all tasks of draw 0, then of draw 1, and so on."""
        runs = self.fits(cell, settings)
        further = ((run, draw) for draw in range(1, self.draws) for run in runs)
        return runs + [run.replace(seed=run.seed + DRAW * draw, task_seed=run.seed) for run, draw in further]

    def fits(self, cell: Cell, settings: Mapping[str, Any]) -> list[Experiment]:
        """The runs of a cell's best fit: one per task."""
        return [self.base(cell).replace(**settings, seed=task) for task in self.tasks]

    def name(self, cell: Cell) -> str:
        """The cell's name in a store."""
        return f"{self.profile}/{cell.name}{self.changed}"

    def epochs_to_search(self, cell: Cell) -> int:
        """Epochs of all runs of a cell's search, added up."""
        there = len(recipes.candidates(cell))
        return sum(min(r.candidates or there, there) * r.epochs * r.tasks for r in self.rungs)

    def epochs_to_train(self, cell: Cell) -> int:
        """The most epochs of all runs of a cell, added up: search, chosen settings, best fit."""
        return self.epochs_to_search(cell) + (self.draws + 1) * self.final_epochs * len(self.tasks)


@dataclass(frozen=True, kw_only=True)
class ReproductionProgress:
    """How far a reproduction has come.

    Attributes:
        cell: the current cell.
        doing: `tuning`, `final runs` or `best fit`.
        advance: progress of the current sweep.
        part: share of the plan's epochs that are done, 0 to 1.
    """

    cell: Cell
    doing: str
    advance: Advance
    part: float


class CellSweep(NamedTuple):
    """One sweep of a cell, and its place in the cell's work.

    Attributes:
        cell: the cell.
        doing: as in `ReproductionProgress`.
        sweep: the runs to train.
        before: epochs of the cell's earlier sweeps.
        each: epochs of one run.
    """

    cell: Cell
    doing: str
    sweep: Sweep
    before: int
    each: int


class Reproduction:
    """Trains the cells of a plan. Iterating does the work; the caller may stop at any moment and start again later.

    Cells are trained in their order, one after the other; if workers would be idle, several at a time. Runs in the
    store are not trained again. The store gets a `CellNote` for every finished cell and a `SearchNote` for its search.

    The paper reports two figures (section 4): the test accuracy of the settings chosen on validation, and the highest
    training accuracy. If the chosen settings do not fit the training images of every task, the settings with the best
    fit in the last round of the search are trained equally long, without evaluating the test set.

    Args:
        plan: the cells and how to run them.
        store: receives runs, searches and cells.
        device: as for `Run`.
        data_dir: as for `Run`.
        workers: train the runs; the default is this process.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        *,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.plan, self.store = plan, store
        self.workers = workers or InProcess()
        self._options: dict[str, Any] = {"device": device, "data_dir": data_dir, "workers": self.workers}

    def __iter__(self) -> Iterator[ReproductionProgress]:
        """Train the missing runs."""
        whole = sum(map(self.plan.epochs_to_train, self.plan.cells))
        done = dict.fromkeys(self.plan.cells, 0)  # epochs
        doing: dict[Sweep, CellSweep] = {}

        def program(cell: Cell) -> Iterator[Sweep]:
            for part in self._fill(cell):
                doing[part.sweep] = part
                yield part.sweep
            done[cell] = self.plan.epochs_to_train(cell)

        for sweep, advance in schedule(map(program, self.plan.cells), self.workers):
            part = doing[sweep]
            done[part.cell] = part.before + advance.done * part.each
            yield ReproductionProgress(
                cell=part.cell, doing=part.doing, advance=advance, part=sum(done.values()) / whole
            )

    def seconds(self) -> float:
        """Estimated time of the plan if the store is empty; a few steps of every kind of run are timed.

        The settings that a search will choose are not known, so all runs count as slow as the slowest optimizer.
        """
        return sum(map(self._seconds, self.plan.cells)) / self.workers.count

    def _seconds(self, cell: Cell) -> float:
        if self.plan.rungs:
            optimizers = {settings["optimizer"]: settings for settings in recipes.candidates(cell)}
            epoch = max(self._seconds_an_epoch(cell, settings) for settings in optimizers.values())
            return epoch * self.plan.epochs_to_train(cell)
        tuned = recipes.untuned(cell, PROFILES[self.plan.profile])
        each = self.plan.final_epochs * len(self.plan.tasks)
        chosen, fit = (each * self._seconds_an_epoch(cell, settings) for settings in (tuned.settings, tuned.fit))
        return self.plan.draws * chosen + (
            fit if tuned.fit != tuned.settings else 0
        )  # the same runs are not made twice

    def _seconds_an_epoch(self, cell: Cell, settings: Mapping[str, Any]) -> float:
        experiment = self.plan.base(cell).replace(**settings, seed=self.plan.tasks[0])
        return seconds_an_epoch(experiment, device=self._options["device"], data_dir=self._options["data_dir"])

    def _fill(self, cell: Cell) -> Iterator[CellSweep]:
        """The sweeps that a cell needs; the caller trains each before it asks for the next. Then the cell is noted."""
        name = self.plan.name(cell)
        before, each = self.plan.epochs_to_search(cell), self.plan.final_epochs
        tuned = bool(self.plan.rungs)
        if tuned:
            search = self._search(cell)
            for sweep in search.sweeps():  # even if the store has a note: it may be of other data, or of older code
                yield CellSweep(cell, "tuning", sweep, search.epochs_trained, search.rungs[search.round].epochs)
            found = search.note(name)
            if not found.same_findings(self.store.note(SearchNote, name)):
                self.store.put(found)
            settings, fitting, source = found.chosen, found.best_fit, cell
        else:
            packaged = recipes.untuned(cell, PROFILES[self.plan.profile])
            settings, fitting, source = packaged.settings, packaged.fit, packaged.source
        final = self._opened(self.plan.final(cell, settings))
        yield CellSweep(cell, "final runs", final, before, each)
        chosen, fit = _selection(settings, final), None
        own = final.records()[: len(self.plan.tasks)]  # draw 0
        if not all(record.best_train_accuracy == 1.0 for record in own):
            sealed = self._sealed(self.plan.fits(cell, fitting))
            yield CellSweep(cell, "best fit", sealed, before + self.plan.draws * len(self.plan.tasks) * each, each)
            fit = _selection(fitting, sealed)
        self.store.put(
            CellNote(
                name=name,
                cell=asdict(cell),
                profile=self.plan.profile,
                data=self.plan.base(cell).data,
                chosen=chosen,
                tuned_for=source.name,
                search=name if tuned else None,
                fit=fit,
                opened_before=_opened_before(self.store.note(CellNote, name), chosen),
            )
        )

    def _search(self, cell: Cell) -> Search:
        candidates = recipes.candidates(cell)
        return Search(self.plan.base(cell), candidates, self.plan.rungs, self._sealed, seeds=self.plan.tasks)

    def _sealed(self, experiments: Iterable[Experiment]) -> Sweep:
        return Sweep(experiments, store=self.store, **self._options)

    def _opened(self, experiments: Sequence[Experiment]) -> Sweep:
        """The only sweep that evaluates the test set: once for each cell, after its settings are chosen."""
        probe = Every(epochs=max(1, self.plan.final_epochs // PROBES))
        return Sweep(experiments, store=self.store, test=True, probe=probe, **self._options)


def _selection(settings: Settings, sweep: Sweep) -> Selection:
    return Selection(settings=dict(settings), keys=tuple(record.key for record in sweep.records()))


def _opened_before(note: CellNote | None, chosen: Selection) -> tuple[Selection, ...]:
    """The selections of a cell, other than the chosen one, whose runs were evaluated on the test set."""
    if note is None:
        return ()
    earlier = (*(note.opened_before or ()), note.chosen)
    return tuple(one for one in earlier if one.keys != chosen.keys)


def chosen_cells(
    tables: Sequence[int],
    *,
    profile: str,
    methods: Sequence[str] = (),
    activations: Sequence[str] = (),
    classes: Sequence[int] = (),
    networks: Sequence[str] = (),
) -> tuple[Cell, ...]:
    """The cells of some tables for which the profile's data has enough classes. An empty choice means all values.

    Raises:
        UnknownName: the tables do not have such a table, method, activation, number of classes or kind of net.
        InvalidValue: the profile's data has too few classes for all of these cells.
    """
    cells = [cell for cell in CELLS.values() if cell.table in _allowed("table", tables, set(TABLES))]
    cells = _filtered(cells, "method", methods)
    cells = _filtered(cells, "activation", activations)
    cells = _filtered(cells, "network", networks)
    cells = _filtered(cells, "classes", classes)
    possible = []
    refused: InvalidValue | None = None
    for cell in cells:
        try:
            recipes.base(cell, PROFILES[profile])
        except InvalidValue as error:
            refused = error
        else:
            possible.append(cell)
    if refused is not None and not possible:
        raise refused
    return tuple(possible)


def _filtered(cells: list[Cell], name: str, wanted: Sequence[Any]) -> list[Cell]:
    allowed = _allowed(name, wanted, {getattr(cell, name) for cell in cells})
    return [cell for cell in cells if getattr(cell, name) in allowed]


def _allowed(name: str, wanted: Sequence[Any], known: set[Any]) -> set[Any]:
    for value in wanted:
        if value not in known:
            raise UnknownName(name, value, map(str, known))
    return set(wanted) or known
