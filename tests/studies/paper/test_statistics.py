from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper.published import Figure
from mdfa_core.studies.paper.statistics import Contrast, Scores, contrast, holm, paired

percent = st.floats(0, 100)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def by_task(*values: float) -> Scores:
    return Scores.of(dict(enumerate(values)))


def test_mean_and_sample_standard_deviation() -> None:
    scores = by_task(90, 92, 94, 96, 98)
    assert scores.mean == 94
    assert scores.std == pytest.approx(math.sqrt(10))  # the population's would be √8
    assert str(scores) == "94.0 ± 3.2"
    assert (scores.seeds, scores.within) == (1, None)
    assert by_task(90).std is None
    assert str(by_task(90)) == "90.0"


def test_a_task_with_several_seeds_counts_as_their_mean_and_both_spreads_are_known() -> None:
    scores = Scores.of({1: (80, 84), 0: (90, 92, 97), 2: 60})
    assert dict(scores.tasks) == {0: 93, 1: 82, 2: 60}
    assert scores.mean == pytest.approx((93 + 82 + 60) / 3)
    assert scores.std == pytest.approx(float(np.std([93, 82, 60], ddof=1)))
    assert scores.within == pytest.approx(math.sqrt((9 + 1 + 16 + 4 + 4) / 3))  # 2 + 1 degrees of freedom
    assert scores.seeds == 3


@pytest.mark.parametrize("value", [-0.1, 100.1, math.nan])
def test_accuracies_are_percent(value: float) -> None:
    with pytest.raises(InvalidValue, match="task 1 has an accuracy of"):
        by_task(50, value)
    with pytest.raises(InvalidValue, match="task 0 has an accuracy of"):
        Scores.of({0: (50, value)})


def test_no_accuracy_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no task"):
        Scores.of({})
    with pytest.raises(InvalidValue, match="task 3 has no accuracy"):
        Scores.of({3: ()})


def test_students_interval_and_test() -> None:
    difference = paired(by_task(11, 12, 13, 14, 15), by_task(10, 10, 10, 10, 10))
    interval = difference.interval()
    assert interval is not None
    half = 2.776445 * math.sqrt(2.5) / math.sqrt(5)  # the 97.5 % quantile with 4 degrees of freedom
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert difference.p(1.5) == pytest.approx(ttest_1samp([1, 2, 3, 4, 5], 1.5).pvalue)
    assert paired(by_task(1), by_task(2)).interval() is None
    assert paired(by_task(1), by_task(2)).p() == 1


def test_of_equal_values_the_interval_is_a_point() -> None:
    same = paired(by_task(80, 90), by_task(78, 88))
    interval = same.interval()
    assert interval is not None
    assert (interval.low, interval.high) == (2, 2)
    assert (same.p(), same.p(2)) == (0, 1)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.floats(-5, 5), st.floats(0.5, 0.999))
def test_an_interval_excludes_a_value_exactly_if_the_test_rejects_it(
    values: list[float], threshold: float, confidence: float
) -> None:
    made = Contrast.of(dict(enumerate(values)))
    interval, p = made.interval(confidence), made.p(threshold)
    assert interval is not None
    if abs(p - (1 - confidence)) > 1e-6 and np.std(values) > 1e-6:
        assert (interval.low > threshold or interval.high < threshold) == (p < 1 - confidence)


def test_differences_are_paired_by_task() -> None:
    a = Scores.of({0: 60, 1: 70, 4: 90})
    b = Scores.of({4: 80, 1: 72, 2: 10})
    difference = paired(a, b)
    assert dict(difference.tasks) == {1: -2, 4: 10}
    assert difference.mean == 4
    assert (difference.ahead(), difference.ahead(10)) == (1, 0)


def test_tasks_without_a_common_one_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"\[0\] and \[1\] have no task in common"):
        paired(Scores.of({0: 1}), Scores.of({1: 1}))


def test_of_printed_figures_only_means_are_compared() -> None:
    difference = paired(Scores.printed(Figure(mean=77.2, std=12.2)), by_task(80, 80))
    assert difference.mean == pytest.approx(-2.8)
    assert difference.interval() is None
    assert str(difference) == "-2.8"


@given(st.lists(st.tuples(percent, percent), min_size=2, max_size=5))
def test_pairing_takes_out_what_tasks_share(pairs: list[tuple[float, float]]) -> None:
    a, b = (by_task(*values) for values in zip(*pairs, strict=True))
    difference, interval = paired(a, b), paired(a, b).interval()
    assert difference.mean == pytest.approx(a.mean - b.mean, abs=1e-9)
    assert difference.mean == pytest.approx(-paired(b, a).mean, abs=1e-9)
    assert interval is not None
    assert interval.low - 1e-9 <= difference.mean <= interval.high + 1e-9
    same = paired(a, a)
    assert (same.mean, same.interval(), same.ahead()) == (0, paired(b, b).interval(), 0)


def test_a_contrast_of_four() -> None:
    many = contrast((1, by_task(99, 98)), (-1, by_task(50, 40)), (-1, by_task(100, 100)), (1, by_task(97, 99)))
    assert dict(many.tasks) == {0: 46, 1: 57}
    assert str(many).startswith("+51.5 [")


def test_holms_correction_by_hand() -> None:
    # Ordered 0.005, 0.01, 0.03, 0.04: rejected at 0.05/4 and 0.05/3; 0.03 > 0.05/2 stops, also for 0.04.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((1 - 0.05 / 3, 0.975, 0.975, 0.9875))
    assert holm([]) == ()
    assert holm([0.5]) == pytest.approx((0.95,))


@given(p_values)
def test_holms_confidence_rejects_what_his_adjusted_p_values_reject(values: list[float]) -> None:
    """Against the other form of the procedure: adjusted p-values, max over smaller ones of (m − rank) · p."""
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate([(len(values) - rank) * values[i] for rank, i in enumerate(order)])
    for p, confidence, corrected in zip(values, holm(values), adjusted, strict=True):
        if abs(corrected - 0.05) > 1e-9:
            assert (p < 1 - confidence) == (corrected < 0.05)


def test_students_interval_covers_what_it_says_with_five_tasks() -> None:
    values = np.random.default_rng(0).normal(0, 3, (2000, 5))
    inside = 0
    for row in values:
        interval = Contrast.of(dict(enumerate(row))).interval()
        assert interval is not None
        inside += interval.low <= 0 <= interval.high
    assert 0.94 <= inside / len(values) <= 0.96
