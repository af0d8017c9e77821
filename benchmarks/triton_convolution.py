"""An experiment: the forward convolution of a stack as an implicit matrix product in Triton, beside the engine's ways.

    TRITON_INTERPRET=1 python benchmarks/triton_convolution.py     on a CPU: equal to PyTorch on small shapes?
    python benchmarks/triton_convolution.py                        on a GPU: equal, and how fast?

It needs Triton (`pip install triton`; PyTorch for CUDA brings it along). The kernel has run in Triton's interpreter
only, which ignores `input_precision`: rounding and speed were never tried. The engine does not use it. See
docs/contributing/notes/performance.md, "An implicit product in Triton".
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from functools import partial
from typing import Any

if importlib.util.find_spec("triton") is None:
    sys.exit(f"triton_convolution.py: it needs Triton, not found by {sys.executable}: pip install triton")

import torch
import triton
import triton.language as tl
from torch import Tensor

from mdfa_core.bench.timing import interleaved
from mdfa_core.compute import stacked_conv
from mdfa_core.compute.tensor_float import float32_products

TILES = {"FILTERS": 64, "POINTS": 64, "DEPTH": 32}  # rows, columns and depth of a product's block; not tuned
BOUND = 1e-5  # relative difference from float64
SMALL = ((3, 3, 2, 3, 8, 6, 4, 3, 1), (3, 1, 2, 3, 8, 6, 1, 2, 3), (2, 2, 3, 17, 9, 9, 33, 3, 2))
LARGE = (  # CIFAR conv, 16 replicas: R, R of the inputs, N, C, H, W, F, K, stride
    (16, 1, 64, 3, 32, 32, 96, 5, 2),
    (16, 16, 64, 96, 14, 14, 96, 3, 2),
    (16, 16, 64, 96, 6, 6, 96, 3, 1),
)


@triton.jit
def forward(
    x, w, y, channels, height, width, filters, out_height, out_width, points, stride, per_replica,
    KERNEL: tl.constexpr, FILTERS: tl.constexpr, POINTS: tl.constexpr, DEPTH: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A block of y[r, n, f, i, j] = Σ over c, k, l of w[r, f, c, k, l] · x[r, n, c, i·stride + k, j·stride + l].

    A column of the product is a point (n, i, j), a row is a filter, and the summed index is (c, k, l). Patches are read
    where they lie in x and are never written (im2col without its memory).
    """
    replica = tl.program_id(2)
    f = tl.program_id(1) * FILTERS + tl.arange(0, FILTERS)
    p = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    area = out_height * out_width
    n, position = p // area, p % area
    corner = (position // out_width) * stride * width + (position % out_width) * stride
    patch = replica.to(tl.int64) * per_replica + n * channels * height * width + corner
    depth = channels * KERNEL * KERNEL
    total = tl.zeros((FILTERS, POINTS), dtype=tl.float32)
    for start in range(0, depth, DEPTH):
        k = start + tl.arange(0, DEPTH)
        tap = k % (KERNEL * KERNEL)
        offset = (k // (KERNEL * KERNEL)) * height * width + (tap // KERNEL) * width + tap % KERNEL
        rows = (replica.to(tl.int64) * filters + f[:, None]) * depth + k[None, :]
        a = tl.load(w + rows, mask=(f[:, None] < filters) & (k[None, :] < depth), other=0.0)
        b = tl.load(x + patch[None, :] + offset[:, None], mask=(k[:, None] < depth) & (p[None, :] < points), other=0.0)
        total = tl.dot(a, b, total, input_precision=PRECISION)
    examples = replica.to(tl.int64) * (points // area) + n[None, :]
    to = (examples * filters + f[:, None]) * area + position[None, :]
    tl.store(y + to, total, mask=(f[:, None] < filters) & (p[None, :] < points))


def convolve(x: Tensor, w: Tensor, stride: int, precision: str = "tf32x3") -> Tensor:
    """The forward product of `stacked_conv.batched` in float32.

    Args:
        x: inputs [R or 1, N, C, H, W].
        w: filters [R, F, C, K, K].
        stride: of the convolution.
        precision: `input_precision` of `tl.dot`: `tf32x3` (three TensorFloat-32 products), `ieee` or `tf32`.
    """
    (replicas, filters, channels, kernel, _), (examples, _, height, width) = w.shape, x.shape[1:]
    x, w = x.contiguous(), w.contiguous()
    out = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    y = x.new_empty((replicas, examples, filters, *out))
    points = examples * out[0] * out[1]
    grid = triton.cdiv(points, TILES["POINTS"]), triton.cdiv(filters, TILES["FILTERS"]), replicas
    forward[grid](
        x, w, y, channels, height, width, filters, *out, points, stride, x.stride(0) if len(x) > 1 else 0,
        KERNEL=kernel, PRECISION=precision, **TILES,
    )  # fmt: skip
    return y


def difference(shape: tuple[int, ...], precision: str, device: torch.device) -> float:
    """Norm of the difference from PyTorch's float64, relative to the result's."""
    x, w, stride = operands(shape, device)
    exact = torch.stack(
        [torch.conv2d(x[r if len(x) > 1 else 0].double(), w[r].double(), None, stride) for r in range(len(w))]
    )
    return ((convolve(x, w, stride, precision).double() - exact).norm() / exact.norm()).item()


def operands(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, int]:
    replicas, inputs, examples, channels, height, width, filters, kernel, stride = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((inputs, examples, channels, height, width), generator=generator)
    w = torch.randn((replicas, filters, channels, kernel, kernel), generator=generator)
    return x.to(device), w.to(device), stride


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if not interpreted and not torch.cuda.is_available():
        sys.exit(
            "triton_convolution.py: there is no CUDA device: set TRITON_INTERPRET=1 to check the kernel on the CPU"
        )
    device = torch.device("cpu" if interpreted else "cuda")
    right = True
    for shape in SMALL if interpreted else (*SMALL, *LARGE):
        for precision in ("ieee", "tf32x3"):
            found = difference(shape, precision, device)
            right &= found <= BOUND
            print(f"{shape} {precision}: relative difference {found:.1e}{'' if found <= BOUND else ', WRONG'}")
        if interpreted:
            continue
        x, w, stride = operands(shape, device)
        ways: dict[str, Any] = {f"Triton {p}": partial(convolve, x, w, stride, p) for p in ("ieee", "tf32x3", "tf32")}
        ways |= {name: partial(way["convolve"], x, w, stride) for name, way in stacked_conv.ALGORITHMS.items()}
        with float32_products("ieee"):
            blocks = interleaved(ways, rounds=7, seconds=0.05, wait=torch.cuda.synchronize)
        print("  " + ", ".join(f"{name} {taken.spread.median * 1e3:.3g} ms" for name, taken in blocks.items()))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
