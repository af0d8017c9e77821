"""The results of a store for every cell of the paper, and the evidence that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.notes import CellNote, SearchNote
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.evidence import Candidate, Evidence, LearningCurve
from mdfa_core.studies.paper.failures import failed_tasks
from mdfa_core.studies.paper.measures import REPORTED, Measure, Quantity, RoleName, printed
from mdfa_core.studies.paper.origins import CODE_STATES, code_state
from mdfa_core.studies.paper.propositions import Verdict, judge
from mdfa_core.studies.paper.published import CELLS, TABLES, TASKS, Cell, SplitName
from mdfa_core.studies.paper.recipes import PROFILES
from mdfa_core.studies.paper.statistics import Scores

JUDGED = ("cifar100", "imagefolder")
"""The data sets on which propositions are judged; on other data sets, a profile only shows that everything runs."""


_SHARES: Mapping[Quantity, Callable[[Record], float | None]] = {
    "train_best": lambda record: record.reported_train_accuracy,
    "train_final": lambda record: _at(record, record.experiment.epochs, "train_accuracy"),
    "train_tested": lambda record: _at(record, record.best_validation_epoch, "train_accuracy"),
    "test": lambda record: record.test_accuracy,
    "validation_best": lambda record: record.best_validation_accuracy,
    "validation_final": lambda record: _at(record, record.experiment.epochs, "validation_accuracy"),
}


def _at(record: Record, epoch: int | None, name: str) -> float | None:
    """A value of the learning curve after an epoch, if the curve has it."""
    point = next((point for point in reversed(record.curve) if point.epoch == epoch), None)
    value: float | None = getattr(point, name, None)
    return value


def task_of(record: Record) -> int:
    """The task of a run."""
    return record.experiment.effective_task_seed


@dataclass(frozen=True, kw_only=True)
class Role:
    """One configuration of a cell with its runs: one per task and draw, possibly none."""

    name: RoleName = "chosen"
    settings: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    """In the order of their tasks, then of their seeds."""

    def scores(self, quantity: Quantity) -> Scores | None:
        """Accuracies in percent, by task; None: not run, or not recorded.

        A task's accuracy is the mean over its seeds. Tasks without an accuracy are left out: their run diverged in its
        first epoch, is sealed (`test`), or has no such epoch in its learning curve.
        """
        share = _SHARES[quantity]
        tasks: dict[int, list[float]] = {}
        for record in self.records:
            if (value := share(record)) is not None:
                tasks.setdefault(task_of(record), []).append(100 * value)
        return Scores.of(tasks) if tasks else None

    @property
    def tasks(self) -> tuple[int, ...]:
        """The tasks that it was run on."""
        return tuple(dict.fromkeys(map(task_of, self.records)))


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A cell of the paper with this project's runs; without a chosen configuration's runs it was not run."""

    cell: Cell
    chosen: Role = Role()
    """The settings chosen on validation. Only their runs were evaluated on test images."""
    fit: Role | None = None
    """The settings that fitted the training images best in the search, trained as long; their runs are sealed. None if
    the chosen settings fitted all images of every task."""
    profile: str | None = None
    """The profile of the runs, such as `quick`; None if there are no runs."""
    tuned_for: Cell | None = None
    """The cell whose search chose the settings."""
    besides: tuple[Mapping[str, Any], ...] = ()
    """Other runs in the store that evaluated the cell's test images, as flat rows: runs with the same network, and runs
    in the cell's note."""
    search: SearchNote | None = None
    """The search that chose the settings, if it was a search for this cell and the store has it.

    It is the search that the cell's note names. If the settings came with the package, it is the first search for this
    cell on the same data and net.
    """

    @property
    def run(self) -> bool:
        """Whether the cell was run."""
        return bool(self.chosen.records)

    @property
    def best_fit(self) -> Role:
        """The configuration with the highest training accuracy in the mean over tasks: `fit`, or the chosen one.

        It is the chosen one if `fit` is missing, covers fewer tasks or is not better. This is section 4's "highest
        achieved accuracy on the training set".
        """
        ours, theirs = (role and role.scores("train_best") for role in (self.chosen, self.fit))
        if ours and theirs and len(theirs.tasks) >= len(ours.tasks) and theirs.mean > ours.mean:
            assert self.fit is not None
            return self.fit
        return replace(self.chosen, name="best fit")

    @property
    def roles(self) -> tuple[Role, Role]:
        """Best fit and chosen."""
        return self.best_fit, self.chosen

    def scores(self, measure: Measure) -> Scores | None:
        """The accuracies of one of its roles, in percent; None: not run, or not recorded."""
        return (self.chosen if measure.role == "chosen" else self.best_fit).scores(measure.quantity)

    def difference(self, split: SplitName) -> float | None:
        """Mean here − mean in the paper, in points; None: not run."""
        scores = self.scores(printed(split))
        return None if scores is None else scores.mean - self.cell.published[split].mean

    @property
    def comparable(self) -> CellResult:
        """This result with the paper's tasks only, seeds 0 to 4, one run each: as many as are behind its figures."""

        def first(role: Role) -> Role:
            kept = (r for r in role.records if task_of(r) == r.experiment.seed and task_of(r) in range(TASKS))
            return replace(role, records=tuple(kept))

        return replace(self, chosen=first(self.chosen), fit=None if self.fit is None else first(self.fit))

    @property
    def borrowed(self) -> Cell | None:
        """The cell whose settings the runs used, if it is another cell; if so, this cell was not tuned."""
        return None if self.tuned_for == self.cell else self.tuned_for

    @property
    def failed(self) -> tuple[int, ...]:
        """The tasks on which borrowed settings failed: training of the chosen configuration ended at chance.

        Such a figure shows that these settings do not work in this cell. It says nothing about the method.
        """
        return () if self.borrowed is None else failed_tasks(self.chosen.records)

    @property
    def code(self) -> str:
        """The worst `origins.code_state` of its runs; empty if the cell was not run."""
        runs = (*self.chosen.records, *(() if self.fit is None else self.fit.records))
        return max((code_state(run.provenance.commit) for run in runs), key=CODE_STATES.index, default="")

    @property
    def data(self) -> str | None:
        """The data set of the runs, with the image size if it can be chosen."""
        names = {
            record.experiment.data
            + (f" at {size}×{size} pixels" if (size := record.experiment.image_size) is not None else "")
            for record in self.chosen.records
        }
        return ", ".join(sorted(names)) or None

    @property
    def toy(self) -> bool:
        """Whether it was run on a data set that is not in `JUDGED`, so that no proposition is judged on it."""
        return any(record.experiment.data not in JUDGED for record in self.chosen.records)


