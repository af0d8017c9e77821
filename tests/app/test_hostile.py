"""What a visitor could send to do harm: links, values and messages that no page of ours would send."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.websocket import WebSocketClosedError

from mdfa_app.page.controller import Page
from mdfa_app.settings import link
from mdfa_app.settings.limits import LIMITS
from mdfa_app.settings.rules import rules
from mdfa_app.tabs import TABS
from mdfa_app.trainer.messages import Phase
from mdfa_app.trainer.sharing import MEMORY
from mdfa_core import DATASETS, MdfaError
from tests.app.servers import Client, Server, served
from tests.app.visits import browser_says
from tests.support.patience import PATIENCE

HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'"
KEYS = sorted({*link.SETTINGS, "rules", "draw", "level", "speed", "tab", "preset", "embed", "method", HTML})
VALUES = [
    HTML, "../../etc/passwd", "/etc/passwd", "__import__('os').system('id')", "${7*7}", "{{7*7}}", "%00", "\0", "",
    "nan", "inf", "-inf", "1e999", "-1", "9" * 199, "0x10", "fc:" + "1," * 90, "fc:999999999999", "conv:1x1",
    "normal:nan", "uniform:inf", "normal:1e400", "none", "true", "None", "mdfa,mdfa,bp", "٣", "²", "💥" * 50,
]  # fmt: skip


def read(query: str) -> tuple[link.Link, list[str]]:
    return link.read(query, tabs=tuple(TABS))


def holds(state: link.Link, complaints: list[str]) -> None:
    """What is true whatever a link says."""
    LIMITS.check(state.settings)
    assert state.settings.data in DATASETS
    assert state.rules
    assert set(state.rules) <= set(rules())
    assert state.draw in state.rules
    assert state.tab in ("", *TABS)
    assert all(len(complaint) < 2000 for complaint in complaints)


@pytest.mark.parametrize("value", VALUES)
def test_no_value_of_a_link_gets_past_the_checks(value: str) -> None:
    for key in KEYS:
        holds(*read(urlencode({key: value})))


@given(st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=30), st.sampled_from(VALUES) | st.text())))
@settings(deadline=None, max_examples=60)
def test_no_link_gets_past_the_checks(pairs: list[tuple[str, str]]) -> None:
    holds(*read(urlencode(pairs, errors="replace")))


@pytest.mark.parametrize("query", ["seed=" + "1" * 100_000, "a=1&" * 10_000, "%" * 5000, "\ud800"])
def test_oversized_links_are_cut(query: str) -> None:
    state, complaints = read(query)
    holds(state, complaints)
    assert len(complaints) <= 41


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One page for all tests, because making it takes a second. Tests that change it come last."""
    made = Page(None, urlencode({"network": HTML, "rules": f"mdfa,{HTML}", "tab": HTML, HTML: HTML, "data": HTML}))
    yield made
    made.close()
    assert made.trainer.join(PATIENCE)


def shown(page: Page) -> str:
    """All markup of the page's own that a visitor's words could be in."""
    view, stage = page.view, page.view.stage
    texts = (view.status, view.numbers, view.claim, stage.caption, stage.meaning, stage.rules)
    return "".join((*texts, page.tabs.about))


@pytest.mark.parametrize(
    "word",
    [HTML, "", ":", "toggle", "toggle:" + HTML, "draw:__class__", "layer:" + "9" * 5000, "layer:-1", "layer:٣",
     "layer:²", "layer:1.0", "paper:" + HTML, "draw:" + "x" * 1_000_000],
)  # fmt: skip
def test_no_picked_word_does_anything_that_was_not_offered(page: Page, word: str) -> None:
    before = (page.comparison.compared, page.comparison.drawn, page.tabs.name, page.view.status)
    page.pick(word)
    assert (page.comparison.compared, page.comparison.drawn, page.tabs.name, page.view.status) == before


@pytest.mark.parametrize("message", [None, 1, 1.5, [], {}, ["draw:bp"], {"word": "draw:bp"}, True, b"draw:bp"])
def test_a_picked_word_is_a_word(page: Page, message: object) -> None:
    before = page.comparison.compared
    browser_says(page.stage.list, message)
    browser_says(page.stage.nets, message)
    assert page.comparison.compared == before


@pytest.mark.parametrize(
    "chosen",
    [None, 1, [], {}, {"row": "mdfa"}, {"row": "mdfa", "layer": True}, {"row": "mdfa", "layer": "1"},
     {"row": 1, "layer": 1}, {"row": HTML, "layer": -1}, {"row": "mdfa", "layer": 10**3}],
)  # fmt: skip
def test_a_chosen_layer_is_one_of_a_compared_rule(page: Page, chosen: object) -> None:
    before = (page.comparison.compared, page.comparison.drawn, page.tabs.name, page.view.status)
    browser_says(page.stage.nets, {"layer": chosen})
    assert (page.comparison.compared, page.comparison.drawn, page.tabs.name, page.view.status) == before


