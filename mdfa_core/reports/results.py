"""What a store holds for every cell of the paper, and that as evidence for claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mdfa_core.errors import InvalidValue
from mdfa_core.paper.evidence import Curve, Evidence, Trial
from mdfa_core.paper.published import CELLS, TABLES, Cell, Split
from mdfa_core.paper.recipes import PROFILES
from mdfa_core.paper.statistics import Scores
from mdfa_core.records import Record
from mdfa_core.store import Store

CELL = "cell"
"""The kind of note that says which runs a finished cell is made of."""

STUDY = "study"
"""The kind of note that holds a search."""

JUDGED = ("cifar100", "imagefolder")
"""The data sets that say something about the paper; on others a profile only shows that everything runs."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search as `tuning.Search.document` wrote it down."""

    name: str
    document: Mapping[str, Any]

    @property
    def chosen(self) -> Mapping[str, Any]:
        """The settings that won."""
        return dict(self.document["chosen"])

    @property
    def trials(self) -> list[Mapping[str, Any]]:
        """Every candidate in every round: settings, rung, validation and train (shares), diverged (tasks)."""
        return list(self.document["trials"])

    @property
    def rungs(self) -> list[Mapping[str, Any]]:
        """The rounds: candidates (None: all), epochs, tasks."""
        return list(self.document["rungs"])

    @property
    def candidates(self) -> int:
        """How many configurations were tried: those of the first round, which may be fewer than were listed."""
        return sum(trial["rung"] == 0 for trial in self.trials)

    @property
    def epochs(self) -> int:
        """Epochs trained, over all candidates and tasks."""
        return int(self.document["epochs trained"])

    @property
    def seconds(self) -> float:
        """Time of its runs."""
        return float(self.document["seconds"])

    @property
    def outcomes(self) -> tuple[Trial, ...]:
        """Its trials as claims are judged on: settings the candidates have in common included."""
        base = self.document["base"]
        return tuple(
            Trial(
                settings={**base, **trial["settings"]},
                rung=int(trial["rung"]),
                validation=100 * trial["validation"],
            )
            for trial in self.trials
        )

    def like(self, record: Record) -> bool:
        """Whether it was a search on the data and net of a run."""
        base, run = self.document["base"], record.experiment.to_dict()
        return all(base[name] == run[name] for name in ("data", "image_size", "network"))


