"""The place where a page is shown, and how Bokeh models are changed there."""

from __future__ import annotations

from collections import deque
from functools import partial

import panel as pn
from bokeh.document import Document
from panel.io.document import schedule_write_events
from panel.io.state import set_curdoc
from tornado.ioloop import IOLoop

from mdfa_app.page.screen import Edit
from mdfa_app.serving.pacing import Drawn, Pacing

LIE_SECONDS = 0.5
"""Seconds after which a forgotten message is sent."""


class Served:
    """A document of a Bokeh server. Its models are changed in its own callbacks, which lock it.

    Edits wait from the moment the browser takes the document until it reports that the page is drawn: in between, Panel
    drops messages about its components. Make this object in the server's event loop.

    Attributes:
        drawn: a part of the page, with which the browser acknowledges what it has drawn.
    """

    def __init__(self, document: Document) -> None:
        self._document, self._loop = document, IOLoop.current()
        self._edits: deque[Edit] = deque()
        self._late: list[Edit] = []  # until the browser keeps up
        self._pacing = Pacing()
        self.drawn = Drawn(self._was_drawn)
        pn.state.onload(self._catch_up)
        document.add_periodic_callback(self._send_what_lies, round(1000 * LIE_SECONDS))

    def soon(self, edit: Edit) -> None:
        # A document that holds its events may lose the event that announces another thread's callback.
        self._loop.add_callback(self._announce, edit)

    def when_drawn(self, edit: Edit) -> None:
        if self._pacing.free:
            edit()
        elif edit not in self._late:
            self._late.append(edit)

    def _was_drawn(self, number: int) -> None:
        self._loop.call_later(self._pacing.answered(number), self._send_late)

    def _send_late(self) -> None:
        if self._late and self._pacing.free:
            late, self._late = self._late, []
            for edit in late:
                self.soon(edit)

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
        # All edits in one message: for each message, Bokeh walks every model of the document.
        with pn.io.unlocked(policy="collect"):
            while self._edits:
                self._edits.popleft()()
            if self._pacing.ask():
                self.drawn.number = self._pacing.number

    def _send_what_lies(self) -> None:
        """Send messages that Panel has made and forgotten.

        Panel 1.9 leaves messages that it cannot write at once to a task. If an earlier task ends before that task
        begins, the message stays unsent until another message is made; the last message stays for good.
        """
        schedule_write_events(self._document, [], [])
        self._send_late()  # an acknowledgement may never come
