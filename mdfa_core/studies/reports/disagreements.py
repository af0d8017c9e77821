"""Pages on cells that differ from the paper: what the released program's settings reach, what each step is worth.

Everything is computed from a store with the runs of `studies/released_grid.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import printed
from mdfa_core.studies.paper.published import CELLS, TASKS, Cell, SplitName
from mdfa_core.studies.paper.released import (
    GRID,
    disagreeing,
    experiments,
    largest_difference,
    measured,
    stepped,
    steps,
    within_spreads,
)
from mdfa_core.studies.paper.statistics import Scores
from mdfa_core.studies.paper.words import place, title, word
from mdfa_core.studies.reports.results import Role

LISTED = 12
"""Cells in the page's table, those with the largest differences; the CSV file has all."""

CIFAR_INPUTS, HIDDEN = 3072, 1024  # of the fully-connected networks of Tables 1 and 3


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The accuracies of one cell with one setting over all tasks, in percent, by the columns of the paper.

    Attributes:
        name: the setting, as `ReleasedSetting.title`, or the step.
        scores: accuracies as the experiment's evaluation reports them; a split is missing if every run diverged.
        records: the runs, one per task.
    """

    name: str
    scores: dict[SplitName, Scores]
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A cell that differs from the paper, with the settings that were run on all of its tasks."""

    cell: Cell
    tried: tuple[Tried, ...]

    @property
    def explained_by(self) -> tuple[Tried, ...]:
        """The settings whose means over all tasks are within the two spreads of the printed ones, in both columns.

        They are also nearer to the printed means than this project's figures are: wide spreads alone explain nothing.
        """
        ours = largest_difference(self.cell)
        return tuple(one for one in self.tried if self._near(one, self.cell.splits) and self._distance(one) < ours)

    @property
    def nearest(self) -> Tried | None:
        """The setting whose larger distance to the printed means is smallest; None: nothing was tried."""
        return min(self.tried, key=self._distance, default=None)

    def _near(self, one: Tried, splits: Sequence[SplitName]) -> bool:
        return all(
            split in one.scores
            and len(one.scores[split].tasks) == len(one.records)  # on no task did the run diverge in its first epoch
            and within_spreads(self.cell, split, one.scores[split])
            for split in splits
        )

    def _distance(self, one: Tried) -> float:
        figures = self.cell.published
        return max((abs(scores.mean - figures[split].mean) for split, scores in one.scores.items()), default=100.0)

    @property
    def sentence(self) -> str:
        """What the settings say about the cell."""
        if not self.tried:
            return "not run"
        if self.explained_by:
            return "explained by " + "; ".join(one.name for one in self.explained_by)
        count = f"{len(self.tried)} of {len(GRID)} settings tried"
        return f"reached by no setting tried ({count})"


def tried(store: Store, cell: Cell, name: str, settings: Mapping[str, Any]) -> Tried | None:
    """The accuracies of a cell with these settings, which replace the program's; None: a task was not run."""
    wanted = experiments(cell, settings)
    records = tuple({record.experiment: record for record in store.find(wanted)}.values())
    if len(records) < len(wanted):
        return None
    role = Role(records=records)
    scores = {split: role.scores(printed(split).quantity) for split in cell.splits}
    known = {split: values for split, values in scores.items() if values is not None}
    return Tried(name=name, scores=known, records=records)


def explanations(store: Store) -> tuple[Explanation, ...]:
    """Every cell that differs from the paper, those with the largest difference first."""
    found = []
    for cell in sorted(disagreeing(), key=largest_difference, reverse=True):
        settings = (tried(store, cell, setting.title, setting.settings) for setting in GRID)
        found.append(Explanation(cell=cell, tried=tuple(one for one in settings if one is not None)))
    return tuple(found)


def frame(found: Iterable[Explanation]) -> pd.DataFrame:
    """One row per cell and setting: the printed accuracies, those with the setting, and whether they agree."""
    rows: list[dict[str, Any]] = []
    for one in found:
        for setting in one.tried:
            row: dict[str, Any] = {"cell": one.cell.name, "setting": setting.name, "tasks": len(setting.records)}
            for split in one.cell.splits:
                figure, scores = one.cell.published[split], setting.scores.get(split)
                column = "train" if split == "train" else "held_out"
                row |= {
                    f"{column}_printed": figure.mean,
                    f"{column}_printed_std": figure.std,
                    f"{column}_mean": None if scores is None else round(scores.mean, 2),
                    f"{column}_std": None if scores is None or scores.std is None else round(scores.std, 2),
                }
            rows.append(row | {"explains": setting in one.explained_by})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------------------- the pages

