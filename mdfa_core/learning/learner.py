"""One mini-batch: forward pass, output error, error transport, shared product, optimizer, constraint.

Axes: R replica, N example, C output.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.compute import kernels, threads
from mdfa_core.learning import probes
from mdfa_core.learning.optimizers import Optimizer, OptimizerState
from mdfa_core.nets import losses
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules import Signals, StepContext
from mdfa_core.rules.methods import Method

BATCHED_WEIGHTS = 1 << 23  # common calls are tried on stacks of up to this many weights


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
    """Sums of scores, kept on the device that computes them: a program waits for the device only when it reads them.

    Attributes:
        loss: summed cross-entropy of all examples in nats, [R].
        correct: number of right predictions, [R].
    """

    loss: Tensor
    correct: Tensor

    @classmethod
    def zeros(cls, replicas: int, device: torch.device) -> Sums:
        """The sums over no examples."""
        return cls(
            torch.zeros(replicas, dtype=kernels.accumulation_dtype(device), device=device),
            torch.zeros(replicas, dtype=torch.int64, device=device),
        )

    def add_(self, score: Score, examples: int) -> None:
        """Add the score of a batch of `examples` examples, in place."""
        self.loss.add_(score.loss.to(self.loss.dtype) * examples)
        self.correct.add_(score.correct)

    def zero_(self) -> None:
        """Reset to the sums over no examples, in place."""
        self.loss.zero_()
        self.correct.zero_()


class Batch:
    """The forward pass and the signals of one mini-batch, before its update is applied.

    Attributes:
        replicas: the parts in which they were computed: one part for all replicas, or one for each.
    """

    def __init__(self, replicas: Sequence[tuple[ForwardPass, Signals]]) -> None:
        self.replicas = tuple(replicas)

    @functools.cached_property
    def forward_pass(self) -> ForwardPass:
        """The forward pass of all replicas."""
        passes = [forward_pass for forward_pass, _ in self.replicas]
        return ForwardPass(
            _joined([forward_pass.inputs for forward_pass in passes]),
            _joined([forward_pass.saved for forward_pass in passes]),
            _joined([(forward_pass.logits_RNC,) for forward_pass in passes])[0],
        )

    @functools.cached_property
    def signals(self) -> Signals:
        """The method's signals for all replicas."""
        signals = [signals for _, signals in self.replicas]
        if len(signals) == 1:
            return signals[0]
        products = [s.products for s in signals if s.products is not None]
        return Signals(
            lambda: _joined([s.errors for s in signals]),
            _joined([s.deltas for s in signals]),
            products=[(delta, h) for delta, h in map(_joined, zip(*products, strict=True))] if products else None,
            feedback=lambda: _joined([s.feedback for s in signals]),
            state=lambda: _joined([s.state for s in signals]),
        )


