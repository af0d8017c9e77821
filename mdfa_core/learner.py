"""One mini-batch: forward pass, output error, error transport, shared product, optimizer, constraint.

Axes: R replica, N example, C output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core import losses
from mdfa_core.errors import GeometryError, InvalidValue
from mdfa_core.methods import Method, Signals
from mdfa_core.networks import Network, Parameters, Trace
from mdfa_core.optimizers import Optimizer, OptimizerState, apply_


@dataclass(frozen=True)
class Batch:
    """What one mini-batch showed, before its update was made.

    Attributes:
        trace: the forward pass.
        signals: every layer's error as the method delivers it.
    """

    trace: Trace
    signals: Signals


class Learner:
    """A stack of R nets of one shape that learn by one method; it knows neither data nor schedule.

    Args:
        network: the shape.
        method: where error signals come from, and what the weights are held to.
        optimizer: how updates are applied.
        parameters: initial weights and biases of R replicas; the learner changes them in place.
        feedback: one tensor per hidden layer of R replicas, or none where the method needs none; never changed.
        learning_rates: one per replica.
        l2: one penalty per replica, 0 if left out.
        floor: lower bound of constrained weights.
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
    ) -> None:
        self.network, self.method, self.optimizer = network, method, optimizer
        self.parameters, self.feedback = parameters, tuple(feedback)
        self.learning_rates = [float(rate) for rate in learning_rates]
        self.l2 = [0.0] * self.replicas if l2 is None else [float(penalty) for penalty in l2]
        self.floor = floor
        self.state = OptimizerState.initial(optimizer, parameters)
        needed = [item.shape for item in method.transport.feedback(network)]
        if [tuple(b.shape) for b in self.feedback] != [(self.replicas, *shape) for shape in needed]:
            raise GeometryError(
                f"{method.title} needs feedback of the shapes {needed} for each of {self.replicas} replicas, but got "
                f"{[tuple(b.shape) for b in self.feedback]}: make it with Method.initial_feedback or feedback_from"
            )
        for name, values in (("learning rates", self.learning_rates), ("l2 penalties", self.l2)):
            if len(values) != self.replicas:
                raise InvalidValue(f"{len(values)} {name} were given for {self.replicas} replicas: give one each")
        method.constraint.project_(parameters, floor)

    @property
    def replicas(self) -> int:
        """R."""
        return int(self.parameters.weights[0].shape[0])

    @torch.no_grad()
    def observe(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """Forward pass and error signals of a batch; nothing changes.

        Args:
            inputs: images as `Network.inputs_from` makes them, [R or 1, N, …].
            labels_RN: int64 labels, [R or 1, N].
        """
        trace = self.network.forward(self.parameters, inputs)
        error = losses.output_error(trace.logits_RNC, labels_RN)
        signals = self.method.transport.signals(self.network, self.parameters, self.feedback, trace, error)
        return Batch(trace, signals)

    @torch.no_grad()
    def updates(self, batch: Batch) -> Parameters:
        """What the method puts in place of the mean gradient ∂L/∂θ, shaped like the parameters (BP: the gradient)."""
        return self.network.updates(batch.trace, batch.signals.deltas)

    @torch.no_grad()
    def learn(self, batch: Batch) -> None:
        """Apply the batch's updates and project the constrained weights, in place."""
        apply_(self.optimizer, self.state, self.parameters, self.updates(batch), self.learning_rates, self.l2)
        self.method.constraint.project_(self.parameters, self.floor)

    def step(self, inputs: Tensor, labels_RN: Tensor) -> Batch:
        """`observe` and `learn`."""
        batch = self.observe(inputs, labels_RN)
        self.learn(batch)
        return batch
