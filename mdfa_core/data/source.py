"""The interface of a data set, and of images that are read by row.

Axes: N image, C channel, H W space. Pixels are uint8, 0 to 255.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.data.data_dir import DataDir

Part = Literal["train", "test"]
Shape = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]


class Images(ABC):
    """The images of some classes in one part of a data set, ordered by `indices`.

    Attributes:
        class_ids: int64 [N], the data set's class number of every image.
        indices: int64 [N], the number of every image in the part. They increase, and do not depend on the choice of
            classes.
        shape: (C, H, W) of one image.
    """

    class_ids: Integers
    indices: Integers
    shape: Shape

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all images as uint8: N · C · H · W."""
        channels, height, width = self.shape
        return len(self) * channels * height * width

    @abstractmethod
    def read(self, rows: Integers) -> Pixels:
        """Pixels of the images at `rows` (int64 [n], 0 ≤ row < N): a new contiguous array, uint8 [n, C, H, W].

        Raises:
            DataError: an image cannot be read.
        """

    @abstractmethod
    def identify(self, rows: Integers, digest: Any) -> None:
        """Feed data that identifies the images at `rows` to `digest`, a `hashlib` object, without decoding them.

        Raises:
            DataError: an image cannot be found.
        """


@final
@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Images in memory, identified by their pixels: `pixels` is uint8 [N, C, H, W]."""

    pixels: Pixels
    class_ids: Integers
    indices: Integers

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """(C, H, W)."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def read(self, rows: Integers) -> Pixels:
        return np.ascontiguousarray(self.pixels[rows])

    def identify(self, rows: Integers, digest: Any) -> None:
        for start in range(0, len(rows), 4096):  # in chunks: a copy of all images might not fit into memory
            digest.update(self.read(rows[start : start + 4096]).data)


def select(pixels: Pixels, class_ids: Integers, wanted: Sequence[int]) -> ArrayImages:
    """The images of the `wanted` classes, given all images of a part: `pixels` [N, C, H, W] and `class_ids` [N]."""
    indices = np.flatnonzero(np.isin(class_ids, np.asarray(wanted, dtype=np.int64))).astype(np.int64)
    return ArrayImages(pixels[indices], class_ids[indices], indices)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of classes, training images and test images of a data set; None if they depend on the files."""

    classes: int | None
    train: int | None
    test: int | None


class DataSet(ABC):
    """A data set of labelled images with a training and a test part.

    Add an instance with `DATASETS.add(name, instance)` to use it everywhere. For images in memory, use `ArrayDataSet`.

    Attributes:
        title: its name in messages and lists.
        source: the address of its home page, or its origin in words.
        licence: its terms of use.
        bundled: whether it needs no files.
        downloads: whether `fetch` can download missing files.
    """

    title: str
    source: str
    licence: str
    bundled: bool
    downloads: ClassVar[bool] = True

    @property
    @abstractmethod
    def counts(self) -> Counts:
        """Numbers of classes and images, as far as they are known without reading files."""

    @abstractmethod
    def find(self, data_dir: DataDir) -> Path | None:
        """The folder that holds the files, in or below `data_dir`; None if there is none, or if it is bundled.

        Raises:
            DataError: several folders hold files of the data set, or the folder cannot be read.
        """

    @abstractmethod
    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        """Make sure the files are in `data_dir`; download missing files, unless the user gave the folder.

        Args:
            data_dir: the data folder.
            verify: also download files that differ from the official checksums.
            mirror: address of a folder to download from instead of the official server.

        Raises:
            DataError: files are missing and cannot be downloaded.
        """

    @abstractmethod
    def shape(self, image_size: int | None) -> Shape:
        """(C, H, W) of an image at `image_size` (pixels a side; None: the default size).

        Raises:
            InvalidValue: the data set does not have images of this size.
        """

    @abstractmethod
    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        """The name of every class, in the order of the class numbers.

        Raises:
            DataError: files are missing or broken.
        """

    @abstractmethod
    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> Images:
        """The images of `class_ids` in one part. Images of other classes are not kept, and not decoded if possible.

        Raises:
            DataError: files are missing or broken.
            InvalidValue: the data set does not have images of this size.
        """

    @abstractmethod
    def check(self, data_dir: DataDir) -> list[str]:
        """Read all files and report the findings, one line each.

        Raises:
            DataError: files are missing or broken.
        """


def fixed_shape(title: str, shape: Shape, image_size: int | None) -> Shape:
    """`shape`, after a check that `image_size` is None or agrees with it.

    Raises:
        InvalidValue: `image_size` is another size.
    """
    if image_size is not None and shape[1:] != (image_size, image_size):
        raise InvalidValue(
            f"image_size is {image_size}, but the images of {title} are {shape[1]}×{shape[2]}: "
            f"leave image_size out, or use an image folder, which can have any size"
        )
    return shape


def checked_part(where: object, pixels: Pixels, class_ids: Integers, classes: int) -> tuple[Pixels, Integers]:
    """`pixels` and `class_ids`, after a check that they belong together.

    Args:
        where: the file, for messages.
        pixels: [N, C, H, W].
        class_ids: [N].
        classes: number of classes.

    Raises:
        DataError: the lengths differ, or a class number is not in 0..classes-1.
    """
    if len(pixels) != len(class_ids):
        raise DataError(
            f"{where} has {len(pixels)} images but {len(class_ids)} labels: replace it with the official file"
        )
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < classes:
        raise DataError(
            f"{where} has labels from {class_ids.min()} to {class_ids.max()}, but 0 to {classes - 1} are allowed: "
            f"replace it with the official file"
        )
    return pixels, class_ids


def checksum_finding(title: str, changed: Sequence[str]) -> str:
    """The line of `DataSet.check` about files whose checksum is not the official one.

    Args:
        title: of the data set.
        changed: names of the files.
    """
    return (
        f"{title}: not the official files (the checksum differs): {', '.join(changed)}; their parts may differ from "
        f"the official ones, so mention this beside published results"
    )
