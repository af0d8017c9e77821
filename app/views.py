"""The charts: four Bokeh figures over the curves of the run and, in grey, of the previous one.

Everything here edits Bokeh models: call it only while the document is locked (a next-tick callback or a widget's).
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from bokeh.models.annotations import Label, Span
from bokeh.models.formatters import NumeralTickFormatter
from bokeh.models.glyphs import Line
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from app.colours import DARK, LIGHT, VALIDATION_DASH, dash_of_layer
from app.history import History, level_columns
from app.words import level_title, percent

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_SIZE = "11px"


class Charts:
    """Accuracy, sign agreement, loss and angle.

    Args:
        layers: how many hidden layers can be told apart.
    """

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.level = "unit"
        self.palette = LIGHT
        empty = History("", layers)
        self._live = [ColumnDataSource(curve.everything()) for curve in empty.curves]
        self._ghost = [ColumnDataSource(curve.everything()) for curve in empty.curves]
        self._shown = 0  # hidden layers of the run
        self.x = Range1d(start=0, end=5)
        self._colours: list[tuple[GlyphRenderer, str]] = []
        self.accuracy = self._figure(196, Range1d(start=0, end=1.02), "Accuracy over epochs")
        self.agreement = self._figure(196, Range1d(start=0, end=1.02), "Sign agreement over epochs")
        self._loss_range = Range1d(start=0, end=1)
        self.loss = self._figure(124, self._loss_range, "Loss over epochs")
        self.angle = self._figure(124, Range1d(start=0, end=180), "Angle over epochs")
        for shares in (self.accuracy, self.agreement):
            shares.yaxis.ticker = [0, 0.25, 0.5, 0.75, 1]
            shares.yaxis.formatter = NumeralTickFormatter(format="0 %")
        self.angle.yaxis.ticker = [0, 45, 90, 135, 180]
        self._notes = [self._note(self.agreement, 0.5, "chance", -14), self._note(self.angle, 90, "unrelated", 2)]
        self._draw_outcomes()
        self._draw_layers()
        self.recolour(dark=False)
        self.set_level("unit")
        self.set_layers(0)

    @property
    def figures(self) -> tuple[figure, figure, figure, figure]:
        """All four."""
        return self.accuracy, self.agreement, self.loss, self.angle

    # --------------------------------------------------------------------------------------------------- what changes

    def show(self, live: History, ghost: History | None) -> None:
        """Draw another run, and another previous one."""
        for source, curve in zip(self._live, live.curves, strict=True):
            source.data = curve.everything()
        for number, source in enumerate(self._ghost):
            source.data = (ghost or History("", self.layers)).curves[number].everything()
        self._fit(live, ghost)

    def update(self, live: History, ghost: History | None) -> None:
        """Draw what the run has shown since the last call."""
        for source, curve in zip(self._live, live.curves, strict=True):
            anew, columns = curve.news()
            if anew:
                source.data = columns
            elif columns["x"]:
                source.stream(dict(columns))
        self._fit(live, ghost)

    def set_layers(self, count: int) -> None:
        """How many hidden layers the run has."""
        self._shown = count
        for number, renderers in enumerate(self._layer_lines):
            for renderer in renderers:
                renderer.visible = number < count
        self._set_hover()

    def set_level(self, level: str) -> None:
        """Draw another level of agreement."""
        self.level = level
        for column, renderers in zip(level_columns(level, self.layers), self._layer_lines, strict=True):
            for renderer in renderers[:2]:
                renderer.glyph.y = column
        self._set_hover()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        palette = self.palette = DARK if dark else LIGHT
        for renderer, name in self._colours:
            colour = palette.layer(int(name[5:])) if name.startswith("layer") else getattr(palette, name)
            renderer.glyph.line_color = colour
        for chart in self.figures:
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
        for span, label in self._notes:
            span.line_color = palette.muted
            label.text_color = palette.muted

    # -------------------------------------------------------------------------------------------------- how it is made

    def _figure(self, height: int, y: Range1d, title: str) -> figure:
        chart = figure(
            height=height,
            sizing_mode="stretch_width",
            x_range=self.x,
            y_range=y,
            toolbar_location=None,
            tools="",
            min_border_left=44,
            min_border_right=12,
            min_border_top=6,
            min_border_bottom=24,
            name=title,
        )
        chart.xgrid.visible = False
        return chart

    def _line(
        self, chart: figure, source: ColumnDataSource, column: str, colour: str, dash: Sequence[int], width: float
    ) -> GlyphRenderer:
        renderer: GlyphRenderer = chart.add_glyph(
            source, Line(x="x", y=column, line_width=width, line_dash=list(dash), line_join="round")
        )
        if colour == "ghost":
            renderer.glyph.line_alpha = 0.75
        self._colours.append((renderer, colour))
        return renderer

    def _note(self, chart: figure, y: float, text: str, offset: int) -> tuple[Span, Label]:
        span = Span(location=y, dimension="width", line_dash=[2, 3], line_width=1)
        label = Label(x=5, y=y, y_offset=offset, text=text, text_align="right", text_font=_FONT, text_font_size=_SIZE)
        chart.add_layout(span)
        chart.add_layout(label)
        return span, label

    def _draw_outcomes(self) -> None:
        _, ghost, _ = self._ghost
        progress, evaluated, _ = self._live
        for chart, train, validation, batch in (
            (self.accuracy, "train", "validation", "accuracy"),
            (self.loss, "train_loss", "validation_loss", "loss"),
        ):
            self._line(chart, ghost, train, "ghost", (), 1.6)
            self._line(chart, progress, batch, "batch", (), 1.2)
            line = self._line(chart, evaluated, train, "train", (), 2.4)
            self._line(chart, evaluated, validation, "validation", VALIDATION_DASH, 2.2)
            shown = "{0.0 %}" if chart is self.accuracy else "{0.0000}"
            tips = [("epoch", "@x{0.0}"), ("training", f"@{train}{shown}"), ("validation", f"@{validation}{shown}")]
            chart.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips, line_policy="nearest"))

    def _draw_layers(self) -> None:
        """Per hidden layer: agreement live and before, angle live and before."""
        live, ghost = self._live[2], self._ghost[2]
        self._layer_lines: list[tuple[GlyphRenderer, ...]] = []
        for number in range(self.layers):
            dash = dash_of_layer(number)
            agreement, angle, colour = level_columns("unit", self.layers)[number], f"angle{number}", f"layer{number}"
            before = [
                self._line(self.agreement, ghost, agreement, "ghost", dash, 1.6),
                self._line(self.angle, ghost, angle, "ghost", dash, 1.6),
            ]
            now = [
                self._line(self.agreement, live, agreement, colour, dash, 2.4),
                self._line(self.angle, live, angle, colour, dash, 2.2),
            ]
            self._layer_lines.append((now[0], before[0], now[1], before[1]))
        self._layer_hover = [
            HoverTool(renderers=[self._layer_lines[0][which]], mode="vline", line_policy="nearest") for which in (0, 2)
        ]
        self.agreement.add_tools(self._layer_hover[0])
        self.angle.add_tools(self._layer_hover[1])

    def _set_hover(self) -> None:
        numbers = range(self._shown)
        columns = level_columns(self.level, self.layers)
        tips = [[("epoch", "@x{0.00}")], [("epoch", "@x{0.00}")]]
        tips[0] += [(f"layer {number + 1}", f"@{columns[number]}{{0.0 %}}") for number in numbers]
        tips[1] += [(f"layer {number + 1}", f"@angle{number}{{0.0}}°") for number in numbers]
        for hover, tip in zip(self._layer_hover, tips, strict=True):
            hover.tooltips = tip

    def _fit(self, live: History, ghost: History | None) -> None:
        """Let the axes hold both runs, in steps, so that they stand still most of the time."""
        before = ghost.end if ghost else 0.0
        if live.end:  # a long run before must not squeeze a young one into the corner
            before = min(before, max(25.0, 4 * live.end))
        end = round_up(max(live.end, before, 5))
        if self.x.end != end:
            self.x.end = end
            for _, label in self._notes:
                label.x = end
        top = round_up(max(live.highest_loss(), ghost.highest_loss() if ghost else 0, 0.1))
        if self._loss_range.end != top:
            self._loss_range.end = top


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7.5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 1.5, 2, 3, 5, 7.5, 10) if power * factor >= value * 0.999)


# ------------------------------------------------------------------------------------------------- keys to the charts


def key(colour: str, dash: Sequence[int], label: str, value: str = "", note: str = "", kind: str = "") -> str:
    """One entry of a chart's key: a piece of its line, its name, its newest value."""
    line = (
        f'<svg class="dash" viewBox="0 0 26 6" aria-hidden="true"><line x1="0" y1="3" x2="26" y2="3" '
        f'style="stroke:var(--{colour})" stroke-dasharray="{" ".join(map(str, dash))}"/></svg>'
    )
    number = f"<b>{html.escape(value)}</b>" if value else ""
    extra = f"<i>{html.escape(note)}</i>" if note else ""
    return f'<span class="key {kind}">{line}<span>{html.escape(label)}</span>{number}{extra}</span>'


