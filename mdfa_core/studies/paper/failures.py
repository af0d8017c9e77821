"""Settings that failed: training that ends at chance says more about the settings than about the method."""

from __future__ import annotations

from collections.abc import Iterable

from mdfa_core.runs.records import Record

MARGIN = 0.02
"""Distance from chance, as a share, within which a training accuracy counts as chance."""


def at_chance(record: Record) -> bool:
    """Whether training ended at chance: |training accuracy after the last epoch − 1 ÷ classes| ≤ `MARGIN`.

    A run that diverged before the end of its first epoch counts as well.
    """
    if not record.curve:
        return True
    return abs(record.curve[-1].train_accuracy - 1 / record.experiment.classes) <= MARGIN


def failed_tasks(records: Iterable[Record]) -> tuple[int, ...]:
    """The tasks, by seed, whose training ended at chance."""
    return tuple(record.experiment.effective_task_seed for record in records if at_chance(record))
