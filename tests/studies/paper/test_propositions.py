"""Cases and grades: what is compared, when it counts as shown, and what the paper's own figures say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core.studies.paper.cases import (
    MARGIN,
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
from mdfa_core.studies.paper.evidence import Candidate, Evidence, LearningCurve
from mdfa_core.studies.paper.measures import TESTED, TRAINED
from mdfa_core.studies.paper.propositions import PROPOSITIONS, Grade, Graded, Tally, grade, judge
from mdfa_core.studies.paper.published import CELLS, Cell, cells
from mdfa_core.studies.paper.statistics import Scores

MDFA = CELLS["table-1/fc/tanh/mdfa/2"]
BP, DFA = replace(MDFA, method="bp"), replace(MDFA, method="dfa")
LEVELS = {"mdfa": 90.0, "bp": 90.0, "dfa": 80.0, "fa": 70.0}


def scores(*values: float) -> Scores:
    return Scores.of(dict(enumerate(values)))


def compared(mdfa: Scores | None, other: Scores | None, margin: float = 0.0) -> Graded:
    known = {(MDFA, TESTED): mdfa, (BP, TESTED): other}
    evidence = Evidence(scores={key: value for key, value in known.items() if value is not None})
    (graded,) = grade([difference(MDFA, BP, TESTED, "test", margin=margin)], evidence)
    return graded


@pytest.mark.parametrize(
    ("mdfa", "bp", "expected"),
    [
        ((80, 81, 82, 83, 84), (70, 71, 72, 74, 74), Grade.SHOWN),
        ((80, 81, 82, 83, 84), (70, 95, 72, 74, 74), Grade.AGREES),
        ((70, 95, 72, 74, 74), (80, 81, 82, 83, 84), Grade.DISAGREES),
        ((70, 71, 72, 74, 74), (80, 81, 82, 83, 84), Grade.CONTRADICTED),
        ((80, 81, 82, 83, 84), (80, 81, 82, 83, 84), Grade.TIE),  # equal in every task
        ((99.9, 100, 100, 100, 100), (100, 100, 100, 100, 100), Grade.TIE),  # at the ceiling
        ((80, 81, 82, 83), (70, 71, 72, 74), Grade.NOT_RUN),  # four tasks
    ],
)
def test_grades_of_a_difference(mdfa: tuple[float, ...], bp: tuple[float, ...], expected: Grade) -> None:
    assert compared(scores(*mdfa), scores(*bp)).grade is expected


def test_a_match_may_be_worse_by_the_margin_and_better_by_any_amount() -> None:
    ours = scores(80, 81, 82, 83, 84)

    def beside(shift: float, wobble: float = 0.01) -> Grade:
        others = [v - shift + wobble * (-1) ** k for k, v in enumerate(ours.tasks.values())]
        return compared(ours, scores(*others), margin=MARGIN).grade

    assert beside(-MARGIN + 0.1) is Grade.SHOWN
    assert beside(10) is Grade.SHOWN
    assert beside(0) is Grade.SHOWN
    assert beside(-MARGIN - 0.1) is Grade.CONTRADICTED
    assert beside(-MARGIN + 1, wobble=3) is Grade.AGREES
    assert beside(-MARGIN - 1, wobble=3) is Grade.DISAGREES
    same = scores(100, 100, 100, 100, 100)
    assert compared(same, same, margin=MARGIN).grade is Grade.SHOWN  # a tie is a match


def test_what_is_missing_is_said() -> None:
    assert compared(None, scores(1, 2, 3, 4, 5)).reason == "not run"
    assert compared(scores(1, 2, 3, 4), scores(1, 2, 3, 4, 5)).reason == "run on fewer than 5 common tasks"
    other = Scores.of({task: 50.0 for task in range(4, 9)})
    assert compared(scores(1, 2, 3, 4, 5), other).grade is Grade.NOT_RUN


def test_the_numbers_of_a_graded_case() -> None:
    graded = compared(scores(80, 81, 82, 83, 84), scores(70, 71, 72, 74, 90))
    assert graded.effect == pytest.approx((10 + 10 + 10 + 9 - 6) / 5)
    assert (graded.ahead, graded.tasks) == (4, 5)
    assert graded.interval == graded.plain  # the only comparison
    assert graded.confidence == pytest.approx(0.95)
    assert (graded.symbol, graded.words) == ("◐", "direction agrees")
    assert graded.case.paper == pytest.approx(77.2 - 81.4)


def test_levels_are_printed_without_a_sign_and_nothing_as_minus_zero() -> None:
    shown = difference(MDFA, BP, TESTED, "test")
    assert (shown.number(0.04), shown.number(-0.04), shown.number(-3)) == ("+0.0", "+0.0", "-3.0")
    assert shown.claimed == "above 0"
    assert difference(MDFA, BP, TESTED, "test", margin=MARGIN).claimed == "above -2"
    fits = level(MDFA, TRAINED, 99.5, "fits")
    assert (fits.number(96.78), fits.claimed) == ("96.8", "above 99.5")
    assert Signs(cell=MDFA, group="signs", right=True).claimed == "all"


def test_borrowed_settings_are_marked() -> None:
    case = difference(MDFA, BP, TESTED, "test")
    known = {(MDFA, TESTED): scores(80, 81, 82, 83, 84), (BP, TESTED): scores(70, 71, 72, 74, 74)}
    (graded,) = grade([case], Evidence(scores=known, borrowed={BP: MDFA}))
    assert (graded.symbol, graded.words) == ("(●)", "shown, settings borrowed")
    assert graded.borrowed == (BP,)
    assert Tally.of([graded]).borrowed == 1


def test_intervals_are_corrected_for_the_number_of_cases_of_a_proposition() -> None:
    proposition = PROPOSITIONS["surpasses"]
    rng = np.random.default_rng(0)
    known = {
        (cell, measure): scores(*np.clip(rng.normal(LEVELS[cell.method], 3, 5), 0, 100))
        for cell in CELLS.values()
        if cell.table in (1, 2)
        for measure in (TRAINED, TESTED)
    }
    graded = grade(proposition.cases, Evidence(scores=known))
    wider = 0
    for one in graded:
        assert one.interval is not None
        assert one.plain is not None
        assert one.interval.low <= one.plain.low
        wider += one.confidence > 0.99
    assert wider == len(graded) == 32
    alone = [grade([one.case], Evidence(scores=known))[0].grade is Grade.SHOWN for one in graded]
    assert sum(alone) > sum(one.grade is Grade.SHOWN for one in graded)


@given(st.permutations(range(5)), st.lists(st.floats(0, 100), min_size=10, max_size=10))
def test_grades_do_not_depend_on_the_order_of_tasks(order: list[int], values: list[float]) -> None:
    def graded(order: list[int]) -> Graded:
        ours, theirs = ({task: values[5 * k + task] for task in order} for k in (0, 1))
        return compared(Scores.of(ours), Scores.of(theirs))

    assert graded(order) == graded(sorted(order))


@given(st.lists(st.floats(-20, 20), min_size=5, max_size=5))
def test_the_reverse_claim_gets_the_reverse_grade(values: list[float]) -> None:
    a, b = scores(*(50 + value for value in values)), scores(50, 50, 50, 50, 50)
    reverse = {
        Grade.SHOWN: Grade.CONTRADICTED,
        Grade.CONTRADICTED: Grade.SHOWN,
        Grade.AGREES: Grade.DISAGREES,
        Grade.DISAGREES: Grade.AGREES,
        Grade.TIE: Grade.TIE,
    }
    forth, back = compared(a, b), compared(b, a)
    if abs(forth.effect or 0) > 1e-6:
        assert back.grade is reverse[forth.grade]


# -------------------------------------------------------------------------------------------------------- other cases


def test_a_level_and_half_of_bps_gain() -> None:
    (graded,) = grade([level(MDFA, TRAINED, 99.5, "fits")], Evidence(scores={(MDFA, TRAINED): scores(*[100.0] * 5)}))
    assert graded.grade is Grade.SHOWN
    known = {(MDFA, TESTED): scores(61, 62, 61, 62, 61), (BP, TESTED): scores(70, 71, 70, 71, 70)}
    (graded,) = grade([half_of_bp(MDFA, "half")], Evidence(scores=known))
    assert graded.effect == pytest.approx((61.4 - 50) - (70.4 - 50) / 2)
    assert graded.grade is Grade.SHOWN


def test_losing_more_than_another() -> None:
    ours, bp = cells(3, method="mdfa"), cells(3, method="bp")
    known = {
        (ours[0], TRAINED): scores(99, 98, 99, 98, 99),
        (ours[-1], TRAINED): scores(50, 51, 52, 51, 50),
        (bp[0], TRAINED): scores(*[100.0] * 5),
        (bp[-1], TRAINED): scores(97, 98, 99, 98, 97),
    }
    (graded,) = grade([loses_more(ours, bp, "more")], Evidence(scores=known))
    assert graded.effect == pytest.approx((98.6 - 50.8) - (100 - 97.8))
    assert (graded.grade, graded.case.cell) == (Grade.SHOWN, ours[-1])
    assert graded.case.paper == pytest.approx((53.3 - 7.9) - (100.0 - 99.7))


@pytest.mark.parametrize(
    ("right", "measured", "expected"),
    [
        (True, (1.0, 1.0), Grade.SHOWN),
        (True, (1.0, 0.9999), Grade.CONTRADICTED),
        (False, (0.7, 0.6), Grade.SHOWN),
        (False, (0.7, 1.0), Grade.CONTRADICTED),
    ],
)
def test_signs_are_a_fact_about_every_measurement(right: bool, measured: tuple[float, ...], expected: Grade) -> None:
    (graded,) = grade([Signs(cell=MDFA, group="signs", right=right)], Evidence(agreement={MDFA: measured}))
    assert graded.grade is expected
    assert (graded.interval, graded.tasks) == (None, 2)


def curves(cell: Cell, slow: int) -> dict[int, LearningCurve]:
    """Five runs that come within 1 point of their best at epoch `slow` + task."""
    train = {task: tuple(min(100.0, 50 + 50 * epoch / (slow + task)) for epoch in range(1, 61)) for task in range(5)}
    return {task: LearningCurve(train=values, validation=values) for task, values in train.items()}


def test_curves() -> None:
    evidence = Evidence(curves={MDFA: curves(MDFA, 30), BP: curves(BP, 6)})
    start, later = grade([Start(cell=BP, group="start"), Later(cell=MDFA, group="later", than=BP)], evidence)
    assert start.effect == pytest.approx(np.mean([100 * 5 / (6 + task) for task in range(5)]))
    assert later.effect == pytest.approx(24, abs=0.5)
    assert later.grade is Grade.SHOWN
    assert grade([Start(cell=DFA, group="start")], evidence)[0].reason == "not run"


def test_searches_have_a_direction_and_no_interval() -> None:
    def search(*values: float) -> tuple[Candidate, ...]:
        kinds = ("zeros", "zeros", "normal:0.1")
        return tuple(
            Candidate(settings={"forward_init": kind}, rung=0, validation=value)
            for kind, value in zip(kinds, values, strict=True)
        )

    case = Searched(cell=MDFA, group="zeros", setting="forward_init", value="zeros")
    for values, expected in (
        ((80, 60, 70), Grade.AGREES),
        ((70, 60, 70), Grade.TIE),
        ((60, 60, 70), Grade.DISAGREES),
    ):
        (graded,) = grade([case], Evidence(searches={MDFA: search(*values)}))
        assert graded.grade is expected
        assert graded.interval is None
    poor = replace(case, worse=True, threshold=MARGIN)
    assert grade([poor], Evidence(searches={MDFA: search(60, 60, 63)}))[0].grade is Grade.AGREES
    assert grade([poor], Evidence(searches={MDFA: search(60, 60, 61)}))[0].grade is Grade.DISAGREES
    assert grade([case], Evidence())[0].reason == "no search is stored"
    spread = Sensitive(cell=MDFA, group="sensitive", than=BP)
    both = {MDFA: search(90, 50, 70), BP: search(90, 10, 90)}  # 10 counts as chance, 50
    assert grade([spread], Evidence(searches=both))[0].effect == pytest.approx(20 - (3200 / 6) ** 0.5)


# --------------------------------------------------------------------------------------------------------- propositions


def test_nothing_is_decided_without_results() -> None:
    for verdict in judge(Evidence()):
        assert verdict.tally.headline == "not run"
        assert {one.grade for one in verdict.cells} == {Grade.NOT_RUN}
        assert all(one.reason for one in verdict.cells)
    assert [verdict.name for verdict in judge(Evidence())] == list(PROPOSITIONS)


def test_results_as_clear_as_possible_show_a_proposition_and_one_cell_behind_contradicts_one_case() -> None:
    known = {
        (cell, measure): Scores.of({task: LEVELS[cell.method] - task + 0.01 * k for task in range(5)})
        for k, cell in enumerate(CELLS.values())
        if cell.table in (1, 2)
        for measure in (TRAINED, TESTED)
    }
    by_name = {verdict.name: verdict for verdict in judge(Evidence(scores=known))}
    assert by_name["surpasses"].tally.headline == "holds in 32 of 32"
    assert by_name["surpasses"].tally.symbols == "● 32"
    assert by_name["matches-bp-fc"].tally.headline == "holds in 8 of 8"
    assert by_name["matches-bp-fc"].parts == "training, best fit: 4 of 4 · test, chosen: 4 of 4"
    behind = {**known, (MDFA, TESTED): Scores.of({task: 60.0 - task for task in range(5)})}
    by_name = {verdict.name: verdict for verdict in judge(Evidence(scores=behind))}
    assert by_name["surpasses"].tally.symbols == "● 30 · ○ 2"
    assert by_name["surpasses"].tally.words == "30 shown, 2 contradicted"
    (wrong,) = [one for one in by_name["matches-bp-fc"].cells if one.grade is Grade.CONTRADICTED]
    assert (wrong.case.cell, wrong.case.measure) == (MDFA, TESTED)


@pytest.mark.parametrize(
    ("name", "agree", "printed"),
    [  # counted by hand in the printed tables
        ("zero-error", 3, 4),  # not 95.3 of Table 2, hard-tanh
        ("matches-bp-conv", 4, 8),  # held-out, yes; training, no
        ("relu-fails", 8, 8),
        ("discrepancy", 6, 6),
        ("beyond-ten", 8, 8),
        ("symmetric", 46, 48),  # not FA in CNN with hard-tanh on ImageNet
        ("signs", 0, 0),
    ],
)
def test_the_papers_own_figures(name: str, agree: int, printed: int) -> None:
    verdict = next(verdict for verdict in judge(Evidence()) if verdict.name == name)
    assert (verdict.tally.paper, verdict.tally.printed) == (agree, printed)


def test_a_headline_tells_agreeing_directions_apart() -> None:
    case = difference(MDFA, BP, TESTED, "test")
    grades = [Grade.SHOWN, Grade.AGREES, Grade.AGREES, Grade.DISAGREES, Grade.TIE, Grade.NOT_RUN]
    tally = Tally.of(Graded(case=case, grade=one) for one in grades)
    assert tally.headline == "holds in 1 of 5 (direction agrees in 3)"
    assert tally.symbols == "● 1 · ◐ 2 · = 1 · ◔ 1 · – 1"


def test_the_mean_effect_of_a_part_is_task_by_task() -> None:
    other = CELLS["table-1/fc/hard-tanh/mdfa/2"]
    known = {
        (MDFA, TESTED): scores(81, 82, 83, 84, 85),
        (BP, TESTED): scores(80, 80, 80, 80, 80),
        (other, TESTED): scores(79, 80, 78, 80, 79),
        (replace(other, method="bp"), TESTED): scores(80, 80, 80, 80, 80),
    }
    graded = grade(
        [difference(cell, replace(cell, method="bp"), TESTED, "test") for cell in (MDFA, other)],
        Evidence(scores=known),
    )
    tally = Tally.of(graded)
    assert tally.pooled is not None
    assert dict(tally.pooled.tasks) == {0: 0.0, 1: 1.0, 2: 0.5, 3: 2.0, 4: 2.0}
    assert tally.effect == "◐ +1.1 [+0.0, +2.2] points, claimed above 0"  # the lower bound is −0.01
    levels = grade([level(MDFA, TESTED, 10, "a"), level(other, TESTED, 20, "a")], Evidence(scores=known))
    assert Tally.of(levels).pooled is None  # effects above different thresholds have no mean
    assert Tally.of(levels).effect == ""
    unmeasured = level(CELLS["table-3/fc/tanh/mdfa/3"], TESTED, 20, "a")
    levels = grade([unmeasured, level(MDFA, TESTED, 10, "a")], Evidence(scores=known))
    assert Tally.of(levels).effect == "● 83.0 [81.0, 85.0] %, claimed above 10"


def test_borrowed_settings_that_failed_are_no_evidence() -> None:
    (graded,) = grade([difference(MDFA, BP, TESTED, "test")], Evidence(failed=frozenset({BP})))
    assert (graded.grade, graded.reason) == (Grade.NOT_RUN, "the borrowed settings failed")