def keys_of_outcome(live: History, ghost: History | None, *, loss: bool) -> str:
    """The key of the accuracy or loss chart."""

    def shown(row: dict[str, float] | None, name: str) -> str:
        if row is None or math.isnan(row[name]):
            return "–"
        return f"{row[name]:.3g}" if loss else percent(row[name])

    suffix = "_loss" if loss else ""
    evaluated, progress = live.evaluated.last, live.progress.last
    entries = [
        key("train", (), "training", shown(evaluated, f"train{suffix}")),
        key("validation", VALIDATION_DASH, "validation", shown(evaluated, f"validation{suffix}")),
        key("batch", (), "mini-batch", shown(progress, "loss" if loss else "accuracy")),
    ]
    return _keys(entries, ghost, above=True)


def keys_of_layers(live: History, ghost: History | None, layers: int, level: str, *, angle: bool) -> str:
    """The key of the agreement or angle chart."""
    entries = []
    for number in range(layers):
        value, note = "–", ""
        if live.probe is not None and angle:
            degrees = live.probe.angle[number][0]
            value = "–" if degrees is None else f"{degrees:.0f}°"
        elif live.probe is not None:
            agreement = getattr(live.probe, level)
            value = percent(agreement.layers[number][0])
            undefined = agreement.undefined[number][0]
            note = f"{percent(undefined)} undefined" if undefined > 0 else ""
        entries.append(key(f"layer{number}", dash_of_layer(number), f"layer {number + 1}", value, note))
    if not entries:
        entries = ['<span class="key">no hidden layer: nothing to compare</span>']
    return _keys(entries, ghost, above=angle)


def _keys(entries: list[str], ghost: History | None, *, above: bool) -> str:
    """The key; that of the run before stands beside the chart's heading where that has room."""
    before = [key("ghost", (), f"before: {ghost.name}", kind="before")] if ghost else []
    return f'<div class="keys{" above" if above else ""}">{"".join(entries + before)}</div>'


def title_of_agreement(level: str) -> str:
    """What the agreement chart shows."""
    return f"share of {level_title(level)} with the true sign"
