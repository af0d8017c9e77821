"""Tasks: n random classes of a data set, in a training, a validation and a test split on the device.

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

from mdfa_core.base import rng
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data.data_dir import DataDir, find_data_dir
from mdfa_core.data.datasets import DATASETS
from mdfa_core.data.source import DataSet, Images, Integers, Part

MEMORY_LIMIT = 2 * 2**30
"""Bytes of pixels up to which a task is kept on the device, all splits together: 14,266 images of 3×224×224."""


class Split(ABC):
    """The images and labels of one split of a task.

    Attributes:
        labels: int64 [N] on the device, 0 to the number of classes - 1.
        indices: int64 [N], the number of every image in `part`, increasing.
        part: the part of the data set that the images come from, "train" or "test". (part, index) identifies an image.
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
            IndexError: an index is out of range (on devices that check it).
            DataError: an image that is decoded now cannot be read.
        """


@final
@dataclass(frozen=True, eq=False)
class ArraySplit(Split):
    """A split with all pixels on the device: `pixels` is uint8 [N, C, H, W]."""

    pixels: Tensor
    labels: Tensor
    indices: Integers
    part: Part

    def gather(self, index: Tensor) -> Tensor:
        return self.pixels.index_select(0, index)


@final
@dataclass(frozen=True, eq=False)
class LazySplit(Split):
    """A split that is too large to keep: every batch is read again, from the images at `rows` of `images`."""

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


class StackedSplits:
    """Splits of several replicas, from which one call gathers a batch for every replica.

    One call suffices if all replicas share one split. On a GPU, where the number of calls matters, the pixels of all
    splits are copied into one tensor, unless it would be larger than `MEMORY_LIMIT`. Otherwise a call of its own
    gathers every replica's batch.

    Args:
        splits: one per replica.
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

    def gather(self, index_RN: Tensor) -> tuple[Tensor, Tensor]:
        """Images, uint8 [R, N, C, H, W], and labels, int64 [R, N], of every replica's batch.

        Args:
            index_RN: positions in the replica's own split.

        Raises:
            IndexError: an index is out of range (not raised if several splits are in one tensor).
            DataError: see `Split.gather`.
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
    """All splits in one; None on a CPU, if a split is not in memory, or if the result would be too large."""
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
    """Whether calls are so slow, compared with their work, that fewer calls are worth a copy of the images."""
    return device.type != "cpu"


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """n classes of a data set, in three disjoint splits.

    Attributes:
        name: the data set's name in `DATASETS`.
        class_ids: the data set's class numbers, in label order.
        class_names: the class names, in label order.
        input_shape: (C, H, W) of an image.
        train, validation, test: the splits. `validation` is drawn from the training part.
        checksum: hexadecimal SHA-256 over the splits' shapes, labels and pixels, equal on every machine. If images are
            decoded batch by batch (see `MEMORY_LIMIT`), file names and sizes replace the pixels.
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
        """The same task with the same checksum but without test images, for a hyperparameter search."""
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
    """Draw a task of `classes` random classes from a data set.

    `rng.class_choice(seed, classes, of=...)` draws the classes; the i-th class has label i. A permutation drawn from
    (seed, "split") orders their n training images. The first round(validation · n) images become the validation split,
    the others the training split. Both keep the data set's order. The test split holds all test images of the classes.

    Args:
        name: a name in `DATASETS`.
        classes: number of classes, at least 2.
        seed: 0 to 2³² - 1.
        validation: share of the training images held out for validation, 0 ≤ validation < 1.
        image_size: pixels a side, for image folders (default 224). Other data sets have one size.
        data_dir: folder with the data; default: the environment variable MDFA_DATA_DIR, else the user's cache folder.
            Missing official files are downloaded into the cache folder, never into a folder given by the user.
        device: the device for pixels and labels.
        memory_limit: bytes of pixels above which images are not kept on the device but read (and files decoded) for
            every batch. The pixels are the same either way.

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
    directory = find_data_dir(data_dir)
    data.fetch(directory)
    names = data.list_classes(directory)
    if classes > len(names):
        raise InvalidValue(
            f"classes is {classes}, but {data.title} has {len(names)} classes: choose 2"
            + (f" to {len(names)}" if len(names) > 2 else "")
        )

    class_ids = rng.class_choice(seed, classes, len(names))
    splits, checksum = _splits(
        data, directory, class_ids, seed, validation, image_size, torch.device(device), memory_limit
    )
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
    data_dir: DataDir,
    class_ids: tuple[int, ...],
    seed: int,
    validation: float,
    image_size: int | None,
    device: torch.device,
    memory_limit: int,
) -> tuple[tuple[Split, Split, Split], str]:
    """Training, validation and test split, and the checksum over them."""
    source = data.images(data_dir, "train", class_ids, image_size)
    test = data.images(data_dir, "test", class_ids, image_size)
    order = rng.numpy_generator(seed, "split").permutation(len(source))
    held_out = round(validation * len(source))
    if held_out == len(source):
        raise InvalidValue(
            f"validation is {validation}, which takes all {len(source)} training images: give a smaller share"
        )
    lacking = sorted(set(class_ids) - set(source.class_ids[order[held_out:]].tolist()))
    if lacking:
        raise InvalidValue(
            f"validation is {validation}, which leaves no training image of "
            f"{data.list_classes(data_dir)[lacking[0]]}: give a smaller share, or another seed"
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
