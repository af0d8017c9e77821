"""Training steps of a learner, plain or replayed from a CUDA graph.

A step of a small stack is some fifty kernels of a few microseconds each. Python takes longer to launch them than the
device to run them. So a device with graphs records one step and replays it with one launch a step. A graph keeps the
memory addresses and the numbers its kernels were recorded with. So batches are copied to the memory the graph reads,
the step number is counted on the device (`StepCounter`), and a change of the learning rates needs a new recording.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mdfa_core.learning import cuda_graph
from mdfa_core.learning.compiled import CompiledSteps
from mdfa_core.learning.cuda_graph import Graph
from mdfa_core.learning.learner import Batch, Learner, Sums
from mdfa_core.learning.optimizers import StepCounter

ENGINES = ("torch", "compiled")
"""The code of a training step: PyTorch, or compiled code for small dense networks (`CompiledSteps`)."""

_LOG = logging.getLogger(__name__)

_TRIALS = 3  # batches that a trial replays
_TOLERANCE = 1e-2  # allowed relative difference of the changes: sums in another order, signs of numbers near 0
_NOISE = 3  # allowed multiple of the difference between two plain runs: some of cuDNN's sums have no fixed order


class StepRunner:
    """Takes a learner's steps in the fastest way its device offers, and adds up their scores.

    On a device with graphs, a step is recorded once two consecutive steps were alike, and replayed from then on.
    Batches of other shapes, and the first batch after a change of learning rates, are computed without a graph. Before
    a recording, a trial on copies of a few replicas checks that replayed steps change them as plain steps do. If they
    do not, if an error occurs, or if the rule draws random numbers at every step, nothing is recorded.

    Args:
        learner: the learner that takes the steps.
        sums: the scores are added here.
        replayed: False computes every step without a graph, for comparison.
        engine: one of `ENGINES`.

    Raises:
        InvalidValue: compiled steps cannot train this learner.
        MissingPackage: compiled steps need Numba, which is not installed.
    """

    def __init__(self, learner: Learner, sums: Sums, *, replayed: bool = True, engine: str = "torch") -> None:
        self.learner, self.sums = learner, sums
        self._compiled = CompiledSteps(learner) if engine == "compiled" else None
        graphs = cuda_graph.graphs_of(learner.parameters.weights[0].device)
        self._graphs = graphs if replayed and not learner.method.transport.draws else None
        self._last: _Kind | None = None
        self._recording: _Recording | None = None

    @property
    def replaying(self) -> bool:
        """Whether a step has been recorded."""
        return self._recording is not None

    def take(self, inputs: Tensor, labels_RN: Tensor) -> None:
        """Take one step; inputs and labels as in `Learner.observe`."""
        if self._compiled is not None:
            self._compiled.step(inputs, labels_RN, self.sums)
            return
        if self._graphs is None:
            _advance(self.learner, self.sums, inputs, labels_RN)
            return
        kind = _Kind(self.learner, inputs, labels_RN)
        last, self._last = self._last, kind
        if self._recording is not None and kind.like(self._recording.kind):
            self._recording.replay(inputs, labels_RN)
            return
        _advance(self.learner, self.sums, inputs, labels_RN)
        if kind.like(last):
            self._recording = None  # its memory first
            self._record(kind, inputs, labels_RN)

    def take_observed(self, batch: Batch, inputs: Tensor, labels_RN: Tensor) -> None:
        """Take a step without a graph, given what `Learner.observe` computed for it: with the bits of `take`."""
        if self._compiled is not None:
            self._compiled.step(inputs, labels_RN, self.sums)
            return
        self.learner.learn(batch)
        self.sums.add_(self.learner.score(batch, labels_RN), labels_RN.shape[1])

    def _record(self, kind: _Kind, inputs: Tensor, labels_RN: Tensor) -> None:
        assert self._graphs is not None
        try:
            if not _replays(self.learner, inputs, labels_RN, self._graphs):
                raise RuntimeError("a replayed step does not change the learner as a plain step does")
            self._recording = _Recording(kind, self.learner, self.sums, inputs, labels_RN, self._graphs())
        except Exception as error:  # a device, its memory or a user's rule may refuse: plain steps remain
            reason = str(error).partition("\n")[0] or type(error).__name__
            _LOG.info("steps are not replayed as a graph: %s", reason)
            self._graphs, self.learner.optimizer_state.clock = None, None


class _Kind:
    """The properties of a step that a recording depends on: shapes, memory order, and the list of learning rates.

    The list is compared by identity, since equal rates in another list are other memory on the device.
    """

    def __init__(self, learner: Learner, inputs: Tensor, labels_RN: Tensor) -> None:
        self._shapes = (inputs.shape, inputs.stride(), labels_RN.shape)
        self._rates = learner.optimizer_state.rates

    def like(self, other: _Kind | None) -> bool:
        """Whether one recording can serve both steps."""
        return other is not None and self._shapes == other._shapes and self._rates is other._rates


class _Recording:
    """A learner's step as a graph, with the memory of the batch it reads."""

    def __init__(
        self, kind: _Kind, learner: Learner, sums: Sums, inputs: Tensor, labels_RN: Tensor, graph: Graph
    ) -> None:
        self.kind = kind
        self._optimizer_state, self._graph = learner.optimizer_state, graph
        self._inputs, self._labels = inputs.clone(), labels_RN.clone()
        if self._optimizer_state.clock is None:
            self._optimizer_state.clock = StepCounter(self._optimizer_state.step, inputs.device)
        with _uncounted(learner):
            graph.record(lambda: _advance(learner, sums, self._inputs, self._labels))

    def replay(self, inputs: Tensor, labels_RN: Tensor) -> None:
        """Take one step with this batch."""
        self._inputs.copy_(inputs)
        self._labels.copy_(labels_RN)
        self._graph.replay()
        self._optimizer_state.step += 1


