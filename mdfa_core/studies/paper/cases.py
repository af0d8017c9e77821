"""Cases: one question about one cell of the paper, and the value that answers it, task by task.

A case claims that an effect is above a threshold. Accuracies are in percent and their differences in points, paired by
task. Of the paper's own figures only means are known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import stdev

from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.studies.paper.evidence import Candidate, Evidence, LearningCurve
from mdfa_core.studies.paper.measures import TESTED, TRAINED, Measure, column
from mdfa_core.studies.paper.published import TASKS, Cell
from mdfa_core.studies.paper.statistics import Contrast, Interval, contrast
from mdfa_core.studies.paper.words import place, title

MARGIN = 2.0
"""Points by which one accuracy may be below another and still match it: 4 of the 200 test images of a binary task."""

FITTED = 99.5
"""Training accuracy above which the training error counts as zero: the paper calls 99.9 zero, and prints one digit."""

CEILING = 99.9
"""Two accuracies of at least this are a tie: neither network can be shown to be ahead."""

FIRST_EPOCHS = 5
"""Number of epochs that count as "the first few training epochs"."""

FIRST_SHARE = 80.0
"""Percent of the way from chance to the best validation accuracy that counts as decent after these epochs."""

ROUNDING = 1e-9
"""Points; smaller differences are rounding errors of binary fractions."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answer to a case.

    Attributes:
        effect: its mean and its values by task; without tasks if there is only one value per cell.
        tie: whether both sides are at the ceiling, or equal in every task.
        exact: whether the effect is a fact about the runs, such as the lowest of all measurements, so that it has no
            interval and is decided as it is.
    """

    effect: Contrast
    tie: bool = False
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """One question about one cell.

    Attributes:
        cell: the cell that the question is about.
        group: the part of its proposition that it belongs to.
        threshold: the case claims that the effect is above it.
        unit: of the effect.
        level: whether the effect is a level, such as an accuracy, and no difference; a level is printed without a sign.
    """

    cell: Cell
    group: str
    threshold: float = 0.0
    unit: str = "points"
    level: bool = False

    @property
    def claimed(self) -> str:
        """What the case claims of the effect, in words."""
        return f"above {self.threshold:g}"

    def number(self, value: float) -> str:
        """A value of the effect with one digit, and with a sign unless it is a level."""
        value = round(value, 1) + 0.0  # no -0.0
        return f"{value:.1f}" if self.level else f"{value:+.1f}"

    def bounds(self, interval: Interval) -> str:
        """An interval of the effect."""
        return f"[{self.number(interval.low)}, {self.number(interval.high)}]"

    @property
    @abstractmethod
    def what(self) -> str:
        """The effect in words, such as `mDFA − DFA`."""

    @property
    def measure(self) -> Measure | None:
        """The accuracy that it rests on; None: it rests on something else."""
        return None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells that it needs."""
        return (self.cell,)

    @abstractmethod
    def find(self, evidence: Evidence) -> Found | str:
        """The answer, or why there is none."""

    @property
    def paper(self) -> float | None:
        """The effect in the paper's own figures; None: they do not have it."""
        return None

    @property
    def where(self) -> str:
        """Table, network, activation and number of classes."""
        return place(self.cell)


Term = tuple[float, Cell]


