"""Who is there: a connection that is lost for a while, one that is lost for good, a tab that is closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.util.token import check_token_signature, generate_jwt_token, get_session_id, get_token_payload

from benchmarks.app_load import Proxy, free_port
from mdfa_app import build
from mdfa_app.serving import presence
from mdfa_app.serving.presence import AWAY_SECONDS, KEPT_PAGES, KEPT_SECONDS, Presence
from tests.app.servers import listens
from tests.app.visits import browser_says
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Session:
    """What a page sees of Bokeh's session."""

    def __init__(self) -> None:
        self.id = "visit"
        self.token = generate_jwt_token(cast(Any, "visit"), extra_payload=cast(Any, {"arguments": {"seed": ["1"]}}))
        self.connection_count = 0
        self.milliseconds_since_last_unsubscribe = 0.0
        self.blocked = 0

    def block_expiration(self) -> None:
        self.blocked += 1

    def unblock_expiration(self) -> None:
        assert self.blocked
        self.blocked -= 1

    def alone(self, seconds: float) -> None:
        self.connection_count = 0
        self.milliseconds_since_last_unsubscribe = 1000 * seconds


class Visit:
    def __init__(self) -> None:
        self.session = Session()
        self.told: list[str] = []
        document = SimpleNamespace(
            session_context=SimpleNamespace(session=self.session), add_periodic_callback=lambda *_: None
        )
        self.presence = Presence(
            cast(Document, document),
            on_away=lambda: self.told.append("away"),
            on_back=lambda: self.told.append("back"),
        )

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.presence.look()

    def come(self) -> None:
        self.session.connection_count = 1
        self.look(2)


@pytest.fixture(autouse=True)
def _nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_waiting", [])


@pytest.fixture
def visit() -> Visit:
    made = Visit()
    made.come()
    return made


def test_a_session_nobody_connected_to_is_bokehs_to_end() -> None:
    visit = Visit()
    visit.session.alone(2 * KEPT_SECONDS)
    visit.look(3)
    assert (visit.session.blocked, visit.told) == (0, [])


def test_a_short_loss_changes_nothing(visit: Visit) -> None:
    visit.session.alone(AWAY_SECONDS - 1)
    visit.look(3)
    visit.come()
    assert (visit.session.blocked, visit.told) == (1, [])


def test_a_browser_hears_something_at_every_look(visit: Visit) -> None:
    beats = []
    visit.presence.param.watch(lambda event: beats.append(event.new), "beat")
    visit.look(4)
    assert len(beats) == 4


def test_a_longer_loss_frees_the_place_and_keeps_the_session(visit: Visit) -> None:
    visit.session.alone(AWAY_SECONDS + 1)
    visit.look(3)
    assert (visit.session.blocked, visit.told) == (1, ["away"])
    visit.come()
    assert (visit.session.blocked, visit.told) == (1, ["away", "back"])


def test_a_loss_for_good_ends_the_session(visit: Visit) -> None:
    visit.session.alone(KEPT_SECONDS + 1)
    visit.look(3)
    assert (visit.session.blocked, visit.told) == (0, ["away"])


def test_only_so_many_pages_are_kept_and_who_waits_longest_goes() -> None:
    visits = [Visit() for _ in range(KEPT_PAGES + 2)]
    for one in visits:
        one.come()
    for one in visits[:KEPT_PAGES]:
        one.session.alone(AWAY_SECONDS + 1)
        one.look()
    assert [one.session.blocked for one in visits] == [1] * len(visits)
    visits[0].come()  # back, and so no longer among those who wait
    for one in visits[KEPT_PAGES:]:
        one.session.alone(AWAY_SECONDS + 1)
        one.look()
    assert [one.session.blocked for one in visits] == [1, 0] + [1] * KEPT_PAGES
    visits[1].come()  # before Bokeh has ended it
    assert (visits[1].session.blocked, visits[1].told) == (1, ["away", "back"])


def test_a_closed_tab_frees_place_and_session_at_once(visit: Visit) -> None:
    browser_says(visit.presence, "left")
    assert visit.told == ["away"]
    visit.session.alone(0.5)
    visit.look()
    assert (visit.session.blocked, visit.told) == (0, ["away"])


def test_a_tab_that_says_it_leaves_and_stays_goes_on(visit: Visit) -> None:
    browser_says(visit.presence, "left")
    visit.look(2)
    assert visit.told == ["away", "back"]
    visit.session.alone(1)
    visit.look()
    assert visit.session.blocked == 1


