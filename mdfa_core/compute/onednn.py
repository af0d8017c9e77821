"""oneDNN's fused operators on the CPU, and whether large float32 products use them.

PyTorch's own products use the BLAS it was built with, usually MKL. oneDNN is faster on CPUs with AVX-512 that are not
Intel's, because MKL uses only half of their vector width. oneDNN can also apply an activation while it writes a result.
The operators are private to PyTorch, so they are tested at first use and never required.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from mdfa_core.base.errors import DeviceError, InvalidValue

GEMM_VARIABLE = "MDFA_GEMM"
"""Environment variable that chooses the library for large float32 products."""

GEMMS = ("auto", "onednn", "addmm")
"""Allowed values of `GEMM_VARIABLE`."""


class Pointwise(Hashable, Protocol):
    """The part of an activation f that fused kernels need. `nets.activations.Activation` implements it."""

    @property
    def function(self) -> Callable[[Tensor], Tensor]:
        """f."""

    @property
    def onednn(self) -> tuple[str, tuple[float, ...]] | None:
        """Name and parameters of the equivalent oneDNN post-operation; None if there is none."""

    def applied_(self, a: Tensor) -> Tensor:
        """f(a), in place if possible."""

    def chained_(self, error: Tensor, saved: Tensor) -> Tensor:
        """ε ⊙ f′(a), in place if possible."""


def uses_onednn() -> bool:
    """Whether large float32 products on the CPU go through oneDNN.

    The environment variable MDFA_GEMM decides: `onednn`, `addmm` (PyTorch's BLAS) or `auto`. `auto`, the default,
    chooses oneDNN on CPUs with AVX-512.

    Raises:
        InvalidValue: MDFA_GEMM has another value.
        DeviceError: MDFA_GEMM is `onednn`, but PyTorch's fused operator is missing or wrong on this machine.
    """
    # Not `os.environ.get`: every step calls this several times, and `get` raises and catches a KeyError inside.
    return _uses_onednn(os.environ[GEMM_VARIABLE] if GEMM_VARIABLE in os.environ else "auto")  # noqa: SIM401


@functools.cache
def _uses_onednn(wanted: str) -> bool:
    wanted = wanted or "auto"  # an empty variable counts as unset
    if wanted not in GEMMS:
        raise InvalidValue(f"{GEMM_VARIABLE} is {wanted!r}: choose one of {', '.join(GEMMS)}")
    if wanted == "auto":
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and linear_works()
    if wanted == "onednn" and not linear_works():
        raise DeviceError(
            f"{GEMM_VARIABLE} is 'onednn', but this PyTorch lacks the fused linear operator: use auto or addmm"
        )
    return wanted == "onednn"


@functools.cache
def linear_works() -> bool:
    """Whether this build of PyTorch has the fused linear operator and its results are right."""
    try:
        generator = torch.Generator().manual_seed(0)
        x, w, b = (torch.randn(shape, generator=generator) for shape in ((64, 96), (80, 96), (80,)))
        exact = torch.addmm(b.double(), x.double(), w.double().mT)
        for name, arguments, function in (("none", [], lambda a: a), ("tanh", [], torch.tanh)):
            if not torch.allclose(linear(x, w, b, name, arguments).double(), function(exact), rtol=1e-5, atol=1e-5):
                return False
        return torch.allclose(linear(x.mT, x.mT, None).double(), (x.mT @ x).double(), rtol=1e-5, atol=1e-4)
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False


def linear(x: Tensor, w: Tensor, b: Tensor | None, post: str = "none", arguments: Sequence[float] = ()) -> Tensor:
    """post(x wᵀ + b), [N, O], for x [N, I], w [O, I] and b [O], with any strides."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, w, b, post, list(arguments), "")
    return y


def convolution(
    x: Tensor, w: Tensor, b: Tensor, stride: int, post: str, arguments: Sequence[float], groups: int = 1
) -> Tensor:
    """post(x ⋆ w + b), a convolution without padding: x [N, C, H, W], w [F, C/groups, K, K], b [F]."""
    y: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, w, b, [0, 0], [stride, stride], [1, 1], groups, post, list(arguments), ""
    )
    return y


def post_operation(x: Tensor, activation: Pointwise | None) -> tuple[str, tuple[float, ...]] | None:
    """The oneDNN post-operation for `activation` on an operand like `x`; None if fusing is impossible or not wanted."""
    if activation is None or x.dtype is not torch.float32 or not uses_onednn():
        return None
    return activation.onednn
