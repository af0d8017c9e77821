"""Arrays for drawings: numbers as float32 on the CPU, evenly spaced places, and shrunk images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Reals = NDArray[np.float32]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]


def evenly_spaced(size: int, most: int) -> Integers:
    """At most `most` of the integers from 0 to size - 1, evenly spaced, int64."""
    return np.arange(min(size, most)) * size // min(size, most)


def shrunk(images: Tensor, most: int) -> Tensor:
    """Images [N, C, H, W] with at most `most` pixels per side; larger images are shrunk by averaging."""
    height, width = images.shape[2:]
    if max(height, width) <= most:
        return images
    scale = most / max(height, width)
    return functional.adaptive_avg_pool2d(images, (max(1, round(height * scale)), max(1, round(width * scale))))


def as_float32(values: Tensor) -> Reals:
    """A tensor's values as a float32 array."""
    array: Reals = values.detach().cpu().float().numpy()
    return array
