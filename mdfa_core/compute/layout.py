"""Memory layout: stacks of replicas with aligned slices, and the axis order that kernels read fastest.

Axes: R replica, N example, C channels, F filters, K kernel, H W space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CACHE_LINE = 64
"""Bytes. PyTorch's allocations start at a multiple of this."""

# glibc's allocator returns memory blocks of this size to the system when they are freed, and every training step then
# pays for fresh pages: up to 7 ms for 5 MB, which takes 0.04 ms to write. glibc raises its threshold to the largest
# block it has seen freed, up to 32 MiB. So we allocate and free one such block here. Other allocators ignore this.
torch.empty(31 << 20, dtype=torch.uint8)


def stack(replicas: Sequence[Tensor]) -> Tensor:
    """Copy tensors of equal shape into one tensor [R, …] with the layout of `empty_stack`."""
    stacked = empty_stack(len(replicas), replicas[0])
    for row, tensor in zip(stacked, replicas, strict=True):
        row.copy_(tensor)
    return stacked


def empty_stack(replicas: int, like: Tensor) -> Tensor:
    """An uninitialized tensor [R, *like.shape] whose every replica starts at a cache line.

    The last bit of a product can depend on the alignment of its operands. With this alignment, a replica's slice gives
    the same bits as a tensor of its own. If a replica's size is a multiple of 64 bytes, there are no gaps. The axis
    order in memory is that of `to_kernel_layout`.
    """
    line = CACHE_LINE // like.element_size()
    step = -(-like.numel() // line) * line
    order = (0, 2, 3, 1) if like.dim() == 4 else tuple(range(like.dim()))
    strides, stride = [0] * like.dim(), 1
    for axis in reversed(order):
        strides[axis], stride = stride, stride * like.shape[axis]
    storage = torch.empty(replicas * step, dtype=like.dtype, device=like.device)
    return storage.as_strided((replicas, *like.shape), (step, *strides))


def replica(tensor: Tensor, r: int) -> Tensor:
    """Replica `r` of a tensor [R or 1, …] as an aligned stack of one, [1, …]: a view if the slice is aligned."""
    return aligned(tensor[r : r + 1] if tensor.shape[0] > 1 else tensor)


def aligned(tensor: Tensor) -> Tensor:
    """`tensor` itself if it starts at a cache line, else a copy that does."""
    return tensor if tensor.data_ptr() % CACHE_LINE == 0 else tensor.clone(memory_format=torch.preserve_format)


def to_kernel_layout(tensor: Tensor) -> Tensor:
    """The same tensor in the memory order that kernels read fastest; a copy only if the order differs.

    A tensor with five axes, [R, N, C, H, W] or [R, F, C, K, K], belongs to a convolution and becomes channels-last: C
    varies fastest. All other tensors become contiguous.
    """
    if tensor.dim() == 5:
        last = tensor.permute(0, 1, 3, 4, 2).contiguous()
        # All strides are given, because an axis of length one may have any stride, and PyTorch infers the memory
        # format from the strides.
        _, n, h, w, c = last.shape
        return last.as_strided(tensor.shape, (n * h * w * c, h * w * c, 1, w * c, c))
    return tensor.contiguous()
