"""`panel serve app/` as a user starts it, and a visitor who speaks Bokeh's protocol himself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from benchmarks.app_load import Proxy, free_port, make_page
from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Server:
    """A server of the page in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    proxy: Proxy
    _log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/app"

    @property
    def unsteady(self) -> str:
        """The address through the door that can be shut."""
        return f"http://127.0.0.1:{self.proxy.port}/app"

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def token(self, query: str = "") -> str:
        """Make a page, waiting for a place as a browser does; returns what its websocket shows."""
        return make_page(f"{self.address}?{query}")

    def request(self, query: str = "", **headers: str) -> HTTPRequest:
        """The request for a websocket, as a browser that has the page sends it."""
        headers = {"Origin": f"http://127.0.0.1:{self.port}", **headers}
        return HTTPRequest(f"ws://127.0.0.1:{self.port}/app/ws?{query}", headers=headers)


@contextlib.contextmanager
def served(log: Path, *options: str, first: str = "", port: int = 0, **environment: str) -> Iterator[Server]:
    """Start `panel serve app/`, with more options and variables if there are any, and end it.

    Args:
        log: a file for what it writes.
        options: of `panel serve`.
        first: Python statements that the server's process runs before all others.
        port: where it listens; 0 for any.
        environment: more variables.
    """
    port = port or free_port()
    proxy = Proxy(port)
    command = [sys.executable, "-c", f"{first}\nfrom panel.command import main; main()"]
    command += ["serve", "app/", "--port", str(port), "--address", "127.0.0.1"]
    for door in (port, proxy.port):
        command += ["--allow-websocket-origin", f"127.0.0.1:{door}"]
    command += options
    # Shells start what runs in the background deaf to Ctrl-C, and so would be what it starts.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )
    finally:
        signal.signal(signal.SIGINT, heard)
    server = Server(port, process, proxy, log)
    try:
        end = time.monotonic() + PATIENCE
        while "app running at" not in server.log():
            assert process.poll() is None, server.log()
            assert time.monotonic() < end, f"the server did not start within {PATIENCE:g} seconds"
            time.sleep(0.1)
        yield server
    finally:
        proxy.close()
        if process.poll() is None:
            process.terminate()
        process.wait(PATIENCE)


class Client:
    """A visitor without a browser, who sends what he likes."""

    def __init__(self, socket_: WebSocketClientConnection) -> None:
        self.socket = socket_
        self._sent = 0
        self.models: dict[str, dict[str, Any]] = {}
        """What the page is made of, by id."""
        self.told: list[Any] = []
        """The contents of all that has come."""

    @classmethod
    async def come(cls, server: Server, query: str = "", *, draws: bool = True) -> Client:
        """Load the page, connect, take the document, and say that it is drawn if it is."""
        token = await asyncio.to_thread(server.token, query)
        client = cls(
            await websocket_connect(server.request(query), subprotocols=["bokeh", token], max_message_size=2**28)
        )
        await client._message()  # the server acknowledges
        _, document = await client.ask("PULL-DOC-REQ", {})
        client._learn(document)
        if draws:
            client.event("document_ready")
        return client

    def send(self, kind: str, content: object) -> str:
        """Send a message; returns its number."""
        self._sent += 1
        for part in ({"msgid": str(self._sent), "msgtype": kind}, {}, content):
            self.socket.write_message(json.dumps(part))
        return str(self._sent)

    async def ask(self, kind: str, content: object) -> tuple[str, Any]:
        """Send a message; returns kind and content of the answer to it."""
        number = self.send(kind, content)
        while True:
            header, told = await asyncio.wait_for(self._message(), PATIENCE)
            if header.get("reqid") == number:
                return header["msgtype"], told

    def patch(self, *events: object) -> None:
        self.send("PATCH-DOC", {"events": list(events)})

    def change(self, model: str, attribute: str, value: object) -> None:
        self.patch({"kind": "ModelChanged", "model": {"id": model}, "attr": attribute, "new": value})

    def event(self, name: str, *, model: str | None = None, **values: object) -> None:
        entries = [*([] if model is None else [["model", {"id": model}]]), *map(list, values.items())]
        event = {"type": "event", "name": name, "values": {"type": "map", "entries": entries}}
        self.patch({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event})

    def click(self, label: str) -> None:
        self.event("button_click", model=next(id_ for id_, model in self.models.items() if model.get("label") == label))

    async def answered(self) -> None:
        """Wait until the server has dealt with all that was sent."""
        await self.ask("SERVER-INFO-REQ", {})

    async def close(self) -> None:
        self.socket.close()
        await self.ends()

    async def ends(self) -> None:
        """Wait until the connection has come to its end."""
        with contextlib.suppress(ConnectionResetError):
            while True:
                await asyncio.wait_for(self._message(), PATIENCE)
        self.socket.close()

    async def wait_for(self, text: str) -> None:
        """Wait until something that comes holds this text; a page that lives sends something all the time."""
        async with asyncio.timeout(PATIENCE):
            while text not in json.dumps((await self._message())[1], ensure_ascii=False):
                pass

    async def _message(self) -> tuple[dict[str, Any], Any]:
        header, _, content = [json.loads(await self._frame()) for _ in range(3)]
        for _ in range(2 * header.get("num_buffers", 0)):
            await self._frame()
        self.told.append(content)
        return header, content

    async def _frame(self) -> str | bytes:
        frame = await self.socket.read_message()
        if frame is None:
            raise ConnectionResetError
        return frame

    def _learn(self, node: Any) -> None:
        if isinstance(node, dict):
            if node.get("type") == "object" and "id" in node:
                self.models[node["id"]] = {"type": node["name"], **node.get("attributes", {})}
            for part in node.values():
                self._learn(part)
        elif isinstance(node, list):
            for part in node:
                self._learn(part)