@pytest.mark.parametrize("depth", [None, True, "3", 2.5, -1, 9, 10**30, [3]])
def test_a_depth_is_a_number_that_is_allowed(page: Page, depth: object) -> None:
    before = (page.controls.depth.value, page.comparison.experiment)
    browser_says(page.stage.nets, {"depth": depth})
    assert (page.controls.depth.value, page.comparison.experiment) == before


def test_what_a_visitor_wrote_is_shown_as_text(page: Page) -> None:
    assert "&lt;img src=x" in page.view.status
    page.controls.own_network.value = HTML
    page.controls.network.value = "own"
    assert "&lt;img src=x" in page.view.status
    assert "<script" not in shown(page)
    assert "<img src=x" not in shown(page)


def test_a_network_that_is_written_out_is_bounded(page: Page) -> None:
    page.controls.network.value = "own"
    page.controls.own_network.value = "fc:" + "1," * 100_000
    assert "200003 characters" in page.view.status or "200002 characters" in page.view.status
    assert len(page.view.status) < 2000


WRONG: list[Any] = [
    None,
    "x" * 100_000,
    HTML,
    -1,
    10**9,
    10**40,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    True,
    "\0",
]


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_no_value_of_a_control_that_no_page_would_send_is_taken(page: Page, value: Any) -> None:
    """As the server's side gets it from a browser: the widget refuses it, or the page does, in a sentence."""
    for name in [*page.controls.form.shown, value, HTML]:
        browser_says(page.controls.form, {"name": name, "value": value})
        browser_says(page.controls.form, value)
        LIMITS.check_all([rule.experiment(page.comparison.experiment) for rule in page.comparison.chosen_rules])
        assert "<img src=x" not in shown(page)
    with contextlib.suppress(MdfaError):  # and nothing else
        page.controls.experiment()


def test_a_server_without_room_says_so(wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MEMORY, "limit", lambda: 2**30)
    monkeypatch.setattr(MEMORY, "taken", 2**30)
    monkeypatch.setattr(MEMORY, "make_room", lambda: False)  # a server of another test may have set it
    page = Page(None, "")
    try:
        wait_until(lambda: (page.drain(), page.state.phase is Phase.FAILED)[1], "a refusal")
        assert "memory: choose a smaller network or try again later" in page.view.status
    finally:
        page.close()
        assert page.trainer.join(PATIENCE)


# ------------------------------------------------------------------------------------------------ over a real websocket

