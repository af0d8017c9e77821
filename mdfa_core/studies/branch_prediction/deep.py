"""Deep networks as branch predictors, trained online on one branch at a time by a compiled step.

Axes: T = networks of a table, H = outcomes of the history, E = extra inputs, K = inputs for the address,
L = hidden layers of n units each.
"""

from __future__ import annotations

import math

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.initializers import Normal, ScaledUniform
from mdfa_core.nets.networks import Network, parse_architecture
from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.branch_prediction.jit import compiled
from mdfa_core.studies.branch_prediction.predictors import Predictor, Tage
from mdfa_core.studies.branch_prediction.traces import BranchTrace

FLOOR = 1e-6
"""Smallest weight of a mono-net after its first layer, as in the paper."""

_TRANSPORTS = {"mdfa": 0, "dfa": 0, "bp": 1, "fa": 2}
ZERO, ONE = np.float32(0), np.float32(1)
LEAST, NONE = np.float32(FLOOR), np.float32(-3e38)  # infinity is not allowed in fast arithmetic
METHODS_COMPILED = tuple(_TRANSPORTS)
"""The rules with a compiled step."""


class DeepPredictor(Predictor):
    """One network, or a table of networks chosen by address, that predicts taken if z > 0 and learns every outcome.

    The inputs are the last `history` outcomes of all branches as ±1, latest first; extra inputs, if there are any; and
    the address modulo `pc_inputs` as that many inputs of which one is 1. Such an input costs one row of weights, not a
    product. Hidden layers are tanh. Each step has batch size one, error e = σ(z) − taken, and SGD:

        ΔW_l = −η δ_l h_{l−1}ᵀ,  δ_l = ε_l ⊙ (1 − h_l²)
        ε_l = e B_l (DFA, mDFA),  W_{l+1}ᵀ δ_{l+1} (BP),  B_{l+1}ᵀ δ_{l+1} (FA)

    All δ are computed before any weight changes. mDFA keeps W_l ≥ 10⁻⁶ for l ≥ 2, and its B is non-negative. Initial
    weights are those of the package's `Learner` with scaled uniform weights and N(0, 1) feedback, the same for each
    network of a table. A test compares the steps with `Learner`.

    Args:
        method: mdfa, dfa, fa or bp.
        layers: number of hidden layers; with 0, all rules are the same logistic regression.
        width: units of each hidden layer.
        history: number of past outcomes among the inputs.
        pc_inputs: number of inputs for the address; with 1, a second bias.
        rows: number of networks in the table.
        learning_rate: of SGD.
        weight_bits: bits of a weight. Below 32, weights are multiples of 2^(3 − bits) in [−4, 4): each update rounds
            up or down at random, so that its mean is exact. Biases and feedback stay floats.
        seed: of all initial weights and of the rounding.
        arbiter: predictor whose confidence is an extra input, so that the network decides beside TAGE. It learns every
            outcome itself.

    Raises:
        InvalidValue: a number is out of range, or the method has no compiled step.
    """

    def __init__(
        self,
        method: str = "mdfa",
        layers: int = 2,
        width: int = 32,
        *,
        history: int = 32,
        pc_inputs: int = 256,
        rows: int = 1,
        learning_rate: float = 0.03,
        weight_bits: int = 32,
        seed: int = 0,
        arbiter: Tage | None = None,
    ) -> None:
        if method not in _TRANSPORTS:
            raise InvalidValue(
                f"the rule {method} has no compiled step: give {', '.join(METHODS_COMPILED[:-1])} or "
                f"{METHODS_COMPILED[-1]}"
            )
        for name, value, lowest in (
            ("layers", layers, 0),
            ("width", width, 1),
            ("history", history, 1),
            ("pc_inputs", pc_inputs, 1),
            ("rows", rows, 1),
        ):
            if value < lowest:
                raise InvalidValue(f"{name} is {value}: give at least {lowest}")
        if not 0 <= learning_rate < math.inf:
            raise InvalidValue(f"the learning rate is {learning_rate}: give a number of at least 0")
        if weight_bits != 32 and not 4 <= weight_bits <= 16:
            raise InvalidValue(f"weight_bits is {weight_bits}: give 4 to 16, or 32 for floats")
        self.method, self.layers, self.width, self.arbiter = method, layers, width, arbiter
        self.pc_inputs, self.rows, self.weight_bits = pc_inputs, rows, weight_bits
        self.learning_rate = np.float32(learning_rate)
        dense = history + (arbiter is not None)
        self.x = np.full(dense, -1, np.float32)  # outcomes, then the extra input
        self.history = history
        rule = METHODS[method]
        self.network = Network(
            parse_architecture("fc:" + ",".join([str(width)] * layers)), (dense + pc_inputs,), 1, ACTIVATIONS["tanh"]
        )
        parameters = rule.initial_parameters(self.network, ScaledUniform(), seed=seed, convention="paper", floor=FLOOR)
        weights = [w[0].numpy() for w in parameters.weights]
        first, last = weights[0], weights[-1]
        self.coded = _table(first[:, dense:].T, rows)  # (T, K, n)
        self.dense = _table(first[:, :dense], rows)  # (T, n, H + E)
        self.hidden = _table(np.stack(weights[1:-1]) if layers > 1 else np.zeros((0, width, width)), rows)
        self.out = _table(last[0] if layers else np.zeros(0), rows)  # (T, n)
        self.biases = np.zeros((rows, max(layers, 1), first.shape[0]), np.float32)
        self.out_bias = np.zeros(rows, np.float32)
        fixed = [b[0].numpy() for b in rule.initial_feedback(self.network, Normal(1.0), seed=seed, convention="paper")]
        self.feedback_count = sum(b.size for b in fixed)
        direct = _TRANSPORTS[method] == 0
        self.direct = np.stack([b.reshape(-1) for b in fixed]) if direct and layers else np.zeros((0, width))
        self.direct = self.direct.astype(np.float32)  # (L, n)
        chained = method == "fa" and layers
        self.chain = np.stack(fixed[:-1]) if chained and layers > 1 else np.zeros((0, width, width))
        self.chain = self.chain.astype(np.float32)  # (L − 1, n, n)
        self.chain_out = (fixed[-1].reshape(-1) if chained else np.zeros(width)).astype(np.float32)
        self.step = np.float32(2.0 ** (3 - weight_bits) if weight_bits < 32 else 0)
        self.random = np.array([seed * 2 + 1], np.int64)
        if self.step:
            for array in (self.coded, self.dense, self.hidden, self.out):
                np.clip(np.round(array / self.step) * self.step, -4, 4 - self.step, out=array)

    @property
    def bits(self) -> int:
        """Size of the state: weights, 32 bits per bias and feedback weight, the history, and the arbiter's state."""
        weights = sum(array.size for array in (self.coded, self.dense, self.hidden, self.out))
        biases = self.rows * (self.layers * self.width + 1)
        other = self.arbiter.bits if self.arbiter is not None else 0
        return self.weight_bits * weights + 32 * (biases + self.feedback_count) + self.history + other

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        made = np.empty(len(trace), np.bool_)
        rows = (trace.pcs % np.uint64(self.rows)).astype(np.int32)
        # The address without what chose the row: branches of one network then differ in their inputs.
        codes = (trace.pcs // np.uint64(self.rows) % np.uint64(self.pc_inputs)).astype(np.int32)
        extra = np.zeros((len(trace), 0), np.float32)
        if self.arbiter is not None:
            self.arbiter.predictions(trace)
            extra = (self.arbiter.confidence[:, None] / np.float32(7)).astype(np.float32)
        arrays = (self.coded, self.dense, self.hidden, self.out, self.biases, self.out_bias)
        fixed = (self.direct, self.chain, self.chain_out)
        how = (self.learning_rate, _TRANSPORTS[self.method], self.method == "mdfa", self.step, self.random)
        _stream(rows, codes, extra, trace.taken, made, self.x, self.history, *arrays, *fixed, *how)
        return made


def _table(array: np.ndarray, rows: int) -> np.ndarray:
    return np.repeat(np.asarray(array, np.float32)[None], rows, axis=0)


@compiled
def _tanh(x):  # type: ignore[no-untyped-def]
    """tanh by the rational function of Eigen's `ptanh`, within 10⁻⁶; unlike `math.tanh` it is vectorised."""
    x = min(max(x, np.float32(-7.9)), np.float32(7.9))
    y = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * y + np.float32(2.00018790482477e-13)
    p = p * y + np.float32(-8.60467152213735e-11)
    p = p * y + np.float32(5.12229709037114e-08)
    p = p * y + np.float32(1.48572235717979e-05)
    p = p * y + np.float32(6.37261928875436e-04)
    p = p * y + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * y + np.float32(1.18534705686654e-04)
    q = q * y + np.float32(2.26843463243900e-03)
    q = q * y + np.float32(4.89352518554385e-03)
    return x * p / q


@compiled
def _forward(x, column, dense, hidden, out, biases, out_bias, h):  # type: ignore[no-untyped-def]
    """The output z of one network; h (L, n) gets its hidden outputs. Without hidden layers, `dense` has one row."""
    layers, width = h.shape
    size = len(x)
    if layers == 0:
        z = out_bias + column[0]
        for j in range(size):
            z += dense[0, j] * x[j]
        return z
    for i in range(width):
        s = ZERO
        for j in range(size):
            s += dense[i, j] * x[j]
        h[0, i] = s + biases[0, i] + column[i]
    for i in range(width):
        h[0, i] = _tanh(h[0, i])
    for layer in range(1, layers):
        for i in range(width):
            s = ZERO
            for j in range(width):
                s += hidden[layer - 1, i, j] * h[layer - 1, j]
            h[layer, i] = s + biases[layer, i]
        for i in range(width):
            h[layer, i] = _tanh(h[layer, i])
    z = out_bias
    for i in range(width):
        z += out[i] * h[layers - 1, i]
    return z


@compiled
def _signals(e, hidden, out, direct, chain, chain_out, transport, h, delta):  # type: ignore[no-untyped-def]
    """δ of every hidden layer (L, n)."""
    layers, width = h.shape
    if transport == 0:
        for layer in range(layers):
            for i in range(width):
                delta[layer, i] = e * direct[layer, i] * (ONE - h[layer, i] * h[layer, i])
        return
    top = out if transport == 1 else chain_out
    matrices = hidden if transport == 1 else chain
    for i in range(width):
        delta[layers - 1, i] = e * top[i] * (ONE - h[layers - 1, i] * h[layers - 1, i])
    for down in range(1, layers):
        layer = layers - 1 - down
        for j in range(width):
            delta[layer, j] = ZERO
        for i in range(width):
            d = delta[layer + 1, i]
            for j in range(width):
                delta[layer, j] += d * matrices[layer, i, j]
        for j in range(width):
            delta[layer, j] *= ONE - h[layer, j] * h[layer, j]


@compiled
def _round(w, step, mono, random):  # type: ignore[no-untyped-def]
    """Round weights to multiples of `step` in [−4, 4), or [0, 4) of a mono-net, up or down at random."""
    low = ZERO if mono else np.float32(-4)
    high = np.float32(4) - step
    for j in range(len(w)):
        random[0] = random[0] * 48271 % 2147483647
        u = np.float32(random[0]) * np.float32(1 / 2147483647)
        w[j] = min(max(np.float32(math.floor(w[j] / step + u)) * step, low), high)


@compiled
def _update(  # type: ignore[no-untyped-def]
    e, x, column, dense, hidden, out, biases, direct, chain, chain_out, rate, transport, mono, step, random, h, delta
):
    """One step of all weights from the output error e; the caller changes the output's bias."""
    layers, width = h.shape
    size = len(x)
    rounded = step > 0
    if layers == 0:
        column[0] -= rate * e
        for j in range(size):
            dense[0, j] -= rate * e * x[j]
        if rounded:
            _round(dense[0], step, False, random)
            _round(column, step, False, random)
        return
    _signals(e, hidden, out, direct, chain, chain_out, transport, h, delta)
    floor = LEAST if mono and not rounded else NONE
    for i in range(width):
        out[i] = max(out[i] - rate * e * h[layers - 1, i], floor)
    for layer in range(1, layers):
        for i in range(width):
            d = rate * delta[layer, i]
            biases[layer, i] -= d
            for j in range(width):
                hidden[layer - 1, i, j] = max(hidden[layer - 1, i, j] - d * h[layer - 1, j], floor)
    for i in range(width):
        d = rate * delta[0, i]
        biases[0, i] -= d
        column[i] -= d
        for j in range(size):
            dense[i, j] -= d * x[j]
    if rounded:
        _round(out, step, mono, random)
        for layer in range(layers - 1):
            for i in range(width):
                _round(hidden[layer, i], step, mono, random)
        for i in range(width):
            _round(dense[i], step, False, random)
        _round(column, step, False, random)


@compiled
def _stream(  # type: ignore[no-untyped-def]
    rows,
    codes,
    extra,
    taken,
    made,
    x,
    history,
    coded,
    dense,
    hidden,
    out,
    biases,
    out_bias,
    direct,
    chain,
    chain_out,
    rate,
    transport,
    mono,
    step,
    random,
):
    layers, width = biases.shape[1], biases.shape[2]
    if out.shape[1] == 0:
        layers = 0
    h = np.zeros((layers, width), np.float32)
    delta = np.zeros((layers, width), np.float32)
    for n in range(len(rows)):
        r, k = rows[n], codes[n]
        for i in range(extra.shape[1]):
            x[history + i] = extra[n, i]
        z = _forward(x, coded[r, k], dense[r], hidden[r], out[r], biases[r], out_bias[r], h)
        made[n] = z > 0
        t = ONE if taken[n] else ZERO
        e = ONE / (ONE + np.float32(math.exp(-z))) - t
        _update(
            e,
            x,
            coded[r, k],
            dense[r],
            hidden[r],
            out[r],
            biases[r],
            direct,
            chain,
            chain_out,
            rate,
            transport,
            mono,
            step,
            random,
            h,
            delta,
        )
        out_bias[r] -= rate * e
        for i in range(history - 1, 0, -1):
            x[i] = x[i - 1]
        x[0] = t + t - ONE
