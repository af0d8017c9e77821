"""Measure the live app as visitors meet it: a real `panel serve app/`, a real Chromium, websocket clients beside it.

    python benchmarks/app_load.py --json app_performance.json
    python benchmarks/app_load.py --only training --data-dir data --data cifar10
    python benchmarks/app_load.py --cycles 100 --minutes 60 --only endurance

Every row has an aim, what was measured with its spread, and whether the aim is met; the table is Markdown. Rows:

    visible     a page of a server that is warm, from the request to the recorded run, the first live frame, and all
                controls with the word Ready; with and without a recorded run in turns
    click       from a click while training to the text it changes, drawn
    tabs        the same with each tab open
    plots       how often the charts get new points while training
    training    steps per second in the page beside `mdfa train --json` in the same run: they take turns
    eight       people at once: clicks, everyone advances or is told of the queue, memory of the server
    leaving     a closed tab, a browser that vanishes, a connection that drops and returns
    endurance   open-and-close cycles, then minutes of training: threads and memory of the server

With --slowdown 4, the browser's CPU is four times slower (visible, click and tabs; Chromium's own emulation).

Needs Playwright and a Chromium (`MDFA_CHROMIUM` names another one than those on the path). Without --data-dir the row
`training` uses made-up images in the files of CIFAR-10: the speed of a step does not depend on what is on them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import psutil
import requests
from playwright.sync_api import Browser, Page, sync_playwright
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from mdfa_app.settings.words import level_title
from mdfa_app.tabs import TABS
from mdfa_core.base import distribution, machine

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PATIENCE = 60.0
Result = TypeVar("Result")
LONG = "epochs=2000&network=fc:512,512&batch_size=64&learning_rate=0.001"
"""A run that does not end while it is watched."""


@dataclass(frozen=True)
class Row:
    """One line of the table; `met` is None where there is nothing to reach."""

    name: str
    what: str
    aim: str
    measured: str
    met: bool | None
    values: list[float] = field(default_factory=list)


def spread(values: Sequence[float], unit: str, scale: float = 1.0) -> str:
    """Median, the 95th percentile and the extremes in words."""
    ordered = sorted(value * scale for value in values)
    return (
        f"{statistics.median(ordered):.3g} {unit} (95 %: {percentile(ordered, 0.95):.3g}; "
        f"{ordered[0]:.3g}–{ordered[-1]:.3g}; n = {len(ordered)})"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)]


# ---------------------------------------------------------------------------------------------------------- the server


class Server:
    """`panel serve app/` in a process of its own, and what it takes of the machine."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed in close()
        self.proxy = Proxy(self.port)
        command = [sys.executable, "-m", "panel", "serve", "app/", "--port", str(self.port), "--address", "127.0.0.1",
                   "--allow-websocket-origin", f"127.0.0.1:{self.port}",
                   "--allow-websocket-origin", f"127.0.0.1:{self.proxy.port}"]  # fmt: skip
        environment = dict(os.environ) | ({} if data_dir is None else {"MDFA_DATA_DIR": str(data_dir)})
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self._log, stderr=subprocess.STDOUT)
        self._watched = psutil.Process(self._process.pid)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                requests.get(self.address, timeout=PATIENCE)
                return
            except requests.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > end:
                    log = self.log()
                    self.close()
                    raise SystemExit(f"the app did not start: run `panel serve app/` to see why\n{log}") from None
                time.sleep(0.2)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/app"

    def log(self) -> str:
        """What it has written so far."""
        self._log.seek(0)
        return self._log.read()

    def megabytes(self) -> float:
        """Resident memory."""
        return self._watched.memory_info().rss / 2**20

    def threads(self) -> int:
        return self._watched.num_threads()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            print("the server did not end within a minute of being asked to", file=sys.stderr, flush=True)
            self._process.kill()
            self._process.wait(60)
        self.proxy.close()
        self._log.close()


class Proxy:
    """A door to a server of this machine that can be shut, as a network that fails."""

    def __init__(self, to: int) -> None:
        self._to, self._open = to, True
        self._passing = threading.Event()
        self._passing.set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends at once, and no new one comes about."""
        self._open = False
        self._passing.set()
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def hold(self) -> None:
        """Nothing comes through any more, but every connection stays."""
        self._passing.clear()

    def mend(self) -> None:
        self._open = True
        self._passing.set()

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)  # wakes who waits at it
        self._door.close()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._door.accept()
            except OSError:
                return
            if not self._open:
                visitor.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                visitor.close()
                continue
            self._ends += [visitor, server]
            for a, b in ((visitor, server), (server, visitor)):
                threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, a: socket.socket, b: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                self._passing.wait()
                b.sendall(data)
        for end in (a, b):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---------------------------------------------------------------------------------------------------- a real browser


_FIND = """
window.parts = (selector) => {  // in every shadow root
  const found = [], todo = [document];
  while (todo.length) {
    const root = todo.pop();
    found.push(...root.querySelectorAll(selector));
    for (const part of root.querySelectorAll("*")) if (part.shadowRoot) todo.push(part.shadowRoot);
  }
  return found;
};
window.chip = () => parts(".chip:not(.invalid)").map((part) => part.innerText).find((text) =>
  /^(Ready|Preparing|Queued|Running|Paused|Finished|Diverged|Failed)$/.test(text)) ?? "";
