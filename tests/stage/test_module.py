"""stage.js: it reads frames as Python writes them, lays every network out inside its row, and draws in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.stage import frame_of, record, replay_page, row_of, scene_of
from mdfa_core.stage.recording import asset
from tests.support.contrast import contrast

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node")


def run_script(folder: Path, script: str, data: Any) -> Any:
    """What a script returns that imports the module as `stage` and has `data`."""
    (folder / "stage.mjs").write_text(asset("stage.js"), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "main.mjs").write_text(
        "import * as stage from './stage.mjs'; import { readFileSync } from 'fs';"
        "const data = JSON.parse(readFileSync(new URL('data.json', import.meta.url), 'utf-8'));"
        f"console.log(JSON.stringify((() => {{ {script} }})()));",
        encoding="utf-8",
    )
    assert NODE is not None
    done = subprocess.run([NODE, folder / "main.mjs"], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def scene_and_frame(**settings: Any) -> tuple[dict[str, Any], Any]:
    run = Run(Experiment(**settings), device="cpu")
    for _ in run.events(steps=2):
        pass
    scene = scene_of(run)
    row = row_of("dfa", METHODS["dfa"], len(run.network.hidden), 2)
    return scene.to_dict((row, row)), frame_of(run, scene, accuracy=0.5)


@needs_node
@pytest.mark.parametrize(
    "settings", [{"network": "fc:6,5"}, {"network": "conv:3/3/2+fc:4", "outputs": 3}, {"data": "xor", "network": "fc:"}]
)
def test_frames_are_read_as_they_are_written(settings: dict[str, Any], tmp_path: Path) -> None:
    scene, frame = scene_and_frame(method="dfa", **settings)
    data = {"scene": scene, "bytes": list(frame.to_bytes() * 2)}
    found = run_script(
        tmp_path,
        "const bytes = Uint8Array.from(data.bytes), reader = new stage.Reader(data.scene);"
        "const read = reader.read(bytes, 1);"
        "for (const layer of read.layers) layer.units = [...layer.units];"
        "return { ...read, size: reader.size, certainty: [...read.certainty], result: [...read.result],"
        " weights: read.weights.map((part) => [...part]), third: reader.read(bytes, 2) };",
        data,
    )
    assert found["size"] == len(frame.to_bytes())
    assert (found["step"], found["epoch"], found["diverged"], found["accuracy"]) == (2, 1, False, 0.5)
    assert found["signs"] == (None if np.isnan(frame.signs) else pytest.approx(frame.signs))
    assert [layer["units"] for layer in found["layers"]] == [states.tolist() for states in frame.units]
    assert [layer["undefined"] for layer in found["layers"]] == pytest.approx(list(frame.layer_undefined))
    assert found["weights"] == [values.tolist() for values in frame.weights]
    assert found["certainty"] == frame.certainty.tolist()
    assert found["result"] == frame.result.flatten().tolist()
    assert found["third"] is None


@needs_node
def test_a_percentage_is_100_only_if_it_is(tmp_path: Path) -> None:
    shares = [0, 1e-9, 0.5694, 0.99999, 1, None]
    found = run_script(tmp_path, "return data.map((share) => stage.percent(share ?? NaN));", shares)
    assert found == ["0 %", "0.1 %", "56.9 %", "99.9 %", "100 %", "–"]


@needs_node
def test_the_signals_of_a_unit_in_words(tmp_path: Path) -> None:
    units = [(45, 19, 64, 1), (45, 16, 64, 1), (0, 0, 64, 1), (1, 0, 1, 1), (3000, 1096, 64, 64)]
    names = ("right", "wrong", "examples", "positions")
    data = [dict(zip(names, unit, strict=True)) for unit in units]
    assert run_script(tmp_path, "return data.map(stage.signalsText);", data) == [
        "right in 45 of 64 examples",
        "right in 45 of 64 examples, no sign in 3",
        "no sign in any of 64 examples",
        "right in 1 of 1 example",
        "right in 3,000 of 4,096 places",
    ]


@needs_node
@pytest.mark.parametrize("width", [330, 700, 1000, 1400])
@pytest.mark.parametrize(
    "network", ["fc:", "fc:1", "fc:128,128", "fc:1024,1024,512,512,256,256,128,64", "conv:16/3/1,32/3/2+fc:40"]
)
def test_every_network_fits_into_its_row(network: str, width: int, tmp_path: Path) -> None:
    run = Run(Experiment(network=network, outputs=10), device="cpu")
    scene = scene_of(run).to_dict((row_of("mdfa", METHODS["mdfa"], len(run.network.hidden), 3),))
    place = run_script(tmp_path, f"return stage.layOut(data, {width});", scene)
    ends = [place["inputs"]["x"] + place["inputs"]["width"]]
    for layer in place["layers"]:
        assert layer["across"] * layer["down"] >= layer["count"]
        assert layer["x"] > ends[-1]
        assert place["top"] <= layer["y"]
        assert layer["y"] + layer["high"] <= place["top"] + place["tall"] + 1e-6
        ends.append(layer["x"] + layer["wide"])
    assert place["output"]["x"] - place["output"]["radius"] > ends[-1]
    assert place["result"]["x"] > place["output"]["x"] + place["output"]["radius"]
    assert place["result"]["x"] + place["result"]["side"] <= width
    assert place["pitch"] >= 2.5
    assert place["inputs"]["cell"] >= 22, "images are large enough to be seen"
    assert len(set(place["inputs"]["pictures"])) >= 3


@needs_node
def test_texts_and_dots_stand_out_from_their_ground(tmp_path: Path) -> None:
    for palette in run_script(tmp_path, "return Object.values(stage.PALETTES);", None):
        ground = palette.pop("ground")
        for name in ("text", "muted", "right", "wrong", "warn", "signal"):
            assert contrast(palette[name], ground) >= 4.5, name
        for name in ("none", "positive", "negative", "accent"):
            assert contrast(palette[name], ground) >= 3, name


@pytest.mark.browser
@pytest.mark.slow
def test_a_replay_opens_from_disk_and_says_what_it_shows(tmp_path: Path, browser: Browser) -> None:
    runs = {
        name: Run(Experiment(network="fc:6,5", epochs=2, method=name, forward_init=init), device="cpu")
        for name, init in (("mdfa", "normal:0.1"), ("bp", "zeros"))
    }
    path = tmp_path / "replay.html"
    path.write_text(replay_page(record(runs, frames=6).to_dict(), title="A test"), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{path.as_uri()}#frame=2")

    row = page.get_by_role("group", name="mDFA, monotone direct feedback alignment: 100 % of the error signals right")
    row.wait_for()
    page.get_by_text("no error signal has a sign").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    layer = row.get_by_role("img", name="mDFA, layer 1, 6 units, 100 % of the error signals right")
    layer.focus()
    row.get_by_text("Layer 1, unit 0", exact=True).wait_for()  # the focus is on the first unit
    row.get_by_text("100 % of its error signals are right.", exact=True).wait_for()
    layer.press("ArrowRight")
    row.get_by_text("Layer 1, unit 1: 100 % of its error signals are right.").wait_for()
    row.locator(".tip").get_by_text("its weights").wait_for()
    assert row.locator(".tip canvas.scatter").count() == 0, "a replay has shares, and no signals of single examples"
    assert "Waiting" not in row.locator(".tip").inner_text()
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Again").wait_for()
    assert "epoch 2 of 2" in page.locator("#at").inner_text()
    page.set_viewport_size({"width": 1000, "height": 800})
    page.wait_for_function("!document.querySelector('.mdfa-stage.narrow')")
    # The classic notebook has Bootstrap, whose rows begin with a box of their own.
    page.add_style_tag(content=".row { margin: 0 -15px } .row::before, .row::after { content: ' '; display: table }")
    facts, net = row.locator(".facts").bounding_box(), row.locator(".net").bounding_box()
    assert facts is not None
    assert net is not None
    assert facts["x"] + facts["width"] <= net["x"]
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()
