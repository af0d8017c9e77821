"""The 8×8 handwritten digits that come with scikit-learn: a data set that needs no download."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.source import ArrayImages, Counts, DataSet, Integers, Part, Pixels, Shape, fixed_shape, select


@final
@dataclass(frozen=True)
class Digits(DataSet):
    """1,797 digits with one channel of 8×8 pixels. Their values 0 to 16 become round(value · 255 / 16), 0 to 255.

    There is no official test part. We hold out a fixed fifth of every class: the images at positions 2, 7, 12, …
    (counted from 0) in scikit-learn's order, round(n / 5) of n images.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998 (its test part).
    """

    title: str = "scikit-learn digits"
    source: str = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
    licence: str = "CC BY 4.0"
    bundled: bool = True

    @property
    def counts(self) -> Counts:
        return Counts(classes=10, train=1438, test=359)

    def find(self, data_dir: DataDir) -> Path | None:
        return None

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        """Does nothing: the data set is bundled."""

    def shape(self, image_size: int | None) -> Shape:
        return fixed_shape(self.title, (1, 8, 8), image_size)

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        return select(*_part(part), class_ids)

    def check(self, data_dir: DataDir) -> list[str]:
        train, test = (len(_part(part)[1]) for part in ("train", "test"))
        return [f"{self.title}: readable, {train} training and {test} test images of 10 classes, bundled"]


@functools.cache  # scikit-learn reads a text of 1,797 lines each time, which takes longer than many a short run
def _part(part: str) -> tuple[Pixels, Integers]:
    """Pixels [N, 1, 8, 8] and digits [N] of one part, read-only."""
    from sklearn.datasets import load_digits  # imported late: it takes a second

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    digits = bunch.target.astype(np.int64)
    held_out = np.zeros(len(digits), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(digits == digit)[2::5]] = True
    chosen = held_out if part == "test" else ~held_out
    parts = pixels[chosen], digits[chosen]
    for array in parts:
        array.setflags(write=False)
    return parts
