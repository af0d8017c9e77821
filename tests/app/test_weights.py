"""Histograms and filters: what is in the charts and pictures is what is in the snapshot."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.pictures import diverging, mosaic, png
from app.weights import WeightsPane
from mdfa_core import Experiment, Run
from mdfa_core.inspection import BINS, Snapshot, Wanted, scene, snapshot


def looked(**settings: Any) -> Snapshot:
    run = Run(Experiment(**{"network": "fc:12,9", "batch_size": 16, **settings}), device="cpu")
    list(run.events(steps=2))
    return snapshot(run, scene(run), Wanted(weights=True))


def opened(address: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


@pytest.fixture(scope="module")
def digits() -> Snapshot:
    return looked()


def test_the_bars_are_the_shares_of_the_layer_that_is_chosen(digits: Snapshot) -> None:
    pane = WeightsPane()
    pane.show(digits)
    assert list(pane._layers.options) == ["layer 1", "layer 2", "output"]
    assert digits.histograms is not None
    for number in (0, 2, 1):
        pane.show_layer(number)
        assert pane.layer == number
        layer = digits.histograms[number]
        for name, bars in pane._bars.items():
            histogram = getattr(layer, name)
            assert bars.view.visible == (histogram is not None)
            if histogram is not None:
                data = bars._source.data
                assert np.allclose(data["share"], histogram.counts / histogram.counts.sum())
                assert np.allclose([data["left"][0], data["right"][-1]], [-histogram.bound, histogram.bound])
                assert np.allclose(data["right"] - data["left"], 2 * histogram.bound / BINS)
                assert bars._y.end >= data["share"].max()
        assert layer.name[1:] in pane._words.object
        assert ("saturated" in pane._words.object) == (layer.saturated is not None)


def test_a_layer_stays_chosen_and_one_that_is_not_there_is_ignored(digits: Snapshot) -> None:
    pane = WeightsPane()
    assert pane.layer is None
    pane.show(digits)
    pane.show_layer(1)
    pane.show_layer(7)
    pane.show(looked(seed=3))
    assert pane.layer == 1
    pane.show(looked(network="fc:"))
    assert pane.layer == 0
    assert list(pane._layers.options) == ["output"]


def test_filters_are_one_picture_in_words_too(digits: Snapshot) -> None:
    pane = WeightsPane()
    pane.show(digits)
    assert "all 12 units" in pane._filters.object
    light = pane._filters.object
    pane.recolour(dark=True)
    assert pane._filters.object != light
    pane.show(looked(network="fc:200"))
    assert "36 evenly spread of 200" in pane._filters.object
    pane.show(looked(data="moons"))
    assert "make no picture" in pane._filters.object


def test_cleared_and_unasked_panes_are_empty(digits: Snapshot) -> None:
    pane = WeightsPane()
    pane.show(Snapshot(scene=digits.scene, step=0, epoch=0))
    assert "appear when" in pane._words.object
    pane.show(digits)
    pane.clear()
    assert "appear when" in pane._words.object
    assert pane._filters.object == ""
    assert all(len(bars._source.data["share"]) == 0 for bars in pane._bars.values())


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
