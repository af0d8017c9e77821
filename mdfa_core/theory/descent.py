"""Measured descent: does the step a method really makes lower the loss of the mini-batch it was made for?

Axes: R replica.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.experiment import Experiment
from mdfa_core.networks import Parameters
from mdfa_core.probes import true_signals
from mdfa_core.training import Run


@dataclass(frozen=True, kw_only=True)
class EpochDescent:
    """The steps of one epoch of one replica.

    Attributes:
        steps: how many with a loss that is a number.
        lowered: share of them after which the mini-batch's loss was lower than before.
        downhill: share of them with ⟨Δθ, ∂L/∂θ⟩ < 0: to first order, the step goes down.
        change: mean change of the mini-batch's loss by its step, nats.
        loss: mean loss of the mini-batches before their steps, nats.

    The last four are None where `steps` is 0.
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
    """Train, look at every mini-batch's loss before and after its step; one `EpochDescent` per epoch and replica.

    The step is the whole one: optimizer, rate, penalty and constraint. `lowered` asks whether L(θ + Δθ) < L(θ) on the
    same mini-batch, `downhill` whether Δθ points down at all, so that a rate that is too large (downhill, not lowered)
    is told from a direction that is wrong (not downhill). Training is that of a `Run`, without its evaluations.

    Args:
        experiments: as `Run` takes them: one, or several that differ in seeds, rates, …; one replica each.
        device: see `Run`.
        data_dir: see `Run`.

    Raises:
        InvalidValue: as `Run`.
        DataError: the data is missing.

    Source: the question behind Theorem 2, section 3: what the sign of the gradient is worth for learning.
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
            true = true_signals(network, learner.parameters, batch.trace, batch.signals.deltas[-1])
            gradient = network.updates(batch.trace, true.deltas)
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