window.pressed = (label) => parts("button").find((part) => part.innerText.trim() === label);
window.steps = () => parseInt((parts(".numbers b")[1]?.innerText ?? "0").replaceAll(",", "")) || 0;
// Milliseconds from a click to the frame in which `seen` holds.
window.timed = (act, seen) => new Promise((done, fail) => {
  const begun = performance.now();
  setTimeout(() => fail(new Error("nothing has changed within 30 s")), 30000);
  act();
  const end = () => done(performance.now() - begun);
  const look = () => requestAnimationFrame(seen() ? end : look);
  requestAnimationFrame(look);
});
// Seconds from the request to the frame in which networks are drawn.
window.drawn = {};
for (const [name, root] of [
  ["recorded", () => document.getElementById("first-nets")],
  ["live", () => document.querySelector('[data-part="nets"]')?.firstElementChild?.shadowRoot],
]) {
  const look = () => {
    if (/[0-9]/.test(root()?.querySelector("dd.signs")?.textContent ?? "")) drawn[name] = performance.now() / 1000;
    else requestAnimationFrame(look);
  };
  look();
}
"""
SETTINGS = "?speed=normal"
"""A page with an address of its own neither begins by itself nor opens the tour, and shows no recorded run."""


class Visitor:
    """A visitor with a browser.

    Args:
        browser: the browser.
        address: of the page; it gets `SETTINGS` if it has no query, unless this is the visitor's first visit.
        slowdown: how many times slower the browser's CPU is.
        first: whether the address stays without a query.

    Attributes:
        visible: seconds from the request to a page that can be used.
    """

    def __init__(self, browser: Browser, address: str, slowdown: float = 1.0, *, first: bool = False) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.add_init_script(_FIND)
        if slowdown != 1:
            session = self.page.context.new_cdp_session(self.page)
            session.send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
        self.page.goto(address if first or "?" in address else address + SETTINGS, wait_until="commit")
        self.wait(f"chip() === '{'Running' if first else 'Ready'}' && parts('canvas').length > 3")
        self.visible = self.page.evaluate("performance.now()") / 1000

    def drawn(self, what: str) -> float:
        """Seconds from the request to the first frame of the `recorded` or the `live` networks."""
        self.wait(f"drawn.{what}")
        return float(self.page.evaluate(f"drawn.{what}"))

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(condition, polling="raf")

    def press(self, label: str) -> None:
        self.page.evaluate("(label) => pressed(label).click()", label)

    def start(self) -> None:
        self.press("▶ Start")
        self.wait("chip() === 'Running' && steps() > 0")

    def steps(self) -> tuple[float, int]:
        """The browser's clock in seconds, and the mini-batches it shows."""
        now, steps = self.page.evaluate("[performance.now(), steps()]")
        return now / 1000, steps

    def clicks(self, count: int, chosen: Sequence[str] = ("level", "draw", "pause")) -> dict[str, list[float]]:
        """Seconds from click to visible change, by what was clicked, while training."""
        level = "parts('.measured').some((part) => part.innerText.includes('%s'))"
        kinds = {
            "level": [("One example", level % level_title("example")), ("Unit errors", level % level_title("unit"))],
            "draw": [
                ("Draw DFA", "parts('p.muted').some((part) => part.innerText.startsWith('DFA:'))"),
                ("Draw mDFA", "parts('p.muted').some((part) => part.innerText.startsWith('mDFA:'))"),
            ],
            "pause": [("Pause", "chip() === 'Paused'"), ("▶ Continue", "chip() === 'Running'")],
        }
        took: dict[str, list[float]] = {kind: [] for kind in chosen}
        for turn in range(count):
            for kind in chosen:
                label, seen = kinds[kind][turn % 2]
                act = (
                    f"parts('[data-pick]').find((part) => part.dataset.pick === 'draw:{label.split()[1].lower()}')"
                    if kind == "draw"
                    else f"pressed('{label}')"
                )
                milliseconds = self.page.evaluate(f"timed(() => {act}.click(), () => {seen})")
                took[kind].append(milliseconds / 1000)
                self.page.wait_for_timeout(random.Random(turn).uniform(100, 400))
        if self.page.evaluate("chip()") == "Paused":
            self.press("▶ Continue")
        return took

    def close(self) -> None:
        self.page.close(run_before_unload=False)