@dataclass(frozen=True, kw_only=True)
class Result:
    """A cell of the paper with this project's runs of it: one a task, maybe fewer than five, maybe none."""

    cell: Cell
    records: tuple[Record, ...] = ()
    """In the order of their tasks."""
    profile: str | None = None
    """What the runs were made as, such as `quick`; None where there are none."""
    fitted: tuple[Record, ...] = ()
    """Runs of the configuration that fitted the training images best, never tested; none where `records` did that."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen for `records`."""
    fit_settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of `fitted`."""
    tuned_for: Cell | None = None
    """The cell whose search chose the settings."""
    besides: tuple[Mapping[str, Any], ...] = ()
    """The store's other runs that looked at the cell's test images, as flat rows: of the same net, or noted as such."""
    study: Study | None = None
    """The search that chose the settings, if they are the cell's own and the store has it.

    The one that the cell's note names or, where settings came with the package, the first on the same data and net.
    """

    @property
    def borrowed(self) -> Cell | None:
        """The cell whose settings the runs were made with, where that is another one: this one was not tuned."""
        return None if self.tuned_for == self.cell else self.tuned_for

    def scores(self, split: Split) -> Scores | None:
        """Accuracies in percent: the highest on training, by the paper's rules on held-out images; None: not run.

        Training is that of the best fit where this was run on as many tasks and is better than the configuration chosen
        on validation (section 4: "the highest achieved accuracy on the training set").

        A task without such an accuracy (diverged in its first epoch, or its test images never opened) is left out.
        """
        if split != "train":
            return _scores(self.records, lambda record: record.test_accuracy)
        chosen, fit = (
            _scores(records, lambda record: record.best_train_accuracy) for records in (self.records, self.fitted)
        )
        if chosen is None or fit is None or len(fit.tasks) < len(chosen.tasks):
            return chosen
        return max(chosen, fit, key=lambda scores: scores.mean)

    def difference(self, split: Split) -> float | None:
        """Mean here − mean in the paper, in points; None: not run."""
        scores = self.scores(split)
        return None if scores is None else scores.mean - self.cell.published[split].mean

    @property
    def data(self) -> str | None:
        """The data set the runs were made on, with the size of its images where that is chosen."""
        names = {
            record.experiment.data
            + (f" at {size}×{size} pixels" if (size := record.experiment.image_size) is not None else "")
            for record in self.records
        }
        return ", ".join(sorted(names)) or None

    @property
    def toy(self) -> bool:
        """Whether it was run on data that says nothing about the paper: no claim is judged on it."""
        return any(record.experiment.data not in JUDGED for record in self.records)


def _scores(records: Iterable[Record], accuracy: Callable[[Record], float | None]) -> Scores | None:
    shares = {record.experiment.task: accuracy(record) for record in records}
    tasks = {task: 100 * share for task, share in shares.items() if share is not None}
    return Scores.of(tasks) if tasks else None


def results(store: Store, *profiles: str, whole: bool = False) -> tuple[Result, ...]:
    """All cells of the paper in its order, each with the runs that the store's notes name for it.

    Args:
        store: where runs and notes are.
        profiles: whose cells; the first that has a cell gives it. One that was changed is named with its changes, as
            `quick@epochs=20`; the plain name stands for the unchanged profile and, where that lacks a cell, for its
            changed ones. May be left out where the store has cells of one only.
        whole: only cells as their profile describes them: nothing was changed, and the store has the run of every task.

    Raises:
        InvalidValue: the store has cells of several profiles, and none is named.
        UnknownName: there is no such profile, or a note is about no cell of the paper.
    """
    notes: dict[str, dict[Cell, dict[str, Any]]] = {}
    for name, note in store.notes(CELL).items():
        cell = CELLS[Cell(**note["cell"]).name]
        notes.setdefault(_profile(name, cell), {})[cell] = note
    if not profiles and len(notes) > 1:
        raise InvalidValue(f"the store {store.path} has cells of {', '.join(notes)}: name the profiles to report on")
    chosen = [one for profile in profiles or notes for one in _variants(profile, notes) if not whole or one in PROFILES]
    studies, opened = _studies(store), [row for row in store.rows() if not row["sealed"]]
    found = []
    for cell in CELLS.values():
        of_cell = (_result(store, cell, one, notes[one][cell], studies, opened) for one in chosen if cell in notes[one])
        kept = (one for one in of_cell if not whole or len(one.records) == PROFILES[one.profile or ""].tasks)
        found.append(next(kept, Result(cell=cell)))
    return tuple(found)


def _result(
    store: Store,
    cell: Cell,
    profile: str,
    note: Mapping[str, Any],
    studies: Mapping[Cell, Sequence[Study]],
    opened: Sequence[Mapping[str, Any]],
) -> Result:
    runs, fitted = (
        [record for key in keys if (record := store.named(key)) is not None]
        for keys in (note["keys"], (note.get("fit") or {"keys": ()})["keys"])
    )
    source = CELLS[note["tuned for"]]
    kind = _kind(runs[0].experiment.to_dict()) if runs else None
    before = {key for one in note.get("opened before", ()) for key in one["keys"]}
    looked = [row for row in opened if _kind(row) == kind or row["key"] in before]
    return Result(
        cell=cell,
        records=tuple(sorted(runs, key=lambda record: record.experiment.task)),
        fitted=tuple(sorted(fitted, key=lambda record: record.experiment.task)),
        profile=profile,
        settings=dict(note["settings"]),
        fit_settings=dict((note.get("fit") or {"settings": {}})["settings"]),
        tuned_for=source,
        besides=tuple(row for row in looked if row["key"] not in note["keys"]),
        study=_study(note["study"], runs, studies.get(cell, ())) if source == cell else None,
    )


def _study(name: str | None, runs: Sequence[Record], studies: Iterable[Study]) -> Study | None:
    """The search that a cell's note names; of one that names none the first of a cell like it.

    Settings that come with the package were chosen by a search that the note cannot name.
    """
    if name is not None:
        return next((one for one in studies if one.name == name), None)
    return next((one for one in studies if runs and one.like(runs[0])), None)


def _kind(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a run one of a cell, however it was tuned and for however long it was trained."""
    return tuple(settings[name] for name in ("data", "network", "outputs", "method", "activation"))


