"""What every test stands on: fixed seeds and threads, caches of its own, and skips that say why."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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

# The same examples in every run, nothing remembered on disk, and no deadline: a busy machine is no defect of the code.
hypothesis.settings.register_profile("mdfa", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("mdfa")


def pytest_configure(config: pytest.Config) -> None:
    # Sums depend on the number of threads in their last bits; two is what the smallest machines have.
    torch.set_num_threads(2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without_gpu = pytest.mark.skip(reason="needs a CUDA device, and torch finds none here")
    without_data = pytest.mark.skip(reason="needs the real data sets: set MDFA_DATA_DIR to the folder that holds them")
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(without_gpu)
        if item.get_closest_marker("realdata") and not os.environ.get("MDFA_DATA_DIR"):
            item.add_marker(without_data)


@pytest.fixture(autouse=True)
def isolated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's cache, and only those marked `realdata` see the user's data sets."""
    for variable, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "share"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(variable, str(tmp_path / ".home" / folder))
    if not request.node.get_closest_marker("realdata"):
        monkeypatch.delenv("MDFA_DATA_DIR", raising=False)
    torch.manual_seed(0)  # for tests that draw their inputs from torch's global generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the browser showed when a test failed: its words in the report, its picture in the folder `screenshots`."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and hasattr(page, "screenshot"):
        path = item.config.rootpath / "screenshots" / f"{re.sub(r'[^A-Za-z0-9]+', '_', item.nodeid)}.png"
        try:
            page.screenshot(path=path)
            report.sections.append((f"The page, whose picture is {path}", page.locator("body").inner_text()))
        except Exception as error:  # a browser that is gone must not hide why the test failed
            report.sections.append(("The page", f"could not be looked at: {error}"))
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
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()
