"""A page without a browser: what a visitor does, what a browser may send, and what the page then shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import panel as pn

from mdfa_app.charts.axis import Epochs
from mdfa_app.comparison.comparison import Comparison
from mdfa_app.page.controller import Page
from mdfa_app.page.screen import Edit, Screen
from mdfa_app.page.view import View
from mdfa_app.settings.link import Link
from mdfa_app.settings.rules import rules
from mdfa_app.stage.stage import StageView
from mdfa_app.tabs.example import ExampleTab
from mdfa_app.tabs.export import ExportTab
from mdfa_app.trainer.messages import Phase
from mdfa_app.trainer.trainer import Trainer
from mdfa_core import Experiment, Run
from tests.support.patience import PATIENCE


def browser_sets(widget: Any, **values: Any) -> None:
    """A browser reports that attributes of a widget have changed."""
    widget._process_events(values)


def downloads(button: pn.widgets.FileDownload) -> bool:
    """Press a button; whether a file is sent. The press raises what the server would log."""
    asyncio.run(button._async_sync_data())
    return bool(button._transfers)


@contextmanager
def at_once(trainer: Trainer) -> Iterator[None]:
    """All requests of the block reach the training thread together, because it waits for the trainer's lock."""
    with trainer._changed:
        yield


def browser_says(component: Any, message: Any) -> None:
    """The browser's half of a component sends a message to the server's half."""
    component._handle_msg(message)


class Visit:
    """A page whose updates are drawn when the test looks."""

    def __init__(self, wait_until: Callable[..., None], query: str = "rules=mdfa") -> None:
        self.wait_until = wait_until
        self.page = Page(None, query)
        self.controls, self.widgets = self.page.controls, self.page.widgets

    @property
    def view(self) -> View:
        """What the page shows."""
        return self.page.view

    @property
    def stage(self) -> StageView:
        """What the stage shows."""
        return self.page.view.stage

    @property
    def phase(self) -> Phase:
        return self.page.state.phase

    @property
    def comparison(self) -> Comparison:
        return self.page.comparison

    @property
    def example(self) -> ExampleTab:
        """The tab Example."""
        tab = self.page.tabs["example"]
        assert isinstance(tab, ExampleTab)
        return tab

    @property
    def export(self) -> ExportTab:
        """The tab Export."""
        tab = self.page.tabs["take"]
        assert isinstance(tab, ExportTab)
        return tab

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def drained() -> bool:
            self.page.drain()
            return condition()

        self.wait_until(drained, what)

    def until_phase(self, phase: Phase) -> None:
        self.until(lambda: self.phase is phase, f"phase {phase}")

    def press(self, name: str) -> None:
        """Press a button: one of `Widgets`, or a step by its name."""
        (self.widgets.steps.get(name) or getattr(self.widgets, name)).clicks += 1

    def train(self) -> None:
        """Train until there is something to compare with."""
        self.press("start")
        self.until(lambda: self.comparison.worth_keeping, "three measurements")

    def run(self, lane: str) -> Run:
        """The net of a rule, as the trainer has it; look only while nothing trains."""
        return self.page.trainer.nets[lane].run

    def line(self, chart: str, rule: str, *, before: bool = False) -> list[float]:
        """The values that a chart draws of a rule."""
        return self.page.curves.charts[chart].points(self.comparison.slot(rule), before=before)["y"]

    def scroll_to_tabs(self) -> None:
        """Bring the open tab into sight, which makes it: its charts take most of the time of a page."""
        self.page.tabs.reveal()

    def close(self) -> None:
        self.page.close()
        assert self.page.trainer.join(PATIENCE)


class TabHost:
    """A page that holds a tab and nothing else: it remembers what the tab asks for.

    Args:
        run: the net that is drawn; questions of the tab are answered with it.
        on_watch: called when the tab asks for snapshots.
        screen: where the tab is shown; None makes edits at once.
    """

    def __init__(
        self, run: Run | None = None, on_watch: Callable[[], None] = lambda: None, screen: Screen | None = None
    ) -> None:
        link = Link()
        self.comparison = Comparison(
            rules=rules(), experiment=Experiment(), compared=link.rules, drawn=link.draw, level=link.level
        )
        self.comparison.begin(self.comparison.experiment)
        self.epochs = Epochs()
        self.figures: dict[str, Any] = {}
        self.preset = self.complaint = ""
        self.own_files: dict[str, Any] = {}
        self.prepared = True
        self.asked: list[str] = []
        self._run, self._on_watch, self._screen = run, on_watch, screen

    def watch(self) -> None:
        self.asked.append("watch")
        self.soon(self._on_watch)

    def ask(
        self, work: Callable[[Run], Any], receive: Callable[[Any], None], refuse: Callable[[str], None] | None = None
    ) -> None:
        self.asked.append("ask")
        if self._run is not None:
            result = work(self._run)
            self.soon(lambda: receive(result))

    def pick(self, word: str) -> None:
        self.asked.append(word)

    def complain(self, reason: str) -> None:
        self.complaint = reason

    def refresh(self) -> None:
        self.asked.append("refresh")

    def soon(self, edit: Edit) -> None:
        if self._screen is None:
            edit()
        else:
            self._screen.soon(edit)
