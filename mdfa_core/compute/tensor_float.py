"""TensorFloat-32: how float32 products round their operands, on a GPU by PyTorch's settings, elsewhere by this module.

TensorFloat-32 has the exponent of float32 and 10 bits of mantissa. A tensor core rounds both operands of a product to
it and sums in float32. The rounding is to the nearest, ties away from zero: NVIDIA's instruction `cvt.rna.tf32.f32`
adds half a unit of the last kept bit to the float32's bits and cuts the rest off. So does CUTLASS (`tfloat32.h`,
"round_half_ulp_truncate"), and a kernel with this instruction gave exactly the product of PyTorch
(https://github.com/triton-lang/triton/issues/4574, which does not name the card). We found no statement about cuDNN;
`benchmarks/gpu.py` finds out what a card does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

MANTISSA = 10
"""Bits of the mantissa that remain."""

_DROPPED = 23 - MANTISSA  # bits of a float32's mantissa


def rounded(tensor: Tensor) -> Tensor:
    """A float32 tensor rounded to TensorFloat-32, to the nearest, ties away from zero.

    The relative error is at most 2⁻¹¹, and below 2⁻¹²⁶ the absolute error at most 2⁻¹³⁷. Magnitudes from
    (2 - 2⁻¹¹)·2¹²⁷ become infinite; NaN stays NaN.
    """
    bits = tensor.view(torch.int32).add(1 << (_DROPPED - 1)).bitwise_and_(-1 << _DROPPED)
    return torch.where(tensor.isnan(), tensor, bits.view(torch.float32))  # a NaN's bits could become a number's


class _Float32Products:
    """Context manager that says how CUDA devices compute float32 products and convolutions: `ieee` or `tf32`.

    The settings belong to the process and are read when a product is launched, also when a CUDA graph is recorded. So
    threads that want the same may be inside together, and the others wait, which takes the time of a launch; those that
    wait alternate. The first thread to enter sets what differs, the last one to leave restores it. (A setting that the
    user left to its parent is restored as the value that it had from there.)

    Meanwhile, PyTorch raises an error in any thread that reads an older setting, such as
    `torch.backends.cudnn.allow_tf32`, and finds it changed by a newer one.
    """

    def __init__(self) -> None:
        self._changed, self._own = threading.Condition(), threading.local()
        self._inside, self._mode = 0, ""  # the mode is the last one if nobody is inside
        self._waiting: Counter[str] = Counter()
        self._before: list[tuple[object, str]] = []

    @contextmanager
    def __call__(self, mode: str) -> Iterator[None]:
        outer: str | None = getattr(self._own, "mode", None)
        with self._changed:
            if outer is None:
                self._waiting[mode] += 1
                self._changed.wait_for(lambda: self._may_enter(mode))
                self._waiting[mode] -= 1
            elif outer != mode:
                raise RuntimeError(f"float32 products were to be {mode} within {outer}: leave the outer block first")
            if self._inside == 0:
                self._mode = mode
                self._set()
            self._inside += 1
        self._own.mode = mode
        try:
            yield
        finally:
            self._own.mode = outer
            with self._changed:
                self._inside -= 1
                if self._inside == 0:
                    self._restore()
                    self._changed.notify_all()

    def _may_enter(self, mode: str) -> bool:
        if mode != self._mode:
            return self._inside == 0
        return not any(count for other, count in self._waiting.items() if other != mode)

    def _set(self) -> None:
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):  # type: ignore[attr-defined]
            value = backend.fp32_precision
            if ("ieee" if value == "none" else value) != self._mode:
                self._before.append((backend, value))
                backend.fp32_precision = self._mode

    def _restore(self) -> None:
        while self._before:
            backend, value = self._before.pop()
            backend.fp32_precision = value  # type: ignore[attr-defined]


float32_products = _Float32Products()
