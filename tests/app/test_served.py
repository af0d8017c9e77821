"""`panel serve app/`, as a user starts it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("served") / "log"
    command = [sys.executable, "-m", "panel", "serve", "app/", "--port", str(port), "--address", "127.0.0.1",
               "--allow-websocket-origin", f"127.0.0.1:{port}"]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while "app running at" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, "the server did not start within a minute"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/app"
        written = log.read_text()
        # Tornado may log that a browser left in the middle of a message; the app's own code must not fail.
        assert not re.search(r'File ".*(/app/\w+|/mdfa_core/.*)\.py"|Error running', written), written
    finally:
        process.terminate()
        process.wait(30)


def test_the_page_explains_itself_and_names_no_other_server(address: str) -> None:
    answer = requests.get(address, timeout=60)
    assert answer.status_code == 200
    assert "<title>Learning without backpropagation</title>" in answer.text
    assert "Mathias Lechner" in answer.text
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']([^"']+)""", answer.text)
    assert loaded
    assert not [target for target in loaded if re.match(r"(https?:)?//", target)]
    for target in loaded:
        if target.endswith((".js", ".css")) or ".js?" in target:
            assert requests.get(requests.compat.urljoin(address, target), timeout=60).status_code == 200  # type: ignore[attr-defined]


@pytest.mark.browser
def test_the_served_page_learns(address: str, page: Page) -> None:
    page.goto(address)
    page.locator(".chip", has_text="Ready").wait_for()
    page.get_by_role("button", name="▶ Start").click()
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()
