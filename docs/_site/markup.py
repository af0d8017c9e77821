"""Docstrings as text of a page: a formula such as [R, *units] or |B| must not be taken for markup."""

from __future__ import annotations

import inspect
import re

CODE = re.compile(r"(`[^`]*`)")
MARKUP = re.compile(r"[*|<]|(?<=\w)_(?!\w)")
SUBSCRIPT = re.compile(r"(?<![\w/.])([^\W\d_]{1,2}[⁺⁻]?)\\?_(\{[^{}\s]+\}|[A-Za-z0-9])(?![A-Za-z0-9_])")
COLUMNS = re.compile(r"^\S.*? {3,}\S")
SECTION = re.compile(r"^(Args|Attributes|Raises):\n((?: {4,}.*\n?)+)", re.MULTILINE)


def escaped(line: str) -> str:
    """A line in which only `code` is markup, for Markdown as for reStructuredText."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    spans = CODE.split(line)
    spans[::2] = [MARKUP.sub(r"\\\g<0>", span) for span in spans[::2]]
    return "".join(spans)


def subscripts(text: str) -> str:
    """Prose in which δ_{l+1} has its subscript."""
    spans = CODE.split(text)
    spans[::2] = [SUBSCRIPT.sub(lambda m: f"{m[1]}<sub>{m[2].strip('{}')}</sub>", span) for span in spans[::2]]
    return "".join(spans)


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText: names and meanings in columns, and examples, stay as they are."""
    done: list[str] = []
    literal = ""
    for number, line in enumerate(lines):
        if (literal == "columns" and not line) or (literal == "example" and line and not line.startswith(" ")):
            literal = ""
        if line == "Example:" and not lines[number + 1].lstrip().startswith(">>>"):
            literal = "example"
            done += ["Example::", ""]
            continue
        if not literal and (number == 0 or not lines[number - 1]):
            end = lines.index("", number) if "" in lines[number:] else len(lines)
            if any(map(COLUMNS.match, lines[number:end])):
                literal = "columns"
                done += ["::", ""]
        done.append(("    " if literal == "columns" else "") + (line if literal else escaped(line)))
    return done


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown; its sections become lists."""

    def listed(match: re.Match[str]) -> str:
        entries = re.split(r"\n(?=\S)", inspect.cleandoc(match[2]))
        items = [" ".join(entry.split()).partition(": ") for entry in entries]
        return f"{match[1]}:\n\n" + "".join(f"- `{name}`: {text}\n" for name, _, text in items)

    text = "\n".join(map(escaped, inspect.cleandoc(docstring or "").splitlines()))
    return SECTION.sub(listed, text + "\n")
