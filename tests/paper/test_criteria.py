from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mdfa_core.paper import criteria
from mdfa_core.paper.criteria import Check, Finding, Outcome, combine
from mdfa_core.paper.evidence import Curve, Evidence, Trial
from mdfa_core.paper.published import CELLS, Cell, Figure, Split
from mdfa_core.paper.statistics import Scores

YES, NO, OPEN = Outcome.SUPPORTED, Outcome.NOT_SUPPORTED, Outcome.NOT_TESTED
MDFA = CELLS["table-1/fc/tanh/mdfa/2"]
BP = CELLS["table-1/fc/tanh/bp/2"]
BY_CLASSES = [CELLS[f"table-3/fc/tanh/mdfa/{n}"] for n in (3, 5, 10)]
BP_BY_CLASSES = [replace(cell, method="bp") for cell in BY_CLASSES]


def scored(cells: Mapping[Cell, Sequence[float]], split: Split = "train") -> Evidence:
    return Evidence(scores={(cell, split): Scores.of(dict(enumerate(values))) for cell, values in cells.items()})


def printed(cells: Mapping[Cell, float], split: Split = "train") -> Evidence:
    return Evidence(scores={(cell, split): Scores.printed(Figure(mean=mean, std=1.0)) for cell, mean in cells.items()})


def outcome(check: Check, evidence: Evidence) -> Outcome:
    return check(evidence).outcome


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ((61, 62, 63, 64, 65), YES),
        ((60.2, 60.1, 60.3, 60.2, 60.1), YES),  # small, but in every task
        ((70, 59, 61, 59, 60), NO),  # ahead in the mean, but the interval reaches 0
        ((50, 50, 50, 50, 50), NO),
        ((60, 60, 60, 60, 60), NO),
    ],
)
def test_above(ours: Sequence[float], expected: Outcome) -> None:
    assert outcome(criteria.above(MDFA, BP, "train"), scored({MDFA: ours, BP: [60] * 5})) is expected


def test_a_finding_names_the_cells_that_were_not_tuned() -> None:
    """Whatever the check: its outcome stays, and behind its numbers stands whose settings were used."""
    first, second, third = BY_CLASSES
    curve = Curve(train=(60.0,) * 8, validation=(60.0,) * 8)
    every = [*BY_CLASSES, *BP_BY_CLASSES]
    scores = {(c, s): Scores.of(dict.fromkeys(range(5), 60.0)) for c in every for s in c.splits}
    plain = Evidence(
        scores=scores,
        curves={c: dict.fromkeys(range(5), curve) for c in every},
        agreement={c: (1.0,) for c in every},
    )
    lent = replace(plain, borrowed={second: first, third: first})
    for check, names in (
        (criteria.above(second, BP_BY_CLASSES[1], "train"), second.name),
        (criteria.above(BP_BY_CLASSES[1], second, "train"), second.name),
        (criteria.matches(second, BP_BY_CLASSES[1], "train"), second.name),
        (criteria.no_training_error(second), second.name),
        (criteria.learns(second), second.name),
        (criteria.decent(second), second.name),
        (criteria.falls(BY_CLASSES, "test"), f"{second.name}, {third.name}"),
        (criteria.falls_more(BY_CLASSES, BP_BY_CLASSES, "test"), third.name),
        (criteria.falls_more(BP_BY_CLASSES, BY_CLASSES, "test"), third.name),
        (criteria.signs_agree(second), second.name),
        (criteria.signs_disagree(second), second.name),
        (criteria.starts_fast(second), second.name),
        (criteria.converges_later(second, BP_BY_CLASSES[1]), second.name),
        (criteria.converges_later(BP_BY_CLASSES[1], second), second.name),
    ):
        before, after = check(plain), check(lent)
        assert (before.outcome, before.untuned, after.untuned) == (after.outcome, False, True)
        assert after.numbers == f"{before.numbers}; not tuned: {names} with the settings of {first.name}"
    assert not criteria.learns(first)(lent).untuned
    verdict = combine([criteria.learns(cell)(lent) for cell in BY_CLASSES])
    assert verdict.tally == "3 supported, 2 of them untuned"


@pytest.mark.parametrize(
    ("tuned", "untuned", "decided"),
    [
        ((YES,), (YES,), True),  # all have to hold
        ((), (YES,), True),
        ((YES,), (NO,), True),  # only what was not tuned fails
        ((NO,), (NO,), False),
        ((NO,), (YES,), False),
        ((OPEN,), (NO,), True),
        ((OPEN,), (YES,), False),
        ((YES,), (), False),
    ],
)
def test_a_verdict_says_whether_cells_that_were_not_tuned_decide_it(
    tuned: Sequence[Outcome], untuned: Sequence[Outcome], decided: bool
) -> None:
    findings = [finding(value) for value in tuned] + [replace(finding(value), untuned=True) for value in untuned]
    assert combine(findings).untuned is decided


