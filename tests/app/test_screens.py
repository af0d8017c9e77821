"""What a served page sends, and when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bokeh.document import Document
from panel.io import document as documents

from mdfa_app.serving.screens import LIE_SECONDS, Served
from tests.app.servers import Client, Server, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("screens") / "log") as server:
        yield server


def edits(client: Client) -> list[list[dict[str, Any]]]:
    """What has come so far: the edits of every message."""
    return [told["events"] for told in client.told if "events" in told]


def test_all_of_an_update_comes_in_one_message(server: Server) -> None:
    def whole(message: list[dict[str, Any]]) -> bool:
        return str(message).count("ColumnsStreamed") > 5 and "mini-batches" in str(message)

    async def visit() -> list[list[dict[str, Any]]]:
        client = await Client.come(server, "rules=mdfa,dfa&speed=max&epochs=2000")
        client.click("▶ Start")
        await client.wait_for("unit error signals")
        client.told.clear()
        for _ in range(5):
            await client.wait_for("mini-batches")
        for _ in range(100):  # a busy machine may tell of the two nets apart
            if any(map(whole, edits(client))):
                break
            await client.wait_for("mini-batches")
        client.click("Pause")
        await client.wait_for("chip paused")
        await client.close()
        return edits(client)

    messages = asyncio.run(visit())
    # A message may also come between the news of two nets, with less in it.
    assert any(map(whole, messages)), messages
    for message in messages:
        streamed = [event["model"]["id"] for event in message if event["kind"] == "ColumnsStreamed"]
        assert len(streamed) == len(set(streamed))


STEPPED = "&lt;b&gt;1&lt;/b&gt;&lt;span&gt;mini-batches"


def test_nothing_is_lost_between_taking_the_page_and_drawing_it(server: Server) -> None:
    async def visit() -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
        client = await Client.come(server, "rules=mdfa", draws=False)
        client.click("Step")
        await client.answered()
        await asyncio.sleep(2)  # far longer than a mini-batch takes
        await client.answered()
        before = edits(client)
        client.event("document_ready")
        await client.wait_for(STEPPED)
        await client.answered()
        await client.close()
        return before, edits(client)[len(before) :]

    before, after = asyncio.run(visit())
    assert STEPPED not in str(before)
    frames = [event for message in after for event in message if event.get("attr") == "frame"]
    assert frames, after
    assert "100 % of the unit error signals have the true sign" in str(after)
    assert "of the unit error signals" not in str(before)


def test_a_document_hears_of_edits_in_its_own_thread() -> None:
    """It may be holding its events, and lose what another thread adds to them at the wrong moment."""
    heard: list[int] = []
    done: list[str] = []

    def hear(callback: Callable[[], None]) -> None:
        heard.append(threading.get_ident())
        callback()

    class Heard:
        session_context: object = SimpleNamespace(session=None)
        add_next_tick_callback = staticmethod(hear)

        def add_periodic_callback(self, callback: Callable[[], None], milliseconds: int) -> None:
            pass

    async def serve() -> None:
        document = Heard()
        screen = Served(cast(Document, document))
        await asyncio.to_thread(screen.soon, lambda: done.append("first"))
        await asyncio.sleep(0.1)
        document.session_context = None  # the session is over
        await asyncio.to_thread(screen.soon, lambda: done.append("second"))
        await asyncio.sleep(0.1)

    asyncio.run(serve())
    assert heard == [threading.get_ident()]
    assert done == ["first"]


def test_a_message_that_panel_forgets_is_sent_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written by a task, which gives up if the task before it ends in between."""

    class Socket:
        pass

    class Connection:
        _socket = Socket()
        protocol = SimpleNamespace(create=lambda kind, events: events[0])

    sent: list[str] = []

    async def serve() -> None:
        written = asyncio.get_running_loop().create_future()

        def write(connection: object, events: object = None, msg: str = "") -> list[asyncio.Future[None]]:
            sent.append(msg)
            return [written]

        monkeypatch.setitem(documents.extra_socket_handlers, Socket, write)
        document = Document()
        Served(document)
        (often,) = document.session_callbacks
        connection = cast(Any, Connection())
        documents.schedule_write_events(document, [connection], cast(Any, ["first"]))
        await asyncio.sleep(0.01)
        written.set_result(None)
        documents.schedule_write_events(document, [connection], cast(Any, ["second"]))
        await asyncio.sleep(0.01)
        assert sent == ["first"], "Panel no longer forgets it: Served need not send it"

        cast(Any, often).callback()
        await asyncio.sleep(0.01)
        assert cast(Any, often).period == 1000 * LIE_SECONDS

    asyncio.run(serve())
    assert sent == ["first", "second"]
