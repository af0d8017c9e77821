"""A task: n classes of a data set drawn by a seed, their images split and brought to the device.

Axes: N image of the split, n image of a batch, C channel, H W space. Pixels are uint8, 0 to 255.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from mdfa_core import rng
from mdfa_core.data.places import Place, find_place
from mdfa_core.data.source import DataSet, Images, Integers, Part
from mdfa_core.data.table import DATASETS
from mdfa_core.errors import InvalidValue

MEMORY_LIMIT = 2 * 2**30
"""Bytes of uint8 pixels, all splits together, up to which a task is held on the device: 14,266 images of 3×224×224."""


class Split(ABC):
    """Some images of a task with their labels.

    Attributes:
        labels: int64 [N] on the device, 0 to the number of classes - 1.
        indices: int64 [N], which image of `part` each one is; increasing.
        part: the part of the data set the images are from, "train" or "test"; (part, index) names an image.
    """

    labels: Tensor
    indices: Integers
    part: Part

    def __len__(self) -> int:
        return len(self.indices)

    @abstractmethod
    def gather(self, index: Tensor) -> Tensor:
        """The images at `index` (int64 [n] on the device, 0 ≤ index < N): uint8 [n, C, H, W] on the device.

        Raises:
            IndexError: an index is out of range (not raised on devices that do not check).
            DataError: an image that is read only now cannot be read.
        """


@final
@dataclass(frozen=True, eq=False)
class ArraySplit(Split):
    """A split whose `pixels`, uint8 [N, C, H, W], are on the device."""

    pixels: Tensor
    labels: Tensor
    indices: Integers
    part: Part

    def gather(self, index: Tensor) -> Tensor:
        return self.pixels.index_select(0, index)


@final
@dataclass(frozen=True, eq=False)
class LazySplit(Split):
    """A split too large to hold: every batch is read anew, from the images at `rows` of `images`."""

    images: Images
    rows: Integers
    labels: Tensor
    indices: Integers
    part: Part

    def gather(self, index: Tensor) -> Tensor:
        positions = index.cpu().numpy()
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"an index is outside 0 to {len(self) - 1}")
        return torch.from_numpy(self.images.read(self.rows[positions])).to(self.labels.device)


class Gathered:
    """Images and labels of one split for every row of indices, in common calls where one tensor holds all images.

    That is so if all rows are of one split. On a GPU, where every call counts, the pixels of several splits are copied
    into one tensor, unless that is too large.

    Args:
        splits: one a row.
    """

    def __init__(self, splits: Sequence[Split]) -> None:
        self._splits = tuple(splits)
        distinct = list(dict.fromkeys(splits))
        self._whole: Split | None = distinct[0] if len(distinct) == 1 else _joined(distinct)
        self._starts: Tensor | None = None
        if self._whole is not None and len(distinct) > 1:
            starts = dict(zip(distinct, itertools.accumulate(map(len, distinct), initial=0), strict=False))
            rows = [[starts[split]] for split in self._splits]
            self._starts = torch.tensor(rows, device=self._whole.labels.device)

    def at(self, index_RN: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 [R, N, C, H, W] and labels int64 [R, N]; every row's indices count in its split.

        Raises:
            IndexError: an index is out of range (not raised where the images of several splits are in one tensor).
            DataError: as `Split.gather` does.
        """
        if self._whole is None:
            rows = list(zip(self._splits, index_RN, strict=True))
            images = torch.stack([split.gather(index) for split, index in rows])
            return images, torch.stack([split.labels[index] for split, index in rows])
        if self._starts is not None:
            index_RN = index_RN + self._starts
        images = self._whole.gather(index_RN.flatten()).unflatten(0, index_RN.shape)
        return images, self._whole.labels[index_RN]


def _joined(splits: Sequence[Split]) -> ArraySplit | None:
    """The images of all of them, in their order; None on a CPU, and if they are not or should not be held."""
    arrays = [split for split in splits if isinstance(split, ArraySplit)]
    size = sum(split.pixels.nbytes for split in arrays)
    if len(arrays) < len(splits) or size > MEMORY_LIMIT or not _calls_count(arrays[0].pixels.device):
        return None
    try:
        pixels = torch.cat([split.pixels for split in arrays])
    except torch.OutOfMemoryError:
        return None
    labels = torch.cat([split.labels for split in arrays])
    return ArraySplit(pixels, labels, np.concatenate([split.indices for split in arrays]), arrays[0].part)


def _calls_count(device: torch.device) -> bool:
    """Whether a call takes longer than its work, so that a copy of the images is worth fewer calls."""
    return device.type != "cpu"


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """n classes of a data set, in three splits that share no image.

    Attributes:
        name: the data set's name in `DATASETS`.
        class_ids: the data set's number of each class, in label order.
        class_names: the name of each class, in label order.
        input_shape: (C, H, W) of an image.
        train, validation, test: the splits; `validation` is taken from the training part.
        checksum: SHA-256, hexadecimal, over the three splits' shapes, labels and pixels; of images that are decoded
            batch by batch (see `MEMORY_LIMIT`), over file names and sizes instead of pixels. Equal on every machine.
    """

    name: str
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    train: Split
    validation: Split
    test: Split
    checksum: str

    def sealed(self) -> Task:
        """The same task, same checksum, with no test images: what a search may see."""
        nothing = np.zeros(0, dtype=np.int64)
        pixels = torch.zeros((0, *self.input_shape), dtype=torch.uint8, device=self.test.labels.device)
        return replace(self, test=ArraySplit(pixels, self.test.labels[:0], nothing, self.test.part))


