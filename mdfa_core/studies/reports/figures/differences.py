"""Differences: between methods, paired by task, and between the paper and here."""

from __future__ import annotations

import pandas as pd

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.words import word
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.select import Split

_OTHERS = ("bp", "dfa", "fa")
_WORDS: dict[Split, str] = {"train": "training accuracy (best fit)", "test": "test accuracy (chosen)"}


@style.styled
def forest(table: pd.DataFrame, split: Split) -> Drawing:
    """Paired differences mDFA − BP, − DFA and − FA in every position, with the paper's difference as a tick."""
    values, printed = select.accuracy(table, split), select.printed(table, split)
    by = {
        other: dict(iter(select.differences(values, "mdfa", other).groupby(select.POSITION, sort=False)))
        for other in _OTHERS
    }
    known = table[select.POSITION].drop_duplicates().itertuples(index=False, name=None)
    positions = [position for position in known if any(position in found for found in by.values())]
    figure, grid = style.panels(1, len(_OTHERS), 0.7 + 0.21 * max(len(positions), 4), sharey=True)
    counts: dict[str, tuple[int, int]] = {}
    for axes, other in zip(grid[0], _OTHERS, strict=True):
        below = above = 0
        for y, position in enumerate(positions):
            if position not in by[other]:
                continue
            rows = by[other][position]
            contrast = select.contrast(rows)
            interval = contrast.interval()
            axes.plot(
                rows["difference"],
                [y] * len(rows),
                linestyle="none",
                marker=".",
                markersize=4,
                color=LIGHT.ghost,
                zorder=4,
            )
            if interval is not None:
                axes.plot([interval.low, interval.high], [y, y], color=style.colour("mdfa"), linewidth=1.6, zorder=3)
                below, above = below + (interval.high < 0), above + (interval.low > 0)
            hollow = bool(rows["borrowed"].any())
            axes.plot(
                contrast.mean, y, linestyle="none", marker="o", markersize=5, markeredgecolor=style.colour("mdfa"),
                markerfacecolor=LIGHT.surface if hollow else style.colour("mdfa"), zorder=5,
            )  # fmt: skip
            names = [
                f"table-{position[0]}/{position[1]}/{position[2]}/{method}/{position[3]}" for method in ("mdfa", other)
            ]
            axes.plot(
                printed[names[0]] - printed[names[1]], y, linestyle="none", marker="|", markersize=10,
                markeredgewidth=1.8, color=LIGHT.text, zorder=6,
            )  # fmt: skip
        counts[other] = below, above
        axes.axvline(0, color=LIGHT.muted, linewidth=0.8)
        axes.set_title(f"mDFA − {select.title(other)}")
        axes.set_xlabel("points")
        axes.set_ylim(max(len(positions), 1) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        for y in range(1, len(positions)):
            if positions[y][:2] != positions[y - 1][:2]:
                axes.axhline(y - 0.5, color=LIGHT.grid, linewidth=1)
    grid[0][0].set_yticks(range(len(positions)), [select.place(position) for position in positions])
    figure.legend(
        handles=[
            style.note("mean and 95 % interval", color=style.colour("mdfa"), marker="o", linestyle="solid"),
            style.note("borrowed settings", color=style.colour("mdfa"), marker="o", markerfacecolor=LIGHT.surface),
            style.note("one task", color=LIGHT.ghost, marker="."),
            style.note("the paper", color=LIGHT.text, marker="|", markersize=10, markeredgewidth=1.8),
        ],
        loc="outside upper center", ncols=4,
    )  # fmt: skip
    low, high = counts["bp"]
    return Drawing(
        figure=figure,
        finding=f"mDFA's {word(split)} accuracy is below BP's in {low} of {len(by['bp'])} "
        f"comparisons, above it in {high}." + select.toy(table),
        reading=f"Differences in {_WORDS[split]}, paired by task, with Student's t interval (95 %, not corrected for "
        "the number of comparisons). Hollow: at least one of the two methods has borrowed settings. Tick: the "
        "difference of the paper's means.",
    )


@style.styled
def paper(table: pd.DataFrame) -> Drawing:
    """Every figure of the paper against the one measured here, coloured by rule."""
    figure, grid = style.panels(1, 2, 4.5, sharex=True, sharey=True)
    table, near, far = select.comparable(table), 0, 0
    for axes, split in zip(grid[0], ("train", "test"), strict=True):
        which: Split = "train" if split == "train" else "test"
        values, printed = select.accuracy(table, which), select.printed(table, which)
        spread = table[(table["role"] == "paper") & (table["quantity"] == f"{split}_std")].set_index("cell")["value"]
        axes.plot([0, 100], [0, 100], color=LIGHT.muted, linewidth=0.9)
        for method in select.PAPER_METHODS:
            rows = (
                values[values["method"] == method]
                .groupby("cell")
                .agg(value=("value", "mean"), std=("value", "std"), borrowed=("borrowed", "all"))
            )
            x = printed.reindex(rows.index)
            distance = (rows["value"] - x).abs()
            inside = distance <= spread.reindex(rows.index) + rows["std"].fillna(0)
            near, far = near + int(inside.sum()), far + int((~inside).sum())
            for hollow in (False, True):
                here = rows["borrowed"] == hollow
                axes.plot(
                    x[here], rows["value"][here], linestyle="none", marker=style.marker(method), markersize=5.5,
                    markeredgecolor=style.colour(method), markerfacecolor="none" if hollow else style.colour(method),
                    alpha=0.9,
                )  # fmt: skip
        axes.set_title(_WORDS[which])
        axes.set_xlabel("the paper, %")
        axes.set_aspect("equal")
        axes.set_xlim(0, 103)
        axes.set_ylim(0, 103)
    grid[0][0].set_ylabel("here, %")
    handles = [style.key(method, line=False) for method in select.PAPER_METHODS]
    handles.append(style.note("borrowed settings", marker="o", markerfacecolor="none"))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return Drawing(
        figure=figure,
        finding=f"{near} of {near + far} measured accuracies differ from the paper by at most the sum of both ±."
        + select.toy(table),
        reading="One point per cell: mean over tasks here against the paper's mean. On the line, both agree; above it, "
        "the accuracy is higher here.",
    )
