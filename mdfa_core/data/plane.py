"""Points of the plane in two classes: moons, circles, spirals and XOR, made from a fixed seed, without any download.

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

from mdfa_core.data.places import Place
from mdfa_core.data.source import ArrayImages, DataSet, Facts, Integers, Part, Pixels, Shape, fixed_shape, select

Points = NDArray[np.float64]
Maker = Callable[[int, int], tuple[Points, Integers]]
"""(number of points, seed) → points [N, F] and their classes [N], 0 or 1, half of the points each."""

SHAPE: Shape = (2, 1, 1)
"""A point as an image: two channels, x and y, of one pixel. Dense layers fit it, and no kernel larger than 1×1."""

_TRAIN, _TEST = 1000, 500


@final
@dataclass(frozen=True, kw_only=True)
class Plane(DataSet):
    """1,000 training and 500 test points of a square, half of them in each of two classes.

    A coordinate v of [-reach, reach] becomes the pixel round(255 (v + reach) / (2 reach)), so that a net, which divides
    pixels by 255, sees the square as [0, 1] × [0, 1]. What noise throws out of the square is moved to its edge. One
    step of a pixel is 2 reach / 255: less than a third of the noise's standard deviation for every entry here.

    Attributes:
        title: its name in messages and lists.
        make: draws the points.
        class_names: of class 0 and 1.
        reach: half the side of the square, whose middle is (0, 0).
        seed: of the training points; the test points have the next one.
        source: where the idea comes from.
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
    def facts(self) -> Facts:
        return Facts(classes=2, train=_TRAIN, test=_TEST)

    def find(self, place: Place) -> Path | None:
        return None

    def fetch(self, place: Place, *, verify: bool = False, mirror: str | None = None) -> None:
        """Nothing to do: it is made where it is needed."""

    def shape(self, image_size: int | None) -> Shape:
        return fixed_shape(self.title, SHAPE, image_size)

    def list_classes(self, place: Place) -> tuple[str, ...]:
        return self.class_names

    def images(self, place: Place, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        return select(*self._part(part), class_ids)

    def check(self, place: Place) -> list[str]:
        train, test = (len(self._part(part)[1]) for part in ("train", "test"))
        return [f"{self.title}: readable, {train} training and {test} test images of 2 classes, bundled"]

    def _part(self, part: str) -> tuple[Pixels, Integers]:
        """Pixels [N, 2, 1, 1] and classes [N] of one part."""
        count, seed = (_TEST, self.seed + 1) if part == "test" else (_TRAIN, self.seed)
        points_NF, class_ids = self.make(count, seed)
        pixels_NF = np.rint((points_NF / self.reach + 1) * 127.5).clip(0, 255).astype(np.uint8)
        return pixels_NF[:, :, None, None], class_ids.astype(np.int64)


def moons(count: int, seed: int) -> tuple[Points, Integers]:
    """Two half circles of radius 1 that reach into each other, noise 0.1, moved so that (0, 0) is their middle."""
    from sklearn.datasets import make_moons  # takes a second, only needed here

    points_NF, class_ids = make_moons(count, noise=0.1, random_state=seed)
    return points_NF - (0.5, 0.25), class_ids


def circles(count: int, seed: int) -> tuple[Points, Integers]:
    """A circle of radius 1 around one of radius 0.5, noise 0.1."""
    from sklearn.datasets import make_circles

    points_NF, class_ids = make_circles(count, noise=0.1, factor=0.5, random_state=seed)
    return points_NF, class_ids


def spirals(count: int, seed: int) -> tuple[Points, Integers]:
    """Two arms r = t, t ∈ [0.1, 1], of one and a half turns each, half a turn apart, noise 0.03."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    radius = generator.uniform(0.1, 1, count)
    angle = 2 * math.pi * 1.5 * radius + math.pi * class_ids
    points_NF = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points_NF + generator.normal(0, 0.03, points_NF.shape), class_ids


def xor(count: int, seed: int) -> tuple[Points, Integers]:
    """Four squares, 0.1 ≤ |x|, |y| ≤ 1; class 1 where the signs of x and y differ, told before noise 0.05 is added."""
    class_ids, generator = _halves(count), np.random.default_rng(seed)
    points_NF = generator.uniform(0.1, 1, (count, 2)) * generator.choice((-1, 1), (count, 1))
    points_NF[:, 1] *= 1 - 2 * class_ids
    return points_NF + generator.normal(0, 0.05, points_NF.shape), class_ids


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
