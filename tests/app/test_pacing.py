"""A slow browser gets news less often, and answers to clicks at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bokeh.document import Document

from mdfa_app.page.controller import Page
from mdfa_app.page.screen import Edit
from mdfa_app.serving.pacing import ASK_SECONDS, MOST_REST_SECONDS, PATIENCE_SECONDS, SLOW_SECONDS, Pacing
from mdfa_app.serving.screens import Served
from mdfa_app.trainer.messages import Phase, Position, Status
from mdfa_app.trainer.outbox import Notice


class Clock:
    """A clock that tests set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Browser:
    """A browser that draws one update after the other, each in so many seconds, and a server that follows `Pacing`.

    Attributes:
        waits: for each update, how long it waited in the browser for earlier ones.
        sent: when the updates were sent.
    """

    def __init__(self, draws: float) -> None:
        self.clock = Clock()
        self.pacing = Pacing(self.clock)
        self.pacing.answered(0)
        self.draws, self._idle_at = draws, 0.0
        self.waits: list[float] = []
        self.sent: list[float] = []
        self.asked = 0
        self._answers: list[tuple[float, int]] = []

    def run(self, seconds: float, every: float = 0.13) -> None:
        """Have an update ready so often; it is sent, or another one later instead."""
        end, due = self.clock.now + seconds, self.clock.now
        while self.clock.now < end:
            self.clock.now += 0.005
            while self._answers and self._answers[0][0] <= self.clock.now:
                self.pacing.answered(self._answers.pop(0)[1])
            if self.clock.now >= due and self.pacing.free:
                due = self.clock.now + every
                self._send()

    def _send(self) -> None:
        now = self.clock.now
        self.sent.append(now)
        self.waits.append(max(0.0, self._idle_at - now))
        self._idle_at = max(now, self._idle_at) + self.draws
        if self.pacing.ask():
            self.asked += 1
            self._answers.append((self._idle_at, self.pacing.number))


def test_a_fast_browser_gets_every_update_and_acknowledges_few() -> None:
    browser = Browser(draws=0.02)
    browser.run(20)
    assert len(browser.sent) > 20 / 0.14
    assert browser.asked <= 20 / ASK_SECONDS + 1
    assert max(browser.waits) == 0


@pytest.mark.parametrize("draws", [0.25, 0.5, 1.5])
def test_updates_never_queue_in_a_slow_browser(draws: float) -> None:
    browser = Browser(draws=0.02)
    browser.run(5)
    browser.draws = draws  # the machine becomes busy
    browser.run(ASK_SECONDS + 10 * draws)
    later = len(browser.sent)
    browser.run(60)
    assert max(browser.waits[later:]) == 0
    busy = draws * (len(browser.sent) - later) / 60
    assert busy < 0.5 + 0.25 * draws  # the rest is for clicks
    assert len(browser.sent) - later > 60 / (2 * draws + MOST_REST_SECONDS)


def test_a_browser_that_becomes_fast_gets_every_update_again() -> None:
    browser = Browser(draws=0.02)
    browser.run(3)
    browser.draws = SLOW_SECONDS + 0.1
    browser.run(10)
    browser.draws = 0.02
    browser.run(2)
    before = len(browser.sent)
    browser.run(10)
    assert len(browser.sent) - before > 10 / 0.14


def test_a_lost_acknowledgement_is_waited_for_no_longer_than_patience() -> None:
    clock = Clock()
    pacing = Pacing(clock)
    pacing.answered(0)
    assert pacing.ask()
    assert not pacing.free
    pacing.answered(7)  # a browser may send any number
    assert not pacing.free
    clock.now += PATIENCE_SECONDS
    assert pacing.free
    assert pacing.ask()


def test_a_page_drawn_anew_is_not_waited_for() -> None:
    pacing = Pacing(Clock())
    pacing.answered(0)
    assert pacing.ask()
    pacing.answered(0)
    assert pacing.free


def test_nothing_is_asked_of_a_client_that_does_not_draw() -> None:
    clock = Clock()
    pacing = Pacing(clock)
    for _ in range(10):
        assert not pacing.ask()
        assert pacing.free
        clock.now += 1


def test_an_update_that_waits_is_made_once_when_the_browser_has_drawn() -> None:
    done: list[str] = []

    class Held:
        session_context = SimpleNamespace(session=None)

        def add_next_tick_callback(self, callback: Callable[[], None]) -> None:
            callback()

        def add_periodic_callback(self, callback: Callable[[], None], milliseconds: int) -> None:
            pass

    def news() -> None:
        done.append("news")

    async def serve() -> None:
        screen = Served(cast(Document, Held()))
        screen.drawn._handle_msg(0)
        screen.soon(lambda: done.append("first"))
        await asyncio.sleep(0.05)
        assert screen.drawn.number == 1
        screen.when_drawn(news)
        screen.when_drawn(news)
        screen.soon(lambda: done.append("click"))
        await asyncio.sleep(0.05)
        assert done == ["first", "click"]
        for wrong in ("1", None, True, math.nan, 5):
            screen.drawn._handle_msg(wrong)
        await asyncio.sleep(0.05)
        assert done == ["first", "click"]
        screen.drawn._handle_msg(1)
        await asyncio.sleep(0.05)
        assert done == ["first", "click", "news"]

    asyncio.run(serve())


def test_the_answer_to_a_click_does_not_wait_for_the_browser() -> None:
    class Busy:
        """A screen whose browser does not keep up."""

        def __init__(self) -> None:
            self.late: list[Edit] = []

        def soon(self, edit: Edit) -> None:
            edit()

        def when_drawn(self, edit: Edit) -> None:
            self.late.append(edit)

    screen = Busy()
    page = Page(None)
    try:
        page.trainer.pause()
        page._screen = screen
        send: Any = page.trainer._send
        number = page.comparison.number
        page.drain()
        send(number, Position(3, 0), notice=Notice.DUE)
        assert page.comparison.position.step == 0
        assert screen.late
        send(number, Status(Phase.PAUSED))
        assert page.state.phase is Phase.PAUSED
        assert page.comparison.position.step == 3
        for edit in screen.late:  # what waits finds nothing more
            edit()
    finally:
        page.close()
