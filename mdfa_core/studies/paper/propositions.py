"""The paper's propositions: what its sentences say, as questions to cells of its tables, and a graded answer to each.

`judge` grades every case of every proposition on the results here. A case claims that an effect is above a threshold,
mostly 0. Its interval is Student's t interval over tasks, at a confidence that Holm's procedure sets within the
proposition (95 % for the proposition as a whole):

    ●  shown: the interval lies above the threshold
    ◐  direction agrees: the mean is above the threshold, the interval includes it
    =  tie: both accuracies are at least 99.9 %, or equal in every task
    ◔  direction disagrees: the mean is not above the threshold, the interval includes it
    ○  contradicted: the interval lies below the threshold
    –  not run: cells are missing, have fewer than five tasks in common, or borrowed settings that failed

A grade in brackets, such as (●), is of a cell that was run with the settings of another cell. Cases with one value per
cell have no interval and are never more than ◐ or ◔.

"Matches BP" means: at most `MARGIN` points below BP (non-inferiority). The threshold is −`MARGIN`, so ● needs the whole
interval above it. Being better than BP is no contradiction: the paper calls 83.0 against 76.2 a match.

The paper's "accuracy" means training and held-out accuracy: training accuracy of the best fit, held-out accuracy of the
chosen configuration (`measures`). Section 4.1 makes an exception of ReLU for mDFA, so cases of mDFA are on ReLU
networks only if the sentence mentions ReLU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from statistics import fmean
from types import MappingProxyType

from mdfa_core.base.registry import Registry
from mdfa_core.studies.paper.cases import (
    CEILING,
    FIRST_EPOCHS,
    FIRST_SHARE,
    FITTED,
    MARGIN,
    ROUNDING,
    Case,
    Found,
    Later,
    Searched,
    Sensitive,
    Signs,
    Start,
    difference,
    half_of_bp,
    level,
    loses_more,
)
from mdfa_core.studies.paper.evidence import Evidence
from mdfa_core.studies.paper.measures import TESTED, TRAINED
from mdfa_core.studies.paper.published import BINARY, MULTICLASS, Cell, cells
from mdfa_core.studies.paper.statistics import Contrast, Interval, holm

RIVALS = ("dfa", "fa")
FAMILY = ("dfa", "fa", "mdfa")


class Grade(Enum):
    """The answer to one case: a symbol, the same in words, and what it means."""

    SHOWN = ("●", "shown", "the interval lies above the threshold")
    AGREES = ("◐", "direction agrees", "the mean is above the threshold, the interval includes it")
    TIE = ("=", "tie", f"both accuracies are at least {CEILING:g} %, or equal in every task")
    DISAGREES = ("◔", "direction disagrees", "the mean is not above the threshold, the interval includes it")
    CONTRADICTED = ("○", "contradicted", "the interval lies below the threshold")
    NOT_RUN = (
        "–",
        "not run",
        "cells are missing, have fewer than five tasks in common, or borrowed settings that failed",
    )

    def __init__(self, symbol: str, words: str, meaning: str) -> None:
        self.symbol, self.words, self.meaning = symbol, words, meaning


@dataclass(frozen=True, kw_only=True)
class Graded:
    """A case with its grade.

    Attributes:
        case: the question.
        grade: the answer.
        effect: its mean; None: not run.
        interval: Student's t interval at `confidence`; None: not run, or one value per cell.
        confidence: after Holm's correction, for example 0.99.
        plain: the interval at 95 %, without the correction.
        ahead, tasks: the effect is above the threshold in so many of so many tasks (for signs: measurements).
        values: the effect by task; empty: not run, one value per cell, or a fact about the runs.
        borrowed: cells of the case that were run with the settings of another cell.
        reason: why the case was not run; otherwise empty.
    """

    case: Case
    grade: Grade
    effect: float | None = None
    interval: Interval | None = None
    confidence: float = 0.0
    plain: Interval | None = None
    ahead: int = 0
    tasks: int = 0
    values: Mapping[int, float] = field(default_factory=dict)
    borrowed: tuple[Cell, ...] = ()
    reason: str = ""

    @property
    def symbol(self) -> str:
        """The grade's symbol, in brackets if settings are borrowed."""
        return f"({self.grade.symbol})" if self.borrowed else self.grade.symbol

    @property
    def words(self) -> str:
        """The symbol in words, for screen readers and plain text."""
        return self.grade.words + (", settings borrowed" if self.borrowed else "")


