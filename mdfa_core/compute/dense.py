"""Products of fully-connected layers: forward, backward and weight update.

Axes: R replica, N example, C error channels, I/O units in and out. All replicas share an operand whose replica axis
is 1.

On a CPU without mixed precision there are three paths; TensorFloat-32 operands are rounded first. A large float32
product uses oneDNN if it is the faster library (`onednn.uses_onednn`). A stack of small products uses one batched call,
if a test at first use shows that every replica gets the bits it would get alone. All other products run replica by
replica. On other devices, and in mixed precision, PyTorch's batched product computes all replicas.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mdfa_core.compute import onednn
from mdfa_core.compute.onednn import Pointwise
from mdfa_core.compute.precision import Precision
from mdfa_core.compute.replicas import map_replicas, per_replica, random_operands

LARGE_PRODUCT = 1 << 22
"""Multiply-adds from which one replica's product is worth a oneDNN call, or a second thread."""

WORTH_FUSING = 1 << 18
"""Multiply-adds from which a fused activation saves more time than oneDNN's slower call costs."""

Index = tuple[int | slice, ...]
"""Index of a part of a weight tensor [R, O, I]."""

_TILE = 1 << 20  # elements of a weight update computed at a time, so that it is applied while it is in the cache
_BATCHED_WEIGHTS = 1 << 23  # elements of a stack's weights up to which batched calls are tried


def affine(
    x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, precision: Precision, activation: Pointwise | None = None
) -> Tensor:
    """f(x Wᵀ + b), the forward pass of a dense layer.

    Args:
        x_RNI: inputs.
        w_ROI: weights W.
        b_RO: biases.
        precision: formats of storage and operands.
        activation: f; None is the identity.

    Returns:
        Activations [R, N, O].
    """
    if not _cpu_unmixed(precision, w_ROI.device):
        return activated(product(x_RNI, w_ROI.mT, precision).add_(b_RO.unsqueeze(1)), activation)
    if precision.fp32_precision == "tf32":
        x_RNI, w_ROI = precision.operand(x_RNI), precision.operand(w_ROI)
    replicas, outputs, inputs = w_ROI.shape
    if replicas == 1:
        return _affine_one(x_RNI, w_ROI[0], b_RO[0], activation)  # for a small network, every view costs time
    examples = x_RNI.shape[1]
    if w_ROI.numel() <= _BATCHED_WEIGHTS and not _large(examples, inputs, outputs):
        shape = (replicas, examples, inputs, outputs)
        batched = _batched_affine(shape, activation, w_ROI.dtype, torch.get_num_threads(), onednn.uses_onednn())
        if batched is not None:
            return batched(x_RNI.expand(replicas, -1, -1), w_ROI, b_RO, activation)
    return map_replicas(lambda x, w, b: _affine_one(x, w, b, activation), x_RNI, w_ROI, b_RO)


def activated(a: Tensor, activation: Pointwise | None) -> Tensor:
    """f(a), in place if possible; None is the identity."""
    return a if activation is None else activation.applied_(a)


def _affine_one(x: Tensor, w: Tensor, b: Tensor, activation: Pointwise | None) -> Tensor:
    work = x.shape[-2] * w.numel()
    if work >= WORTH_FUSING and x.dtype is torch.float32 and onednn.uses_onednn():
        if activation is not None and activation.onednn is not None:
            return onednn.linear(x, w, b, *activation.onednn)
        if work >= LARGE_PRODUCT:
            return activated(onednn.linear(x, w, b), activation)
    y = functional.linear(x, w, b)
    return y if activation is None else activation.applied_(y)


def _affine_grouped(x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, activation: Pointwise | None) -> Tensor:
    """`affine` as one 1×1 convolution: replicas are its groups, examples its pixels."""
    replicas, outputs, inputs = w_ROI.shape
    examples = x_RNI.shape[1]
    rows = 8 if examples % 8 == 0 else 1  # oneDNN cannot share a one-row image well between threads
    columns, channels = examples // rows, replicas * inputs
    image = (
        x_RNI.transpose(0, 1)
        .contiguous()
        .as_strided((1, channels, rows, columns), (examples * channels, 1, columns * channels, channels))
    )
    w, b = w_ROI.reshape(-1, inputs, 1, 1), b_RO.reshape(-1)
    fused = onednn.post_operation(x_RNI, activation)
    if fused is not None:
        y = onednn.convolution(image, w, b, 1, *fused, groups=replicas)
    else:
        y = activated(torch.conv2d(image, w, b, groups=replicas), activation)
    return y.permute(0, 2, 3, 1).reshape(examples, replicas, outputs).transpose(0, 1).contiguous()


