"""Numbers and names in words: shares as percentages, the levels of sign agreement, sentences."""

from __future__ import annotations

from mdfa_core import DATASETS
from mdfa_core.learning.probes import LEVELS

LEVEL_TITLES = {
    "unit": "unit error signals",
    "example": "single-example updates",
    "batch": "mini-batch updates",
}
LEVEL_CHOICES = {"unit": "Unit errors", "example": "One example", "batch": "Mini-batch"}


def percent(share: float | None) -> str:
    """A share as a percentage; "100 %" and "0 %" only if it is exactly all or nothing."""
    if share is None or share != share:
        return "–"
    if share in (0.0, 1.0):
        return f"{share:.0%}"[:-1] + " %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def written(value: object) -> str:
    """A value as people write it: a float as short as possible without a change of its value."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def setting(name: str, value: object) -> str:
    """The value of a setting in words; data by its title."""
    return DATASETS[str(value)].title if name == "data" and value in DATASETS else written(value)


def level_title(level: str) -> str:
    """The title of a level of agreement."""
    return LEVEL_TITLES.get(level, level)


def levels() -> dict[str, str]:
    """Levels of agreement by title, in the order of `LEVELS`."""
    return {LEVEL_CHOICES.get(level, level): level for level in LEVELS}


def sentence(text: str) -> str:
    """An error message as a full sentence: with a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
