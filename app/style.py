"""The style sheets of the page and of what is inside its components, whose shadow roots the page's own cannot reach."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (_ASSETS / name).read_text(encoding="utf-8")


PAGE = asset("page.css")
WIDGETS = asset("widgets.css")
PANES = asset("panes.css")
