"""Values as bytes for stage.js."""

from __future__ import annotations

import base64

import numpy as np

from mdfa_core.training.inspection import Pixels, Reals


def signed(values: Reals) -> Pixels:
    """Values [n, …] as uint8: 128 is 0 (or NaN), 1 and 255 are ∓ the largest finite value of each of the n parts."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True, initial=0.0)
    signed: Pixels = np.rint(128 + 127 * (values / np.where(largest > 0, largest, 1))).astype(np.uint8)
    return signed


def shares(values: Reals) -> Pixels:
    """Shares as uint8: 255 is 1; NaN is 0."""
    shares: Pixels = np.rint(255 * np.nan_to_num(values, nan=0.0)).astype(np.uint8)
    return shares


def base64_of(array: Pixels | Reals) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
