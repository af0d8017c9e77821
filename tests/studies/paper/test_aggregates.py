from __future__ import annotations

from itertools import product
from statistics import fmean

import numpy as np
import pytest
from scipy.stats import bootstrap, mannwhitneyu

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper import aggregates

RNG = np.random.default_rng(7)
X, Y = RNG.integers(50, 60, (4, 5)).astype(float), RNG.integers(50, 60, (4, 6)).astype(float)  # with many ties


def test_the_interquartile_mean_drops_a_quarter_at_both_ends() -> None:
    values = sorted(X.ravel().tolist())
    assert aggregates.interquartile_mean(X) == pytest.approx(fmean(values[5:-5]))
    assert aggregates.interquartile_mean(np.array([[1.0, 2.0, 9.0]])) == 4  # a quarter of three is no score


def test_the_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    shares = [fmean((x > y) + 0.5 * (x == y) for x, y in product(a, b)) for a, b in zip(X, Y, strict=True)]
    found = float(aggregates.probability_of_improvement(X, Y))
    assert found == pytest.approx(fmean(shares))
    assert found == pytest.approx(fmean(mannwhitneyu(a, b).statistic / (5 * 6) for a, b in zip(X, Y, strict=True)))
    assert aggregates.probability_of_improvement(X, X) == 0.5
    assert aggregates.probability_of_improvement(X + 100, Y) == 1


def test_the_profile_is_the_share_above_each_threshold() -> None:
    thresholds = [49.0, 55.0, 55.5, 60.0]
    expected = [fmean(value > threshold for value in X.ravel().tolist()) for threshold in thresholds]
    assert aggregates.profile(X, thresholds).tolist() == pytest.approx(expected)


def test_statistics_of_many_resamples_are_those_of_each() -> None:
    stack = np.stack([X, X + 1, X[::-1] * 2])
    for one, each in zip(aggregates.interquartile_mean(stack), stack, strict=True):
        assert one == aggregates.interquartile_mean(each)
    both = zip(aggregates.probability_of_improvement(stack, stack[::-1]), stack, stack[::-1], strict=True)
    assert all(one == aggregates.probability_of_improvement(a, b) for one, a, b in both)
    assert aggregates.profile(stack, [55.0, 56.0])[1].tolist() == aggregates.profile(X + 1, [55.0, 56.0]).tolist()


def test_the_bootstrap_is_stratified() -> None:
    """Every resample has every cell: cells that differ, each without a spread, give no interval."""
    cells = np.array([[0.0] * 5, [100.0] * 5])
    found = aggregates.interval(lambda scores: scores.mean((-1, -2)), cells)
    assert (found.low, found.high) == (50, 50)


def test_the_interval_of_one_cell_is_that_of_the_plain_bootstrap() -> None:
    values = RNG.normal(80, 5, 30)
    ours = aggregates.interval(lambda scores: scores.mean((-1, -2)), values[None])
    theirs = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.15)


def test_no_scores() -> None:
    with pytest.raises(InvalidValue, match="there are no scores to aggregate: run at least one cell"):
        aggregates.interval(aggregates.interquartile_mean, np.empty((0, 5)))
