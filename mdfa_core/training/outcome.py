"""What every replica reaches by the rules of the paper's section 4, and the replicas that diverge.

Axes: R replica.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from mdfa_core.base.schema import Count, Share
from mdfa_core.nets.networks import Parameters


@dataclass
class Outcome:
    """The figures that one replica has reached so far, named as in `events.Finished`."""

    best_train_accuracy: Share | None = None
    best_validation_accuracy: Share | None = None
    best_validation_epoch: Count | None = None
    test_accuracy: Share | None = None
    diverged_at: Count | None = None


class Outcomes:
    """The outcomes of R replicas, and the weights that will be tested.

    The weights to test are those after the first validated epoch with the highest validation accuracy. Without
    validation images, they are those after the last validated epoch. A replica whose loss becomes NaN or infinite keeps
    what it has reached before.

    Args:
        parameters: the initial weights and biases, which are copied.

    Attributes:
        best: the weights and biases to test.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.best = parameters.clone()
        self._replicas = [Outcome() for _ in range(parameters.weights[0].shape[0])]

    @property
    def all_diverged(self) -> bool:
        """Whether no replica is left to train."""
        return all(outcome.diverged_at is not None for outcome in self._replicas)

    def note_losses(self, losses: Sequence[float], step: int) -> list[int]:
        """Mark every replica whose loss is NaN or infinite as diverged; returns the newly diverged ones."""
        diverged = [
            r
            for r, outcome in enumerate(self._replicas)
            if outcome.diverged_at is None and not math.isfinite(losses[r])
        ]
        for r in diverged:
            self._replicas[r].diverged_at = step
        return diverged

    def note_training(self, accuracies: Sequence[float]) -> None:
        """Update the best training accuracy of each replica after an epoch; accuracies are between 0 and 1."""
        for accuracy, outcome in zip(accuracies, self._replicas, strict=True):
            if outcome.diverged_at is None:
                outcome.best_train_accuracy = max(outcome.best_train_accuracy or 0.0, accuracy)

    def note_validation(self, epoch: int, parameters: Parameters, validation: Sequence[float]) -> None:
        """Update the best validation accuracies, and copy the weights of replicas that became better.

        Args:
            epoch: the last epoch that was trained; 0 for the initial weights.
            parameters: the weights and biases after that epoch.
            validation: validation accuracy of each replica, 0 to 1; NaN without validation images.
        """
        for r, outcome in enumerate(self._replicas):
            if outcome.diverged_at is not None:
                continue
            accuracy = None if math.isnan(validation[r]) else validation[r]
            best = outcome.best_validation_accuracy
            if accuracy is None or best is None or accuracy > best:
                outcome.best_validation_epoch, outcome.best_validation_accuracy = epoch, accuracy
                for kept, now in zip(self.best.tensors(), parameters.tensors(), strict=True):
                    kept[r].copy_(now[r])

    def note_test(self, accuracy: Sequence[float]) -> None:
        """Store the test accuracy of `best`, 0 to 1, of each replica that finished an epoch before it diverged.

        NaN, the accuracy on no images, is not stored.
        """
        for outcome, value in zip(self._replicas, accuracy, strict=True):
            if outcome.best_validation_epoch is not None and not math.isnan(value):
                outcome.test_accuracy = value

    def or_nan(self, values: Sequence[float]) -> tuple[float, ...]:
        """The values, with NaN for diverged replicas."""
        return tuple(
            value if outcome.diverged_at is None else math.nan
            for value, outcome in zip(values, self._replicas, strict=True)
        )

    def or_none(self, values: Sequence[float]) -> tuple[float | None, ...]:
        """The values, with None for diverged replicas and instead of NaN."""
        return tuple(
            None if outcome.diverged_at is not None or math.isnan(value) else value
            for value, outcome in zip(values, self._replicas, strict=True)
        )

    def columns(self) -> dict[str, tuple[Any, ...]]:
        """Each field of `Outcome` as a tuple with one value per replica."""
        return {field.name: tuple(getattr(o, field.name) for o in self._replicas) for field in fields(Outcome)}

    def state(self) -> list[dict[str, Any]]:
        """The outcomes as dictionaries; `best` is saved with the other tensors of the run."""
        return [asdict(outcome) for outcome in self._replicas]

    def load_state(self, outcomes: Sequence[Outcome]) -> None:
        """Take over the outcomes of R replicas."""
        self._replicas = list(outcomes)
