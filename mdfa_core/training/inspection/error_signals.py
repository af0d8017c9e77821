"""One replica's forward pass on some images, with the delivered and the true error signals."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.nets import losses
from mdfa_core.nets.networks import ForwardPass, Parameters
from mdfa_core.rules import Signals
from mdfa_core.training.run import Run


class ErrorSignals:
    """One replica's forward pass on some images, and the error signals ε of its hidden layers.

    Args:
        run: the run.
        replica: the replica, from 0.
        inputs: network inputs, [1, N, …].
        labels: int64 labels, [1, N].

    Attributes:
        parameters: the replica's weights and biases.
        forward_pass: its forward pass.
        delivered: the error signals that the learning rule delivers.
    """

    def __init__(self, run: Run, replica: int, inputs: Tensor, labels: Tensor) -> None:
        learner, network = run.learner, run.network
        self.parameters: Parameters = learner.parameters.replica(replica)
        feedback = [kernels.replica(b, replica) for b in learner.feedback]
        self.forward_pass: ForwardPass = network.forward(self.parameters, inputs)
        error = losses.output_error(self.forward_pass.logits_RNC, labels, learner.loss_scale)
        context = learner.context(labels).replica(replica)
        self.delivered: Signals = learner.method.transport.signals(
            network, self.parameters, feedback, self.forward_pass, error, context
        )
        self._network, self._error = network, error

    @functools.cached_property
    def true(self) -> Signals:
        """The true error signals ∂L/∂h."""
        return probes.true_signals(self._network, self.parameters, self.forward_pass, self._error)

    @classmethod
    def of_images(cls, run: Run, replica: int, indices: Sequence[int]) -> ErrorSignals:
        """The error signals of training images, given by their places in the training split, as one mini-batch."""
        split = run.tasks[replica].train
        index = torch.tensor(indices, device=run.device)
        images = run.network.inputs_from(split.gather(index).unsqueeze(0))
        return cls(run, replica, images, split.labels[index].unsqueeze(0))


def class_probabilities(logits: Tensor) -> Tensor:
    """The probability of every class, [..., classes], from logits [..., C]; a single output gives class 1."""
    if logits.shape[-1] == 1:
        one = torch.sigmoid(logits)
        return torch.cat([1 - one, one], -1)
    return torch.softmax(logits, -1)
