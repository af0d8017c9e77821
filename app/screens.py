"""Where a page is shown, and how its parts are edited there: a served document, or the output of a notebook's cell."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import panel as pn
from bokeh.document import Document
from bokeh.models.widgets import Widget
from panel.io.state import set_curdoc

_STYLES = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/") + "panel-preview/static/extensions/panel/"
"""Where Panel's part of Jupyter's server has the style sheets that `pn.extension(inline=True)` puts into what is
displayed at first, but not into what is made later."""

Edit = Callable[[], None]


class Screen(Protocol):
    """A place where one page is shown."""

    def soon(self, edit: Edit) -> None:
        """Have Bokeh models edited where and when that is allowed; may be called from any thread."""


class Served:
    """A document of a Bokeh server: it is edited in callbacks of its own, which lock it."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def soon(self, edit: Edit) -> None:
        self._document.add_next_tick_callback(partial(self._run, edit))

    def _run(self, edit: Edit) -> None:
        with set_curdoc(self._document):
            edit()


class Output(pn.Column):
    """The output of a notebook's cell: it is edited in the kernel's event loop, and the browser is told afterwards.

    Make it in a cell: it takes the event loop that runs there. Everything that passes between kernel and browser does
    so in that loop: a message is sent in pieces, which must not mix with those of another thread, and JupyterLab has
    messages handled in threads of their own (subshells).
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._loop = asyncio.get_running_loop()
        self._edits: deque[Edit] = deque()

    def soon(self, edit: Edit) -> None:
        self._edits.append(edit)
        self._loop.call_soon_threadsafe(self.catch_up)

    def catch_up(self) -> None:
        """Make the edits that wait; for a cell that keeps the event loop waiting."""
        if not self._edits:
            return
        while self._edits:
            self._edits.popleft()()
        pn.io.push_notebook(self)

    def _on_msg(self, ref: str, manager: Any, msg: dict[str, Any]) -> None:
        """Take what a visitor did. The browser also sends back every change it was told of: that is left out."""
        document = pn.state._views[ref][2]

        def wanted(event: dict[str, Any]) -> bool:
            if event["kind"] != "ModelChanged":
                return str(event["kind"]) == "MessageSent"
            return isinstance(document.get_model_by_id(event["model"]["id"]), Widget)

        content = msg["content"]
        content["events"] = [event for event in content.get("events", ()) if wanted(event)]
        if content["events"]:
            self._loop.call_soon_threadsafe(super()._on_msg, ref, manager, msg)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        shown = super()._repr_mimebundle_(include, exclude)
        for ref in self._models:
            pn.state._views[ref][2]._template_variables["dist_url"] = _STYLES
        return shown
