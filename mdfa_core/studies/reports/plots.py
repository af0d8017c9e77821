"""Plots of results (accuracies beside the paper's, learning curves, sign agreement), and their embedding in a page.

Every task is drawn; the pointer shows cell, role, task and value. Plots are figures of Bokeh.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    MultiLine,
    Range1d,
    Scatter,
    Segment,
)
from bokeh.models.annotations.legends import Legend, LegendItem
from bokeh.models.renderers.glyph_renderer import GlyphRenderer
from bokeh.models.text import BaseText
from bokeh.plotting import figure
from bokeh.resources import Resources

from mdfa_core.base.colours import DARK, LIGHT, Palette
from mdfa_core.rules.methods import METHODS
from mdfa_core.runs.records import Point, Probe, Record
from mdfa_core.studies.paper.measures import TRAINED_CHOSEN, printed
from mdfa_core.studies.paper.published import Cell, SplitName
from mdfa_core.studies.paper.statistics import Scores
from mdfa_core.studies.paper.words import place, title, word
from mdfa_core.studies.reports.results import CellResult, task_of

_STEP = 0.2  # distance of a cell's marks, in units of the axis
_JITTER = 0.03  # distance of a mark's tasks


def colours(palette: Palette) -> dict[str, str]:
    """The colours of marks and lines in one theme, by the variables of the page's CSS."""
    rules = {f"--rule{number}": palette.rule(number) for number in range(len(METHODS))}
    return {"--printed": palette.ghost, "--best-fit": palette.validation, "--chosen": palette.train, **rules}


_LIGHT = colours(LIGHT)


def accuracies(found: Iterable[CellResult], network: str, split: SplitName) -> figure:
    """Every cell in the paper and here: mean ± sample standard deviation, and one small point per task.

    The plot of training accuracy has both roles, best fit and chosen. A star marks cells that were not tuned.

    Args:
        found: results of one table.
        network: `fc` or `conv`.
        split: which accuracy.
    """
    cells = [result for result in found if result.cell.network == network]
    series: list[tuple[str, str, str, list[Scores | None]]] = [
        ("paper", "--printed", "square", [Scores.printed(result.cell.published[split]) for result in cells]),
        *(
            (
                f"{measure.role}, here",
                f"--{measure.role.replace(' ', '-')}",
                "circle",
                [result.comparable.scores(measure) for result in cells],
            )
            for measure in ((printed(split), TRAINED_CHOSEN) if split == "train" else (printed(split),))
        ),
    ]
    ticks: dict[float | str, str | BaseText] = {
        x: _tick(result.cell) + " *" * (result.borrowed is not None) for x, result in enumerate(cells)
    }
    plot = _figure(
        f"{_group(cells[0].cell)}: {word(split)} accuracy" + _toy(cells),
        "* not tuned: run with the settings of another cell" if any(r.borrowed for r in cells) else "",
        f"{word(split)} accuracy, %",
        (0, 104),
        x_range=Range1d(start=-0.6, end=len(cells) - 0.4),
    )
    plot.xaxis.ticker = FixedTicker(ticks=list(range(len(cells))))
    plot.xaxis.major_label_overrides = ticks
    plot.xaxis.major_label_orientation = 0.87  # radians, so that labels of neighbours do not overlap
    pointed, items = [], []
    for number, (label, colour, marker, scores) in enumerate(series):
        offset = _STEP * (number - (len(series) - 1) / 2)
        known = [
            (x + offset, result.cell.name, one)
            for x, (result, one) in enumerate(zip(cells, scores, strict=True))
            if one is not None
        ]
        means = ColumnDataSource(
            {
                "x": [x for x, _, _ in known],
                "value": [one.mean for _, _, one in known],
                "low": [one.mean - (one.std or 0.0) for _, _, one in known],
                "high": [one.mean + (one.std or 0.0) for _, _, one in known],
                "cell": [name for _, name, _ in known],
                "role": [label for _ in known],
                "task": [f"mean ± deviation {one}" for _, _, one in known],
            }
        )
        tasks = [
            (x + _JITTER * (place - (len(one.tasks) - 1) / 2), name, task, value)
            for x, name, one in known
            for place, (task, value) in enumerate(one.tasks.items())
        ]
        points = ColumnDataSource(
            {
                "x": [x for x, *_ in tasks],
                "value": [value for *_, value in tasks],
                "cell": [name for _, name, *_ in tasks],
                "role": [label for _ in tasks],
                "task": [str(task) for _, _, task, _ in tasks],
            }
        )
        _add(plot, means, Segment(x0="x", x1="x", y0="low", y1="high", line_width=1.5), colour)
        pointed.append(_add(plot, points, Scatter(x="x", y="value", size=4, line_color=None, fill_alpha=0.5), colour))
        pointed.append(_add(plot, means, Scatter(x="x", y="value", size=8, marker=marker), colour))
        items.append((label, pointed[-1]))
    _explain(plot, items, pointed, "@value{0.0} %", "below")
    return plot


