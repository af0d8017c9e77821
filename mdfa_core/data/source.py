"""What a data set is: the interface every entry of the table fills, and images that can be read by row.

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

from mdfa_core.data.places import Place
from mdfa_core.errors import DataError, InvalidValue

Part = Literal["train", "test"]
Shape = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Integers = NDArray[np.int64]


class Images(ABC):
    """The images of some classes in one part of a data set, ordered by `indices`.

    Attributes:
        class_ids: int64 [N], the data set's own class number of every image.
        indices: int64 [N], which image of the part this is; increasing, the same for every choice of classes.
        shape: (C, H, W) of one image.
    """

    class_ids: Integers
    indices: Integers
    shape: Shape

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all images as uint8, N · C · H · W."""
        channels, height, width = self.shape
        return len(self) * channels * height * width

    @abstractmethod
    def read(self, rows: Integers) -> Pixels:
        """Pixels of the images at `rows` (int64 [n], 0 ≤ row < N): a fresh, contiguous uint8 [n, C, H, W].

        Raises:
            DataError: an image cannot be read.
        """

    @abstractmethod
    def identify(self, rows: Integers, digest: Any) -> None:
        """Feed what identifies the images at `rows` to `digest` (a `hashlib` object) without decoding anything.

        Raises:
            DataError: an image cannot be found.
        """


@final
@dataclass(frozen=True, eq=False)
class ArrayImages(Images):
    """Images that are in memory: `pixels` is uint8 [N, C, H, W]; identified by their pixels."""

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
        for start in range(0, len(rows), 4096):  # in pieces: a copy of everything could be as large as the memory
            digest.update(self.read(rows[start : start + 4096]).data)


def select(pixels: Pixels, class_ids: Integers, wanted: Sequence[int]) -> ArrayImages:
    """The images of the `wanted` classes out of a whole part, `pixels` [N, C, H, W] with `class_ids` [N]."""
    indices = np.flatnonzero(np.isin(class_ids, np.asarray(wanted, dtype=np.int64))).astype(np.int64)
    return ArrayImages(pixels[indices], class_ids[indices], indices)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a data set without reading it; None where that depends on the files."""

    classes: int | None
    train: int | None
    test: int | None


class DataSet(ABC):
    """A source of labelled images with a training and a test part.

    Attributes:
        title: its name in messages and lists.
        source: the address of its home page, or where it comes from.
        licence: the terms it comes with.
        bundled: True if it needs no files of its own.
        downloads: True if `fetch` can get files that are missing.
    """

    title: str
    source: str
    licence: str
    bundled: bool
    downloads: ClassVar[bool] = True

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """Class and image counts as far as they are fixed."""

    @abstractmethod
    def find(self, place: Place) -> Path | None:
        """The folder of `place` with the files, or None if they are not there (or the data set is bundled).

        Raises:
            DataError: it cannot be told which of several folders is meant.
        """

    @abstractmethod
    def fetch(self, place: Place, *, verify: bool = False, mirror: str | None = None) -> None:
        """See to it that the files are in `place`; download what is missing where the place allows that.

        Args:
            place: where to look.
            verify: also compare what is there with the official checksums and download what differs.
            mirror: address of a folder to download from instead of the official one.

        Raises:
            DataError: files are missing and cannot be downloaded.
        """

    @abstractmethod
    def shape(self, image_size: int | None) -> Shape:
        """(C, H, W) of one image at `image_size` (pixels a side; None: the usual size).

        Raises:
            InvalidValue: the data set does not come in this size.
        """

    @abstractmethod
    def list_classes(self, place: Place) -> tuple[str, ...]:
        """The name of every class, in the order of the class numbers.

        Raises:
            DataError: files are missing or broken.
        """

    @abstractmethod
    def images(self, place: Place, part: Part, class_ids: Sequence[int], image_size: int | None) -> Images:
        """The images of `class_ids` in one part; other classes are not kept, and not decoded where that can be helped.

        Raises:
            DataError: files are missing or broken.
            InvalidValue: the data set does not come in this size.
        """

    @abstractmethod
    def check(self, place: Place) -> list[str]:
        """Read everything and say in sentences what was found.

        Raises:
            DataError: files are missing or broken.
        """


def fixed_shape(title: str, shape: Shape, image_size: int | None) -> Shape:
    """`shape`, if `image_size` is None or says the same.

    Raises:
        InvalidValue: another size is asked for.
    """
    if image_size is not None and shape[1:] != (image_size, image_size):
        raise InvalidValue(
            f"image_size is {image_size}, but the images of {title} are {shape[1]}×{shape[2]}: "
            f"leave image_size out, or use an image folder, which comes in any size"
        )
    return shape


def checked_part(where: object, pixels: Pixels, class_ids: Integers, classes: int) -> tuple[Pixels, Integers]:
    """`pixels` and `class_ids` as they are, if they belong together.

    Raises:
        DataError: they are of different lengths, or a class number is not in 0..classes-1.
    """
    if len(pixels) != len(class_ids):
        raise DataError(
            f"{where} has {len(pixels)} images but {len(class_ids)} labels: replace it by the official file"
        )
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < classes:
        raise DataError(
            f"{where} has labels from {class_ids.min()} to {class_ids.max()}, but 0 to {classes - 1} are allowed: "
            f"replace it by the official file"
        )
    return pixels, class_ids