def _variants(profile: str, known: Iterable[str]) -> list[str]:
    """The profiles of a store that a name stands for."""
    plain, changed, _ = profile.partition("@")
    PROFILES[plain]
    return [one for one in sorted(known) if one == profile or (not changed and one.startswith(f"{plain}@"))]


def _profile(name: str, cell: Cell) -> str:
    """The profile in a note's name, with what was changed in it: `quick/table-1/…@epochs=5` is `quick@epochs=5`."""
    return name.replace(f"/{cell.name}", "", 1)


def _studies(store: Store) -> dict[Cell, list[Study]]:
    """The store's searches by the cell they were for; those of unchanged profiles first."""
    found: dict[Cell, list[Study]] = {}
    for name, document in sorted(store.notes(STUDY).items(), key=lambda item: ("@" in item[0], item[0])):
        cell = CELLS[name.partition("/")[2].partition("@")[0]]
        found.setdefault(cell, []).append(Study(name=name, document=document))
    return found


def of_table(found: Iterable[Result], number: int) -> list[Result]:
    """The results of one table."""
    return [result for result in found if result.cell.table == number]


def compared(found: Iterable[Result]) -> list[list[Result]]:
    """Results by what methods are compared at: table, network, activation, number of classes."""
    groups: dict[Cell, list[Result]] = {}
    for result in found:
        groups.setdefault(replace(result.cell, method=""), []).append(result)
    return list(groups.values())


def evidence(found: Iterable[Result]) -> Evidence:
    """What claims are judged on, from these results; those of toy data count as not run."""
    scores, curves, agreement, searches, borrowed = {}, {}, {}, {}, {}
    for result in found:
        if result.toy:
            continue
        cell = result.cell
        for split in cell.splits:
            if (known := result.scores(split)) is not None:
                scores[cell, split] = known
        if result.records:
            curves[cell] = {record.experiment.task: _curve(record) for record in result.records if record.curve}
        units = tuple(p.unit for record in result.records for p in record.probes if p.unit is not None)
        if units:
            agreement[cell] = units
        if result.study is not None:
            searches[cell] = result.study.outcomes
        if result.borrowed is not None:
            borrowed[cell] = result.borrowed
    return Evidence(scores=scores, curves=curves, agreement=agreement, searches=searches, borrowed=borrowed)


def elsewhere(found: Iterable[Result]) -> dict[int, str]:
    """What tables were run on, by number, where that is not the paper's own data; from it no figure carries over."""
    used: dict[int, set[str]] = {}
    for result in found:
        if result.data is not None and not _same_data(result):
            used.setdefault(result.cell.table, set()).add(result.data)
    return {number: ", ".join(sorted(names)) for number, names in sorted(used.items())}


def _same_data(result: Result) -> bool:
    if TABLES[result.cell.table].data == "CIFAR-100":
        return all(record.experiment.data == "cifar100" for record in result.records)
    return all(
        record.experiment.data == "imagefolder" and record.experiment.image_size in (None, 224)
        for record in result.records
    )


def _curve(record: Record) -> Curve:
    return Curve(
        train=tuple(100 * point.train_accuracy for point in record.curve),
        validation=tuple(
            None if point.validation_accuracy is None else 100 * point.validation_accuracy for point in record.curve
        ),
    )
