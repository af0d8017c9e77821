"""Learning curves."""

from __future__ import annotations

import pandas as pd

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.words import NETWORK_WORDS
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.select import Role

_SHOWN = ("fc", "conv")


@style.styled
def curves(table: pd.DataFrame) -> Drawing:
    """Training accuracy by epoch in Table 1 with tanh: one line per task and the spread, chosen and best fit."""
    part = table[(table["table"] == 1) & (table["activation"] == "tanh")]
    roles: tuple[Role, ...] = ("chosen", "best fit")
    kinds = [(network, role) for network in _SHOWN for role in roles]
    figure, grid = style.panels(len(kinds), 4, 6.6, sharex=True, sharey=True)
    for row, (network, role) in enumerate(kinds):
        rows = select.runs(part[part["network"] == network], role)
        rows = rows[rows["quantity"] == "train"]
        for column, method in enumerate(select.PAPER_METHODS):
            axes, shade = grid[row][column], style.colour(method)
            lines = rows[rows["method"] == method]
            wide = lines.pivot_table(index="epoch", columns="task", values="value")  # the mean over a task's seeds
            for task in wide:
                axes.plot(wide.index, wide[task], color=shade, linewidth=0.7, alpha=0.6)
            if len(wide):
                mean, std = wide.mean(axis=1), wide.std(axis=1).fillna(0)
                axes.fill_between(wide.index, mean - std, mean + std, color=shade, alpha=0.15, linewidth=0)
                axes.plot(wide.index, mean, color=shade, linewidth=1.8)
                axes.text(
                    0.97, 0.06, f"{_highest(lines):.1f}", transform=axes.transAxes, ha="right", color=LIGHT.text,
                    bbox={"facecolor": LIGHT.surface, "edgecolor": "none", "pad": 1.5},
                )  # fmt: skip
            if row == 0:
                axes.set_title(select.title(method), color=shade, fontweight="bold")
            if column == 0:
                axes.set_ylabel(f"{NETWORK_WORDS[network]}, {role}")
            axes.set_ylim(45, 102)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("training accuracy, %", fontsize=9)
    ends = {role: _highest(_of(part, "fc", role)) for role in roles}
    tasks = _of(part, "fc", "chosen")["task"].nunique()
    return Drawing(
        figure=figure,
        finding=(
            f"Over {tasks} tasks, mDFA's fully-connected network fits {ends['best fit']:.1f} % of the training images "
            f"with best-fit settings, {ends['chosen']:.1f} % with chosen ones."
            if all(value == value for value in ends.values())
            else "Learning curves of Table 1 with tanh."
        )
        + select.toy(part),
        reading="Table 1, tanh. Thin lines are tasks (means over seeds), the thick line is their mean, the band one "
        "standard deviation. The number is the mean over tasks of the highest accuracy of any epoch. Chosen: settings "
        "with the best validation accuracy. Best fit: settings with the best training accuracy.",
    )


def _of(part: pd.DataFrame, network: str, role: Role) -> pd.DataFrame:
    rows = select.runs(part[(part["network"] == network) & (part["method"] == "mdfa")], role)
    return rows[rows["quantity"] == "train"]


def _highest(lines: pd.DataFrame) -> float:
    """Mean over tasks of the highest value of any epoch; a task's value is the mean over its seeds."""
    return float(lines.groupby(["task", "run"])["value"].max().groupby("task").mean().mean())
