"""Line charts: Bokeh figures with one line per learning rule or hidden layer, and in grey the lines of earlier runs.

Everything here changes Bokeh models, so call it only while the document is locked (see `Screen.soon`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bokeh.models.annotations import Span
from bokeh.models.formatters import BasicTickFormatter, LogTickFormatter, NumeralTickFormatter
from bokeh.models.glyphs import Line, MultiLine, VArea
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.scales import LinearScale, LogScale
from bokeh.models.sources import ColumnDataSource
from bokeh.models.text import BaseText
from bokeh.models.tickers import BasicTicker, FixedTicker
from bokeh.plotting import figure

from mdfa_app.charts import crosshair
from mdfa_app.charts.axis import Axis, Epochs
from mdfa_app.charts.names import FONT, SIZE, End, Names
from mdfa_app.comparison.history import Reader, Series, high, low
from mdfa_core.base.colours import DARK, LIGHT, Palette, dash_of_layer, dash_of_rule

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Ticks of an axis of shares."""

_FRAME = 42  # pixels of a chart's height that are not its frame
_LEFT = 50  # pixels left of the frame, so that charts above each other are aligned
_TWO_LINES = 21  # pixels from a tick with two lines of text to the next one, at least


@dataclass(frozen=True, kw_only=True)
class Style:
    """The quantity a chart shows, and how it is drawn.

    Attributes:
        title: read by screen readers; also the name of a saved picture.
        height: in pixels.
        format: Bokeh's number format for values in tooltips.
        top: end of the y axis; None fits it to the lines, and lets a visitor choose a logarithmic axis.
        ticks: of the y axis; empty for Bokeh's choice.
        mark: a reference value and its name, drawn as a dotted line; the name stands at the axis, where no line is.
        from_mark: whether the axis may begin near the mark if no value is far below it.
        log: whether the axis is logarithmic at first.
        slots: the largest number of lines.
        layers: whether lines stand for hidden layers; otherwise they stand for rules.
    """

    title: str
    height: int
    format: str
    slots: int
    top: float | None = 1.06
    ticks: tuple[float, ...] = ()
    mark: tuple[float, str] | None = None
    from_mark: bool = False
    log: bool = False
    layers: bool = False

    def colour(self, palette: Palette, slot: int) -> str:
        """The colour of a line."""
        return palette.layer(slot) if self.layers else palette.rule(slot)

    def dash(self, slot: int) -> tuple[int, ...]:
        """The dash of a line."""
        return dash_of_layer(slot) if self.layers else dash_of_rule(slot)


