"""One mini-batch: forward pass, output error, error transport, shared product, optimizer, constraint.

Axes: R replica, N example, C output.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core import kernels, losses, probes, side_by_side
from mdfa_core.errors import GeometryError, InvalidValue
from mdfa_core.methods import Method
from mdfa_core.networks import Network, Parameters, Trace
from mdfa_core.optimizers import Descent, Optimizer
from mdfa_core.transports import Moment, Signals

TOGETHER = 1 << 23  # numbers of a stack's weights up to which advancing all replicas in common calls is tried


@dataclass(frozen=True)
class Score:
    """How good some predictions are, per replica.

    Attributes:
        loss: mean cross-entropy in nats, [R].
        correct: number of right predictions, [R].
    """

    loss: Tensor
    correct: Tensor


@dataclass(frozen=True)
class Sums:
    """Scores added up, on the device that makes them: a program waits for it only when it reads them.

    Attributes:
        loss: summed cross-entropy of all examples in nats, [R].
        correct: number of right predictions, [R].
    """

    loss: Tensor
    correct: Tensor

    @classmethod
    def zeros(cls, replicas: int, device: torch.device) -> Sums:
        """Of no example yet."""
        return cls(
            torch.zeros(replicas, dtype=kernels.summing_dtype(device), device=device),
            torch.zeros(replicas, dtype=torch.int64, device=device),
        )

    def add_(self, score: Score, examples: int) -> None:
        """Add the score of so many examples, in place."""
        self.loss.add_(score.loss.to(self.loss.dtype) * examples)
        self.correct.add_(score.correct)

    def zero_(self) -> None:
        """Forget all examples, in place."""
        self.loss.zero_()
        self.correct.zero_()


class Batch:
    """What one mini-batch showed, before its update was made.

    Attributes:
        replicas: the parts it was worked out in: one for all replicas, or one a replica.
    """

    def __init__(self, replicas: Sequence[tuple[Trace, Signals]]) -> None:
        self.replicas = tuple(replicas)

    @functools.cached_property
    def trace(self) -> Trace:
        """The forward pass of all replicas."""
        traces = [trace for trace, _ in self.replicas]
        return Trace(
            _joined([trace.inputs for trace in traces]),
            _joined([trace.saved for trace in traces]),
            _joined([(trace.logits_RNC,) for trace in traces])[0],
        )

    @functools.cached_property
    def signals(self) -> Signals:
        """What the method delivers to all replicas."""
        signals = [signals for _, signals in self.replicas]
        if len(signals) == 1:
            return signals[0]
        products = [s.products for s in signals if s.products is not None]
        return Signals(
            lambda: _joined([s.errors for s in signals]),
            _joined([s.deltas for s in signals]),
            products=[(delta, h) for delta, h in map(_joined, zip(*products, strict=True))] if products else None,
            feedback=lambda: _joined([s.feedback for s in signals]),
        )


class Learner:
    """A stack of R nets of one shape that learn by one method; it knows neither data nor schedule.

    On a CPU a replica gets the very bits it gets alone. Small stacks are advanced in common calls if a trial
    of the first batch on copies shows no difference in any bit. In all others replicas take turns: several at a time, a
    thread each, if a trial shows the same bits, else one after the other. Other devices always advance the whole stack
    at once.

    Args:
        network: the shape.
        method: where error signals come from, and what the weights are held to.
        optimizer: how updates are applied.
        parameters: initial weights and biases of R replicas; the learner changes them in place.
        feedback: what the method's transport asks for, of R replicas; changed, in place, only where it learns.
        learning_rates: one per replica.
        l2: one penalty per replica, 0 if left out; feedback that learns has it, too.
        floor: lower bound of constrained weights.
        seeds: one per replica, for methods that draw something at every step; 0 if left out.

    Raises:
        GeometryError: the feedback has other shapes than the method needs.
        InvalidValue: there is not one rate (or penalty, or seed) a replica.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        optimizer: Optimizer,
        parameters: Parameters,
        feedback: Sequence[Tensor] = (),
        *,
        learning_rates: Sequence[float],
        l2: Sequence[float] | None = None,
        floor: float = 1e-6,
        seeds: Sequence[int] | None = None,
    ) -> None:
        self.network, self.method = network, method
        self.parameters, self.feedback = parameters, tuple(feedback)
        self.floor = floor
        rates = [float(rate) for rate in learning_rates]
        penalties = [0.0] * self.replicas if l2 is None else [float(penalty) for penalty in l2]
        self.seeds = (0,) * self.replicas if seeds is None else tuple(int(seed) for seed in seeds)
        needed = [item.shape for item in method.transport.feedback(network)]
        if [tuple(b.shape) for b in self.feedback] != [(self.replicas, *shape) for shape in needed]:
            raise GeometryError(
                f"{method.title} needs feedback of the shapes {needed} for each of {self.replicas} replicas, but got "
                f"{[tuple(b.shape) for b in self.feedback]}: make it with Method.initial_feedback or feedback_from"
            )
        for name, values in (("learning rates", rates), ("l2 penalties", penalties), ("seeds", self.seeds)):
            if len(values) != self.replicas:
                raise InvalidValue(f"{len(values)} {name} were given for {self.replicas} replicas: give one each")
        learned = self.feedback if method.transport.learns_feedback else ()
        self.descent = Descent(optimizer, (*parameters.tensors(), *learned), rates, penalties)
        self._floors = [floor if method.constraint.covers(n) else None for n in range(len(network.layers))]
        self._together: dict[tuple[int, ...], bool] = {}
        self._side_by_side: dict[tuple[int, ...], bool] = {}
        method.constraint.project_(parameters, floor)

    @property
    def replicas(self) -> int:
        """R."""
        return int(self.parameters.weights[0].shape[0])

    def observe(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """Forward pass and error signals of a batch; nothing changes.

        Args:
            inputs: images as `Network.inputs_from` makes them, [R or 1, N, …].
            labels_RN: int64 labels, [R or 1, N].
        """
        moment = Moment(labels_RN, self.descent.step, self.seeds)
        if self.together(inputs, labels_RN):
            return Batch([self._observed(self.parameters, self.feedback, kernels.aligned(inputs), moment)])
        return Batch([self._observed_alone(r, inputs, moment) for r in range(self.replicas)])

    def understood(self, trace: Trace, labels_RN: Tensor) -> Batch:
        """`observe` from a forward pass that was made already."""
        moment = Moment(labels_RN, self.descent.step, self.seeds)
        return Batch([self._understood(self.parameters, self.feedback, trace, moment)])

    def updates(self, batch: Batch) -> Parameters:
        """What the method puts in place of the mean gradient ∂L/∂θ, shaped like the parameters (BP: the gradient)."""
        parts = [signals.updates(self.network, trace) for trace, signals in batch.replicas]
        return Parameters(_joined([part.weights for part in parts]), _joined([part.biases for part in parts]))

    def learn(self, batch: Batch) -> None:
        """Apply the batch's updates and hold the constrained weights to their set, in place."""
        self.descent.tick()
        if len(batch.replicas) == 1:
            self._learned(self.descent, self.parameters, self.feedback, *batch.replicas[0])
            return
        for r, part in enumerate(batch.replicas):
            self._learned_alone(r, *part)

    def step(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """`observe` and `learn`; replicas that take turns do both in one turn, while their weights are in the cache."""
        if self.together(inputs, labels_RN):
            batch = self.observe(inputs, labels_RN)
            self.learn(batch)
            return batch
        moment = Moment(labels_RN, self.descent.step, self.seeds)
        self.descent.tick()

        def turn(r: int) -> tuple[Trace, Signals]:
            part = self._observed_alone(r, inputs, moment)
            self._learned_alone(r, *part)
            return part

        if self.side_by_side(inputs, labels_RN):
            return Batch(side_by_side.each(turn, self.replicas))
        return Batch([turn(r) for r in range(self.replicas)])

    def score(self, batch: Batch, labels_RN: Tensor) -> Score:
        """Loss and right predictions of a batch."""
        return self._scored([trace.logits_RNC for trace, _ in batch.replicas], labels_RN)

    def measure(self, batch: Batch, sample: probes.Sample | None = None) -> probes.Measurement:
        """How far a batch's errors and updates agree with the true gradient (before `learn`); nothing changes.

        A `sample` measures a part of the net instead of all of it.
        """
        if not kernels.in_turn(self.parameters.weights[0].device):
            return probes.measure(self.network, self.parameters, batch.trace, batch.signals, sample)
        parts = batch.replicas if len(batch.replicas) > 1 else _taken_apart(*batch.replicas[0])
        return probes.together(
            [
                probes.measure(self.network, self.parameters.replica(r), trace, signals, sample)
                for r, (trace, signals) in enumerate(parts)
            ]
        )

    def evaluate(self, parameters: Parameters, inputs: Tensor, labels_RN: Tensor) -> Score:
        """Loss and right predictions of nets of this shape on images and labels as `observe` takes them."""
        replicas = range(parameters.weights[0].shape[0])
        if len(replicas) == self.replicas and self.together(inputs, labels_RN):
            logits = [self.network.forward(parameters, inputs).logits_RNC]
        else:
            logits = [
                self.network.forward(parameters.replica(r), kernels.replica(inputs, r)).logits_RNC for r in replicas
            ]
        return self._scored(logits, labels_RN)

    def together(self, inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether batches of this shape and memory order advance all replicas in common calls."""
        if self.replicas == 1 or not kernels.in_turn(inputs.device):
            return True
        kind = (*inputs.shape, *inputs.stride(), *labels_RN.shape)
        if kind not in self._together:
            small = sum(weight.numel() for weight in self.parameters.weights) <= TOGETHER
            self._together[kind] = small and self._aligned(inputs) and self._same_bits(kind, inputs, labels_RN)
        return self._together[kind]

    def side_by_side(self, inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether replicas that take turns in batches of this shape and memory order do so several at a time."""
        threads = side_by_side.threads()
        if threads == 1 or self.replicas == 1 or not kernels.in_turn(inputs.device):
            return False
        kind = (threads, *inputs.shape, *inputs.stride(), *labels_RN.shape)
        if kind not in self._side_by_side:
            batch = kernels.replica(inputs, 0), labels_RN[:1]

            def trial(_: int) -> list[Tensor]:
                return self.copy([0])._outcome(*batch)

            (alone,) = side_by_side.each(trial, 1)
            self._side_by_side[kind] = all(map(torch.equal, alone, trial(0)))
        return self._side_by_side[kind]

    def _aligned(self, inputs: Tensor) -> bool:
        """Whether a replica's part of all that a step makes is whole pairs of vectors, alone and in the stack.

        PyTorch works on pairs of vectors; what is left over goes through other code, whose sigmoid and softplus have
        other last bits, and a sum whose start is not aligned may have another order. A trial of few numbers may fail to
        show it.
        """
        sizes = [layer.units for layer in self.network.layers] + [inputs[0, 0].numel()]
        itemsize = self.network.precision.storage.itemsize
        return all(
            kernels.in_whole_vectors(count * inputs.shape[1] * size, itemsize)
            for size in sizes
            for count in (1, self.replicas)
        )

    def _same_bits(self, kind: tuple[int, ...], inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether a step in common calls gives every replica the bits of its own step: tried on copies."""
        results = []
        for together in (True, False):
            trial = self.copy(range(self.replicas))
            trial._together[kind] = together
            results.append(trial._outcome(inputs, labels_RN))
        return all(map(torch.equal, *results))

    def copy(self, replicas: Sequence[int]) -> Learner:
        """A learner of copies of some replicas; it remembers nothing of earlier steps."""

        def chosen(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(kernels.stack([tensor[r] for r in replicas]) for tensor in tensors)

        return Learner(
            self.network,
            self.method,
            self.descent.optimizer,
            Parameters(chosen(self.parameters.weights), chosen(self.parameters.biases)),
            chosen(self.feedback),
            learning_rates=[self.descent.rates[r] for r in replicas],
            l2=[self.descent.l2[r] for r in replicas],
            floor=self.floor,
            seeds=[self.seeds[r] for r in replicas],
        )

    def _outcome(self, inputs: Tensor, labels_RN: Tensor) -> list[Tensor]:
        """Everything that one step makes or changes."""
        batch = self.step(inputs, labels_RN)
        score = self.score(batch, labels_RN)
        slots = [slot for slots in self.descent.slots for slot in slots]
        return [*batch.signals.deltas, *self.parameters.tensors(), *self.feedback, score.loss, score.correct, *slots]

    def _observed_alone(self, r: int, inputs: Tensor, moment: Moment) -> tuple[Trace, Signals]:
        return self._observed(
            self.parameters.replica(r),
            [kernels.replica(b, r) for b in self.feedback],
            kernels.replica(inputs, r),
            moment.replica(r),
        )

    def _observed(
        self, parameters: Parameters, feedback: Sequence[Tensor], inputs: Tensor, moment: Moment
    ) -> tuple[Trace, Signals]:
        return self._understood(parameters, feedback, self.network.forward(parameters, inputs), moment)

    def _understood(
        self, parameters: Parameters, feedback: Sequence[Tensor], trace: Trace, moment: Moment
    ) -> tuple[Trace, Signals]:
        error = losses.output_error(trace.logits_RNC, moment.labels_RN)
        return trace, self.method.transport.signals(self.network, parameters, feedback, trace, error, moment)

    def _learned_alone(self, r: int, trace: Trace, signals: Signals) -> None:
        feedback = [b[r : r + 1] for b in self.feedback]  # views: what is learned there is learned here
        self._learned(self.descent.replica(r), self.parameters.replica(r), feedback, trace, signals)

    def _learned(
        self, descent: Descent, parameters: Parameters, feedback: Sequence[Tensor], trace: Trace, signals: Signals
    ) -> None:
        layers = self.network.layers
        if self.method.transport.learns_feedback:  # first: its updates read the weights that made the forward pass
            floor = self.floor if self.method.constraint.feedback else None
            for place, (b, g) in enumerate(zip(feedback, signals.feedback, strict=True), 2 * len(layers)):
                descent.made_(place, b, g, floor)
        for number, layer in enumerate(layers):
            delta, x = signals.factors(number, trace)
            descent.weights_(2 * number, layer, parameters.weights[number], x, delta, self._floors[number])
            descent.bias_(2 * number + 1, parameters.biases[number], layer.bias_update(signals.bias_delta(number)))

    def _scored(self, logits: Sequence[Tensor], labels_RN: Tensor) -> Score:
        if len(logits) == 1:
            return Score(losses.cross_entropy(logits[0], labels_RN), losses.correct(logits[0], labels_RN))
        scores = [self._scored([z], kernels.replica(labels_RN, r)) for r, z in enumerate(logits)]
        return Score(torch.cat([score.loss for score in scores]), torch.cat([score.correct for score in scores]))


def _taken_apart(trace: Trace, signals: Signals) -> list[tuple[Trace, Signals]]:
    """A stack's forward pass and signals as those of its replicas, aligned as if each had been alone."""

    def one(tensors: Sequence[Tensor], r: int) -> tuple[Tensor, ...]:
        return tuple(kernels.replica(tensor, r) for tensor in tensors)

    return [
        (
            Trace(one(trace.inputs, r), one(trace.saved, r), kernels.replica(trace.logits_RNC, r)),
            Signals(
                one(signals.errors, r),
                one(signals.deltas, r),
                products=None
                if signals.products is None
                else [(kernels.replica(delta, r), kernels.replica(h, r)) for delta, h in signals.products],
            ),
        )
        for r in range(trace.logits_RNC.shape[0])
    ]


def _joined(replicas: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Each replica's tensors [1, …] as stacks [R, …]; a single part is whole already."""
    if len(replicas) == 1:
        return tuple(replicas[0])
    return tuple(kernels.stack([tensor[0] for tensor in tensors]) for tensors in zip(*replicas, strict=True))
