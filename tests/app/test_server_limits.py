"""Memory of a real server under large networks: it stays within its share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks.app_load import Client
from mdfa_app.serving.presence import AWAY_SECONDS, LOOK_SECONDS
from tests.app.servers import Server, served

pytestmark = pytest.mark.slow

MACHINE = 1_200_000_000
"""Bytes of a made-up machine on which nothing else runs: half of them are for networks."""
FREE = f"""
import psutil
from mdfa_core.base import machine
machine.free_memory = lambda: max(0, {MACHINE} - psutil.Process().memory_info().rss)
"""
LARGE = "network=fc:4000,4000&rules=mdfa&epochs=2000&learning_rate=0.001"
"""A network of some 200 MiB, of which two fit."""
REFUSED = "runs fill this server"


class Visitor(Client):
    """A visitor who notices a refusal, also one that stands in the page when it comes."""

    refused = False

    async def _message(self) -> str:
        content = await super()._message()
        self.refused |= REFUSED in content
        return content

    async def trains(self) -> bool:
        """Whether the server trains for this visitor, or will, after Start."""
        self.starts()
        await eventually(lambda: self.refused or self.state in ("running", "queued"), "an answer to Start")
        return not self.refused


def megabytes(server: Server) -> float:
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


async def eventually(true: Callable[[], bool], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} seconds: {what}"
        await asyncio.sleep(0.5)


def test_large_networks_keep_to_the_servers_share_and_abandoned_ones_go_first(tmp_path: Path) -> None:
    async def visit(server: Server) -> None:
        people: list[Visitor] = []
        for fits in (True, True, False):
            people.append(await Visitor.come(server, LARGE))
            assert await people[-1].trains() == fits
            assert megabytes(server) < MACHINE / 1e6
        people[0].vanish()
        await asyncio.sleep(AWAY_SECONDS + 3 * LOOK_SECONDS)
        people.append(await Visitor.come(server, LARGE))
        assert await people[-1].trains()
        assert megabytes(server) < MACHINE / 1e6
        steps = people[1].steps
        await eventually(lambda: people[1].steps > steps, "whoever stayed goes on")
        for client in people[1:]:
            client.vanish()

    with served(tmp_path / "log", first=FREE, OMP_NUM_THREADS="1") as server:
        asyncio.run(visit(server))
        assert "Traceback" not in server.log()


def test_pages_that_are_opened_and_left_give_memory_and_threads_back_and_end_nobodys_run(tmp_path: Path) -> None:
    """Rounds of pages: the last one needs no more than the one before, and a run in between goes on."""
    short = "from mdfa_app.serving import presence; presence.AWAY_SECONDS = 2; presence.KEPT_SECONDS = 4"

    async def visit(server: Server) -> None:
        stays = await Visitor.come(server, "network=fc:64&epochs=2000&learning_rate=0.001")
        assert await stays.trains()
        sizes, threads = [], []
        for _ in range(3):
            for _ in range(4):
                (await Visitor.come(server, "network=fc:8")).vanish()
            await asyncio.sleep(presence_ends(4))
            sizes.append(megabytes(server))
            threads.append(psutil.Process(server.process.pid).num_threads())
        assert sizes[-1] < sizes[1] + 20, sizes
        assert threads[-1] <= threads[0], threads
        steps = stays.steps
        await eventually(lambda: stays.steps > steps, "whoever stayed goes on")
        stays.vanish()

    with served(tmp_path / "log", first=short, OMP_NUM_THREADS="1") as server:
        asyncio.run(visit(server))
        assert "Traceback" not in server.log()


def presence_ends(kept: float) -> float:
    """Seconds after which a page without its visitor has ended."""
    return kept + 3 * LOOK_SECONDS
