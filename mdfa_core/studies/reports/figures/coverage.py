"""Coverage: which cells were tuned, run with borrowed settings, or not run; and the sizes of doubts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mdfa_core.base.colours import LIGHT
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.studies.paper.published import TABLES
from mdfa_core.studies.paper.words import NETWORK_WORDS
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.tidy import SETTINGS


@style.styled
def coverage(table: pd.DataFrame) -> Drawing:
    """One mark per cell of the paper: tuned, borrowed settings, borrowed settings that failed, or not run."""
    cells = table[table["role"] == "paper"].drop_duplicates("cell")
    chosen = table[table["role"] == "chosen"].drop_duplicates("cell").set_index("cell")["tuned_for"]
    figure, grid = style.panels(2, 3, 3.9)
    failed = select.failed(table)
    counts = dict.fromkeys(_LOOK, 0)
    for number, one in TABLES.items():
        axes = grid[(number - 1) // 3][(number - 1) % 3]
        part = cells[cells["table"] == number]
        rows = list(part[select.POSITION].drop_duplicates().itertuples(index=False))
        for cell in part.itertuples():
            x = select.PAPER_METHODS.index(str(cell.method))
            y = rows.index((cell.table, cell.network, cell.activation, cell.classes))
            source = chosen.get(cell.cell)
            state = "not run" if source is None else "tuned" if source == cell.cell else "borrowed"
            if cell.cell in failed:
                state = "settings failed"
            counts[state] += 1
            axes.plot(x, y, **_LOOK[state])
        axes.set_title(f"Table {number}: {one.data}")
        axes.set_xticks(range(4), [select.title(method) for method in select.PAPER_METHODS])
        axes.set_yticks(range(len(rows)), [_row(row) for row in rows])
        axes.set_xlim(-0.5, 3.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
    figure.legend(
        handles=[style.note(f"{state} ({count})", **_LOOK[state]) for state, count in counts.items()],
        loc="outside upper center",
        ncols=4,
    )
    total = sum(counts.values())
    return Drawing(
        figure=figure,
        finding=f"Of {total} cells, {counts['tuned']} were tuned, {counts['borrowed'] + counts['settings failed']} "
        f"borrowed settings (which failed in {counts['settings failed']}), and {counts['not run']} were not run."
        + select.toy(table),
        reading="One mark per cell. Borrowed: the settings come from the search of the nearest tuned cell with the "
        "same method and kind of network. Failed: with these settings, training ended at chance on some task.",
    )


_LOOK: dict[str, dict[str, Any]] = {
    "tuned": {"marker": "o", "markersize": 9, "color": LIGHT.layers[0], "linestyle": "none"},
    "borrowed": {
        "marker": "o", "markersize": 9, "color": LIGHT.layers[0], "markerfacecolor": LIGHT.surface,
        "markeredgewidth": 1.6, "linestyle": "none",
    },
    "settings failed": {
        "marker": "s", "markersize": 8, "color": LIGHT.layers[1], "markerfacecolor": LIGHT.surface,
        "markeredgewidth": 1.6, "linestyle": "none",
    },
    "not run": {"marker": "x", "markersize": 6, "color": LIGHT.layers[3], "markeredgewidth": 1.6, "linestyle": "none"},
}  # fmt: skip


def _row(row: tuple[object, ...]) -> str:
    number, network, activation, classes = row
    if TABLES[int(str(number))].varies == "classes":
        return f"{NETWORK_WORDS[str(network)]}, {classes} classes"
    return f"{NETWORK_WORDS[str(network)]}, {ACTIVATIONS[str(activation)].title}"


@style.styled
def doubts(table: pd.DataFrame) -> Drawing:
    """Choices that could have been made otherwise, with the change that each would make."""
    found = effects(table)
    figure, grid = style.panels(1, 1, 0.8 + 0.5 * max(len(found), 2))
    axes = grid[0][0]
    rng = np.random.default_rng(0)
    for y, values in enumerate(found.values()):
        spots = y + rng.uniform(-0.17, 0.17, len(values))
        axes.plot(values, spots, linestyle="none", marker=".", markersize=5, color=LIGHT.ghost)
        if len(values):
            axes.plot(
                float(np.median(values)), y, linestyle="none", marker="|", markersize=20, markeredgewidth=2.4,
                color=LIGHT.train,
            )  # fmt: skip
            axes.text(
                1.01, y, f"{np.median(values):+.1f}\n{min(values):+.1f} to {max(values):+.1f}", va="center",
                transform=axes.get_yaxis_transform(), fontsize=8.5,
            )  # fmt: skip
        else:
            axes.text(
                0.5,
                y,
                "not measurable with these runs",
                va="center",
                ha="center",
                transform=axes.get_yaxis_transform(),
                color=LIGHT.muted,
            )
    axes.axvline(0, color=LIGHT.muted, linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks([-30, -10, -3, -1, 0, 1, 3, 10, 30], ["−30", "−10", "−3", "−1", "0", "1", "3", "10", "30"])
    axes.set_xlabel("points (logarithmic beyond ±1); beside: median, lowest to highest")
    axes.grid(visible=False, axis="y")
    known = {words: max(values, key=abs) for words, values in found.items() if values}
    most = max(known, key=lambda words: abs(known[words]), default=None)
    return Drawing(
        figure=figure,
        finding=(
            "Doubts and the sizes of their effects."
            if most is None
            else f"The largest effect of a doubt is {known[most]:+.1f} points: {most.replace(chr(10), ' ')}."
        )
        + select.toy(table),
        reading="One point per cell or comparison, of the paper's five tasks; the bar is the median. All runs of a "
        "task share one split of the data.",
    )


def effects(table: pd.DataFrame) -> dict[str, list[float]]:
    """The size of every doubt in points, one value per cell or comparison, on the paper's five tasks."""
    table = select.comparable(table)
    return {
        "tuned − borrowed settings\n(test, cells evaluated twice)": _twice(table),
        "best fit − chosen settings\n(training)": _between(select.best(table), select.best(table, "chosen")),
        "best − final epoch\n(training, best fit)": _between(select.best(table), select.final(table)),
        "best − final epoch\n(validation, chosen)": _between(
            select.best(table, "chosen", "validation"), select.final(table, "validation", "chosen")
        ),
        "half width of the interval of\nmDFA − BP (test)": _widths(table),
        "another split of the data": [],
    }