@dataclass(frozen=True, kw_only=True)
class Proposition:
    """One statement of the paper.

    Attributes:
        says: the statement.
        rests_on: how its cases decide it, with roles and quantities, in words.
        cases: the questions to cells.
    """

    says: str
    rests_on: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Graded cases, counted."""

    counts: Mapping[Grade, int]
    """Every grade that occurs, from shown to not run."""
    borrowed: int
    """Number of measured cases with borrowed settings."""
    paper: int
    """Number of cases that agree with the claim in the paper's own figures."""
    printed: int
    """Number of cases that the paper's own figures have."""
    pooled: Contrast | None
    """The mean effect of the measured cases, task by task; None: their thresholds, units or tasks differ."""
    effect: str
    """The pooled effect with its grade, Student's 95 % interval and what is claimed; empty if there is none.

    It is one comparison, so it needs no correction and can show a small effect that no single case shows.
    """

    @classmethod
    def of(cls, graded: Iterable[Graded]) -> Tally:
        """The tally of some graded cases."""
        kept = tuple(graded)
        counts = Counter(one.grade for one in kept)
        printed = [(one.case.paper, one.case.threshold) for one in kept if one.case.paper is not None]
        pooled = _pooled(kept)
        return cls(
            counts=MappingProxyType({grade: counts[grade] for grade in Grade if counts[grade]}),
            borrowed=sum(bool(one.borrowed) for one in kept if one.grade is not Grade.NOT_RUN),
            paper=sum(effect > threshold + ROUNDING for effect, threshold in printed),
            printed=len(printed),
            pooled=pooled,
            effect="" if pooled is None else _effect(pooled, next(one.case for one in kept if one.values)),
        )

    @property
    def shown(self) -> int:
        """Number of cases that are shown."""
        return self.counts.get(Grade.SHOWN, 0)

    @property
    def measured(self) -> int:
        """Number of cases that were run."""
        return sum(number for grade, number in self.counts.items() if grade is not Grade.NOT_RUN)

    @property
    def headline(self) -> str:
        """For example `holds in 5 of 8 (direction agrees in 7)`; `not run` if no case was run."""
        if not self.measured:
            return "not run"
        agrees = self.shown + self.counts.get(Grade.AGREES, 0)
        return f"holds in {self.shown} of {self.measured}" + (
            f" (direction agrees in {agrees})" if agrees > self.shown else ""
        )

    @property
    def symbols(self) -> str:
        """The count of every grade, for example `● 5 · ◐ 2 · – 1`."""
        return " · ".join(f"{grade.symbol} {number}" for grade, number in self.counts.items())

    @property
    def words(self) -> str:
        """The same in words."""
        return ", ".join(f"{number} {grade.words}" for grade, number in self.counts.items())


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A proposition with its graded cases, in their order."""

    name: str
    proposition: Proposition
    cells: tuple[Graded, ...]

    @property
    def tally(self) -> Tally:
        """All its cases, counted."""
        return Tally.of(self.cells)

    @property
    def groups(self) -> Mapping[str, Tally]:
        """The same by its parts, such as `training, best fit`."""
        names = dict.fromkeys(one.case.group for one in self.cells)
        return {name: Tally.of(one for one in self.cells if one.case.group == name) for name in names}

    @property
    def parts(self) -> str:
        """The headline of every part, for example `best fit: 4 of 4 · chosen: 0 of 4`; empty if there is one part."""
        if len(self.groups) == 1:
            return ""
        return " · ".join(f"{name}: {tally.shown} of {tally.measured}" for name, tally in self.groups.items())


PROPOSITIONS: Registry[Proposition] = Registry("proposition")
"""All propositions, in the order in which reports show them."""


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """Every proposition with its graded cases.

    `reports.results.verdicts` does this for the results of a store.
    """
    return tuple(
        Verdict(name=name, proposition=proposition, cells=grade(proposition.cases, evidence))
        for name, proposition in PROPOSITIONS.items()
    )


def grade(cases: Iterable[Case], evidence: Evidence) -> tuple[Graded, ...]:
    """The graded cases of one proposition; Holm's correction is over those that have an interval and are no tie."""
    kept = tuple(cases)
    answers = {case: case.find(evidence) for case in kept}
    family = [
        case
        for case, found in answers.items()
        if isinstance(found, Found) and not found.tie and not found.exact and len(found.effect.tasks) > 1
    ]
    p_values = [found.effect.p(case.threshold) for case in family if isinstance(found := answers[case], Found)]
    confidence = dict(zip(family, holm(p_values), strict=True))
    return tuple(_graded(case, answers[case], confidence.get(case), evidence) for case in kept)


