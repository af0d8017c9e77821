"""Number formats: the dtype of stored tensors, and the format that the operands of a product are rounded to."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.errors import DeviceError, UnknownName
from mdfa_core.compute import tensor_float
from mdfa_core.compute.replicas import per_replica

OVERRIDE_VARIABLE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable that makes NVIDIA's libraries compute all float32 products in TensorFloat-32 (1) or none (0)."""

_NOTHING = nullcontext()


@dataclass(frozen=True)
class Precision:
    """The formats of a network's numbers.

    Attributes:
        storage: dtype of weights, activations and updates.
        operands: dtype that the operands of every product are rounded to.
        fp32_precision: `tf32` if float32 operands are rounded to TensorFloat-32, else `ieee`; PyTorch's terms.
    """

    storage: torch.dtype
    operands: torch.dtype
    fp32_precision: str = "ieee"

    def operand(self, tensor: Tensor) -> Tensor:
        """`tensor` rounded to the operands' format, unless a CUDA device rounds it itself (TensorFloat-32)."""
        if self.fp32_precision == "tf32":
            return tensor if tensor.is_cuda else tensor_float.rounded(tensor)
        return tensor.to(self.operands)

    def products(self, device: torch.device) -> AbstractContextManager[None]:
        """A `with` block in which a GPU computes float32 products in this precision; nothing on a CPU."""
        return _NOTHING if per_replica(device) else tensor_float.float32_products(self.fp32_precision)

    @functools.cached_property
    def mixed(self) -> bool:
        """Whether operands are rounded, because the two dtypes differ."""
        return self.storage is not self.operands


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
    "tf32": Precision(torch.float32, torch.float32, "tf32"),
}
"""Precisions by name. `bfloat16` and `tf32` have float32 storage and operands of fewer bits."""


def precision_named(name: str) -> Precision:
    """The precision called `name`.

    Raises:
        UnknownName: `name` is not in `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    return PRECISIONS[name]


def check_device(name: str, device: torch.device) -> None:
    """Refuse a device that cannot compute in a precision.

    Raises:
        DeviceError: float64 or tf32 on Metal; tf32 on a GPU without TensorFloat-32; or an environment variable makes
            NVIDIA's libraries compute in another precision.
    """
    if device.type == "mps" and name == "float64":
        raise DeviceError("float64 was asked for, but Metal GPUs have none: use float32, or the device 'cpu'")
    if device.type == "mps" and name == "tf32":
        raise DeviceError("tf32 was asked for, but Metal GPUs have none: use float32, or the device 'cpu'")
    if device.type != "cuda":
        return
    if name == "tf32" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        raise DeviceError(
            f"tf32 was asked for, but {torch.cuda.get_device_name(device)} has none: use float32, or an NVIDIA GPU of "
            f"compute capability 8.0 or more"
        )
    override = os.environ.get(OVERRIDE_VARIABLE, "")
    if override == {"tf32": "0", "float32": "1"}.get(name):
        raise DeviceError(
            f"{OVERRIDE_VARIABLE} is {override}, which would make every {name} product another one: unset it, or "
            f"choose precision {'float32' if name == 'tf32' else 'tf32'}"
        )


def accumulation_dtype(device: torch.device) -> torch.dtype:
    """The dtype for sums over many numbers: float64, or float32 on Metal, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
