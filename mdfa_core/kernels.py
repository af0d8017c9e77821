"""The products a layer is made of, over replicas, each by the fastest exact path this machine has.

Axes: R replica, N example, I/O units in and out, C channels, F filters, K kernel, H W space. An operand whose replica
axis is 1 is shared by all replicas.

On a CPU in float32 a large product goes through oneDNN where that serves best (see `onednn_serves`), else through the
BLAS that PyTorch was built with. A stack of small products goes through one call for all of them, if a test at first
use shows that this call gives every replica the very bits it gets alone; otherwise, and for large products, replica by
replica. Every other device (and precision) takes PyTorch's batched product, and for convolutions of several replicas
whichever of three ways is measured to be the fastest there at first use.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mdfa_core import convolutions
from mdfa_core.activations import Activation
from mdfa_core.errors import DeviceError, InvalidValue, UnknownName

LARGE = 1 << 22
"""Multiply-adds from which one replica's product is worth a oneDNN call of its own, or two threads."""

WORTH_FUSING = 1 << 18
"""Multiply-adds from which oneDNN's fused activation makes up for the dearer call."""

GEMM_VARIABLE = "MDFA_GEMM"
GEMMS = ("auto", "onednn", "addmm")

_TILE = 1 << 20  # numbers of a weight update made at a time, so that it is applied while it is in the cache
_STACK = 1 << 23  # numbers of a stack's weights up to which products of all replicas in one call are considered

Index = tuple[int | slice, ...]

_VECTOR = 64  # bytes of the longest vectors a CPU has: AVX-512's
_GRAIN = 1 << 15  # at::internal::GRAIN_SIZE

CACHE_LINE = 64  # bytes; PyTorch's allocations start at a multiple of it

# The C library's allocator (glibc) hands memory of this size back to the system when it is freed, and every step then
# pays for fresh pages: up to 7 ms for 5 MB, where writing them takes 0.04 ms. It adapts to the largest block it has
# seen freed, up to 32 MiB; so show it one. Other allocators are not affected.
torch.empty(31 << 20, dtype=torch.uint8)


@dataclass(frozen=True)
class Precision:
    """What weights, activations and updates are stored in, and what the products' operands are rounded to."""

    storage: torch.dtype
    operands: torch.dtype

    def operand(self, tensor: Tensor) -> Tensor:
        """`tensor` as a product takes it."""
        return tensor.to(self.operands)

    @functools.cached_property
    def mixed(self) -> bool:
        """Whether operands are rounded."""
        return self.storage is not self.operands


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "float64": Precision(torch.float64, torch.float64),
    "bfloat16": Precision(torch.float32, torch.bfloat16),
}


def summing_dtype(device: torch.device) -> torch.dtype:
    """What long sums are kept in: float64, or float32 where the device has no more (Metal)."""
    return torch.float32 if device.type == "mps" else torch.float64


def precision_named(name: str) -> Precision:
    """The precision called `name`.

    Raises:
        UnknownName: there is none.
    """
    if name not in PRECISIONS:
        raise UnknownName("precision", name, PRECISIONS)
    return PRECISIONS[name]


# ------------------------------------------------------------------------------------------------- which path is taken


@functools.cache
def _onednn_works() -> bool:
    """Whether PyTorch has its private fused linear operator here, and it computes what it should."""
    try:
        generator = torch.Generator().manual_seed(0)
        x, w, b = (torch.randn(shape, generator=generator) for shape in ((64, 96), (80, 96), (80,)))
        exact = torch.addmm(b.double(), x.double(), w.double().mT)
        for name, arguments, function in (("none", [], lambda a: a), ("tanh", [], torch.tanh)):
            if not torch.allclose(_linear(x, w, b, name, arguments).double(), function(exact), rtol=1e-5, atol=1e-5):
                return False
        return torch.allclose(_linear(x.mT, x.mT, None).double(), (x.mT @ x).double(), rtol=1e-5, atol=1e-4)
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False


