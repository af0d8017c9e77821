"""The images of a run: mini-batches in a seeded order, and whole splits for evaluations.

Axes: R replica, N example, C channel, H W space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mdfa_core.base.rng import torch_generator
from mdfa_core.data import Split, StackedSplits, Task
from mdfa_core.learning.learner import Learner, Sums
from mdfa_core.nets.networks import Parameters
from mdfa_core.training.experiment import Experiment

EVALUATION_CHUNK = 500
"""Images in one forward pass of an evaluation."""

Stack = Callable[[tuple[Split, ...]], StackedSplits]
"""`StackedSplits`, or a cache of it: on a GPU, a stack of several splits is a copy of their images."""


class Batches:
    """The mini-batches of a run. In each epoch, each replica sees its training images once, in a new random order.

    The order depends on the replica's seed and the epoch only.

    Args:
        experiments: R experiments.
        tasks: the task of each.
        steps_per_epoch: mini-batches in one epoch.
        stack: makes the stacks of splits.
    """

    def __init__(
        self, experiments: Sequence[Experiment], tasks: Sequence[Task], steps_per_epoch: int, stack: Stack
    ) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._size = experiments[0].batch_size
        # Replicas of one task and one seed share every mini-batch.
        shared = len({(id(task), e.seed) for task, e in zip(tasks, experiments, strict=True)}) == 1
        self._seeds = [e.seed for e in experiments][: 1 if shared else None]
        self._splits = tuple(task.train for task in tasks)[: 1 if shared else None]
        self._stack = stack
        self._epoch = -1
        self._order: list[Tensor] = []

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Pixels uint8 [R or 1, N, C, H, W] and labels int64 [R or 1, N] of mini-batch `step` (from 1)."""
        epoch, place = divmod(step - 1, self._steps_per_epoch)
        if self._epoch != epoch:
            self._order = [
                torch.randperm(len(split), generator=torch_generator(seed, "order", epoch), device="cpu").to(
                    split.labels.device
                )
                for split, seed in zip(self._splits, self._seeds, strict=True)
            ]
            self._epoch = epoch
        index = torch.stack([order[place * self._size : (place + 1) * self._size] for order in self._order])
        return self._stack(self._splits).gather(index)


def evaluate(
    learner: Learner, parameters: Parameters, splits: Sequence[Split], stack: Stack
) -> tuple[list[float], list[float]]:
    """Mean loss in nats and accuracy (0 to 1) of each replica on all images of its split; NaN on an empty split.

    Args:
        learner: the learner of R replicas, whose networks these are.
        parameters: weights and biases of R replicas.
        splits: R splits.
        stack: makes the stacks of splits.
    """
    if len({len(split) for split in splits}) == 1:
        return _evaluate_stack(learner, parameters, tuple(splits), stack)
    alone = [_evaluate_stack(learner, parameters.replica(r), (split,), stack) for r, split in enumerate(splits)]
    return [loss for (loss,), _ in alone], [accuracy for _, (accuracy,) in alone]


def _evaluate_stack(
    learner: Learner, parameters: Parameters, splits: tuple[Split, ...], stack: Stack
) -> tuple[list[float], list[float]]:
    """The same for splits of one size, in forward passes of at most `EVALUATION_CHUNK` images."""
    replicas, examples = len(splits), len(splits[0])
    if examples == 0:
        return [math.nan] * replicas, [math.nan] * replicas
    if all(split is splits[0] for split in splits):
        splits = splits[:1]
    sums = Sums.zeros(replicas, splits[0].labels.device)
    for images, labels in _chunks(stack(splits), len(splits), examples, splits[0].labels.device):
        score = learner.evaluate(parameters, learner.network.inputs_from(images), labels)
        sums.add_(score, labels.shape[1])
    return (sums.loss / examples).tolist(), [correct / examples for correct in sums.correct.tolist()]


def _chunks(stacked: StackedSplits, rows: int, examples: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, examples, EVALUATION_CHUNK):
        index = torch.arange(start, min(start + EVALUATION_CHUNK, examples), device=device)
        yield stacked.gather(index.expand(rows, -1))
