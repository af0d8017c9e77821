"""The style sheets of the page, and those of its components, whose shadow roots the page's style cannot reach."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).parents[1] / "assets"


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (_ASSETS / name).read_text(encoding="utf-8")


_THEME = asset("theme.css")
PAGE = _THEME + asset("page.css")
WIDGETS = asset("widgets.css")
PANES = asset("panes.css")
FORM = asset("form.css")
