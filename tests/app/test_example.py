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
from bokeh.models import ColumnDataSource

from mdfa_app.page.screen import Edit
from mdfa_app.serving.screens import Served
from mdfa_app.tabs.example import ExampleTab, scaled, share_of, unit_name
from mdfa_app.tabs.plane import PlaneTab
from mdfa_app.tabs.weights import WeightsTab
from mdfa_core import Experiment, Run
from mdfa_core.training.inspection import (
    Overview,
    Snapshot,
    SnapshotRequest,
    example,
    find_disagreeing,
    overview,
    snapshot,
)
from tests.app.visits import TabHost
from tests.support.patience import PATIENCE

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
def tab() -> ExampleTab:
    return ExampleTab(TabHost())


@functools.cache
def stage_of(run: Run) -> Overview:
    """One overview a run: another one means another run to a tab."""
    return overview(run)


def looked(run: Run, index: int = 3, unit: tuple[int, int] | None = None) -> Snapshot:
    return snapshot(run, stage_of(run), SnapshotRequest(example=index, unit=unit))


def test_every_unit_is_drawn_once_by_its_sign(run: Run, tab: ExampleTab) -> None:
    taken = looked(run)
    tab.show(taken)
    assert tab.index == 3
    assert taken.example is not None
    for number, layer in enumerate(taken.example.layers):
        tab.show_layer(number)
        assert tab.layer == number
        seen: list[int] = []
        for sign, value in (("agrees", 1), ("disagrees", -1), ("undefined", 0)):
            data = tab.sources[sign].data
            seen += list(data["x"])
            for row, x in enumerate(data["x"]):
                assert layer.signs[x] == value
                assert data["true_value"][row] == layer.true[x]
                assert data["delivered_value"][row] == layer.delivered[x]
                assert data["true"][row] == pytest.approx(layer.true[x] / np.abs(layer.true).max())
                assert data["top"][row] == pytest.approx(layer.delivered[x] / np.abs(layer.delivered).max())
                assert data["name"][row] == str(layer.units[x])
        assert sorted(seen) == list(range(len(layer.units)))
        assert f"{layer.agreeing} of {layer.agreeing + layer.disagreeing} units" in tab.share.object
        assert ("The chart shows 48" in tab.share.object) == (number == 1)


def test_what_the_net_says_is_said(run: Run, tab: ExampleTab) -> None:
    split = run.tasks[0].train
    verdicts = set()
    for index in range(30):
        taken = looked(run, index)
        tab.show(taken)
        assert taken.example is not None
        right = int(np.argmax(taken.example.probabilities)) == int(split.labels[index])
        assert ("which is right" in tab.prediction.object) == right
        assert (
            f"Training example {index}: “{taken.overview.class_names[int(split.labels[index])]}”"
            in tab.prediction.object
        )
        verdicts.add(right)
    assert verdicts == {True, False}


def test_pictures_ask_for_themselves(run: Run) -> None:
    host = TabHost()
    tab = ExampleTab(host)
    picked: list[int | None] = []
    stage = overview(run)
    tab.show(Snapshot(overview=stage, step=0, epoch=0))
    assert tab.index is None
    assert "Choose an example" in tab.prediction.object
    for button in tab.pictures.objects:
        button.clicks += 1
        picked.append(tab.wanted.example)
    assert picked == list(stage.thumbnails.indices)
    assert host.asked == ["watch"] * len(picked)
    names = [button.label for button in tab.pictures.objects]
    assert names[0] == f"{stage.class_names[0]}, training example {stage.thumbnails.indices[0]}"


def test_a_disagreeing_unit_is_searched_shown_and_marked(run: Run) -> None:
    host = TabHost()
    tab = ExampleTab(host)
    assert tab.find.disabled
    tab.show(looked(run))
    tab.find.clicks += 1
    assert host.asked[-1] == "ask"
    assert tab.find.disabled
    assert "Searching" in tab.answer.object
    found = find_disagreeing(run, after=3)
    assert found is not None
    tab.show_found(found)
    tab.show(looked(run, found.index, (found.layer, found.unit)))
    assert not tab.find.disabled
    assert (tab.layer, tab.index) == (found.layer, found.index)
    assert f"Unit {found.unit} of layer {found.layer + 1}" in tab.answer.object
    wrong = tab.sources["disagrees"].data
    row = list(wrong["name"]).index(str(found.unit))
    assert tab.mark.visible
    assert (tab.mark.left + tab.mark.right) / 2 == pytest.approx(wrong["x"][row])
    tab.show(looked(run, found.index, (0, 5)))
    tab.show_layer(0)
    assert tab.mark.visible
    tab.show_layer(1)  # which lists a unit 5, too
    assert not tab.mark.visible
    tab.show(looked(run))
    assert not tab.mark.visible