def results(store: Store, *profiles: str, whole: bool = False) -> tuple[CellResult, ...]:
    """All cells of the paper in its order, each with the runs that the store's notes name.

    Args:
        store: has runs and notes.
        profiles: take each cell from the first of these profiles that has it. A changed profile is named with its
            changes, as `quick@epochs=20`. A plain name means the unchanged profile and, for cells that it lacks, its
            changed variants. Optional if the store has cells of one profile only.
        whole: only cells with the runs of all of the profile's tasks and without changes to the profile, except for
            further tasks and draws. Of several such notes, the one with the most runs counts, under the profile's name.

    Raises:
        InvalidValue: the store has cells of several profiles, and `profiles` is empty.
        UnknownName: there is no such profile, or a note is about an unknown cell.
    """
    notes: dict[str, dict[Cell, CellNote]] = {}
    for name, note in store.notes(CellNote).items():
        cell = CELLS[Cell(**note.cell).name]
        notes.setdefault(_profile(name, cell), {})[cell] = note
    if not profiles and len(notes) > 1:
        raise InvalidValue(f"the store {store.path} has cells of {', '.join(notes)}: name the profiles to report on")
    searches, opened = _searches(store), [row for row in store.rows() if not row["sealed"]]
    found = []
    for cell in CELLS.values():
        of_cell = (
            _result(store, cell, name, notes[name][cell], searches, opened)
            for profile in profiles or notes
            for name in (_extended(profile, cell, notes) if whole else _variants(profile, notes))
            if cell in notes[name]
        )
        kept = (_plain(one) if whole else one for one in of_cell if not whole or _complete(one))
        found.append(next(kept, CellResult(cell=cell)))
    return tuple(found)