def curves(found: Iterable[CellResult]) -> figure | None:
    """Training (dashed) and validation accuracy (solid) after every epoch; None if there are no runs.

    A thin line is one run, a thick line the mean over runs.

    Args:
        found: results of one network, activation and number of classes, one per method.
    """
    group = list(found)
    lines = [
        _Lines(result, f"{title(result.cell)} {what}", style, _by_epoch(result.chosen.records, _curve_of, share, 100))
        for result in group
        for what, style, share in (("training", "dashed", _train), ("validation", "solid", _validation))
    ]
    return _drawn(lines, group, "accuracy, %", 104)


def agreement(found: Iterable[CellResult], level: Literal["unit", "example", "batch"]) -> figure | None:
    """Sign agreement during training, in percent, as in `curves`; None if no run measured it.

    Args:
        found: as for `curves`.
        level: unit error signals, single-example updates or mini-batch updates.
    """

    def share(probe: Probe) -> float | None:
        value: float | None = getattr(probe, level)
        return value

    group = list(found)
    lines = [
        _Lines(result, title(result.cell), "solid", _by_epoch(result.chosen.records, _probes_of, share, 100))
        for result in group
    ]
    return _drawn(lines, group, f"sign agreement, {level}, %", 104)


@dataclass(frozen=True)
class _Lines:
    """The lines of one cell in a plot: one per run, each a mapping from epochs to values in percent."""

    result: CellResult
    label: str
    style: str
    runs: dict[str, dict[int, float]]

    @property
    def mean(self) -> dict[int, float]:
        """Means over the runs, at the epochs that all runs have."""
        common = sorted(set.intersection(*map(set, self.runs.values())))
        return {epoch: float(np.mean([run[epoch] for run in self.runs.values()])) for epoch in common}


def _drawn(lines: Sequence[_Lines], group: Sequence[CellResult], what: str, highest: float) -> figure | None:
    drawn = [one for one in lines if one.runs]
    if not drawn:
        return None
    plot = _figure(place(group[0].cell) + _toy(group), "epoch", what, (0, highest))
    pointed, items = [], []
    for one in drawn:
        colour = f"--rule{list(METHODS).index(one.result.cell.method)}"
        thin = MultiLine(xs="xs", ys="ys", line_dash=one.style, line_width=1, line_alpha=0.3)
        thick = MultiLine(xs="xs", ys="ys", line_dash=one.style, line_width=2)
        pointed.append(_add(plot, _source(one, one.runs), thin, colour))
        pointed.append(_add(plot, _source(one, {f"mean of {len(one.runs)}": one.mean}), thick, colour))
        items.append((one.label, pointed[-1]))
    _explain(plot, items, pointed, "$snap_y{0.0} %", "right")
    return plot


def _source(lines: _Lines, runs: dict[str, dict[int, float]]) -> ColumnDataSource:
    return ColumnDataSource(
        {
            "xs": [np.array(list(run), np.uint16) for run in runs.values()],
            "ys": [np.array(list(run.values()), np.float32) for run in runs.values()],
            "cell": [lines.result.cell.name for _ in runs],
            "role": ["chosen" for _ in runs],
            "task": list(runs),
        }
    )


def _by_epoch(
    records: Sequence[Record],
    rows: Callable[[Record], Sequence[Any]],
    share: Callable[[Any], float | None],
    scale: float,
) -> dict[str, dict[int, float]]:
    """The values of every run that has some, by its task (and its seed, if that is another number)."""
    runs: dict[str, dict[int, float]] = {}
    for record in records:
        task, seed = task_of(record), record.experiment.seed
        values = {row.epoch: scale * value for row in rows(record) if (value := share(row)) is not None}
        if values:
            runs[str(task) if task == seed else f"{task}, seed {seed}"] = values
    return runs


def _curve_of(record: Record) -> Sequence[Point]:
    return record.curve


def _probes_of(record: Record) -> Sequence[Probe]:
    return record.probes


def _train(point: Point) -> float | None:
    return point.train_accuracy


def _validation(point: Point) -> float | None:
    return point.validation_accuracy


def _toy(found: Iterable[CellResult]) -> str:
    return " (toy data)" if any(result.toy for result in found) else ""


def _tick(cell: Cell) -> str:
    return f"{title(cell)}, {_varied(cell)}"


def _varied(cell: Cell) -> str:
    return f"{cell.classes} classes" if cell.classes > 2 else place(cell).rpartition(", ")[2]


def _group(cell: Cell) -> str:
    table, network, *_ = place(cell).split(", ")
    return f"{table}, {network}"