@contextmanager
def _uncounted(learner: Learner) -> Iterator[None]:
    """Keep the step number: recording a step does not take it."""
    before = learner.optimizer_state.step
    try:
        yield
    finally:
        learner.optimizer_state.step = before


def _advance(learner: Learner, sums: Sums, inputs: Tensor, labels_RN: Tensor) -> None:
    sums.add_(learner.score(learner.step(inputs, labels_RN), labels_RN), labels_RN.shape[1])


def _replays(learner: Learner, inputs: Tensor, labels_RN: Tensor, graphs: Callable[[], Graph]) -> bool:
    """Whether replayed steps change a copy of a few replicas as plain steps change two other copies."""
    chosen = _different(learner)
    inputs, labels_RN = (t[chosen] if len(t) > 1 else t for t in (inputs, labels_RN))
    learners = [learner.copy(chosen) for _ in range(3)]
    sums = [Sums.zeros(copy.replicas, inputs.device) for copy in learners]
    before = [tensor.to(torch.float64, copy=True) for tensor in _state(learners[0], sums[0])]
    for copy, total in zip(learners, sums, strict=True):
        _advance(copy, total, inputs, labels_RN)  # caches fill at the first step
    recording = _Recording(_Kind(learners[-1], inputs, labels_RN), learners[-1], sums[-1], inputs, labels_RN, graphs())
    for shift in range(1, _TRIALS + 1):
        batch = inputs.roll(shift, 1) / (1 + shift), labels_RN.roll(-shift, 1)
        for copy, total in zip(learners[:-1], sums[:-1], strict=True):
            _advance(copy, total, *batch)
        recording.replay(*batch)
    states = [_state(*of) for of in zip(learners, sums, strict=True)]
    return all(_changed_alike(start, *(t.double() for t in made)) for start, *made in zip(before, *states, strict=True))


def _different(learner: Learner) -> list[int]:
    """A few replicas that need every call the stack needs: one with a rate of its own, one with a penalty, if any."""
    settings = list(zip(learner.optimizer_state.rates, learner.optimizer_state.l2, strict=True))
    chosen = {0, min(1, learner.replicas - 1)}
    chosen |= {next((r for r, (rate, _) in enumerate(settings) if rate != settings[0][0]), 0)}
    chosen |= {next((r for r, (_, penalty) in enumerate(settings) if penalty), 0)}
    return sorted(chosen)


def _changed_alike(start: Tensor, stepped: Tensor, again: Tensor, replayed: Tensor) -> bool:
    """Whether every replica's part of `start` changed nearly alike; replicas that diverged (NaN) are ignored."""
    pairs = ((stepped, start), (stepped, again), (stepped, replayed))
    change, noise, difference = ((x - y).reshape(len(start), -1).norm(dim=1) for x, y in pairs)
    share = (
        (noise / change).nan_to_num(nan=0, posinf=0).max()
    )  # the largest: a single replica may show little noise by chance
    return bool(((difference <= (_TOLERANCE + _NOISE * share) * change) | ~change.isfinite()).all())


def _state(learner: Learner, sums: Sums) -> list[Tensor]:
    """Everything that a step changes."""
    changed = [tensor for tensors in learner.state().values() for tensor in tensors]
    return [*changed, sums.loss, sums.correct]
