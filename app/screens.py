"""Where a page is shown, and how its parts are edited there: a served document, or the output of a notebook's cell."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import panel as pn
import param
from bokeh.document import Document
from bokeh.models.widgets import Widget
from panel.io.document import schedule_write_events
from panel.io.state import set_curdoc
from tornado.ioloop import IOLoop

_STYLES = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/") + "panel-preview/static/extensions/panel/"
"""Where Panel's part of Jupyter's server has the style sheets that `pn.extension(inline=True)` puts into what is
displayed at first, but not into what is made later."""

LIE_SECONDS = 0.5
"""How long a message may lie before it is sent."""

Edit = Callable[[], None]


class Screen(Protocol):
    """A place where one page is shown."""

    def soon(self, edit: Edit) -> None:
        """Have Bokeh models edited where and when that is allowed; may be called from any thread."""


class Served:
    """A document of a Bokeh server: it is edited in callbacks of its own, which lock it.

    What is edited after the browser took the document and before it says that it has drawn it waits until then: in
    between Panel drops messages about its components. Make it in the server's event loop.
    """

    def __init__(self, document: Document) -> None:
        self._document, self._loop = document, IOLoop.current()
        self._edits: deque[Edit] = deque()
        pn.state.onload(self._catch_up)
        document.add_periodic_callback(self._send_what_lies, round(1000 * LIE_SECONDS))

    def soon(self, edit: Edit) -> None:
        # A document that holds its events may lose the one that announces a callback of another thread.
        self._loop.add_callback(self._announce, edit)

    def _announce(self, edit: Edit) -> None:
        if self._document.session_context is not None:  # not over yet
            self._document.add_next_tick_callback(partial(self._run, edit))

    def _run(self, edit: Edit) -> None:
        self._edits.append(edit)
        with set_curdoc(self._document):
            if pn.state.loaded or not self._taken:
                self._catch_up()

    @property
    def _taken(self) -> bool:
        session = getattr(self._document.session_context, "session", None)
        return session is not None and session.connection_count > 0

    def _catch_up(self) -> None:
        # All of it in one message: for each one Bokeh goes through every model of the document.
        with pn.io.unlocked(policy="collect"):
            while self._edits:
                self._edits.popleft()()

    def _send_what_lies(self) -> None:
        """Have messages sent that Panel has made and forgotten.

        What it cannot write at once, Panel 1.9 leaves to a task. If an earlier such task ends before that one begins,
        it takes away the leave to write, and the message lies there until another one is made: the last one for good.
        """
        schedule_write_events(self._document, [], [])


class Mark(pn.custom.JSComponent):
    """A speck on a page in a notebook; from the browser it says that the page is drawn."""

    drawn = param.Number(default=0.0, doc="Another number whenever it is drawn.")

    _esm = """
export function render({ model }) {
  model.drawn = Math.random();
  const speck = document.createElement("span");
  speck.hidden = true;
  return speck;
}
"""


class Output(pn.Column):
    """The output of a notebook's cell: it is edited in the kernel's event loop, and the browser is told afterwards.

    Make it in a cell: it takes the event loop that runs there. Everything that passes between kernel and browser does
    so in that loop: a message is sent in pieces, which must not mix with those of another thread, and JupyterLab has
    messages handled in threads of their own (subshells).

    Nothing is edited until the browser says that it has drawn what was displayed last. Panel would tell it of edits as
    soon as the comm is open; what comes before the drawing is dropped there, and what comes in the midst of it is torn.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._loop = asyncio.get_running_loop()
        self._edits: deque[Edit] = deque()
        self._mark = Mark(width=0, height=0, margin=0)
        self._drawn: set[str] = set()  # by the ids of their roots: a cell that is run again displays another one

    def fill(self, parts: list[pn.viewable.Viewable]) -> None:
        """Take these parts, one below the other."""
        self.objects = [*parts, self._mark]

    def soon(self, edit: Edit) -> None:
        self._edits.append(edit)
        self._loop.call_soon_threadsafe(self._edit)

    def catch_up(self) -> None:
        """Make the edits that wait; for a cell that keeps the event loop waiting."""
        if not self._edits:
            return
        while self._edits:
            self._edits.popleft()()
        pn.io.push_notebook(self)

    def _edit(self) -> None:
        if not self._models or next(reversed(self._models)) in self._drawn:
            self.catch_up()

    def _on_msg(self, ref: str, manager: Any, msg: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._hear, ref, manager, msg)

    def _hear(self, ref: str, manager: Any, msg: dict[str, Any]) -> None:
        """Take what a visitor did. The browser also sends back every change it was told of: that is left out."""
        document = pn.state._views[ref][2]

        def wanted(event: dict[str, Any]) -> bool:
            if event["kind"] != "ModelChanged":
                return str(event["kind"]) == "MessageSent"
            return isinstance(document.get_model_by_id(event["model"]["id"]), Widget)

        content = msg["content"]
        events = content.get("events", ())
        content["events"] = [event for event in events if wanted(event)]
        if content["events"]:
            self._edits.append(partial(super()._on_msg, ref, manager, msg))
        if any(event.get("attr") == "drawn" for event in events):
            self._drawn.add(ref)
        self._edit()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        shown = super()._repr_mimebundle_(include, exclude)
        for ref in self._models:
            pn.state._views[ref][2]._template_variables["dist_url"] = _STYLES
        return shown
