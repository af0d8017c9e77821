"""A data set from arrays in memory: the shortest way to use images of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.source import ArrayImages, Counts, DataSet, Integers, Part, Pixels, Shape, fixed_shape, select


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayDataSet(DataSet):
    """Images and labels given as arrays. `DATASETS.add("mine", ArrayDataSet(...))` makes them available everywhere.

    Attributes:
        train_images, test_images: uint8 [N, C, H, W], with the same C, H, W. They are not copied, so do not change them
            afterwards.
        train_labels, test_labels: integers [N] from 0 to the number of classes - 1. Every class must occur in both.
        class_names: one name per class, at least two.
        title, source, licence: shown in messages and lists.

    Raises:
        InvalidValue: an array has the wrong dtype, shape or values, or there are fewer than two class names.
    """

    train_images: Pixels
    train_labels: Integers
    test_images: Pixels
    test_labels: Integers
    class_names: Sequence[str]
    title: str = "arrays in memory"
    source: str = "added by the user"
    licence: str = "the user's"
    bundled: bool = True

    def __post_init__(self) -> None:
        names = tuple(self.class_names)
        if len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise InvalidValue(f"class_names of {self.title} are {names!r}: give at least two strings, one per class")
        checked: dict[str, Any] = {"class_names": names}
        for part in ("train", "test"):
            images = _checked_images(f"{part}_images of {self.title}", getattr(self, f"{part}_images"))
            labels = getattr(self, f"{part}_labels")
            checked[f"{part}_images"] = images
            checked[f"{part}_labels"] = _checked_labels(f"{part}_labels of {self.title}", labels, len(images), names)
        shapes = [checked[f"{part}_images"].shape[1:] for part in ("train", "test")]
        if shapes[0] != shapes[1]:
            raise InvalidValue(
                f"the training images of {self.title} are {shapes[0]} (C, H, W), its test images {shapes[1]}: "
                f"give both in one shape"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # how a frozen dataclass sets its own fields

    @property
    def counts(self) -> Counts:
        return Counts(classes=len(self.class_names), train=len(self.train_labels), test=len(self.test_labels))

    def find(self, data_dir: DataDir) -> Path | None:
        return None

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        """Does nothing: the images are in memory."""

    def shape(self, image_size: int | None) -> Shape:
        _, channels, height, width = self.train_images.shape
        return fixed_shape(self.title, (channels, height, width), image_size)

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        return tuple(self.class_names)

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        if part == "test":
            return select(self.test_images, self.test_labels, class_ids)
        return select(self.train_images, self.train_labels, class_ids)

    def check(self, data_dir: DataDir) -> list[str]:
        counts = self.counts
        return [
            f"{self.title}: readable, {counts.train} training and {counts.test} test images of {counts.classes} "
            f"classes, in memory"
        ]


def _checked_images(name: str, images: Any) -> Pixels:
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or 0 in array.shape:
        raise InvalidValue(f"{name} are {array.dtype} of shape {array.shape}: give uint8 images as [N, C, H, W]")
    return array


def _checked_labels(name: str, labels: Any, images: int, classes: Sequence[str]) -> Integers:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" or array.shape != (images,):
        raise InvalidValue(f"{name} are {array.dtype} of shape {array.shape}: give {images} integers, one per image")
    if not np.array_equal(np.unique(array), np.arange(len(classes))):
        raise InvalidValue(
            f"{name} are {array.min()} to {array.max()}, {len(np.unique(array))} different values: "
            f"give every class from 0 to {len(classes) - 1} at least once, and no other number"
        )
    return array.astype(np.int64)
