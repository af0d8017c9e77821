from __future__ import annotations

import pytest

from mdfa_core.paper.claims import CLAIMS, judge
from mdfa_core.paper.criteria import Outcome
from mdfa_core.paper.evidence import Evidence, published_evidence
from mdfa_core.paper.published import CELLS
from mdfa_core.paper.statistics import Scores

PAGES = {
    "abstract": {1},
    "section 1": {2},
    "section 4.1": {7},
    "section 4.2": {8},
    "section 5": {9},
    "appendix B.3": {17},
}


def test_every_part_of_the_paper_with_claims_is_there() -> None:
    assert {claim.section for claim in CLAIMS.values()} == set(PAGES)
    places = [(claim.page, claim.section) for claim in CLAIMS.values()]
    assert places == sorted(places)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_where_it_stands_and_what_decides_it(name: str) -> None:
    claim = CLAIMS[name]
    assert claim.page in PAGES[claim.section]
    assert 1 <= claim.sentence <= 9
    assert 3 <= len(claim.quote.split()) <= 30
    assert claim.meaning.endswith(".") or claim.meaning.endswith(").")
    assert claim.criterion.endswith(".")
    assert claim.checks
    assert f"p. {claim.page}, {claim.section}" in claim.where


def test_the_last_sentence_of_section_5_is_a_claim_no_table_decides() -> None:
    claim = CLAIMS["deeper-predictors"]
    assert (claim.page, claim.section, claim.sentence) == (9, "section 5", 7)
    (finding,) = claim.judge(published_evidence()).findings
    assert finding.outcome is Outcome.NOT_TESTED
    assert "docs/branches.md" in finding.numbers


def test_nothing_is_decided_without_results() -> None:
    for name, verdict in judge(Evidence()).items():
        assert verdict.outcome is Outcome.NOT_TESTED, name
        assert not verdict.decided
        assert verdict.waiting
    assert set(judge(Evidence())) == set(CLAIMS)


@pytest.mark.parametrize(
    ("name", "outcome", "failing"),
    # Worked out by hand from the printed tables; `failing` is text of every check that fails.
    [
        ("binary-zero-error", "not supported", ["Table 2, FC, hard-tanh, training: mDFA 95.3", "mDFA 99.9 ± 0.1"]),
        ("binary-conv-matches-bp", "supported", []),
        ("relu-fails", "supported", []),
        (
            "relu-to-hard-tanh",
            "not supported",
            ["Table 2, CNN, training: FA hard-tanh 51.9 ± 0.5, FA ReLU 52.3", "validation: FA hard-tanh 54.7 ± 4.6"],
        ),
        ("fc-same-training", "not supported", ["Table 2, FC, hard-tanh, training: mDFA 95.3 ± 10.4, BP 98.4"]),
        ("fc-generalises-less", "supported", []),
        ("conv-reversed", "supported", []),
        (
            "multi-conv-up-to-ten",
            "not supported",
            [
                "Table 4, CNN, tanh, 10 classes, test: mDFA 63.9 ± 4.2, DFA 65.0",
                "Table 6, CNN, tanh, 3 classes, training: mDFA 68.1 ± 8.2, DFA 100.0",
                "Table 6, CNN, tanh, 3 classes, validation: mDFA 74.8 ± 8.8, DFA 76.5",
                "Table 6, CNN, tanh, 5 classes, training: mDFA 60.4 ± 6.2, DFA 100.0",
                "Table 6, CNN, tanh, 5 classes, validation: mDFA 61.9 ± 5.3, DFA 68.7",
                "Table 6, CNN, tanh, 10 classes, training: mDFA 42.9 ± 3.9, DFA 90.4",
                "Table 6, CNN, tanh, 10 classes, validation: mDFA 44.1 ± 4.4, DFA 53.6",
            ],
        ),
        ("multi-beyond-ten", "supported", []),
        ("family-struggles", "supported", []),  # ties at 100.0 are no rise
        ("bp-fits-all", "supported", []),
    ],
)
def test_the_papers_own_figures_are_judged(name: str, outcome: str, failing: list[str]) -> None:
    verdict = CLAIMS[name].judge(published_evidence())
    assert verdict.outcome == outcome
    failed = [finding.numbers for finding in verdict.findings if finding.outcome is Outcome.NOT_SUPPORTED]
    assert len(failed) == len(failing)
    for text, numbers in zip(failing, failed, strict=True):
        assert text in numbers


def test_claims_about_curves_searches_and_signs_are_not_in_print() -> None:
    for name in ("introduction-sign", "fast-start", "slow-convergence", "zeros-best", "normal-feedback", "sensitive"):
        assert CLAIMS[name].judge(published_evidence()).outcome is Outcome.NOT_TESTED


@pytest.mark.parametrize(
    ("name", "right", "wrong"), [("introduction-sign", 1.0, 0.99), ("limited-to-scalar", 0.9, 1.0)]
)
def test_a_claim_about_signs_waits_for_every_cell(name: str, right: float, wrong: float) -> None:
    claim = CLAIMS[name]
    named = [finding.cells for finding in claim.judge(Evidence()).findings]
    every = [cell for cells in named for cell in cells]
    assert all(len(cells) == 1 for cells in named)
    assert {cell.method for cell in every} == {"mdfa"}
    measured = {cell: (right,) * 10 for cell in every}
    assert claim.judge(Evidence(agreement=measured)).outcome is Outcome.SUPPORTED

    *rest, last = every
    partly = claim.judge(Evidence(agreement={cell: (right,) * 10 for cell in rest}))
    assert partly.outcome is Outcome.NOT_TESTED
    assert len(partly.decided) == len(rest)
    assert partly.waiting == (f"no run measured sign agreement: {last.name}",)
    assert claim.judge(Evidence(agreement={last: (right, wrong)})).outcome is (
        Outcome.NOT_SUPPORTED if name == "introduction-sign" else Outcome.NOT_TESTED
    )
    assert claim.judge(Evidence(agreement={last: (wrong,)})).outcome is Outcome.NOT_SUPPORTED


def test_results_as_clear_as_possible_support_the_claim_of_surpassing() -> None:
    """mDFA ahead of DFA and FA in every task of every cell supports it; one cell behind refutes it."""
    levels = {"mdfa": 90.0, "bp": 90.0, "dfa": 80.0, "fa": 70.0}
    scores = {
        (cell, split): Scores.of({task: levels[cell.method] - task for task in range(5)})
        for cell in CELLS.values()
        if cell.table in (1, 2) and cell.activation != "relu"
        for split in cell.splits
    }
    for name in ("abstract-surpasses", "abstract-matches-bp", "conclusion-superior"):
        assert CLAIMS[name].judge(Evidence(scores=scores)).outcome is Outcome.SUPPORTED
    behind = {**scores, (CELLS["table-1/fc/tanh/mdfa/2"], "test"): Scores.of(dict.fromkeys(range(5), 60.0))}
    for name in ("abstract-surpasses", "abstract-matches-bp", "conclusion-superior"):
        assert CLAIMS[name].judge(Evidence(scores=behind)).outcome is Outcome.NOT_SUPPORTED