@dataclass(frozen=True, kw_only=True)
class Accuracy(Case):
    """Σ factor · accuracy + constant, over cells and paired by task.

    Attributes:
        of: the accuracy.
        terms: factors and cells.
        constant: in points.
        words: the effect in words.
    """

    of: Measure
    terms: tuple[Term, ...]
    constant: float = 0.0
    words: str

    @property
    def what(self) -> str:
        return self.words

    @property
    def measure(self) -> Measure:
        return self.of

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(dict.fromkeys(cell for _, cell in self.terms))

    def find(self, evidence: Evidence) -> Found | str:
        scores = [evidence.scores.get((cell, self.of)) for _, cell in self.terms]
        known = [one for one in scores if one is not None]
        if len(known) < len(scores):
            return "not run"
        if len(set.intersection(*(set(one.tasks) for one in known))) < TASKS:
            return f"run on fewer than {TASKS} common tasks"
        found = contrast(*((factor, one) for (factor, _), one in zip(self.terms, known, strict=True)))
        effect = Contrast.of({task: value + self.constant for task, value in found.tasks.items()})
        difference = len(known) == 2 and self.threshold == self.constant == 0
        return Found(
            effect=effect,
            tie=difference
            and (
                all(one.mean >= CEILING for one in known)
                or all(abs(value) <= ROUNDING for value in effect.tasks.values())
            ),
        )

    @property
    def paper(self) -> float | None:
        figures = [(factor, cell, column(self.of, cell)) for factor, cell in self.terms]
        if any(split is None for _, _, split in figures):
            return None
        return self.constant + sum(f * cell.published[split].mean for f, cell, split in figures if split is not None)


def difference(a: Cell, b: Cell, of: Measure, group: str, *, margin: float = 0.0) -> Accuracy:
    """The case that a is more accurate than b or, with a margin, at most so many points less accurate."""
    names = [title(a), title(b)]
    if a.activation != b.activation:
        names = [f"{title(cell)} {ACTIVATIONS[cell.activation].title}" for cell in (a, b)]
    about = next((cell for cell in (a, b) if cell.method == "mdfa"), b if a.method == "bp" else a)
    return Accuracy(
        cell=about,
        group=group,
        of=of,
        terms=((1, a), (-1, b)),
        threshold=0.0 - margin,
        words=f"{names[0]} − {names[1]}",
    )


def level(cell: Cell, of: Measure, least: float, group: str) -> Accuracy:
    """The case that an accuracy is above a value."""
    return Accuracy(
        cell=cell, group=group, of=of, terms=((1, cell),), threshold=least, words=title(cell), unit="%", level=True
    )


def half_of_bp(cell: Cell, group: str) -> Accuracy:
    """The case that held-out accuracy is at least half as far above chance as that of BP."""
    bp, chance = replace(cell, method="bp"), 100 / cell.classes
    words = f"{title(cell)} − (chance + ½ BP's gain)"
    return Accuracy(cell=cell, group=group, of=TESTED, terms=((1, cell), (-0.5, bp)), constant=-chance / 2, words=words)


def loses_more(cells: Sequence[Cell], than: Sequence[Cell], group: str) -> Accuracy:
    """The case that `cells` lose more training accuracy than `than`, from fewest to most classes."""
    first, last = cells[0], cells[-1]
    return Accuracy(
        cell=last,
        group=group,
        of=TRAINED,
        terms=((1, first), (-1, last), (-1, than[0]), (1, than[-1])),
        words=f"loss of {title(first)} − loss of {title(than[0])}, {first.classes} to {last.classes} classes",
    )


# --------------------------------------------------------------------------------------------------------------- signs


@dataclass(frozen=True, kw_only=True)
class Signs(Case):
    """Share of measurements at which every unit error signal has the true sign, or some has not; per 100."""

    right: bool
    unit: str = "% of measurements"
    level: bool = True

    @property
    def claimed(self) -> str:
        return "all"

    @property
    def what(self) -> str:
        return "all signs right" if self.right else "some sign wrong"

    def find(self, evidence: Evidence) -> Found | str:
        values = evidence.agreement.get(self.cell)
        if not values:
            return "no run measured sign agreement"
        kept = {n: 100.0 * ((value == 1) == self.right) for n, value in enumerate(values)}
        return Found(effect=Contrast.of(kept), exact=True)


# -------------------------------------------------------------------------------------------------------------- curves