NAN = {"type": "number", "value": "nan"}
SENT: list[Any] = [
    None,
    HTML,
    "x" * 20_000,
    -1,
    0,
    10**9,
    10**30,
    1.5,
    NAN,
    [],
    {},
    [["a", "b"]],
    True,
    "\0",
    "fc:1000000",
]
EVENTS: list[Any] = [
    5, None, {}, {"kind": "Unheard"}, {"kind": "ModelChanged", "model": {"id": "nobody"}, "attr": "value", "new": 1},
    {"kind": "MessageSent", "msg_type": HTML, "msg_data": HTML},
    {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": {"type": "event", "name": HTML, "values": {}}},
    {"kind": "TitleChanged", "title": HTML}, {"kind": "TitleChanged", "title": 5},
    {"kind": "RootAdded", "model": {"type": "object", "name": "Div", "id": "x", "attributes": {"text": HTML}}},
    {"kind": "RootAdded", "model": {"type": "object", "name": "os.system", "id": "y", "attributes": {"command": "id"}}},
    {"kind": "ColumnsStreamed", "model": {"id": "nobody"}, "attr": "data", "data": {}, "rollover": -1},
]  # fmt: skip
MESSAGES: list[tuple[str, Any]] = [
    ("PATCH-DOC", {}),
    ("PATCH-DOC", 5),
    ("PUSH-DOC", {"doc": HTML}),
    ("PULL-DOC-REQ", 5),
]
FATAL: list[tuple[str | bytes, ...]] = [
    ("{", "{}", "{}"), ("null", "{}", "{}"), (b"\0\1", b"", b""), ('{"msgid": "1", "msgtype": "<script>"}', "{}", "{}"),
    ("x" * 21 * 2**20,),
]  # fmt: skip
"""What the server ends a connection for."""
INPUTS = {
    "CustomSelect": "value", "Spinner": "value", "TextInput": "value", "TextAreaInput": "value",
    "RadioButtonGroup": "active", "Toggle": "active", "Button": "label", "FileDownload": "clicks",
}  # fmt: skip


FIELDS = (
    "data",
    "network",
    "own_network",
    "activation",
    "learning_rate",
    "batch_size",
    "epochs",
    "seed",
    "depth",
    "file",
)


def model_named(visitor: Client, name: str) -> str:
    """The id of a page's part."""
    return next(id_ for id_, model in visitor.models.items() if model.get("name") == name)


async def attack(visitor: Client) -> None:
    """Send everything that leaves the connection open."""
    models = {id_: (model["type"].split(".")[-1], model) for id_, model in visitor.models.items()}
    inputs = [id_ for id_, (kind, _) in models.items() if kind in INPUTS]
    assert len(inputs) > 8
    rounds: list[tuple[str, Any]] = [
        *(("", value) for value in SENT), *(("disabled", value) for value in (HTML, True, False)), ("unheard", HTML),
        ("options", [["100000", "100000"]]), ("", "100000"), ("options", HTML), ("labels", ["100000"]), ("", 99),
    ]  # fmt: skip
    for attribute, value in rounds:
        for id_ in inputs:
            visitor.change(id_, attribute or INPUTS[models[id_][0]], value)
        await asyncio.sleep(0.1)  # Panel takes what comes at once together
        await visitor.answered()
    for id_, (kind, _) in models.items():
        if kind == "ReactiveESM":
            for word in (HTML, "toggle:" + HTML, "layer:99", "draw:__class__", 5, None, [], "left" * 9999, {}):
                visitor.event("data_event", model=id_, data=word)
    settings = model_named(visitor, "settings")
    for value in (HTML, None, 10**30, [], "9" * 300, "1e400", "nan", -1):
        for name in (*FIELDS, HTML, None, [], {}):  # and what is no field
            visitor.event("data_event", model=settings, data={"name": name, "value": value})
        await visitor.answered()
    for id_, (kind, _) in models.items():
        if kind == "Form1":
            visitor.change(id_, "shown", {"epochs": HTML})
    for id_, (kind, _) in models.items():
        if kind == "ColumnDataSource":
            visitor.change(id_, "data", {"x": HTML})
    visitor.patch(*EVENTS)
    for event in EVENTS:
        visitor.patch(event)
    for message in MESSAGES:
        visitor.send(*message)
    await visitor.answered()


async def hostile_visit(server: Server) -> None:
    other = await Client.come(server, "rules=mdfa&epochs=2000")
    other.click("▶ Start")
    await other.wait_for("Running")
    before = len(other.told)

    hostile = await Client.come(server)
    await attack(hostile)

    def give(name: str, value: object) -> None:
        hostile.event("data_event", model=model_named(hostile, "settings"), data={"name": name, "value": value})

    allowed = {"seed": "0", "epochs": "77", "own_network": "fc:8"}
    for place in range(9):  # the last network of the list is the visitor's own; there is nothing beyond it
        give("network", place)
    for name, value in allowed.items():
        give(name, value)
    await hostile.wait_for("0 / 77")  # it takes what is allowed, still
    for name, value, complaint in (
        ("epochs", "1000000000", "Epochs is 1000000000"),
        ("own_network", "fc:" + ",".join(["8"] * 9), "9 hidden layers: this server allows"),
        ("seed", "-1", "The seed is -1"),
    ):
        give(name, value)
        await hostile.wait_for(complaint)
        hostile.click("▶ Start")
        await hostile.answered()
        give(name, allowed[name])
    texts = [
        event["new"]
        for told in hostile.told
        for event in told.get("events", ())
        if event.get("attr") in ("text", "html")
    ]
    assert any("chip invalid" in text for text in texts)
    assert not any("chip running" in text or "<img src=x" in html.unescape(text) for text in texts)
    for frames in FATAL:
        visitor = await Client.come(server)
        for frame in frames:
            with contextlib.suppress(WebSocketClosedError):  # it did not want all of it
                await visitor.socket.write_message(frame, binary=isinstance(frame, bytes))
        await visitor.ends()

    other.click("Pause")
    await other.wait_for("Paused")
    told = json.dumps(other.told[before:])
    assert "onerror" not in told
    assert "Failed" not in told
    assert "2000" in told

    late = await Client.come(server, "rules=dfa")
    late.click("▶ Start")
    await late.wait_for("Running")
    for visitor in (other, hostile, late):
        await visitor.close()


@pytest.mark.slow
def test_a_server_goes_on_whatever_a_browser_sends(tmp_path: Path) -> None:
    with served(tmp_path / "log") as server:
        asyncio.run(hostile_visit(server))
        log = server.log()
        assert "Traceback" not in log, log
        assert "refused what a browser sent: ValueError: 100000 not in list" in log
        assert max(map(len, log.splitlines())) < 500