def onednn_serves() -> bool:
    """Whether large products go through oneDNN: MDFA_GEMM=onednn|addmm says so, or `auto` chooses.

    `auto` takes it on CPUs with AVX-512, where MKL uses only half their width unless they are Intel's.

    Raises:
        InvalidValue: MDFA_GEMM is something else.
        DeviceError: oneDNN is forced, but PyTorch's fused operator is missing or wrong here.
    """
    # Not `get`: a step asks often, and inside it a variable that is missing costs an exception.
    return _gemm_choice(os.environ[GEMM_VARIABLE] if GEMM_VARIABLE in os.environ else "auto")  # noqa: SIM401


@functools.cache
def _gemm_choice(wanted: str) -> bool:
    wanted = wanted or "auto"  # an empty variable is as good as none
    if wanted not in GEMMS:
        raise InvalidValue(f"{GEMM_VARIABLE} is {wanted!r}: choose one of {', '.join(GEMMS)}")
    if wanted == "auto":
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512") and _onednn_works()
    if wanted == "onednn" and not _onednn_works():
        raise DeviceError(
            f"{GEMM_VARIABLE}=onednn was asked for, but this PyTorch lacks the fused linear operator: use auto or addmm"
        )
    return wanted == "onednn"


def _linear(x: Tensor, w: Tensor, b: Tensor | None, post: str = "none", arguments: Sequence[float] = ()) -> Tensor:
    """`post`(x wᵀ + b) by oneDNN; any strides."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, w, b, post, list(arguments), "")
    return y


def in_whole_vectors(numbers: int, itemsize: int) -> bool:
    """Whether every CPU thread that works on so many numbers, one by one, has pairs of the longest vectors only.

    What is done element by element, PyTorch shares between threads in equal parts of at least `_GRAIN` numbers.
    """
    parts = min(torch.get_num_threads(), -(-numbers // _GRAIN))
    return -(-numbers // parts) % (2 * _VECTOR // itemsize) == 0


def in_turn(device: torch.device) -> bool:
    """Whether replicas get the bits they get alone there: a CPU's do. Elsewhere all are worked on in common calls."""
    return device.type == "cpu"


def _plain(precision: Precision, device: torch.device) -> bool:
    """Whether the CPU's own float paths apply."""
    return not precision.mixed and in_turn(device)


def _large(rows: int, inner: int, columns: int) -> bool:
    return rows * inner * columns >= LARGE


# ------------------------------------------------------------------------------------------------------- dense layers


def affine(
    x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, precision: Precision, activation: Activation | None = None
) -> Tensor:
    """f(x Wᵀ + b), [R, N, O]; f is the identity if left out."""
    if not _plain(precision, w_ROI.device):
        return _activated(product(x_RNI, w_ROI.mT, precision).add_(b_RO.unsqueeze(1)), activation)
    replicas, outputs, inputs = w_ROI.shape
    if replicas == 1:
        return _affine_one(x_RNI, w_ROI[0], b_RO[0], activation)  # every view of a small net's tensors counts
    examples = x_RNI.shape[1]
    if w_ROI.numel() <= _STACK and not _large(examples, inputs, outputs):
        shape = (replicas, examples, inputs, outputs)
        path = _affine_path(shape, activation, w_ROI.dtype, torch.get_num_threads(), onednn_serves())
        if path is not None:
            return path(x_RNI.expand(replicas, -1, -1), w_ROI, b_RO, activation)
    return _each(lambda x, w, b: _affine_one(x, w, b, activation), x_RNI, w_ROI, b_RO)


def _affine_one(x: Tensor, w: Tensor, b: Tensor, activation: Activation | None) -> Tensor:
    work = x.shape[-2] * w.numel()
    if work >= WORTH_FUSING and x.dtype is torch.float32 and onednn_serves():
        if activation is not None and activation.onednn is not None:
            return _linear(x, w, b, *activation.onednn)
        if work >= LARGE:
            return _activated(_linear(x, w, b), activation)
    y = functional.linear(x, w, b)
    return y if activation is None else activation.applied_(y)


def _activated(a: Tensor, activation: Activation | None) -> Tensor:
    return a if activation is None else activation.applied_(a)


