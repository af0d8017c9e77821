from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core.errors import InvalidValue
from mdfa_core.paper.published import Figure
from mdfa_core.paper.statistics import Scores, contrast, paired

percent = st.floats(0, 100)


def by_task(*values: float) -> Scores:
    return Scores.of(dict(enumerate(values)))


def test_mean_and_sample_standard_deviation() -> None:
    scores = by_task(90, 92, 94, 96, 98)
    assert scores.mean == 94
    assert scores.std == pytest.approx(math.sqrt(10))  # the population's would be √8
    assert str(scores) == "94.0 ± 3.2"
    assert by_task(90).std is None
    assert str(by_task(90)) == "90.0"
    assert by_task(90).interval() is None


@pytest.mark.parametrize("value", [-0.1, 100.1, math.nan])
def test_accuracies_are_percent(value: float) -> None:
    with pytest.raises(InvalidValue, match="task 1 has an accuracy of"):
        by_task(50, value)


def test_no_task_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no task"):
        Scores.of({})


def test_the_bootstrap_interval_is_that_of_all_resamples() -> None:
    values = (1.0, 2.0, 4.0, 8.0, 16.0)
    means = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    low, high = np.percentile(means, [2.5, 97.5])
    interval = by_task(*values).interval()
    assert interval is not None
    assert interval.low == pytest.approx(low, abs=0.2)
    assert interval.high == pytest.approx(high, abs=0.2)
    assert interval == by_task(*values).interval()  # seeded


def test_students_interval() -> None:
    interval = paired(by_task(11, 12, 13, 14, 15), by_task(10, 10, 10, 10, 10)).student
    assert interval is not None
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # the 97.5 % quantile with 4 degrees of freedom
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert paired(by_task(1), by_task(2)).student is None


def test_differences_are_paired_by_task() -> None:
    a = Scores.of({0: 60, 1: 70, 4: 90})
    b = Scores.of({4: 80, 1: 72, 2: 10})
    difference = paired(a, b)
    assert dict(difference.tasks) == {1: -2, 4: 10}
    assert difference.mean == 4
    assert difference.positive == 1


def test_tasks_without_a_common_one_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"\[0\] and \[1\] have none in common"):
        paired(Scores.of({0: 1}), Scores.of({1: 1}))


def test_of_printed_figures_only_means_are_compared() -> None:
    difference = paired(Scores.printed(Figure(mean=77.2, std=12.2)), by_task(80, 80))
    assert difference.mean == pytest.approx(-2.8)
    assert difference.bootstrap is None
    assert difference.student is None
    assert str(difference) == "-2.8"


@given(st.lists(st.tuples(percent, percent), min_size=2, max_size=5))
def test_pairing_takes_out_what_tasks_share(pairs: list[tuple[float, float]]) -> None:
    a, b = (by_task(*values) for values in zip(*pairs, strict=True))
    difference = paired(a, b)
    assert difference.mean == pytest.approx(a.mean - b.mean, abs=1e-9)
    assert difference.mean == pytest.approx(-paired(b, a).mean, abs=1e-9)
    assert difference.bootstrap is not None
    assert difference.bootstrap.low - 1e-9 <= difference.mean <= difference.bootstrap.high + 1e-9
    same = paired(a, a)
    assert (same.mean, same.bootstrap and same.bootstrap.low, same.positive) == (0, 0, 0)


def test_a_contrast_of_four() -> None:
    many = contrast((1, by_task(99, 98)), (-1, by_task(50, 40)), (-1, by_task(100, 100)), (1, by_task(97, 99)))
    assert dict(many.tasks) == {0: 46, 1: 57}
    assert str(many).startswith("+51.5 [")
