"""One image file → one square of uint8 pixels."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mdfa_core.data.source import Pixels
from mdfa_core.errors import DataError

EXTENSIONS = frozenset((".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pnm"))
"""Lower-case ends of the names that count as images; every other file is ignored."""


# Pillow refuses what is far too large; of what is merely large it warns, which tells a user nothing to do. Not around
# each reading: images are read in threads, and filters are the whole process's.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path, size: int) -> Pixels:
    """The image as RGB, its largest centred square scaled to `size` × `size`: uint8 [3, size, size].

    Greyscale is repeated in the three channels, CMYK and palettes are converted, transparency is dropped, 16-bit grey
    keeps its upper 8 bits, of an animation the first frame is taken, and a camera's rotation mark (EXIF) is ignored, as
    is usual for ImageNet. The square is cut first: side min(H, W), offsets ⌊(H - side) / 2⌋ and ⌊(W - side) / 2⌋. It is
    scaled by Pillow's bilinear filter, which averages over all the pixels it covers when shrinking (antialiasing); a
    square of the right size already stays as it is.

    Raises:
        DataError: the file is missing, truncated, corrupt or not an image.
    """
    try:
        with Image.open(path) as image:
            square = _square(_rgb(image), size)
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image of a known format: replace or remove it") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image ({error}): replace or remove it") from None
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):  # Pillow would clip these to 0..255: nearly everything to white
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:  # the way to convert that Pillow does not warn about
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square if side == size else square.resize((size, size), Image.Resampling.BILINEAR)
