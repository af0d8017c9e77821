"""The tab Paper: the paper's figures beside those of this project; every cell can be loaded as a preset."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby

import panel as pn

from mdfa_app.charts.live import LiveHTML, Markup
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.settings.cells import cell_name, tuned_for
from mdfa_app.settings.words import sentence
from mdfa_app.tabs.tab import Host, Tab
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN, Measure
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell, Figure, SplitName, cells
from mdfa_core.studies.paper.reproduced import Reproduced, reproduced
from mdfa_core.studies.paper.statistics import Scores
from mdfa_core.studies.paper.words import place, title, word
from mdfa_core.studies.reports.tables import NOT_RUN

UNTUNED = "*"
"""Marks a figure whose cell was run with the settings of another cell."""


def draw(table: int, chosen: str) -> str:
    """One table of the paper as markup.

    Rows can be picked: their word is `cell:NAME`. `chosen` is the name of the cell that is loaded.
    """
    groups = groupby(cells(table), key=place)
    return f'<div class="paper">{"".join(_group(where, list(found), chosen) for where, found in groups)}</div>'


class PaperTab(Tab):
    """The tables, one at a time; picking a row loads the run of its cell.

    Attributes:
        table: the table that is shown.
        caption: the text above it.
    """

    name, title = "paper", "Paper"

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self._marked = ""  # the preset of the page when the table was drawn last
        self._number = pn.widgets.RadioButtonGroup(
            options={f"Table {number}": number for number in TABLES}, value=next(iter(TABLES)),
            stylesheets=[WIDGETS], css_classes=["small"], margin=(0, 0, 6, 0), label="Table",
        )  # fmt: skip
        self._number.param.watch(lambda _event: self._draw(), "value")
        self.caption = Markup("", stylesheets=[PANES], sizing_mode="stretch_width", margin=(0, 0, 6, 0))
        self.table = LiveHTML(page.pick)
        self.view = pn.Column(self._number, self.caption, self.table, sizing_mode="stretch_width", margin=0)
        self._draw()

    def about(self) -> str:
        return sentence(self.page.complaint or "The paper's tables beside the results of this project")

    def update(self) -> None:
        """Mark the cell that is loaded, and turn to its table."""
        name = self.page.preset
        if name == self._marked:
            return
        self._marked = name
        if name in CELLS:
            self._number.value = CELLS[name].table
        self._draw()

    def _draw(self) -> None:
        number = self._number.value
        caption = html.escape(TABLES[number].caption)
        untuned = ""
        if any((result := reproduced(cell)) is not None and result.tuned_for != cell for cell in cells(number)):
            untuned = f" {UNTUNED} This cell was not tuned: it was run with the settings of the nearest tuned cell."
        self.caption.object = (
            f"<p><b>{caption}.</b> <span class='muted'>Accuracy in percent, mean ± sample standard deviation over five "
            f"tasks. <i>Chosen</i>: the network chosen on validation images, which is tested; <i>best fit</i>: the "
            f"settings with the highest training accuracy. Pick a row to load its run.{untuned}</span></p>"
        )
        self.table.html = draw(number, self._marked)


def _shown(cell: Cell) -> tuple[tuple[SplitName, tuple[Measure, ...]], ...]:
    """The columns of the paper, and what stands beside each."""
    return ("train", (TRAINED, TRAINED_CHOSEN)), (cell.held_out, (TESTED,))


def _group(where: str, found: Sequence[Cell], chosen: str) -> str:
    over = "".join(
        f'<th scope="colgroup" colspan="{1 + len(measures)}">{word(split)}</th>' for split, measures in _shown(found[0])
    )
    heads = "".join(
        f'<th scope="col">{name}</th>'
        for _, measures in _shown(found[0])
        for name in ("paper", *(measure.role for measure in measures))
    )
    caption = html.escape(where.partition(", ")[2])
    rows = "".join(_row(cell, cell.name == chosen) for cell in found)
    return (
        f'<table class="figures"><caption>{caption}</caption><thead><tr><td></td>{over}</tr>'
        f"<tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(cell: Cell, chosen: bool) -> str:
    result, pick = reproduced(cell), f'data-pick="cell:{html.escape(cell.name)}"'
    name = html.escape(title(cell))
    button = (
        f'<button class="name" {pick} aria-pressed="{str(chosen).lower()}" '
        f'aria-label="Load {html.escape(cell_name(cell))}">{name}</button>'
    )
    figures = ""
    for split, measures in _shown(cell):
        figures += f"<td>{_figure(cell.published[split])}</td>"
        figures += "".join(_measured(cell, split, measure, result) for measure in measures)
    return f'<tr{" class=drawn" if chosen else ""} {pick}><th scope="row">{button}</th>{figures}</tr>'


def _measured(cell: Cell, split: SplitName, measure: Measure, result: Reproduced | None) -> str:
    scores = result.scores.get(measure) if result is not None else None
    if result is None or scores is None:
        return f'<td class="muted">{NOT_RUN}</td>'
    difference = scores.mean - cell.published[split].mean
    tasks = f"{len(scores.tasks)} task{'s' * (len(scores.tasks) != 1)}"
    tip = (
        f"{measure.title(cell)}: {difference:+.1f} points from the paper, over {tasks}, with {tuned_for(cell, result)}"
    )
    mark = "" if result.tuned_for == cell else f" {UNTUNED}"
    return f'<td title="{html.escape(tip)}"><b>{_figure(scores, mark)}</b></td>'


def _figure(figure: Figure | Scores, mark: str = "") -> str:
    spread = "" if figure.std is None else f" <small>± {figure.std:.1f}</small>"
    return f"{figure.mean:.1f}{mark}{spread}"
