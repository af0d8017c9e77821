"""The first part of the page, the same for all visitors: a browser gets it before the server makes the rest."""

from __future__ import annotations

import functools
import re

from mdfa_app.charts.style import PAGE, asset
from mdfa_app.stage import first

TITLE = "Learning without backpropagation"
END = "<!-- From here on, the page is the visitor's own. -->"
"""Ends the shell in a page."""
FAILED = '<p class="alert" role="alert">The server could not make this page: reload it to try again.</p></body></html>'
"""The rest of a page that the server could not make."""


@functools.lru_cache(maxsize=2)
def shell(*, recorded: bool) -> str:
    """The page up to the scripts and parts of its visitor: the head, the layout, and places for the parts.

    Args:
        recorded: whether it shows a recorded run of the first preset until the visitor's networks are drawn: only if
            the address asks for nothing else.
    """
    parts = {"title": TITLE, "css": PAGE, "recorded": first.markup() if recorded else ""}
    return re.sub("%([a-z]+)%", lambda place: parts[place[1]], asset("page.html")) + END
