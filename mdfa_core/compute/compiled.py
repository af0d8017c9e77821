"""Compiled training steps of dense networks: one source for mini-batches and for one example at a time.

Needs Numba (the extra `fast`). Small networks are all overhead in PyTorch, because a step is some thirty calls. Here, a
step is one call. Products of mini-batches go through SciPy's BLAS; one example needs products of a matrix and a vector,
which LLVM vectorises.

All tensors of a kind lie in one flat array, layer after layer, so that one compilation serves every network:

- `sizes`: I, the units of every hidden layer, C (int64).
- `w`: weights, each layer as [inputs, outputs], so that a one-hot input is one row.
- `b`: biases. `h`: activations, the last part logits z. `s`: f′(a). `d`: δ. Each layer of the last three as [N, units].
- `feedback`: for `DIRECT` [C, units] of every hidden layer; for `FIXED` like `w` without the first layer.

Axes: R network, N example of a mini-batch, T example of a stream, I input, O output of a layer, C output of a network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

TANH, HARD_TANH, RELU = range(3)
"""Activations."""

EXACT, FIXED, DIRECT = range(3)
"""Where error signals come from: the weights themselves, fixed weights of their shape, or straight from the output."""

# NaN must stay NaN, so the assumption that there is none ("nnan") is left out.
jit: Any = njit(cache=True, fastmath={"contract", "reassoc", "arcp", "nsz"}, error_model="numpy")

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_NO_FLOOR = _F(-np.inf)

# Indices are unsigned and no function slices an array: a signed index might count from the end, which keeps LLVM from
# vectorising, and every slice counts references, which takes longer than a small layer.
_U = np.uint64
_0, _1, _2, _3, _4 = _U(0), _U(1), _U(2), _U(3), _U(4)

# tanh x = x P(x²) / Q(x²) for |x| ≤ 8, beyond which float32 has hardly more than ±1; the coefficients of Eigen and XLA.
_BOUND = _F(7.99881172180175781)
_P1, _P3, _P5 = _F(4.89352455891786e-03), _F(6.37261928875436e-04), _F(1.48572235717979e-05)
_P7, _P9 = _F(5.12229709037114e-08), _F(-8.60467152213735e-11)
_P11, _P13 = _F(2.00018790482477e-13), _F(-2.76076847742355e-16)
_Q0, _Q2 = _F(4.89352518554385e-03), _F(2.26843463243900e-03)
_Q4, _Q6 = _F(1.18534705686654e-04), _F(1.19825839466702e-06)


@jit
def activate(a: Any, slope: Any, at: Any, count: Any, activation: int) -> None:
    """Replace `count` pre-activations from `at` on by f(a), and write f′(a)."""
    if activation == TANH:
        for j in range(count):
            x = a[at + j]
            x = _BOUND if x > _BOUND else x
            x = -_BOUND if x < -_BOUND else x
            q = x * x
            p = _P1 + q * (_P3 + q * (_P5 + q * (_P7 + q * (_P9 + q * (_P11 + q * _P13)))))
            y = x * p / (_Q0 + q * (_Q2 + q * (_Q4 + q * _Q6)))
            a[at + j] = y
            slope[at + j] = _ONE - y * y
    elif activation == HARD_TANH:
        for j in range(count):
            x = a[at + j]
            slope[at + j] = _ZERO if x >= _ONE or x <= -_ONE else _ONE
            x = _ONE if x > _ONE else x
            a[at + j] = -_ONE if x < -_ONE else x
    else:
        for j in range(count):
            x = a[at + j]
            slope[at + j] = _ONE if x >= _ZERO else _ZERO
            a[at + j] = _ZERO if x < _ZERO else x


@jit
def _add_rows(y: Any, at_y: Any, outputs: Any, x: Any, at_x: Any, inputs: Any, w: Any, at_w: Any) -> None:
    """y ← y + Σᵢ xᵢ Wᵢ, the product of a vector and a matrix [I, O]."""
    i = _0
    while i + _4 <= inputs:
        r0 = at_w + i * outputs
        r1, r2, r3 = r0 + outputs, r0 + _2 * outputs, r0 + _3 * outputs
        x0, x1, x2, x3 = x[at_x + i], x[at_x + i + _1], x[at_x + i + _2], x[at_x + i + _3]
        for j in range(outputs):
            y[at_y + j] += x0 * w[r0 + j] + x1 * w[r1 + j] + x2 * w[r2 + j] + x3 * w[r3 + j]
        i += _4
    while i < inputs:
        x0, r0 = x[at_x + i], at_w + i * outputs
        for j in range(outputs):
            y[at_y + j] += x0 * w[r0 + j]
        i += _1


@jit
def _dot(x: Any, at_x: Any, y: Any, at_y: Any, count: Any) -> Any:
    total = _ZERO
    for j in range(count):
        total += x[at_x + j] * y[at_y + j]
    return total


@jit
def _descend(w: Any, at_w: Any, count: Any, delta: Any, at_d: Any, factor: Any, floor: Any) -> None:
    """w ← max(w − factor δ, floor)."""
    for j in range(count):
        v = w[at_w + j] - factor * delta[at_d + j]
        w[at_w + j] = floor if v < floor else v


@jit
def _descend_rows(
    w: Any, at_w: Any, outputs: Any, x: Any, at_x: Any, inputs: Any, delta: Any, at_d: Any, rate: Any, floor: Any
) -> None:
    """Wᵢ ← max(Wᵢ − η xᵢ δ, floor) for every row i."""
    i = _0
    while i + _4 <= inputs:
        r0 = at_w + i * outputs
        r1, r2, r3 = r0 + outputs, r0 + _2 * outputs, r0 + _3 * outputs
        x0, x1 = rate * x[at_x + i], rate * x[at_x + i + _1]
        x2, x3 = rate * x[at_x + i + _2], rate * x[at_x + i + _3]
        for j in range(outputs):
            e = delta[at_d + j]
            v0, v1, v2, v3 = w[r0 + j] - x0 * e, w[r1 + j] - x1 * e, w[r2 + j] - x2 * e, w[r3 + j] - x3 * e
            w[r0 + j] = floor if v0 < floor else v0
            w[r1 + j] = floor if v1 < floor else v1
            w[r2 + j] = floor if v2 < floor else v2
            w[r3 + j] = floor if v3 < floor else v3
        i += _4
    while i < inputs:
        _descend(w, at_w + i * outputs, outputs, delta, at_d, rate * x[at_x + i], floor)
        i += _1


@jit
def _matrix(flat: Any, at: Any, rows: Any, columns: Any) -> Any:
    return flat[at : at + rows * columns].reshape(rows, columns)


@jit
def _affine(
    x: Any, at_x: Any, n: Any, inputs: Any, w: Any, at_w: Any, outputs: Any, b: Any, at_b: Any, y: Any, at_y: Any
) -> None:
    """y ← x W + b for a mini-batch."""
    np.dot(_matrix(x, at_x, n, inputs), _matrix(w, at_w, inputs, outputs), _matrix(y, at_y, n, outputs))
    for k in range(n):
        row = at_y + k * outputs
        for j in range(outputs):
            y[row + j] += b[at_b + j]


@jit
def _back(d: Any, at_d: Any, n: Any, outputs: Any, m: Any, at_m: Any, units: Any, e: Any, at_e: Any) -> None:
    """ε ← δ Mᵀ for a mini-batch."""
    np.dot(_matrix(d, at_d, n, outputs), _matrix(m, at_m, units, outputs).T, _matrix(e, at_e, n, units))


@jit
def _outer(x: Any, at_x: Any, n: Any, inputs: Any, d: Any, at_d: Any, outputs: Any, g: Any) -> None:
    """g ← xᵀ δ for a mini-batch."""
    np.dot(_matrix(x, at_x, n, inputs).T, _matrix(d, at_d, n, outputs), _matrix(g, _0, inputs, outputs))


@jit
def forward(x: Any, dense: Any, hot: Any, n: Any, sizes: Any, w: Any, b: Any, activation: int, h: Any, s: Any) -> None:
    """The forward pass.

    If n is 1, only the first `dense` inputs are in `x`; of the others, the inputs with the numbers `hot` are 1 and the
    rest are 0.
    """
    last = len(sizes) - 2
    below, at_below, width = x, _0, dense
    at_w, at_b, at_h = _0, _0, _0
    for layer in range(last + 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        if n > _1:
            _affine(below, at_below, n, inputs, w, at_w, outputs, b, at_b, h, at_h)
        elif outputs == _1:
            h[at_h] = b[at_b] + _dot(below, at_below, w, at_w, width)
        else:
            for j in range(outputs):
                h[at_h + j] = b[at_b + j]
            _add_rows(h, at_h, outputs, below, at_below, width, w, at_w)
        if layer == 0:
            for k in range(len(hot)):
                row = at_w + _U(hot[k]) * outputs
                for j in range(outputs):
                    h[at_h + j] += w[row + j]
        if layer < last:
            activate(h, s, at_h, n * outputs, activation)
        below, at_below, width = h, at_h, outputs
        at_w, at_b, at_h = at_w + inputs * outputs, at_b + outputs, at_h + n * outputs


@jit
def output_error(z: Any, at: Any, labels: Any, at_y: Any, n: Any, outputs: Any, scale: Any, e: Any) -> None:
    """e of `nets.losses.output_error`, times `scale`."""
    for k in range(n):
        label = labels[at_y + k]
        if outputs == _1:
            e[at + k] = scale * (_ONE / (_ONE + np.exp(-z[at + k])) - _F(label))
        else:
            row = at + k * outputs
            most = z[row]
            for j in range(outputs):
                most = max(most, z[row + j])
            total = _ZERO
            for j in range(outputs):
                e[row + j] = np.exp(z[row + j] - most)
                total += e[row + j]
            for j in range(outputs):
                e[row + j] *= scale / total
            e[row + _U(label)] -= scale


@jit
def deltas(n: Any, sizes: Any, w: Any, feedback: Any, transport: int, s: Any, d: Any) -> None:
    """δ of every hidden layer; the last part of `d` must be e."""
    last = len(sizes) - 2
    outputs = sizes[last + 1]
    end = _U(len(d)) - n * outputs
    if transport == DIRECT:
        at, at_b = _0, _0
        for layer in range(last):
            units = sizes[layer + 1]
            for k in range(n):
                part, e = at + k * units, end + k * outputs
                if outputs == _1:
                    error = d[e]  # read once: LLVM cannot know that the loop does not write it
                    for j in range(units):
                        d[part + j] = error * feedback[at_b + j] * s[part + j]
                else:
                    for j in range(units):
                        d[part + j] = _ZERO
                    _add_rows(d, part, units, d, e, outputs, feedback, at_b)
                    for j in range(units):
                        d[part + j] *= s[part + j]
            at, at_b = at + n * units, at_b + outputs * units
        return
    matrices = w if transport == EXACT else feedback
    at_m, at, above = _U(len(matrices)), end, end
    for layer in range(last, 0, -1):
        units, outputs = sizes[layer], sizes[layer + 1]
        at_m, at = at_m - units * outputs, at - n * units
        if n > _1:
            _back(d, above, n, outputs, matrices, at_m, units, d, at)
        elif outputs == _1:
            error = d[above]
            for i in range(units):
                d[at + i] = error * matrices[at_m + i]
        else:
            for i in range(units):
                d[at + i] = _dot(d, above, matrices, at_m + i * outputs, outputs)
        for j in range(n * units):
            d[at + j] *= s[at + j]
        above = at


@jit
def update(
    x: Any, dense: Any, hot: Any, n: Any, sizes: Any, w: Any, b: Any, h: Any, d: Any, g: Any, rate: Any, decay: Any,
    floors: Any,
) -> None:  # fmt: skip
    """W ← max(decay W − η δᵀ h, floor) and b ← b − η Σ δ for every layer.

    `floors` has the lower bound of every layer's weights, −∞ for none. `g` is memory for the largest layer's product.
    The other arguments are those of `forward` and `deltas`.
    """
    below, at_below, width = x, _0, dense
    at_w, at_b, at = _0, _0, _0
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        floor = floors[layer]
        if decay != _ONE:
            for j in range(inputs * outputs):
                w[at_w + j] *= decay
        if n > _1:
            _outer(below, at_below, n, inputs, d, at, outputs, g)
            _descend(w, at_w, inputs * outputs, g, _0, rate, floor)
        elif outputs == _1:
            _descend(w, at_w, width, below, at_below, rate * d[at], floor)
        else:
            _descend_rows(w, at_w, outputs, below, at_below, width, d, at, rate, floor)
        if layer == 0:
            for k in range(len(hot)):
                _descend(w, at_w + _U(hot[k]) * outputs, outputs, d, at, rate, floor)
        for k in range(n):
            _descend(b, at_b, outputs, d, at + k * outputs, rate, _NO_FLOOR)
        below, at_below, width = h, at, outputs
        at_w, at_b, at = at_w + inputs * outputs, at_b + outputs, at + n * outputs


@jit
def predicted(z: Any, at: Any, outputs: Any) -> Any:
    """The class of one example: z > 0 for one output, else the largest (the lower one of equals)."""
    if outputs == _1:
        return 1 if z[at] > _ZERO else 0
    best: Any = _0
    for j in range(outputs):
        if z[at + j] > z[at + best]:
            best = j
    return np.int64(best)


@jit
def scored(z: Any, at: Any, labels: Any, n: Any, outputs: Any) -> tuple[float, int]:
    """Summed cross-entropy in nats, and the number of right predictions; NaN predicts nothing."""
    loss, correct = 0.0, 0
    for k in range(n):
        row, label = at + k * outputs, labels[k]
        if outputs == _1:
            towards = z[row] if label == 1 else -z[row]
            loss += np.float64(max(-towards, _ZERO)) + np.log1p(np.exp(np.float64(-abs(towards))))
            correct += 1 if towards > _ZERO or (label == 0 and towards == _ZERO) else 0
        else:
            most, total, numbers = z[row], 0.0, True
            for j in range(outputs):
                most = max(most, z[row + j])
                numbers = numbers and z[row + j] == z[row + j]
            for j in range(outputs):
                total += np.exp(np.float64(z[row + j] - most))
            loss += np.log(total) - np.float64(z[row + _U(label)] - most)
            correct += 1 if numbers and predicted(z, row, outputs) == label else 0
    return loss, correct


@jit
def step(
    x: Any, labels: Any, n: Any, sizes: Any, w: Any, b: Any, feedback: Any, activation: int, transport: int, rate: Any,
    decay: Any, floors: Any, scale: Any, h: Any, s: Any, d: Any, g: Any, hot: Any,
) -> tuple[float, int]:  # fmt: skip
    """One training step on a mini-batch; returns the summed cross-entropy and the number of right predictions."""
    outputs = sizes[len(sizes) - 1]
    at = _U(len(h)) - n * outputs
    forward(x, sizes[0], hot, n, sizes, w, b, activation, h, s)
    score = scored(h, at, labels, n, outputs)
    output_error(h, at, labels, _0, n, outputs, scale, d)
    deltas(n, sizes, w, feedback, transport, s, d)
    update(x, sizes[0], hot, n, sizes, w, b, h, d, g, rate, decay, floors)
    return score


@jit
def _rounded(w: Any, at: Any, count: Any, grid: Any, low: Any, high: Any, drawn: Any) -> None:
    """Round `count` weights from `at` on to multiples of `grid` in [low, high], up or down at random.

    The mean of the result is the weight. `drawn` counts the roundings (uint32); the hash of a rounding's number is its
    random number (C. Wellons's `lowbias32`).
    """
    first, to_unit = drawn[0], _F(2.0**-24)
    for j in range(count):
        u = np.uint32(first + np.uint32(j))
        u = np.uint32((u ^ (u >> np.uint32(16))) * np.uint32(0x7FEB352D))
        u = np.uint32((u ^ (u >> np.uint32(15))) * np.uint32(0x846CA68B))
        u ^= u >> np.uint32(16)
        v = np.floor(w[at + j] / grid + _F(u >> np.uint32(8)) * to_unit) * grid
        v = low if v < low else v
        w[at + j] = high if v > high else v
    drawn[0] = np.uint32(first + np.uint32(count))


@jit
def round_weights(sizes: Any, dense: Any, hot: Any, w: Any, floors: Any, grid: Any, bound: Any, drawn: Any) -> None:
    """Round all weights that one example changed to multiples of `grid` in [−bound, bound), from 0 if there is a floor.

    The other arguments are those of `forward` and `_rounded`.
    """
    at = _0
    for layer in range(len(sizes) - 1):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        low, high = -bound if floors[layer] == _NO_FLOOR else _ZERO, bound - grid
        if layer == 0:
            _rounded(w, at, dense * outputs, grid, low, high, drawn)
            for k in range(len(hot)):
                _rounded(w, at + _U(hot[k]) * outputs, outputs, grid, low, high, drawn)
        else:
            _rounded(w, at, inputs * outputs, grid, low, high, drawn)
        at += inputs * outputs


@jit
def stream(
    xs: Any, hots: Any, labels: Any, rows: Any, sizes: Any, w: Any, b: Any, feedback: Any, activation: int,
    transport: int, rate: Any, decay: Any, floors: Any, grid: Any, bound: Any, drawn: Any, x: Any, hot: Any, h: Any,
    s: Any, d: Any, predictions: Any,
) -> None:  # fmt: skip
    """Predict every example of a stream, then learn from it, with the network whose number is in `rows`.

    `w`, `b` and `feedback` have a leading axis [R]. Weights are rounded (`round_weights`) if `grid` is above 0.
    """
    outputs = sizes[len(sizes) - 1]
    dense, at = _U(len(x)), _U(len(h)) - outputs
    for t in range(_U(len(labels))):
        r = rows[t]
        wr, br, fr = w[r], b[r], feedback[r]
        for i in range(dense):
            x[i] = xs[t, i]
        for k in range(_U(len(hot))):
            hot[k] = hots[t, k]
        forward(x, dense, hot, _1, sizes, wr, br, activation, h, s)
        predictions[t] = predicted(h, at, outputs)
        output_error(h, at, labels, t, _1, outputs, _ONE, d)
        deltas(_1, sizes, wr, fr, transport, s, d)
        update(x, dense, hot, _1, sizes, wr, br, h, d, d, rate, decay, floors)
        if grid > _ZERO:
            round_weights(sizes, dense, hot, wr, floors, grid, bound, drawn)