def _extended(profile: str, cell: Cell, notes: Mapping[str, Mapping[Cell, CellNote]]) -> list[str]:
    """The profile and its variants with other tasks and draws and no other change, by their number of runs."""
    PROFILES[profile]
    parts = {name: name.partition("@")[2].split(";") for name in notes if name.partition("@")[0] == profile}
    alike = [
        name
        for name, changed in parts.items()
        if all(not part or part.startswith(("seeds=", "draws=")) for part in changed)
    ]
    there = [name for name in alike if cell in notes[name]]
    return sorted(there, key=lambda name: -len(notes[name][cell].chosen.keys))


def _complete(result: CellResult) -> bool:
    """Whether all of the profile's tasks were run with their own seeds."""
    tasks = PROFILES[_plain(result).profile or ""].tasks
    own = {task_of(record) for record in result.chosen.records if task_of(record) == record.experiment.seed}
    return own.issuperset(range(tasks))


def _plain(result: CellResult) -> CellResult:
    """The result under the profile's own name."""
    return replace(result, profile=(result.profile or "").partition("@")[0])


def _result(
    store: Store,
    cell: Cell,
    profile: str,
    note: CellNote,
    searches: Mapping[Cell, Sequence[SearchNote]],
    opened: Sequence[Mapping[str, Any]],
) -> CellResult:
    runs, fitted = (
        [record for key in keys if (record := store.named(key)) is not None]
        for keys in (note.chosen.keys, () if note.fit is None else note.fit.keys)
    )
    source = CELLS[note.tuned_for]
    kind = _kind(runs[0].experiment.to_dict()) if runs else None
    before = {key for selection in note.opened_before or () for key in selection.keys}
    looked = [row for row in opened if _kind(row) == kind or row["key"] in before]
    return CellResult(
        cell=cell,
        chosen=Role(settings=note.chosen.settings, records=_ordered(runs)),
        fit=None if note.fit is None else Role(name="best fit", settings=note.fit.settings, records=_ordered(fitted)),
        profile=profile,
        tuned_for=source,
        besides=tuple(
            sorted(
                (row for row in looked if row["key"] not in note.chosen.keys),
                key=lambda row: (row["seed"], row["key"]),  # not as they came into the store
            )
        ),
        search=_search(note.search, runs, searches.get(cell, ())) if source == cell else None,
    )