def _pooled(graded: Iterable[Graded]) -> Contrast | None:
    measured = [one for one in graded if one.values]
    common = set.intersection(*(set(one.values) for one in measured)) if measured else set()
    if len(common) < 2 or len({(one.case.threshold, one.case.unit) for one in measured}) > 1:
        return None
    return Contrast.of({task: fmean(one.values[task] for one in measured) for task in common})


def _effect(pooled: Contrast, case: Case) -> str:
    interval = pooled.interval()
    symbol = _grade(Found(effect=pooled), interval, case.threshold).symbol
    bounds = "" if interval is None else f" {case.bounds(interval)}"
    return f"{symbol} {case.number(pooled.mean)}{bounds} {case.unit}, claimed {case.claimed}"


def _graded(case: Case, found: Found | str, confidence: float | None, evidence: Evidence) -> Graded:
    if isinstance(found, str):
        reason = "the borrowed settings failed" if evidence.failed.intersection(case.cells) else found
        return Graded(case=case, grade=Grade.NOT_RUN, reason=reason)
    effect, interval = found.effect, None if confidence is None else found.effect.interval(confidence)
    return Graded(
        case=case,
        grade=_grade(found, interval, case.threshold),
        effect=effect.mean,
        interval=interval,
        confidence=confidence or 0.0,
        plain=None if found.exact else effect.interval(),
        ahead=effect.ahead(case.threshold + ROUNDING),
        tasks=len(effect.tasks),
        values=MappingProxyType({} if found.exact else dict(effect.tasks)),
        borrowed=tuple(cell for cell in case.cells if cell in evidence.borrowed),
    )


def _grade(found: Found, interval: Interval | None, threshold: float) -> Grade:
    if found.tie:
        return Grade.TIE
    if found.exact:
        return Grade.SHOWN if all(value > threshold for value in found.effect.tasks.values()) else Grade.CONTRADICTED
    if interval is not None and interval.low > threshold + ROUNDING:
        return Grade.SHOWN
    if interval is not None and interval.high < threshold - ROUNDING:
        return Grade.CONTRADICTED
    return Grade.AGREES if found.effect.mean > threshold + ROUNDING else Grade.DISAGREES


# ------------------------------------------------------------------------------------------------------ groups of cells


def _binary(*, network: str | None = None, relu: bool = False, tables: tuple[int, ...] = BINARY) -> Iterator[Cell]:
    """mDFA's cells of the binary tables."""
    for table in tables:
        for cell in cells(table, network=network, method="mdfa"):
            if relu or cell.activation != "relu":
                yield cell


def _multi(method: str, *, conv: bool | None = None, least: int = 3, most: int = 50) -> list[Cell]:
    """A method's cells of the n-class tables, with at least `least` and at most `most` classes."""
    network = None if conv is None else ("conv" if conv else "fc")
    return [
        cell
        for table in MULTICLASS
        for cell in cells(table, network=network, method=method)
        if least <= cell.classes <= most
    ]


def _by(cell: Cell, method: str) -> Cell:
    return replace(cell, method=method)


def _both(pairs: Iterable[tuple[Cell, Cell]], *, margin: float = 0.0) -> tuple[Case, ...]:
    """Differences a − b in training accuracy and in test accuracy."""
    kept = list(pairs)
    return tuple(
        difference(a, b, measure, group, margin=margin)
        for measure, group in ((TRAINED, "training, best fit"), (TESTED, "test, chosen"))
        for a, b in kept
    )


