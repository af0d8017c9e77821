"""The way from the released program to this project: training accuracy after each step, one panel a cell."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.published import Cell
from mdfa_core.studies.paper.words import place, title
from mdfa_core.studies.reports.disagreements import Stage, largest_step
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing

COLUMNS = 3


@style.styled
def ablation(found: Mapping[Cell, Sequence[Stage]]) -> Drawing:
    """Training accuracies of every task and their mean after each step, beside the printed accuracy."""
    rows = max(1, -(-len(found) // COLUMNS))
    figure, grid = style.panels(rows, COLUMNS, 0.9 + 2.1 * rows, sharex=True, sharey=True)
    panels = [axes for row in grid for axes in row]
    names = list(dict.fromkeys(stage.name for stages in found.values() for stage in stages))
    for axes, (cell, stages) in zip(panels, found.items(), strict=False):
        printed = cell.published["train"]
        axes.axhspan(printed.mean - printed.std, printed.mean + printed.std, color=LIGHT.grid, zorder=0)
        axes.axhline(printed.mean, color=LIGHT.text, linewidth=1, zorder=1)
        known = [(x, scores) for x, stage in enumerate(stages) if (scores := stage.training) is not None]
        look: dict[str, Any] = {"color": style.colour(cell.method), "marker": style.marker(cell.method)}
        for x, scores in known:
            tasks = list(scores.tasks.values())
            axes.plot([x] * len(tasks), tasks, linestyle="none", markersize=3, alpha=0.5, **look)
        for (x, scores), (after, others) in itertools.pairwise(known):
            dash = "solid" if after == x + 1 else "dotted"  # dotted: a step between was not run
            axes.plot([x, after], [scores.mean, others.mean], linestyle=dash, linewidth=1.6, markersize=0, **look)
        axes.plot([x for x, _ in known], [scores.mean for _, scores in known], linestyle="none", markersize=6, **look)
        axes.set_title(f"{place(cell)}, {title(cell)}", fontsize=8.5)
        axes.set_ylim(30, 103)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes in panels[:COLUMNS]:
        axes.tick_params(labelbottom=rows == 1)
    for row in grid:
        row[0].set_ylabel("training accuracy, %")
    for axes in grid[-1]:
        axes.set_xticks(range(len(names)), [name.split(",")[0] for name in names], rotation=35, ha="right", fontsize=8)
    figure.legend(
        handles=[
            style.note("printed, with its ±", color=LIGHT.text, linestyle="solid"),
            style.note("a task", marker="o", markersize=3, alpha=0.5),
            style.note("mean", marker="o", markersize=6),
        ],
        loc="outside upper center", ncols=3,
    )  # fmt: skip
    return Drawing(
        figure=figure,
        finding=largest_step(found) or "No cell has two steps that follow each other yet.",
        reading="One panel a cell. Each step adds one change to the steps before, from the settings of the released "
        "program to those of this project.",
    )
