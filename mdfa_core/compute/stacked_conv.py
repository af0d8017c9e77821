"""Convolutions of a stack of replicas in batched calls, by the algorithm that is fastest on the device.

Used on GPUs (see `replicas.per_replica`). There are several algorithms for each of a convolution's three products
(`ALGORITHMS`), equal but for rounding. The first use of a shape measures all of them; the choice is kept for later
processes (`choices`).

Axes: R replica, N example, C channels, F filters, K kernel, H W space, P output positions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdfa_core.compute import choices
from mdfa_core.compute.streams import side_by_side
from mdfa_core.compute.tensor_float import float32_products

_log = logging.getLogger(__name__)


def gradient(
    delta: Tensor, x: Tensor, w: Tensor, stride: int, mask: tuple[bool, bool, bool], groups: int = 1
) -> tuple[Tensor, ...]:
    """PyTorch's backward pass of a convolution without padding.

    Args:
        delta: δ, [N, F, H′, W′].
        x: inputs [N, C, H, W].
        w: filters [F, C/groups, K, K].
        stride: of the convolution.
        mask: which of (∂x, ∂w, ∂b) to compute.
        groups: of the convolution.

    Returns:
        (∂x, ∂w, ∂b); those not asked for are undefined.
    """
    gradients: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        delta, x, w, None, [stride, stride], [0, 0], [1, 1], False, [0, 0], groups, list(mask)
    )
    return gradients


def batched(kind: str, a: Tensor, b: Tensor, stride: int, *sizes: int, fp32_precision: str = "ieee") -> Tensor:
    """One of a convolution's three products for a stack of replicas, by the fastest algorithm for these shapes.

    Args:
        kind: `convolve` (forward, without bias), `error` (backward) or `outer` (weight update).
        a: for `convolve` x [R or 1, N, C, H, W], else δ [R, N, F, H′, W′].
        b: for `outer` x, else w [R, F, C, K, K].
        stride: of the convolution.
        *sizes: for `error` H and W of the result, for `outer` K.
        fp32_precision: how float32 operands are multiplied, as in `Precision`.

    Returns:
        `convolve`: [R, N, F, H′, W′]; `error`: [R, N, C, H, W]; `outer`: [R, F, C, K, K].
    """
    with float32_products(fp32_precision):
        product = Product(kind, tuple(a.shape), tuple(b.shape), stride, sizes, a.dtype, fp32_precision)
        name = fastest_algorithm(product, a.device)
        noted: dict[Product, str] | None = getattr(_notes, "taken", None)
        if noted is not None:
            noted[product] = name
        return ALGORITHMS[name][kind](a, b, stride, *sizes)


class Product(NamedTuple):
    """A convolution's product for a stack: the arguments of `batched`, with shapes and a dtype for the operands."""

    kind: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    stride: int
    sizes: tuple[int, ...]
    dtype: torch.dtype
    fp32_precision: str

    def __str__(self) -> str:
        a, b = ("x".join(map(str, shape)) for shape in (self.a, self.b))
        numbers = " ".join(map(str, (self.stride, *self.sizes)))
        return f"{self.kind} {a} {b} {numbers} {str(self.dtype).removeprefix('torch.')} {self.fp32_precision}"


_notes = threading.local()  # `taken`: where this thread notes its algorithms


@contextmanager
def noting(taken: dict[Product, str]) -> Iterator[None]:
    """In this `with` block, enter the algorithm of every product that this thread computes by `batched`."""
    before, _notes.taken = getattr(_notes, "taken", None), taken
    try:
        yield
    finally:
        _notes.taken = before


def described(taken: Mapping[Product, str]) -> str | None:
    """The products of each algorithm as one line of text; None if there are none."""
    products: dict[str, list[str]] = {}
    for product, name in taken.items():
        products.setdefault(name, []).append(str(product))
    return "; ".join(f"{name}: {', '.join(sorted(products[name]))}" for name in sorted(products)) or None


_chosen: dict[tuple[Product, torch.device], str] = {}
_choosing = threading.Lock()  # one thread measures at a time


def fastest_algorithm(product: Product, device: torch.device) -> str:
    """The name of the fastest algorithm for a product: of this process, of the file (`choices`), or measured now.

    The caller has set `fp32_precision`.
    """
    name = _chosen.get((product, device))
    if name is None:
        with _choosing:
            name = _chosen.get((product, device)) or _choose(product, device)
            _chosen[product, device] = name
    return name


def forget() -> None:
    """Forget the algorithms that this process has chosen."""
    _chosen.clear()


def _choose(product: Product, device: torch.device) -> str:
    where = choices.place(device, ALGORITHMS)
    known = choices.known(where, str(product)) if where else None
    if known in ALGORITHMS:
        return known
    name = _measure(product, device)
    kept = choices.keep(where, str(product), name) if where else name
    return kept if kept in ALGORITHMS else name


