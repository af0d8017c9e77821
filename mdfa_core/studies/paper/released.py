"""A grid of the released program's settings for every cell that differs from the paper, and the way from there to here.

The grid asks whether some setting of the released program gives the figures that the paper prints. The steps
(`STEPS`) lead from the setting that comes first in the grid to this project's tuned settings, one change at a time.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.paper import recipes
from mdfa_core.studies.paper.measures import printed
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell, SplitName
from mdfa_core.studies.paper.recipes import PROFILES
from mdfa_core.studies.paper.reproduced import reproduced
from mdfa_core.studies.paper.statistics import Scores
from mdfa_core.training.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class ReleasedSetting:
    """One choice of the options of the released program's command line.

    Attributes:
        forward, feedback: initial weights, as `initializers.parse` reads them.
        optimizer: a name in `OPTIMIZERS`.
        rate: the learning rate.
    """

    forward: str
    feedback: str
    optimizer: str
    rate: float

    @property
    def title(self) -> str:
        """Such as `U1/U1, SGD 0.01`: forward and feedback weights in the program's spelling, optimizer, rate."""
        names = (_spelled(self.forward), _spelled(self.feedback))
        return f"{'/'.join(names)}, {_TITLES[self.optimizer]} {self.rate:g}"

    @property
    def words(self) -> str:
        """Such as `uniform:1` weights, `uniform:1` feedback and SGD at 0.01."""
        return f"`{self.forward}` weights, `{self.feedback}` feedback and {_TITLES[self.optimizer]} at {self.rate:g}"

    @property
    def settings(self) -> dict[str, Any]:
        """To replace in an experiment."""
        return {
            "forward_init": self.forward,
            "feedback_init": self.feedback,
            "optimizer": self.optimizer,
            "learning_rate": self.rate,
        }


_TITLES = {"sgd": "SGD", "rmsprop": "RMSprop", "adam": "Adam"}


def _spelled(initializer: str) -> str:
    kind, _, number = initializer.partition(":")
    return "0" if kind == "zeros" else {"uniform": "U", "normal": "N"}[kind] + number


GRID = tuple(
    ReleasedSetting(forward=forward, feedback=feedback, optimizer=optimizer, rate=rate)
    for forward, feedback, optimizer, rate in (
        ("uniform:1", "uniform:1", "sgd", 0.01),
        ("zeros", "uniform:1", "rmsprop", 1e-4),
        ("uniform:1", "uniform:1", "rmsprop", 1e-4),  # the program's defaults
        ("zeros", "uniform:1", "sgd", 0.01),
        ("uniform:1", "uniform:1", "sgd", 0.1),
        ("normal:0.1", "normal:0.1", "sgd", 0.01),
        ("uniform:1", "uniform:1", "adam", 1e-3),
        ("zeros", "normal:1", "sgd", 0.01),
        ("uniform:1", "uniform:1", "sgd", 0.001),
        ("uniform:1", "normal:1", "sgd", 0.01),
        ("zeros", "uniform:1", "sgd", 0.001),
        ("normal:0.1", "normal:1", "rmsprop", 1e-4),
    )
)
"""The settings, in the order of their value for the question. The paper names kinds of settings and no values."""


def within_spreads(cell: Cell, split: SplitName, scores: Scores) -> bool:
    """Whether a mean is at most the two spreads (± printed, ± measured) from the printed mean."""
    figure = cell.published[split]
    return abs(scores.mean - figure.mean) <= figure.std + (scores.std or 0.0)


def measured(cell: Cell) -> dict[SplitName, Scores]:
    """This project's figures for the columns that the paper prints; empty if the cell was not run."""
    here = reproduced(cell)
    scores = {} if here is None else here.scores
    return {split: scores[printed(split)] for split in cell.splits if printed(split) in scores}


def disagreeing() -> tuple[Cell, ...]:
    """The cells whose figures here differ from the paper's by more than the two spreads on either split."""
    found = []
    for cell in CELLS.values():
        if not all(within_spreads(cell, split, scores) for split, scores in measured(cell).items()):
            found.append(cell)
    return tuple(found)


def largest_difference(cell: Cell) -> float:
    """The larger of a cell's two differences from the paper, in points; 0 if it was not run."""
    return max((abs(one.mean - cell.published[split].mean) for split, one in measured(cell).items()), default=0.0)


