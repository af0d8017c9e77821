"""The figures that this project measured for the paper's cells, as they come with the package.

`studies/results.py` writes them from a store of finished runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from mdfa_core.studies.paper.measures import REPORTED, Measure
from mdfa_core.studies.paper.published import CELLS, Cell
from mdfa_core.studies.paper.statistics import Scores


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """Figures of one cell.

    Attributes:
        data: the data set, with the image size if it can be chosen.
        profile: `full` for a cell that was tuned, else `quick`.
        tuned_for: the cell whose search chose the settings; another cell if this one was not tuned.
        scores: accuracies of the paper's five tasks by measure, in percent.
    """

    data: str
    profile: str
    tuned_for: Cell
    scores: Mapping[Measure, Scores]


def reproduced(cell: Cell) -> Reproduced | None:
    """The figures of a cell, or None if it was not run."""
    return _shipped().get(cell.name)


@cache
def _shipped() -> dict[str, Reproduced]:
    text = resources.files(__package__).joinpath("reproduced.json").read_text(encoding="utf-8")
    return {name: _read(entry) for name, entry in json.loads(text).items()}


def _read(entry: Mapping[str, Any]) -> Reproduced:
    scores = {
        measure: Scores.of({int(task): accuracy for task, accuracy in tasks.items()})
        for measure in REPORTED
        if (tasks := entry.get(measure.role, {}).get(measure.quantity)) is not None
    }
    return Reproduced(
        data=str(entry["data"]),
        profile=str(entry["profile"]),
        tuned_for=CELLS[str(entry["tuned for"])],
        scores=MappingProxyType(scores),
    )