def _between(first: pd.DataFrame, second: pd.DataFrame) -> list[float]:
    """Differences of cells' means over tasks."""
    a, b = (values.groupby("cell", sort=False)["value"].mean() for values in (first, second))
    return [float(value) for value in (a - b).dropna()]


def _twice(table: pd.DataFrame) -> list[float]:
    """Test accuracy of the published settings − that of other settings on the same tasks, mean over tasks, by cell."""
    named = ["cell", *SETTINGS]
    tested = table[table["quantity"] == "test"]
    published = set(tested.loc[tested["role"] == "chosen", named].itertuples(index=False, name=None))
    besides = tested[tested["role"] == "besides"]
    other = [row not in published for row in besides[named].itertuples(index=False, name=None)]
    others = besides[np.array(other, dtype=bool)]
    before = others.groupby(["cell", "task"])["value"].mean()
    by_task = (select.tested(table).set_index(["cell", "task"])["value"] - before).dropna()
    return [float(value) for value in by_task.groupby("cell", sort=False).mean()]


def _widths(table: pd.DataFrame) -> list[float]:
    found = []
    for _, rows in select.differences(select.tested(table), "mdfa", "bp").groupby(select.POSITION, sort=False):
        interval = select.contrast(rows).interval()
        if interval is not None:
            found.append((interval.high - interval.low) / 2)
    return found