def experiments(cell: Cell, settings: Mapping[str, Any]) -> list[Experiment]:
    """A cell's runs under the released program's protocol, one per task.

    ImageNet is 64×64 pixels, as in this project's figures; the program's own convolutional network needs 224.
    """
    full, released = PROFILES["full"], PROFILES["released"]
    base = recipes.base(cell, full).replace(**recipes.released_protocol(cell))
    return [base.replace(**settings, seed=seed) for seed in range(released.tasks)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change on the way from the released program to this project.

    Attributes:
        name: what changes.
        changes: everything that differs from the first step by now, to replace in an experiment.
    """

    name: str
    changes: Mapping[str, Any]


def steps(cell: Cell) -> tuple[Step, ...]:
    """The way from the first setting of the grid to the settings that validation chose here, one change at a time."""
    chosen = dict(recipes.tuned(cell).settings)
    weights: dict[str, Any] = {name: chosen[name] for name in ("forward_init", "feedback_init") if name in chosen}
    added: list[tuple[str, Mapping[str, Any]]] = [
        (f"released program, {GRID[0].title}", {}),
        ("bound of uniform weights", {"convention": "paper"}),
        ("initial weights", weights),
        ("optimizer and rate", chosen),
        ("loss scale", {"loss_scale": "mean"}),
        ("evaluation", {"evaluation": "paper"}),
    ]
    found: list[Step] = []
    changes: dict[str, Any] = {}
    for name, change in added:
        changes = changes | dict(change)
        found.append(Step(name=name, changes=changes))
    return tuple(found)


def stepped() -> tuple[Cell, ...]:
    """The cells of the ablation: fully-connected, Table 3 with three classes and Table 1 with ReLU."""
    return tuple(
        cell
        for cell in disagreeing()
        if cell.network == "fc"
        and ((cell.table, cell.classes) == (3, 3) or (cell.table, cell.activation) == (1, "relu"))
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Runs of one cell with one setting: one per task."""

    cell: Cell
    name: str
    experiments: tuple[Experiment, ...]


FIRST = ("table-3/*/mdfa/*", "table-3/*/fa/*", "table-3/*", "table-1/*/relu/*", "table-4/*/??", "table-5/*")
"""Names of cells in the order of their value for the question, as shell patterns: the largest differences, the weakest
rows of Table 1, and the paper's lead of DFA and mDFA over BP with ten classes and more."""


def parts(cells: Iterable[Cell], first: Sequence[str] = FIRST) -> list[Part]:
    """Every cell with every setting of the grid, and the steps of the ablation, in the order of their value.

    The first setting of the grid comes first for all cells, then everything else; both in the order of `first`. Within
    one pattern, a difference of 25 points, a setting that comes one place earlier, and runs of half the length count
    alike.

    Args:
        cells: the cells.
        first: shell patterns of names of cells; cells that match none come last.

    Raises:
        InvalidValue: a pattern matches no cell of the paper.
    """
    for pattern in first:
        if not fnmatch.filter(CELLS, pattern):
            raise InvalidValue(f"{pattern!r} matches no cell: give patterns such as table-3/*/mdfa/* or table-5/*")
    chosen = tuple(cells)
    ranked: list[tuple[tuple[bool, int, float, int], Part]] = []

    def add(position: float, cell: Cell, name: str, settings: Mapping[str, Any]) -> None:
        matching = (place for place, pattern in enumerate(first) if fnmatch.fnmatchcase(cell.name, pattern))
        group = next(matching, len(first))
        value = position + math.log2(_length(cell)) - largest_difference(cell) / 25
        part = Part(cell=cell, name=name, experiments=tuple(experiments(cell, settings)))
        ranked.append(((name != GRID[0].title, group, value, len(ranked)), part))

    for cell in chosen:
        for position, setting in enumerate(GRID):
            add(position, cell, setting.title, setting.settings)
    for cell in set(chosen) & set(stepped()):
        for position, step in enumerate(steps(cell)[1:], start=2):
            add(position, cell, step.name, GRID[0].settings | dict(step.changes))
    return [part for _, part in sorted(ranked, key=lambda item: item[0])]


def _length(cell: Cell) -> float:
    """Rough length of a run; 1 is a run of a fully-connected network on two classes of CIFAR-100."""
    images = 8 if TABLES[cell.table].data == "ImageNet" else 1
    return cell.classes / 2 * images * (30 if cell.network == "conv" else 1)
