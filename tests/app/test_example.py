"""One example: bars, marks and sentences say what the snapshot holds, and the buttons ask for the right thing."""

from __future__ import annotations

import dataclasses
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import panel as pn
import pytest

from app.example import ExamplePane, _name, _scaled, _share
from app.plane import PlanePane
from app.weights import WeightsPane
from mdfa_core import Experiment, Run
from mdfa_core.inspection import Found, Scene, Snapshot, Wanted, example, find_disagreeing, scene, snapshot

if TYPE_CHECKING:
    from playwright.sync_api import Page


def run_of(**settings: Any) -> Run:
    run = Run(Experiment(**{"network": "fc:12,60", "batch_size": 16, "method": "dfa", **settings}), device="cpu")
    list(run.events(steps=2))
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of()


@pytest.fixture
def pane() -> ExamplePane:
    return ExamplePane(on_pick=lambda index: None, on_find=lambda: None)


@functools.cache
def stage_of(run: Run) -> Scene:
    """One scene a run: another one means another run to a pane."""
    return scene(run)


def looked(run: Run, index: int = 3, unit: tuple[int, int] | None = None) -> Snapshot:
    return snapshot(run, stage_of(run), Wanted(example=index, unit=unit))


def test_every_unit_is_drawn_once_by_its_sign(run: Run, pane: ExamplePane) -> None:
    taken = looked(run)
    pane.show(taken)
    assert pane.index == 3
    assert taken.example is not None
    for number, layer in enumerate(taken.example.layers):
        pane.show_layer(number)
        assert pane.layer == number
        seen: list[int] = []
        for sign, value in (("agrees", 1), ("disagrees", -1), ("undefined", 0)):
            data = pane._sources[sign].data
            seen += list(data["x"])
            for row, x in enumerate(data["x"]):
                assert layer.signs[x] == value
                assert data["true_value"][row] == layer.true[x]
                assert data["delivered_value"][row] == layer.delivered[x]
                assert data["true"][row] == pytest.approx(layer.true[x] / np.abs(layer.true).max())
                assert data["top"][row] == pytest.approx(layer.delivered[x] / np.abs(layer.delivered).max())
                assert data["name"][row] == str(layer.units[x])
        assert sorted(seen) == list(range(len(layer.units)))
        assert f"{layer.agreeing} of {layer.agreeing + layer.disagreeing} units" in pane._words.object
        assert ("Drawn are 48" in pane._words.object) == (number == 1)


def test_what_the_net_says_is_said(run: Run, pane: ExamplePane) -> None:
    split = run.tasks[0].train
    verdicts = set()
    for index in range(30):
        taken = looked(run, index)
        pane.show(taken)
        assert taken.example is not None
        right = int(np.argmax(taken.example.probabilities)) == int(split.labels[index])
        assert ("and is right" in pane._said.object) == right
        assert f"Training image {index}: “{taken.scene.class_names[int(split.labels[index])]}”" in pane._said.object
        verdicts.add(right)
    assert verdicts == {True, False}


def test_pictures_ask_for_themselves(run: Run) -> None:
    picked: list[int] = []
    pane = ExamplePane(on_pick=picked.append, on_find=lambda: None)
    stage = scene(run)
    pane.show(Snapshot(scene=stage, step=0, epoch=0))
    assert pane.index is None
    assert "Choose a picture" in pane._said.object
    for button in pane._pictures.objects:
        button.clicks += 1
    assert picked == list(stage.thumbnails.indices)
    names = [button.label for button in pane._pictures.objects]
    assert names[0] == f"{stage.class_names[0]}, training image {stage.thumbnails.indices[0]}"


def test_a_disagreeing_unit_is_searched_shown_and_marked(run: Run) -> None:
    asked: list[bool] = []
    pane = ExamplePane(on_pick=lambda index: None, on_find=lambda: asked.append(True))
    assert pane._find.disabled
    pane.show(looked(run))
    pane._find.clicks += 1
    assert asked == [True]
    assert pane._find.disabled
    assert "Searching" in pane._answer.object
    found = find_disagreeing(run, after=3)
    assert found is not None
    pane.show_found(found)
    pane.show(looked(run, found.index, (found.layer, found.unit)))
    assert not pane._find.disabled
    assert (pane.layer, pane.index) == (found.layer, found.index)
    assert f"Unit {found.unit} of layer {found.layer + 1}" in pane._answer.object
    wrong = pane._sources["disagrees"].data
    row = list(wrong["name"]).index(str(found.unit))
    assert pane._mark.visible
    assert (pane._mark.left + pane._mark.right) / 2 == pytest.approx(wrong["x"][row])
    pane.show(looked(run, found.index, (0, 5)))
    pane.show_layer(0)
    assert pane._mark.visible
    pane.show_layer(1)  # which lists a unit 5, too
    assert not pane._mark.visible
    pane.show(looked(run))
    assert not pane._mark.visible


