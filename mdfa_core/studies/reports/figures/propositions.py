"""The table of propositions: the graded cells and the mean effect of every part."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper.propositions import Grade, Graded, judge
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing

_ORDER = (Grade.SHOWN, Grade.TIE, Grade.AGREES, Grade.DISAGREES, Grade.CONTRADICTED, Grade.NOT_RUN)
_COLOURS = {
    Grade.SHOWN: LIGHT.layers[0],
    Grade.TIE: LIGHT.layers[4],
    Grade.AGREES: LIGHT.layers[2],
    Grade.DISAGREES: LIGHT.layers[3],
    Grade.CONTRADICTED: LIGHT.layers[1],
    Grade.NOT_RUN: LIGHT.ghost,
}
_WORDS = 112  # characters of a line of a statement
_LINE = 0.19  # inches
_PART, _BAR, _HOLDS, _EFFECT = 0.02, 0.25, 0.58, 0.66  # where the columns begin, as shares of the width


@style.styled
def propositions(table: pd.DataFrame) -> Drawing:
    """Every proposition of the paper; below it one row per part: a bar of grades and the mean effect over its cells."""
    verdicts = judge(select.evidence(table))
    texts = [textwrap.wrap(verdict.proposition.says, _WORDS) for verdict in verdicts]
    rows = sum(len(lines) + len(v.groups) + 0.5 for lines, v in zip(texts, verdicts, strict=True))
    figure, grid = style.panels(1, 1, (rows + 1) * _LINE + 0.6)
    axes = grid[0][0]
    axes.text(_BAR, 0.5, "cases by grade", va="center", color=LIGHT.muted)
    axes.text(_HOLDS, 0.5, "shown", va="center", color=LIGHT.muted)
    axes.text(_EFFECT, 0.5, "mean effect [95 % interval]", va="center", color=LIGHT.muted)
    y = 1.0
    for verdict, lines in zip(verdicts, texts, strict=True):
        for line in lines:
            axes.text(0, y + 0.5, line, va="center", fontsize=9, weight="bold")
            y += 1
        for name, tally in verdict.groups.items():
            axes.text(_PART, y + 0.5, name, va="center", fontsize=8.4)
            _bar(axes, y, [one for one in verdict.cells if one.case.group == name])
            axes.text(_HOLDS, y + 0.5, f"{tally.shown} of {tally.measured}", va="center", fontsize=8.4)
            axes.text(_EFFECT, y + 0.5, tally.effect, va="center", fontsize=8.4)
            y += 1
        y += 0.5
    axes.set_xlim(0, 1)
    axes.set_ylim(max(y, 1), 0)
    axes.set_axis_off()
    figure.legend(
        handles=[
            style.note(f"{g.symbol} {g.words}", marker="s", markersize=9, color=_COLOURS[g],
                       markerfacecolor=LIGHT.surface if g is Grade.NOT_RUN else _COLOURS[g])
            for g in _ORDER
        ] + [style.note("borrowed settings", marker="s", markersize=9, markerfacecolor=LIGHT.surface)],
        loc="outside lower center", ncols=4,
    )  # fmt: skip
    held = sum(v.tally.shown for v in verdicts)
    agrees = held + sum(v.tally.counts.get(grade, 0) for v in verdicts for grade in (Grade.TIE, Grade.AGREES))
    against = sum(v.tally.counts.get(Grade.CONTRADICTED, 0) for v in verdicts)
    measured = sum(v.tally.measured for v in verdicts)
    leaning = measured - agrees - against
    return Drawing(
        figure=figure,
        finding=f"Of {measured} measured cases of {len(verdicts)} propositions, {held} are shown, {agrees - held} "
        f"agree in direction or tie, {leaning} disagree in direction, and {against} are contradicted."
        + select.toy(table),
        reading="Below every proposition of the paper, one row per part, with its cells as a bar divided by grade. A "
        "cell is shown if its interval (Student's t, corrected by Holm's procedure within the proposition) lies above "
        "the threshold. Hollow parts have borrowed settings or were not run. The mean effect is over the cells of the "
        "part, task by task, graded by its own 95 % interval.",
    )


def _bar(axes: Axes, y: float, cells: Sequence[Graded]) -> None:
    """The cells of a part as a bar of grades."""
    width = _HOLDS - _BAR - 0.015
    x = _BAR
    for grade in _ORDER:
        for borrowed in (False, True):
            count = sum(one.grade is grade and bool(one.borrowed) is borrowed for one in cells)
            if not count:
                continue
            hollow, share = borrowed or grade is Grade.NOT_RUN, count / len(cells)
            axes.barh(
                y + 0.5, width * share, left=x, height=0.82, linewidth=1.2,
                facecolor=LIGHT.surface if hollow else _COLOURS[grade], edgecolor=_COLOURS[grade],
            )  # fmt: skip
            if share > 0.08:
                axes.text(
                    x + width * share / 2, y + 0.5, _label(grade, count, share),
                    ha="center", va="center", fontsize=7.6, color=LIGHT.text if hollow else LIGHT.surface,
                )  # fmt: skip
            x += width * share


def _label(grade: Grade, count: int, share: float) -> str:
    return f"{grade.symbol} {count}" if share > 0.14 else str(count)
