"""The evidence for propositions: accuracies, learning curves, sign agreement and searches, by cell of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mdfa_core.studies.paper.measures import Measure
from mdfa_core.studies.paper.published import Cell
from mdfa_core.studies.paper.statistics import Scores


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Accuracies of one run after every epoch, in percent."""

    train: tuple[float, ...]
    validation: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One candidate in one round of a search: its settings, the round (from 0) and its validation accuracy."""

    settings: Mapping[str, Any]
    rung: int
    validation: float
    """Best validation accuracy of any epoch in percent, mean over tasks; a run that diverged in epoch 1 counts as 0."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a verdict may use; missing cells were not run."""

    scores: Mapping[tuple[Cell, Measure], Scores] = field(default_factory=dict)
    curves: Mapping[Cell, Mapping[int, LearningCurve]] = field(default_factory=dict)
    """By cell and task; of several seeds, the first."""
    agreement: Mapping[Cell, tuple[float, ...]] = field(default_factory=dict)
    """Sign agreement of unit error signals (0 to 1), one value per measurement, over all runs of the cell."""
    searches: Mapping[Cell, tuple[Candidate, ...]] = field(default_factory=dict)
    borrowed: Mapping[Cell, Cell] = field(default_factory=dict)
    """Cells that were not tuned, with the cells whose settings they use."""
    failed: frozenset[Cell] = frozenset()
    """Cells whose borrowed settings failed (`paper.failures`); they have no scores and no curves, only agreement."""
