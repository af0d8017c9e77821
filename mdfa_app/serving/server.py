"""The page as a server shows it: what `panel serve app/` and `mdfa app` run for every visitor."""

from __future__ import annotations

import contextlib
from typing import Any

import panel as pn
from bokeh.document import Document

from mdfa_app.charts.style import asset
from mdfa_app.page.controller import Page
from mdfa_app.serving import memory
from mdfa_app.serving.log_filter import log_shortly
from mdfa_app.serving.presence import Presence
from mdfa_app.serving.screens import Served
from mdfa_app.serving.shell import TITLE, shell
from mdfa_app.settings import link


class _Template(pn.Template):
    def __repr__(self) -> str:  # Panel formats the template again for each part that is added
        return "the page"

    def server_doc(self, doc: Document | None = None, *args: Any, **settings: Any) -> Document:
        document = doc or pn.state.curdoc
        # Otherwise Bokeh walks all models again for each of the forty parts.
        with contextlib.nullcontext() if document is None else document.models.freeze():
            made: Document = super().server_doc(document, *args, **settings)
        return made


def template(page: Page, screen: Served | None, document: Document | None, *, recorded: bool) -> pn.Template:
    """The parts of a page, laid out by assets/page.html; `recorded` is that of `shell`."""
    made = _Template("{{ shell }}" + asset("live.html"))
    made.add_variable("shell", shell(recorded=recorded))
    presence = Presence(document, on_away=page.rest, on_back=page.resume)
    drawn = {} if screen is None else {"drawn": screen.drawn}
    for name, part in {**page.parts(), "presence": presence, **drawn}.items():
        made.add_panel(name, part)
    return made


def build() -> pn.Template:
    """The page for the visitor of the current session."""
    log_shortly()
    pn.extension()  # otherwise Panel sends the scripts of every component that Python has loaded
    arguments = pn.state.session_args or {}
    pairs = [(key, values[0].decode("utf-8", "replace")) for key, values in arguments.items() if values]
    document = pn.state.curdoc
    if document is not None:
        # Panel sets this only when it sends the page; what has been drawn by then would name Panel's own server.
        styles = "static/extensions/panel/"
        document._template_variables["dist_url"] = f"{pn.state.rel_path}/{styles}" if pn.state.rel_path else styles
    screen = None if document is None else Served(document)
    page = Page(screen, link.joined(pairs))
    pn.state.on_session_destroyed(lambda session_context: page.close())
    pn.state.on_session_destroyed(memory.trim)
    made = template(page, screen, document, recorded=not pairs)
    pn.config.reconnect = True  # Panel passes this on for a served script,
    if document is not None:
        document.config.reconnect_session = True  # but not for a served function
        document.title = TITLE
    return made