def test_nothing_found_is_said(run: Run, pane: ExamplePane) -> None:
    pane.show(looked(run))
    pane.show_found(None)
    assert f"wrong sign in {len(run.tasks[0].train)} training images" in pane._answer.object
    assert not pane._find.disabled


def test_another_run_without_hidden_layer_and_none(run: Run, pane: ExamplePane) -> None:
    pane.show(looked(run))
    pane.show_layer(1)
    pane.show(looked(run_of(network="fc:9,9,9")))
    assert pane.layer == 1
    pane.show(looked(run_of(network="fc:")))
    assert pane.layer is None
    assert "no hidden layer" in pane._words.object
    assert all(len(source.data["x"]) == 0 for source in pane._sources.values())
    pane.clear()
    assert pane.index is None
    assert pane._find.disabled
    assert pane._pictures.objects == []


def test_shares_in_words(run: Run) -> None:
    layer = example(run, 0).layers[0]

    def share(agreeing: int, disagreeing: int, undefined: int) -> str:
        return _share(dataclasses.replace(layer, agreeing=agreeing, disagreeing=disagreeing, undefined=undefined))

    assert "12 of 12 units (100 %) are told the true direction, 0 the wrong one." in share(12, 0, 0)
    assert "3 of 4 units (75.0 %)" in share(3, 1, 8)
    assert "8 have a signal of exactly 0" in share(3, 1, 8)
    assert "All 12 error signals" in share(0, 0, 12)


def test_units_of_a_convolution_have_a_place() -> None:
    layer = example(run_of(network="conv:3/3/1"), 0).layers[0]
    assert layer.shape == (3, 6, 6)
    assert _name(layer, 36 + 6 * 2 + 5) == "filter 1, row 2, column 5"


def test_signals_of_any_size_are_scaled_to_one() -> None:
    assert _scaled(np.array([1e-9, -2e-9])).tolist() == [0.5, -1.0]
    assert _scaled(np.zeros(3)).tolist() == [0, 0, 0]
    assert _scaled(np.array([np.nan, 2.0])).tolist() == [0, 1]


# ---------------------------------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    """All three panes over one run, as a page of their own."""
    plane = run_of(data="moons", network="fc:6", outputs=2)
    lock = threading.Lock()

    def build() -> pn.Column:
        def look(index: int, unit: tuple[int, int] | None = None) -> None:
            with lock:
                pane.show(looked(run, index, unit))

        def find() -> None:
            with lock:
                found = find_disagreeing(run, -1 if pane.index is None else pane.index)
            assert isinstance(found, Found)
            pane.show_found(found)
            look(found.index, (found.layer, found.unit))

        pane, painted, weights = ExamplePane(look, find), PlanePane(), WeightsPane()
        pane.show(looked(run))
        painted.show(snapshot(plane, scene(plane), Wanted(plane=True)))
        weights.show(snapshot(run, scene(run), Wanted(weights=True)))
        return pn.Column(pane.view, painted.view, weights.view, sizing_mode="stretch_width")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server: Any = pn.serve(
        {"panes": build}, port=port, address="127.0.0.1", threaded=True, show=False,
        websocket_origin=f"127.0.0.1:{port}",
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}/panes"
    server.stop()
    server.join(30)


@pytest.mark.browser
def test_the_panes_work_in_a_browser(page: Page, address: str, run: Run, wait_until: Callable[..., None]) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(address)
    stage = scene(run)
    index, label = stage.thumbnails.indices[4], stage.class_names[stage.thumbnails.labels[4]]
    page.get_by_role("button", name=f"{label}, training image {index}", exact=True).click()
    page.get_by_text(f"Training image {index}: “{label}”").wait_for()
    page.get_by_role("button", name="Find me a disagreeing unit").click()
    page.get_by_text("is told the wrong direction").wait_for()
    page.get_by_text("Filters", exact=True).wait_for()
    page.get_by_role("button", name="output", exact=True).click()
    page.get_by_text("Layer 3 (output 1).").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [line for line in errors if "favicon" not in line] == []