_ROLES = "training accuracy of the best fit, and test accuracy of the chosen configuration"

# ------------------------------------------------------------------------------------------------------- two classes

PROPOSITIONS.add(
    "zero-error",
    Proposition(
        says="mDFA brings the training error of fully-connected networks to zero.",
        rests_on=f"The mean of the highest training accuracies of the best fit is above {FITTED:g} %.",
        cases=tuple(level(cell, TRAINED, FITTED, TRAINED.role) for cell in _binary(network="fc")),
    ),
)
PROPOSITIONS.add(
    "matches-bp-fc",
    Proposition(
        says="In fully-connected networks with one output, mDFA is as accurate as BP.",
        rests_on=f"mDFA − BP above −{MARGIN:g} points: {_ROLES}.",
        cases=_both(((cell, _by(cell, "bp")) for cell in _binary(network="fc")), margin=MARGIN),
    ),
)
PROPOSITIONS.add(
    "matches-bp-conv",
    Proposition(
        says="In convolutional networks with one output, mDFA is as accurate as BP.",
        rests_on=f"mDFA − BP above −{MARGIN:g} points: {_ROLES}.",
        cases=_both(((cell, _by(cell, "bp")) for cell in _binary(network="conv")), margin=MARGIN),
    ),
)
PROPOSITIONS.add(
    "surpasses",
    Proposition(
        says="With one output, mDFA is more accurate than DFA and FA.",
        rests_on=f"mDFA − DFA and mDFA − FA above 0, without ReLU: {_ROLES}.",
        cases=_both((cell, _by(cell, rival)) for cell in _binary() for rival in RIVALS),
    ),
)
PROPOSITIONS.add(
    "discrepancy",
    Proposition(
        says="mDFA generalises less well than BP in fully-connected networks, and fits the training images less well "
        "in convolutional networks.",
        rests_on="BP − mDFA above 0, without ReLU: in FC networks on CIFAR-100, test accuracy of the chosen "
        "configuration; in CNN, training accuracy of the best fit.",
        cases=(
            *(difference(_by(c, "bp"), c, TESTED, "FC, test, chosen") for c in _binary(network="fc", tables=(1,))),
            *(difference(_by(c, "bp"), c, TRAINED, "CNN, training, best fit") for c in _binary(network="conv")),
        ),
    ),
)
PROPOSITIONS.add(
    "relu-fails",
    Proposition(
        says="With ReLU, mDFA is less accurate than BP.",
        rests_on=f"BP − mDFA above 0: {_ROLES}.",
        cases=_both((_by(cell, "bp"), cell) for cell in _binary(relu=True) if cell.activation == "relu"),
    ),
)
PROPOSITIONS.add(
    "symmetric",
    Proposition(
        says="FA, DFA and mDFA are more accurate with tanh and hard-tanh than with ReLU.",
        rests_on=f"tanh − ReLU and hard-tanh − ReLU above 0: {_ROLES}.",
        cases=_both(
            (cell, replace(cell, activation="relu"))
            for table in BINARY
            for activation in ("hard-tanh", "tanh")
            for method in FAMILY
            for cell in cells(table, activation=activation, method=method)
        ),
    ),
)

# ------------------------------------------------------------------------------------------------------ more classes

