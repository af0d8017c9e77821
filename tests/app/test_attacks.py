"""Attacks on a real `panel serve app/`: after each of them it serves a page, and its memory has not grown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import socket
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import requests
from bokeh.util.token import generate_jwt_token, generate_session_id, get_session_id
from PIL import Image
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from mdfa_app.serving import bounds
from tests.app.servers import Client, Server, served
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.slow

KEY = "a key of the tests, which has more than enough characters"
GROWTH = 64 * 2**20
"""Bytes by which an attack may make the server grow. A page takes 13 MB, and each attack is looked at with one more."""
PROMPT = 60.0
"""Seconds for a page after an attack: one is usual, and the machine may be busy with other tests."""
IMPORTS = "/components/unittest.__main__/x/css/y"


def by_hand(server: Server, *lines: str, body: bytes = b"") -> bytes:
    """What the server answers to a request written by hand, until it closes the connection or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as visitor:
        visitor.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        visitor.settimeout(10)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := visitor.recv(65536):
                answer += part
                if b"\r\n\r\n" in answer:
                    break
        return answer


def status(server: Server, *lines: str, body: bytes = b"") -> int | None:
    """The status of the answer, or None if there is none."""
    found = re.match(rb"HTTP/1.1 (\d{3}) ", by_hand(server, *lines, body=body))
    return int(found[1]) if found else None


def memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose very first request is the one that ended it."""
    with served(tmp_path_factory.mktemp("attacks") / "log", BOKEH_SECRET_KEY=KEY) as server:
        assert status(server, f"GET {IMPORTS} HTTP/1.1", "Host: a") == 404
        time.sleep(0.5)
        assert server.process.poll() is None
        for _ in range(2):
            asyncio.run(visit(server))
        yield server
        assert "Traceback" not in server.log()
        assert len(server.log().splitlines()) < 1000
        assert max(map(len, server.log().splitlines())) < 500


async def visit(server: Server) -> None:
    """A usual visit."""
    client = await Client.come(server)
    await client.answered()
    await client.close()


@pytest.fixture(autouse=True)
def _unharmed(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    before = memory(server)
    yield
    assert server.process.poll() is None
    start = time.monotonic()
    asyncio.run(visit(server))
    took, grown = time.monotonic() - start, memory(server) - before
    with (tmp_path / "figures").open("w") as figures:
        figures.write(f"{request.node.name}: a page after {took:.1f} s, {grown / 2**20:+.0f} MB\n")
    assert took < PROMPT
    assert grown < GROWTH


# ------------------------------------------------------------------------------------------------------------- requests

PATHS = [
    IMPORTS, "/components/antigravity/x/css/y", "/components/this/x/css/y", "/components/../app/metadata",
    "/components/idlelib.idle/x/css/y", "/components/mdfa_app.serving.guard/Policy/css/x", "/app/metadata",
    "/app/autoload.js?bokeh-autoload-element=1&bokeh-absolute-url=http://elsewhere/", "/admin", "/rest/session_info",
    "/static/js/../../../../../../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/static/extensions/panel/..%2f..%2f..%2fserver.py", "/static/extensions//etc/passwd",
    "/app/static/js/bokeh.min.js",
    "/liveness?endpoint=/app", "/static/extensions/panel/css/..%5c..%5cx.css", "/%61pp/metadata", "/app/ws/x",
]  # fmt: skip


def test_nothing_else_is_there(server: Server) -> None:
    for path in PATHS:
        answer = by_hand(server, f"GET {path} HTTP/1.1", "Host: a", "Connection: close")
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert b"root:" not in answer


def test_nothing_is_written(server: Server) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"):
        assert status(server, f"{method} /app HTTP/1.1", "Host: a", "Connection: close") == 405, method


HEADS = [
    ("POST /app HTTP/1.1", "Host: a", f"Content-Length: {99 * 2**20}"),
    ("GET /app HTTP/1.1", "Host: a", f"Content-Length: {10**18}"),
    ("POST /app HTTP/1.1", "Host: a", "Content-Length: -1"),
    ("POST /app HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 6"),
    ("GET /app HTTP/1.1", "Host: a", "X: " + "y" * bounds.HEAD_BYTES),
]


def test_heads_and_bodies_out_of_bounds_are_not_read(server: Server) -> None:
    for lines in HEADS:
        assert status(server, *lines, body=b"x" * 65536) in (400, 405, None), lines[-1][:24]


def test_an_endless_body_is_not_kept(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as visitor:
        visitor.sendall(b"POST /app HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk, sent = b"10000\r\n" + b"x" * 65536 + b"\r\n", 0
        with contextlib.suppress(OSError):  # reset or broken pipe, as it comes
            while sent < 99 * 2**20:
                visitor.sendall(chunk)
                sent += len(chunk)
    assert sent < 8 * 2**20  # what lies in the system's own buffers


def test_a_link_has_a_longest_length(server: Server) -> None:
    assert status(server, f"GET /app?seed={'1' * 9000} HTTP/1.1", "Host: a", "Connection: close") == 414


def test_slow_heads_do_not_keep_others_out(server: Server) -> None:
    """More half-open requests than connections are kept, each of which is sent on letter by letter."""
    visitors = []
    try:
        for _ in range(bounds.CONNECTIONS + 100):
            visitor = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            visitor.sendall(b"GET /app HTTP/1.1\r\nHost: a\r\nX-Slow: ")
            visitors.append(visitor)
        start = time.monotonic()
        assert requests.get(f"http://127.0.0.1:{server.port}/favicon.ico", timeout=PROMPT).status_code == 200
        assert len(psutil.Process(server.process.pid).net_connections()) < bounds.CONNECTIONS + 10
        end = start + bounds.HEAD_SECONDS + 10
        while any(map(still_open, visitors)):
            assert time.monotonic() < end, "a head that is never whole is waited for without end"
            time.sleep(1)
    finally:
        for visitor in visitors:
            visitor.close()


def still_open(visitor: socket.socket) -> bool:
    """Send one more letter; returns whether the other end is there."""
    try:
        visitor.sendall(b"x")
        visitor.settimeout(0.001)
        return visitor.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_every_answer_has_the_headers(server: Server) -> None:
    for path in ("/app", "/nothing", "/static/js/bokeh.min.js", "/favicon.ico", "/", "/app/ws", "/app/queue"):
        answer = requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=60, allow_redirects=False)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "Server" not in answer.headers
    page = requests.get(server.address, timeout=PATIENCE)
    (nonce,) = re.findall(r"'nonce-([^']+)'", page.headers["Content-Security-Policy"])
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert len(scripts) > 5
    assert all(f'nonce="{nonce}"' in script for script in scripts)


# ---------------------------------------------------------------------------------------------- sessions and websockets


def test_a_visitor_chooses_no_session(server: Server) -> None:
    token = server.token()
    for question in ("bokeh-session-id=mine", f"bokeh-session-id={get_session_id(token)}", f"bokeh-token={token}"):
        assert requests.get(f"{server.address}?{question}", timeout=PATIENCE).status_code == 403
    for name in ("mine", get_session_id(token)):
        assert requests.get(server.address, timeout=60, headers={"Bokeh-Session-Id": name}).status_code == 403


async def refusal(server: Server, token: str, **headers: str) -> int:
    """The status with which a websocket is refused."""
    with pytest.raises(HTTPClientError) as caught:
        await websocket_connect(server.request(**headers), subprotocols=["bokeh", token])
    return int(caught.value.code)


def own_token(key: str | None, *, expires: int = 300, signed_id: bool = True) -> str:
    """A token that a visitor made, or that this server made long ago."""
    coded = None if key is None else key.encode()
    id_ = generate_session_id(secret_key=coded, signed=coded is not None and signed_id)
    return generate_jwt_token(
        id_, secret_key=coded, signed=coded is not None, expiration=expires, extra_payload=cast(Any, {"arguments": {}})
    )


def test_only_tokens_of_this_server_open_a_websocket(server: Server) -> None:
    async def attack() -> None:
        good = await asyncio.to_thread(server.token)
        forged = good[:20] + ("A" if good[20] != "A" else "B") + good[21:]
        made_up = [own_token(None), own_token("another server's key, with enough characters"),
                   own_token(KEY, expires=-1), own_token(KEY, signed_id=False), forged,
                   good.split(".")[0], good + "x", "x", "W1tbW1s", "a" * 15000,
                   "WyIi" * 3000, "."]  # fmt: skip
        for token in made_up:
            assert await refusal(server, token) == 403, token
        for token in (good, own_token(KEY)):
            await end(await websocket_connect(server.request(), subprotocols=["bokeh", token]))

    asyncio.run(attack())


def test_only_pages_at_known_addresses_open_a_websocket(server: Server) -> None:
    async def attack() -> None:
        token = await asyncio.to_thread(server.token)
        for headers in (
            {"Origin": ""}, {"Origin": "null"}, {"Origin": "http://elsewhere.example"},
            {"Origin": f"http://127.0.0.1.elsewhere.example:{server.port}"},
            {"Origin": "http://rebound.example:5006", "Host": "rebound.example:5006"},
            {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
            {"Origin": "http://elsewhere.example", "Host": "elsewhere.example", "Sec-Fetch-Site": "none"},
        ):  # fmt: skip
            assert await refusal(server, token, **headers) == 403, headers
        lines = ["GET /app/ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Sec-WebSocket-Protocol: bokeh, {token}"]  # fmt: skip
        assert await asyncio.to_thread(status, server, *lines, f"Host: 127.0.0.1:{server.port}") == 403

    asyncio.run(attack())


def test_one_token_opens_a_few_websockets_only(server: Server) -> None:
    async def attack() -> None:
        token = await asyncio.to_thread(server.token)
        opened = [await websocket_connect(server.request(), subprotocols=["bokeh", token]) for _ in range(4)]
        for _ in range(20):
            assert await refusal(server, token) == 503
        await asyncio.gather(*map(end, opened))

    asyncio.run(attack())


# ------------------------------------------------------------------------------------------------------------- messages


async def end(connection: WebSocketClientConnection) -> None:
    """Close a connection, and wait until it is closed."""
    connection.close()
    await ends(connection)


def test_nobody_speaks_before_the_page_is_there(server: Server) -> None:
    async def attack() -> None:
        token = await asyncio.to_thread(server.token)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = ["GET /app/ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Sec-WebSocket-Protocol: bokeh, {token}",
                 f"Host: 127.0.0.1:{server.port}", f"Origin: http://127.0.0.1:{server.port}", "", ""]  # fmt: skip
        writer.write("\r\n".join(lines).encode() + masked(b"{}") * 100_000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    asyncio.run(attack())


async def ends(connection: WebSocketClientConnection) -> None:
    """Wait until the server has closed a connection."""
    with contextlib.suppress(WebSocketClosedError):
        while await asyncio.wait_for(connection.read_message(), 60) is not None:
            pass
    connection.close()


DEEP = "[" * 100_000 + "]" * 100_000
FATAL: list[tuple[str | bytes, ...]] = [
    ('{"msgid":"1","msgtype":"PATCH-DOC","num_buffers":1000000000}', "{}", '{"events":[]}'),
    ('{"msgid":"1","msgtype":"PATCH-DOC","num_buffers":9}',),
    ("x" * 18 * 2**20,),
    ('{"msgid":"1","msgtype":"PATCH-DOC"}', "{}", "x" * (bounds.MESSAGE_BYTES + 1)),
    ('{"msgid":"1","msgtype":"PATCH-DOC"}', "{}", DEEP),
    ('{"msgid":"1","msgtype":"PATCH-DOC","num_buffers":8}', "{}", "{}", *['{"id":"1"}', b"x" * 100_000] * 8),
    (DEEP,),
    ("{" + " " * 2000 + "}",),
    (b"\xff" * 1000,),
    ('{"msgid":"1","msgtype":"UNKNOWN"}', "{}", "{}"),
]


def test_a_message_out_of_bounds_ends_its_connection(server: Server) -> None:
    async def attack() -> None:
        token = await asyncio.to_thread(server.token)
        for frames in FATAL:
            connection = await websocket_connect(server.request(), subprotocols=["bokeh", token])
            for frame in frames:
                with contextlib.suppress(WebSocketClosedError):
                    await connection.write_message(frame, binary=isinstance(frame, bytes))
            await ends(connection)

    asyncio.run(attack())


def packed(files: dict[str, bytes]) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def files() -> dict[str, bytes]:
    """Files that a page refuses, by a part of what it then says."""
    image = io.BytesIO()
    Image.new("1", (9000, 9000)).save(image, "PNG")  # of 10 kB
    return {
        "16.0 MB are allowed": packed({f"a/{n}.png": bytes(2**21) for n in range(100)}),
        "6,000 are allowed": packed({f"a/{n}": b"" for n in range(10_000)}),
        "1,048,576 are allowed": packed({f"{place}/{n}.png": image.getvalue() for place in "ab" for n in range(5)}),
        "256 kB are allowed": b",".join([b"1"] * 10**6),
        "100,000 columns": b",".join([b"1"] * 10**5),
        "100,000 characters": b"1,2,a\n1,2," + b"b" * 10**5,
        "not readable CSV": b'1,2,a\n"' * 30_000,
        "UTF-8": b"\xff" * 2**17,
    }


def test_files_out_of_bounds_are_refused_and_keep_nobody_waiting(server: Server) -> None:
    async def attack() -> None:
        other = await Client.come(server, "rules=mdfa&epochs=2000")
        client = await Client.come(server)
        settings = next(id_ for id_, model in client.models.items() if model.get("name") == "settings")

        def give(value: object) -> None:
            client.event("data_event", model=settings, data={"name": "file", "value": value})

        for sentence, content in files().items():
            give({"name": "<b>x</b>", "size": len(content)})
            for start in range(0, len(content), 96 * 1024):
                give({"part": base64.b64encode(content[start : start + 96 * 1024]).decode()})
            await client.wait_for(sentence)
            await other.answered()
        give({"name": "x", "size": 50 * 2**20})
        await client.wait_for("a ZIP archive 2 MB")
        give({"name": "x", "size": 2**20})
        with contextlib.suppress(WebSocketClosedError):
            give({"part": "A" * 50 * 2**20})
        await client.ends()
        assert "x</b>" not in json.dumps(other.told)
        await other.close()

    asyncio.run(attack())


def test_a_page_cannot_be_replaced_or_added_to(server: Server) -> None:
    div = {"type": "object", "name": "Div", "id": "x", "attributes": {"text": "y" * 1000}}

    async def attack() -> None:
        client = await Client.come(server)
        for kind, content in (
            ("PUSH-DOC", {"doc": {"roots": [div], "title": "x", "version": "3.9.2", "defs": []}}),
            ("PATCH-DOC", {"events": [{"kind": "RootAdded", "model": div}] * 100}),
            ("PATCH-DOC", {"events": [{"kind": "TitleChanged", "title": "x" * 100_000}]}),
        ):  # fmt: skip
            told, _ = await client.ask(kind, content)
            assert told == "ERROR"
        inputs = [id_ for id_, model in client.models.items() if "value" in model]
        for number in range(40):
            client.change(inputs[number % len(inputs)], f"x{number}", "y" * 100_000)
        told, content = await client.ask("PATCH-DOC", {"events": [
            {"kind": "ModelChanged", "model": {"id": inputs[0]}, "attr": "other", "new": "z" * 100_000}]})  # fmt: skip
        assert (told, "values of more than" in json.dumps(content)) == ("ERROR", True)
        await client.close()

    asyncio.run(attack())


def test_a_flood_of_questions_leaves_others_their_turn(server: Server) -> None:
    """One connection asks for the whole page again and again, reads nothing, and others are served."""

    async def attack() -> None:
        token = await asyncio.to_thread(server.token)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = ["GET /app/ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Sec-WebSocket-Protocol: bokeh, {token}",
                 f"Host: 127.0.0.1:{server.port}", f"Origin: http://127.0.0.1:{server.port}", "", ""]  # fmt: skip
        writer.write("\r\n".join(lines).encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b'"ACK"')
        question = b"".join(map(masked, (b'{"msgid":"1","msgtype":"PULL-DOC-REQ"}', b"{}", b"{}")))
        waits = []
        end = time.monotonic() + 15
        while time.monotonic() < end:
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(question * 100)
                await asyncio.wait_for(writer.drain(), 0.5)
            start = time.monotonic()
            await asyncio.to_thread(requests.get, f"http://127.0.0.1:{server.port}/favicon.ico", timeout=PATIENCE)
            waits.append(time.monotonic() - start)
            await asyncio.sleep(0.2)
        writer.close()
        assert sorted(waits)[len(waits) // 2] < 2

    asyncio.run(attack())


def masked(text: bytes) -> bytes:
    """A text as a frame of a browser's."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
