"""Training steps as one graph of a CUDA device's kernels: recorded once, then replayed with one launch each.

A step of a small stack is some fifty kernels of a few microseconds, and Python takes longer to launch them than the
device to run them. A graph has the memory and the numbers that were its kernels' arguments in it for good. So batches
are copied to where it reads them, the number of the step is counted on the device (`Clock`), and other learning rates
mean another recording.

MDFA_GRAPH=off never records; auto, which is what is meant where nothing is said, does on CUDA devices.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from mdfa_core.errors import InvalidValue
from mdfa_core.learner import Learner, Sums
from mdfa_core.optimizers import Clock

_LOG = logging.getLogger(__name__)

GRAPH_VARIABLE = "MDFA_GRAPH"
GRAPHS = ("auto", "off")

_TRIALS = 3  # batches it replays
_TOLERANCE = 1e-2  # how far the changes made may differ: by sums in another order, by signs of what is nearly 0
_NOISE = 3  # and so many times farther than plain steps do when taken twice: some of cuDNN's sums have no fixed order


class Graph(ABC):
    """Kernels that can be run again, on the memory and with the numbers they were recorded with."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> None:
        """Note every kernel that `work` asks for, and run none.

        Raises:
            RuntimeError: `work` does what a graph cannot hold, such as waiting for the device; and what `work` raises.
        """

    @abstractmethod
    def replay(self) -> None:
        """Run them."""


