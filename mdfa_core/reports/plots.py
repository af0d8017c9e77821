"""Plots of results: accuracies beside the paper's, learning curves, sign agreement; and their embedding in a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import holoviews as hv
import holoviews.plotting.bokeh  # registers the backend; without it no option of a plot is known
from bokeh.embed import components
from bokeh.plotting import figure
from bokeh.resources import Resources

from mdfa_core.paper.criteria import place, title, word
from mdfa_core.paper.published import Cell, Split
from mdfa_core.records import Point, Probe, Record
from mdfa_core.reports.results import Result

COLOURS = {"bp": "#3b82c4", "dfa": "#d99000", "fa": "#2a9d6f", "mdfa": "#d4552a"}
"""One a method; all can be told from white and from black, and by people who see fewer colours."""

_PAPER, _HERE = "#8a8a8a", "#d4552a"
_OTHER = "#8f5bd6"  # methods the paper does not have
_APART = 0.16  # half the distance between a cell's two marks, in units of the axis

_Rows = list[tuple[float, float, float]]


def accuracies(found: Iterable[Result], network: str, split: Split) -> hv.Overlay:
    """Mean ± sample standard deviation of every cell, the paper's beside ours; a star marks cells that were not tuned.

    Args:
        found: results of one table.
        network: `fc` or `conv`.
        split: which accuracy.
    """
    chosen = [result for result in found if result.cell.network == network]
    paper: _Rows = []
    here: _Rows = []
    ticks = []
    for x, result in enumerate(chosen):
        figure, scores = result.cell.published[split], result.scores(split)
        paper.append((x - _APART, figure.mean, figure.std))
        if scores is not None:
            here.append((x + _APART, scores.mean, scores.std or 0.0))
        ticks.append((x, _tick(result.cell) + " *" * (result.borrowed is not None)))
    marks = hv.Overlay(
        [
            part
            for rows, label, colour in ((paper, "paper", _PAPER), (here, "here", _HERE))
            for part in _marks(rows, label, colour)
        ]
    )
    return marks.opts(
        title=f"{_group(chosen[0].cell)}: {word(split)}",
        xticks=ticks,
        xrotation=50,
        xlim=(-0.6, len(chosen) - 0.4),
        ylim=(0, 104),
        xlabel="* not tuned: run with the settings of another cell" if any(r.borrowed for r in chosen) else "",
        ylabel=f"{word(split)} accuracy, %",
        legend_position="bottom_left",
        show_grid=True,
        backend="bokeh",
        **_SHAPE,
    )


def _marks(rows: _Rows, label: str, colour: str) -> list[Any]:
    bars = hv.ErrorBars(rows, "cell", ["accuracy", "spread"])
    dots = hv.Scatter([row[:2] for row in rows], "cell", "accuracy", label=label)
    return [
        bars.opts(line_color=colour, line_width=1.5, upper_head=None, lower_head=None, backend="bokeh"),
        dots.opts(color=colour, size=8, marker="square" if label == "paper" else "circle", backend="bokeh"),
    ]


def curves(found: Iterable[Result]) -> hv.Overlay | None:
    """Training (dashed) and validation accuracy (solid) after every epoch, mean over the tasks; None where no run is.

    Args:
        found: results of one network, activation and number of classes, one a method.
    """
    lines = []
    for result in found:
        for style, share in (("dashed", _train), ("solid", _validation)):
            points = _mean_by_epoch(result.records, _curve_of, share)
            if points:
                name = f"{title(result.cell)} {'training' if style == 'dashed' else 'validation'}"
                lines.append(_line([(x, 100 * y) for x, y in points], name, result.cell.method, style, "accuracy"))
    return _lines(lines, found, "accuracy, %", (0, 104))


def agreement(found: Iterable[Result], level: Literal["unit", "example", "batch"]) -> hv.Overlay | None:
    """Share of signs that agree with the true ones over training, mean over the tasks; None where none was measured.

    Args:
        found: as `curves`.
        level: unit error signals, single-example updates or mini-batch updates.
    """

    def share(probe: Probe) -> float | None:
        value: float | None = getattr(probe, level)
        return value

    lines = []
    for result in found:
        points = _mean_by_epoch(result.records, _probes_of, share)
        if points:
            lines.append(_line(points, title(result.cell), result.cell.method, "solid", "agreement"))
    return _lines(lines, found, f"sign agreement, {level}", (0, 1.04))


def _line(points: list[tuple[int, float]], name: str, method: str, style: str, what: str) -> hv.Curve:
    return hv.Curve(points, "epoch", what, label=name).opts(
        color=COLOURS.get(method, _OTHER), line_dash=style, line_width=1.6, backend="bokeh"
    )


def _lines(lines: list[hv.Curve], found: Iterable[Result], what: str, limits: tuple[float, float]) -> hv.Overlay | None:
    if not lines:
        return None
    return hv.Overlay(lines).opts(
        title=place(next(iter(found)).cell),
        ylim=limits,
        ylabel=what,
        show_grid=True,
        legend_position="right",
        backend="bokeh",
        **_SHAPE,
    )


def _mean_by_epoch(
    records: Sequence[Record],
    rows: Callable[[Record], Sequence[Any]],
    share: Callable[[Any], float | None],
) -> list[tuple[int, float]]:
    """Means over the runs; epochs that one of them lacks are left out, so that all means are over the same runs."""
    runs = [{row.epoch: value for row in rows(record) if (value := share(row)) is not None} for record in records]
    if not runs:
        return []
    common = set.intersection(*map(set, runs))
    return [(epoch, fmean(run[epoch] for run in runs)) for epoch in sorted(common)]


def _curve_of(record: Record) -> Sequence[Point]:
    return record.curve


def _probes_of(record: Record) -> Sequence[Probe]:
    return record.probes


def _train(point: Point) -> float | None:
    return point.train_accuracy


def _validation(point: Point) -> float | None:
    return point.validation_accuracy


def _tick(cell: Cell) -> str:
    return f"{title(cell)}, {_varied(cell)}"


def _varied(cell: Cell) -> str:
    return f"{cell.classes} classes" if cell.classes > 2 else place(cell).rpartition(", ")[2]


def _group(cell: Cell) -> str:
    table, network, *_ = place(cell).split(", ")
    return f"{table}, {network}"


_SHAPE: dict[str, Any] = {
    "responsive": True,
    "min_height": 320,
    "toolbar": "above",
    "active_tools": [],  # a wheel that zooms would stop the page from scrolling
}

# ------------------------------------------------------------------------------------------------------------ embedding


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Plots as parts of a page that needs no network.

    Attributes:
        library: BokehJS, for the page's head.
        script: what draws the plots, for the end of the page.
        divs: one element a plot, in their order.
    """

    library: str
    script: str
    divs: tuple[str, ...]


