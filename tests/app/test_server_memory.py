"""Memory of a server after its pages' ends."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import panel as pn
import pytest
import requests

from benchmarks.app_load import free_port
from mdfa_app import build
from mdfa_app.serving import memory
from tests.support.patience import PATIENCE

HOLES = """
import psutil
from mdfa_app.serving.memory import trim
def megabytes(): return psutil.Process().memory_info().rss / 1e6
blocks = [bytes(2000) for _ in range(100_000)]
full = megabytes()
kept = blocks[::50]
del blocks
holes = megabytes()
trim(None)
print(full, holes, megabytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_memory_between_what_is_held_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    full, holes, given = map(float, done.stdout.split())
    assert full - holes < 50, "the allocator gave the holes back by itself: this test shows nothing"
    assert holes - given > 100


def test_it_goes_back_when_a_page_ends(monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]) -> None:
    ended: list[object] = []
    monkeypatch.setattr(memory, "trim", lambda session_context: ended.append(session_context))
    port = free_port()
    server: Any = pn.serve(
        {"app": build}, port=port, address="127.0.0.1", threaded=True, show=False,
        unused_session_lifetime_milliseconds=500, check_unused_sessions_milliseconds=100,
    )  # fmt: skip

    def comes() -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}/app", headers={"Connection": "close"}, timeout=PATIENCE).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(comes, "the start of the server")
        wait_until(lambda: ended, "the end of the page")
    finally:
        server.stop()
        server.join(PATIENCE)
