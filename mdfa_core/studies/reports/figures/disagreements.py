"""The cells that differ from the paper under the released program's settings: one row a cell, one point a setting."""

from __future__ import annotations

from collections.abc import Sequence

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.published import SplitName
from mdfa_core.studies.paper.released import measured
from mdfa_core.studies.paper.words import place, title
from mdfa_core.studies.reports.disagreements import Explanation
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing


@style.styled
def disagreements(found: Sequence[Explanation]) -> Drawing:
    """Training and test accuracy with every setting, the printed value with its spread, and this project's."""
    run = [one for one in found if one.tried]
    figure, (panels,) = style.panels(1, 2, 1.1 + 0.3 * max(len(run), 3), sharey=True, sharex=True)
    for axes, which in zip(panels, ("train", "test"), strict=True):
        for y, one in enumerate(run):
            split: SplitName = "train" if which == "train" else one.cell.held_out
            printed, here = one.cell.published[split], measured(one.cell).get(split)
            low, high = printed.mean - printed.std, printed.mean + printed.std
            axes.plot([low, high], [y, y], color=LIGHT.grid, linewidth=7, solid_capstyle="butt", zorder=1)
            axes.plot(printed.mean, y, marker="|", markersize=11, markeredgewidth=2, color=LIGHT.text, zorder=2)
            for setting in one.tried:
                if split in setting.scores:
                    explains = setting in one.explained_by
                    axes.plot(
                        setting.scores[split].mean, y, linestyle="none", marker="o", markersize=5, zorder=4,
                        markeredgecolor=style.colour(one.cell.method),
                        markerfacecolor=style.colour(one.cell.method) if explains else LIGHT.surface,
                    )  # fmt: skip
            if here is not None:
                axes.plot(here.mean, y, linestyle="none", marker="x", markersize=5, color=LIGHT.muted, zorder=3)
        axes.set_title("training" if which == "train" else "test")
        axes.set_xlabel("accuracy, %")
        axes.set_xlim(0, 103)
        axes.set_ylim(max(len(run), 1) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(run)), [f"{place(one.cell)}, {title(one.cell)}" for one in run])
    figure.legend(
        handles=[
            style.note("printed, with its ±", color=LIGHT.text, marker="|", markersize=11, markeredgewidth=2),
            style.note("a released setting", marker="o", markerfacecolor=LIGHT.surface),
            style.note("one that explains the cell", marker="o"),
            style.note("this project", marker="x"),
        ],
        loc="outside upper center", ncols=4,
    )  # fmt: skip
    explained = sum(bool(one.explained_by) for one in run)
    return Drawing(
        figure=figure,
        finding=f"A setting of the released program gives the printed accuracies of {explained} of {len(run)} cells.",
        reading="One row per cell that differs from the paper. Circles: mean over five tasks with one setting of the "
        "released program; filled if training and test accuracy are within the two spreads of the printed ones.",
    )
