"""Measure the home page of the documentation from disk: first paint and weight.

    make docs
    python benchmarks/site.py [build/site] [--loads 9]

Needs Playwright and a Chromium (`MDFA_CHROMIUM` names another one than that on the path). Every load has a fresh
context, so nothing is cached by the browser. The weight is that of all files that the page has asked for when it is
loaded, with the replay on it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page

SITE = Path(__file__).resolve().parents[1] / "build" / "site"


class Load(NamedTuple):
    """One load of a page."""

    paint: float
    """Milliseconds from the request to the first contentful paint."""
    weight: int
    """Bytes of the files that the page asked for."""
    asked: tuple[str, ...]
    """Their addresses."""


def load(page: Page, file: Path) -> Load:
    """Open a page from disk in a browser's fresh page."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    files = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    return Load(paint, sum(path.stat().st_size for path in files), tuple(asked))


def main() -> None:
    """Print the median and the extremes of several loads."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Measure the home page of the documentation from disk.")
    parser.add_argument("site", nargs="?", type=Path, default=SITE, help="the folder that `make docs` writes")
    parser.add_argument("--loads", type=int, default=9)
    arguments = parser.parse_args()
    file = arguments.site.resolve() / "index.html"
    if not file.exists():
        parser.error(f"there is no {file}: run `make docs` first")

    found = []
    with sync_playwright() as playwright:
        chromium = os.environ.get("MDFA_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(arguments.loads):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            found.append(load(context.new_page(), file))
            context.close()
        browser.close()

    paints = sorted(each.paint for each in found)
    spread = f"{paints[0]:.0f} to {paints[-1]:.0f}, {len(paints)} loads"
    print(f"first contentful paint {statistics.median(paints):.0f} ms ({spread})")
    print(f"weight {found[-1].weight / 1e6:.2f} MB in {len(set(found[-1].asked))} files")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
