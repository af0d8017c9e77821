"""The explorers in a real JupyterLab in a real Chromium: cells are run, curves move, controls are heard."""

from __future__ import annotations

import json
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

import pytest
import requests

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "of-this-test"
SHOWN_BY = {"explore": "explorer.view", "explore_widgets": "hv.Layout(shown)"}  # words of the cell that shows it
EPOCHS = 300  # as explore_widgets comes
BUSY_SECONDS = 10
LONGEST_CURVE = """() => Math.max(0, ...Bokeh.documents.flatMap((document) => [...document._all_models.values()])
  .filter((model) => model.type === "ColumnDataSource").map((model) => model.get_length() ?? 0))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of copies of the notebooks, without the settings of whoever runs the tests; `busy` has a cell more."""
    home = tmp_path_factory.mktemp("lab")
    for name in ("explore", "explore_widgets"):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", home)
    notebook = json.loads((home / "explore.ipynb").read_text(encoding="utf-8"))
    shows = next(cell for cell in notebook["cells"] if SHOWN_BY["explore"] in "".join(cell["source"]))
    busy = {**shows, "id": "busy", "source": [f"import time\n\ntime.sleep({BUSY_SECONDS})"]}
    notebook["cells"].insert(notebook["cells"].index(shows) + 1, busy)
    (home / "busy.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    quiet = home / ".settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8")
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
        process.wait(30)


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

    def run_all(self, name: str) -> None:
        """Open a notebook, run it, and scroll to what it shows."""
        self.run(name)
        # JupyterLab scrolls to each cell that it runs, and may not draw what is out of sight: so wait for the last one,
        # then scroll back.
        cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        last = sum(cell["cell_type"] == "code" for cell in cells)
        self.page.locator(".jp-InputPrompt", has_text=re.compile(rf"^\[{last}\]:$")).wait_for()
        output = self.page.locator(".jp-CodeCell", has_text=SHOWN_BY[name]).locator(".jp-Cell-outputWrapper")
        output.evaluate("(output) => output.scrollIntoView()")

    def run(self, name: str) -> None:
        """Open a notebook and run its cells."""
        self.page.goto(f"{self._address}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}")
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        self.page.wait_for_timeout(2000)  # the menu hears of the kernel a little later than the status bar
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        self.page.get_by_text("Run All Cells", exact=True).click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def begin(self, name: str) -> None:
        """Run the page's notebook and start training."""
        self.run_all(name)
        self.page.locator(".chip", has_text="Ready").wait_for()
        self.press("▶ Start")

    def longest_curve(self) -> int:
        """Points of the longest line that is drawn."""
        return int(self.page.evaluate(LONGEST_CURVE))


@pytest.fixture
def reader(page: Page, address: str) -> Iterator[Reader]:
    """Whatever a test does, nothing fails and nobody but the server is asked."""
    made = Reader(page, address)
    yield made
    assert made.errors == []
    hosts = {urlsplit(url).hostname for url in made.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def test_the_page_lives_in_a_notebook(reader: Reader, wait_until: Callable[..., None]) -> None:
    page = reader.page
    reader.begin("explore")
    page.get_by_text("100 % of the unit error signals have the true sign.").wait_for()
    before = reader.longest_curve()
    assert before > 0
    wait_until(lambda: reader.longest_curve() > before + 3, "a curve that grows")
    page.get_by_label("Outputs", exact=True).select_option("2 (two classes)")
    page.get_by_text("The grey lines are those before").wait_for()
    page.get_by_text(re.compile(r"^[456]\d\.\d % of the unit error signals have the true sign\.")).wait_for()
    reader.press("Paper")  # what is made only now brings no style sheet from elsewhere
    reader.press("Load Table 1, FC, tanh, mDFA")
    page.get_by_text("The paper prints 100.0 ± 0.0 % training accuracy").wait_for()
    page.locator(".chip", has_text="Ready").wait_for()
    reader.press("Dark")
    page.locator(".dark").wait_for()


def test_the_small_notebook_learns_and_hears(reader: Reader, wait_until: Callable[..., None]) -> None:
    page = reader.page
    reader.run_all("explore_widgets")
    says = page.locator(".widget-html-content")
    says.filter(has_text="Press Start.").wait_for()

    def epoch() -> int:
        return int(re.sub(r"\D", "", says.inner_text()) or 0)

    reader.press("Start")
    wait_until(lambda: epoch() >= 3, "epochs")
    before = reader.longest_curve()
    wait_until(lambda: reader.longest_curve() > before > 0, "a curve that grows")
    page.locator(".widget-inline-hbox", has_text="Activation").locator("select").select_option("relu")
    last = epoch()
    reader.press("Start")
    wait_until(lambda: epoch() < last, "a new run")
    reader.press("Stop")

    def rests() -> bool:
        last = epoch()
        page.wait_for_timeout(800)
        return epoch() == last

    wait_until(rests, "an end")
    assert epoch() < EPOCHS, "it was stopped, and did not come to its own end"


def test_what_is_done_while_cells_run_is_heard(reader: Reader) -> None:
    """The kernel takes up the page's connection behind the cells that run, and a visitor cannot know it."""
    page = reader.page
    reader.run("busy")
    page.get_by_label("Outputs", exact=True).wait_for()
    page.wait_for_timeout(1000)  # so that JupyterLab has a subshell for the page
    page.get_by_label("Outputs", exact=True).select_option("2 (two classes)")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for()
    page.locator(".chip", has_text="Ready").wait_for()
    reader.press("▶ Start")
    page.get_by_text(re.compile(r"^[456]\d\.\d % of the unit error signals have the true sign\.")).wait_for()
