from __future__ import annotations

import re

import pytest

from mdfa_core.studies.paper.claims import CLAIMS
from mdfa_core.studies.paper.evidence import Evidence
from mdfa_core.studies.paper.propositions import PROPOSITIONS, Graded, Verdict, judge

PAGES = {
    "abstract": {1},
    "section 1": {2},
    "section 4.1": {7},
    "section 4.2": {8},
    "section 5": {9},
    "appendix B.3": {17},
}


@pytest.fixture(scope="module")
def verdicts() -> tuple[Verdict, ...]:
    return judge(Evidence())


def test_every_part_of_the_paper_with_claims_is_there() -> None:
    assert {claim.section for claim in CLAIMS.values()} == set(PAGES)
    places = [(claim.page, claim.section) for claim in CLAIMS.values()]
    assert places == sorted(places)
    assert len(CLAIMS) == 46


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_where_it_stands_and_what_decides_it(name: str, verdicts: tuple[Verdict, ...]) -> None:
    claim = CLAIMS[name]
    assert claim.page in PAGES[claim.section]
    assert 1 <= claim.sentence <= 9
    assert 3 <= len(claim.quote.split()) <= 30
    assert claim.meaning.endswith(".") or claim.meaning.endswith(").")
    assert not re.search(r"(?<!-)\bnets?\b", claim.meaning)
    assert bool(claim.rests_on) != bool(claim.needs)
    for part in claim.rests_on:
        assert part["proposition"] in PROPOSITIONS
    assert bool(claim.cases(verdicts)) == bool(claim.rests_on)
    assert f"p. {claim.page}, {claim.section}" in claim.where


def test_every_case_is_of_a_sentence(verdicts: tuple[Verdict, ...]) -> None:
    covered = {id(graded) for claim in CLAIMS.values() for graded in claim.cases(verdicts)}
    assert [graded for verdict in verdicts for graded in verdict.cells if id(graded) not in covered] == []


def test_a_claim_covers_a_part_of_a_proposition(verdicts: tuple[Verdict, ...]) -> None:
    def cells(name: str) -> list[tuple[str, str]]:
        kept: tuple[Graded, ...] = CLAIMS[name].cases(verdicts)
        return [(graded.case.cell.name, graded.case.what) for graded in kept]

    assert {name.split("/")[1] for name, _ in cells("fc-same-training")} == {"fc"}
    assert cells("multi-restriction-hurts-later") == [
        ("table-4/conv/tanh/mdfa/3", "mDFA − DFA"),
        ("table-4/conv/tanh/mdfa/3", "mDFA − DFA"),
        ("table-4/conv/tanh/mdfa/50", "DFA − mDFA"),
        ("table-4/conv/tanh/mdfa/50", "DFA − mDFA"),
    ]
    assert {what for _, what in cells("relu-to-hard-tanh")} == {f"{m} hard-tanh − {m} ReLU" for m in ("FA", "DFA")}
    assert len(cells("family-higher-error")) == 48


def test_the_last_sentence_of_section_5_is_a_claim_no_table_decides() -> None:
    claim = CLAIMS["deeper-predictors"]
    assert (claim.page, claim.section, claim.sentence) == (9, "section 5", 7)
    assert "docs/results/branches.md" in claim.needs