def _affine_baddbmm(x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, activation: Pointwise | None) -> Tensor:
    return activated(torch.baddbmm(b_RO.unsqueeze(1), x_RNI, w_ROI.mT), activation)


@functools.lru_cache(maxsize=256)
def _batched_affine(
    shape: tuple[int, int, int, int], activation: Pointwise | None, dtype: torch.dtype, threads: int, onednn: bool
) -> Callable[[Tensor, Tensor, Tensor, Pointwise | None], Tensor] | None:
    """The fastest batched call with which each replica gets the bits it gets alone; None if there is none."""
    replicas, examples, inputs, outputs = shape
    x, w, b = random_operands(
        (replicas, examples, inputs), (replicas, outputs, inputs), (replicas, outputs), dtype=dtype
    )
    alone = map_replicas(lambda x, w, b: _affine_one(x, w, b, activation), x, w, b)

    def same_bits(batched: Callable[..., Tensor]) -> bool:
        try:
            return torch.equal(batched(x, w, b, activation), alone)
        except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
            return False

    return next(filter(same_bits, (_affine_grouped, _affine_baddbmm)), None)


def product(x_RNI: Tensor, w_RIO: Tensor, precision: Precision) -> Tensor:
    """x w, [R, N, O]: the backward pass of a dense layer.

    `w_RIO` is the weights W of the layer above, or feedback weights B. Its rows are the units an error comes from.
    """
    if x_RNI.shape[2] == 1:
        return x_RNI * w_RIO  # one error channel: an outer product
    if not _cpu_unmixed(precision, x_RNI.device):
        return _matmul(x_RNI, w_RIO, precision)
    if precision.fp32_precision == "tf32":
        x_RNI, w_RIO = precision.operand(x_RNI), precision.operand(w_RIO)
    return map_replicas(_product_one, x_RNI, w_RIO)


def _matmul(a: Tensor, b: Tensor, precision: Precision) -> Tensor:
    """The batched product of a stack in one call."""
    with precision.products(a.device):
        return torch.matmul(precision.operand(a), precision.operand(b)).to(precision.storage)


def _product_one(x: Tensor, w: Tensor) -> Tensor:
    if x.dtype is torch.float32 and _large(x.shape[0], *w.shape) and onednn.uses_onednn():
        return onednn.linear(x, w.mT, None)
    return torch.mm(x, w)


def outer(delta_RNO: Tensor, x_RNI: Tensor, precision: Precision) -> Tensor:
    """Σₙ δₙᵀ xₙ, [R, O, I]: the weight update of a dense layer."""
    if not _cpu_unmixed(precision, x_RNI.device):
        return _matmul(delta_RNO.mT, x_RNI, precision)
    if precision.fp32_precision == "tf32":
        delta_RNO, x_RNI = precision.operand(delta_RNO), precision.operand(x_RNI)
    return map_replicas(lambda delta, x: _product_one(delta.mT, x), delta_RNO, x_RNI)


