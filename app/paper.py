"""The paper's tables on the page: its figures beside this project's, and every cell as a configuration to load."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import panel as pn

from app.live import LiveHTML
from app.presets import PRESETS, Preset
from app.style import PANES, WIDGETS
from mdfa_core import MdfaError
from mdfa_core.paper.criteria import place, title, word
from mdfa_core.paper.published import CELLS, TABLES, Cell, Figure, Split, cells
from mdfa_core.paper.recipes import PROFILES, base, tuned
from mdfa_core.paper.reproduced import Reproduced, reproduced
from mdfa_core.paper.statistics import Scores

_PROFILE = PROFILES["quick"]
"""Real data, and the settings that come with the package."""

NOT_RUN = "not run"

UNTUNED = "*"
"""The mark of a figure whose cell was run with settings tuned for another."""


def known(name: str) -> bool:
    """Whether `preset` knows the name."""
    return name in PRESETS or name in CELLS


def preset(name: str) -> Preset:
    """What the page can begin with: one of `PRESETS`, or a cell of the paper by its name.

    Raises:
        UnknownName: it is neither.
    """
    return _preset(CELLS[name]) if name in CELLS else PRESETS[name]


def _preset(cell: Cell) -> Preset:
    experiment, here = base(cell, _PROFILE), reproduced(cell)
    measured = "This project has not run this cell."
    if here is not None:
        where = "" if here.data == experiment.data else f" on {here.data}"
        measured = f"This project measured {_spoken(here.scores)}{where}, with {_settings(cell, here)}."
    source = "default settings: none of this kind was tuned"
    try:
        found = tuned(cell)
    except MdfaError:
        pass
    else:
        experiment = experiment.replace(**found.settings)
        own = found.source == cell
        source = "the settings tuned for it" if own else f"settings tuned for {_name(found.source)}, the nearest cell"
    settings = experiment.to_dict()
    del settings["method"]
    return Preset(
        title=_name(cell),
        claim=f"The paper prints {_spoken(cell.published)}; ± is the spread over five tasks. {measured}",
        look=f"This is the first of the five tasks, with {source}; New seed is the next one. Training accuracy counts "
        f"at its best, {word(cell.held_out)} accuracy after the best validation epoch.",
        rules=(cell.method,),
        settings=settings,
        tab="paper",
    )


def draw(table: int, chosen: str) -> str:
    """One table of the paper; words that can be picked are `cell:NAME`, and `chosen` is the cell that is loaded."""
    groups = groupby(cells(table), key=place)
    return f'<div class="paper">{"".join(_group(where, list(found), chosen) for where, found in groups)}</div>'


class PaperPane:
    """The tables, one at a time.

    Args:
        on_pick: called with what was picked in `draw`; the word comes from a browser.
    """

    def __init__(self, on_pick: Callable[[str], None]) -> None:
        self._chosen = ""
        self._number = pn.widgets.RadioButtonGroup(
            options={f"Table {number}": number for number in TABLES}, value=next(iter(TABLES)),
            stylesheets=[WIDGETS], css_classes=["small"], margin=(0, 0, 6, 0), label="Table",
        )  # fmt: skip
        self._number.param.watch(lambda _event: self._draw(), "value")
        self._caption = pn.pane.HTML("", stylesheets=[PANES], sizing_mode="stretch_width", margin=(0, 0, 6, 0))
        self.table = LiveHTML(on_pick)
        self.view = pn.Column(self._number, self._caption, self.table, sizing_mode="stretch_width", margin=0)
        self._draw()

    def show(self, name: str) -> None:
        """Mark the cell of this name, and turn to its table; a name of no cell marks none."""
        if name == self._chosen:
            return
        self._chosen = name
        if name in CELLS:
            self._number.value = CELLS[name].table
        self._draw()

    def _draw(self) -> None:
        number = self._number.value
        caption = html.escape(TABLES[number].caption)
        untuned = ""
        if any((here := reproduced(cell)) is not None and here.tuned_for != cell for cell in cells(number)):
            untuned = f" {UNTUNED} This cell was not tuned: it was run with the settings of the nearest one that was."
        self._caption.object = (
            f"<p><b>{caption}.</b> <span class='muted'>Accuracy in percent, mean ± sample standard deviation over five "
            f"tasks. Pick a row to load its run.{untuned}</span></p>"
        )
        self.table.html = draw(number, self._chosen)


def _group(where: str, found: Sequence[Cell], chosen: str) -> str:
    splits = found[0].splits
    over = "".join(f'<th scope="colgroup" colspan="2">{word(split)}</th>' for split in splits)
    heads = '<th scope="col">paper</th><th scope="col">here</th>' * len(splits)
    caption = html.escape(where.partition(", ")[2])
    rows = "".join(_row(cell, cell.name == chosen) for cell in found)
    return (
        f'<table class="figures"><caption>{caption}</caption><thead><tr><td></td>{over}</tr>'
        f"<tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(cell: Cell, chosen: bool) -> str:
    here, pick = reproduced(cell), f'data-pick="cell:{html.escape(cell.name)}"'
    name = html.escape(title(cell))
    button = (
        f'<button class="name" {pick} aria-pressed="{str(chosen).lower()}" '
        f'aria-label="Load {html.escape(_name(cell))}">{name}</button>'
    )
    figures = ""
    for split in cell.splits:
        figures += f"<td>{_figure(cell.published[split])}</td>"
        figures += _measured(cell, split, here)
    return f'<tr{" class=drawn" if chosen else ""} {pick}><th scope="row">{button}</th>{figures}</tr>'


def _measured(cell: Cell, split: Split, here: Reproduced | None) -> str:
    scores = here.scores.get(split) if here is not None else None
    if here is None or scores is None:
        return f'<td class="muted">{NOT_RUN}</td>'
    difference = scores.mean - cell.published[split].mean
    tip = (
        f"{difference:+.1f} points from the paper, over {len(scores.tasks)} task{'s' * (len(scores.tasks) != 1)}, "
        f"with {_settings(cell, here)}"
    )
    mark = "" if here.tuned_for == cell else f" {UNTUNED}"
    return f'<td title="{html.escape(tip)}"><b>{_figure(scores)}</b>{mark}</td>'


def _settings(cell: Cell, here: Reproduced) -> str:
    """Whose settings a cell was run with."""
    if here.tuned_for == cell:
        return f"settings tuned for it (profile {here.profile})"
    return f"settings tuned for {_name(here.tuned_for)} and not for it (profile {here.profile})"


def _figure(figure: Figure | Scores) -> str:
    spread = "" if figure.std is None else f" <small>± {figure.std:.1f}</small>"
    return f"{figure.mean:.1f}{spread}"


def _spoken(figures: Mapping[Split, Figure] | Mapping[Split, Scores]) -> str:
    """Accuracies in words."""
    return " and ".join(f"{figure} % {word(split)} accuracy" for split, figure in figures.items())


def _name(cell: Cell) -> str:
    return f"{place(cell)}, {title(cell)}"
