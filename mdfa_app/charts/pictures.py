"""Small pictures as PNG data URLs: training images, points of the plane, filters; and the diverging colours."""

from __future__ import annotations

import base64
import functools
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdfa_core.base.colours import DARK, LIGHT

Pixels = NDArray[np.uint8]

_POINT_SIDE = 51  # pixels of the picture of a point
_TILE = 24  # pixels to which a small filter is enlarged, so that the lines between filters are thin


@functools.cache
def diverging(dark: bool, strength: float = 1.0) -> Pixels:
    """Colours [256, 3] from one class or sign to the other: blue, the background of the page, orange.

    Blue and orange can be told apart with every common colour vision deficiency; `strength` is their share at the ends.
    """
    palette = DARK if dark else LIGHT
    low, middle, high = (np.array(_rgb(colour)) for colour in (palette.train, palette.surface, palette.validation))
    place = np.linspace(-1, 1, 256)[:, None] * strength
    colours = np.where(place < 0, middle + (low - middle) * -place, middle + (high - middle) * place)
    made: Pixels = np.rint(colours).astype(np.uint8)
    made.setflags(write=False)
    return made


@functools.cache
def class_colours(dark: bool, classes: int, strength: float = 1.0) -> Pixels:
    """Colours [256, 3] of the bytes of `mdfa_core.training.inspection.decision`, for more than two classes."""
    palette, width = DARK if dark else LIGHT, 256 // classes
    ground, ends = np.array(_rgb(palette.surface)), np.array([_rgb(colour) for colour in palette.classes[:classes]])
    winner, share = np.divmod(np.arange(256), width)
    winner, share = np.minimum(winner, classes - 1), strength * np.minimum(share, width - 1)[:, None] / (width - 1)
    made: Pixels = np.rint(ground + (ends[winner] - ground) * share).astype(np.uint8)
    made.setflags(write=False)
    return made


def hexadecimal(colours: Pixels) -> list[str]:
    """Colours [n, 3] as Bokeh takes a palette."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours.tolist()]


def png(pixels: Pixels) -> str:
    """The data URL of an image [1 or 3, H, W]; [2, 1, 1] is a point of the plane, drawn as a dot."""
    return _png(pixels.tobytes(), pixels.shape)


@functools.lru_cache(maxsize=256)
def _png(content: bytes, shape: tuple[int, ...]) -> str:
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    if shape == (2, 1, 1):
        return _encoded(_point(pixels))
    return _encoded(pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0))


def _point(pixels: Pixels) -> Pixels:
    """A dot where the point is, on the axes of the plane: uint8 [H, W]."""
    x, y = pixels.reshape(2) / 255 * (_POINT_SIDE - 1)
    picture = np.full((_POINT_SIDE, _POINT_SIDE), 235, dtype=np.uint8)
    picture[_POINT_SIDE // 2, :] = picture[:, _POINT_SIDE // 2] = 190
    down, right = np.mgrid[:_POINT_SIDE, :_POINT_SIDE]
    picture[np.hypot(right - x, _POINT_SIDE - 1 - y - down) <= 4.5] = 25
    return picture


def mosaic(weights: NDArray[np.float32], columns: int, *, dark: bool) -> str:
    """Filters [n, C, H, W] side by side as a data URL, each scaled to its own largest weight.

    Three channels are drawn as red, green and blue, with grey for 0. Otherwise the mean over the channels is drawn,
    blue below 0 and orange above.
    """
    count, channels, height, width = weights.shape
    largest = np.abs(weights).max((1, 2, 3), keepdims=True)
    scaled = np.nan_to_num(weights / np.where(largest > 0, largest, 1))
    if channels == 3:
        tiles = np.rint(127.5 + 127.5 * scaled).astype(np.uint8).transpose(0, 2, 3, 1)
    else:
        tiles = diverging(dark)[np.rint(127.5 + 127.5 * scaled.mean(1)).astype(np.uint8)]
    times = max(1, _TILE // max(height, width))
    tiles = tiles.repeat(times, axis=1).repeat(times, axis=2)
    rows, height, width = math.ceil(count / columns), height * times + 1, width * times + 1  # with a line between
    picture = np.empty((rows * height + 1, columns * width + 1, 3), dtype=np.uint8)
    picture[:] = _rgb((DARK if dark else LIGHT).ghost)
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * height + 1, (number % columns) * width + 1
        picture[top : top + height - 1, left : left + width - 1] = tile
    return _encoded(picture)


def _encoded(picture: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
