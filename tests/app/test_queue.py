"""A server that is full: the queue, in a browser and without one, whatever the way to a page."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.app.servers import Client, Server, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

PAGES = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test: the tickets of another would be waited for, 75 s together."""
    with served(tmp_path / "log", MDFA_MAX_PAGES=str(PAGES)) as server:
        yield server
        assert "Traceback" not in server.log()


async def full_house(server: Server) -> list[Client]:
    return [await Client.come(server) for _ in range(PAGES)]


def asked(server: Server, path: str = "/app", **headers: str) -> requests.Response:
    return requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=60, headers=headers)


def ticket_of(answer: requests.Response) -> str:
    found = re.search(r'ticket = "([^"]+)"', answer.text)
    assert found is not None
    return found[1]


def position(server: Server, ticket: str) -> int | None:
    told: int | None = asked(server, f"/app/queue?ticket={ticket}").json()["position"]
    return told


async def called(server: Server, ticket: str) -> None:
    """Ask as a browser does until there is a place."""
    end = time.monotonic() + 120
    while await asyncio.to_thread(position, server, ticket):
        assert time.monotonic() < end
        await asyncio.sleep(1)


def test_a_full_server_has_a_queue_by_whatever_way_it_is_asked(server: Server) -> None:
    async def attack() -> None:
        stale = await asyncio.to_thread(server.token)  # of a page that nobody comes for
        house = await full_house(server)  # and so makes room
        answer = await asyncio.to_thread(asked, server)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
        assert f"All {PAGES} pages that this server allows are open." in answer.text
        assert "queue?ticket=${ticket}" in answer.text  # the script's own variable
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        for path in ("/app/", "/app?seed=2", "/app?x=1&x=2"):
            assert (await asyncio.to_thread(asked, server, path)).status_code == 503, path
        made_up = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}
        lied = await asyncio.to_thread(lambda: asked(server, **made_up))
        assert lied.status_code == 503  # nobody told the server to believe a proxy
        for path in ("/app/autoload.js?bokeh-autoload-element=1", "/app/metadata"):
            assert (await asyncio.to_thread(asked, server, path)).status_code == 404
        assert await closed(await websocket_connect(server.request(), subprotocols=["bokeh", stale]))

        first, second = ticket_of(answer), ticket_of(await asyncio.to_thread(asked, server))
        places = [await asyncio.to_thread(position, server, ticket) for ticket in (first, second)]
        assert places == sorted(place or 0 for place in places)
        assert await asyncio.to_thread(position, server, "made up") is None
        for client in house:  # a full house goes on as before
            await client.answered()
        await leave(house[0])
        await called(server, first)
        assert (await asyncio.to_thread(asked, server)).status_code == 200
        for client in house[1:]:
            await leave(client)

    asyncio.run(attack())


async def leave(client: Client) -> None:
    """Close the tab, as a browser says it; a connection that is only lost keeps its page for minutes."""
    for id_, model in client.models.items():
        if model["type"].endswith("ReactiveESM"):
            client.event("data_event", model=id_, data="left")
    await client.answered()
    await client.close()


async def closed(connection: WebSocketClientConnection) -> bool:
    """Whether a websocket is closed instead of being given a page."""
    told = await asyncio.wait_for(connection.read_message(), 60)
    code = connection.close_code
    connection.close()
    return told is None and code == 1013


@pytest.mark.browser
def test_a_browser_waits_and_comes_in_by_itself(server: Server, page: Page) -> None:
    loop = asyncio.new_event_loop()
    others = ThreadPoolExecutor(1)  # Playwright has this thread's loop
    house = others.submit(loop.run_until_complete, full_house(server)).result(300)
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.goto(f"{server.address}?seed=7")
    page.get_by_text("Your position in the queue").wait_for()
    assert page.locator("#position").inner_text() == "1"
    assert page.title() == "Waiting: Learning without backpropagation"
    for client in house:
        others.submit(loop.run_until_complete, leave(client)).result(60)
    others.shutdown()
    loop.close()
    page.locator(".chip", has_text="Ready").wait_for(timeout=120_000)
    assert "seed=7" in page.url
    assert [text for text in complaints if "503" not in text] == []
