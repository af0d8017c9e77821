"""Products of convolutional layers: forward, backward and weight update, valid convolutions without padding.

Axes: R replica, N example, C channels, F filters, K kernel, H W space, H′ W′ output space. All replicas share an
operand whose replica axis is 1.

On a CPU, every replica has a call of its own, with a fused activation if oneDNN computes it correctly. On other devices
a stack of replicas uses `stacked_conv`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from mdfa_core.compute import onednn, stacked_conv
from mdfa_core.compute.dense import activated
from mdfa_core.compute.layout import to_kernel_layout
from mdfa_core.compute.onednn import Pointwise
from mdfa_core.compute.precision import Precision
from mdfa_core.compute.replicas import map_replicas, per_replica, random_operands


def convolve(
    x_RNCHW: Tensor,
    w_RFCKK: Tensor,
    b_RF: Tensor,
    stride: int,
    precision: Precision,
    activation: Pointwise | None = None,
) -> Tensor:
    """f(x ⋆ W + b), the forward pass of a convolutional layer (⋆ is the valid cross-correlation).

    Args:
        x_RNCHW: inputs.
        w_RFCKK: filters W.
        b_RF: biases.
        stride: of the convolution, in both directions.
        precision: formats of storage and operands.
        activation: f; None is the identity.

    Returns:
        Activations [R, N, F, H′, W′].
    """

    def convolve_one(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        x, w = precision.operand(x), precision.operand(w)
        if precision.mixed:
            y = torch.conv2d(x, w, None, stride).to(precision.storage)
            return activated(y.add_(b[:, None, None]), activation)
        if fused is not None:
            return onednn.convolution(x, w, b, stride, *fused)
        return activated(torch.conv2d(x, w, b, stride), activation)

    if w_RFCKK.shape[0] > 1 and not per_replica(x_RNCHW.device):
        operands = precision.operand(x_RNCHW), precision.operand(w_RFCKK)
        y = stacked_conv.batched("convolve", *operands, stride, fp32_precision=precision.fp32_precision)
        return activated(y.to(precision.storage).add_(b_RF[:, None, :, None, None]), activation)
    unmixed = not precision.mixed and per_replica(x_RNCHW.device)
    fused = onednn.post_operation(x_RNCHW, activation) if unmixed else None
    if fused is not None and not _fuses(x_RNCHW.shape[1:], w_RFCKK.shape[1:], stride, activation):
        fused = None
    with precision.products(x_RNCHW.device):
        return map_replicas(convolve_one, to_kernel_layout(x_RNCHW), to_kernel_layout(w_RFCKK), b_RF)


@functools.lru_cache(maxsize=256)
def _fuses(image: tuple[int, ...], filters: tuple[int, ...], stride: int, activation: Pointwise) -> bool:
    """Whether PyTorch's fused convolution exists and is right for operands of these shapes.

    In PyTorch 2.13, one filter as large as its image (6×6 or more) gives wrong results for more than one example. So
    every shape is tried at first use, on up to 16 examples.
    """
    x, w, b = random_operands((1, min(image[0], 16), *image[1:]), (1, *filters), filters[:1], dtype=torch.float32)
    x, w = to_kernel_layout(x)[0], to_kernel_layout(w / math.sqrt(math.prod(filters[1:])))[0]
    try:
        found = onednn.convolution(x, w, b, stride, *activation.onednn) if activation.onednn else None
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False
    exact = activation.function(torch.conv2d(x.double(), w.double(), b.double(), stride))
    return found is not None and torch.allclose(found.double(), exact, rtol=1e-4, atol=1e-5)


def convolve_error(
    delta_RNFHW: Tensor, w_RFCKK: Tensor, stride: int, height: int, width: int, precision: Precision
) -> Tensor:
    """The transposed convolution of δ: the error of the layer's inputs, [R, N, C, height, width].

    Args:
        delta_RNFHW: δ, [R, N, F, H′, W′].
        w_RFCKK: filters W, or feedback weights of the same shape.
        stride: of the convolution.
        height: H of the inputs.
        width: W of the inputs.
        precision: formats of storage and operands.
    """
    if delta_RNFHW.shape[0] > 1 and not per_replica(delta_RNFHW.device):
        operands = precision.operand(delta_RNFHW), precision.operand(w_RFCKK)
        sizes = stride, height, width
        x = stacked_conv.batched("error", *operands, *sizes, fp32_precision=precision.fp32_precision)
        return x.to(precision.storage)

    def error_one(delta: Tensor, w: Tensor) -> Tensor:
        x = delta.new_empty(1).expand(delta.shape[0], w.shape[1], height, width)  # only its shape is read
        return stacked_conv.gradient(delta, x, w, stride, (True, False, False))[0].to(precision.storage)

    delta, w = to_kernel_layout(precision.operand(delta_RNFHW)), to_kernel_layout(precision.operand(w_RFCKK))
    with precision.products(delta_RNFHW.device):
        return map_replicas(error_one, delta, w)


def convolve_outer(delta_RNFHW: Tensor, x_RNCHW: Tensor, kernel: int, stride: int, precision: Precision) -> Tensor:
    """The weight update of a convolutional layer, [R, F, C, K, K]: Σ over examples and positions of δ times its patch.

    Args:
        delta_RNFHW: δ, [R, N, F, H′, W′].
        x_RNCHW: inputs of the layer.
        kernel: K.
        stride: of the convolution.
        precision: formats of storage and operands.
    """
    if delta_RNFHW.shape[0] > 1 and not per_replica(delta_RNFHW.device):
        operands = precision.operand(delta_RNFHW), precision.operand(x_RNCHW)
        g = stacked_conv.batched("outer", *operands, stride, kernel, fp32_precision=precision.fp32_precision)
        return g.to(precision.storage)

    def outer_one(delta: Tensor, x: Tensor) -> Tensor:
        shape = (delta.shape[1], x.shape[1], kernel, kernel)  # of w, whose values are not read
        w = torch.empty(shape, dtype=delta.dtype, device=delta.device, memory_format=torch.channels_last)
        return stacked_conv.gradient(delta, x, w, stride, (False, True, False))[1].to(precision.storage)

    delta, x = to_kernel_layout(precision.operand(delta_RNFHW)), to_kernel_layout(precision.operand(x_RNCHW))
    with precision.products(delta_RNFHW.device):
        return map_replicas(outer_one, delta, x)