def measure_visible(server: Server, browser: Browser, times: int, slowdown: float) -> list[Row]:
    """First visits and visits of an address with settings in turns."""
    took: dict[tuple[str, str], list[float]] = {
        ("recorded run drawn, first visit", "≤ 1.5 s"): [],
        ("live networks drawn, first visit", "≤ 3 s"): [],
        ("live networks drawn, address with settings", "≤ 3 s"): [],
        ("page visible, warm", "≤ 3 s"): [],
    }
    for turn in range(times + 1):
        visitor = Visitor(browser, server.address, slowdown, first=True)
        found = [visitor.drawn("recorded"), visitor.drawn("live")]
        visitor.close()
        visitor = Visitor(browser, server.address, slowdown)
        found += [visitor.drawn("live"), visitor.visible]
        visitor.close()
        if turn:  # the first one warms the server
            for values, value in zip(took.values(), found, strict=True):
                values.append(value)
    return [
        Row("visible", what, aim, spread(values, "s"), percentile(values, 0.95) <= float(aim.split()[1]), values)
        for (what, aim), values in took.items()
    ]


def measure_clicks(server: Server, browser: Browser, count: int, slowdown: float) -> list[Row]:
    visitor = Visitor(browser, f"{server.address}?speed=max&{LONG}", slowdown)
    visitor.start()
    visitor.page.wait_for_timeout(1000)
    took = visitor.clicks(count)
    rows = [
        Row("click", f"click to visible change while training at full speed: {kind}", "≤ 200 ms",
            spread(values, "ms", 1000), percentile(values, 0.95) <= 0.2, values)
        for kind, values in took.items()
    ]  # fmt: skip
    visitor.close()
    return rows


def measure_tabs(server: Server, browser: Browser, count: int, slowdown: float) -> list[Row]:
    """Pause and Continue with each tab open and in sight, on a task that every tab can show."""
    rows = []
    for name, tab in TABS.items():
        visitor = Visitor(browser, f"{server.address}?data=moons&speed=max&tab={name}&{LONG}", slowdown)
        visitor.start()
        visitor.page.evaluate(f"pressed({tab.title!r}).scrollIntoView()")
        visitor.page.wait_for_timeout(2000)
        took = visitor.clicks(count, ("pause",))["pause"]
        rows.append(
            Row("tabs", f"click to visible change while training, tab {tab.title}", "≤ 200 ms",
                spread(took, "ms", 1000), percentile(took, 0.95) <= 0.2, took)
        )  # fmt: skip
        visitor.close()
    return rows


def measure_plots(server: Server, browser: Browser, seconds: float) -> list[Row]:
    """The page as it comes, at its own speed."""
    visitor = Visitor(browser, server.address)
    visitor.start()
    rows = [
        _measure_plot(visitor, name, seconds / 2) for name in ("Error signals with the right sign", "Training accuracy")
    ]
    visitor.close()
    return rows


def _measure_plot(visitor: Visitor, name: str, seconds: float) -> Row:
    moments = visitor.page.evaluate(
        """([name, milliseconds]) => new Promise((done) => {
          const chart = Bokeh.documents[0].get_model_by_name(name), moments = [];
          const note = () => moments.push(performance.now());
          for (const { data_source } of chart.renderers) {
            data_source.streaming.connect(note);
            data_source.properties.data.change.connect(note);
          }
          setTimeout(() => done(moments), milliseconds);
        })""",
        [name, 1000 * seconds],
    )
    updates = [moment for moment, before in zip(moments, [-1e9, *moments], strict=False) if moment - before > 20]
    rate = len(updates) / seconds
    # Accuracy has a point an epoch and no more: only measurements come at a rate of the page's own.
    aimed = name == "Error signals with the right sign"
    gaps = [b - a for a, b in itertools.pairwise(updates)]
    between = f"; between two: {spread(gaps, 'ms')}" if gaps else ""
    what, aim = f"updates a second of the chart “{name}”", "5–10 Hz" if aimed else ""
    return Row("plots", what, aim, f"{rate:.1f} Hz{between}",
               4.5 <= rate <= 12 if aimed else None, gaps)  # fmt: skip


# ------------------------------------------------------------------------------------------ visitors without a browser