def test_above_is_paired() -> None:
    """Tasks that differ far more than methods do not hide a difference that every task shows."""
    tasks = [50, 60, 70, 80, 90]
    evidence = scored({MDFA: [task + 1 for task in tasks], BP: tasks})
    assert outcome(criteria.above(MDFA, BP, "train"), evidence) is YES


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((0, 0, 0, 0, 0), YES),
        ((5, 5, 5, 5, 5), YES),  # better is as good
        ((-0.5, -0.5, -0.6, -0.5, -0.4), YES),  # surely below, but all within the margin
        ((-1, 1, -3, 2, -4), YES),  # 0 cannot be excluded
        ((-1.5, -1.9, -2.3, -1.2, -2.6), NO),  # 0 is excluded, and the margin is not
        ((-9, 4, -9, 4, -9), NO),  # 0 cannot be excluded, but the mean is beyond the margin
        ((-5, -5, -5, -5, -5), NO),
    ],
)
def test_matches(differences: Sequence[float], expected: Outcome) -> None:
    evidence = scored({MDFA: [80 + d for d in differences], BP: [80] * 5})
    assert outcome(criteria.matches(MDFA, BP, "train"), evidence) is expected


@pytest.mark.parametrize(("mean", "expected"), [(80.0, YES), (78.0, YES), (77.9, NO)])
def test_printed_figures_match_by_their_means(mean: float, expected: Outcome) -> None:
    assert outcome(criteria.matches(MDFA, BP, "train"), printed({MDFA: mean, BP: 80.0})) is expected


@pytest.mark.parametrize(
    ("values", "zero", "almost"),
    [((100,) * 5, YES, YES), ((99.95,) * 5, YES, YES), ((99.9, 100, 100, 100, 99.8), NO, YES), ((97,) * 5, NO, NO)],
)
def test_training_error(values: Sequence[float], zero: Outcome, almost: Outcome) -> None:
    evidence = scored({MDFA: values})
    assert outcome(criteria.no_training_error(MDFA), evidence) is zero
    assert outcome(criteria.almost_no_training_error(MDFA), evidence) is almost


def test_a_mean_near_its_limit_is_told_with_more_digits() -> None:
    finding = criteria.no_training_error(MDFA)(scored({MDFA: (99.94,) * 5}))
    assert finding.outcome is NO
    assert "99.940" in finding.numbers


@pytest.mark.parametrize(("values", "expected"), [((55, 56, 57, 55, 56), YES), ((60, 45, 52, 50, 49), NO)])
def test_learns(values: Sequence[float], expected: Outcome) -> None:
    assert outcome(criteria.learns(MDFA), scored({MDFA: values}, "test")) is expected


@pytest.mark.parametrize(("mean", "expected"), [(65.0, YES), (64.9, NO)])
def test_decent_is_half_of_what_bp_gains_over_chance(mean: float, expected: Outcome) -> None:
    assert outcome(criteria.decent(MDFA), scored({MDFA: [mean] * 5, BP: [80] * 5}, "test")) is expected


def test_nothing_is_decent_where_bp_learns_nothing() -> None:
    assert outcome(criteria.decent(MDFA), scored({MDFA: [50] * 5, BP: [50] * 5}, "test")) is NO


@pytest.mark.parametrize(
    ("means", "expected"),
    [((90, 80, 70), YES), ((90, 90, 70), YES), ((90, 60, 70), NO), ((90, 90, 90), NO), ((60, 70, 80), NO)],
)
def test_falls(means: Sequence[float], expected: Outcome) -> None:
    check = criteria.falls(BY_CLASSES, "train")
    assert outcome(check, scored({c: [m] * 5 for c, m in zip(BY_CLASSES, means, strict=True)})) is expected
    assert outcome(check, printed(dict(zip(BY_CLASSES, means, strict=True)))) is expected


@pytest.mark.parametrize(("last", "expected"), [(50, YES), (89, NO), (95, NO)])
def test_falls_more(last: float, expected: Outcome) -> None:
    check = criteria.falls_more(BY_CLASSES, BP_BY_CLASSES, "train")
    cells = {BY_CLASSES[0]: 90, BY_CLASSES[-1]: last, BP_BY_CLASSES[0]: 100, BP_BY_CLASSES[-1]: 99}
    assert outcome(check, scored({cell: [value] * 5 for cell, value in cells.items()})) is expected


def test_what_was_not_run_is_named() -> None:
    finding = criteria.above(MDFA, BP, "train")(scored({MDFA: [90] * 5}))
    assert (finding.outcome, finding.numbers, finding.cells) == (OPEN, "not run", (BP,))
    finding = criteria.above(MDFA, BP, "train")(scored({MDFA: [90] * 5, BP: [80] * 4}))
    assert (finding.outcome, finding.numbers, finding.cells) == (OPEN, "run on fewer than 5 tasks", (BP,))


