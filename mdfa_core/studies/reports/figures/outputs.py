"""Figures against the number of outputs or classes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.published import TABLES
from mdfa_core.studies.paper.words import NETWORK_WORDS
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing

_NETWORKS = {"fc": "fully-connected", "conv": "convolutional"}
_DODGE = {"bp": -0.12, "fa": -0.04, "dfa": 0.04, "mdfa": 0.12}


@style.styled
def outputs(table: pd.DataFrame) -> Drawing:
    """Sign agreement and training accuracy against the number of outputs: CIFAR-100, tanh."""
    rows = table[table["table"].isin((1, 3, 4)) & (table["activation"] == "tanh")]
    agreement, accuracy = select.final(rows, "agreement_unit", "chosen"), select.best(rows)
    places = {classes: x for x, classes in enumerate(sorted(rows["classes"].unique()))}
    figure, grid = style.panels(2, 2, 4.9, sharex=True, sharey="row")
    for column, (network, words) in enumerate(_NETWORKS.items()):
        above, below = grid[0][column], grid[1][column]
        for axes, values in ((above, agreement), (below, accuracy)):
            for method in select.PAPER_METHODS:
                _line(axes, values[(values["network"] == network) & (values["method"] == method)], method, places)
        above.set_title(f"{NETWORK_WORDS[network]}: {words}")
        above.axhline(50, color=LIGHT.muted, linewidth=0.8, linestyle=(0, (1, 2)))
        above.text(0.99, 48.5, "chance", color=LIGHT.muted, ha="right", va="top", transform=above.get_yaxis_transform())
        below.set_xticks(list(places.values()), ["1" if classes == 2 else str(classes) for classes in places])
        below.set_xlabel("outputs")
    grid[0][0].set_ylabel("sign agreement, %")
    grid[1][0].set_ylabel("training accuracy, %")
    grid[0][0].set_ylim(40, 103)
    grid[1][0].set_ylim(0, 103)
    _legend(figure)
    binary = agreement[(agreement["classes"] == 2) & (agreement["method"] == "mdfa")]["value"]
    several = agreement[(agreement["classes"] > 2) & (agreement["method"] == "mdfa")]
    more = several.groupby("cell")["value"].mean()
    return Drawing(
        figure=figure,
        finding=(
            f"With one output, {binary.min():.0f} % of mDFA's error signals have the true sign; with three or more "
            f"outputs, {more.min():.0f} to {more.max():.0f} % (means over tasks)."
            if len(binary) and len(more)
            else "Sign agreement and training accuracy against the number of outputs."
        )
        + select.toy(rows),
        reading="Above: sign agreement of unit error signals with the true gradient at the end of training. Below: "
        "highest training accuracy of any epoch, best fit. CIFAR-100, tanh. Small points are tasks, lines join means "
        "over tasks, hollow means have borrowed settings. Agreement is drawn where it was measured.",
    )


@style.styled
def classes(table: pd.DataFrame) -> Drawing:
    """Training and test accuracy against the number of classes, here and in the paper: Tables 3 to 6."""
    table = select.comparable(table)
    numbers = [number for number, one in TABLES.items() if one.varies == "classes"]
    figure, grid = style.panels(len(numbers), 4, 7.2, sharex="row", sharey=True)
    for row, number in enumerate(numbers):
        part = table[table["table"] == number]
        places = {count: x for x, count in enumerate(sorted(part["classes"].unique()))}
        network = NETWORK_WORDS[part["network"].iloc[0]]
        measured = {"train": select.accuracy(part, "train"), "test": select.accuracy(part, "test")}
        for column, method in enumerate(select.PAPER_METHODS):
            axes = grid[row][column]
            for split, dash in (("train", "solid"), ("test", (0, (3, 2)))):
                theirs = part[(part["role"] == "paper") & (part["quantity"] == split) & (part["method"] == method)]
                axes.plot(
                    theirs["classes"].map(places), theirs["value"], color=LIGHT.ghost, linestyle=dash, linewidth=1.1,
                    marker=".", markersize=4, zorder=2,
                )  # fmt: skip
                values = measured[split]
                _means(axes, values[values["method"] == method], method, places, dash=dash, size=4)
            if column == 0:
                axes.set_ylabel(f"Table {number}, {network}")
            if row == 0:
                axes.set_title(select.title(method), color=style.colour(method), fontweight="bold")
            axes.set_xticks(list(places.values()), [str(count) for count in places])
            axes.set_ylim(0, 104)
            if part[(part["method"] == method) & (part["role"] == "chosen")].empty:
                axes.text(0.05, 0.06, "not run", transform=axes.transAxes, color=LIGHT.muted)
    figure.supxlabel("classes", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    printed = {"color": LIGHT.ghost, "marker": "."}
    figure.legend(
        handles=[
            style.note("here, training", color=LIGHT.text, linestyle="solid", linewidth=1.5),
            style.note("here, test", color=LIGHT.text, linestyle=(0, (3, 2)), linewidth=1.5),
            style.note("paper, training", **printed, linestyle="solid"),
            style.note("paper, test", **printed, linestyle=(0, (3, 2))),
            style.note("borrowed settings", marker="o", markerfacecolor=LIGHT.surface),
        ],
        loc="outside upper center", ncols=5,
    )  # fmt: skip
    return Drawing(
        figure=figure,
        finding=_gap(table) + select.toy(table),
        reading="Means over tasks. Solid: highest training accuracy of any epoch, best fit. Dashed: test accuracy "
        "of the chosen settings. Grey: the paper. Hollow: borrowed settings.",
    )


def _gap(table: pd.DataFrame) -> str:
    means = select.best(table[table["table"] == 3]).groupby(["cell", "method"], as_index=False)["value"].mean()
    if not {"bp", "dfa", "mdfa"} <= set(means["method"]):
        return "Accuracy against the number of classes."
    gaps = means["value"] - means["cell"].map(select.printed(table, "train"))
    direct, bp = gaps[means["method"].isin(("dfa", "mdfa"))], gaps[means["method"] == "bp"]
    return (
        f"In Table 3, DFA and mDFA train {direct.min():.0f} to {direct.max():.0f} points better than in the paper; "
        f"BP is within {bp.abs().max():.0f} points."
    )


def _line(axes: Axes, values: pd.DataFrame, method: str, places: dict[int, int]) -> None:
    """Tasks as small points, and a line through their means."""
    if values.empty:
        return
    shade, shift = style.colour(method), _DODGE[method]
    axes.plot(
        values["classes"].map(places) + shift, values["value"],
        linestyle="none", marker=style.marker(method), markersize=2.6, color=shade, alpha=0.45, zorder=2,
    )  # fmt: skip
    _means(axes, values, method, places, dash=style.dash(method), size=5.5, shift=shift)


def _means(
    axes: Axes,
    values: pd.DataFrame,
    method: str,
    places: dict[int, int],
    *,
    dash: Any,
    size: float,
    shift: float = 0.0,
) -> None:
    """A line through the means over tasks; hollow points have borrowed settings."""
    shade = style.colour(method)
    means = values[values["method"] == method].groupby("classes")
    means = means.agg(value=("value", "mean"), borrowed=("borrowed", "all")).reset_index()
    x = means["classes"].map(places) + shift
    axes.plot(x, means["value"], color=shade, linestyle=dash, linewidth=1.5, zorder=3)
    for hollow in (False, True):
        here = means["borrowed"] == hollow
        axes.plot(
            x[here], means["value"][here], linestyle="none", marker=style.marker(method), markersize=size,
            markeredgecolor=shade, markerfacecolor=LIGHT.surface if hollow else shade, zorder=4,
        )  # fmt: skip


def _legend(figure: object) -> None:
    handles = [style.key(method) for method in select.PAPER_METHODS]
    handles.append(style.note("borrowed settings", marker="o", markerfacecolor=LIGHT.surface))
    figure.legend(handles=handles, loc="outside upper center", ncols=5)  # type: ignore[attr-defined]
