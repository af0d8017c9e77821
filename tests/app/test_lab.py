"""The stage in a real JupyterLab: it is drawn, it moves while networks train, and it rests when they pause."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import nbformat
import pytest
import requests

from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "of-this-test"
SHOWN_BY = {"explore": "*buttons.values()", "busy": "Stage(Experiment"}  # words of the cell that shows the stage
BUSY = [
    """from mdfa_core import Experiment
from mdfa_core.stage.widget import Stage
stage = Stage(Experiment(network="fc:8,8", epochs=1000), rules=("mdfa", "bp"))
stage""",
    "stage.train(steps_per_second=20)",
    "stage.replay()",
]
PICTURE = "() => [...document.querySelectorAll('.mdfa-stage canvas')].map((canvas) => canvas.toDataURL()).join()"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the explorer and of a notebook whose cell trains, without the settings of whoever runs the tests."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "notebooks" / "explore.ipynb", home)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in BUSY])
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(notebook, home / "busy.ipynb")
    quiet = home / ".settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8")
    folders = {
        "JUPYTER_CONFIG_DIR": ".config", "JUPYTER_DATA_DIR": ".data", "JUPYTER_RUNTIME_DIR": ".runtime",
        "JUPYTERLAB_SETTINGS_DIR": ".settings", "JUPYTERLAB_WORKSPACES_DIR": ".workspaces", "IPYTHONDIR": ".ipython",
    }  # fmt: skip
    environment = {**os.environ, **{name: str(home / folder) for name, folder in folders.items()}}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=home, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, "JupyterLab did not start within a minute"
            try:
                requests.get(f"http://127.0.0.1:{port}/api", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()  # and its kernels with it
        process.wait(PATIENCE)


class Reader:
    """Who opens a notebook and runs it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self._address = page, address
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.set_default_timeout(120_000)

    def run(self, name: str) -> None:
        """Open a notebook, run its cells, and scroll to the stage."""
        self.page.goto(f"{self._address}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}")
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        self.page.wait_for_timeout(2000)  # the menu hears of the kernel a little later than the status bar
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        output = self.page.locator(".jp-CodeCell", has_text=SHOWN_BY[name]).locator(".jp-Cell-outputWrapper")
        output.locator(".mdfa-stage canvas").first.wait_for()
        output.evaluate("(output) => output.scrollIntoView()")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def wait_for_busy(self, busy: bool) -> None:
        status = "busy" if busy else "idle"
        self.page.locator(f".jp-Notebook-ExecutionIndicator[data-status={status}]").wait_for()

    def moves(self) -> bool:
        """Whether the picture changes within a second."""
        before = self.page.evaluate(PICTURE)
        self.page.wait_for_timeout(1000)
        return bool(self.page.evaluate(PICTURE) != before)

    def row(self, title: str) -> Locator:
        """The row of a rule whose error signals were compared."""
        return self.page.get_by_role("group", name=re.compile(rf"^{title}, .*% of the error signals right"))


@pytest.fixture
def reader(page: Page, address: str) -> Iterator[Reader]:
    """Whatever a test does, nothing fails and nobody but the server is asked."""
    made = Reader(page, address)
    yield made
    assert made.errors == []
    hosts = {urlsplit(url).hostname for url in made.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def test_the_explorer_learns_and_hears(reader: Reader, wait_until: Callable[..., None]) -> None:
    page = reader.page
    reader.run("explore")
    reader.row("mDFA").wait_for()
    reader.wait_for_busy(False)
    assert not reader.moves()
    page.get_by_role("img", name=re.compile("^mDFA, layer 1, 64 units")).wait_for()  # no button: nothing opens here
    reader.press("Start")
    wait_until(reader.moves, "networks that learn")
    reader.press("Pause")
    wait_until(lambda: not reader.moves(), "rest")
    page.locator(".widget-inline-hbox", has_text="Rules").locator("select").select_option(["BP", "FA"])
    reader.row("BP").wait_for()
    reader.row("mDFA").wait_for(state="detached")
    page.locator(".widget-inline-hbox", has_text="Speed").locator("select").select_option("as fast as possible")
    reader.press("Start")
    reader.row("BP").and_(page.get_by_role("group", name=re.compile(r"training accuracy (9\d|100)"))).wait_for()


def test_the_picture_moves_while_a_cell_trains_and_the_replay_stays(
    reader: Reader, wait_until: Callable[..., None]
) -> None:
    page = reader.page
    reader.run("busy")
    reader.wait_for_busy(True)
    wait_until(reader.moves, "a picture that moves while the kernel is busy")
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Kernel$")).click()
    page.get_by_text("Interrupt Kernel", exact=True).click()
    reader.wait_for_busy(False)
    assert not reader.moves()
    page.get_by_role("img", name=re.compile("^mDFA, layer 1, 8 units")).press("ArrowRight")
    page.locator(".tip").get_by_text(re.compile(r"^Right in \d+ of \d+ examples$")).wait_for()
    page.locator(".jp-CodeCell", has_text="stage.replay()").locator(".jp-InputArea").click()
    page.keyboard.press("Shift+Enter")
    replay = page.frame_locator("iframe[title=Replay]")
    replay.get_by_role("group", name=re.compile("^mDFA, .*100 % of the error signals right")).wait_for()
    reader.errors[:] = [line for line in reader.errors if "KeyboardInterrupt" not in line]