PROPOSITIONS.add(
    "several-outputs",
    Proposition(
        says="With several outputs, the feedback methods still learn.",
        rests_on="Test accuracy of the chosen configuration: mDFA above chance (100 % ÷ classes); and each method "
        "at least half as far above chance as BP.",
        cases=(
            *(level(cell, TESTED, 100 / cell.classes, "above chance") for cell in _multi("mdfa")),
            *(half_of_bp(cell, "half of BP's gain") for method in FAMILY for cell in _multi(method)),
        ),
    ),
)
PROPOSITIONS.add(
    "conv-up-to-ten",
    Proposition(
        says="In convolutional networks with 3 to 10 outputs, mDFA is more accurate than DFA and FA.",
        rests_on=f"mDFA − DFA and mDFA − FA above 0: {_ROLES}.",
        cases=_both((cell, _by(cell, rival)) for cell in _multi("mdfa", conv=True, most=10) for rival in RIVALS),
    ),
)
PROPOSITIONS.add(
    "beyond-ten",
    Proposition(
        says="With more than ten outputs, mDFA is less accurate than DFA.",
        rests_on=f"DFA − mDFA above 0: {_ROLES}.",
        cases=_both((_by(cell, "dfa"), cell) for cell in _multi("mdfa", least=11)),
    ),
)
PROPOSITIONS.add(
    "classes",
    Proposition(
        says="BP fits any number of classes; FA, DFA and mDFA fit less, and lose more as classes are added.",
        rests_on=f"Training accuracy of the best fit: BP above {100 - MARGIN:g} %; BP − each of the three above 0; and "
        "the loss of each of the three from fewest to most classes − the loss of BP above 0.",
        cases=(
            *(level(cell, TRAINED, 100 - MARGIN, "BP fits") for cell in _multi("bp")),
            *(difference(_by(cell, "bp"), cell, TRAINED, "below BP") for method in FAMILY for cell in _multi(method)),
            *(
                loses_more(cells(table, method=method), cells(table, method="bp"), "loses more than BP")
                for table in MULTICLASS
                for method in FAMILY
            ),
        ),
    ),
)

# -------------------------------------------------------------------------------------- signs, curves, hyperparameters

PROPOSITIONS.add(
    "signs",
    Proposition(
        says="With one output, all error signals of mDFA have the sign of the true ones; with more, not all.",
        rests_on="Sign agreement of unit error signals at every measurement of every run of the chosen configuration: "
        "exactly 1 with one output, below 1 with several. Signs hold per example and unit, not for a mini-batch.",
        cases=(
            *(Signs(cell=cell, group="one output", right=True) for cell in _binary(relu=True)),
            *(Signs(cell=cell, group="several outputs", right=False) for cell in _multi("mdfa")),
        ),
    ),
)

_SEARCHED = tuple(_by(cell, method) for cell in (*_binary(), *_multi("mdfa")) for method in FAMILY)
_SEARCHED_RELU = tuple(
    cell for table in BINARY for method in FAMILY for cell in cells(table, activation="relu", method=method)
)

PROPOSITIONS.add(
    "convergence",
    Proposition(
        says="FA, DFA and mDFA start fast and converge later than BP.",
        rests_on=f"Curves of the chosen configuration, without ReLU: after {FIRST_EPOCHS} epochs, validation accuracy "
        f"is above {FIRST_SHARE:g} % of the way from chance to its best value; and the first epoch within 1 point of "
        "the best training accuracy is later than BP's.",
        cases=(
            *(Start(cell=cell, group="fast start") for cell in _SEARCHED),
            *(Later(cell=cell, group="later than BP", than=_by(cell, "bp")) for cell in _SEARCHED),
        ),
    ),
)
PROPOSITIONS.add(
    "hyperparameters",
    Proposition(
        says="FA, DFA and mDFA do best with forward weights of zero (not with ReLU) and normal feedback, and depend "
        "more on hyperparameters than BP.",
        rests_on="Validation accuracy in the first round of each cell's search, which trains every candidate on one "
        "task: best candidate with the setting − best without; and the spread over candidates − the spread in BP's "
        "search. One value per cell has a direction and no interval.",
        cases=(
            *(Searched(cell=cell, group="zeros best", setting="forward_init", value="zeros") for cell in _SEARCHED),
            *(
                Searched(
                    cell=cell,
                    group="zeros poor with ReLU",
                    setting="forward_init",
                    value="zeros",
                    worse=True,
                    threshold=MARGIN,
                )
                for cell in _SEARCHED_RELU
            ),
            *(
                Searched(cell=cell, group="normal feedback best", setting="feedback_init", value="normal")
                for cell in (*_SEARCHED, *_SEARCHED_RELU)
            ),
            *(
                Sensitive(cell=cell, group="more sensitive than BP", than=_by(cell, "bp"))
                for cell in (*_SEARCHED, *_SEARCHED_RELU)
            ),
        ),
    ),
)
