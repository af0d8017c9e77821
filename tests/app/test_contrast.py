"""Texts of the page stand out from their ground as WCAG 2.2 AA asks, by the colours of the style sheet."""

from __future__ import annotations

import re

import pytest

from mdfa_app.charts.style import PAGE
from tests.support.contrast import contrast

TEXT, GRAPHIC = 4.5, 3.0
"""Least contrast of text (success criterion 1.4.3) and of what else is needed to understand (1.4.11)."""

PAIRS = [
    *((colour, ground, TEXT) for colour in ("text", "muted") for ground in ("page", "card", "field", "soft")),
    *((f"{kind}", ground, TEXT) for kind in ("good", "warn", "bad") for ground in ("card", f"{kind}-soft")),
    ("on-accent", "accent", TEXT),
    ("soft-text", "soft", TEXT),
    ("signal", "card", TEXT),
    *((colour, "card", GRAPHIC) for colour in ("accent", "ghost", "train", "validation")),
    *((f"rule{number}", ground, GRAPHIC) for number in range(8) for ground in ("card", "soft")),
    *((f"rule{number}", "card", TEXT) for number in range(8)),  # lines have their names in their colours
    *((f"layer{number}", "card", TEXT) for number in range(8)),
]


def themes(sheet: str, dark: str) -> dict[str, dict[str, str]]:
    before, after = sheet.split(dark)[:2]
    return {
        name: dict(re.findall(r"--([a-z]+[a-z-]*\d?): (#[0-9a-f]{6})", part))
        for name, part in (("light", before), ("dark", after))
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("colour", "ground", "least"), PAIRS, ids=lambda value: str(value))
def test_what_is_read_stands_out(theme: str, colour: str, ground: str, least: float) -> None:
    named = themes(PAGE, ':root[data-theme="dark"]')[theme]
    assert contrast(named[colour], named[ground]) >= least