class CudaGraph(Graph):
    """By `torch.cuda.CUDAGraph`.

    Not by `torch.cuda.graph`: its stream belongs to the first device that was used, and remains the thread's where
    recording fails.
    """

    _one_at_a_time = threading.Lock()  # in a process

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], None]) -> None:
        with self._one_at_a_time, torch.cuda.device(self._device), torch.cuda.stream(_side_stream(self._device)):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # a graph's memory is its own
            self._graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the device meanwhile
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):  # which says only that something went wrong before
                    self._graph.capture_end()
                raise
            self._graph.capture_end()

    def replay(self) -> None:
        self._graph.replay()


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings: PyTorch keeps a workspace for every stream that has multiplied matrices."""
    return torch.cuda.Stream(device)


def graphs_of(device: torch.device) -> Callable[[], Graph] | None:
    """What makes graphs for a device; None where there are none or MDFA_GRAPH says so.

    Raises:
        InvalidValue: MDFA_GRAPH is neither auto nor off.
    """
    wanted = os.environ.get(GRAPH_VARIABLE) or "auto"
    if wanted not in GRAPHS:
        raise InvalidValue(f"{GRAPH_VARIABLE} is {wanted!r}: choose one of {', '.join(GRAPHS)}")
    return (lambda: CudaGraph(device)) if device.type == "cuda" and wanted == "auto" else None


class Steps:
    """A learner's steps, with their scores added up, the quickest way its device has.

    Where there are graphs, a step is recorded when two in a row were alike, and replayed from then on; batches of other
    shapes, and the first ones after a change of learning rates, are worked out as ever. Before a recording, a trial on
    copies of a few replicas shows whether replaying does what the steps do. Where it does not, where something goes
    wrong or where the rule draws numbers at every step, nothing is recorded.

    Args:
        learner: whose steps they are.
        sums: what the scores are added to.
        replayed: False works every step out as ever, to compare with.
    """

    def __init__(self, learner: Learner, sums: Sums, *, replayed: bool = True) -> None:
        self.learner, self.sums = learner, sums
        graphs = graphs_of(learner.parameters.weights[0].device)
        self._graphs = graphs if replayed and not learner.method.transport.draws else None
        self._last: _Kind | None = None
        self._recording: _Recording | None = None

    @property
    def replaying(self) -> bool:
        """Whether a step has been recorded."""
        return self._recording is not None

    def take(self, inputs: Tensor, labels_RN: Tensor) -> None:
        """One step; inputs and labels as `Learner.observe` takes them."""
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

    def _record(self, kind: _Kind, inputs: Tensor, labels_RN: Tensor) -> None:
        assert self._graphs is not None
        try:
            if not _replays(self.learner, inputs, labels_RN, self._graphs):
                raise RuntimeError("a replayed step does not do what the step does")
            self._recording = _Recording(kind, self.learner, self.sums, inputs, labels_RN, self._graphs())
        except Exception as error:  # whatever a device, its memory or a user's rule has against it: steps go on
            reason = str(error).partition("\n")[0] or type(error).__name__
            _LOG.info("steps are not replayed as a graph: %s", reason)
            self._graphs, self.learner.descent.clock = None, None


class _Kind:
    """What must be equal for a recording to serve: shapes, memory order, and the very list of learning rates.

    Equal rates in another list are other memory on the device.
    """

    def __init__(self, learner: Learner, inputs: Tensor, labels_RN: Tensor) -> None:
        self._shapes = (inputs.shape, inputs.stride(), labels_RN.shape)
        self._rates = learner.descent.rates

    def like(self, other: _Kind | None) -> bool:
        """Whether one recording serves both."""
        return other is not None and self._shapes == other._shapes and self._rates is other._rates


class _Recording:
    """A step of a learner as a graph, and the batch it reads."""

    def __init__(
        self, kind: _Kind, learner: Learner, sums: Sums, inputs: Tensor, labels_RN: Tensor, graph: Graph
    ) -> None:
        self.kind = kind
        self._descent, self._graph = learner.descent, graph
        self._inputs, self._labels = inputs.clone(), labels_RN.clone()
        if self._descent.clock is None:
            self._descent.clock = Clock(self._descent.step, inputs.device)
        with _uncounted(learner):
            graph.record(lambda: _advance(learner, sums, self._inputs, self._labels))

    def replay(self, inputs: Tensor, labels_RN: Tensor) -> None:
        """One step from this batch."""
        self._inputs.copy_(inputs)
        self._labels.copy_(labels_RN)
        self._graph.replay()
        self._descent.step += 1


@contextmanager
def _uncounted(learner: Learner) -> Iterator[None]:
    """What is only recorded is no step yet."""
    before = learner.descent.step
    try:
        yield
    finally:
        learner.descent.step = before


def _advance(learner: Learner, sums: Sums, inputs: Tensor, labels_RN: Tensor) -> None:
    sums.add_(learner.score(learner.step(inputs, labels_RN), labels_RN), labels_RN.shape[1])


def _replays(learner: Learner, inputs: Tensor, labels_RN: Tensor, graphs: Callable[[], Graph]) -> bool:
    """Whether replayed steps of a copy of a few replicas change it as its steps change another, and another."""
    chosen = _different(learner)
    inputs, labels_RN = (t[chosen] if len(t) > 1 else t for t in (inputs, labels_RN))
    learners = [learner.copy(chosen) for _ in range(3)]
    sums = [Sums.zeros(copy.replicas, inputs.device) for copy in learners]
    before = [tensor.to(torch.float64, copy=True) for tensor in _state(learners[0], sums[0])]
    for copy, total in zip(learners, sums, strict=True):
        _advance(copy, total, inputs, labels_RN)  # makes what is made once
    recording = _Recording(_Kind(learners[-1], inputs, labels_RN), learners[-1], sums[-1], inputs, labels_RN, graphs())
    for shift in range(1, _TRIALS + 1):
        batch = inputs.roll(shift, 1) / (1 + shift), labels_RN.roll(-shift, 1)
        for copy, total in zip(learners[:-1], sums[:-1], strict=True):
            _advance(copy, total, *batch)
        recording.replay(*batch)
    states = [_state(*of) for of in zip(learners, sums, strict=True)]
    return all(_changed_alike(start, *(t.double() for t in made)) for start, *made in zip(before, *states, strict=True))


def _different(learner: Learner) -> list[int]:
    """A few replicas of a stack that take all calls it takes: one has its own rate, one a penalty, if any has."""
    settings = list(zip(learner.descent.rates, learner.descent.l2, strict=True))
    chosen = {0, min(1, learner.replicas - 1)}
    chosen |= {next((r for r, (rate, _) in enumerate(settings) if rate != settings[0][0]), 0)}
    chosen |= {next((r for r, (_, penalty) in enumerate(settings) if penalty), 0)}
    return sorted(chosen)


def _changed_alike(start: Tensor, stepped: Tensor, again: Tensor, replayed: Tensor) -> bool:
    """Whether every replica's part of `start` became nearly the same; what diverged has no numbers."""
    pairs = ((stepped, start), (stepped, again), (stepped, replayed))
    change, noise, difference = ((x - y).reshape(len(start), -1).norm(dim=1) for x, y in pairs)
    share = (noise / change).nan_to_num(nan=0, posinf=0).max()  # of a few replicas: one alone may happen to be quiet
    return bool(((difference <= (_TOLERANCE + _NOISE * share) * change) | ~change.isfinite()).all())


def _state(learner: Learner, sums: Sums) -> list[Tensor]:
    """Everything that a step changes."""
    slots = [slot for slots in learner.descent.slots for slot in slots]
    learned = learner.feedback if learner.method.transport.learns_feedback else ()
    return [*learner.parameters.tensors(), *learned, *slots, sums.loss, sums.correct]