def _ordered(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(sorted(records, key=lambda record: (task_of(record), record.experiment.seed)))


def _search(name: str | None, runs: Sequence[Record], searches: Iterable[SearchNote]) -> SearchNote | None:
    """The search that a cell's note names or, if the settings came with the package, the first search that is alike."""
    if name is not None:
        return next((search for search in searches if search.name == name), None)
    return next((search for search in searches if runs and _alike(search, runs[0])), None)


def _alike(search: SearchNote, record: Record) -> bool:
    """Whether a search was on the data and network of a run."""
    run = record.experiment.to_dict()
    return all(search.base[name] == run[name] for name in ("data", "image_size", "network"))


def _kind(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """The settings by which a run belongs to a cell, whatever its tuned settings and epochs."""
    return tuple(settings[name] for name in ("data", "network", "outputs", "method", "activation"))


def _variants(profile: str, known: Iterable[str]) -> list[str]:
    """The profiles in a store that a name stands for."""
    plain, changed, _ = profile.partition("@")
    PROFILES[plain]
    return [one for one in sorted(known) if one == profile or (not changed and one.startswith(f"{plain}@"))]


def _profile(name: str, cell: Cell) -> str:
    """The profile in a note's name, with its changes: `quick/table-1/…@epochs=5` gives `quick@epochs=5`."""
    return name.replace(f"/{cell.name}", "", 1)


def _searches(store: Store) -> dict[Cell, list[SearchNote]]:
    """The store's searches by the cell they were for; those of unchanged profiles come first."""
    found: dict[Cell, list[SearchNote]] = {}
    for name, search in sorted(store.notes(SearchNote).items(), key=lambda item: ("@" in item[0], item[0])):
        found.setdefault(CELLS[name.partition("/")[2].partition("@")[0]], []).append(search)
    return found


def of_table(found: Iterable[CellResult], number: int) -> list[CellResult]:
    """The results of one table."""
    return [result for result in found if result.cell.table == number]


def compared(found: Iterable[CellResult]) -> list[list[CellResult]]:
    """Groups of results that differ in the method only: equal table, network, activation and number of classes."""
    groups: dict[Cell, list[CellResult]] = {}
    for result in found:
        groups.setdefault(replace(result.cell, method=""), []).append(result)
    return list(groups.values())


def evidence(found: Iterable[CellResult]) -> Evidence:
    """The evidence for propositions from these results; toy data and borrowed settings that failed do not count."""
    scores, curves, agreement, searches, borrowed, failed = {}, {}, {}, {}, {}, set()
    for result in found:
        if result.toy or not result.run:
            continue
        cell, records = result.cell, result.chosen.records
        if result.failed:
            failed.add(cell)
        else:
            for measure in REPORTED:
                if (known := result.scores(measure)) is not None:
                    scores[cell, measure] = known
            curves[cell] = {task_of(record): _curve(record) for record in reversed(records) if record.curve}
        units = tuple(p.unit for record in records for p in record.probes if p.unit is not None)
        if units:
            agreement[cell] = units
        if result.search is not None:
            searches[cell] = _candidates(result.search)
        if result.borrowed is not None:
            borrowed[cell] = result.borrowed
    return Evidence(
        scores=scores,
        curves=curves,
        agreement=agreement,
        searches=searches,
        borrowed=borrowed,
        failed=frozenset(failed),
    )


def verdicts(found: Iterable[CellResult]) -> tuple[Verdict, ...]:
    """All propositions of the paper with their graded cells, on these results.

    Every `Verdict` has a `proposition`, a `tally` (`headline`, `symbols`, `words`), the same by `groups`, and `cells`:
    one `Graded` per cell and contrast with `grade`, `symbol`, `words`, `effect`, `interval` (Student's t, corrected by
    Holm's procedure), `plain` (95 %), `ahead` of `tasks`, `borrowed`, and `case` (`where`, `what`, `measure`, `group`,
    `threshold`, `unit`, `paper`). Results on toy data count as not run.
    """
    return judge(evidence(found))


def elsewhere(found: Iterable[CellResult]) -> dict[int, str]:
    """The data sets of tables, by number, that were not run on the paper's own data."""
    used: dict[int, set[str]] = {}
    for result in found:
        if result.data is not None and not _same_data(result):
            used.setdefault(result.cell.table, set()).add(result.data)
    return {number: ", ".join(sorted(names)) for number, names in sorted(used.items())}


def _same_data(result: CellResult) -> bool:
    if TABLES[result.cell.table].data == "CIFAR-100":
        return all(record.experiment.data == "cifar100" for record in result.chosen.records)
    return all(
        record.experiment.data == "imagefolder" and record.experiment.image_size in (None, 224)
        for record in result.chosen.records
    )


def _candidates(search: SearchNote) -> tuple[Candidate, ...]:
    """The trials of a search with all their settings, including those that they have in common."""
    return tuple(
        Candidate(
            settings={**search.base, **trial.settings},
            rung=trial.rung,
            validation=100 * trial.validation,
        )
        for trial in search.trials
    )


def _curve(record: Record) -> LearningCurve:
    return LearningCurve(
        train=tuple(100 * point.train_accuracy for point in record.curve),
        validation=tuple(
            None if point.validation_accuracy is None else 100 * point.validation_accuracy for point in record.curve
        ),
    )
