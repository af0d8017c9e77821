"""Cost of the stage: CPU time of a frame where networks train, and of drawing it in Chromium.

Four rules with 2 × 128 units, 8 frames a second, for 20 seconds or as many as given.

Usage: python benchmarks/stage.py [SECONDS]
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import time
from collections.abc import Callable

import psutil
import torch
from playwright.sync_api import sync_playwright

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.stage import Camera, asset, row_of, scene_of, unit_signals

RULES = ("mdfa", "dfa", "fa", "bp")
FRAMES_PER_SECOND = 8
PAGE = """<!doctype html><body style="font: 14px sans-serif; width: 1200px"><div id="stage"></div><script type="module">
%stage%
const data = JSON.parse(`%data%`), heard = {}, values = { scene: data.scene, moving: true };
const frames = data.frames.map((text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
let at = 0;
const next = () => { window.drawn = at; values.frame = frames[at++ % frames.length]; heard["change:frame"]?.(); };
next();
const model = { get: (name) => values[name], on: (name, call) => { heard[name] = call; } };
render({ model, el: document.getElementById("stage") });
window.go = () => { window.timer = setInterval(next, 1000 / %rate%); };
</script></body>"""


def milliseconds(work: Callable[[], object], times: int) -> float:
    """CPU time of this thread for one call: the least of five means, because other programs slow down the others."""
    means = []
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(times):
            work()
        means.append((time.thread_time() - begun) / times)
    return 1000 * min(means)


def main(seconds: float) -> None:
    """Print the costs."""
    torch.set_num_threads(1)
    runs = {name: Run(Experiment(network="fc:128,128", method=name, epochs=1000), device="cpu") for name in RULES}
    scene = scene_of(runs["mdfa"])
    cameras = {name: Camera(run, scene) for name, run in runs.items()}
    order = list(METHODS)
    rows = tuple(row_of(name, METHODS[name], 2, order.index(name)) for name in RULES)

    def train(steps: int) -> None:
        for run in runs.values():
            for _ in run.events(steps=steps):
                pass

    def frames(whole: bool) -> bytes:
        return b"".join(camera.take(whole=whole).to_bytes() for camera in cameras.values())

    train(20)
    step = milliseconds(lambda: train(20), 1) / 20
    whole, part = (milliseconds(lambda w=w: frames(w), 10) for w in (True, False))
    frame = (whole + (FRAMES_PER_SECOND - 1) * part) / FRAMES_PER_SECOND
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"training: {step:.2f} ms a mini-batch of all four; a frame {whole:.2f} ms with weights, {part:.2f} without")
    print(f"          {frame:.2f} ms on average, {100 * FRAMES_PER_SECOND * frame / 1000:.1f} % of a core")

    signals = milliseconds(lambda: unit_signals(runs["dfa"], 0, 5).to_dict("dfa"), 10)
    sent = len(json.dumps(unit_signals(runs["dfa"], 0, 5).to_dict("dfa")))
    print(f"          {signals:.2f} ms more while a unit is looked at, and {sent} bytes")

    recorded = []
    for _ in range(4 * FRAMES_PER_SECOND):
        train(2)
        recorded.append(base64.b64encode(frames(len(recorded) % FRAMES_PER_SECOND == 0)).decode())
    data = json.dumps({"scene": scene.to_dict(rows), "frames": recorded})
    page = PAGE.replace("%rate%", str(FRAMES_PER_SECOND))
    draw(page.replace("%stage%", asset("stage.js")).replace("%data%", data), seconds)


def draw(content: str, seconds: float) -> None:
    """Draw frames in Chromium for a while."""
    with sync_playwright() as playwright:
        path = os.environ.get("MDFA_CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1440, "height": 1100})
        tab.set_content(content)
        tab.locator("canvas").first.wait_for()
        tab.wait_for_timeout(2000)
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable")

        def metrics() -> dict[str, float]:
            return {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}

        def used() -> dict[str, float]:
            found: dict[str, float] = {}
            for process in psutil.Process().children(recursive=True):
                words = process.cmdline()
                kind = next((word[7:] for word in words if word.startswith("--type=")), "browser")
                if any("chrom" in word for word in words[:1]):
                    found[kind] = found.get(kind, 0.0) + sum(process.cpu_times()[:2])
            return found

        tab.evaluate("go()")
        before, before_cpu, begun, first = metrics(), used(), time.monotonic(), tab.evaluate("drawn")
        tab.wait_for_timeout(1000 * seconds)
        after, after_cpu, passed = metrics(), used(), time.monotonic() - begun
        count = tab.evaluate("drawn") - first
        browser.close()
    names = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
    parts = ", ".join(f"{name} {1000 * (after[name] - before[name]) / count:.2f} ms" for name in names)
    cores = {kind: after_cpu[kind] - before_cpu.get(kind, 0.0) for kind in after_cpu}
    cpu = ", ".join(f"{kind} {1000 * value / count:.1f} ms" for kind, value in cores.items() if value)
    total = sum(cores.values()) / count
    print(f"browser:  {count / passed:.1f} frames a second; CPU time of a frame {1000 * total:.1f} ms ({cpu})")
    print(f"          {FRAMES_PER_SECOND * total:.3f} of a core at {FRAMES_PER_SECOND} frames a second")
    print(f"          by the clock, a frame: {parts}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