def embed(plots: Sequence[hv.Overlay]) -> Embedded:
    """Plots as HTML; they take the colours `--ink`, `--line` and `--paper` of the page's CSS, light or dark."""
    if not plots:
        return Embedded(library="", script="", divs=())
    models = tuple(hv.render(plot, backend="bokeh") for plot in plots)
    for model in models:
        _quiet(model)
    script, divs = components(models)
    # Not `Resources.render()`: where Panel is loaded, that adds files of Panel by their addresses.
    sources = Resources(mode="inline", components=["bokeh"], log_level="error").js_raw
    library = "\n".join(f"<script>\n{source}\n</script>" for source in sources)
    return Embedded(library=library, script=script + _RECOLOUR, divs=tuple(divs))


def _quiet(plot: figure) -> None:
    """No logo, which links to a site, and no ground of its own."""
    plot.toolbar.logo = None
    plot.background_fill_color = None
    plot.border_fill_color = None
    plot.outline_line_color = None


_INK = {
    "Axis": ("axis_label_text_color", "major_label_text_color", "axis_line_color", "major_tick_line_color"),
    "Title": ("text_color",),
    "Legend": ("label_text_color",),
}
_LINE = {"Grid": ("grid_line_color",), "Axis": ("minor_tick_line_color",), "Legend": ("border_line_color",)}
_PAGE = {"Legend": ("background_fill_color",)}

# Bokeh draws on a canvas, which CSS does not reach: models are told the page's colours, and again when they change.
_RECOLOUR = """
<script>
(() => {
  const parts = %s;
  const recolour = () => {
    const style = getComputedStyle(document.documentElement);
    for (const doc of Bokeh.documents) for (const model of doc._all_models.values())
      for (const [variable, names] of Object.entries(parts))
        for (const [kind, properties] of Object.entries(names))
          if (model.type.endsWith(kind))
            for (const name of properties)
              if (name in model.properties) model[name] = style.getPropertyValue(variable).trim();
  };
  const wait = () => (window.Bokeh && Bokeh.documents.length) ? recolour() : setTimeout(wait, 50);
  wait();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
})();
</script>
""" % json.dumps({"--ink": _INK, "--line": _LINE, "--paper": _PAGE})  # noqa: UP031 - braces are JavaScript's here
