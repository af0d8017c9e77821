"""Deep networks as branch predictors, trained online on one branch at a time by the package's compiled step.

Axes: T branch, D dense input, H one-hot input, R network of a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning.compiled import CompiledSteps, Rounding
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.initializers import Normal, ScaledUniform
from mdfa_core.nets.networks import Network, Parameters, parse_architecture
from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.branch_prediction.predictors import Predictor, Tage
from mdfa_core.studies.branch_prediction.traces import BranchTrace

FLOOR = 1e-6
"""Smallest weight of a mono-net after its first layer, as in the paper."""

METHODS_COMPILED = ("mdfa", "dfa", "bp", "fa")
"""The rules with a compiled step."""

_BOUND = 4.0  # weights of few bits lie in [−4, 4)
_PART = 1 << 16  # branches whose inputs are in memory at a time


class DeepPredictor(Predictor):
    """One network, or a table of networks chosen by address, that predicts taken if z > 0 and learns every outcome.

    Dense inputs are the last `history` outcomes of all branches as ±1, latest first, and the confidence of an arbiter.
    One-hot inputs cost one row of weights each: the address modulo `pc_inputs`; and, for every length in `paths`, a
    hash of the address with the addresses and outcomes of so many earlier branches, modulo `path_inputs`. Hidden layers
    are tanh. Each step has batch size one, error e = σ(z) − taken, and SGD; it is the step of `OnlineLearner`.

    mDFA keeps W_l ≥ 10⁻⁶ for l ≥ 2, and its B is non-negative. Initial weights are scaled uniform and feedback is
    N(0, 1), the same for each network of a table.

    Args:
        method: mdfa, dfa, fa or bp.
        layers: number of hidden layers; with 0, all rules are the same logistic regression.
        width: units of each hidden layer.
        history: number of past outcomes among the inputs.
        pc_inputs: number of inputs for the address; with 1, a second bias.
        paths: numbers of earlier branches of which a hash is an input.
        path_inputs: number of inputs for each of `paths`.
        rows: number of networks in the table.
        learning_rate: of SGD.
        weight_bits: bits of a weight. Below 32, weights are multiples of 2^(3 − bits) in [−4, 4): each update rounds
            up or down at random, so that its mean is exact. Biases and feedback stay floats.
        seed: of all initial weights.
        arbiter: predictor whose confidence is an input, so that the network decides beside TAGE. It learns every
            outcome itself.

    Attributes:
        learner: the networks as replicas, always with the current weights.

    Raises:
        InvalidValue: a number is out of range, or the method has no compiled step.
        MissingPackage: Numba is not installed (`pip install 'mdfa-lab[fast]'`).
    """

    def __init__(
        self,
        method: str = "mdfa",
        layers: int = 2,
        width: int = 32,
        *,
        history: int = 32,
        pc_inputs: int = 256,
        paths: Sequence[int] = (),
        path_inputs: int = 1024,
        rows: int = 1,
        learning_rate: float = 0.03,
        weight_bits: int = 32,
        seed: int = 0,
        arbiter: Tage | None = None,
    ) -> None:
        if method not in METHODS_COMPILED:
            raise InvalidValue(
                f"the rule {method} has no compiled step: give {', '.join(METHODS_COMPILED[:-1])} or "
                f"{METHODS_COMPILED[-1]}"
            )
        for name, value, lowest in (
            ("layers", layers, 0),
            ("width", width, 1),
            ("history", history, 1),
            ("pc_inputs", pc_inputs, 1),
            ("a path", min(paths, default=1), 1),
            ("path_inputs", path_inputs, 1),
            ("rows", rows, 1),
        ):
            if value < lowest:
                raise InvalidValue(f"{name} is {value}: give at least {lowest}")
        if not 0 <= learning_rate < math.inf:
            raise InvalidValue(f"the learning rate is {learning_rate}: give a number of at least 0")
        if weight_bits != 32 and not 4 <= weight_bits <= 16:
            raise InvalidValue(f"weight_bits is {weight_bits}: give 4 to 16, or 32 for floats")
        self.method, self.layers, self.width, self.arbiter = method, layers, width, arbiter
        self.history, self.pc_inputs, self.paths, self.path_inputs = history, pc_inputs, tuple(paths), path_inputs
        self.weight_bits = weight_bits
        self.dense = history + (arbiter is not None)
        inputs = self.dense + pc_inputs + len(self.paths) * path_inputs
        self.network = Network(
            parse_architecture("fc:" + ",".join([str(width)] * layers)), (inputs,), 1, ACTIVATIONS["tanh"]
        )
        rule = METHODS[method]
        one = rule.initial_parameters(self.network, ScaledUniform(), seed=seed, convention="paper", floor=FLOOR)
        fixed = rule.initial_feedback(self.network, Normal(1.0), seed=seed, convention="paper")
        self.feedback_count = sum(b.numel() for b in fixed)
        table = Parameters(
            tuple(w.repeat_interleave(rows, 0) for w in one.weights),
            tuple(b.repeat_interleave(rows, 0) for b in one.biases),
        )
        self.learner = Learner(
            self.network,
            rule,
            OPTIMIZERS["sgd"],
            table,
            [b.repeat_interleave(rows, 0) for b in fixed],
            learning_rates=[learning_rate] * rows,
            floor=FLOOR,
        )
        self.steps = CompiledSteps(self.learner)
        self.rounding = None
        if weight_bits < 32:
            grid = 2.0 ** (3 - weight_bits)
            self.rounding = Rounding(grid, _BOUND, np.zeros(1, np.uint32))
            np.clip(np.round(self.steps.w / np.float32(grid)) * grid, -_BOUND, _BOUND - grid, out=self.steps.w)
        self._outcomes = np.full(history, -1, np.float32)  # of the branches so far, oldest first
        self._passed = np.zeros(max(self.paths, default=0), np.uint64)  # their addresses and outcomes

    @property
    def bits(self) -> int:
        """Size of the state: weights, 32 bits per bias and feedback weight, the history, and the arbiter's state."""
        floats = self.steps.b.size + self.feedback_count
        other = self.arbiter.bits if self.arbiter is not None else 0
        history = max(self.history, len(self._passed))
        return self.weight_bits * self.steps.w.size + 32 * floats + history + other

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        confidence: np.ndarray = np.zeros((len(trace), 0), np.float32)
        if self.arbiter is not None:
            self.arbiter.predictions(trace)
            confidence = self.arbiter.confidence[:, None] / np.float32(7)
        made = [
            self._part(trace[at : at + _PART], confidence[at : at + _PART]) for at in range(0, len(trace), _PART)
        ] or [np.zeros(0, np.int64)]
        return np.concatenate(made) > 0

    def _part(self, trace: BranchTrace, confidence: np.ndarray) -> np.ndarray:
        outcomes = np.concatenate([self._outcomes, np.where(trace.taken, np.float32(1), np.float32(-1))])
        past = np.lib.stride_tricks.sliding_window_view(outcomes, self.history)[: len(trace), ::-1]
        self._outcomes = outcomes[len(trace) :]
        rows = np.uint64(self.learner.replicas)
        # The address without what chose the row: branches of one network then differ in their inputs.
        codes = [self.dense + trace.pcs // rows % np.uint64(self.pc_inputs)]
        for n, hashes in enumerate(self._hashes(trace)):
            first = self.dense + self.pc_inputs + n * self.path_inputs
            codes.append(first + hashes % np.uint64(self.path_inputs))
        return self.steps.stream(
            np.concatenate([past, confidence], 1),
            np.stack(codes, 1).astype(np.int64),
            trace.taken.astype(np.int64),
            (trace.pcs % rows).astype(np.int64),
            self.rounding,
        )

    def _hashes(self, trace: BranchTrace) -> list[np.ndarray]:
        """For every path, a hash of 32 bits of each branch's address and of the branches before it."""
        kept = len(self._passed)
        executed = trace.pcs * np.uint64(2) + trace.taken
        passed = np.concatenate([self._passed, executed])
        self._passed = passed[len(trace) :]
        total, factor = np.zeros(len(trace), np.uint64), _ODD
        sums: dict[int, np.ndarray] = {}
        for age in range(1, kept + 1):  # Σ Mᵃ v, modulo 2⁶⁴
            total += factor * passed[kept - age : kept - age + len(trace)]
            factor = np.uint64(int(factor) * int(_ODD) % (1 << 64))
            if age in self.paths:
                sums[age] = total.copy()
        return [((sums[length] ^ trace.pcs) * _ODD) >> np.uint64(32) for length in self.paths]


_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio
