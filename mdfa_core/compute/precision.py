"""Number formats: the dtype that tensors are stored in, and the dtype that the operands of a product are rounded to."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.errors import UnknownName


@dataclass(frozen=True)
class Precision:
    """A pair of dtypes for the numbers of a network.

    Attributes:
        storage: dtype of weights, activations and updates.
        operands: dtype that the operands of every product are rounded to.
    """

    storage: torch.dtype
    operands: torch.dtype

    def operand(self, tensor: Tensor) -> Tensor:
        """`tensor` rounded to the operands' dtype."""
        return tensor.to(self.operands)

    @functools.cached_property
    def mixed(self) -> bool:
        """Whether operands are rounded, because the two dtypes differ."""
        return self.storage is not self.operands


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
}
"""Precisions by name. `bfloat16` is mixed precision: float32 storage, bfloat16 operands."""


def precision_named(name: str) -> Precision:
    """The precision called `name`.

    Raises:
        UnknownName: `name` is not in `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    return PRECISIONS[name]


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """The dtype for sums over many numbers: float64, or float32 on Metal, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
