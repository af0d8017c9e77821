"""What this project measured for the paper's cells, as it comes with the package.

`docs/results.py` writes the figures from a store of finished runs; nothing here is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from mdfa_core.paper.published import CELLS, Cell, Split
from mdfa_core.paper.statistics import Scores


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """Figures of one cell.

    Attributes:
        data: the data set they were measured on, and the size of its images where that is chosen.
        profile: what the runs were made as: `full` for a cell that was tuned, else `quick`.
        tuned_for: the cell whose search chose the settings; another one where this cell was not tuned.
        scores: accuracies by split, in percent.
    """

    data: str
    profile: str
    tuned_for: Cell
    scores: Mapping[Split, Scores]


def reproduced(cell: Cell) -> Reproduced | None:
    """What was measured for a cell, or None where it has not been run."""
    return _shipped().get(cell.name)


@cache
def _shipped() -> dict[str, Reproduced]:
    text = resources.files(__package__).joinpath("reproduced.json").read_text(encoding="utf-8")
    return {name: _read(entry) for name, entry in json.loads(text).items()}


def _read(entry: Mapping[str, Mapping[str, float] | str]) -> Reproduced:
    scores: dict[Split, Scores] = {}
    splits: tuple[Split, ...] = ("train", "test", "validation")
    for split in splits:
        tasks = entry.get(split)
        if isinstance(tasks, Mapping):
            scores[split] = Scores.of({int(task): accuracy for task, accuracy in tasks.items()})
    return Reproduced(
        data=str(entry["data"]),
        profile=str(entry["profile"]),
        tuned_for=CELLS[str(entry["tuned for"])],
        scores=MappingProxyType(scores),
    )
