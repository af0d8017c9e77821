"""The charts: Bokeh figures with one line a learning rule or a hidden layer, and in grey those of the runs before.

Everything here edits Bokeh models: call it only while the document is locked (a next-tick callback or a widget's).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.core.properties import value
from bokeh.models.annotations import Label, Span
from bokeh.models.annotations.labels import LabelSet
from bokeh.models.formatters import NumeralTickFormatter
from bokeh.models.glyphs import Line
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from app.colours import DARK, LIGHT, Palette, dash_of_layer, dash_of_rule
from app.history import Curve, Reader

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_SIZE = "11px"
_LABEL_PIXELS = 13  # of height that a line's name needs
_FRAME = 42  # pixels of a chart's height that are not its frame


@dataclass(frozen=True)
class Drawn:
    """A line of a chart: one column of a curve under a name."""

    curve: Curve
    column: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Style:
    """What a chart shows, and how.

    Attributes:
        title: for those who hear the page, and for the name of a saved picture.
        height: in pixels.
        format: of values in tool tips, as Bokeh writes it.
        top: end of the y axis; None fits it to what is drawn.
        ticks: of the y axis; none for Bokeh's choice.
        mark: a value with a meaning of its own, and its name.
        slots: lines there may be.
        layers: whether they are hidden layers, not rules.
    """

    title: str
    height: int
    format: str
    slots: int
    top: float | None = 1.06
    ticks: tuple[float, ...] = ()
    mark: tuple[float, str] | None = None
    layers: bool = False

    def colour(self, palette: Palette, slot: int) -> str:
        """Of a line."""
        return palette.layer(slot) if self.layers else palette.rule(slot)

    def dash(self, slot: int) -> tuple[int, ...]:
        """Of a line."""
        return dash_of_layer(slot) if self.layers else dash_of_rule(slot)


class Chart:
    """One quantity over epochs.

    Args:
        style: what it shows.
        x: the axis of epochs, shared with other charts.
    """

    def __init__(self, style: Style, x: Range1d) -> None:
        self.style, self._x = style, x
        self._top = style.top or 1.0
        self._y = Range1d(start=0, end=self._top)
        self.palette = LIGHT
        self.figure = self._figure()
        self._mark = self._draw_mark()
        self._ghost = [ColumnDataSource({"x": [], "y": []}) for _ in range(style.slots)]
        self._live = [ColumnDataSource({"x": [], "y": []}) for _ in range(style.slots)]
        self._ghost_lines = [self._line(source, slot, 1.5) for slot, source in enumerate(self._ghost)]
        self._live_lines = [self._line(source, slot, 2.4) for slot, source in enumerate(self._live)]
        self._names = ColumnDataSource({"x": [], "y": [], "name": [], "colour": []})
        self.figure.add_layout(
            LabelSet(
                x="x",
                y="y",
                text="name",
                text_color="colour",
                source=self._names,
                x_offset=5,
                text_baseline="middle",
                text_font=value(_FONT),
                text_font_size=_SIZE,
                text_font_style="bold",
            )
        )
        self.figure.add_tools(
            HoverTool(
                renderers=list[Any](self._live_lines),
                mode="vline",
                line_policy="nearest",
                tooltips=f"<div>$name <b>@y{{{style.format}}}</b> epoch @x{{0.0}}</div>",
            )
        )
        self._readers: dict[int, Reader] = {}
        self._drawn: dict[int, Drawn] = {}
        self._highest = 0.0
        self.recolour(dark=False)

    # --------------------------------------------------------------------------------------------------- what changes

    def show(self, lines: Mapping[int, Drawn], before: Mapping[int, Drawn]) -> None:
        """Draw other lines, by slot."""
        self._drawn = dict(lines)
        self._readers = {slot: Reader(line.curve, {"y": line.column}) for slot, line in lines.items()}
        self._highest = 0.0
        for slot, (live, ghost) in enumerate(zip(self._live, self._ghost, strict=True)):
            _set(live, [], [])
            line = before.get(slot)
            old: list[float] = [] if line is None else line.curve.column(line.column)
            _set(ghost, [] if line is None else line.curve.column("x"), old)
            self._note_height(old)
            self._live_lines[slot].name = lines[slot].name if slot in lines else ""
        self.update()

    def update(self) -> None:
        """Draw what the lines have got since the last call."""
        for slot, reader in self._readers.items():
            anew, columns = reader.news()
            self._note_height(columns["y"])
            if anew:
                self._live[slot].data = dict(columns)
            elif columns["x"]:
                self._live[slot].stream(dict(columns))
        if self.style.top is None:
            top = round_up(max(self._highest, 0.1))
            if self._top != top:
                self._top = self._y.end = top
        self._name_lines()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        palette = self.palette = DARK if dark else LIGHT
        for slot, (live, ghost) in enumerate(zip(self._live_lines, self._ghost_lines, strict=True)):
            live.glyph.line_color = self.style.colour(palette, slot)
            ghost.glyph.line_color = palette.ghost
        dress(self.figure, palette)
        if self._mark is not None:
            span, label = self._mark
            span.line_color = palette.muted
            label.text_color = palette.muted
        self._name_lines()

    def _note_height(self, values: Sequence[float]) -> None:
        self._highest = max([self._highest, *(value for value in values if math.isfinite(value))])

    def _name_lines(self) -> None:
        """Write the name of every line at its end, none over another."""
        ends = []
        for slot, line in self._drawn.items():
            row = line.curve.last
            y = math.nan if row is None else row.get(line.column, math.nan)
            if row is not None and math.isfinite(y):
                ends.append((row["x"], y, line.name, self.style.colour(self.palette, slot)))
        ends.sort(key=lambda end: end[1])
        gap = _LABEL_PIXELS * self._top / (self.style.height - _FRAME)
        heights = spread([end[1] for end in ends], gap, gap / 2, self._top - gap / 2)
        columns: dict[str, list[Any]] = {
            "x": [end[0] for end in ends],
            "y": heights,
            "name": [end[2] for end in ends],
            "colour": [end[3] for end in ends],
        }
        if columns != self._names.data:
            self._names.data = columns

    # -------------------------------------------------------------------------------------------------- how it is made

    def _figure(self) -> figure:
        chart = figure(
            height=self.style.height,
            sizing_mode="stretch_width",
            x_range=self._x,
            y_range=self._y,
            toolbar_location=None,
            tools="",
            min_border_left=44,
            min_border_right=10,
            min_border_top=8,
            min_border_bottom=24,
            name=self.style.title,
        )
        chart.xgrid.visible = False
        if self.style.ticks:
            chart.yaxis.ticker = list(self.style.ticks)
        if self.style.format.endswith("%"):
            chart.yaxis.formatter = NumeralTickFormatter(format="0 %")
        return chart

    def _line(self, source: ColumnDataSource, slot: int, width: float) -> GlyphRenderer:
        glyph = Line(x="x", y="y", line_width=width, line_dash=list(self.style.dash(slot)), line_join="round")
        renderer: GlyphRenderer = self.figure.add_glyph(source, glyph)
        return renderer

    def _draw_mark(self) -> tuple[Span, Label] | None:
        if self.style.mark is None:
            return None
        y, text = self.style.mark
        span = Span(location=y, dimension="width", line_dash=[2, 3], line_width=1)
        label = Label(x=4, x_units="screen", y=y, y_offset=2, text=text, text_font=_FONT, text_font_size=_SIZE)
        self.figure.add_layout(span)
        self.figure.add_layout(label)
        return span, label


class Epochs:
    """The axis of epochs that charts share: long enough for every line, and still most of the time."""

    def __init__(self) -> None:
        self.range = Range1d(start=0, end=5)

    def fit(self, live: float, before: float) -> None:
        """Let it hold runs that end there; a long run before does not squeeze a young one into the corner."""
        if live:
            before = min(before, max(25.0, 4 * live))
        end = round_up(1.16 * max(live, before, 5))  # with room for the names of the lines
        if self.range.end != end:
            self.range.end = end


def _set(source: ColumnDataSource, x: list[float], y: list[float]) -> None:
    """New points; most of the lines stay empty, and each message about one costs a click some time."""
    if len(x) or len(source.data["x"]):
        source.data = {"x": x, "y": y}


def dress(chart: figure, palette: Palette) -> None:
    """Give a figure the colours of a theme."""
    chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=None)
    chart.grid.grid_line_color = palette.grid
    for axis in chart.axis:
        axis.update(
            axis_line_color=palette.grid,
            major_tick_line_color=palette.grid,
            minor_tick_line_color=None,
            major_label_text_color=palette.muted,
            major_label_text_font=_FONT,
            major_label_text_font_size=_SIZE,
        )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Increasing places moved as little as it takes to be `gap` apart, between `low` and `high` if they fit."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, low if not moved else moved[-1] + gap))
    for number in reversed(range(len(moved))):
        moved[number] = min(moved[number], high)
        high = moved[number] - gap
    return moved


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7.5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 1.5, 2, 3, 5, 7.5, 10) if power * factor >= value * 0.999)