@pytest.mark.parametrize("first", [1, 5])
def test_cells_are_compared_on_the_same_tasks_only(first: int) -> None:
    here, there = (Scores.of({task: 90.0 for task in range(start, start + 5)}) for start in (0, first))
    finding = criteria.above(MDFA, BP, "train")(Evidence(scores={(MDFA, "train"): here, (BP, "train"): there}))

    assert (finding.outcome, finding.cells) == (OPEN, (MDFA, BP))
    assert finding.numbers == "run on fewer than 5 tasks that are the same for all"


def test_signs() -> None:
    right = Evidence(agreement={MDFA: (1.0, 1.0)})
    wrong = Evidence(agreement={MDFA: (1.0, 0.9999)})
    assert outcome(criteria.signs_agree(MDFA), right) is YES
    assert outcome(criteria.signs_agree(MDFA), wrong) is NO
    assert outcome(criteria.signs_disagree(MDFA), right) is NO
    assert outcome(criteria.signs_disagree(MDFA), wrong) is YES
    for check in (criteria.signs_agree(MDFA), criteria.signs_disagree(MDFA)):
        assert outcome(check, Evidence()) is OPEN


@pytest.mark.parametrize(("lowest", "said"), [(1.0, "1"), (0.99999, "0.9999"), (0.59684, "0.5968"), (0.0, "0.0000")])
def test_nearly_all_signs_do_not_read_like_all(lowest: float, said: str) -> None:
    finding = criteria.signs_agree(MDFA)(Evidence(agreement={MDFA: (1.0, lowest)}))
    assert finding.numbers.endswith(f"lowest agreement {said} of 2 measurements")


def curved(cell: Cell, train: Sequence[float], validation: Sequence[float | None]) -> Evidence:
    curve = Curve(train=tuple(train), validation=tuple(validation))
    return Evidence(curves={cell: dict.fromkeys(range(5), curve)})


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ((50, 60, 70, 76, 74, 80), YES),  # 26 of 30 points after five epochs
        ((50, 60, 70, 73, 73, 80), NO),
        ((80, 80, 80, 80, 80), OPEN),  # too short to tell
        ((50, 50, 50, 50, 50, 50), NO),  # never above chance
    ],
)
def test_starts_fast(validation: Sequence[float], expected: Outcome) -> None:
    evidence = curved(MDFA, [50] * len(validation), validation)
    assert outcome(criteria.starts_fast(MDFA), evidence) is expected


def test_converges_later() -> None:
    slow, fast = Curve(train=(50, 60, 99.5, 100), validation=()), Curve(train=(99, 100, 100, 100), validation=())
    both = {MDFA: dict.fromkeys(range(5), slow), BP: dict.fromkeys(range(5), fast)}
    assert outcome(criteria.converges_later(MDFA, BP), Evidence(curves=both)) is YES
    assert outcome(criteria.converges_later(BP, MDFA), Evidence(curves=both)) is NO
    assert outcome(criteria.converges_later(MDFA, MDFA), Evidence(curves=both)) is NO
    once = {**both, MDFA: {**both[MDFA], 3: fast}}
    assert outcome(criteria.converges_later(MDFA, BP), Evidence(curves=once)) is NO


def test_needs_many_epochs() -> None:
    check = criteria.needs_many_epochs([MDFA])
    assert outcome(check, curved(MDFA, [50.0] * 100 + [60.0], [])) is YES
    assert outcome(check, curved(MDFA, [60.0] * 101, [])) is NO
    assert outcome(check, curved(MDFA, [50.0] * 99 + [60.0], [])) is OPEN  # no longer than it must exceed
    assert outcome(check, Evidence()) is OPEN


def test_what_some_run_shows_rests_on_a_tuned_cell_if_that_has_such_a_run() -> None:
    check = criteria.needs_many_epochs([MDFA, *BY_CLASSES[:1]])
    late, early = Curve(train=(50.0,) * 100 + (60.0,), validation=()), Curve(train=(60.0,) * 101, validation=())
    for tuned, lent, untuned in ((late, late, False), (late, early, False), (early, late, True), (early, early, True)):
        curves = {MDFA: {0: tuned}, BY_CLASSES[0]: {0: lent}}
        found = check(Evidence(curves=curves, borrowed={BY_CLASSES[0]: BY_CLASSES[1]}))
        assert found.untuned is untuned
        assert ("not tuned" in found.numbers) is untuned


def searched(*trials: tuple[Mapping[str, Any], int, float], cell: Cell = MDFA) -> Evidence:
    return Evidence(searches={cell: tuple(Trial(settings=s, rung=rung, validation=v) for s, rung, v in trials)})


