"""The five products a layer is made of, over replicas.

Axes: R replica, N example, I/O units in and out, C channels, F filters, K kernel, H W space. An input whose replica
axis is 1 is shared by all replicas. On a CPU each replica's product is a two-dimensional call of its own: MKL's
batched product is slower there, and a replica then gives the same bits alone and in a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.errors import UnknownName

_convolution_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True)
class Precision:
    """What weights, activations and updates are stored in, and what the products' operands are rounded to."""

    storage: torch.dtype
    operands: torch.dtype

    def operand(self, tensor: Tensor) -> Tensor:
        """`tensor` as a product takes it."""
        return tensor.to(self.operands)


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
}


def precision_named(name: str) -> Precision:
    """The precision called `name`.

    Raises:
        UnknownName: there is none.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    return PRECISIONS[name]


def product(x_RNI: Tensor, w_RIO: Tensor, precision: Precision) -> Tensor:
    """x w, [R, N, O]: forward with w = Wᵀ, backward with w = W or feedback B."""
    x_RNI, w_RIO = precision.operand(x_RNI), precision.operand(w_RIO)
    if x_RNI.device.type == "cuda":
        return torch.matmul(x_RNI, w_RIO).to(precision.storage)
    return _stacked(lambda x, w: torch.mm(x, w).to(precision.storage), x_RNI, w_RIO)


def affine(x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, precision: Precision) -> Tensor:
    """x Wᵀ + b, [R, N, O]."""
    if precision.storage is precision.operands and x_RNI.device.type != "cuda":
        return _stacked(lambda x, w, b: torch.addmm(b, x, w.mT), x_RNI, w_ROI, b_RO)
    return product(x_RNI, w_ROI.mT, precision).add_(b_RO.unsqueeze(1))


def outer(delta_RNO: Tensor, x_RNI: Tensor, precision: Precision) -> Tensor:
    """Σₙ δₙᵀ xₙ, [R, O, I]: a dense layer's weight update."""
    return product(delta_RNO.mT, x_RNI, precision)


def convolve(x_RNCHW: Tensor, w_RFCKK: Tensor, b_RF: Tensor, stride: int, precision: Precision) -> Tensor:
    """Valid cross-correlation plus bias, [R, N, F, H′, W′]."""

    def one(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if precision.storage is precision.operands:
            return torch.conv2d(x, w, b, stride)
        return torch.conv2d(x, w, None, stride).to(precision.storage).add_(b[:, None, None])

    return _stacked(one, precision.operand(x_RNCHW), precision.operand(w_RFCKK), b_RF)


def convolve_error(
    delta_RNFHW: Tensor, w_RFCKK: Tensor, stride: int, height: int, width: int, precision: Precision
) -> Tensor:
    """The transpose of `convolve` as a map of its input, applied to δ: [R, N, C, height, width]."""

    def one(delta: Tensor, w: Tensor) -> Tensor:
        x = delta.new_empty(1).expand(delta.shape[0], w.shape[1], height, width)  # only its shape is read
        return _gradient(delta, x, w, stride, (True, False, False))[0].to(precision.storage)

    return _stacked(one, precision.operand(delta_RNFHW), precision.operand(w_RFCKK))


def convolve_outer(delta_RNFHW: Tensor, x_RNCHW: Tensor, kernel: int, stride: int, precision: Precision) -> Tensor:
    """Σ over examples and positions of δ times its input patch, [R, F, C, K, K]: a convolution's weight update."""

    def one(delta: Tensor, x: Tensor) -> Tensor:
        w = delta.new_empty(1).expand(delta.shape[1], x.shape[1], kernel, kernel)  # only its shape is read
        return _gradient(delta, x, w, stride, (False, True, False))[1].to(precision.storage)

    return _stacked(one, precision.operand(delta_RNFHW), precision.operand(x_RNCHW))


def _gradient(delta: Tensor, x: Tensor, w: Tensor, stride: int, mask: tuple[bool, bool, bool]) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = _convolution_backward(
        delta, x, w, None, [stride, stride], [0, 0], [1, 1], False, [0, 0], 1, list(mask)
    )
    return gradients


def _stacked(one: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """`one` for each replica, stacked; an operand with one replica serves all."""
    replicas = max(operand.shape[0] for operand in operands)
    if replicas == 1:
        return one(*(operand[0] for operand in operands)).unsqueeze(0)
    return torch.stack([one(*(o[r if o.shape[0] > 1 else 0] for o in operands)) for r in range(replicas)])
