"""Loops that time the compiled step, on one thread and with a second thread that updates half of the layers.

A *net* is a tuple of the arguments of `mdfa_core.compute.compiled`'s functions for one network. A *half* has those of
its first or its last layers, most of them views. Each thread predicts and updates its own layers, so that no weight
moves between cores: only h and δ of the layer between the halves, or e, do. Needs Numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from mdfa_core.compute import compiled as code
from mdfa_core.studies.branch_prediction.deep import DeepPredictor

_1 = np.uint64(1)
_GO, _READY, _DONE, FLAGS = 0, 16, 32, 48  # in cache lines of their own
_STOP = -1

_parallel: Any = njit(cache=True, nogil=True)
_intrinsic: Any = intrinsic


@_intrinsic
def _load(typing: Any, flags: Any, index: Any) -> Any:
    """Read a flag that another thread writes, and everything that it wrote before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_address(context, builder, signature, args), "acquire", 8)

    return types.int64(flags, types.intp), generate


@_intrinsic
def _store(typing: Any, flags: Any, index: Any, value: Any) -> Any:
    """Write a flag after everything that this thread wrote before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _address(context, builder, signature, args), "release", 8)
        return context.get_dummy_value()

    return types.void(flags, types.intp, types.int64), generate


def _address(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]], wraparound=False)


def net_of(predictor: DeepPredictor) -> tuple[Any, ...]:
    """The first network of a predictor, with the learning rate 10⁻⁶ and some inputs."""
    steps = predictor.steps
    one = steps.memory(1)
    hots = predictor.dense + np.arange(1 + len(predictor.paths)) * predictor.path_inputs
    return (
        np.full(predictor.dense, -1, np.float32), np.uint64(predictor.dense), hots, steps.sizes, steps.w[0],
        steps.b[0], steps.feedback[0], steps.activation, steps.transport, np.float32(1e-6), np.float32(1), steps.floors,
        one.h, one.s, one.d,
    )  # fmt: skip


def halves(net: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The first and the last layers of a net with hidden layers, with about as many weights to change."""
    x, dense, hots, sizes, w, b, feedback, _, transport, _, _, floors, h, s, d = net
    units = sizes[1:].astype(int)
    changed = np.cumsum(np.append(int(dense) + len(hots), units[:-1]) * units)
    k = 1 + int(np.argmin(np.abs(changed[:-1] - changed[-1] / 2)))  # layers of the first half
    at, below, weights = units[:k].sum(), units[: k - 1].sum(), int((sizes[:k] * sizes[1 : k + 1]).sum())
    if transport == code.DIRECT:  # δ of its own, with e at the end
        own, other = np.zeros(at + 1, np.float32), np.zeros(len(d) - at, np.float32)
        errors = (np.append(sizes[: k + 1], _1), w, feedback, s, own), (sizes[k:], w, feedback[at:], s[at:], other)
        own = own[:at]
    else:  # δ of the layer between them is the upper half's to compute
        own, other = d[:at], d[at:]
        first = int(sizes[0] * sizes[1])
        errors = (
            (sizes[: k + 1], w[:weights], feedback[: weights - first], s, own),
            (sizes[k - 1 :], w, feedback, s[below:], d[below:]),
        )
    lower = (x, dense, hots, sizes[: k + 1], w, b, floors[:k], h, s, own)
    upper = (
        h[below:at], np.uint64(units[k - 1]), hots[:0], sizes[k:], w[weights:], b[at:], floors[k:], h[at:], s[at:],
        other,
    )  # fmt: skip
    return (*lower, *errors[0]), (*upper, *errors[1])


@_parallel
def _forward(net: Any) -> Any:
    x, dense, hots, sizes, w, b, _, activation, _, _, _, _, h, s, _ = net
    code.forward(x, dense, hots, _1, sizes, w, b, activation, h, s)
    return h[len(h) - 1]


@_parallel
def _forward_half(net: Any, half: Any) -> None:
    x, dense, hots, sizes, w, b, _, h, s = half[:9]
    code.forward(x, dense, hots, _1, sizes, w, b, net[7], h, s)


@_parallel
def _sweep_half(net: Any, half: Any) -> None:
    sizes, w, feedback, s, d = half[10:]
    if net[8] == code.DIRECT:
        d[len(d) - 1] = net[14][len(net[14]) - 1]
    code.deltas(_1, sizes, w, feedback, net[8], s, d)


@_parallel
def _update_half(net: Any, half: Any) -> None:
    x, dense, hots, sizes, w, b, floors, h, _, d = half[:10]
    code.update(x, dense, hots, _1, sizes, w, b, h, d, d, net[9], net[10], floors)


@_parallel
def _error(step: int) -> Any:
    return np.float32(0.5) if step % 2 else np.float32(-0.5)


@_parallel
def forwards(steps: int, net: Any) -> None:
    """Predict; the sign of each z is an input of the next."""
    x = net[0]
    for _ in range(steps):
        x[0] = 1 if _forward(net) > 0 else -1


@_parallel
def updates(steps: int, net: Any, predict: bool) -> None:
    """Update all layers by one thread, after a prediction if `predict`."""
    x, dense, hots, sizes, w, b, feedback, _, transport, rate, decay, floors, h, s, d = net
    for step in range(1, steps + 1):
        if predict:
            _forward(net)
        d[len(d) - 1] = _error(step)
        code.deltas(_1, sizes, w, feedback, transport, s, d)
        code.update(x, dense, hots, _1, sizes, w, b, h, d, d, rate, decay, floors)
        if predict:
            x[0] = 1 if h[len(h) - 1] > 0 else -1


@_parallel
def shared_updates(steps: int, net: Any, lower: Any, predict: bool, flags: Any) -> None:
    """As `updates`, but only for the lower half: `serve` in another thread does the upper half."""
    x, activation, direct, h, d = net[0], net[7], net[8] == code.DIRECT, net[12], net[14]
    above, units = len(lower[9]), lower[3][len(lower[3]) - 1]
    for _ in range(steps):
        step = _load(flags, _DONE) + 1
        if predict:
            _forward_half(net, lower)
            code.activate(h, lower[8], np.uint64(above) - units, units, activation)
        else:
            d[len(d) - 1] = _error(step)
        _store(flags, _GO, step)
        if predict or not direct:
            while _load(flags, _READY) != step:
                pass
        _sweep_half(net, lower)
        _update_half(net, lower)
        while _load(flags, _DONE) != step:
            pass
        if predict:
            x[0] = 1 if h[len(h) - 1] > 0 else -1


@_parallel
def serve(net: Any, upper: Any, predict: bool, flags: Any) -> None:
    """The upper half of each step of `shared_updates`, until `stop`."""
    direct, d, done = net[8] == code.DIRECT, net[14], 0
    while True:
        step = _load(flags, _GO)
        if step == _STOP:
            return
        if step != done:
            if predict:
                _forward_half(net, upper)
                d[len(d) - 1] = _error(step)
            if direct:
                _store(flags, _READY, step)  # e
            _sweep_half(net, upper)
            if not direct:
                _store(flags, _READY, step)  # δ of the layer between the halves
            _update_half(net, upper)
            _store(flags, _DONE, step)
            done = step


@_parallel
def stop(flags: Any) -> None:
    """Let `serve` return."""
    _store(flags, _GO, _STOP)
