"""A learner's steps in compiled code (`mdfa_core.compute.compiled`), for dense networks with SGD.

Axes: R replica, N example, I/O units of a layer in and out, C output.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MissingPackage
from mdfa_core.compute.precision import PRECISIONS
from mdfa_core.learning.learner import Learner, Sums
from mdfa_core.learning.optimizers import SGD
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.layers import DenseLayer
from mdfa_core.nets.networks import Parameters
from mdfa_core.rules.chain import Chain
from mdfa_core.rules.direct import Direct

ACTIVATION_NAMES = ("tanh", "hard-tanh", "relu")
"""Activations that compiled steps have, in the order of their numbers there."""

Array = np.ndarray[Any, Any]


def obstacle(learner: Learner) -> str | None:
    """Why compiled steps cannot train this learner, as the end of a sentence; None if they can."""
    network, transport = learner.network, learner.method.transport
    if learner.parameters.weights[0].device.type != "cpu":
        return f"they run on a CPU, not on {learner.parameters.weights[0].device.type}"
    if not all(type(layer) is DenseLayer for layer in network.layers):
        return "they have no convolutions: use a network such as fc:128,128"
    if network.precision != PRECISIONS["float32"]:
        return "they compute in float32 only"
    if _activation_number(learner) is None:
        return f"they have no {network.activation.title}: use one of {', '.join(ACTIVATION_NAMES)}"
    if type(learner.optimizer_state.optimizer) is not SGD:
        return f"they have no {learner.optimizer_state.optimizer.title}: use sgd"
    if type(transport) not in (Chain, Direct):
        return f"they have no {learner.method.title}: use one of bp, fa, dfa, mdfa"
    return None


def _activation_number(learner: Learner) -> int | None:
    known = [ACTIVATIONS.get(name) for name in ACTIVATION_NAMES]
    return next((n for n, activation in enumerate(known) if activation is learner.network.activation), None)


@functools.cache
def _kernels() -> ModuleType:
    try:
        from mdfa_core.compute import compiled
    except ImportError:
        raise MissingPackage(f"compiled steps need Numba: run {install('fast')}") from None
    _one_blas_thread()
    return compiled


def _one_blas_thread() -> None:
    """Let SciPy's BLAS, which multiplies mini-batches, compute with one thread: products this small gain nothing."""
    import scipy.linalg.cython_blas  # noqa: F401 - loads the library
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "scipy" in library.filepath:
            library.set_num_threads(1)


@dataclass(frozen=True)
class _Memory:
    """What a step writes to for mini-batches of one size: h, f′(a) and δ of every layer, and a product."""

    h: Array
    s: Array
    d: Array
    g: Array


@dataclass(frozen=True)
class Rounding:
    """Weights as multiples of `grid` in [−bound, bound), from 0 in layers with a floor, rounded at random in a stream.

    Attributes:
        grid: distance of neighbouring weights.
        bound: half the range.
        drawn: number of roundings so far, from which the random numbers come; uint32 [1], changes.
    """

    grid: float
    bound: float
    drawn: Array


