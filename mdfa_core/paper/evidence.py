"""What claims are judged on: accuracies, learning curves, sign agreement and searches, by cell of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mdfa_core.paper.published import CELLS, Cell, Split
from mdfa_core.paper.statistics import Scores


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracies of one run after every epoch, in percent."""

    train: tuple[float, ...]
    validation: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate in one round of a search: its settings, the round (from 0), what it reached on validation."""

    settings: Mapping[str, Any]
    rung: int
    validation: float
    """Best validation accuracy of any epoch in percent, mean over the tasks; one that diverged at once counts as 0."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything a verdict may use; what is missing was not run."""

    scores: Mapping[tuple[Cell, Split], Scores] = field(default_factory=dict)
    curves: Mapping[Cell, Mapping[int, Curve]] = field(default_factory=dict)
    """By cell and task seed."""
    agreement: Mapping[Cell, tuple[float, ...]] = field(default_factory=dict)
    """Sign agreement of unit error signals (0 to 1), one value a measurement, over all runs of the cell."""
    searches: Mapping[Cell, tuple[Trial, ...]] = field(default_factory=dict)
    borrowed: Mapping[Cell, Cell] = field(default_factory=dict)
    """Cells that were not tuned, and the cells whose tuned settings they were run with."""


def published_evidence() -> Evidence:
    """The paper's own figures: means and spreads, nothing else is printed."""
    return Evidence(
        scores=MappingProxyType(
            {
                (cell, split): Scores.printed(figure)
                for cell in CELLS.values()
                for split, figure in cell.published.items()
            }
        )
    )
