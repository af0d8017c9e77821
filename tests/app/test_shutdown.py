"""The end of a server that is told to end; apart from the browser's tests, which keep this thread's event loop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.servers import Client, Server, served
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("word", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_server_ends_when_it_is_told_to_in_the_middle_of_training(tmp_path: Path, word: signal.Signals) -> None:
    async def visit(server: Server) -> None:
        visitors = [await Client.come(server, "rules=mdfa,dfa&speed=max&epochs=2000&network=fc:512,512") for _ in "ab"]
        for visitor in visitors:
            visitor.click("▶ Start")
        await visitors[0].wait_for("Running")  # first: an answer may come after it, and it is told once
        await visitors[1].answered()
        server.process.send_signal(word)
        await asyncio.gather(*(visitor.ends() for visitor in visitors))

    with served(tmp_path / "log") as server:
        asyncio.run(visit(server))
        assert server.process.wait(PATIENCE) == 0
        assert "Traceback" not in server.log(), server.log()


def test_a_server_that_ends_does_not_look_for_cycles_among_its_pages() -> None:
    """That took longer than anything else: seconds for the models of some pages, and many on a busy machine."""
    program = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count())); import mdfa_app.serving.server"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 10_000
