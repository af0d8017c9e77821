"""Points of the plane in two classes, generated from a fixed seed: moons, circles, a checkerboard and others.

Axes: N point, F the two features (x to the right, y up).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.source import ArrayImages, Counts, DataSet, Integers, Part, Pixels, Shape, fixed_shape, select

Points = NDArray[np.float64]
Maker = Callable[[int, int], tuple[Points, Integers]]
"""(number of points, seed) → points [N, F] and their classes [N]: 0 for half of the points, 1 for the other half."""

SHAPE: Shape = (2, 1, 1)
"""A point as an image of one pixel with two channels, x and y. Convolutions need a kernel of 1×1."""

_TRAIN, _TEST = 1000, 500


@final
@dataclass(frozen=True, kw_only=True)
class Plane(DataSet):
    """1,000 training and 500 test points of a square, half of them in each of two classes.

    A coordinate v in [-reach, reach] becomes the pixel round(255 (v + reach) / (2 reach)). Networks divide pixels by
    255, so they see the square as [0, 1] × [0, 1]. Points outside the square, because of noise, move to its edge. The
    rounding step, 2 reach / 255, is below a third of the noise's standard deviation in every data set here.

    Attributes:
        title: its name in messages and lists.
        make: draws the points.
        class_names: names of class 0 and class 1.
        reach: half the side of the square, whose centre is (0, 0).
        seed: of the training points. The test points use the next seed.
        source: address of the original.
        licence: terms of use.
        bundled: True, since the points are generated.
    """

    title: str
    make: Maker
    class_names: tuple[str, str]
    reach: float
    source: str
    seed: int = 0
    licence: str = "generated points: none needed"
    bundled: bool = True

    @property
    def counts(self) -> Counts:
        return Counts(classes=2, train=_TRAIN, test=_TEST)

    def find(self, data_dir: DataDir) -> Path | None:
        return None

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        """Does nothing: the points are generated when they are needed."""

    def shape(self, image_size: int | None) -> Shape:
        return fixed_shape(self.title, SHAPE, image_size)

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        return self.class_names

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        return select(*self._part(part), class_ids)

    def check(self, data_dir: DataDir) -> list[str]:
        train, test = (len(self._part(part)[1]) for part in ("train", "test"))
        return [f"{self.title}: readable, {train} training and {test} test images of 2 classes, bundled"]

    def _part(self, part: str) -> tuple[Pixels, Integers]:
        """Pixels [N, 2, 1, 1] and classes [N] of one part."""
        count, seed = (_TEST, self.seed + 1) if part == "test" else (_TRAIN, self.seed)
        points_NF, class_ids = self.make(count, seed)
        return to_pixels(points_NF, self.reach)[:, :, None, None], class_ids.astype(np.int64)


def to_pixels(points_NF: Points, reach: float) -> Pixels:
    """Coordinates in [-reach, reach] as pixels, uint8 [N, F]; points outside move to the edge (see `Plane`)."""
    pixels_NF: Pixels = np.rint((points_NF / reach + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return pixels_NF


def moons(count: int, seed: int) -> tuple[Points, Integers]:
    """Two interleaved half circles of radius 1, centred at (0, 0), with noise 0.1."""
    from sklearn.datasets import make_moons  # imported late: it takes a second

    points_NF, class_ids = make_moons(count, noise=0.1, random_state=seed)
    return points_NF - (0.5, 0.25), class_ids


def circles(count: int, seed: int) -> tuple[Points, Integers]:
    """A circle of radius 1 around a circle of radius 0.5, with noise 0.1."""
    from sklearn.datasets import make_circles

    points_NF, class_ids = make_circles(count, noise=0.1, factor=0.5, random_state=seed)
    return points_NF, class_ids


def spirals(count: int, seed: int) -> tuple[Points, Integers]:
    """Two spiral arms, half a turn apart: radius t ∈ [0.1, 1], angle 3π t, noise 0.03."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    radius = generator.uniform(0.1, 1, count)
    angle = 2 * math.pi * 1.5 * radius + math.pi * class_ids
    points_NF = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points_NF + generator.normal(0, 0.03, points_NF.shape), class_ids


def xor(count: int, seed: int) -> tuple[Points, Integers]:
    """Four squares, 0.1 ≤ |x|, |y| ≤ 1. Class 1 if the signs of x and y differ. Noise 0.05 is added afterwards."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    points_NF = generator.uniform(0.1, 1, (count, 2)) * generator.choice((-1, 1), (count, 1))
    points_NF[:, 1] *= 1 - 2 * class_ids
    return points_NF + generator.normal(0, 0.05, points_NF.shape), class_ids


def blobs(count: int, seed: int) -> tuple[Points, Integers]:
    """Two normal distributions of standard deviation 0.5, centred at (-1, -1) and (1, 1)."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    return generator.normal(0, 0.5, (count, 2)) + (2 * class_ids - 1)[:, None], class_ids


def curve(count: int, seed: int) -> tuple[Points, Integers]:
    """Class 1 above the curve f(x) = sin(π x) / 2, |x| ≤ 1: 0.05 ≤ |y - f(x)| ≤ 0.6. Noise 0.03 is added afterwards."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    x = generator.uniform(-1, 1, count)
    y = 0.5 * np.sin(math.pi * x) + (2 * class_ids - 1) * generator.uniform(0.05, 0.6, count)
    return np.stack([x, y], axis=1) + generator.normal(0, 0.03, (count, 2)), class_ids


def checkerboard(count: int, seed: int) -> tuple[Points, Integers]:
    """Nine squares of side 0.6 in rows of three, 2/3 apart; class 1 in the four at the middle of a side. Noise 0.03."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    squares = np.array([(column, row) for column in (-1, 0, 1) for row in (-1, 0, 1)])
    odd = np.abs(squares).sum(axis=1) == 1
    centres = np.where(
        class_ids[:, None] == 1, generator.choice(squares[odd], count), generator.choice(squares[~odd], count)
    )
    points_NF = centres * (2 / 3) + generator.uniform(-0.3, 0.3, (count, 2))
    return points_NF + generator.normal(0, 0.03, points_NF.shape), class_ids


def _halves(count: int) -> Integers:
    """Class 0 for the first half, class 1 for the second."""
    return np.arange(count) * 2 // count


_SCIKIT = "https://scikit-learn.org/stable/modules/generated/sklearn.datasets."
_PLAYGROUND = "https://playground.tensorflow.org"

MOONS = Plane(
    title="two moons", make=moons, class_names=("upper", "lower"), reach=1.75, source=f"{_SCIKIT}make_moons.html"
)
CIRCLES = Plane(
    title="two circles", make=circles, class_names=("outer", "inner"), reach=1.25, source=f"{_SCIKIT}make_circles.html"
)
SPIRALS = Plane(
    title="two spirals", make=spirals, class_names=("first arm", "second arm"), reach=1.1, source=_PLAYGROUND
)
XOR = Plane(title="XOR", make=xor, class_names=("equal signs", "different signs"), reach=1.2, source=_PLAYGROUND)
BLOBS = Plane(title="two blobs", make=blobs, class_names=("lower left", "upper right"), reach=3, source=_PLAYGROUND)
CURVE = Plane(title="above a curve", make=curve, class_names=("below", "above"), reach=1.25, source=_PLAYGROUND)
CHECKERBOARD = Plane(
    title="checkerboard", make=checkerboard, class_names=("black", "white"), reach=1.1, source=_PLAYGROUND
)
