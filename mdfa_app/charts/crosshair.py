"""A vertical line through all charts at one step, and one tooltip with the values of all lines there.

Both follow the pointer in the browser alone; nothing is sent to the server. A double-click zooms all charts at that
place to a quarter of the epochs; another one goes back. The wheel and dragging are left to the page, which scrolls.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from bokeh.models.annotations import Span
from bokeh.models.callbacks import CustomJS
from bokeh.models.glyphs import Line
from bokeh.models.ranges import Range1d
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import CustomJSHover, HoverTool
from bokeh.plotting import figure

_LINES = """
const nearest = (xs, x) => {  // the place of the nearest of increasing numbers
  let low = 0, high = xs.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1; else high = middle;
  }
  return low > 0 && x - xs[low - 1] < xs[low] - x ? low - 1 : low;
};
const lines = {};  // by their keys: "l3" is line 3, "b3" that of the previous run, "p3" line 3 of the pinned ones
for (const { name, data_source: { data } } of chart.renderers) {
  if (name === "grey") data.key.forEach((key, n) => { lines[key] = { x: data.x[n], y: data.y[n] }; });
  else if (name) lines[name] = data;
}
const step_at = (x) => {  // the nearest measurement of any line
  let found = NaN;
  for (const data of Object.values(lines)) {
    const at = data.x[nearest(data.x, x)];
    if (at != null && !(Math.abs(at - x) >= Math.abs(found - x))) found = at;
  }
  return found;
};
"""
# `format` names what is asked for: the epoch, or a line by its key.
_VALUE = """
const x = step_at(special_vars.x);
if (format === "epoch") return Number.isFinite(x) ? x.toFixed(2) : "–";
const data = lines[format];
if (!data) return "–";
const place = nearest(data.x, x), y = data.y[place];
if (!(Math.abs(data.x[place] - x) <= 0.02 * (range.end - range.start)) || !Number.isFinite(y)) return "–";
const written = (y) => percent ? (100 * y).toFixed(digits)
  : y !== 0 && (Math.abs(y) >= 1e4 || Math.abs(y) < 1e-3) ? y.toExponential(2) : y.toFixed(digits);
const low = data.low?.[place], high = data.high?.[place];
const band = low < high ? ` (${written(low)} to ${written(high)})` : "";
return written(y) + (percent ? " %" : "") + band;
"""
_MOVE = """
const x = step_at(cb_obj.x);
line.setv({ location: Number.isFinite(x) ? x : cb_obj.x, visible: true }, { sync: false });
"""
_LEAVE = "line.setv({ visible: false }, { sync: false });"
_ZOOM = """
const { reset_start, reset_end } = range, whole = reset_end - reset_start;
const start = Math.min(Math.max(cb_obj.x - whole / 8, reset_start), reset_end - whole / 4);
const zoomed = range.end - range.start < 0.99 * whole;
range.setv(zoomed ? { start: reset_start, end: reset_end } : { start, end: start + whole / 4 });
"""
_EVERYWHERE = 1e9  # epochs


GREY = "grey"
"""The name of the renderer with the grey lines: its columns x and y have a list of points for each. The renderer of any
other line has the line's key as its name."""


class Crosshair:
    """The line, which all charts with the same axis of epochs share.

    Attributes:
        line: the line.
    """

    def __init__(self) -> None:
        self.line = Span(dimension="height", line_width=1, line_dash=[3, 3], level="overlay", visible=False)

    def join(self, chart: figure, x: Range1d) -> None:
        """Draw the line in a chart too, and let the pointer move it there."""
        chart.add_layout(self.line)
        chart.js_on_event("doubletap", CustomJS(args={"range": x}, code=_ZOOM))
        chart.js_on_event("mousemove", CustomJS(args={"chart": chart, "line": self.line}, code=_LINES + _MOVE))
        chart.js_on_event("mouseleave", CustomJS(args={"line": self.line}, code=_LEAVE))


def hover(chart: figure, x: Range1d, format_: str) -> HoverTool:
    """One tooltip wherever the pointer is over a chart; `rows` makes its text.

    Args:
        chart: the chart.
        x: its axis.
        format_: Bokeh's number format of the values.
    """
    everywhere = ColumnDataSource({"x": [-_EVERYWHERE, _EVERYWHERE], "y": [1, 1]})
    invisible = chart.add_glyph(everywhere, Line(x="x", y="y", line_color=None))
    digits = len(format_.rstrip(" %").partition(".")[2])
    args = {"chart": chart, "range": x, "percent": "%" in format_, "digits": digits}
    value = CustomJSHover(args=args, code=_LINES + _VALUE)
    tool = HoverTool(renderers=[invisible], mode="vline", line_policy="none", formatters={"$x": value}, tooltips=None)
    chart.add_tools(tool)
    return tool


@dataclass(frozen=True)
class Row:
    """A row of the tooltip.

    Attributes:
        name, colour, dash: of the line.
        keys: of its lines by run, for example "l3", "b3" or "p3".
    """

    name: str
    colour: str
    dash: Sequence[int]
    keys: dict[str, str]


def table(rows: Sequence[Row]) -> str:
    """The tooltip: a row for each line, and a column for each run; the empty name stands for the current run."""
    runs = list(dict.fromkeys(["", *(run for row in rows for run in row.keys)]))

    def value(row: Row, run: str) -> str:
        return f"$x{{{row.keys[run]}}}" if run in row.keys else "–"

    end = "text-align:right;padding-left:8px"
    short = f"{end};max-width:92px;overflow:hidden;text-overflow:ellipsis"
    heads = "".join(f'<th style="{short}">{_plain(run or "now")}</th>' for run in runs)
    cells = "".join(
        f'<tr><td><svg width="24" height="6"><line x2="24" y1="3" y2="3" stroke="{row.colour}" stroke-width="2.4" '
        f'stroke-dasharray="{" ".join(map(str, row.dash))}"/></svg></td><td>{_plain(row.name)}</td>'
        + "".join(f'<td style="{end}"><b>{value(row, run)}</b></td>' for run in runs)
        + "</tr>"
        for row in rows
    )
    if runs != [""]:
        cells = f'<tr style="font-size:11px"><th></th><th></th>{heads}</tr>{cells}'
    return (
        '<div style="margin:-5px;padding:5px 8px;background:var(--card);color:var(--text);white-space:nowrap;'
        'font-variant-numeric:tabular-nums">epoch <b>$x{epoch}</b>'
        f'<table style="border-spacing:3px 0">{cells}</table>'
        '<small style="opacity:0.75">double-click: zoom</small></div>'
    )


def _plain(text: str) -> str:
    """Text without the characters that begin a placeholder of Bokeh's."""
    return html.escape(text).translate({ord(mark): f"&#{ord(mark)};" for mark in "@$"})
