"""Means and spreads over tasks and seeds, paired differences with Student's t intervals, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper.published import Figure

CONFIDENCE = 0.95


def t_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| ≤ t) = confidence, where T has Student's distribution with so many degrees of freedom."""
    from scipy.stats import t  # here: the queue for a GPU needs scores, and no SciPy

    return float(t.ppf((1 + confidence) / 2, freedom))


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean, in points."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracies of one cell, in percent: one value per task, the mean over its seeds.

    `tasks` maps a task to its accuracy, and `draws` maps it to the accuracies of its seeds. Both are empty for the
    paper's figures, of which only mean and standard deviation are known.
    """

    mean: float
    std: float | None
    """Spread over tasks: sample standard deviation (n − 1) of the values in `tasks`; None for a single task."""
    tasks: Mapping[int, float]
    draws: Mapping[int, tuple[float, ...]]

    @classmethod
    def of(cls, tasks: Mapping[int, float | Sequence[float]]) -> Scores:
        """Scores from the accuracies of tasks, by task; a sequence has one accuracy per seed.

        Raises:
            InvalidValue: there are no tasks or no accuracies, or an accuracy is not between 0 and 100.
        """
        if not tasks:
            raise InvalidValue("there are no tasks: give the accuracy of at least one")
        draws = {
            task: tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)
            for task, value in sorted(tasks.items())
        }
        for task, values in draws.items():
            if not values:
                raise InvalidValue(f"task {task} has no accuracy: give at least one")
            for value in values:
                if not 0 <= value <= 100:
                    raise InvalidValue(f"task {task} has an accuracy of {value!r}: give percent, 0 to 100")
        means = {task: float(np.mean(values)) if len(values) > 1 else values[0] for task, values in draws.items()}
        each = list(means.values())
        return cls(
            mean=float(np.mean(each)),
            std=float(np.std(each, ddof=1)) if len(each) > 1 else None,
            tasks=MappingProxyType(means),
            draws=MappingProxyType(draws),
        )

    @classmethod
    def printed(cls, figure: Figure) -> Scores:
        """Scores from a published figure."""
        return cls(mean=figure.mean, std=figure.std, tasks=MappingProxyType({}), draws=MappingProxyType({}))

    @property
    def seeds(self) -> int:
        """The largest number of seeds of a task."""
        return max(map(len, self.draws.values()), default=0)

    @property
    def within(self) -> float | None:
        """Spread over seeds within a task: √(Σ (nₜ − 1) sₜ² ÷ Σ (nₜ − 1)) over tasks t; None without a second seed.

        nₜ is the number of seeds of a task and sₜ the sample standard deviation of their accuracies.
        """
        free = sum(len(values) - 1 for values in self.draws.values())
        if free == 0:
            return None
        squares = sum(float(np.sum(np.square(np.subtract(values, np.mean(values))))) for values in self.draws.values())
        return math.sqrt(squares / free)

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A signed sum of cells' scores, such as a − b, in points, over the tasks that they have in common.

    The task dominates the spread of an accuracy; differences within tasks remove this spread. For the paper's figures,
    only the mean is known.
    """

    mean: float
    tasks: Mapping[int, float]
    """One value per task; empty for the paper's figures."""

    @classmethod
    def of(cls, tasks: Mapping[int, float]) -> Contrast:
        """The contrast with these values by task."""
        return cls(mean=float(np.mean(list(tasks.values()))), tasks=MappingProxyType(dict(sorted(tasks.items()))))

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Student's t interval of the mean, exact for normal differences; None for fewer than two tasks.

        `studies/interval_coverage.py` compares its coverage with that of bootstrap intervals.
        """
        n = len(self.tasks)
        if n < 2:
            return None
        half = t_quantile(confidence, n - 1) * self._error
        return Interval(self.mean - half, self.mean + half)

    def p(self, threshold: float = 0.0) -> float:
        """Two-sided p-value of Student's t test that the mean is `threshold`; 1 for fewer than two tasks.

        If all tasks have the same value, it is 1 if this value is the threshold, and else 0.
        """
        n, distance = len(self.tasks), abs(self.mean - threshold)
        if n < 2 or math.isclose(distance, 0, abs_tol=1e-9):
            return 1.0
        if self._error <= 1e-12:
            return 0.0
        from scipy.stats import t  # here: the queue for a GPU needs scores, and no SciPy

        return float(2 * t.sf(distance / self._error, n - 1))

    @property
    def _error(self) -> float:
        """Standard error of the mean."""
        return float(np.std(list(self.tasks.values()), ddof=1)) / math.sqrt(len(self.tasks))

    def ahead(self, threshold: float = 0.0) -> int:
        """Number of tasks whose value is above the threshold."""
        return sum(value > threshold for value in self.tasks.values())

    @property
    def positive(self) -> int:
        """Number of tasks in which the contrast is above 0."""
        return self.ahead()

    def __str__(self) -> str:
        interval = self.interval()
        return f"{self.mean:+.1f}" if interval is None else f"{self.mean:+.1f} {interval}"


def contrast(*terms: tuple[float, Scores]) -> Contrast:
    """Σ factor · scores over the tasks that all terms have; over the means if a term is a published figure.

    Raises:
        InvalidValue: all terms have tasks, but none in common.
    """
    if not all(scores.tasks for _, scores in terms):
        return Contrast(mean=sum(factor * scores.mean for factor, scores in terms), tasks=MappingProxyType({}))
    common = [task for task in terms[0][1].tasks if all(task in scores.tasks for _, scores in terms)]
    if not common:
        sets = " and ".join(str(sorted(scores.tasks)) for _, scores in terms)
        raise InvalidValue(f"the tasks {sets} have no task in common: run these cells on the same tasks")
    return Contrast.of({task: sum(factor * scores.tasks[task] for factor, scores in terms) for task in common})


def paired(a: Scores, b: Scores) -> Contrast:
    """The difference a − b, paired by task.

    Raises:
        InvalidValue: both have tasks, but none in common.
    """
    return contrast((1, a), (-1, b))


def holm(p_values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, ...]:
    """The confidence of each comparison's interval under Holm's correction, in the order of the p-values.

    Holm's procedure tests the smallest of m p-values at (1 − confidence) ÷ m, the next at (1 − confidence) ÷ (m − 1),
    and so on, and stops at the first that is larger. An interval with the returned confidence excludes the tested value
    exactly if Holm's procedure rejects it. The chance of any wrong rejection is at most 1 − confidence.

    Source: S. Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statistics 6, 1979.
    """
    found = [0.0] * len(p_values)
    level, stopped = 1 - confidence, False
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if not stopped:
            level = (1 - confidence) / (len(p_values) - rank)
            stopped = p_values[index] > level
        found[index] = 1 - level
    return tuple(found)
