"""Make the pictures of the app in the README and the guide from real runs.

Usage: python studies/screenshots.py [FOLDER]; the folder is docs/images if left out. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]


def serve(port: int) -> subprocess.Popen[bytes]:
    """Start the app and wait until it answers."""
    command = [sys.executable, "-m", "panel", "serve", "app/", "--port", str(port), "--address", "127.0.0.1",
               "--allow-websocket-origin", f"127.0.0.1:{port}"]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            requests.get(f"http://127.0.0.1:{port}/app", timeout=60)
            return process
        except requests.ConnectionError:
            time.sleep(0.2)
    process.terminate()
    raise SystemExit("the app did not start within a minute: run `panel serve app/` to see why")


def visit(browser: Browser, *, width: int, height: int) -> Page:
    """A page of this size."""
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.25)
    page.set_default_timeout(120_000)
    return page


def picture(browser: Browser, port: int, target: Path, *, epochs: int = 30) -> None:
    """Compare mDFA, DFA and FA for this many epochs and take a picture of the page."""
    page = visit(browser, width=1440, height=920)
    page.goto(f"http://127.0.0.1:{port}/app?speed=normal")  # with an address of its own, no tour opens
    page.locator(".chip", has_text="Ready").wait_for()
    page.get_by_role("button", name="▶ Start", exact=True).click()
    while int(page.locator(".numbers b").first.inner_text().split("/")[0]) < epochs:
        page.wait_for_timeout(100)
    page.mouse.move(5, 5)
    page.locator(".chip", has_text="Running").wait_for()
    page.screenshot(path=target, clip={"x": 0, "y": 0, "width": 1440, "height": 900})
    page.close()


def detail(browser: Browser, port: int, target: Path, *, preset: str, epochs: int, find: bool = False) -> None:
    """Train a preset for this many epochs and take a picture of its open tab."""
    page = visit(browser, width=1100, height=1400)
    page.goto(f"http://127.0.0.1:{port}/app?preset={preset}&speed=fast")
    page.locator(".chip", has_text="Ready").wait_for()
    page.get_by_role("button", name="▶ Start", exact=True).click()
    while int(page.locator(".numbers b").first.inner_text().split("/")[0]) < epochs:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Pause", exact=True).click()
    page.locator(".chip", has_text="Paused").wait_for()
    page.locator("section.details").scroll_into_view_if_needed()  # a tab is made when it comes into sight
    if find:
        page.get_by_role("button", name="Find a disagreeing unit").click()
        page.get_by_text("gets an error signal of the wrong sign").wait_for()
    page.mouse.move(5, 5)
    page.wait_for_timeout(1500)  # the last charts are drawn
    page.locator("section.details").screenshot(path=target)
    page.close()


def shrink(target: Path) -> None:
    """Reduce a picture to 256 colours, which are enough for a page and need a third of the bytes."""
    with Image.open(target) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    """Start the app, take the pictures, stop the app."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("MDFA_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = serve(port)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            picture(browser, port, folder / "app.png")
            detail(browser, port, folder / "example.png", preset="two-outputs", epochs=3, find=True)
            detail(browser, port, folder / "plane.png", preset="plane", epochs=30)
            browser.close()
        for name in ("app", "example", "plane"):
            shrink(folder / f"{name}.png")
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