def _measure(product: Product, device: torch.device) -> str:
    """The name of the fastest algorithm: the best of three calls after a first one, whose result is compared.

    Algorithms that fail, most often for lack of memory, or that differ from the first one in `ALGORITHMS` are left out.

    Raises:
        RuntimeError: all of them fail.
    """
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(s, generator=generator, device=device, dtype=product.dtype) for s in (product.a, product.b))
    seconds: dict[str, float] = {}
    expected: Tensor | None = None
    failure: RuntimeError | None = None
    for name, products in ALGORITHMS.items():
        call = partial(products[product.kind], a, b, product.stride, *product.sizes)
        try:
            found = call()
            expected = found if expected is None else expected
            if not _agree(found, expected, product):
                _log.warning("%s: '%s' differs from the other algorithms and is not used", product, name)
                continue
            del found
            seconds[name] = min(_seconds(call, device) for _ in range(3))
        except RuntimeError as error:  # torch.OutOfMemoryError is one: im2col takes K² times the memory of its input
            failure = error
            _log.debug("%s: '%s' fails: %s", product, name, error)
    if not seconds:
        assert failure is not None
        raise failure
    best = min(seconds, key=lambda name: seconds[name])
    _log.debug("%s: %s", product, {name: f"{taken * 1e3:.3g} ms" for name, taken in seconds.items()})
    return best


def _agree(found: Tensor, expected: Tensor, product: Product) -> bool:
    """Whether two results of a product are equal but for rounding. float32's bound notices TensorFloat-32 (3e-4)."""
    few_bits = product.dtype not in (torch.float32, torch.float64) or product.fp32_precision == "tf32"
    bound = 2e-2 if few_bits else 1e-4
    difference, size = (tensor.float().norm() for tensor in (found - expected, expected))
    return bool(difference <= bound * size)


