"""Moons, circles, spirals and the others: their points are where they should be, reproducible, and learnable."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mdfa_core import DATASETS, Experiment, Run
from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.data import load_task
from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.plane import SHAPE, Plane
from mdfa_core.training.events import Evaluated

NOWHERE = DataDir(Path("nowhere"), named=True)
NAMES = [name for name, data in DATASETS.items() if isinstance(data, Plane)]
NOISE = {
    "moons": 0.1, "circles": 0.1, "spirals": 0.03, "xor": 0.05, "blobs": 0.5, "curve": 0.03, "checkerboard": 0.03,
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", NAMES)


def points(name: str, part: str = "train") -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Coordinates [N, 2] as they were before they became pixels, and classes."""
    data = DATASETS[name]
    assert isinstance(data, Plane)
    images = data.images(NOWHERE, part, (0, 1), None)  # type: ignore[arg-type]
    pixels = images.read(np.arange(len(images)))
    return (pixels.reshape(-1, 2) / 255 * 2 - 1) * data.reach, images.class_ids


def curves(name: str) -> list[NDArray[np.float64]]:
    """The lines that the points of class 0 and 1 are scattered around, finely."""
    t = np.linspace(0, 1, 2000)
    half, round_ = math.pi * t, 2 * math.pi * t
    if name == "moons":
        return [
            np.stack([np.cos(half) - 0.5, np.sin(half) - 0.25], 1),
            np.stack([0.5 - np.cos(half), 0.25 - np.sin(half)], 1),
        ]
    if name == "circles":
        return [radius * np.stack([np.cos(round_), np.sin(round_)], 1) for radius in (1, 0.5)]
    radius = 0.1 + 0.9 * t
    return [
        radius[:, None] * np.stack([np.cos(3 * math.pi * radius + turn), np.sin(3 * math.pi * radius + turn)], 1)
        for turn in (0, math.pi)
    ]


def squares() -> NDArray[np.float64]:
    """The centres of the checkerboard's squares, class 1 being those with an odd number."""
    return np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]) * 2 / 3


def test_all_are_known() -> None:
    assert set(NAMES) == set(NOISE)


@EVERY
@pytest.mark.parametrize("part", ["train", "test"])
def test_points_are_scattered_around_their_own_curve(name: str, part: str) -> None:
    xy, class_ids = points(name, part)
    if name == "xor":
        distances = np.maximum(0.1 - np.abs(xy), 0).max(1) + np.maximum(np.abs(xy) - 1, 0).max(1)
        equal = np.sign(xy[:, 0]) == np.sign(xy[:, 1])
        assert np.mean(equal == (class_ids == 0)) > 0.97
    elif name == "checkerboard":
        offsets = np.abs(xy[:, None] - squares()).max(2)
        assert np.mean((offsets.argmin(1) % 2 == 1) == (class_ids == 1)) > 0.97
        distances = np.maximum(offsets.min(1) - 0.3, 0)
    elif name == "curve":
        height = xy[:, 1] - np.sin(np.pi * xy[:, 0]) / 2
        assert np.mean((height > 0) == (class_ids == 1)) > 0.97
        distances = np.maximum(np.abs(height) - 0.6, 0) / np.hypot(1, np.pi / 2)
    elif name == "blobs":
        distances = np.abs(xy - (2 * class_ids - 1)[:, None])
        assert distances.mean() == pytest.approx(NOISE[name] * math.sqrt(2 / math.pi), rel=0.05)
    else:
        lines = curves(name)
        distances = np.array([np.hypot(*(lines[c] - point).T).min() for point, c in zip(xy, class_ids, strict=True)])
        others = np.array([np.hypot(*(lines[1 - c] - p).T).min() for p, c in zip(xy, class_ids, strict=True)])
        assert np.mean(distances < others) > 0.98
        # One of the two directions of the noise lies along the curve: the distance is half normal.
        assert distances.mean() == pytest.approx(NOISE[name] * math.sqrt(2 / math.pi), rel=0.15)
    assert distances.max() < 4.5 * NOISE[name]


@EVERY
def test_a_pixel_is_finer_than_a_third_of_the_noise_and_hardly_a_point_lies_at_the_edge(name: str) -> None:
    data = DATASETS[name]
    assert isinstance(data, Plane)
    assert 2 * data.reach / 255 < NOISE[name] / 3
    xy, _ = points(name)
    assert np.mean(np.abs(xy).max(1) >= data.reach) < 0.02
    assert np.abs(xy).max() > 0.75 * data.reach  # and the square is used
    assert len(np.unique(xy, axis=0)) > 0.95 * len(xy)


@EVERY
def test_half_of_each_part_is_of_each_class_and_parts_are_drawn_anew(name: str) -> None:
    counts = DATASETS[name].counts
    (train, train_ids), (test, test_ids) = points(name), points(name, "test")
    assert (len(train), len(test)) == (counts.train, counts.test)
    assert np.bincount(train_ids).tolist() == [500, 500]
    assert np.bincount(test_ids).tolist() == [250, 250]
    assert np.array_equal(train, points(name)[0])
    shared = {tuple(point) for point in train.tolist()} & {tuple(point) for point in test.tolist()}
    assert len(shared) < 0.1 * len(test)


@pytest.mark.parametrize(
    ("name", "start"),
    [("moons", "45e3e3d5777e91e3"), ("circles", "244be1339563b03c"), ("spirals", "0d50e0c1dca56d5f"),
     ("xor", "1a8b59f6499fb6fc"), ("blobs", "18e05b6ffe25668c"), ("curve", "0255071dd29daa4f"),
     ("checkerboard", "a80681b8eb2fd79d")],
)  # fmt: skip
def test_the_same_points_on_every_machine(name: str, start: str) -> None:
    assert load_task(name, classes=2, seed=0).checksum.startswith(start)


@EVERY
def test_what_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(GeometryError, match="kernel of 3×3, but its input is only 1×1"):
        Run(Experiment(data=name, network="digits-conv"), device="cpu")
    with pytest.raises(InvalidValue, match="classes is 3"):
        Run(Experiment(data=name, network="plane-fc", outputs=3), device="cpu")
    with pytest.raises(InvalidValue, match="image_size is 8"):
        DATASETS[name].shape(8)
    assert DATASETS[name].shape(None) == SHAPE


@pytest.fixture
def learnt() -> Callable[[str, str, int, float], bool]:
    """Whether training reaches an accuracy, with the settings docs/reference/data.md names; it stops there."""

    def train(name: str, method: str, epochs: int, accuracy: float) -> bool:
        experiment = Experiment(
            data=name, method=method, network="plane-fc", optimizer="adam", learning_rate=0.01,
            forward_init="normal:2", batch_size=32, epochs=epochs,
        )  # fmt: skip
        events = Run(experiment, device="cpu").events()
        return any(event.train_accuracy[0] > accuracy for event in events if isinstance(event, Evaluated))

    return train


@pytest.mark.parametrize("method", ["bp", "dfa", "mdfa"])
@pytest.mark.parametrize("name", ["moons", "circles", "xor", "blobs", "curve"])
def test_they_are_learnt(name: str, method: str, learnt: Callable[[str, str, int, float], bool]) -> None:
    assert learnt(name, method, 30, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bp", "fa", "dfa", "mdfa"])
@pytest.mark.parametrize(("name", "accuracy"), [("spirals", 0.95), ("checkerboard", 0.9)])
def test_the_hard_ones_are_learnt(
    name: str, accuracy: float, method: str, learnt: Callable[[str, str, int, float], bool]
) -> None:
    assert learnt(name, method, 200, accuracy)