# --------------------------------------------------------------------------------------------------------------- Bokeh


def _figure(heading: str, x: str, y: str, limits: tuple[float, float], **options: Any) -> figure:
    plot = figure(
        title=heading,
        x_axis_label=x,
        y_axis_label=y,
        y_range=Range1d(start=limits[0], end=limits[1]),
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_scroll=None,  # a wheel that zooms would stop the page from scrolling
        active_drag=None,
        toolbar_location="above",
        sizing_mode="stretch_width",
        height=340,
        **options,
    )
    plot.toolbar.logo = None  # it links to a site
    return plot


def _add(plot: figure, source: ColumnDataSource, glyph: Any, colour: str) -> GlyphRenderer[Any]:
    """Add marks or lines in a colour of the page; the tag tells the page's script which."""
    for name in ("line_color", "fill_color"):
        if name in glyph.properties() and getattr(glyph, name) is not None:
            setattr(glyph, name, _LIGHT[colour])
    glyph.tags = [colour]
    renderer: GlyphRenderer[Any] = plot.add_glyph(source, glyph)
    return renderer


def _explain(
    plot: figure,
    items: Iterable[tuple[str, GlyphRenderer[Any]]],
    pointed: Sequence[GlyphRenderer[Any]],
    value: str,
    where: Literal["below", "right"],
) -> None:
    """Add the legend, and what the pointer shows."""
    legend = Legend(items=[LegendItem(label=label, renderers=[renderer]) for label, renderer in items])
    legend.orientation = "horizontal" if where == "below" else "vertical"
    legend.click_policy = "hide"
    plot.add_layout(legend, where)
    shown = [("cell", "@cell"), ("role", "@role"), ("task", "@task"), ("value", value)]
    if where == "right":
        shown.insert(3, ("epoch", "$snap_x{0}"))
    plot.add_tools(HoverTool(renderers=list(pointed), tooltips=shown, line_policy="nearest"))


# ------------------------------------------------------------------------------------------------------------ embedding


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Plots as parts of a page that works offline.

    Attributes:
        library: BokehJS, for the page's head.
        script: draws the plots; for the end of the page.
        divs: one element per plot, in their order.
        light, dark: the colours of marks and lines, by the variables of the page's CSS.
    """

    library: str
    script: str
    divs: tuple[str, ...]
    light: dict[str, str]
    dark: dict[str, str]


def embed(plots: Sequence[figure]) -> Embedded:
    """Plots as HTML; they use the colours of the page's CSS, light or dark."""
    script, library = "", ""
    divs: Sequence[str] = ()
    if plots:
        for plot in plots:
            plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
        page = Document()
        with page.models.freeze():  # otherwise Bokeh looks through all plots again for each plot that is added
            for plot in plots:
                page.add_root(plot)
        drawn, divs = components(tuple(plots))
        script = drawn + _RECOLOUR
        # Not `Resources.render()`: where Panel is loaded, that adds files of Panel by their addresses.
        sources = Resources(mode="inline", components=["bokeh"], log_level="error").js_raw
        library = "\n".join(f"<script>\n{source}\n</script>" for source in sources)
    return Embedded(library=library, script=script, divs=tuple(divs), light=_LIGHT, dark=colours(DARK))


_INK = {
    "Axis": ("axis_label_text_color", "major_label_text_color", "axis_line_color", "major_tick_line_color"),
    "Title": ("text_color",),
    "Legend": ("label_text_color",),
}
_LINE = {"Grid": ("grid_line_color",), "Axis": ("minor_tick_line_color",), "Legend": ("border_line_color",)}
_PAGE = {"Legend": ("background_fill_color",)}

# Bokeh draws on a canvas, where CSS has no effect: the script sets the page's colours, and again when they change.
_RECOLOUR = """
<script>
(() => {
  const parts = %s;
  const recolour = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (variable) => style.getPropertyValue(variable).trim();
    for (const doc of Bokeh.documents) for (const model of doc._all_models.values()) {
      for (const [variable, names] of Object.entries(parts))
        for (const [kind, properties] of Object.entries(names))
          if (model.type.endsWith(kind))
            for (const name of properties)
              if (name in model.properties) model[name] = colour(variable);
      const [variable] = model.tags;
      if (variable?.startsWith?.("--"))
        for (const name of ["line_color", "fill_color"])
          if (model[name]?.value) model[name] = {value: colour(variable)};
    }
  };
  const wait = () => (window.Bokeh && Bokeh.documents.length) ? recolour() : setTimeout(wait, 50);
  wait();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
})();
</script>
""" % json.dumps({"--ink": _INK, "--line": _LINE, "--paper": _PAGE})  # noqa: UP031 - braces are JavaScript's here
