"""The paper's claims: every sentence that its experiments could refute, with the graded cases that it covers.

The list in claims.json has the paper's own empirical claims from the abstract, the introduction, sections 4.1, 4.2 and
5, and appendix B.3. It leaves out sentences about other people's work, proofs, and announcements of later sections. A
sentence rests on cases of the propositions (`propositions`); some rest on experiments that the tables do not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from mdfa_core.base.registry import Registry
from mdfa_core.studies.paper.propositions import Graded, Verdict


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of the paper.

    Attributes:
        page, section: position in the paper.
        paragraph: first words of the paragraph or list.
        sentence: number of the sentence in that paragraph, from 1.
        quote: the paper's words.
        meaning: the claim in our words.
        rests_on: the cases that decide it: the name of a `proposition` and, to narrow its cases, its `group`, the
            method `against` which it compares, and lists of allowed values by fields of `Cell`.
        needs: what could decide it, if the tables cannot; otherwise empty.
    """

    page: int
    section: str
    paragraph: str
    sentence: int
    quote: str
    meaning: str
    rests_on: tuple[Mapping[str, Any], ...] = ()
    needs: str = ""

    @property
    def where(self) -> str:
        """Page, section, paragraph and sentence as text."""
        return f"p. {self.page}, {self.section}, “{self.paragraph} …”, sentence {self.sentence}"

    def cases(self, verdicts: Iterable[Verdict]) -> tuple[Graded, ...]:
        """The graded cases that the sentence covers."""
        by_name = {verdict.name: verdict.cells for verdict in verdicts}
        return tuple(
            graded for part in self.rests_on for graded in by_name[part["proposition"]] if _covered(graded, part)
        )


def _covered(graded: Graded, part: Mapping[str, Any]) -> bool:
    case = graded.case
    if part.get("group", case.group) != case.group:
        return False
    if "against" in part and all(cell.method != part["against"] for cell in case.cells):
        return False
    fields = {name: allowed for name, allowed in part.items() if name not in ("proposition", "group", "against")}
    return all(getattr(case.cell, name) in allowed for name, allowed in fields.items())


CLAIMS: Registry[Claim] = Registry("claim")
"""All claims by name, in the order of the paper."""
for _name, _entry in json.loads(
    resources.files(__package__).joinpath("claims.json").read_text(encoding="utf-8")
).items():
    CLAIMS.add(_name, Claim(**{**_entry, "rests_on": tuple(_entry.get("rests_on", ()))}))
