"""Format cells, tables and averages for the terminal; refuse files that cannot be written."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.text import printable


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; `-` for None."""
    return "-" if value is None else f"{value:.1%}"


def cell(value: Any) -> str:
    """A value as short text: floats with up to six digits, `-` for None, control characters as escapes.

    Runs may come from others, and a terminal obeys control characters.
    """
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else printable(str(value))


def mean(values: Sequence[float | None], form: str) -> str:
    """The mean of the values that are numbers, formatted; `-` if there are none."""
    known = [value for value in values if value is not None and value == value]
    return form.format(sum(known) / len(known)) if known else "-"


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print lines in columns that are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def refuse_unwritable(path: Path, example: str) -> None:
    """Check before hours of training that a file can be written.

    Args:
        path: the file.
        example: a good name.

    Raises:
        InvalidValue: the path is a folder, or its folder does not exist or cannot be written.
    """
    folder = path.absolute().parent
    if path.is_dir():
        raise InvalidValue(f"{path} is a folder: give the name of a file, such as {path / example}")
    if not folder.is_dir():
        raise InvalidValue(f"the folder {path.parent} does not exist: make it first, or name another")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidValue(
            f"{path} cannot be written ({error.strerror}): give a file in a folder that can be written"
        ) from None