def make_page(address: str, patience: float = 2 * PATIENCE) -> str:
    """Load a page, waiting for a place as a browser does; returns the token that its websocket shows."""
    end = time.monotonic() + patience
    while (answer := requests.get(address, timeout=PATIENCE)).status_code == 503:
        ticket = re.search(r'ticket = "([^"]+)"', answer.text)
        assert ticket is not None, "the queue is full"
        question = f"{address.partition('?')[0]}/queue?ticket={ticket[1]}"
        while requests.get(question, timeout=PATIENCE).json()["position"]:
            assert time.monotonic() < end, f"no place within {patience:g} seconds"
            time.sleep(0.5)
    token = re.search(r'"token":\s*"([^"]+)"', answer.text)
    assert token is not None, f"the page holds no token: {answer.status_code} {answer.text[:300]}"
    return token[1]


class Client:
    """A visitor that speaks Bokeh's protocol over a websocket and draws nothing."""

    def __init__(self, socket_: WebSocketClientConnection) -> None:
        self._socket = socket_
        self._id = 0
        self._waiting: list[tuple[Callable[[str], bool], asyncio.Future[float]]] = []
        self.state, self.steps = "", 0
        self.models: dict[str, str] = {}
        self._watchers: list[str] = []
        self.advanced = False
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def come(cls, server: Server, query: str) -> Self:
        """Load the page, connect, and take the document."""
        token = await asyncio.to_thread(make_page, f"{server.address}?{query}")
        request = HTTPRequest(
            f"ws://127.0.0.1:{server.port}/app/ws?{query}",
            headers={"Origin": f"http://127.0.0.1:{server.port}"},
            connect_timeout=PATIENCE,
        )
        connection = await websocket_connect(request, subprotocols=["bokeh", token], max_message_size=2**28)
        client = cls(connection)
        await client._message()  # the server's ACK
        client._send("PULL-DOC-REQ", {})
        while not client.models:
            content = await client._message()
            client._learn(json.loads(content))
        ready = {"type": "event", "name": "document_ready", "values": {"type": "map", "entries": []}}
        client._patch({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": ready})
        for watcher in client._watchers:  # everything is in sight
            client._event("data_event", watcher, data=True)
        client._reader = asyncio.create_task(client._read())
        return client

    async def _message(self) -> str:
        header = await self._frame()
        await self._frame()
        content = await self._frame()
        for _ in range(2 * json.loads(header).get("num_buffers", 0)):
            await self._frame()
        return content

    async def _frame(self) -> str:
        frame = await self._socket.read_message()
        if frame is None:
            raise ConnectionResetError
        return frame if isinstance(frame, str) else ""

    def _send(self, kind: str, content: dict[str, Any]) -> None:
        self._id += 1
        for part in ({"msgid": str(self._id), "msgtype": kind}, {}, content):
            self._socket.write_message(json.dumps(part))

    def _learn(self, node: Any) -> None:
        """Names of buttons → their models."""
        if isinstance(node, dict):
            attributes = node.get("attributes", {})
            if "id" in node and isinstance(attributes.get("label"), str):
                self.models.setdefault(attributes["label"], node["id"])
            if "id" in node and "One example" in str(attributes.get("labels", "")):
                self.models["level"] = node["id"]
            if "id" in node and "IntersectionObserver" in str(attributes.get("esm", "")):
                self._watchers.append(node["id"])
            for part in node.values():
                self._learn(part)
        elif isinstance(node, list):
            for part in node:
                self._learn(part)

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while True:
                content = await self._message()
                state = re.search(r"chip (\w+)&quot;|chip (\w+)\\\\?\"", content)
                if state:
                    self.state = state[1] or state[2]
                steps = re.search(r"([\d,]+)\W{1,5}/b\W{1,8}span\W{1,5}mini-batches", re.sub("&[lg]t;", "|", content))
                if steps:
                    self.steps = int(steps[1].replace(",", ""))
                    self.advanced |= self.steps > 0
                now = time.monotonic()
                for waiting in list(self._waiting):
                    if waiting[0](content):
                        waiting[1].set_result(now)
                        self._waiting.remove(waiting)

    async def until(self, seen: Callable[[str], bool], act: Callable[[], None]) -> float:
        """Seconds from `act` to a message in which `seen` finds what it looks for."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((seen, future))
        begun = time.monotonic()
        act()
        return await asyncio.wait_for(future, PATIENCE) - begun

    def click(self, label: str) -> None:
        self._event("button_click", self.models[label])

    def _event(self, name: str, model: str, **values: Any) -> None:
        entries = [["model", {"id": model}], *map(list, values.items())]
        event = {"type": "event", "name": name, "values": {"type": "map", "entries": entries}}
        self._patch({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event})

    def choose_level(self, active: int) -> None:
        self._patch({"kind": "ModelChanged", "model": {"id": self.models["level"]}, "attr": "active", "new": active})

    def _patch(self, event: dict[str, Any]) -> None:
        self._send("PATCH-DOC", {"events": [event]})

    def starts(self) -> None:
        self.click("▶ Start")

    async def rate(self, seconds: float) -> float:
        """Mini-batches a second, from the first message to the last one of so many seconds."""
        told: list[tuple[float, int]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(told) < 3:
            await self.until(lambda content: True, lambda: None)
            if not told or self.steps > told[-1][1]:
                told.append((time.monotonic(), self.steps))
        (first, first_step), (last, last_step) = told[0], told[-1]
        return (last_step - first_step) / (last - first)

    async def vanishes(self) -> None:
        self.vanish()

    def vanish(self) -> None:
        """Go without a word."""
        if self._reader is not None:
            self._reader.cancel()
        stream = self._socket.protocol.stream if self._socket.protocol else None  # type: ignore[union-attr]
        if stream is not None:
            stream.close()
        self._socket.close()  # says nothing any more; Tornado warns otherwise


class Crew:
    """The clients' event loop, in a thread of its own: Playwright's is in the main one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.begin(work).result(10 * PATIENCE)

    @contextlib.contextmanager
    def clients(self, server: Server, count: int, query: str) -> Iterator[list[Client]]:
        came: list[Client] = []
        try:
            for _ in range(count):
                came.append(self.do(Client.come(server, query)))
            yield came
        finally:
            for client in came:
                self._loop.call_soon_threadsafe(client.vanish)


async def crowd(server: Server, people: Sequence[Client], seconds: float) -> tuple[list[float], list[float]]:
    """All train at full speed and click now and then: seconds to the answers, and the server's megabytes."""
    levels = ("example", "batch")
    took: list[float] = []
    for client in people:
        client.click("▶ Start")
    await asyncio.sleep(2)
    end = time.monotonic() + seconds

    async def click(client: Client, seed: int) -> None:
        rng = random.Random(seed)
        turn = 0
        while time.monotonic() < end:
            await asyncio.sleep(rng.uniform(1, 3))
            wanted = turn % 2
            took.append(
                await client.until(
                    lambda content, wanted=wanted: level_title(levels[wanted]) in content,
                    lambda wanted=wanted: client.choose_level(wanted + 1),
                )
            )
            turn += 1

    megabytes = [server.megabytes()]
    watch = asyncio.create_task(_watch(server, megabytes, end))
    await asyncio.gather(*(click(client, number) for number, client in enumerate(people)))
    await watch
    return took, megabytes


async def arrive_together(server: Server, count: int) -> list[float]:
    """Seconds from each request to its answer, a page or a place in the queue, when so many come at the same moment."""

    def arrive() -> float:
        start = time.perf_counter()
        answer = requests.get(server.address, timeout=PATIENCE)
        assert answer.status_code in (200, 503), answer.status_code
        return time.perf_counter() - start

    return await asyncio.gather(*(asyncio.to_thread(arrive) for _ in range(count)))


async def _watch(server: Server, megabytes: list[float], end: float) -> None:
    while time.monotonic() < end:
        megabytes.append(server.megabytes())
        await asyncio.sleep(1)


def measure_eight(crew: Crew, people: int, seconds: float) -> list[Row]:
    with (
        contextlib.closing(Server()) as server,
        crew.clients(server, people, f"speed=max&rules=mdfa,dfa&{LONG}") as all_,
    ):
        time.sleep(1)
        took, megabytes = crew.do(crowd(server, all_, seconds))
        advanced = [client.advanced for client in all_]
        queued = [client.state == "queued" for client in all_]
        steps = [client.steps for client in all_]
        arrived = crew.do(arrive_together(server, people))
    return [
        Row("eight", f"{people} people train at full speed and click: click to answer", "≤ 600 ms",
            spread(took, "ms", 1000), percentile(took, 0.95) <= 0.6, took),
        Row("eight", f"everyone advances or is told of the queue, in {seconds:.0f} s", "all",
            f"{sum(advanced)} advanced, {sum(queued)} queued at the end; mini-batches: "
            + ", ".join(f"{count:,}" for count in steps),
            all(a or q for a, q in zip(advanced, queued, strict=True)), [float(count) for count in steps]),
        Row("eight", "memory of the server (RSS)", "≤ 2048 MB", f"{max(megabytes):.0f} MB at most",
            max(megabytes) <= 2048, megabytes),
        Row("eight", f"{people} more people arrive at once: request to page or queue page", "≤ 5 s",
            spread(arrived, "s"), max(arrived) <= 5, arrived),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ training


def made_up_cifar(folder: Path, images: int) -> None:
    """Noise around a picture of each class, in the files of CIFAR-10."""
    target = folder / "cifar-10-batches-py"
    target.mkdir()
    rng = np.random.default_rng(0)
    classes = rng.integers(64, 192, (10, 3072))
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        labels = np.arange(images) % 10
        pixels = np.clip(classes[labels] + rng.integers(-60, 60, (images, 3072)), 0, 255).astype(np.uint8)
        with (target / name).open("wb") as file:
            pickle.dump({"data": pixels, "labels": labels.tolist()}, file)
    with (target / "batches.meta").open("wb") as file:
        pickle.dump({"label_names": [f"class {number}" for number in range(10)]}, file)


class CommandLine:
    """`mdfa train`, held and let go on; it counts the mini-batches it tells of."""

    def __init__(self, data: str, data_dir: Path, epochs: int) -> None:
        command = [sys.executable, "-c", "from mdfa_core.cli import main; main()", "train", "--data", data,
                   "--data-dir", str(data_dir), "--network", "cifar-fc", "--method", "mdfa", "--batch-size", "64",
                   "--learning-rate", "0.001", "--epochs", str(epochs), "--json"]  # fmt: skip
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._told: list[tuple[float, int]] = []
        threading.Thread(target=self._read, daemon=True).start()
        end = time.monotonic() + PATIENCE
        while len(self._told) < 3:
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit("mdfa train did not train: run it by hand to see why")
            time.sleep(0.05)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event.get("kind") == "progress":
                self._told.append((time.monotonic(), event["step"]))

    def hold(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self, seconds: float) -> float:
        """Steps per second over so many seconds."""
        begun = len(self._told)
        self._process.send_signal(signal.SIGCONT)
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self._told) < begun + 3:  # the first may have been on its way for long
            time.sleep(0.05)
        self.hold()
        (first, first_step), (last, last_step) = self._told[begun + 1], self._told[-1]
        return (last_step - first_step) / (last - first)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(60)


def measure_training(crew: Crew, browser: Browser, data: str, data_dir: Path, blocks: int, seconds: float) -> list[Row]:
    """A page that is drawn elsewhere, one drawn on this machine and the command line take turns; the others rest."""
    query = f"data={data}&network=cifar-fc&rules=mdfa&speed=max&epochs=2000&batch_size=64&learning_rate=0.001"
    server = Server(data_dir)
    rates: dict[str, list[float]] = {"client": [], "browser": [], "command": []}
    with crew.clients(server, 1, query) as (client,):
        visitor = Visitor(browser, f"{server.address}?{query}")
        visitor.start()
        visitor.press("Pause")
        visitor.wait("chip() === 'Paused'")
        command = CommandLine(data, data_dir, epochs=1_000_000)
        command.hold()
        for _ in range(blocks):
            crew.do(client.until(lambda content: "chip running" in content, lambda: client.click("▶ Start")))
            rates["client"].append(crew.do(client.rate(seconds)))
            crew.do(client.until(lambda content: "chip paused" in content, lambda: client.click("Pause")))
            visitor.press("▶ Continue")
            visitor.wait("chip() === 'Running'")
            visitor.page.wait_for_timeout(300)
            begun, first = visitor.steps()
            visitor.page.wait_for_timeout(1000 * seconds)
            ended, last = visitor.steps()
            rates["browser"].append((last - first) / (ended - begun))
            visitor.press("Pause")
            visitor.wait("chip() === 'Paused'")
            rates["command"].append(command.go_on(seconds))
        command.close()
        visitor.close()
    server.close()
    task = f"{data}, cifar-fc, mDFA, batches of 64"
    places = {
        "client": "drawn on another machine (a websocket client)",
        "browser": "drawn by Chromium on the same cores",
    }
    rows = []
    for name, where in places.items():
        shares = [a / b for a, b in zip(rates[name], rates["command"], strict=True)]
        rows.append(
            Row("training", f"{task}: steps/s of a page {where} ÷ `mdfa train`", "≥ 90 %",
                spread(shares, "%", 100), statistics.median(shares) >= 0.9, shares)
        )  # fmt: skip
    titles = {"client": "a page drawn elsewhere", "browser": "a page drawn here", "command": "`mdfa train`"}
    return rows + [
        Row("training", f"steps/s of {titles[name]}", "", spread(rate, "/s"), None, rate)
        for name, rate in rates.items()
    ]


# ------------------------------------------------------------------------------------------------------------- leaving


def measure_leaving(crew: Crew, browser: Browser, cut_seconds: float) -> list[Row]:
    server = Server()
    try:
        closed = _place_after(crew, server, Visitor(browser, f"{server.address}?{_BUSY}"))
        time.sleep(25)  # the clients of before vanished, too: their places are free only then
        vanished = _place_after(crew, server, None)
        time.sleep(25)
        rows = [
            Row("leaving", f"{who}: its place to train at is free after", "≤ 30 s", f"{took:.1f} s", took <= 30, [took])
            for who, took in (("a tab is closed", closed), ("a browser vanishes", vanished))
        ]
        return [*rows, _measure_return(server, browser, cut_seconds)]
    finally:
        server.close()


_BUSY = f"speed=max&rules=mdfa&{LONG}"


def _place_after(crew: Crew, server: Server, visitor: Visitor | None) -> float:
    """Seconds from a trainer's leaving to the training of somebody who waited; without a browser, a client vanishes."""
    places = max(1, min(8, os.cpu_count() or 1))  # as app.limits counts them
    with crew.clients(server, places + 1, _BUSY) as (first, *others, last):
        time.sleep(5)  # until the server has seen them twice
        if visitor is not None:
            visitor.start()
        for client in others if visitor is not None else (first, *others):
            crew.do(client.until(lambda content: "chip running" in content, client.starts))
        crew.do(last.until(lambda content: "chip queued" in content, last.starts))
        free = crew.begin(last.until(lambda content: "chip running" in content, lambda: None))
        begun = time.monotonic()
        if visitor is None:
            crew.do(first.vanishes())
        else:
            visitor.close()
        free.result(PATIENCE)
        return time.monotonic() - begun


def _measure_return(server: Server, browser: Browser, seconds: float) -> Row:
    """A page whose connection is cut for a while."""
    proxy = server.proxy
    visitor = Visitor(browser, f"http://127.0.0.1:{proxy.port}/app?rules=mdfa&{LONG}")
    visitor.start()
    visitor.page.wait_for_timeout(6000)
    proxy.cut()
    visitor.page.wait_for_timeout(1000 * seconds)
    before = visitor.page.evaluate("steps()")
    proxy.mend()
    begun = time.monotonic()
    visitor.wait(f"chip() === 'Running' && steps() > {before}")
    took = time.monotonic() - begun
    points = visitor.page.evaluate(
        "Bokeh.documents[0].get_model_by_name('Error signals with the right sign').renderers"
        ".map((line) => line.data_source.get_length())"
    )
    found = visitor.page.evaluate("steps()") > before > 0 and max(points) > 10
    visitor.close()
    return Row("leaving", f"a connection that was cut for {seconds:.0f} s finds its run", "yes",
               f"{'yes' if found else 'no'}, {took:.1f} s after the network is back", found, [took])  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- endurance


def measure_cycles(server: Server, browser: Browser, cycles: int) -> list[Row]:
    if not cycles:
        return []
    warm = max(1, min(20, cycles // 2))  # what is imported, compiled and cached once
    megabytes, threads = [], []
    for cycle in range(cycles + warm):
        visitor = Visitor(browser, f"{server.address}?speed=max&{LONG}")
        visitor.start()
        visitor.close()
        if cycle + 1 in (warm, warm + cycles):
            time.sleep(40)  # until the last sessions have ended
            megabytes.append(server.megabytes())
            threads.append(server.threads())
    return _growth(f"{cycles} times a page opened, training and closed (after {warm} to warm up)", megabytes, threads)


def measure_hours(server: Server, browser: Browser, minutes: float) -> list[Row]:
    if not minutes:
        return []
    visitor = Visitor(browser, f"{server.address}?speed=max")
    visitor.start()
    warm = min(60.0, 20 * minutes)
    begun = time.monotonic()
    megabytes, threads = [], []
    while (passed := time.monotonic() - begun) < 60 * minutes:
        if visitor.page.evaluate("chip()") == "Finished":  # a run of the page's own length, then the next one
            visitor.press("▶ Again")
        if passed > warm:
            megabytes.append(server.megabytes())
            threads.append(server.threads())
        visitor.page.wait_for_timeout(1000)
    visitor.close()
    tenth = max(1, len(megabytes) // 10)
    ends = [statistics.median(megabytes[:tenth]), statistics.median(megabytes[-tenth:])]
    return _growth(
        f"{minutes:g} minutes of training, run after run", ends, [min(threads[:tenth]), min(threads[-tenth:])]
    )


def _growth(what: str, megabytes: Sequence[float], threads: Sequence[int]) -> list[Row]:
    more = megabytes[-1] / megabytes[0] - 1
    return [
        Row("endurance", f"{what}: threads", "no growth", f"{threads[0]} → {threads[-1]}", threads[-1] <= threads[0],
            [float(count) for count in threads]),
        Row("endurance", f"{what}: memory (RSS)", "≤ 5 %", f"{megabytes[0]:.0f} → {megabytes[-1]:.0f} MB, {more:+.1%}",
            more <= 0.05, list(megabytes)),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- report


def table(document: dict[str, Any]) -> str:
    """The document as Markdown."""
    its = document["machine"]
    lines = [
        f"Produced by `{document['command']}` on {document['date'][:10]}: {its['described']}, {its['memory GiB']} GiB; "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items())
        + f"; load average before and after {its['load before']:.1f} and {its['load after']:.1f}.",
        "",
        "| row | measured | aim | median (95th percentile; extremes; count) | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in document["rows"]:
        met = {None: "", True: "met", False: "**not met**"}[row["met"]]
        lines.append(f"| {row['name']} | {row['what']} | {row['aim']} | {row['measured']} | {met} |")
    return "\n".join(lines)


def main() -> None:
    names = ("visible", "click", "tabs", "plots", "training", "eight", "leaving", "endurance")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument("--only", default=",".join(names), help="some of " + ",".join(names))
    parser.add_argument(
        "--quick", action="store_true", help="run through everything once, with no value as a measurement"
    )
    parser.add_argument("--data-dir", type=Path, help="folder with real images  [default: made-up ones]")
    parser.add_argument("--data", default="cifar10", help="data set of the row training  [default: cifar10]")
    parser.add_argument(
        "--slowdown", type=float, default=1, help="of the browser's CPU: visible, click, tabs  [default: 1]"
    )
    parser.add_argument("--people", type=int, default=8, help="of the row eight  [default: 8]")
    parser.add_argument("--seconds", type=float, default=150, help="of the row eight  [default: 150]")
    parser.add_argument("--cycles", type=int, default=100, help="pages opened and closed, or 0  [default: 100]")
    parser.add_argument("--minutes", type=float, default=60, help="of training, or 0  [default: 60]")
    chosen = parser.parse_args()
    only = chosen.only.split(",")
    if unknown := set(only) - set(names):
        parser.error(f"unknown row {', '.join(sorted(unknown))}: choose some of {', '.join(names)}")
    quick = chosen.quick
    if quick:
        chosen.people, chosen.seconds, chosen.cycles, chosen.minutes = 1, 3.0, 1, 0.05
    load = os.getloadavg()[0]
    rows: list[Row] = []
    chromium = os.environ.get("MDFA_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    crew = Crew()

    def add(some: list[Row]) -> None:
        for row in some:
            print(f"{row.name}: {row.what}: {row.measured}", file=sys.stderr, flush=True)
        rows.extend(some)

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as made:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        browser_version = browser.version
        if {"visible", "click", "tabs", "plots"} & set(only):
            server = Server()
            if "visible" in only:
                add(measure_visible(server, browser, 1 if quick else 10, chosen.slowdown))
            if "click" in only:
                add(measure_clicks(server, browser, 2 if quick else 20, chosen.slowdown))
            if "tabs" in only:
                add(measure_tabs(server, browser, 2 if quick else 20, chosen.slowdown))
            if "plots" in only:
                add(measure_plots(server, browser, 3 if quick else 20))
            server.close()
        if "training" in only:
            if chosen.data_dir is None:
                made_up_cifar(Path(made), 400 if quick else 10_000)
            add(
                measure_training(
                    crew, browser, chosen.data, chosen.data_dir or Path(made), 1 if quick else 12, 2 if quick else 6
                )
            )
        if "eight" in only:
            add(measure_eight(crew, chosen.people, chosen.seconds))
        if "leaving" in only:
            add(measure_leaving(crew, browser, 3 if quick else 27))
        if "endurance" in only:
            server = Server()
            add(measure_cycles(server, browser, chosen.cycles))
            add(measure_hours(server, browser, chosen.minutes))
            server.close()
        browser.close()
    document = {
        "command": "python benchmarks/app_load.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "described": machine.summary(), "memory GiB": round(psutil.virtual_memory().total / 2**30, 1),
            "load before": load, "load after": os.getloadavg()[0],
        },
        "versions": {
            "mdfa": distribution.VERSION, **{name: version(name) for name in ("torch", "panel", "bokeh")},
            "Python": sys.version.split()[0], "Chromium": browser_version,
        },
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(document))


if __name__ == "__main__":
    main()
