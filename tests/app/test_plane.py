"""The painted plane: what is in the chart is what is in the snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mdfa_app.charts.pictures import class_colours, diverging, hexadecimal
from mdfa_app.tabs.plane import PlaneTab, boundary_line
from mdfa_core import DATASETS, Experiment, Run
from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.data import ArrayDataSet
from mdfa_core.training.inspection import Snapshot, SnapshotRequest, overview, snapshot
from tests.app.visits import TabHost


def looked(**settings: Any) -> Snapshot:
    run = Run(Experiment(**{"data": "moons", "network": "fc:8", "batch_size": 32, **settings}), device="cpu")
    list(run.events(steps=2))
    return snapshot(run, overview(run), SnapshotRequest(plane=True))


@pytest.fixture(scope="module")
def moons() -> Snapshot:
    return looked()


def test_field_and_points_are_drawn(moons: Snapshot) -> None:
    tab = PlaneTab(TabHost())
    tab.show(moons)
    assert np.array_equal(tab.field.data["image"][0], moons.boundary)
    points = moons.overview.points
    assert points is not None
    for source, training in zip(tab.points, (True, False), strict=True):
        chosen = points.training == training
        drawn = zip(source.data["x"], source.data["y"], source.data["label"], source.data["marker"], strict=True)
        expected = [
            (x, y, str(label), ("circle", "triangle")[label])
            for (x, y), label in zip(points.xy[chosen], points.labels[chosen], strict=True)
        ]
        assert list(drawn) == expected
    for name in moons.overview.class_names:
        assert f"“{name}”, training" in tab.key.object
        assert f"“{name}”, validation" in tab.key.object
    assert f"probability of “{moons.overview.class_names[1]}”" in str(tab.hover.tooltips)


def test_points_are_sent_once_and_anew_for_another_run(moons: Snapshot) -> None:
    tab = PlaneTab(TabHost())
    tab.show(moons)
    before = tab.points[0].data
    tab.show(moons)
    assert tab.points[0].data is before
    tab.show(looked(data="xor"))
    assert len(tab.points[0].data["x"]) != len(before["x"]) or not np.array_equal(tab.points[0].data["x"], before["x"])
    assert "equal signs" in tab.key.object


@pytest.fixture
def three() -> Iterator[Snapshot]:
    """A snapshot of a run on points of three classes."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (90, 2, 1, 1), dtype=np.uint8)
    data = ArrayDataSet(
        train_images=pixels[:60], train_labels=np.arange(60) % 3, test_images=pixels[60:],
        test_labels=np.arange(30) % 3, class_names=["a", "b", "<c>"],
    )  # fmt: skip
    DATASETS.add("test-three", data)
    yield looked(data="test-three", outputs=3)
    DATASETS.remove("test-three")


@pytest.mark.parametrize("dark", [False, True])
def test_three_classes_have_three_colours_and_markers(three: Snapshot, moons: Snapshot, dark: bool) -> None:
    tab = PlaneTab(TabHost())
    tab.recolour(dark=dark)
    tab.show(three)
    assert three.boundary is None
    assert np.array_equal(tab.field.data["image"][0], three.decision)
    assert set(tab.points[0].data["marker"]) == {"circle", "triangle", "square"}
    assert "“&lt;c&gt;”, training" in tab.key.object
    assert "probability" not in tab.key.object
    palette = DARK if dark else LIGHT
    assert tab.classes.palette == list(palette.classes)
    assert tab.colours.palette == hexadecimal(class_colours(dark, 3, 0.62))
    assert class_colours(dark, 3, 0.62)[0].tolist() == class_colours(dark, 3, 0.62)[85].tolist()  # the ground's
    assert hexadecimal(class_colours(dark, 3))[84::85][:3] == list(palette.classes[:3])
    tab.show(moons)
    assert (tab.colours.high, len(tab.line.data)) == (1, 2)
    assert tab.colours.palette == hexadecimal(diverging(dark, 0.62))


def test_the_line_is_where_both_classes_are_equally_probable() -> None:
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (40, 1))
    line = boundary_line(ramp)
    assert np.allclose(line["x"], 0.5, atol=1e-5)
    assert np.ptp(line["y"]) > 0.95
    assert len(boundary_line(np.full((40, 40), 0.3, dtype=np.float32))["x"]) == 0
    assert len(boundary_line(np.full((40, 40), np.nan, dtype=np.float32))["x"]) == 0


def test_other_images_and_cleared_panes_say_so(moons: Snapshot) -> None:
    tab = PlaneTab(TabHost())
    tab.show(moons)
    tab.show(looked(data="digits"))
    assert "have no plane" in tab.key.object
    assert len(tab.field.data["image"]) == len(tab.points[0].data["x"]) == 0
    tab.show(moons)
    tab.clear()
    assert "appears here once" in tab.key.object
    assert len(tab.field.data["image"]) == len(tab.points[1].data["x"]) == len(tab.line.data["x"]) == 0
    tab.show(dataclasses.replace(moons, boundary=None))
    assert len(tab.field.data["image"]) == 0


def test_names_are_text(moons: Snapshot) -> None:
    tab = PlaneTab(TabHost())
    named = dataclasses.replace(moons.overview, class_names=("<b>a</b>", "b&c"))
    tab.show(dataclasses.replace(moons, overview=named))
    assert "<b>" not in tab.key.object
    assert "&lt;b&gt;a&lt;/b&gt;" in tab.key.object


@pytest.mark.parametrize("dark", [False, True])
def test_the_middle_has_the_pages_own_colour_and_the_ends_are_blue_and_orange(dark: bool) -> None:
    tab = PlaneTab(TabHost())
    tab.recolour(dark=dark)
    assert len(tab.colours.palette) == 256
    colours = diverging(dark).astype(int)
    assert colours[0, 2] > colours[0, 0] + 100
    assert colours[-1, 0] > colours[-1, 2] + 100
    surface = (23, 29, 38) if dark else (255, 255, 255)
    assert np.abs(colours[127] - surface).max() <= 2