def outer_tiles(
    delta_RNO: Tensor, x_RNI: Tensor, precision: Precision, share: int = 1
) -> Iterator[tuple[Index, Tensor]]:
    """`outer` in tiles that are small enough to be applied before they leave the cache.

    Args:
        delta_RNO: δ.
        x_RNI: inputs of the layer.
        precision: formats of storage and operands.
        share: divides the tile size, for an optimizer that needs cache for tensors of its own.

    Yields:
        The index of a tile in [R, O, I], and the tile.
    """
    replicas, examples, outputs = delta_RNO.shape
    inputs = x_RNI.shape[2]
    if not (_cpu_unmixed(precision, x_RNI.device) and _large(examples, inputs, outputs)):
        yield (slice(None),), outer(delta_RNO, x_RNI, precision)
        return
    rows = max(16, _TILE // share // inputs // 16 * 16)
    rows = -(-outputs // -(-outputs // rows) // 16) * 16  # tiles of equal size: a small remainder costs a call, too
    for r in range(replicas):
        # Copy the transposes once for all tiles: columns at distances of a power of two compete for few cache lines.
        x_t = precision.operand(x_RNI[r if x_RNI.shape[0] > 1 else 0].mT.contiguous())
        delta_t = precision.operand(delta_RNO[r].mT.contiguous())
        for start in range(0, outputs, rows):
            part = slice(start, min(start + rows, outputs))
            yield (r, part), _product_one(delta_t[part], x_t.mT)


def prefers_add_outer(delta_RNO: Tensor, x_RNI: Tensor, precision: Precision) -> bool:
    """Whether `add_outer_` is the fastest way to apply a scaled `outer`. It is not if oneDNN computes the product."""
    if not _cpu_unmixed(precision, x_RNI.device):
        return not precision.mixed
    large = _large(delta_RNO.shape[1], delta_RNO.shape[2], x_RNI.shape[2])
    return not (large and delta_RNO.dtype is torch.float32 and onednn.uses_onednn())


def add_outer_(
    w_ROI: Tensor,
    delta_RNO: Tensor,
    x_RNI: Tensor,
    factors: Sequence[float],
    precision: Precision,
    *,
    equal: bool,
    folded: Tensor | None = None,
) -> None:
    """W ← W + factor · Σₙ δₙᵀ xₙ for every replica, in place: an SGD step that never stores the gradient.

    Args:
        w_ROI: weights W, changed in place.
        delta_RNO: δ.
        x_RNI: inputs of the layer.
        factors: one per replica.
        precision: formats of storage and operands.
        equal: whether all factors are equal, so that one call can serve all replicas.
        folded: the factors as [R, 1, 1]. If given and the factors differ, δ is scaled first and one call serves all
            replicas. The last bit can then differ from a run of one replica.
    """
    with precision.products(w_ROI.device):
        if folded is not None and not equal:
            delta_RNO = delta_RNO * folded
        if precision.fp32_precision == "tf32":
            delta_RNO, x_RNI = precision.operand(delta_RNO), precision.operand(x_RNI)
        _add_outer_(w_ROI, delta_RNO, x_RNI, factors, equal=equal, folded=folded is not None)


def _add_outer_(
    w_ROI: Tensor, delta_RNO: Tensor, x_RNI: Tensor, factors: Sequence[float], *, equal: bool, folded: bool
) -> None:
    replicas, outputs, inputs = w_ROI.shape
    if folded and not equal:
        torch.baddbmm(w_ROI, delta_RNO.mT, x_RNI.expand(replicas, -1, -1), out=w_ROI)
        return
    if equal:
        batched = not per_replica(w_ROI.device) or (
            w_ROI.numel() <= _BATCHED_WEIGHTS
            and _baddbmm_has_same_bits(
                replicas, delta_RNO.shape[1], inputs, outputs, w_ROI.dtype, torch.get_num_threads()
            )
        )
        if batched:
            x_RNI = x_RNI if x_RNI.shape[0] == replicas else x_RNI.expand(replicas, -1, -1)
            w_ROI.baddbmm_(delta_RNO.mT, x_RNI, alpha=factors[0])
            return
    for r, factor in enumerate(factors):
        w_ROI[r].addmm_(delta_RNO[r].mT, x_RNI[r if x_RNI.shape[0] > 1 else 0], alpha=factor)


@functools.lru_cache(maxsize=256)
def _baddbmm_has_same_bits(
    replicas: int, examples: int, inputs: int, outputs: int, dtype: torch.dtype, threads: int
) -> bool:
    """Whether one batched `add_outer_` gives each replica the bits it gets alone."""
    w, delta, x = random_operands(
        (replicas, outputs, inputs), (replicas, examples, outputs), (replicas, examples, inputs), dtype=dtype
    )
    alone = map_replicas(lambda w, delta, x: torch.addmm(w, delta.mT, x, alpha=-0.1), w, delta, x)
    return torch.equal(w.baddbmm_(delta.mT, x, alpha=-0.1), alone)


def project_error(error_RNC: Tensor, feedback: Tensor, precision: Precision) -> Tensor:
    """e B, [R, N, *units]: the output error through direct feedback weights [R, C, *units].

    The result has the memory order of the feedback weights.
    """
    if feedback.dim() != 5:
        return product(error_RNC, feedback, precision)
    last = feedback.permute(0, 1, 3, 4, 2)  # a view: feedback to a convolution is stored channels-last
    return product(error_RNC, last.flatten(2), precision).unflatten(2, last.shape[2:]).permute(0, 1, 4, 2, 3)


def project_error_through(
    error_RNC: Tensor, feedback: Tensor, saved: Tensor, activation: Pointwise, precision: Precision
) -> Tensor:
    """(e B) ⊙ f′(a), [R, N, *units]: δ of a layer under direct feedback, computed in the memory of e B.

    Args:
        error_RNC: output error e.
        feedback: B, [R, C, *units].
        saved: what the activation saved in the forward pass to compute f′(a), [R, N, *units].
        activation: f.
        precision: formats of storage and operands.
    """
    return activation.chained_(project_error(error_RNC, feedback, precision), saved)


def _cpu_unmixed(precision: Precision, device: torch.device) -> bool:
    """Whether the CPU's own paths apply."""
    return not precision.mixed and per_replica(device)


def _large(rows: int, inner: int, columns: int) -> bool:
    return rows * inner * columns >= LARGE_PRODUCT
