"""Histograms and filters: what is in the charts and pictures is what is in the snapshot."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdfa_app.charts.pictures import diverging, mosaic, png
from mdfa_app.tabs.weights import WeightsTab
from mdfa_core import Experiment, Run
from mdfa_core.training.inspection import BINS, Snapshot, SnapshotRequest, overview, snapshot
from tests.app.visits import TabHost


def looked(**settings: Any) -> Snapshot:
    run = Run(Experiment(**{"network": "fc:12,9", "batch_size": 16, **settings}), device="cpu")
    list(run.events(steps=2))
    return snapshot(run, overview(run), SnapshotRequest(weights=True))


def opened(address: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


@pytest.fixture(scope="module")
def digits() -> Snapshot:
    return looked()


def test_the_bars_are_the_shares_of_the_layer_that_is_chosen(digits: Snapshot) -> None:
    tab = WeightsTab(TabHost())
    tab.show(digits)
    assert list(tab.layers.options) == ["layer 1", "layer 2", "output"]
    assert digits.histograms is not None
    for number in (0, 2, 1):
        tab.show_layer(number)
        assert tab.layer == number
        layer = digits.histograms[number]
        for name, bars in tab.histograms.items():
            histogram = getattr(layer, name)
            assert bars.view.visible == (histogram is not None)
            if histogram is not None:
                data = bars.source.data
                assert np.allclose(data["share"], histogram.counts / histogram.counts.sum())
                assert np.allclose([data["left"][0], data["right"][-1]], [-histogram.bound, histogram.bound])
                assert np.allclose(data["right"] - data["left"], 2 * histogram.bound / BINS)
                assert bars.y.end >= data["share"].max()
        assert layer.name[1:] in tab.summary.object
        assert ("saturated" in tab.summary.object) == (layer.saturated is not None)


def test_a_layer_stays_chosen_and_one_that_is_not_there_is_ignored(digits: Snapshot) -> None:
    tab = WeightsTab(TabHost())
    assert tab.layer is None
    tab.show(digits)
    tab.show_layer(1)
    tab.show_layer(7)
    tab.show(looked(seed=3))
    assert tab.layer == 1
    tab.show(looked(network="fc:"))
    assert tab.layer == 0
    assert list(tab.layers.options) == ["output"]


def test_filters_are_one_picture_in_words_too(digits: Snapshot) -> None:
    tab = WeightsTab(TabHost())
    tab.show(digits)
    assert "all 12 units" in tab.filters.object
    light = tab.filters.object
    tab.recolour(dark=True)
    assert tab.filters.object != light
    tab.show(looked(network="fc:200"))
    assert "36 of 200 units, evenly spaced" in tab.filters.object
    tab.show(looked(data="moons"))
    assert "make no picture" in tab.filters.object


def test_cleared_and_unasked_panes_are_empty(digits: Snapshot) -> None:
    tab = WeightsTab(TabHost())
    tab.show(Snapshot(overview=digits.overview, step=0, epoch=0))
    assert "appear here once" in tab.summary.object
    tab.show(digits)
    tab.clear()
    assert "appear here once" in tab.summary.object
    assert tab.filters.object == ""
    assert all(len(bars.source.data["share"]) == 0 for bars in tab.histograms.values())


def test_a_mosaic_has_every_filter_at_its_place() -> None:
    weights = np.zeros((5, 1, 2, 3), dtype=np.float32)
    weights[4, 0, 1, 2] = -2  # its largest: blue at full strength
    weights[1, 0, 0, 0] = 0.5  # likewise: orange
    picture = opened(mosaic(weights, 3, dark=False))
    times = 24 // 3
    height, width = 2 * times + 1, 3 * times + 1
    assert picture.shape == (2 * height + 1, 3 * width + 1, 3)
    assert picture[1 + height + times, 1 + width + 2 * times].tolist() == diverging(False)[0].tolist()
    assert picture[1, 1 + width].tolist() == diverging(False)[255].tolist()
    assert np.abs(picture[1, 1].astype(int) - 255).max() <= 2
    colours = np.zeros((1, 3, 30, 30), dtype=np.float32)
    colours[0, 0, 0, 0] = 1
    assert opened(mosaic(colours, 1, dark=True))[1:3, 1].tolist() == [[255, 128, 128], [128, 128, 128]]


def test_pictures_keep_every_pixel_and_a_point_is_a_dot() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert np.array_equal(opened(png(grey)), grey[0])
    colour = np.arange(36, dtype=np.uint8).reshape(3, 3, 4)
    assert np.array_equal(opened(png(colour)), colour.transpose(1, 2, 0))
    dot = opened(png(np.array([255, 0], dtype=np.uint8).reshape(2, 1, 1)))
    assert dot[-1, -1] == 25  # x to the right, y up: the lower right corner
    assert dot[0, -1] != 25