def _affine_grouped(x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, activation: Activation | None) -> Tensor:
    """All replicas' f(x Wᵀ + b) as the groups of one 1×1 convolution, whose pixels are the examples."""
    replicas, outputs, inputs = w_ROI.shape
    examples = x_RNI.shape[1]
    rows = 8 if examples % 8 == 0 else 1  # a long thin image leaves oneDNN little to share between threads
    columns, channels = examples // rows, replicas * inputs
    image = (
        x_RNI.transpose(0, 1)
        .contiguous()
        .as_strided((1, channels, rows, columns), (examples * channels, 1, columns * channels, channels))
    )
    w, b = w_ROI.reshape(-1, inputs, 1, 1), b_RO.reshape(-1)
    fused = _fused(x_RNI, activation)
    if fused is not None:
        y = _convolution(image, w, b, 1, *fused, groups=replicas)
    else:
        y = _activated(torch.conv2d(image, w, b, groups=replicas), activation)
    return y.permute(0, 2, 3, 1).reshape(examples, replicas, outputs).transpose(0, 1).contiguous()


def _affine_batched(x_RNI: Tensor, w_ROI: Tensor, b_RO: Tensor, activation: Activation | None) -> Tensor:
    return _activated(torch.baddbmm(b_RO.unsqueeze(1), x_RNI, w_ROI.mT), activation)


@functools.lru_cache(maxsize=256)
def _affine_path(
    shape: tuple[int, int, int, int], activation: Activation | None, dtype: torch.dtype, threads: int, onednn: bool
) -> Callable[[Tensor, Tensor, Tensor, Activation | None], Tensor] | None:
    """The fastest call for all replicas that gives each the bits it gets alone, or None."""
    replicas, examples, inputs, outputs = shape
    x, w, b = _samples((replicas, examples, inputs), (replicas, outputs, inputs), (replicas, outputs), dtype=dtype)
    alone = _each(lambda x, w, b: _affine_one(x, w, b, activation), x, w, b)

    def serves(path: Callable[..., Tensor]) -> bool:
        try:
            return torch.equal(path(x, w, b, activation), alone)
        except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
            return False

    return next(filter(serves, (_affine_grouped, _affine_batched)), None)


def product(x_RNI: Tensor, w_RIO: Tensor, precision: Precision) -> Tensor:
    """x w, [R, N, O]: backward with w = W or feedback B, whose rows are the units an error comes from."""
    if x_RNI.shape[2] == 1:
        return x_RNI * w_RIO  # one error channel: an outer product
    if not _plain(precision, x_RNI.device):
        return torch.matmul(precision.operand(x_RNI), precision.operand(w_RIO)).to(precision.storage)
    return _each(_product_one, x_RNI, w_RIO)


def _product_one(x: Tensor, w: Tensor) -> Tensor:
    if x.dtype is torch.float32 and _large(x.shape[0], *w.shape) and onednn_serves():
        return _linear(x, w.mT, None)
    return torch.mm(x, w)


def outer(delta_RNO: Tensor, x_RNI: Tensor, precision: Precision) -> Tensor:
    """Σₙ δₙᵀ xₙ, [R, O, I]: a dense layer's weight update."""
    if not _plain(precision, x_RNI.device):
        return torch.matmul(precision.operand(delta_RNO.mT), precision.operand(x_RNI)).to(precision.storage)
    return _each(lambda delta, x: _product_one(delta.mT, x), delta_RNO, x_RNI)