def _seconds(call: Callable[[], Tensor], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """Wait until the device has finished the work of this thread."""
    if device.type != "cpu":
        torch.accelerator.current_stream(device).synchronize()  # not other threads: one may be recording a CUDA graph


def _convolve_grouped(x: Tensor, w: Tensor, stride: int) -> Tensor:
    """Replicas as the groups of one convolution, or as more filters if they share an input."""
    replicas = w.shape[0]
    y = torch.conv2d(_channels(x), w.flatten(0, 1), None, stride, groups=x.shape[0])
    return y.unflatten(1, (replicas, -1)).transpose(0, 1)


def _error_grouped(delta: Tensor, w: Tensor, stride: int, height: int, width: int) -> Tensor:
    replicas, examples, channels = delta.shape[0], delta.shape[1], w.shape[2]
    x = delta.new_empty(1).expand(examples, replicas * channels, height, width)  # only its shape is read
    y = gradient(_channels(delta), x, w.flatten(0, 1), stride, (True, False, False), groups=replicas)[0]
    return y.unflatten(1, (replicas, channels)).transpose(0, 1)


def _outer_grouped(delta: Tensor, x: Tensor, stride: int, kernel: int) -> Tensor:
    replicas, filters, channels = delta.shape[0], delta.shape[2], x.shape[2]
    w = delta.new_empty((replicas * filters, channels, kernel, kernel))  # its values are not read
    g = gradient(_channels(delta), _channels(x), w, stride, (False, True, False), groups=x.shape[0])[1]
    return g.unflatten(0, (replicas, filters))


def _channels(x: Tensor) -> Tensor:
    """[R, N, C, H, W] as [N, R·C, H, W]."""
    return x.transpose(0, 1).flatten(1, 2)


def _convolve_unfolded(x: Tensor, w: Tensor, stride: int) -> Tensor:
    """One batched product of the filters with the input's patches as columns (im2col)."""
    filters, kernel, (height, width) = w.shape[1], w.shape[3], x.shape[3:]
    columns = _patches(x, kernel, stride)
    y = torch.matmul(w.flatten(2), columns)  # [R, F, N·P]
    size = ((height - kernel) // stride + 1, (width - kernel) // stride + 1)
    return y.reshape(w.shape[0], filters, x.shape[1], *size).transpose(1, 2)


def _error_unfolded(delta: Tensor, w: Tensor, stride: int, height: int, width: int) -> Tensor:
    replicas, examples, filters = delta.shape[:3]
    kernel = w.shape[3]
    columns = torch.matmul(w.flatten(2).mT, delta.transpose(1, 2).reshape(replicas, filters, -1))  # [R, C·K·K, N·P]
    patches = columns.unflatten(2, (examples, -1)).transpose(1, 2).flatten(0, 1)
    x = functional.fold(patches, (height, width), (kernel, kernel), stride=stride)
    return x.unflatten(0, (replicas, examples))


def _outer_unfolded(delta: Tensor, x: Tensor, stride: int, kernel: int) -> Tensor:
    replicas, _, filters = delta.shape[:3]
    used = [(size - 1) * stride + kernel for size in delta.shape[3:]]  # drop the edge that no patch reaches
    columns = _patches(x[..., : used[0], : used[1]], kernel, stride)
    g = torch.matmul(delta.transpose(1, 2).reshape(replicas, filters, -1), columns.mT)
    return g.reshape(replicas, filters, x.shape[2], kernel, kernel)


def _patches(x: Tensor, kernel: int, stride: int) -> Tensor:
    """The input patch of every output position of x [R, N, C, H, W], as columns [R, C·K·K, N·P] (im2col)."""
    columns = functional.unfold(x.flatten(0, 1), (kernel, kernel), stride=stride)
    return columns.unflatten(0, x.shape[:2]).transpose(1, 2).flatten(2)


def _convolve_channels_last(x: Tensor, w: Tensor, stride: int) -> Tensor:
    """As `_convolve_grouped`, with the channels of a pixel side by side in memory."""
    y = torch.conv2d(_channels_last(x), _last(w.flatten(0, 1)), None, stride, groups=x.shape[0])
    return y.unflatten(1, (w.shape[0], -1)).transpose(0, 1)


def _error_channels_last(delta: Tensor, w: Tensor, stride: int, height: int, width: int) -> Tensor:
    replicas, examples, channels = delta.shape[0], delta.shape[1], w.shape[2]
    x = delta.new_empty(1).expand(examples, replicas * channels, height, width)  # only its shape is read
    filters = _last(w.flatten(0, 1))
    y = gradient(_channels_last(delta), x, filters, stride, (True, False, False), groups=replicas)[0]
    return y.unflatten(1, (replicas, channels)).transpose(0, 1)


def _outer_channels_last(delta: Tensor, x: Tensor, stride: int, kernel: int) -> Tensor:
    replicas, filters, channels = delta.shape[0], delta.shape[2], x.shape[2]
    if delta.device.type == "cpu":  # in PyTorch 2.13.0, oneDNN's kernel, not used for float64, writes beyond its memory
        made, x = delta.double(), x.double()
    else:
        made = delta
    w = _last(made.new_empty((replicas * filters, channels, kernel, kernel)))  # its values are not read
    mask = (False, True, False)
    g = gradient(_channels_last(made), _channels_last(x), w, stride, mask, groups=x.shape[0])[1]
    return g.unflatten(0, (replicas, filters)).to(delta.dtype)


def _channels_last(x: Tensor) -> Tensor:
    """[R, N, C, H, W] as [N, R·C, H, W] in the memory order N H W R C."""
    return x.permute(1, 3, 4, 0, 2).contiguous().flatten(3).permute(0, 3, 1, 2)


def _last(w: Tensor) -> Tensor:
    return w.contiguous(memory_format=torch.channels_last)


Caller = Callable[[Sequence[Callable[[], Tensor]], torch.device], list[Tensor]]
"""Makes independent calls and returns their results."""


def _in_turn(calls: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    return [call() for call in calls]


def _convolve_each(made: Caller, x: Tensor, w: Tensor, stride: int) -> Tensor:
    """One call for every replica."""
    calls = [partial(torch.conv2d, x[r if len(x) > 1 else 0], w[r], None, stride) for r in range(len(w))]
    return torch.stack(made(calls, w.device))


def _error_each(made: Caller, delta: Tensor, w: Tensor, stride: int, height: int, width: int) -> Tensor:
    rows = [slice(r, r + 1) for r in range(len(w))]
    calls = [partial(_error_grouped, delta[r], w[r], stride, height, width) for r in rows]
    return torch.cat(made(calls, w.device))


def _outer_each(made: Caller, delta: Tensor, x: Tensor, stride: int, kernel: int) -> Tensor:
    rows = [slice(r, r + 1) for r in range(len(delta))]
    calls = [partial(_outer_grouped, delta[r], x[r] if len(x) > 1 else x, stride, kernel) for r in rows]
    return torch.cat(made(calls, delta.device))


def _each(made: Caller) -> dict[str, Callable[..., Tensor]]:
    return {
        "convolve": partial(_convolve_each, made),
        "error": partial(_error_each, made),
        "outer": partial(_outer_each, made),
    }


ALGORITHMS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "grouped": {"convolve": _convolve_grouped, "error": _error_grouped, "outer": _outer_grouped},
    "unfolded": {"convolve": _convolve_unfolded, "error": _error_unfolded, "outer": _outer_unfolded},
    "channels last": {
        "convolve": _convolve_channels_last,
        "error": _error_channels_last,
        "outer": _outer_channels_last,
    },
    "by replica": _each(_in_turn),
    "on streams": _each(side_by_side),
}
"""Algorithm → kind of product → function. All algorithms give equal results but for rounding.

`channels last` and `on streams` have never run on a GPU.
"""
