"""The style sheets of the page and of what is inside its components, whose shadow roots the page's own cannot reach."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return (_ASSETS / name).read_text(encoding="utf-8")


_THEME = asset("theme.css")
PAGE = _THEME + asset("page.css")
NOTEBOOK = _THEME.replace(':root[data-theme="dark"]', ":host(.dark)").replace(":root", ":host").replace("body", ":host")
"""The same colours for a component that holds everything, as in the output of a notebook."""
WIDGETS = asset("widgets.css")
PANES = asset("panes.css")
