"""Random generators by purpose: every random choice is a pure function of (seed, purpose, counter).

There is no global state. So a run resumes bit for bit without a saved generator state, a replica draws the same numbers
alone and in a stack, and two methods with the same seed start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def _derived_seed(seed: int, purpose: str, counter: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch needs a signed 64-bit integer


def torch_generator(seed: int, purpose: str, counter: int = 0) -> torch.Generator:
    """A CPU random generator for one purpose of a seed, such as `("forward", layer)` or `("order", epoch)`.

    Random numbers are always drawn on the CPU, so that a seed gives the same numbers on every device.

    Args:
        seed: seed of the run.
        purpose: what the numbers are for.
        counter: distinguishes several draws for one purpose.
    """
    return torch.Generator("cpu").manual_seed(_derived_seed(seed, purpose, counter))


def numpy_generator(seed: int, purpose: str, counter: int = 0) -> np.random.Generator:
    """The NumPy counterpart of `torch_generator`."""
    return np.random.default_rng(_derived_seed(seed, purpose, counter))


def class_choice(seed: int, classes: int, of: int) -> tuple[int, ...]:
    """The random classes of task `seed`: `RandomState(seed).permutation(of)[:classes]`.

    This is how the paper's released code draws them, so seed s gives the paper's task s. The position of a class in the
    result is its new label.

    Args:
        seed: seed of the task.
        classes: number of classes to draw.
        of: number of classes of the data set.

    Returns:
        `classes` distinct integers from 0 to `of` - 1.
    """
    return tuple(int(c) for c in np.random.RandomState(seed).permutation(of)[:classes])
