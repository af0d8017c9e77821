"""The terms of the glossary, linked from their first use on every page."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx import addnodes

GLOSSARY = Path(__file__).resolve().parents[1] / "glossary.md"
ORDINARY = frozenset(
    {
        *("attach", "block", "case", "claim", "cut", "draw", "floor", "frame", "margin", "measure", "method", "note"),
        *("per replica", "record", "recording", "role", "round", "run", "scene", "search"),
    }
)
"""Words with an everyday meaning. They are linked if the page writes them in italics, as it introduces terms."""
CLOSED = (
    *(nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.raw, nodes.comment, nodes.thead),
    *(nodes.math, nodes.math_block, nodes.field_name, nodes.rubric, nodes.topic, nodes.doctest_block),
    *(addnodes.desc_signature, addnodes.toctree, addnodes.pending_xref, addnodes.download_reference),
)
"""Parts of a page without links to the glossary."""
ROW = re.compile(r"^\| (?P<names>[^|]+) \| (?P<meaning>[^|]+) \| [^|]+ \|$", re.MULTILINE)


@dataclass(frozen=True)
class Term:
    """A row of the glossary."""

    names: tuple[str, ...]
    meaning: str

    @property
    def anchor(self) -> str:
        """The fragment of the row's address."""
        return "term-" + re.sub(r"[^a-z0-9]+", "-", max(self.names, key=len).lower()).strip("-")


def terms(text: str) -> tuple[Term, ...]:
    """The rows of the tables of a glossary, without their heads."""
    rows = (match for match in ROW.finditer(text) if match["names"] not in ("term", "---"))
    return tuple(Term(tuple(row["names"].split(", ")), row["meaning"].replace("`", "")) for row in rows)


def pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Every name in singular and plural. A symbol of one letter is no word to look for."""
    words = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?P<name>{'|'.join(map(_written, words))})s?(?![\w-])")


def _written(name: str) -> str:
    """A name as it may stand in a text: a word may begin a sentence, an abbreviation has its capitals."""
    first, rest = re.escape(name[0]), re.escape(name[1:])
    return rf"(?:{first}|{re.escape(name[0].upper())}){rest}" if name[1:].islower() else first + rest


def link(document: nodes.document, address: str, known: tuple[Term, ...]) -> None:
    """Link the first use of every term.

    Args:
        document: the tree of a page, which is changed.
        address: where the glossary lies, seen from the page.
        known: the terms.
    """
    names = {name for term in known for name in term.names}
    anywhere, introduced = pattern(names - ORDINARY), pattern(names)
    by_name = {name.lower(): term for term in known for name in term.names}
    done: set[Term] = set()
    for text in list(document.findall(nodes.Text)):
        if _closed(text):
            continue
        parts: list[nodes.Node] = []
        end, words = 0, text.astext()
        for match in (introduced if isinstance(text.parent, nodes.emphasis) else anywhere).finditer(words):
            term = by_name[match["name"].lower()]
            if term in done:
                continue
            done.add(term)
            reference = nodes.reference("", match[0], internal=True, refuri=f"{address}#{term.anchor}")
            reference["classes"], reference["reftitle"] = ["term"], term.meaning
            parts += [nodes.Text(words[end : match.start()]), reference]
            end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(words[end:])])


def _closed(node: nodes.Node) -> bool:
    while node.parent is not None:
        before = node.parent[node.parent.index(node) - 1] if node.parent.index(node) else None
        if isinstance(before, nodes.raw) and before.astext().startswith("<a "):  # a link to a finished page
            return True
        node = node.parent
        if isinstance(node, CLOSED):
            return True
    return False


def mark(document: nodes.document, known: tuple[Term, ...]) -> None:
    """Give every row of the glossary's own tree its address."""
    anchors = {", ".join(term.names): term.anchor for term in known}
    for row in document.findall(nodes.row):
        if anchor := anchors.get(row[0].astext()):
            row["ids"].append(anchor)