_COMMANDS = """```console
python studies/released_grid.py --store released.sqlite --data-dir data --networks fc  # trains; continues after a stop
python studies/disagreements.py released.sqlite                                        # writes these pages
```
"""


def page(found: Sequence[Explanation]) -> str:
    """`docs/results/disagreements.md`."""
    run = [one for one in found if one.tried]
    explained = [one for one in run if one.explained_by]
    rest, once = len(found) - len(run), sum(len(one.tried) == 1 for one in run)
    lines = [
        "# Why cells differ from the paper",
        "",
        f"{len(found)} of the {_measured_cells()} cells measured here differ from the paper by more than the two "
        "spreads: the paper's ± plus ours. Is the cause in the paper's released program? We train these cells with the "
        "program's settings, by its own protocol (`--profile released`). A setting *explains* a cell if its means over "
        f"{TASKS} tasks are within the two spreads of the printed ones, in training and in test accuracy, and "
        "nearer to them than our own.",
        "",
        f"**{len(explained)} of the {len(run)} cells run so far are explained by a setting of the released program.** "
        f"Reached by no setting tried: {len(run) - len(explained)}. Not run: {rest}. The grid has {len(GRID)} "
        f"settings; {once} of the {len(run)} cells were run with one only.",
        "",
        "![Accuracy of every cell under the released program's settings, beside the printed value](disagreements.svg)",
        "",
        "| cell | printed | this project | nearest setting | its accuracies | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in run[:LISTED]:
        nearest = one.nearest
        assert nearest is not None
        verdict = "explained" if one.explained_by else "reached by no setting tried"
        cells = [
            f"{place(one.cell)}, {title(one.cell)}",
            _both(one.cell, {split: Scores.printed(figure) for split, figure in one.cell.published.items()}),
            _both(one.cell, measured(one.cell)),
            nearest.name,
            _both(one.cell, nearest.scores),
            f"{verdict} ({len(one.explained_by)} of {len(one.tried)})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Accuracies are training / test, in percent; test images of ImageNet are its validation images. The last "
        "column counts the settings that explain the cell "
        f"among those run on all tasks. The table has the {min(LISTED, len(run))} largest differences, "
        f"[disagreements.csv](disagreements.csv) every cell and setting. `U1/U1` stands for "
        "forward and feedback weights in the program's spelling.",
        "",
        "| setting | explains | run on |",
        "| --- | --- | --- |",
        *(f"| {name} | {explains} | {count} cell{'s' * (count > 1)} |" for name, explains, count in by_setting(found)),
        "",
        "With spreads of ten points, a single match can be chance. A setting that explains many cells is evidence.",
        "",
        "## What the program does differently",
        "",
        "| departure | released program | here | effect |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(row) + " |" for row in _departures(found)),
        "",
        "[The ablation](ablation.md) measures the way from the program to this project in single steps. In one respect "
        "no profile can follow the program: its weights and batches are unseeded.",
        "",
        "## Commands",
        "",
        _COMMANDS,
    ]
    return "\n".join(lines)


def by_setting(found: Iterable[Explanation]) -> list[tuple[str, int, int]]:
    """Every setting that was run: its name, the number of cells that it explains, and that it was run on."""
    run = [(setting.name, setting in one.explained_by) for one in found for setting in one.tried]
    names = [setting.title for setting in GRID]
    counted = ((name, [explains for other, explains in run if other == name]) for name in names)
    return [(name, sum(explained), len(explained)) for name, explained in counted if explained]


def _measured_cells() -> int:
    return sum(bool(measured(cell)) for cell in CELLS.values())


def _both(cell: Cell, scores: dict[SplitName, Scores]) -> str:
    return " / ".join(str(scores[split]) if split in scores else "–" for split in cell.splits)


def _departures(found: Sequence[Explanation]) -> list[tuple[str, str, str, str]]:
    records = [record for one in found for setting in one.tried for record in setting.records]
    gaps = [
        100 * (record.best_train_accuracy - running)
        for record in records
        if record.best_train_accuracy is not None and (running := record.best_running_accuracy) is not None
    ]
    moved = sum(record.best_validation_epoch != _best_after(record) for record in records)
    return [
        (
            "uniform weights",
            f"± fan-in^¼: ±{CIFAR_INPUTS**0.25:.1f} in a first layer on CIFAR-100",
            f"± fan-in^−½: ±{CIFAR_INPUTS**-0.5:.3f}",
            "tanh starts saturated; see the ablation",
        ),
        (
            "uniform feedback of FA, top layer, 3 classes",
            f"fan-in of the forward weights: ±{HIDDEN**0.25:.1f}",
            f"errors that a unit receives: ±{3**-0.5:.2f}",
            "larger updates of hidden layers",
        ),
        (
            "loss of a batch",
            "sum for BP and convolutional networks",
            "mean",
            "SGD steps 64 times larger; none for FC networks under FA, DFA and mDFA",
        ),
        (
            "training accuracy",
            "mean over mini-batches while the epoch trains",
            "all training images after the epoch",
            f"{fmean(gaps):.1f} points lower in the mean of {len(gaps)} runs" if gaps else "not measured",
        ),
        (
            "validation",
            "before each epoch, never after the last",
            "after each epoch",
            f"other weights tested in {moved} of {len(records)} runs" if records else "not measured",
        ),
        ("default optimizer", "RMSprop, rate 0.0001", "tuned per cell", "see the table above"),
    ]


def _best_after(record: Record) -> int | None:
    """The epoch whose weights would be tested if validation came after each epoch."""
    known = [
        (point.validation_accuracy, -point.epoch) for point in record.curve if point.validation_accuracy is not None
    ]
    return -max(known)[1] if known else None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the ablation of a cell, with the accuracies after it; None: not run on all tasks."""

    name: str
    result: Tried | None

    @property
    def training(self) -> Scores | None:
        """Training accuracies; None if the step was not run or every run diverged."""
        return None if self.result is None else self.result.scores.get("train")


def ablation(store: Store) -> dict[Cell, tuple[Stage, ...]]:
    """The cells of the ablation of which the first step was run, with all their steps."""
    found = {cell: stages(store, cell) for cell in stepped()}
    return {cell: way for cell, way in found.items() if way[0].result is not None}


def stages(store: Store, cell: Cell) -> tuple[Stage, ...]:
    """The way from the released program to this project's chosen settings on one cell."""
    return tuple(
        Stage(name=step.name, result=tried(store, cell, step.name, GRID[0].settings | dict(step.changes)))
        for step in steps(cell)
    )


def largest_step(found: Mapping[Cell, Sequence[Stage]]) -> str:
    """Which step changes training accuracy most, by the cells whose steps were all run; empty if there are none."""
    changes: dict[str, list[float]] = {}
    for way in found.values():
        means = [scores.mean for stage in way if (scores := stage.training) is not None]
        if len(means) == len(way):
            change, name = max(
                ((after - before, stage.name) for before, after, stage in zip(means, means[1:], way[1:], strict=False)),
                key=lambda one: abs(one[0]),
            )
            changes.setdefault(name, []).append(change)
    total = sum(map(len, changes.values()))
    parts = []
    for name, most in sorted(changes.items(), key=lambda item: -len(item[1])):
        span = " to ".join(dict.fromkeys(f"{change:+.1f}" for change in (min(most), max(most))))
        parts.append(f"the {name} ({len(most)} of {total} cells, {span} points)")
    return f"The largest step from the program to this project is {' or '.join(parts)}." if parts else ""


def ablation_page(store: Store) -> str:
    """`docs/results/ablation.md`."""
    lines = [
        "# From the released program to this project, one step at a time",
        "",
        f"Each row adds one change to the row above. Accuracies are means over {TASKS} tasks ± their spread, in "
        "percent. Δ is the change from the row above, in points. The last row is the figure that this "
        "project reports: for training, that of the settings with the best fit.",
        "",
        "![Training accuracy after each step](ablation.svg)",
        "",
        largest_step(every := ablation(store)),
        "",
    ]
    for cell, found in every.items():
        lines += [
            f"## {place(cell)}, {title(cell)}",
            "",
            f"| step | training | Δ | {word(cell.held_out)} | Δ |",
            "| --- | --- | --- | --- | --- |",
            _row("printed in the paper", {s: Scores.printed(f) for s, f in cell.published.items()}, cell, None),
        ]
        before: dict[SplitName, Scores] | None = None
        for stage in found:
            if stage.result is None:
                lines.append(f"| {stage.name} | not run | | not run | |")
                before = None
                continue
            lines.append(_row(stage.name, stage.result.scores, cell, before))
            before = stage.result.scores
        lines += [_row("tuning: best fit", measured(cell), cell, before), ""]
    lines += [
        "The loss scale is the same in both for fully-connected networks under FA, DFA and mDFA, so its step is 0 by "
        "definition. `Evaluation` is the change from running training accuracy and validation before each epoch to "
        "whole splits after each epoch.",
        "",
        _COMMANDS,
    ]
    return "\n".join(lines)


def _row(name: str, scores: dict[SplitName, Scores], cell: Cell, before: dict[SplitName, Scores] | None) -> str:
    parts = [name]
    for split in cell.splits:
        now, last = scores.get(split), None if before is None else before.get(split)
        parts += ["–" if now is None else str(now)]
        parts += ["" if now is None or last is None else f"{now.mean - last.mean:+.1f}"]
    return "| " + " | ".join(parts) + " |"
