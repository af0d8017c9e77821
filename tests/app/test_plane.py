"""The painted plane: what is in the chart is what is in the snapshot."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from app.pictures import diverging
from app.plane import PlanePane, _boundary_line
from mdfa_core import Experiment, Run
from mdfa_core.inspection import Snapshot, Wanted, scene, snapshot


def looked(**settings: Any) -> Snapshot:
    run = Run(Experiment(**{"data": "moons", "network": "fc:8", "batch_size": 32, **settings}), device="cpu")
    list(run.events(steps=2))
    return snapshot(run, scene(run), Wanted(plane=True))


@pytest.fixture(scope="module")
def moons() -> Snapshot:
    return looked()


def test_field_and_points_are_drawn(moons: Snapshot) -> None:
    pane = PlanePane()
    pane.show(moons)
    assert np.array_equal(pane._field.data["image"][0], moons.boundary)
    points = moons.scene.points
    assert points is not None
    drawn = [set(zip(source.data["x"], source.data["y"], strict=True)) for source in pane._points]
    for number, source in enumerate(drawn):
        chosen = (points.training == (number < 2)) & (points.labels == number % 2)
        assert source == {tuple(point) for point in points.xy[chosen]}
    for name in moons.scene.class_names:
        assert f"“{name}”, training" in pane._key.object
        assert f"“{name}”, validation" in pane._key.object
    assert f"probability of “{moons.scene.class_names[1]}”" in str(pane._hover.tooltips)


def test_points_are_sent_once_and_anew_for_another_run(moons: Snapshot) -> None:
    pane = PlanePane()
    pane.show(moons)
    before = pane._points[0].data
    pane.show(moons)
    assert pane._points[0].data is before
    pane.show(looked(data="xor"))
    assert len(pane._points[0].data["x"]) != len(before["x"]) or not np.array_equal(
        pane._points[0].data["x"], before["x"]
    )
    assert "equal signs" in pane._key.object


def test_the_line_is_where_both_classes_are_equally_probable() -> None:
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (40, 1))
    line = _boundary_line(ramp)
    assert np.allclose(line["x"], 0.5, atol=1e-5)
    assert np.ptp(line["y"]) > 0.95
    assert len(_boundary_line(np.full((40, 40), 0.3, dtype=np.float32))["x"]) == 0
    assert len(_boundary_line(np.full((40, 40), np.nan, dtype=np.float32))["x"]) == 0


def test_other_images_and_cleared_panes_say_so(moons: Snapshot) -> None:
    pane = PlanePane()
    pane.show(moons)
    pane.show(looked(data="digits"))
    assert "no plane" in pane._key.object
    assert len(pane._field.data["image"]) == len(pane._points[0].data["x"]) == 0
    pane.show(moons)
    pane.clear()
    assert "appears when" in pane._key.object
    assert len(pane._field.data["image"]) == len(pane._points[3].data["x"]) == len(pane._line.data["x"]) == 0
    pane.show(dataclasses.replace(moons, boundary=None))
    assert len(pane._field.data["image"]) == 0


def test_names_are_text(moons: Snapshot) -> None:
    pane = PlanePane()
    named = dataclasses.replace(moons.scene, class_names=("<b>a</b>", "b&c"))
    pane.show(dataclasses.replace(moons, scene=named))
    assert "<b>" not in pane._key.object
    assert "&lt;b&gt;a&lt;/b&gt;" in pane._key.object


@pytest.mark.parametrize("dark", [False, True])
def test_the_middle_has_the_pages_own_colour_and_the_ends_are_blue_and_orange(dark: bool) -> None:
    pane = PlanePane()
    pane.recolour(dark=dark)
    assert len(pane._colours.palette) == 256
    colours = diverging(dark).astype(int)
    assert colours[0, 2] > colours[0, 0] + 100
    assert colours[-1, 0] > colours[-1, 2] + 100
    surface = (23, 29, 38) if dark else (255, 255, 255)
    assert np.abs(colours[127] - surface).max() <= 2
