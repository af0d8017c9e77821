"""How the replicas of a stack are computed: one after the other, with the bits of a single run, or in batched calls.

On a CPU, a replica of a stack gets bit-identical results to a run of its own. There, a batched call is used only if a
test at first use shows that it gives those bits. On other devices, speed counts, and calls are always batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PER_REPLICA_DEVICES = frozenset({"cpu"})
"""Types of device on which every replica's results are bit-identical to a run of its own."""

_LONGEST_VECTOR = 64  # bytes of an AVX-512 register
_GRAIN_SIZE = 1 << 15  # at::internal::GRAIN_SIZE: the fewest elements PyTorch gives a thread


def per_replica(device: torch.device) -> bool:
    """Whether replicas on this device get bit-identical results to a run of their own (else calls are batched)."""
    return device.type in PER_REPLICA_DEVICES


def fills_whole_vectors(numbers: int, itemsize: int) -> bool:
    """Whether an elementwise operation gives every CPU thread whole pairs of the longest SIMD vectors.

    If it does, no element is handled by the scalar remainder loop, whose results can differ in the last bit. PyTorch
    splits an elementwise operation into equal parts of at least `_GRAIN_SIZE` elements.

    Args:
        numbers: elements of the tensor.
        itemsize: bytes of an element.
    """
    parts = min(torch.get_num_threads(), -(-numbers // _GRAIN_SIZE))
    return -(-numbers // parts) % (2 * _LONGEST_VECTOR // itemsize) == 0


def map_replicas(function: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """Apply `function` to every replica's operands and stack the results, [R, …].

    Args:
        function: takes one tensor per operand, without the replica axis.
        *operands: [R or 1, …]; all replicas share an operand whose replica axis is 1.
    """
    replicas = max(operand.shape[0] for operand in operands)
    if replicas == 1:
        return function(*(operand[0] for operand in operands)).unsqueeze(0)
    results = [function(*(o[r if o.shape[0] > 1 else 0] for o in operands)) for r in range(replicas)]
    if results[0].dim() == 4 and not results[0].is_contiguous():  # torch.stack would make channels-last contiguous
        return torch.stack([y.permute(0, 2, 3, 1) for y in results]).permute(0, 1, 4, 2, 3)
    return torch.stack(results)


def random_operands(*shapes: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
    """Normal random CPU tensors of these shapes from a fixed seed: operands to try a kernel on at its first use."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tuple(shape), generator=generator, dtype=dtype) for shape in shapes]
