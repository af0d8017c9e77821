"""Measured descent: how often a training step lowers the loss of its own mini-batch.

Axes: R replica.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.learning.probes import true_signals
from mdfa_core.nets.networks import Parameters
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run


@dataclass(frozen=True, kw_only=True)
class EpochDescent:
    """The training steps of one replica in one epoch.

    Attributes:
        method: name of the learning rule.
        learning_rate: of the replica.
        seed: of the replica.
        epoch: from 1.
        steps: number of steps with a finite loss before and after.
        lowered: share of these steps that lowered the loss of their mini-batch; None if there are none, as below.
        downhill: share of these steps with ⟨Δθ, ∂L/∂θ⟩ < 0, which lower the loss to first order.
        change: mean change of the mini-batch loss by a step, in nats.
        loss: mean mini-batch loss before a step, in nats.
    """

    method: str
    learning_rate: float
    seed: int
    epoch: int
    steps: int
    lowered: float | None
    downhill: float | None
    change: float | None
    loss: float | None


def measured_descent(
    experiments: Experiment | Sequence[Experiment],
    *,
    device: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
) -> Iterator[EpochDescent]:
    """Train, and measure every mini-batch's loss before and after its step: one `EpochDescent` per epoch and replica.

    Δθ is the complete step: optimizer, learning rate, penalty and constraint. `lowered` counts steps with
    L(θ + Δθ) < L(θ) on the same mini-batch. `downhill` counts steps that point downhill. So a learning rate that is too
    large (downhill but not lowered) can be distinguished from a wrong direction (not downhill). Training is that of a
    `Run` without its evaluations.

    Args:
        experiments: one, or several that differ in seeds, learning rates, … (see `Run`); one replica each.
        device: see `Run`.
        data_dir: see `Run`.

    Raises:
        InvalidValue: see `Run`.
        DataError: the data is missing.

    Source: M. Lechner, ICLR 2020, section 3: Theorem 2 asks how much of the gradient's sign learning needs.
    """
    run = Run(experiments, device=device, data_dir=data_dir)
    learner, network = run.learner, run.network
    epochs = run.experiments[0].epochs
    for epoch in range(1, epochs + 1):
        seen: list[tuple[Tensor, Tensor, Tensor]] = []
        for step in range((epoch - 1) * run.steps_per_epoch + 1, epoch * run.steps_per_epoch + 1):
            inputs, labels = run.batch(step)
            batch = learner.observe(inputs, labels)
            before = learner.score(batch, labels).loss
            true = true_signals(network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
            gradient = network.updates(batch.forward_pass, true.deltas)
            old = learner.parameters.clone()
            learner.learn(batch)
            after = learner.evaluate(learner.parameters, inputs, labels).loss
            seen.append((before, after, _along(gradient, old, learner.parameters)))
        before_SR, after_SR, along_SR = (torch.stack(column).double().cpu() for column in zip(*seen, strict=True))
        for r, experiment in enumerate(run.experiments):
            known = before_SR[:, r].isfinite() & after_SR[:, r].isfinite()
            before, after, along = (column[known, r] for column in (before_SR, after_SR, along_SR))
            steps = len(before)
            yield EpochDescent(
                method=experiment.method,
                learning_rate=experiment.learning_rate,
                seed=experiment.seed,
                epoch=epoch,
                steps=steps,
                lowered=_mean((after < before).double()),
                downhill=_mean((along < 0).double()),
                change=_mean(after - before),
                loss=_mean(before),
            )


def _along(gradient: Parameters, old: Parameters, new: Parameters) -> Tensor:
    """⟨Δθ, ∂L/∂θ⟩ per replica, [R]."""
    triples = zip(gradient.tensors(), old.tensors(), new.tensors(), strict=True)
    return torch.stack([((b - a) * g).flatten(1).sum(1) for g, a, b in triples]).sum(0)


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None
