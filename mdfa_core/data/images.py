"""Decode an image file into a square of uint8 pixels."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from mdfa_core.base.errors import DataError
from mdfa_core.data.source import Pixels

EXTENSIONS = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm"))
"""Lower-case extensions of image files; all other files are ignored."""


# Pillow refuses images that are far too large and warns about merely large ones. The warning asks nothing of the user,
# so we ignore it, once for the process: images are read in threads, and warning filters belong to the process.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path, size: int) -> Pixels:
    """Decode an image as RGB, crop its centre to a square and scale it: uint8 [3, size, size].

    Greyscale is repeated in three channels, CMYK and palettes are converted, and transparency is dropped. 16-bit
    grey keeps its upper 8 bits. An animation gives its first frame. The camera's rotation mark (EXIF) is ignored, as is
    usual for ImageNet.

    The crop comes first: side min(H, W), offsets ⌊(H - side) / 2⌋ and ⌊(W - side) / 2⌋. Then Pillow's bilinear filter
    with antialiasing scales the square, unless it already has the right size.

    Args:
        path: the file.
        size: pixels a side of the result.

    Raises:
        DataError: the file is missing, truncated, corrupt, or not an image.
    """
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise DataError(f"{path} is no file: replace or remove it")
    with opened(path, path) as image:
        return square(image, size)


@contextmanager
def opened(file: Path | BinaryIO, where: object, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """An image whose header is read. Errors of Pillow in the block, while it decodes, become a `DataError`.

    Args:
        file: the file, or its content.
        where: names the file in messages.
        formats: the formats that are tried; default: all that Pillow has.

    Raises:
        DataError: the file is missing, truncated, corrupt, or not an image of these formats.
    """
    try:
        with Image.open(file, formats=formats) as image:
            yield image
    except UnidentifiedImageError:
        raise DataError(f"{where} is not an image of a known format: replace or remove it") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{where} is not a readable image ({error}): replace or remove it") from None


def square(image: Image.Image, size: int) -> Pixels:
    """An open image as `read_image` returns it: uint8 [3, size, size]."""
    return np.ascontiguousarray(np.asarray(_square(_rgb(image), size)).transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # Pillow would clip these values to 0..255, so that nearly all become white
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:  # the conversion that Pillow does not warn about
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), Image.Resampling.BILINEAR)