@pytest.mark.parametrize("word", [None, 3, ["left"], {"left": 1}, "LEFT", "left" * 1000])
def test_other_words_from_a_browser_mean_nothing(visit: Visit, word: object) -> None:
    browser_says(visit.presence, word)
    assert visit.told == []


def test_the_browser_holds_a_token_for_as_long_as_its_session_is_kept(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = visit.presence.token
    assert check_token_signature(token, signed=False)
    assert get_session_id(token) == "visit"
    ours, first = cast(Any, get_token_payload(token)), cast(Any, get_token_payload(visit.session.token))
    assert ours["arguments"] == first["arguments"]
    assert ours["session_expiry"] >= first["session_expiry"] + 60
    made = []
    monkeypatch.setattr(presence, "_renewed", lambda session: made.append(session) or "next")
    visit.look(presence._RENEWED_LOOKS - 1)
    assert made == []
    visit.look()
    assert visit.presence.token == "next"


# ------------------------------------------------------------------------------------------------- in a real browser


@pytest.fixture
def proxy(trainers: Callable[[], int], wait_until: Callable[..., None]) -> Iterator[Proxy]:
    """The page served by this process, behind a door that can be shut."""
    port = free_port()
    proxy = Proxy(port)
    server: Any = pn.serve(
        {"app": build},
        port=port,
        address="127.0.0.1",
        threaded=True,
        show=False,
        unused_session_lifetime_milliseconds=500,
        check_unused_sessions_milliseconds=100,
        websocket_origin=f"127.0.0.1:{proxy.port}",
    )
    wait_until(lambda: listens(port), "the start of the server")
    yield proxy
    proxy.close()
    wait_until(lambda: trainers() == 0, "the end of the page's trainer")
    server.stop()
    server.join(PATIENCE)


def open_and_start(page: Page, proxy: Proxy) -> None:
    page.goto(f"http://127.0.0.1:{proxy.port}/app?rules=mdfa&epochs=2000")
    page.locator(".chip", has_text="Ready").wait_for()
    page.get_by_role("button", name="▶ Start").click()
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()


@pytest.mark.browser
def test_who_was_away_for_longer_is_told_that_training_rested(
    page: Page, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(presence, "AWAY_SECONDS", 0.5)
    open_and_start(page, proxy)
    page.wait_for_timeout(1000)
    proxy.cut()
    page.get_by_text("The connection to the server is lost").wait_for()
    page.wait_for_timeout(1500)
    proxy.mend()
    page.get_by_text("Training rested while the connection was lost.").wait_for()
    page.locator(".chip", has_text="Running").wait_for()


@pytest.mark.browser
def test_a_silent_server_is_named_and_the_message_goes_when_it_answers(page: Page, proxy: Proxy) -> None:
    open_and_start(page, proxy)
    note = page.locator("#connection")
    page.wait_for_timeout(6000)
    assert note.is_hidden()
    proxy.hold()
    page.get_by_text(re.compile(r"No answer from the server for \d+ s\.")).wait_for()
    proxy.mend()
    note.wait_for(state="hidden")
    page.locator(".chip", has_text="Running").wait_for()


@pytest.mark.browser
def test_the_back_button_brings_a_page_that_lives(page: Page, proxy: Proxy) -> None:
    open_and_start(page, proxy)
    page.goto("about:blank")
    page.wait_for_timeout(1500)  # the server ends the session
    page.go_back()
    page.get_by_text("Running").or_(page.get_by_text("Ready")).first.wait_for()
    page.get_by_role("button", name="Step", exact=True).wait_for()
    assert page.locator("#connection").is_hidden()


@pytest.mark.browser
def test_who_was_away_for_too_long_is_told_to_begin_anew(
    page: Page,
    proxy: Proxy,
    trainers: Callable[[], int],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(presence, "KEPT_SECONDS", 1.0)
    monkeypatch.setattr(Presence.param.kept, "default", 1.0)
    open_and_start(page, proxy)
    page.wait_for_timeout(1000)
    proxy.cut()
    page.get_by_text(
        "The connection was lost for too long, so the server has ended the runs. Reload the page to start again."
    ).wait_for()
    wait_until(lambda: trainers() == 0, "the end of the trainer")
    proxy.mend()
    page.reload()
    page.locator(".chip", has_text="Ready").wait_for()
