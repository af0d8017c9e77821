"""Fixtures and hooks for all tests: fixed seeds and threads, isolated caches, skips with a reason, a browser."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mdfa_core.runs.store import Store

FOLDERS = itertools.count()
"""Numbers for the folders of tests: making a folder would take longer than many a test."""

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]

# The same examples in every run, no database on disk, and no deadline: on a busy machine a deadline fails correct code.
hypothesis.settings.register_profile("mdfa", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("mdfa")


def pytest_configure(config: pytest.Config) -> None:
    # Sums depend on the number of threads in their last bits. Small nets gain nothing from a second thread, and
    # pytest-xdist starts a process for every core. The variable is for the processes that tests start.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(tryfirst=True)  # before markers choose among the tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without_gpu = pytest.mark.skip(reason="needs a CUDA device, and torch finds none here")
    without_data = pytest.mark.skip(reason="needs the real data sets: set MDFA_DATA_DIR to the folder that holds them")
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(without_gpu)
        if item.get_closest_marker("realdata") and not os.environ.get("MDFA_DATA_DIR"):
            item.add_marker(without_data)
        if "chromium" in getattr(item, "fixturenames", ()):  # a browser takes its time, and its module shares it
            item.add_marker(pytest.mark.slow)
            if not item.get_closest_marker("xdist_group"):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def isolated(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test reads or writes the user's cache; only tests marked `realdata` see the user's data sets."""
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(FOLDERS))
    for variable, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "share"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(variable, str(home / folder))
    if not request.node.get_closest_marker("realdata"):
        monkeypatch.delenv("MDFA_DATA_DIR", raising=False)
    torch.manual_seed(0)  # for tests that draw their inputs from torch's global generator


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the fixture `store`."""
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """An empty store of runs."""
    from mdfa_core.runs.store import Store

    with Store(path) as opened:
        yield opened


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch computes with two threads."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture
def batched_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU computes all replicas of a stack in batched calls, as a GPU does."""
    monkeypatch.setattr("mdfa_core.compute.replicas.PER_REPLICA_DEVICES", frozenset())
    monkeypatch.setattr("mdfa_core.compute.stacked_conv.fastest_algorithm", lambda *of: "grouped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """If a browser test fails, add the page's text to the report and save a picture in the folder `screenshots`."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and hasattr(page, "screenshot"):
        path = item.config.rootpath / "screenshots" / f"{re.sub(r'[^A-Za-z0-9]+', '_', item.nodeid)}.png"
        try:
            page.screenshot(path=path)
            report.sections.append((f"The page (picture in {path})", page.locator("body").inner_text()))
        except Exception as error:  # a crashed browser must not hide why the test failed
            report.sections.append(("The page", f"could not be read: {error}"))
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium: MDFA_CHROMIUM, or the first one found on the PATH."""
    path = os.environ.get("MDFA_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.skip(f"needs a Chromium: install one ({', '.join(CHROMIUM_NAMES)}) or name it in MDFA_CHROMIUM")
    return path


# One browser per test module, not per session: Playwright keeps an event loop running in this thread while it is
# open, and tests of other modules (notebooks, Dask) want to start their own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page in a context of its own: no cookies or storage from another test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * PATIENCE)
    yield context.new_page()
    context.close()