def outer_tiles(
    delta_RNO: Tensor, x_RNI: Tensor, precision: Precision, share: int = 1
) -> Iterator[tuple[Index, Tensor]]:
    """The parts of `outer` with the place each belongs to, small enough to be applied before they leave the cache.

    `share` makes them so many times smaller: for an update that needs room of its own beside each part.
    """
    replicas, examples, outputs = delta_RNO.shape
    inputs = x_RNI.shape[2]
    if not (_plain(precision, x_RNI.device) and _large(examples, inputs, outputs)):
        yield (slice(None),), outer(delta_RNO, x_RNI, precision)
        return
    rows = max(16, _TILE // share // inputs // 16 * 16)
    rows = -(-outputs // -(-outputs // rows) // 16) * 16  # as equal as may be: a small rest is a call of its own
    for r in range(replicas):
        # Transposed copies, made once for all tiles: columns a power of two apart would share a few cache lines.
        x_t = x_RNI[r if x_RNI.shape[0] > 1 else 0].mT.contiguous()
        delta_t = delta_RNO[r].mT.contiguous()
        for start in range(0, outputs, rows):
            part = slice(start, min(start + rows, outputs))
            yield (r, part), _product_one(delta_t[part], x_t.mT)


def folds(delta_RNO: Tensor, x_RNI: Tensor, precision: Precision) -> bool:
    """Whether `add_outer_` is the best way to apply a scaled `outer`: not where oneDNN makes the product faster."""
    if not _plain(precision, x_RNI.device):
        return not precision.mixed
    large = _large(delta_RNO.shape[1], delta_RNO.shape[2], x_RNI.shape[2])
    return not (large and delta_RNO.dtype is torch.float32 and onednn_serves())


def add_outer_(
    w_ROI: Tensor,
    delta_RNO: Tensor,
    x_RNI: Tensor,
    factors: Sequence[float],
    *,
    equal: bool,
    folded: Tensor | None = None,
) -> None:
    """W ← W + factor · Σₙ δₙᵀ xₙ for every replica, in place: a gradient step without a gradient.

    `equal` says that all factors are the same, which lets one call do it. `folded`, the factors as [R, 1, 1], lets one
    call do it where they differ: δ is scaled first, which is not what a replica alone does to the last bit.
    """
    replicas, outputs, inputs = w_ROI.shape
    if folded is not None and not equal:
        torch.baddbmm(w_ROI, (delta_RNO * folded).mT, x_RNI.expand(replicas, -1, -1), out=w_ROI)
        return
    if equal:
        batched = not in_turn(w_ROI.device) or (
            w_ROI.numel() <= _STACK
            and _outer_path(replicas, delta_RNO.shape[1], inputs, outputs, w_ROI.dtype, torch.get_num_threads())
        )
        if batched:
            x_RNI = x_RNI if x_RNI.shape[0] == replicas else x_RNI.expand(replicas, -1, -1)
            w_ROI.baddbmm_(delta_RNO.mT, x_RNI, alpha=factors[0])
            return
    for r, factor in enumerate(factors):
        w_ROI[r].addmm_(delta_RNO[r].mT, x_RNI[r if x_RNI.shape[0] > 1 else 0], alpha=factor)


@functools.lru_cache(maxsize=256)
def _outer_path(replicas: int, examples: int, inputs: int, outputs: int, dtype: torch.dtype, threads: int) -> bool:
    """Whether one batched call gives each replica the bits `add_outer_` gives it alone."""
    w, delta, x = _samples(
        (replicas, outputs, inputs), (replicas, examples, outputs), (replicas, examples, inputs), dtype=dtype
    )
    alone = _each(lambda w, delta, x: torch.addmm(w, delta.mT, x, alpha=-0.1), w, delta, x)
    return torch.equal(w.baddbmm_(delta.mT, x, alpha=-0.1), alone)


def spread(error_RNC: Tensor, feedback: Tensor, precision: Precision) -> Tensor:
    """e B for feedback [R, C, *units], [R, N, *units], in the order the feedback has in memory."""
    if feedback.dim() != 5:
        return product(error_RNC, feedback, precision)
    last = feedback.permute(0, 1, 3, 4, 2)  # a view of channels-last numbers
    return product(error_RNC, last.flatten(2), precision).unflatten(2, last.shape[2:]).permute(0, 1, 4, 2, 3)


def spread_through(
    error_RNC: Tensor, feedback: Tensor, saved: Tensor, activation: Activation, precision: Precision
) -> Tensor:
    """(e B) ⊙ f′(a), [R, N, *units], in the place of e B."""
    return activation.chained_(spread(error_RNC, feedback, precision), saved)


# ------------------------------------------------------------------------------------------------------- convolutions


def convolve(
    x_RNCHW: Tensor,
    w_RFCKK: Tensor,
    b_RF: Tensor,
    stride: int,
    precision: Precision,
    activation: Activation | None = None,
) -> Tensor:
    """f(valid cross-correlation plus bias), [R, N, F, H′, W′]; f is the identity if left out."""

    def one(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if precision.mixed:
            y = torch.conv2d(precision.operand(x), precision.operand(w), None, stride).to(precision.storage)
            return _activated(y.add_(b[:, None, None]), activation)
        if fused is not None:
            return _convolution(x, w, b, stride, *fused)
        return _activated(torch.conv2d(x, w, b, stride), activation)

    if w_RFCKK.shape[0] > 1 and not in_turn(x_RNCHW.device):
        y = convolutions.batched("convolve", precision.operand(x_RNCHW), precision.operand(w_RFCKK), stride)
        return _activated(y.to(precision.storage).add_(b_RF[:, None, :, None, None]), activation)
    fused = _fused(x_RNCHW, activation) if _plain(precision, x_RNCHW.device) else None
    if fused is not None and not _fuses(x_RNCHW.shape[1:], w_RFCKK.shape[1:], stride, activation):
        fused = None
    with _exactly(x_RNCHW.device):
        return _each(one, laid_out(x_RNCHW), laid_out(w_RFCKK), b_RF)


def _fused(x: Tensor, activation: Activation | None) -> tuple[str, tuple[float, ...]] | None:
    """oneDNN's post-operation for an activation, where it serves for such an input."""
    if activation is None or x.dtype is not torch.float32 or not onednn_serves():
        return None
    return activation.onednn


def _convolution(
    x: Tensor, w: Tensor, b: Tensor, stride: int, post: str, arguments: Sequence[float], groups: int = 1
) -> Tensor:
    y: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, w, b, [0, 0], [stride, stride], [1, 1], groups, post, list(arguments), ""
    )
    return y


@functools.lru_cache(maxsize=256)
def _fuses(image: tuple[int, ...], filters: tuple[int, ...], stride: int, activation: Activation) -> bool:
    """Whether PyTorch has its private fused convolution, and it is right for operands of these shapes.

    It is not for all: in PyTorch 2.13 a single filter as large as its image (6×6 or more) gives nonsense for more than
    one example. So every shape is tried at its first use, on a few examples.
    """
    x, w, b = _samples((1, min(image[0], 16), *image[1:]), (1, *filters), filters[:1], dtype=torch.float32)
    x, w = laid_out(x)[0], laid_out(w / math.sqrt(math.prod(filters[1:])))[0]
    try:
        made = _convolution(x, w, b, stride, *activation.onednn) if activation.onednn else None
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False
    exact = activation.function(torch.conv2d(x.double(), w.double(), b.double(), stride))
    return made is not None and torch.allclose(made.double(), exact, rtol=1e-4, atol=1e-5)


def convolve_error(
    delta_RNFHW: Tensor, w_RFCKK: Tensor, stride: int, height: int, width: int, precision: Precision
) -> Tensor:
    """The transpose of `convolve` as a map of its input, applied to δ: [R, N, C, height, width]."""
    if delta_RNFHW.shape[0] > 1 and not in_turn(delta_RNFHW.device):
        operands = precision.operand(delta_RNFHW), precision.operand(w_RFCKK)
        return convolutions.batched("error", *operands, stride, height, width).to(precision.storage)

    def one(delta: Tensor, w: Tensor) -> Tensor:
        x = delta.new_empty(1).expand(delta.shape[0], w.shape[1], height, width)  # only its shape is read
        return convolutions.gradient(delta, x, w, stride, (True, False, False))[0].to(precision.storage)

    with _exactly(delta_RNFHW.device):
        return _each(one, laid_out(precision.operand(delta_RNFHW)), laid_out(precision.operand(w_RFCKK)))


def convolve_outer(delta_RNFHW: Tensor, x_RNCHW: Tensor, kernel: int, stride: int, precision: Precision) -> Tensor:
    """Σ over examples and positions of δ times its input patch, [R, F, C, K, K]: a convolution's weight update."""
    if delta_RNFHW.shape[0] > 1 and not in_turn(delta_RNFHW.device):
        operands = precision.operand(delta_RNFHW), precision.operand(x_RNCHW)
        return convolutions.batched("outer", *operands, stride, kernel).to(precision.storage)

    def one(delta: Tensor, x: Tensor) -> Tensor:
        shape = (delta.shape[1], x.shape[1], kernel, kernel)  # of w; of its numbers nothing is read
        w = torch.empty(shape, dtype=delta.dtype, device=delta.device, memory_format=torch.channels_last)
        return convolutions.gradient(delta, x, w, stride, (False, True, False))[1].to(precision.storage)

    with _exactly(delta_RNFHW.device):
        return _each(one, laid_out(precision.operand(delta_RNFHW)), laid_out(precision.operand(x_RNCHW)))


def _exactly(device: torch.device) -> AbstractContextManager[None]:
    """As `convolutions.exact`, where there is another way."""
    return nullcontext() if in_turn(device) else convolutions.exact()


def stack(replicas: Sequence[Tensor]) -> Tensor:
    """Tensors of equal shape as [R, …], laid out as `empty_stack` does."""
    stacked = empty_stack(len(replicas), replicas[0])
    for place, tensor in zip(stacked, replicas, strict=True):
        place.copy_(tensor)
    return stacked


def empty_stack(replicas: int, like: Tensor) -> Tensor:
    """Room for so many tensors like the given one, [R, …], each starting where an allocation may start.

    A product's last bit can depend on how its operands are aligned: so aligned, a replica's slice is as good as a
    tensor of its own. Sizes that are a multiple of 64 bytes leave no gaps. The order in memory is that of `laid_out`.
    """
    line = CACHE_LINE // like.element_size()
    step = -(-like.numel() // line) * line
    order = (0, 2, 3, 1) if like.dim() == 4 else tuple(range(like.dim()))
    strides, stride = [0] * like.dim(), 1
    for axis in reversed(order):
        strides[axis], stride = stride, stride * like.shape[axis]
    room = torch.empty(replicas * step, dtype=like.dtype, device=like.device)
    return room.as_strided((replicas, *like.shape), (step, *strides))


def replica(tensor: Tensor, r: int) -> Tensor:
    """One replica of [R or 1, …] as a stack of one that starts where an allocation may start: a view if it does."""
    return aligned(tensor[r : r + 1] if tensor.shape[0] > 1 else tensor)


def aligned(tensor: Tensor) -> Tensor:
    """The same numbers, starting where an allocation may start."""
    return tensor if tensor.data_ptr() % CACHE_LINE == 0 else tensor.clone(memory_format=torch.preserve_format)


def laid_out(tensor: Tensor) -> Tensor:
    """The same numbers in the memory order products read fastest.

    Five axes, [R, N, C, H, W] or [R, F, C, K, K], are a convolution's: C varies fastest. Everything else is contiguous.
    """
    if tensor.dim() == 5:
        last = tensor.permute(0, 1, 3, 4, 2).contiguous()
        # Said in full: an axis of one has any stride, and PyTorch reads the memory order off the strides.
        _, n, h, w, c = last.shape
        return last.as_strided(tensor.shape, (n * h * w * c, h * w * c, 1, w * c, c))
    return tensor.contiguous()


# -------------------------------------------------------------------------------------------------------- over replicas


def _each(one: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """`one` for each replica, stacked; an operand with one replica serves all."""
    replicas = max(operand.shape[0] for operand in operands)
    if replicas == 1:
        return one(*(operand[0] for operand in operands)).unsqueeze(0)
    results = [one(*(o[r if o.shape[0] > 1 else 0] for o in operands)) for r in range(replicas)]
    if results[0].dim() == 4 and not results[0].is_contiguous():  # torch.stack would undo channels-last
        return torch.stack([y.permute(0, 2, 3, 1) for y in results]).permute(0, 1, 4, 2, 3)
    return torch.stack(results)


def _samples(*shapes: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tuple(shape), generator=generator, dtype=dtype) for shape in shapes]
