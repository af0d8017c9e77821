"""The kernels that layers, rules and optimizers call, in one name space: `from mdfa_core.compute import kernels`.

They compute over a stack of replicas, each by the fastest exact path of the device. The modules behind:

- `dense`: products of fully-connected layers.
- `conv`: products of convolutional layers; `stacked_conv` for stacks of replicas on a GPU.
- `layout`: stacks, alignment and memory order.
- `replicas`: whether replicas are computed one by one or in batched calls.
- `onednn`: the library for large float32 products on a CPU.
- `precision`: formats of storage and operands; `tensor_float` for TensorFloat-32.

Axes: R replica, N example, I/O units in and out, C channels, F filters, K kernel, H W space. All replicas share an
operand whose replica axis is 1.
"""

from mdfa_core.compute.conv import convolve, convolve_error, convolve_outer
from mdfa_core.compute.dense import (
    LARGE_PRODUCT,
    Index,
    add_outer_,
    affine,
    outer,
    outer_tiles,
    prefers_add_outer,
    product,
    project_error,
    project_error_through,
)
from mdfa_core.compute.layout import CACHE_LINE, aligned, empty_stack, replica, stack, to_kernel_layout
from mdfa_core.compute.onednn import GEMM_VARIABLE, GEMMS, Pointwise, uses_onednn
from mdfa_core.compute.precision import PRECISIONS, Precision, accumulation_dtype, check_device, precision_named
from mdfa_core.compute.replicas import fills_whole_vectors, per_replica

__all__ = [
    "CACHE_LINE",
    "GEMMS",
    "GEMM_VARIABLE",
    "LARGE_PRODUCT",
    "PRECISIONS",
    "Index",
    "Pointwise",
    "Precision",
    "accumulation_dtype",
    "add_outer_",
    "affine",
    "aligned",
    "check_device",
    "convolve",
    "convolve_error",
    "convolve_outer",
    "empty_stack",
    "fills_whole_vectors",
    "outer",
    "outer_tiles",
    "per_replica",
    "precision_named",
    "prefers_add_outer",
    "product",
    "project_error",
    "project_error_through",
    "replica",
    "stack",
    "to_kernel_layout",
    "uses_onednn",
]