class Learner:
    """R networks of one shape (a stack of replicas) that learn by one rule. It knows neither data nor schedule.

    One step is: forward pass; output error e = ∂L/∂z; error signals ε_l from the rule; δ_l = ε_l ⊙ f′(a_l);
    ΔW_l = δ_lᵀ h_{l−1}; then the optimizer changes W_l by ΔW_l + λ W_l (SGD: W_l ← W_l − η (ΔW_l + λ W_l)); then
    constrained weights are clipped to ≥ floor.

    On a CPU, each replica's results are bit-identical to training it alone. A small stack advances in common calls if
    a trial of the first batch, on copies, gives the same bits. Otherwise replicas take turns: several at a time, each
    in a thread of its own, if a trial gives the same bits, else one after the other. Other devices always advance the
    whole stack at once.

    Args:
        network: the shape of the nets.
        method: the rule: an error transport and a constraint.
        optimizer: applies the updates.
        parameters: initial weights and biases of R replicas; the learner changes them in place.
        feedback: the feedback that the method's transport needs, of R replicas; changed in place only if it learns.
        learning_rates: η, one per replica.
        l2: λ, one penalty per replica, 0 by default; it applies to weights and to feedback that learns.
        floor: lower bound of constrained weights.
        seeds: one per replica, 0 by default, for methods that draw random numbers at every step.
        loss_scale: one of `losses.LOSS_SCALES`; with `sum`, the output error is N times as large.

    Attributes:
        parameters: the current weights and biases.
        feedback: the current feedback.
        optimizer_state: step number, learning rates and the optimizer's slots.

    Raises:
        GeometryError: the feedback has the wrong shapes.
        InvalidValue: the number of rates, penalties or seeds is not R.
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
        loss_scale: str = "mean",
    ) -> None:
        self.network, self.method = network, method
        self.loss_scale = loss_scale
        self.parameters, self.feedback = parameters, tuple(feedback)
        first = parameters.weights[0]
        self.rule_state = tuple(
            kernels.empty_stack(self.replicas, first.new_empty(item.shape)).fill_(item.value)
            for item in method.transport.state(network)
        )
        self.floor = floor
        rates = [float(rate) for rate in learning_rates]
        penalties = [0.0] * self.replicas if l2 is None else [float(penalty) for penalty in l2]
        self.seeds = (0,) * self.replicas if seeds is None else tuple(int(seed) for seed in seeds)
        shapes = [item.shape for item in method.transport.feedback(network)]
        if [tuple(b.shape) for b in self.feedback] != [(self.replicas, *shape) for shape in shapes]:
            raise GeometryError(
                f"{method.title} needs feedback of the shapes {shapes} for each of {self.replicas} replicas, but got "
                f"{[tuple(b.shape) for b in self.feedback]}: make it with Method.initial_feedback or feedback_from"
            )
        for name, values in (("learning rates", rates), ("l2 penalties", penalties), ("seeds", self.seeds)):
            if len(values) != self.replicas:
                raise InvalidValue(f"{len(values)} {name} were given for {self.replicas} replicas: give one each")
        learned = self.feedback if method.transport.learns_feedback else ()
        self.optimizer_state = OptimizerState(optimizer, (*parameters.tensors(), *learned), rates, penalties)
        self._floors = [floor if method.constraint.covers(n) else None for n in range(len(network.layers))]
        self._batched: dict[tuple[int, ...], bool] = {}
        self._invariant: dict[tuple[int, ...], bool] = {}
        method.constraint.project_(parameters, floor)

    @property
    def replicas(self) -> int:
        """R, the number of networks."""
        return int(self.parameters.weights[0].shape[0])

    def state(self) -> dict[str, tuple[Tensor, ...]]:
        """Every tensor a step may change, each [R, …], by group: the only list of them.

        A checkpoint saves these groups, `copy` copies them, and trials of faster paths compare them. `optimizer_state`
        holds the two values of a run that are no tensors: the step number and the learning rates.
        """
        return {
            "parameters": self.parameters.tensors(),
            "feedback": self.feedback,
            "optimizer slots": tuple(slot for slots in self.optimizer_state.slots for slot in slots),
            "rule state": self.rule_state,
        }

    def load_state(self, values: Mapping[str, Sequence[Tensor]]) -> None:
        """Copy values into the tensors of `state`, group by group; a group that is empty here may be left out.

        Raises:
            ValueError: a group does not have as many tensors as here.
            RuntimeError: a tensor has another shape.
        """
        pairs = [
            pair for name, tensors in self.state().items() for pair in zip(tensors, values.get(name, ()), strict=True)
        ]
        for tensor, value in pairs:
            tensor.copy_(value)

    def context(self, labels_RN: Tensor) -> StepContext:
        """What the rule may read in the next step besides the forward pass and its error."""
        return StepContext(labels_RN, self.optimizer_state.step, self.seeds, self.rule_state)

    def observe(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """Forward pass and error signals of a batch; changes nothing.

        Args:
            inputs: images as `Network.inputs_from` returns them, [R or 1, N, …].
            labels_RN: int64 labels, [R or 1, N].
        """
        if self.batched(inputs, labels_RN):
            return self.observe_forward(self.network.forward(self.parameters, kernels.aligned(inputs)), labels_RN)
        context = self.context(labels_RN)
        return Batch([self._observe_replica(r, inputs, context) for r in range(self.replicas)])

    def observe_forward(self, forward_pass: ForwardPass, labels_RN: Tensor) -> Batch:
        """`observe`, given the forward pass."""
        signals = self._signals(self.parameters, self.feedback, forward_pass, self.context(labels_RN))
        return Batch([(forward_pass, signals)])

    def updates(self, batch: Batch) -> Parameters:
        """What the rule puts in place of the gradient ∂L/∂θ, shaped like the parameters; for BP, the gradient.

        Neither the learning rate nor the penalty is in it, and nothing changes.
        """
        parts = [signals.updates(self.network, forward_pass) for forward_pass, signals in batch.replicas]
        return Parameters(_joined([part.weights for part in parts]), _joined([part.biases for part in parts]))

    def learn(self, batch: Batch) -> None:
        """Apply the updates of a batch from `observe` through the optimizer, and clip constrained weights, in place."""
        self.optimizer_state.tick()
        if len(batch.replicas) == 1:
            self._apply(self.optimizer_state, self.parameters, self.feedback, self.rule_state, *batch.replicas[0])
            return
        for r, part in enumerate(batch.replicas):
            self._learn_replica(r, *part)

    def step(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """`observe`, then `learn`; returns the batch as it was before the update, for example for `score`.

        Args:
            inputs: images as `Network.inputs_from` returns them, [R or 1, N, …].
            labels_RN: int64 labels, [R or 1, N].
        """
        if self.batched(inputs, labels_RN):
            batch = self.observe(inputs, labels_RN)
            self.learn(batch)
            return batch
        context = self.context(labels_RN)
        self.optimizer_state.tick()

        def turn(r: int) -> tuple[ForwardPass, Signals]:
            part = self._observe_replica(r, inputs, context)
            self._learn_replica(r, *part)
            return part

        if self.threaded(inputs, labels_RN):
            return Batch(threads.parallel_map(turn, self.replicas))
        return Batch([turn(r) for r in range(self.replicas)])

    def score(self, batch: Batch, labels_RN: Tensor) -> Score:
        """Mean cross-entropy in nats and number of right predictions of a batch, each [R]."""
        return self._scored([forward_pass.logits_RNC for forward_pass, _ in batch.replicas], labels_RN)

    def measure(self, batch: Batch, sample: probes.Sample | None = None) -> probes.Measurement:
        """Compare a batch's error signals and updates with the true gradient; changes nothing. Call it before `learn`.

        Args:
            batch: from `observe`, at the current weights.
            sample: the part of the network to measure; by default all of it.

        Returns:
            Sign agreements at the three levels, angles in degrees, norm ratios and saturation, with a value for every
            replica; see `mdfa_core.training.events.Probed`.
        """
        if not kernels.per_replica(self.parameters.weights[0].device):
            return probes.measure(self.network, self.parameters, batch.forward_pass, batch.signals, sample)
        parts = batch.replicas if len(batch.replicas) > 1 else _split_replicas(*batch.replicas[0])
        return probes.stacked(
            [
                probes.measure(self.network, self.parameters.replica(r), forward_pass, signals, sample)
                for r, (forward_pass, signals) in enumerate(parts)
            ]
        )

    def evaluate(self, parameters: Parameters, inputs: Tensor, labels_RN: Tensor) -> Score:
        """The score of any parameters of this shape, for example saved ones; images and labels as in `observe`."""
        replicas = range(parameters.weights[0].shape[0])
        if len(replicas) == self.replicas and self.batched(inputs, labels_RN):
            logits = [self.network.forward(parameters, inputs).logits_RNC]
        else:
            logits = [
                self.network.forward(parameters.replica(r), kernels.replica(inputs, r)).logits_RNC for r in replicas
            ]
        return self._scored(logits, labels_RN)

    def batched(self, inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether common calls advance all replicas on batches of this shape and memory order."""
        if self.replicas == 1 or not kernels.per_replica(inputs.device):
            return True
        kind = (torch.get_num_threads(), *inputs.shape, *inputs.stride(), *labels_RN.shape)
        if kind not in self._batched:
            small = sum(weight.numel() for weight in self.parameters.weights) <= BATCHED_WEIGHTS
            self._batched[kind] = small and self._aligned(inputs) and self._same_bits(kind, inputs, labels_RN)
        return self._batched[kind]

    def threaded(self, inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether several replicas take their turns at the same time on batches of this shape and memory order."""
        if threads.worker_count() == 1 or self.replicas == 1 or not kernels.per_replica(inputs.device):
            return False
        return self.thread_invariant(inputs, labels_RN)

    def largest_product(self, inputs: Tensor) -> int:
        """Multiply-adds of the largest product of one network's step on such a batch."""
        return inputs.shape[1] * max(layer.multiply_adds for layer in self.network.layers)

    def thread_invariant(self, inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether one thread gives the bits of PyTorch's current number of threads, tried on a copy of one network."""
        kind = (threads.worker_count(), *inputs.shape, *inputs.stride(), *labels_RN.shape)
        if kind not in self._invariant:
            batch = kernels.replica(inputs, 0), labels_RN[:1]

            def trial(_: int) -> list[Tensor]:
                return self.copy([0])._outcome(*batch)

            (alone,) = threads.parallel_map(trial, 1)
            self._invariant[kind] = all(map(torch.equal, alone, trial(0)))
        return self._invariant[kind]

    def _aligned(self, inputs: Tensor) -> bool:
        """Whether every tensor of a step fills whole pairs of vectors, for one replica and for the stack.

        PyTorch works on pairs of vectors. A remainder goes through other code, whose sigmoid and softplus have other
        last bits, and a sum with an unaligned start may add in another order. A trial on few numbers may miss that.
        """
        sizes = [layer.units for layer in self.network.layers] + [inputs[0, 0].numel()]
        itemsize = self.network.precision.storage.itemsize
        return all(
            kernels.fills_whole_vectors(count * inputs.shape[1] * size, itemsize)
            for size in sizes
            for count in (1, self.replicas)
        )

    def _same_bits(self, kind: tuple[int, ...], inputs: Tensor, labels_RN: Tensor) -> bool:
        """Whether a step in common calls gives every replica the bits of a step alone, tried on copies."""
        results = []
        for batched in (True, False):
            trial = self.copy(range(self.replicas))
            trial._batched[kind] = batched
            results.append(trial._outcome(inputs, labels_RN))
        return all(map(torch.equal, *results))

    def copy(self, replicas: Sequence[int]) -> Learner:
        """A learner with copies of some replicas, at the same step; it shares no memory with this learner."""

        def chosen(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(kernels.stack([tensor[r] for r in replicas]) for tensor in tensors)

        made = Learner(
            self.network,
            self.method,
            self.optimizer_state.optimizer,
            Parameters(chosen(self.parameters.weights), chosen(self.parameters.biases)),
            chosen(self.feedback),
            learning_rates=[self.optimizer_state.rates[r] for r in replicas],
            l2=[self.optimizer_state.l2[r] for r in replicas],
            floor=self.floor,
            seeds=[self.seeds[r] for r in replicas],
            loss_scale=self.loss_scale,
        )
        made.optimizer_state.step = self.optimizer_state.step
        for copies, originals in zip(made.state().values(), self.state().values(), strict=True):
            for ours, theirs in zip(copies, originals, strict=True):
                for place, r in enumerate(replicas):
                    ours[place].copy_(theirs[r])
        return made

    def _outcome(self, inputs: Tensor, labels_RN: Tensor) -> list[Tensor]:
        """Everything that one step computes or changes."""
        batch = self.step(inputs, labels_RN)
        score = self.score(batch, labels_RN)
        changed = [tensor for tensors in self.state().values() for tensor in tensors]
        return [*batch.signals.deltas, *changed, score.loss, score.correct]

    def _observe_replica(self, r: int, inputs: Tensor, context: StepContext) -> tuple[ForwardPass, Signals]:
        parameters, feedback = self.parameters.replica(r), [kernels.replica(b, r) for b in self.feedback]
        forward_pass = self.network.forward(parameters, kernels.replica(inputs, r))
        return forward_pass, self._signals(parameters, feedback, forward_pass, context.replica(r))

    def _signals(
        self, parameters: Parameters, feedback: Sequence[Tensor], forward_pass: ForwardPass, context: StepContext
    ) -> Signals:
        error = losses.output_error(forward_pass.logits_RNC, context.labels_RN, self.loss_scale)
        return self.method.transport.signals(self.network, parameters, feedback, forward_pass, error, context)

    def _learn_replica(self, r: int, forward_pass: ForwardPass, signals: Signals) -> None:
        feedback, rule_state = (
            [t[r : r + 1] for t in tensors] for tensors in (self.feedback, self.rule_state)
        )  # views
        optimizer_state, parameters = self.optimizer_state.replica(r), self.parameters.replica(r)
        self._apply(optimizer_state, parameters, feedback, rule_state, forward_pass, signals)

    def _apply(
        self,
        optimizer_state: OptimizerState,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        rule_state: Sequence[Tensor],
        forward_pass: ForwardPass,
        signals: Signals,
    ) -> None:
        layers = self.network.layers
        # Updates of feedback and state come first, all before any is applied: they read the weights, the feedback and
        # the state of the forward pass.
        feedback_updates = signals.feedback if self.method.transport.learns_feedback else ()
        if rule_state:
            for own, value in zip(rule_state, signals.state, strict=True):
                own.copy_(value)
        floor = self.floor if self.method.constraint.feedback else None
        if self.method.transport.learns_feedback:
            for place, (b, g) in enumerate(zip(feedback, feedback_updates, strict=True), 2 * len(layers)):
                optimizer_state.update_tensor_(place, b, g, floor)
        for number, layer in enumerate(layers):
            delta, x = signals.factors(number, forward_pass)
            optimizer_state.update_weights_(
                2 * number, layer, parameters.weights[number], x, delta, self._floors[number]
            )
            optimizer_state.update_bias_(
                2 * number + 1, parameters.biases[number], layer.bias_update(signals.bias_delta(number))
            )

    def _scored(self, logits: Sequence[Tensor], labels_RN: Tensor) -> Score:
        if len(logits) == 1:
            return Score(losses.cross_entropy(logits[0], labels_RN), losses.correct(logits[0], labels_RN))
        scores = [self._scored([z], kernels.replica(labels_RN, r)) for r, z in enumerate(logits)]
        return Score(torch.cat([score.loss for score in scores]), torch.cat([score.correct for score in scores]))


def stored_numbers(network: Network, method: Method, optimizer: Optimizer) -> dict[str, int]:
    """How many numbers `Learner.state` keeps for one replica, by group, before anything is allocated."""
    transport = method.transport
    feedback = sum(math.prod(item.shape) for item in transport.feedback(network))
    learned = network.parameter_count + (feedback if transport.learns_feedback else 0)
    return {
        "parameters": network.parameter_count,
        "feedback": feedback,
        "optimizer slots": learned * len(optimizer.slots),
        "rule state": sum(math.prod(item.shape) for item in transport.state(network)),
    }


def _split_replicas(forward_pass: ForwardPass, signals: Signals) -> list[tuple[ForwardPass, Signals]]:
    """The forward pass and the signals of every replica of a stack, aligned as if it had been alone."""

    def one(tensors: Sequence[Tensor], r: int) -> tuple[Tensor, ...]:
        return tuple(kernels.replica(tensor, r) for tensor in tensors)

    return [
        (
            ForwardPass(
                one(forward_pass.inputs, r), one(forward_pass.saved, r), kernels.replica(forward_pass.logits_RNC, r)
            ),
            Signals(
                one(signals.errors, r),
                one(signals.deltas, r),
                products=None
                if signals.products is None
                else [(kernels.replica(delta, r), kernels.replica(h, r)) for delta, h in signals.products],
            ),
        )
        for r in range(forward_pass.logits_RNC.shape[0])
    ]


def _joined(replicas: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """The replicas' tensors [1, …] as stacks [R, …]; a single part is returned as it is."""
    if len(replicas) == 1:
        return tuple(replicas[0])
    return tuple(kernels.stack([tensor[0] for tensor in tensors]) for tensors in zip(*replicas, strict=True))
