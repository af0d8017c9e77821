"""Aggregates over many cells: interquartile mean, probability of improvement and performance profiles, with intervals.

Scores are an array [cells, tasks]: one row per cell, one column per task. Intervals are 95 % percentile intervals of a
stratified bootstrap: tasks are resampled within every cell, so that each resample has all cells.

Source: R. Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice, NeurIPS 2021, section 4
(there, a run is what is a task here, and a task is what is a cell here).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper.statistics import CONFIDENCE, Interval

Scores = NDArray[np.float64]

RESAMPLES = 5000


def interquartile_mean(scores: Scores) -> NDArray[np.float64]:
    """Mean of the middle half of all scores [..., cells, tasks]; a quarter is cut off at both ends, rounded down."""
    values = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = values.shape[-1] // 4
    middle: NDArray[np.float64] = values[..., cut : values.shape[-1] - cut].mean(-1)
    return middle


def probability_of_improvement(x: Scores, y: Scores) -> NDArray[np.float64]:
    """Mean over cells of P(X > Y) + ½ P(X = Y), for independently drawn tasks of both [..., cells, tasks]."""
    ahead = x[..., :, None] > y[..., None, :]
    equal = x[..., :, None] == y[..., None, :]
    share: NDArray[np.float64] = (ahead + 0.5 * equal).mean((-1, -2)).mean(-1)
    return share


def profile(scores: Scores, thresholds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of all scores [..., cells, tasks] above each threshold: [..., thresholds]."""
    values = scores.reshape(*scores.shape[:-2], 1, -1)
    share: NDArray[np.float64] = (values > np.asarray(thresholds)[:, None]).mean(-1)
    return share


def interval(statistic: Callable[..., NDArray[np.float64]], *scores: Scores) -> Interval:
    """Interval of a statistic of one or several arrays of scores; each array is resampled on its own.

    Raises:
        InvalidValue: the arrays have no scores.
    """
    low, high = band(statistic, *scores)
    return Interval(float(low), float(high))


def band(
    statistic: Callable[..., NDArray[np.float64]], *scores: Scores
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends of the intervals of a statistic that may have several values.

    Raises:
        InvalidValue: the arrays have no scores.
    """
    if not all(one.size for one in scores):
        raise InvalidValue("there are no scores to aggregate: run at least one cell with every method")
    rng = np.random.default_rng(0)
    drawn = statistic(*(_resampled(one, rng) for one in scores))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high


def _resampled(scores: Scores, rng: np.random.Generator) -> Scores:
    """`RESAMPLES` resamples [RESAMPLES, cells, tasks]: the tasks of every cell, drawn with replacement."""
    cells, tasks = scores.shape
    chosen = rng.integers(0, tasks, (RESAMPLES, cells, tasks))
    return scores[np.arange(cells)[:, None], chosen]