ZEROS, NORMAL = {"forward_init": "zeros"}, {"forward_init": "normal:0.1"}


@pytest.mark.parametrize(
    ("zeros", "normal", "best", "worse"), [(80, 79, YES, NO), (80, 80, YES, NO), (78, 80, NO, NO), (77.9, 80, NO, YES)]
)
def test_searches(zeros: float, normal: float, best: Outcome, worse: Outcome) -> None:
    """By the round that all candidates were in; in the next one the one that went on is ahead whatever it is."""
    evidence = searched((ZEROS, 0, zeros), (NORMAL, 0, normal), (ZEROS, 0, 60.0), (ZEROS, 1, 90.0), (NORMAL, 2, 95.0))
    assert outcome(criteria.best_with(MDFA, "forward_init", "zeros"), evidence) is best
    assert outcome(criteria.worse_with(MDFA, "forward_init", "zeros"), evidence) is worse


def test_a_search_of_one_kind_decides_nothing() -> None:
    check = criteria.best_with(MDFA, "forward_init", "zeros")
    assert outcome(check, searched((ZEROS, 0, 60.0))) is OPEN
    assert outcome(check, searched((ZEROS, 0, 60.0), (NORMAL, 1, 60.0))) is OPEN
    assert outcome(check, Evidence()) is OPEN


def test_what_is_the_same_but_for_binary_fractions_is_the_same() -> None:
    """A mean over tasks and the same decimal written down differ in their last bits; no verdict hangs on these."""
    same, less = 80.0, math.nextafter(80.0, 0)
    finding = criteria.best_with(MDFA, "forward_init", "zeros")(searched((ZEROS, 0, less), (NORMAL, 0, same)))
    assert finding.outcome is YES
    assert "difference +0.0" in finding.numbers
    ours, theirs = {MDFA: [same] * 5, BP: [less] * 5}, {MDFA: [less] * 5, BP: [same] * 5}
    assert outcome(criteria.above(MDFA, BP, "train"), scored(ours)) is NO
    assert outcome(criteria.matches(MDFA, BP, "train"), scored(theirs)) is YES
    rising = dict(zip(BY_CLASSES, ([less] * 5, [same] * 5, [60] * 5), strict=True))
    assert outcome(criteria.falls(BY_CLASSES, "train"), scored(rising)) is YES


def test_sensitivity_is_compared_where_no_candidate_is_dropped() -> None:
    wide = searched((ZEROS, 0, 60.0), (NORMAL, 0, 90.0), (NORMAL, 1, 90.0), (NORMAL, 1, 90.0))
    narrow = searched((ZEROS, 0, 70.0), (NORMAL, 0, 75.0), (NORMAL, 1, 50.0), (NORMAL, 1, 99.0), cell=BP)
    both = Evidence(searches={**wide.searches, **narrow.searches})
    assert outcome(criteria.more_sensitive(MDFA, BP), both) is YES
    assert outcome(criteria.more_sensitive(BP, MDFA), both) is NO
    assert outcome(criteria.more_sensitive(MDFA, BP), wide) is OPEN
    # Below chance (a run that diverged at once counts as 0 in a search) is no better or worse than chance.
    failed = searched((ZEROS, 0, 0.0), (NORMAL, 0, 51.0), cell=BP)
    assert outcome(criteria.more_sensitive(BP, MDFA), Evidence(searches={**wide.searches, **failed.searches})) is NO


def finding(value: Outcome, *cells: Cell) -> Finding:
    return Finding(outcome=value, numbers="because", cells=cells)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [((YES, YES), YES), ((YES, NO), NO), ((YES, OPEN), OPEN), ((OPEN, NO), NO), ((OPEN, OPEN), OPEN), ((), OPEN)],
)
def test_a_verdict_is_that_of_all_its_checks(outcomes: Sequence[Outcome], expected: Outcome) -> None:
    assert combine([finding(value) for value in outcomes]).outcome is expected


def test_a_verdict_tells_what_it_waits_for() -> None:
    verdict = combine([finding(YES), finding(OPEN, MDFA), finding(OPEN, MDFA, BP), finding(OPEN, *BY_CLASSES)])
    assert verdict.tally == "1 supported, 3 not tested here"
    assert verdict.decided == verdict.findings[:1]
    assert verdict.waiting == (f"because: {', '.join(c.name for c in (MDFA, BP, *BY_CLASSES))}",)
    many = combine([finding(OPEN, *CELLS.values())])
    assert many.waiting == (
        "because: 24 cells of Table 1, 24 cells of Table 2, 20 cells of Table 3, 20 cells of Table 4, "
        "12 cells of Table 5, 12 cells of Table 6",
    )