@dataclass(frozen=True, kw_only=True)
class Start(Case):
    """Percent of the way from chance to the best validation accuracy after `FIRST_EPOCHS` epochs."""

    threshold: float = FIRST_SHARE
    unit: str = "% of the way"
    level: bool = True

    @property
    def what(self) -> str:
        return f"{title(self.cell)} after {FIRST_EPOCHS} epochs"

    def find(self, evidence: Evidence) -> Found | str:
        curves = _curves(evidence, self.cell)
        if isinstance(curves, str):
            return curves
        chance, shares = 100 / self.cell.classes, {}
        for task, curve in curves.items():
            values = [value for value in curve.validation if value is not None]
            if len(values) <= FIRST_EPOCHS:
                return f"trained for {FIRST_EPOCHS} epochs or fewer"
            best = max(values) - chance
            shares[task] = 100 * (max(values[:FIRST_EPOCHS]) - chance) / best if best > 0 else 0.0
        return Found(effect=Contrast.of(shares))


@dataclass(frozen=True, kw_only=True)
class Later(Case):
    """Epochs by which training accuracy comes within 1 point of its best later than that of another method."""

    than: Cell
    unit: str = "epochs"

    @property
    def what(self) -> str:
        return f"{title(self.cell)} − {title(self.than)}"

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.cell, self.than

    def find(self, evidence: Evidence) -> Found | str:
        slow, fast = (_curves(evidence, cell) for cell in self.cells)
        if isinstance(slow, str) or isinstance(fast, str):
            return slow if isinstance(slow, str) else str(fast)
        common = [task for task in slow if task in fast]
        if len(common) < TASKS:
            return f"run on fewer than {TASKS} common tasks"
        return Found(effect=Contrast.of({task: _converged(slow[task]) - _converged(fast[task]) for task in common}))


def _converged(curve: LearningCurve) -> int:
    best = max(curve.train)
    return next(epoch for epoch, value in enumerate(curve.train, start=1) if value >= best - 1)


def _curves(evidence: Evidence, cell: Cell) -> Mapping[int, LearningCurve] | str:
    curves = evidence.curves.get(cell, {})
    if not curves:
        return "not run"
    return curves if len(curves) >= TASKS else f"run on fewer than {TASKS} tasks"


# ------------------------------------------------------------------------------------------------------------ searches


@dataclass(frozen=True, kw_only=True)
class Searched(Case):
    """Validation accuracy of the best candidate with a setting − that of the best candidate without, in a first round.

    The first round has all candidates, trained equally long on the same task; later rounds train selected ones, longer.

    Attributes:
        setting: its name.
        value: its beginning.
        worse: whether the claim is the reverse, that the others are better.
    """

    setting: str
    value: str
    worse: bool = False

    @property
    def what(self) -> str:
        return f"{title(self.cell)}: " + (f"other − {self.value}" if self.worse else f"{self.value} − other")

    def find(self, evidence: Evidence) -> Found | str:
        trials = _first_round(evidence, self.cell)
        if not trials:
            return "no search is stored"
        groups: dict[bool, list[float]] = {True: [], False: []}
        for trial in trials:
            groups[str(trial.settings[self.setting]).startswith(self.value)].append(trial.validation)
        if not all(groups.values()):
            return f"the search did not compare {self.value} with others"
        ours, others = (max(groups[kind]) for kind in (True, False))
        return _single((others - ours) if self.worse else (ours - others), self.threshold)


@dataclass(frozen=True, kw_only=True)
class Sensitive(Case):
    """Standard deviation of validation accuracies over a first round's candidates − the same for another method.

    An accuracy below chance counts as chance.
    """

    than: Cell

    @property
    def what(self) -> str:
        return f"spread of {title(self.cell)} − spread of {title(self.than)}"

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.cell, self.than

    def find(self, evidence: Evidence) -> Found | str:
        spreads = []
        for cell in self.cells:
            values = [max(trial.validation, 100 / cell.classes) for trial in _first_round(evidence, cell)]
            if len(values) < 2:
                return "no search is stored"
            spreads.append(stdev(values))
        return _single(spreads[0] - spreads[1], self.threshold)


def _single(value: float, threshold: float) -> Found:
    """One value per cell: it has a direction and no interval."""
    return Found(effect=Contrast(mean=value, tasks={}), tie=abs(value - threshold) <= ROUNDING)


def _first_round(evidence: Evidence, cell: Cell) -> list[Candidate]:
    return [trial for trial in evidence.searches.get(cell, ()) if trial.rung == 0]