def test_nothing_found_is_said(run: Run, tab: ExampleTab) -> None:
    tab.show(looked(run))
    tab.show_found(None)
    assert f"wrong sign in {len(run.tasks[0].train)} training examples" in tab.answer.object
    assert not tab.find.disabled


def test_another_run_without_hidden_layer_and_none(run: Run, tab: ExampleTab) -> None:
    tab.show(looked(run))
    tab.show_layer(1)
    tab.show(looked(run_of(network="fc:9,9,9")))
    assert tab.layer == 1
    tab.show(looked(run_of(network="fc:")))
    assert tab.layer is None
    assert "no hidden layer" in tab.share.object
    assert all(len(source.data["x"]) == 0 for source in tab.sources.values())
    tab.clear()
    assert tab.index is None
    assert tab.find.disabled
    assert tab.pictures.objects == []


def test_shares_in_words(run: Run) -> None:
    layer = example(run, 0).layers[0]

    def share(agreeing: int, disagreeing: int, undefined: int) -> str:
        return share_of(dataclasses.replace(layer, agreeing=agreeing, disagreeing=disagreeing, undefined=undefined))

    assert "12 of 12 units (100 %) receive an error signal with the right sign, 0 with the wrong sign." in share(
        12, 0, 0
    )
    assert "3 of 4 units (75.0 %)" in share(3, 1, 8)
    assert "The signal of 8 units is zero or undefined" in share(3, 1, 8)
    assert "All 12 error signals" in share(0, 0, 12)


def test_units_of_a_convolution_have_a_place() -> None:
    layer = example(run_of(network="conv:3/3/1"), 0).layers[0]
    assert layer.shape == (3, 6, 6)
    assert unit_name(layer, 36 + 6 * 2 + 5) == "filter 1, row 2, column 5"


def test_signals_of_any_size_are_scaled_to_one() -> None:
    assert scaled(np.array([1e-9, -2e-9])).tolist() == [0.5, -1.0]
    assert scaled(np.zeros(3)).tolist() == [0, 0, 0]
    assert scaled(np.array([np.nan, 2.0])).tolist() == [0, 1]


def columns(source: ColumnDataSource) -> dict[str, list[Any]]:
    return {name: np.asarray(column).tolist() for name, column in source.data.items()}


class Later:
    """A screen on which nothing may be changed yet."""

    def __init__(self) -> None:
        self.edits: list[Edit] = []

    def soon(self, edit: Edit) -> None:
        self.edits.append(edit)


def test_a_layers_button_changes_charts_only_while_that_is_allowed(run: Run) -> None:
    """Panel runs some callbacks without the document's lock."""
    screen = Later()
    taken = snapshot(run, stage_of(run), SnapshotRequest(example=3, weights=True))
    one, weights = ExampleTab(TabHost(screen=screen)), WeightsTab(TabHost(screen=screen))
    sources = one.sources["agrees"], weights.histograms["weights"].source
    for tab in (one, weights):
        tab.show(taken)
    screen.edits.clear()
    before = [columns(source) for source in sources]
    for tab in (one, weights):
        tab.show_layer(1)
    assert [columns(source) for source in sources] == before
    for edit in screen.edits:
        edit()
    assert all(columns(source) != data for source, data in zip(sources, before, strict=True))


# ---------------------------------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    """All three panes over one run, as a page of their own."""
    plane = run_of(data="moons", network="fc:6", outputs=2)
    lock = threading.Lock()

    def build() -> pn.Column:
        def show() -> None:
            with lock:
                one.show(snapshot(run, stage_of(run), one.wanted))

        one = ExampleTab(TabHost(run, on_watch=show, screen=Served(pn.state.curdoc)))
        painted, weights = PlaneTab(TabHost()), WeightsTab(TabHost())
        show()
        painted.show(snapshot(plane, overview(plane), painted.wanted))
        weights.show(snapshot(run, overview(run), weights.wanted))
        return pn.Column(one.view, painted.view, weights.view, sizing_mode="stretch_width")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server: Any = pn.serve(
        {"panes": build}, port=port, address="127.0.0.1", threaded=True, show=False,
        websocket_origin=f"127.0.0.1:{port}",
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}/panes"
    server.stop()
    server.join(PATIENCE)


@pytest.mark.browser
def test_the_panes_work_in_a_browser(page: Page, address: str, run: Run, wait_until: Callable[..., None]) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(address)
    stage = overview(run)
    index, label = stage.thumbnails.indices[4], stage.class_names[stage.thumbnails.labels[4]]
    page.get_by_role("button", name=f"{label}, training example {index}", exact=True).click()
    page.get_by_text(f"Training example {index}: “{label}”").wait_for()
    page.get_by_role("button", name="Find a disagreeing unit").click()
    page.get_by_text("gets an error signal of the wrong sign").wait_for()
    page.get_by_text("Filters", exact=True).wait_for()
    page.get_by_role("button", name="output", exact=True).click()
    page.get_by_text("Layer 3 (output 1).").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [line for line in errors if "favicon" not in line] == []
