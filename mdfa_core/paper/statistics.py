"""Mean and spread over tasks, and differences between two methods paired by task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from scipy.stats import bootstrap
from scipy.stats import t as student

from mdfa_core.errors import InvalidValue
from mdfa_core.paper.published import Figure

CONFIDENCE = 0.95
RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """Where a mean lies with 95 % confidence, in points."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracies of one cell on one split, in percent: of every task, or only the printed mean and spread.

    `tasks` maps a task's seed to its accuracy; it is empty for figures known only as mean ± standard deviation.
    """

    mean: float
    std: float | None
    """Sample standard deviation (n − 1); None of a single task."""
    tasks: Mapping[int, float]

    @classmethod
    def of(cls, tasks: Mapping[int, float]) -> Scores:
        """Scores of tasks, by their seeds.

        Raises:
            InvalidValue: there are none, or one is no share in percent.
        """
        if not tasks:
            raise InvalidValue("a mean of no task was asked for: give one accuracy or more")
        for task, value in tasks.items():
            if not 0 <= value <= 100:
                raise InvalidValue(f"task {task} has an accuracy of {value!r}: give percent, 0 to 100")
        values = list(tasks.values())
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return cls(mean=float(np.mean(values)), std=std, tasks=MappingProxyType(dict(sorted(tasks.items()))))

    @classmethod
    def printed(cls, figure: Figure) -> Scores:
        """Scores of which only a published figure is known."""
        return cls(mean=figure.mean, std=figure.std, tasks=MappingProxyType({}))

    def interval(self) -> Interval | None:
        """Bootstrap interval of the mean over tasks; None of fewer than two tasks."""
        return _resampled(tuple(self.tasks.values()))

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A sum of cells' scores with signs, such as a − b, in points, over the tasks all of them were run on.

    The task dominates the spread of an accuracy; taking differences within tasks takes it out. Of printed figures
    only the means are known.
    """

    mean: float
    tasks: Mapping[int, float]
    """One value a task, by its seed; empty for printed figures."""

    @property
    def bootstrap(self) -> Interval | None:
        """Percentile bootstrap interval of the mean (95 %, 9999 resamples, seeded); None of fewer than two tasks.

        With five tasks it covers less than it says: 84 % for normal differences, and the `basic` and `BCa` kinds no
        more, which is why `student` stands beside it.
        """
        return _resampled(tuple(self.tasks.values()))

    @property
    def student(self) -> Interval | None:
        """Student's t interval of the mean (95 %), exact for normal differences; None of fewer than two tasks."""
        n = len(self.tasks)
        if n < 2:
            return None
        std = float(np.std(list(self.tasks.values()), ddof=1))
        half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / math.sqrt(n)
        return Interval(self.mean - half, self.mean + half)

    @property
    def positive(self) -> int:
        """Tasks in which the contrast is above 0."""
        return sum(value > 0 for value in self.tasks.values())

    def __str__(self) -> str:
        interval = self.bootstrap
        if interval is None:
            return f"{self.mean:+.1f}"
        return f"{self.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def contrast(*terms: tuple[float, Scores]) -> Contrast:
    """Σ factor · scores over the tasks all terms have; of the means where one of them is only printed.

    Raises:
        InvalidValue: all have tasks, but none in common.
    """
    if not all(scores.tasks for _, scores in terms):
        return Contrast(mean=sum(factor * scores.mean for factor, scores in terms), tasks=MappingProxyType({}))
    common = [task for task in terms[0][1].tasks if all(task in scores.tasks for _, scores in terms)]
    if not common:
        sets = " and ".join(str(sorted(scores.tasks)) for _, scores in terms)
        raise InvalidValue(f"the tasks {sets} have none in common: run these cells on the same tasks")
    tasks = {task: sum(factor * scores.tasks[task] for factor, scores in terms) for task in common}
    return Contrast(mean=float(np.mean(list(tasks.values()))), tasks=MappingProxyType(tasks))


def paired(a: Scores, b: Scores) -> Contrast:
    """The difference a − b, paired by task.

    Raises:
        InvalidValue: both have tasks, but none in common.
    """
    return contrast((1, a), (-1, b))


@lru_cache(maxsize=4096)
def _resampled(values: tuple[float, ...]) -> Interval | None:
    if len(values) < 2:
        return None
    found = bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))