def load_task(
    name: str,
    *,
    classes: int,
    seed: int,
    validation: float = 0.15,
    image_size: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    memory_limit: int = MEMORY_LIMIT,
) -> Task:
    """The task of `classes` classes that `seed` draws from data set `name`.

    The classes are `rng.class_choice(seed, classes, of=...)`, label i for the i-th of them. Of their n training images,
    taken in the data set's order, those at the first round(validation · n) places of a permutation drawn from
    (seed, "split") become the validation split, the others the training split; both keep the data set's order. The test
    split is the test images of the classes.

    Args:
        name: a name in `DATASETS`.
        classes: number of classes, at least 2.
        seed: 0 to 2³² - 1.
        validation: share of the training images held out for validation, 0 ≤ validation < 1; 0 leaves that split empty.
        image_size: pixels a side, for image folders (default 224); other data sets have their own size only.
        data_dir: folder with the data; default: the environment variable MDFA_DATA_DIR, else the user's cache folder.
            Missing official files are downloaded into the cache, never into a named folder.
        device: where pixels and labels go.
        memory_limit: bytes of pixels above which images stay where they are (files are decoded) until a batch needs
            them. The pixels are the same either way.

    Raises:
        UnknownName: there is no such data set.
        InvalidValue: a setting is out of range, or the data set has fewer classes or another image size.
        DataError: files are missing, cannot be downloaded, or are broken.

    Source: M. Lechner, ICLR 2020, section 4 (random classes, seeds 0-4) and the released code (class choice, 15 %).
    """
    data = DATASETS[name]
    classes = _integer("classes", classes, low=2)
    seed = _integer("seed", seed, low=0, high=2**32 - 1)
    memory_limit = _integer("memory_limit", memory_limit, low=0)
    if image_size is not None:
        image_size = _integer("image_size", image_size, low=1)
    if isinstance(validation, bool) or not isinstance(validation, (int, float)) or not 0 <= validation < 1:
        raise InvalidValue(f"validation is {validation!r}: give a share of the training images, 0 ≤ validation < 1")
    input_shape = data.shape(image_size)
    place = find_place(data_dir)
    data.fetch(place)
    names = data.list_classes(place)
    if classes > len(names):
        raise InvalidValue(f"classes is {classes}, but {data.title} has {len(names)} classes: choose 2 to {len(names)}")

    class_ids = rng.class_choice(seed, classes, len(names))
    splits, checksum = _splits(data, place, class_ids, seed, validation, image_size, torch.device(device), memory_limit)
    train, held_out, test = splits
    return Task(
        name=name,
        class_ids=class_ids,
        class_names=tuple(names[class_id] for class_id in class_ids),
        input_shape=input_shape,
        train=train,
        validation=held_out,
        test=test,
        checksum=checksum,
    )


def _splits(
    data: DataSet,
    place: Place,
    class_ids: tuple[int, ...],
    seed: int,
    validation: float,
    image_size: int | None,
    device: torch.device,
    memory_limit: int,
) -> tuple[tuple[Split, Split, Split], str]:
    """Training, validation and test split, and the checksum over them."""
    source = data.images(place, "train", class_ids, image_size)
    test = data.images(place, "test", class_ids, image_size)
    order = rng.numpy_generator(seed, "split").permutation(len(source))
    held_out = round(validation * len(source))
    if held_out == len(source):
        raise InvalidValue(
            f"validation is {validation}, which takes all {len(source)} training images: give a smaller share"
        )
    lacking = sorted(set(class_ids) - set(source.class_ids[order[held_out:]].tolist()))
    if lacking:
        raise InvalidValue(
            f"validation is {validation}, which leaves no training image of {data.list_classes(place)[lacking[0]]}: "
            f"give a smaller share, or another seed"
        )
    in_memory = source.nbytes + test.nbytes <= memory_limit
    digest = hashlib.sha256()

    def split(images: Images, part: Part, rows: Integers) -> Split:
        position = {class_id: label for label, class_id in enumerate(class_ids)}
        labels = np.array([position[int(class_id)] for class_id in images.class_ids[rows]], dtype=np.int64)
        digest.update(f"{part} {len(rows)} {images.shape}\n".encode())
        digest.update(labels.astype("<i8").tobytes())
        on_device, indices = torch.from_numpy(labels).to(device), images.indices[rows]
        if not in_memory:
            images.identify(rows, digest)
            return LazySplit(images, rows, on_device, indices, part)
        pixels = images.read(rows)
        digest.update(pixels.data)
        return ArraySplit(torch.from_numpy(pixels).to(device), on_device, indices, part)

    splits = (
        split(source, "train", np.sort(order[held_out:])),
        split(source, "train", np.sort(order[:held_out])),
        split(test, "test", np.arange(len(test))),
    )
    return splits, digest.hexdigest()


def _integer(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    allowed = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidValue(f"{name} is {value!r}: give {allowed}") from None
    if isinstance(value, bool) or number < low or (high is not None and number > high):
        raise InvalidValue(f"{name} is {value!r}: give {allowed}")
    return number