class CompiledSteps:
    """Takes a learner's steps in compiled code, equal to `Learner.step` but for rounding.

    The weights and the feedback of the learner become views of memory in the order that the compiled code reads. So the
    learner always has the current weights, and a change of them in place counts at once. SciPy's BLAS computes with one
    thread from then on.

    Args:
        learner: its steps are taken. One that is not on a CPU, or that has convolutions, another precision than
            float32, or another rule, activation or optimizer than `obstacle` names, cannot be compiled.

    Raises:
        InvalidValue: compiled steps cannot train this learner.
        MissingPackage: Numba is not installed.
    """

    def __init__(self, learner: Learner) -> None:
        reason = obstacle(learner)
        if reason is not None:
            raise InvalidValue(f"compiled steps cannot train this network: {reason}")
        self._code = _kernels()
        self.learner = learner
        layers = learner.network.layers
        self.sizes = np.array([layers[0].weight_shape[1], *(layer.weight_shape[0] for layer in layers)], np.uint64)
        transport = learner.method.transport
        self.transport = int(
            self._code.DIRECT
            if isinstance(transport, Direct)
            else self._code.FIXED
            if transport.needs_feedback
            else self._code.EXACT
        )
        self.activation = _activation_number(learner)
        self.floors = np.array(
            [learner.floor if learner.method.constraint.covers(n) else -np.inf for n in range(len(layers))], np.float32
        )
        transposed = self.transport == self._code.FIXED
        self.w, weights = _flattened(learner.parameters.weights, learner.replicas, transposed=True)
        self.b, biases = _flattened(learner.parameters.biases, learner.replicas, transposed=False)
        self.feedback, learner.feedback = _flattened(learner.feedback, learner.replicas, transposed=transposed)
        learner.parameters = Parameters(weights, biases)
        self._rows = list(zip(self.w, self.b, self.feedback, strict=True))  # a view costs a fraction of a microsecond
        self._memory: dict[int, _Memory] = {}

    def memory(self, examples: int) -> _Memory:
        """The memory of steps on mini-batches of so many examples."""
        if examples not in self._memory:
            units = int(self.sizes[1:].sum()) * examples
            largest = int((self.sizes[:-1] * self.sizes[1:]).max())
            self._memory = {
                examples: _Memory(*(np.zeros(count, np.float32) for count in (units, units, units, largest)))
            }
        return self._memory[examples]

    def rate_and_decay(self, r: int) -> tuple[np.float32, np.float32]:
        """η of replica `r`, and the factor 1 − η λ of its weights."""
        state = self.learner.optimizer_state
        return np.float32(state.rates[r]), np.float32(1 - state.rates[r] * state.l2[r])

    def step(self, inputs: Tensor, labels_RN: Tensor, sums: Sums | None = None) -> None:
        """Take one step on a mini-batch.

        Args:
            inputs: float32, [R or 1, N, I].
            labels_RN: int64, [R or 1, N].
            sums: the scores of the mini-batch are added here.
        """
        x, y = inputs.contiguous().numpy(), labels_RN.contiguous().numpy()
        examples = x.shape[1]
        memory = self.memory(examples)
        scale = np.float32(1 if self.learner.loss_scale == "sum" else 1 / examples)
        self.learner.optimizer_state.tick()
        for r in range(self.learner.replicas):
            rate, decay = self.rate_and_decay(r)
            loss, correct = self._code.step(
                x[r if len(x) > 1 else 0].reshape(-1), y[r if len(y) > 1 else 0], np.uint64(examples), self.sizes,
                *self._rows[r], self.activation, self.transport, rate, decay, self.floors,
                scale, memory.h, memory.s, memory.d, memory.g, NO_INDICES,
            )  # fmt: skip
            if sums is not None:
                sums.loss.numpy()[r] += loss
                sums.correct.numpy()[r] += correct

    def stream(
        self, xs: Array, hots: Array, labels: Array, rows: Array | None = None, rounding: Rounding | None = None
    ) -> Array:
        """Predict every example of a stream before a step of batch size one on it.

        Args:
            xs: the first inputs of every example, float32 [T, D].
            hots: the numbers of inputs that are 1, from D on, int64 [T, H].
            labels: int64 [T].
            rows: the replica that predicts and learns each example, int64 [T]; all have the learning rate of the
                first. Replica 0 by default.
            rounding: keeps the weights that change on a grid; None for floats.

        Returns:
            The predicted classes, int64 [T].
        """
        one, rounding = self.memory(1), rounding or Rounding(0, 0, np.zeros(1, np.uint32))
        predictions = np.empty(len(labels), np.int64)
        rows = np.zeros(len(labels), np.int64) if rows is None else rows
        self._code.stream(
            xs, hots, labels, rows, self.sizes, self.w, self.b, self.feedback, self.activation, self.transport,
            *self.rate_and_decay(0), self.floors, np.float32(rounding.grid), np.float32(rounding.bound), rounding.drawn,
            np.empty(xs.shape[1], np.float32), np.empty(hots.shape[1], np.int64), one.h, one.s, one.d, predictions,
        )  # fmt: skip
        self.learner.optimizer_state.step += len(labels)
        return predictions


NO_INDICES = np.empty(0, np.int64)


def _flattened(tensors: Sequence[Tensor], replicas: int, *, transposed: bool) -> tuple[Array, tuple[Tensor, ...]]:
    """Copies of tensors [R, …] one after the other in an array [R, …], and views of it with the tensors' shapes."""
    flat = np.empty((replicas, sum(tensor[0].numel() for tensor in tensors)), np.float32)
    views, at = [], 0
    for tensor in tensors:
        part = torch.from_numpy(flat)[:, at : at + tensor[0].numel()]
        view = part.unflatten(1, tensor.shape[:0:-1]).mT if transposed else part.unflatten(1, tensor.shape[1:])
        view.copy_(tensor)
        views.append(view)
        at += tensor[0].numel()
    return flat, tuple(views)
