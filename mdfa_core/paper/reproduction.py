"""Running cells of the paper's tables: tune where the profile asks for it, train, open the test images once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mdfa_core.errors import InvalidValue, UnknownName
from mdfa_core.experiment import Experiment
from mdfa_core.paper import recipes
from mdfa_core.paper.published import CELLS, TABLES, Cell
from mdfa_core.paper.recipes import PROFILES, Profile
from mdfa_core.store import Store
from mdfa_core.sweeps import Advance, Here, Sweep, Workers, kept_busy, seconds_an_epoch
from mdfa_core.training import Every
from mdfa_core.tuning import Rung, Search, best_fit

PROBES = 10
"""How often a run that a table reports measures sign agreement, about: the last time at its end."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which cells are run, and how.

    Attributes:
        profile: a name in `PROFILES`.
        cells: in the order they are run.
        seeds: the tasks, sorted; None: as many as the profile says, from 0.
        epochs: of the final runs (rounds of a search are cut to it); None: as the profile says.
        image_size: for image folders; None: as the profile says.

    A value that is the profile's own counts as None.
    """

    profile: str
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        for cell in self.cells:
            self.base(cell)  # refuses what the profile's data cannot give
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) != len(self.seeds)):
            raise InvalidValue(f"the seeds are {self.seeds}: give at least one, each once")
        for seed in self.seeds or ():
            Experiment(seed=seed)  # refuses what is none
        self._leave_out_what_is_the_profiles()

    def _leave_out_what_is_the_profiles(self) -> None:
        """What is asked for in other words is the same plan, under the same name in a store."""
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
        """What differs from the profile, as a suffix of names in a store; empty if nothing does."""
        parts = []
        if self.seeds is not None:
            parts.append("seeds=" + ",".join(map(str, self.seeds)))
        parts += [f"{n}={v}" for n, v in (("epochs", self.epochs), ("size", self.image_size)) if v is not None]
        return "@" + ";".join(parts) if parts else ""

    @property
    def variant(self) -> str:
        """The profile's name with what differs from it: whose cells these are in a store."""
        return self.profile + self.changed

    @property
    def _profile(self) -> Profile:
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
    def rungs(self) -> tuple[Rung, ...]:
        """The rounds of a cell's search; none if it is not tuned."""
        return tuple(
            replace(r, epochs=min(r.epochs, self.final_epochs), tasks=min(r.tasks, len(self.tasks)))
            for r in self._profile.rungs
        )

    def base(self, cell: Cell) -> Experiment:
        """A cell's experiment before its tuned settings."""
        return recipes.base(cell, self._profile, image_size=self.image_size).replace(epochs=self.final_epochs)

    def final(self, cell: Cell, settings: Mapping[str, Any]) -> list[Experiment]:
        """The runs that fill a cell: one a task, with the chosen settings."""
        return [self.base(cell).replace(**settings, seed=task) for task in self.tasks]

    def name(self, cell: Cell) -> str:
        """The cell's name in a store."""
        return f"{self.profile}/{cell.name}{self.changed}"

    def epochs_to_search(self, cell: Cell) -> int:
        """Epochs of all runs of a cell's search together."""
        there = len(recipes.candidates(cell))
        return sum(min(r.candidates or there, there) * r.epochs * r.tasks for r in self.rungs)

    def epochs_to_train(self, cell: Cell) -> int:
        """Epochs of all runs of a cell together, at most: its search, the chosen configuration, the best fit."""
        return self.epochs_to_search(cell) + 2 * self.final_epochs * len(self.tasks)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where a reproduction is.

    Attributes:
        cell: being worked on.
        doing: `tuning`, `final runs` or `best fit`.
        advance: of that.
        part: share of the whole plan that is done, by epochs, 0 to 1.
    """

    cell: Cell
    doing: str
    advance: Advance
    part: float


class Part(NamedTuple):
    """One sweep of a cell, with what progress needs to know of it.

    Attributes:
        cell: the cell.
        doing: as `Stage` says it.
        sweep: what is to be trained.
        before: epochs of the cell that were trained before.
        each: epochs of one experiment.
    """

    cell: Cell
    doing: str
    sweep: Sweep
    before: int
    each: int


class Reproduction:
    """The cells of a plan; iterating does the work, and may be left and begun again at any moment.

    They are done in their order, one after the other; where that would leave workers idle, several at a time.

    What is in the store is not done again. A finished cell is noted there as kind "cell", its search as kind "study".

    The paper reports two things (section 4): the test accuracy of the configuration chosen on validation, and the
    highest training accuracy achieved. So where the chosen configuration does not fit the training images of every
    task, the one that fitted best in the search's last round is trained as long, without a look at the test images.

    Args:
        plan: what to run.
        store: where runs, searches and cells go.
        device: as `Run` takes it.
        data_dir: likewise.
        workers: who trains; this process if left out.
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
        self.workers = workers or Here()
        self._options: dict[str, Any] = {"device": device, "data_dir": data_dir, "workers": self.workers}

    def __iter__(self) -> Iterator[Stage]:
        """Do what is missing."""
        whole = sum(map(self.plan.epochs_to_train, self.plan.cells))
        done = dict.fromkeys(self.plan.cells, 0)  # epochs
        doing: dict[Sweep, Part] = {}

        def program(cell: Cell) -> Iterator[Sweep]:
            for part in self._fill(cell):
                doing[part.sweep] = part
                yield part.sweep
            done[cell] = self.plan.epochs_to_train(cell)

        for sweep, advance in kept_busy(map(program, self.plan.cells), self.workers):
            part = doing[sweep]
            done[part.cell] = part.before + advance.done * part.each
            yield Stage(cell=part.cell, doing=part.doing, advance=advance, part=sum(done.values()) / whole)

    def seconds(self) -> float:
        """About how long all of it takes if nothing is in the store: every kind of run is timed for a few steps.

        What a search will choose is not known: all runs are taken to be as slow as the slowest optimizer it tries.
        """
        return sum(map(self._seconds, self.plan.cells)) / self.workers.count

    def _seconds(self, cell: Cell) -> float:
        if self.plan.rungs:
            optimizers = {settings["optimizer"]: settings for settings in recipes.candidates(cell)}
            epoch = max(self._seconds_an_epoch(cell, settings) for settings in optimizers.values())
            return epoch * self.plan.epochs_to_train(cell)
        tuned = recipes.tuned(cell)
        each = self.plan.final_epochs * len(self.plan.tasks)
        chosen, fit = (each * self._seconds_an_epoch(cell, settings) for settings in (tuned.settings, tuned.fit))
        return chosen + (fit if tuned.fit != tuned.settings else 0)  # the same runs are not made twice

    def _seconds_an_epoch(self, cell: Cell, settings: Mapping[str, Any]) -> float:
        experiment = self.plan.base(cell).replace(**settings, seed=self.plan.tasks[0])
        return seconds_an_epoch(experiment, device=self._options["device"], data_dir=self._options["data_dir"])

    def _fill(self, cell: Cell) -> Iterator[Part]:
        """What is to be trained for a cell, each part before the next is asked for; at the end the cell is noted."""
        name, study = self.plan.name(cell), None
        before, each = self.plan.epochs_to_search(cell), self.plan.final_epochs
        if self.plan.rungs:
            study, search = name, self._search(cell)
            for sweep in search.sweeps():  # asks for every run of it: the store may be of other data, or of older code
                yield Part(cell, "tuning", sweep, search.epochs_trained, search.rungs[search.round].epochs)
            document = search.document()
            if not search.answered_by(self.store.look("study", name)):
                self.store.put("study", name, document)
            settings, fitting, source = document["chosen"], best_fit(document), cell
        else:
            tuned = recipes.tuned(cell)
            settings, fitting, source = dict(tuned.settings), dict(tuned.fit), tuned.source
        final = self._opened(self.plan.final(cell, settings))
        yield Part(cell, "final runs", final, before, each)
        fit: dict[str, Any] | None = None
        if not all(record.best_train_accuracy == 1.0 for record in final.records()):
            sealed = self._sealed(self.plan.final(cell, fitting))
            yield Part(cell, "best fit", sealed, before + len(self.plan.tasks) * each, each)
            fit = {"settings": fitting, "keys": [record.key for record in sealed.records()]}
        keys = [record.key for record in final.records()]
        self.store.put(
            "cell",
            name,
            {
                "cell": asdict(cell),
                "profile": self.plan.profile,
                "data": self.plan.base(cell).data,
                "settings": settings,
                "tuned for": source.name,
                "study": study,
                "keys": keys,
                "fit": fit,
                "opened before": _opened_before(self.store.look("cell", name), keys),
            },
        )

    def _search(self, cell: Cell) -> Search:
        candidates = recipes.candidates(cell)
        return Search(self.plan.base(cell), candidates, self.plan.rungs, self._sealed, seeds=self.plan.tasks)

    def _sealed(self, experiments: Iterable[Experiment]) -> Sweep:
        return Sweep(experiments, store=self.store, **self._options)

    def _opened(self, experiments: Sequence[Experiment]) -> Sweep:
        """The only sweep here that opens test images: once for each cell, when its settings have been chosen."""
        probe = Every(epochs=max(1, self.plan.final_epochs // PROBES))
        return Sweep(experiments, store=self.store, test=True, probe=probe, **self._options)


def _opened_before(note: Mapping[str, Any] | None, keys: Sequence[str]) -> list[dict[str, Any]]:
    """With which settings, and in which runs, the test images of a cell were opened before its note is replaced."""
    if note is None:
        return []
    earlier = [*note.get("opened before", ()), {name: note[name] for name in ("settings", "keys")}]
    return [one for one in earlier if one["keys"] != list(keys)]


def chosen_cells(
    tables: Sequence[int],
    *,
    profile: str,
    methods: Sequence[str] = (),
    activations: Sequence[str] = (),
    classes: Sequence[int] = (),
    networks: Sequence[str] = (),
) -> tuple[Cell, ...]:
    """The cells of some tables, as far as the profile's data has the classes; empty choices choose all.

    Raises:
        UnknownName: a table, method, activation, number of classes or kind of net that the tables do not have.
        InvalidValue: the profile's data has too few classes for any of them.
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