class Chart:
    """One quantity over epochs.

    Args:
        style: the quantity and how it is drawn.
        epochs: the axis of epochs, shared with other charts.

    Attributes:
        axis: of the quantity.
        names: of the lines, at their ends.
        lines: the lines that are drawn, by slot.
    """

    def __init__(self, style: Style, epochs: Epochs) -> None:
        self.style, self._epochs = style, epochs
        self.axis = Axis(style.top, log=style.log)
        self.palette = LIGHT
        self._reference = None if style.mark is None else style.mark[0]
        self.figure = self._figure()
        self._scale()
        self._mark = self._draw_mark()
        # All grey lines are one renderer, and the others are made when they are first drawn: each has seven models.
        self._grey = ColumnDataSource({"key": [], "x": [], "y": [], "dash": [], "width": []})
        grey = MultiLine(xs="x", ys="y", line_dash="dash", line_width="width", line_join="round")
        self._grey_lines: GlyphRenderer = self.figure.add_glyph(self._grey, grey, name=crosshair.GREY)
        self._bands: dict[int, GlyphRenderer] = {}
        self._live: dict[int, GlyphRenderer] = {}
        self._points: dict[int, ColumnDataSource] = {}  # of the live lines
        self.names = Names(self.figure, style.height - _FRAME)
        epochs.crosshair.join(self.figure, epochs.range)
        self._hover = crosshair.hover(self.figure, epochs.range, style.format)
        self._readers: dict[int, Reader] = {}
        self.lines: dict[int, Series] = {}
        self._before: dict[int, Series] = {}
        self._kept: tuple[tuple[int, Series], ...] = ()
        self.recolour(dark=False)

    # --------------------------------------------------------------------------------------------------- what changes

    def show(
        self,
        lines: Mapping[int, Series],
        before: Mapping[int, Series],
        pinned: Sequence[tuple[int, Series]] = (),
        *,
        mark: float | None = None,
    ) -> None:
        """Draw lines by slot: the current ones, in grey those of the previous run, and thin those of pinned runs.

        Call it after every change: only the difference is sent to the browser. Lines already drawn only get new points.
        `mark` moves the reference value.
        """
        if self._mark is not None and mark is not None and mark != self._reference:
            self._reference = self._mark.location = mark
            self._name_mark()
        if (lines, before, tuple(pinned)) != (self.lines, self._before, self._kept):
            self._replace(lines, before, tuple(pinned))
        self._extend()

    def set_log(self, log: bool) -> None:
        """Make the axis of the quantity logarithmic, or linear."""
        if log != self.axis.log:
            self.axis.log = log
            # A logarithmic scale never meets a range that begins at 0.
            for change in (self._fit, self._scale) if log else (self._scale, self._fit):
                change()

    def _replace(
        self, lines: Mapping[int, Series], before: Mapping[int, Series], pinned: tuple[tuple[int, Series], ...]
    ) -> None:
        self.lines, self._before, self._kept = dict(lines), dict(before), pinned
        for slot in lines:
            if slot not in self._live:
                self._live[slot] = self._line(slot)
            if lines[slot].band and slot not in self._bands:
                self._bands[slot] = self._band(slot)
        self._readers = {slot: Reader(line.curve, self._columns(slot, line)) for slot, line in lines.items()}
        self.axis.forget()
        for points in self._points.values():
            _empty(points)
        self._draw_grey()
        self._write_tooltip()

    def _columns(self, slot: int, line: Series) -> dict[str, str]:
        """The columns of a curve that are drawn; a line without a band has none of any height."""
        if slot not in self._bands:
            return {"y": line.column}
        bounds = (low(line.column), high(line.column)) if line.band else (line.column, line.column)
        return {"y": line.column, "low": bounds[0], "high": bounds[1]}

    def _band(self, slot: int) -> GlyphRenderer:
        """The band around a line."""
        source = self._points[slot]
        source.data = {"x": [], "y": [], "low": [], "high": []}
        glyph = VArea(x="x", y1="low", y2="high", fill_alpha=0.2, fill_color=self.style.colour(self.palette, slot))
        renderer: GlyphRenderer = self.figure.add_glyph(source, glyph, level="underlay")
        return renderer

    def _draw_grey(self) -> None:
        """Draw the lines of the previous run and of pinned runs."""
        grey = [(f"b{slot}", slot, line, 1.5) for slot, line in self._before.items()]
        grey += [(f"p{number}", slot, line, 1.0) for number, (slot, line) in enumerate(self._kept)]
        values = [line.curve.column(line.column) for _, _, line, _ in grey]
        if grey or self._grey.data["key"]:
            self._grey.data = {
                "key": [key for key, *_ in grey],
                "x": [line.curve.column("x") for _, _, line, _ in grey],
                "y": values,
                "dash": [" ".join(map(str, self.style.dash(slot))) or "solid" for _, slot, *_ in grey],
                "width": [width for *_, width in grey],
            }
        for one in values:
            self.axis.note(one)

    def _extend(self) -> None:
        """Add the points that came since the last call."""
        for slot, reader in self._readers.items():
            anew, columns = reader.news()
            for name in columns.keys() - {"x"}:
                self.axis.note(columns[name])
            source = self._points[slot]
            if anew:
                source.data = dict(columns)
            elif columns["x"]:
                source.stream(dict(columns))
        self._fit()

    def _fit(self) -> None:
        self.axis.fit(self._reference if self.style.from_mark else None)
        ticker = self.figure.yaxis[0].ticker
        ticks = self._ticks
        if ticks and isinstance(ticker, FixedTicker) and ticker.ticks != ticks:
            ticker.ticks = ticks
        self._name_lines()

    @property
    def _ticks(self) -> list[float]:
        """The ticks of the quantity; empty for Bokeh's choice. The reference value has the place of ticks near it."""
        if self.axis.log:
            return self.axis.log_ticks
        ticks, mark = list(self.style.ticks), self._reference
        if mark is None or not ticks:
            return ticks
        gap, place = _TWO_LINES / (self.style.height - _FRAME), self.axis.share(mark)
        return sorted([mark, *(tick for tick in ticks if abs(self.axis.share(tick) - place) >= gap)])

    def _name_mark(self) -> None:
        """Write the name of the reference value below its number."""
        if self.style.mark is not None and self._reference is not None:
            shares, name = self.style.format.endswith("%"), self.style.mark[1]
            # A browser keeps the text of a tick that has none any more, so every tick has one.
            texts: dict[float | str, str | BaseText] = {
                tick: f"{100 * tick:.0f} %" if shares else f"{tick:g}" for tick in (*self.style.ticks, self._reference)
            }
            number = str(texts[self._reference])
            left = "\u2003" * ((len(name) - len(number)) // 2)  # Bokeh aligns lines of a text at the left
            self.figure.yaxis[0].major_label_overrides = {**texts, self._reference: f"{left}{number}\n{name}"}

    def points(self, slot: int, *, before: bool = False) -> dict[str, list[float]]:
        """The columns that are drawn of a line, or in grey of the line before: x and y, and low and high of a band."""
        if before:
            key, grey = f"b{slot}", self._grey.data
            keys = list(grey["key"])
            place = keys.index(key) if key in keys else None
            return {name: [] if place is None else list(grey[name][place]) for name in ("x", "y")}
        source = self._points[slot]
        return {name: list(column) for name, column in source.data.items()}

    def kept_points(self) -> dict[str, list[list[float]]]:
        """The columns x and y of the lines of pinned runs."""
        grey = self._grey.data
        kept = [number for number, key in enumerate(grey["key"]) if key.startswith("p")]
        return {name: [list(grey[name][number]) for number in kept] for name in ("x", "y")}

    @property
    def colours(self) -> list[str]:
        """The colours of all lines that were drawn."""
        return [line.glyph.line_color for line in self._live.values()]

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        palette = self.palette = DARK if dark else LIGHT
        for slot, line in self._live.items():
            line.glyph.line_color = self.style.colour(palette, slot)
        for slot, band in self._bands.items():
            band.glyph.fill_color = self.style.colour(palette, slot)
        self._grey_lines.glyph.line_color = palette.ghost
        dress(self.figure, palette)
        self.names.recolour(palette)
        if self._mark is not None:
            self._mark.line_color = palette.muted
        self._epochs.crosshair.line.line_color = palette.muted
        self._write_tooltip()
        self._name_lines()

    def _name_lines(self) -> None:
        ends = []
        for slot, line in self.lines.items():
            row = line.curve.last
            y = math.nan if row is None else row.get(line.column, math.nan)
            if row is not None and math.isfinite(y):
                ends.append(End(row["x"], y, line.name, self.style.colour(self.palette, slot)))
        start, end = self._epochs.shown
        self.names.show(ends, self.axis, end - start)

    def _write_tooltip(self) -> None:
        style, palette = self.style, self.palette
        rows: dict[tuple[int, str], crosshair.Row] = {}

        def add(key: str, slot: int, line: Series, colour: str) -> None:
            row = rows.setdefault((slot, line.name), crosshair.Row(line.name, colour, style.dash(slot), {}))
            row.keys[line.run] = key

        for slot, line in self.lines.items():
            add(f"l{slot}", slot, line, style.colour(palette, slot))
        for slot, line in self._before.items():
            add(f"b{slot}", slot, line, palette.ghost)
        for number, (slot, line) in enumerate(self._kept):
            add(f"p{number}", slot, line, palette.ghost)
        text = crosshair.table(list(rows.values())) if rows else None
        if self._hover.tooltips != text:
            self._hover.tooltips = text

    # -------------------------------------------------------------------------------------------------- how it is made

    def _figure(self) -> figure:
        chart = figure(
            height=self.style.height,
            sizing_mode="stretch_width",
            x_range=self._epochs.range,
            y_range=self.axis.range,
            toolbar_location=None,
            tools="",
            min_border_left=_LEFT,
            min_border_right=10,
            min_border_top=8,
            min_border_bottom=24,
            name=self.style.title,
        )
        chart.xgrid.visible = False
        return chart

    def _scale(self) -> None:
        """Give the chart the scale, the ticks and the numbers of its axis."""
        style, log, ticks = self.style, self.axis.log, self._ticks
        self.figure.y_scale = LogScale() if log else LinearScale()
        axis = self.figure.yaxis[0]
        axis.ticker = FixedTicker(ticks=ticks) if ticks else BasicTicker()
        if style.format.endswith("%"):
            axis.formatter = NumeralTickFormatter(format="0 %")
        else:
            axis.formatter = LogTickFormatter() if log else BasicTickFormatter()

    def _line(self, slot: int) -> GlyphRenderer:
        """A line without points; the crosshair finds it by its name."""
        colour, dash = self.style.colour(self.palette, slot), list(self.style.dash(slot))
        glyph = Line(x="x", y="y", line_color=colour, line_width=2.4, line_dash=dash, line_join="round")
        source = self._points[slot] = ColumnDataSource({"x": [], "y": []})
        renderer: GlyphRenderer = self.figure.add_glyph(source, glyph, name=f"l{slot}")
        return renderer

    def _draw_mark(self) -> Span | None:
        if self._reference is None:
            return None
        span = Span(location=self._reference, dimension="width", line_dash=[2, 3], line_width=1)
        self.figure.add_layout(span)
        self._name_mark()
        return span


def _empty(source: ColumnDataSource) -> None:
    """Remove all points. Empty lines send no message: every message delays a click."""
    if len(source.data["x"]):
        source.data = {name: [] for name in source.data}


def dress(chart: figure, palette: Palette) -> None:
    """Draw a figure in the colours of a theme."""
    # After a change of size, Bokeh leaves old pixels in the first column of a canvas, where nothing is drawn.
    chart.styles = {"clip-path": "inset(0 0 0 1px)"}
    chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=None)
    chart.grid.grid_line_color = palette.grid
    for axis in chart.axis:
        axis.update(
            axis_line_color=palette.grid,
            major_tick_out=3,
            major_label_standoff=4,
            major_tick_line_color=palette.grid,
            minor_tick_line_color=None,
            major_label_text_color=palette.muted,
            major_label_text_font=FONT,
            major_label_text_font_size=SIZE,
        )
