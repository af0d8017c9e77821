"""Seed → named random generators: every random choice is a pure function of (seed, purpose, counter).

Nothing here holds state, so a run can be resumed bit for bit without saving a generator, a replica draws the same
numbers alone and in a stack, and two methods with one seed start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def _derived_seed(seed: int, purpose: str, counter: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{counter}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch wants a signed 64-bit integer


def torch_generator(seed: int, purpose: str, counter: int = 0) -> torch.Generator:
    """A CPU generator for one purpose of one seed, e.g. `("forward", layer)` or `("order", epoch)`.

    Drawn on the CPU whatever the device of the run, so that a seed names the same numbers everywhere.
    """
    return torch.Generator().manual_seed(_derived_seed(seed, purpose, counter))


def numpy_generator(seed: int, purpose: str, counter: int = 0) -> np.random.Generator:
    """As `torch_generator`, for numpy."""
    return np.random.default_rng(_derived_seed(seed, purpose, counter))


def class_choice(seed: int, classes: int, of: int) -> tuple[int, ...]:
    """The classes of task `seed`: `RandomState(seed).permutation(of)[:classes]`, as the released code draws them.

    Kept exactly, so that seed s names the same task as in the paper; the position in the result is the new label.
    """
    return tuple(int(c) for c in np.random.RandomState(seed).permutation(of)[:classes])
