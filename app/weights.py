"""Histograms of a layer's weights, updates and activations, its saturation, and the first layer's filters as images.

    pane = WeightsPane()
    pane.view                 # goes into the page
    pane.show(snapshot)       # inspection.snapshot(run, scene, Wanted(weights=True)), made in the training thread
    pane.show_layer(0)        # another layer, from 0: after a click in a drawing of the net
    pane.clear()              # before another run
    pane.recolour(dark=True)

`show`, `show_layer`, `clear` and `recolour` edit Bokeh models: call them while the document is locked.
"""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import panel as pn
from bokeh.models.formatters import BasicTickFormatter
from bokeh.models.glyphs import Quad
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from app.colours import DARK, LIGHT
from app.pictures import mosaic
from app.style import PANES, WIDGETS
from app.words import percent
from mdfa_core.inspection import BINS, Filters, Histogram, LayerHistograms, Scene, Snapshot

_COLUMNS = 12  # of filters
_STYLE = """
h3 { margin: 0; font-size: 12.5px; font-weight: 650; }
.filters { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; margin: 4px 0; }
"""
_TITLES = {"weights": "Weights", "updates": "Updates", "activations": "Activations"}


class WeightsPane:
    """Three histograms of one layer, chosen by its button, and the filters of the first."""

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._snapshot: Snapshot | None = None
        self._dark = False
        self._bars = {name: _Bars(title) for name, title in _TITLES.items()}
        self._layers = pn.widgets.RadioButtonGroup(
            options={}, stylesheets=[WIDGETS], css_classes=["small"], margin=(0, 0, 6, 0), label="Layer"
        )
        self._layers.param.watch(lambda _event: self._draw(), "value")
        self._words = pn.pane.HTML("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=0)
        self._filters = pn.pane.HTML("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        self._charts = pn.FlexBox(*(bars.view for bars in self._bars.values()), sizing_mode="stretch_width", gap="4px")
        self.view = pn.Column(
            self._layers, self._words, self._charts, self._filters, sizing_mode="stretch_width", margin=0
        )
        self.recolour(dark=False)
        self.clear()

    @property
    def layer(self) -> int | None:
        """The layer that is shown, from 0; None before the first snapshot."""
        value: int | None = self._layers.value
        return value

    def show(self, snapshot: Snapshot) -> None:
        """Draw the numbers of this moment; nothing happens if the snapshot has none."""
        if snapshot.histograms is None:
            return
        self._snapshot = snapshot
        if snapshot.scene is not self._scene:
            self._scene = snapshot.scene
            last = len(snapshot.histograms) - 1
            names = {"output" if number == last else f"layer {number + 1}": number for number in range(last + 1)}
            value = self._layers.value if self._layers.value in names.values() else 0
            self._layers.param.update(options=names, value=value)
        self._draw()

    def show_layer(self, number: int) -> None:
        """Another layer, from 0; one that the net does not have is ignored."""
        if number in self._layers.options.values():
            self._layers.value = number

    def clear(self) -> None:
        """Empty the charts."""
        self._scene = self._snapshot = None
        for bars in self._bars.values():
            bars.draw(None)
        self._words.object = '<p class="muted">Histograms and filters appear when the net is there.</p>'
        self._filters.object = ""

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        self._dark = dark
        for bars in self._bars.values():
            bars.recolour(dark=dark)
        if self._snapshot is not None:
            self._filters.object = self._pictures(self._snapshot.filters)

    def _draw(self) -> None:
        snapshot, number = self._snapshot, self._layers.value
        if snapshot is None or snapshot.histograms is None or number is None:
            return
        layer = snapshot.histograms[number]
        for name, bars in self._bars.items():
            bars.draw(getattr(layer, name))
        self._words.object = f"<p>{html.escape(_sentences(layer))}</p>"
        self._filters.object = self._pictures(snapshot.filters)

    def _pictures(self, filters: Filters | None) -> str:
        if filters is None:
            return '<p class="muted">The first layer looks at two numbers: its weights make no picture.</p>'
        count, channels = filters.weights.shape[:2]
        every = f"all {filters.of}" if count == filters.of else f"{count} evenly spread of {filters.of}"
        colours = "the colours it looks for, grey is 0" if channels == 3 else "blue below 0, orange above"
        text = f"What the first layer looks for: {every} units, each scaled to its own largest weight ({colours})."
        columns = min(_COLUMNS, count)
        picture = mosaic(filters.weights, columns, dark=self._dark)
        return (
            f'<h3>Filters</h3><img class="filters" alt="{html.escape(text)}" src="{picture}"'
            f' style="max-width:{46 * columns}px"><p class="muted">{html.escape(text)}</p>'
        )


class _Bars:
    """One histogram."""

    def __init__(self, title: str) -> None:
        self._source = ColumnDataSource({"left": [], "right": [], "share": []})
        self._x, self._y = Range1d(start=-1, end=1), Range1d(start=0, end=1)
        self.chart = self._figure(title)
        self._bars: GlyphRenderer = self.chart.add_glyph(
            self._source, Quad(left="left", right="right", bottom=0, top="share", line_width=0.5)
        )
        self.chart.add_tools(
            HoverTool(
                renderers=[self._bars],
                mode="vline",
                tooltips=[("from", "@left{0.0000}"), ("to", "@right{0.0000}"), ("share", "@share{0.0 %}")],
            )
        )
        self._title = pn.pane.HTML(f"<h3>{title}</h3>", stylesheets=[PANES, _STYLE], margin=0)
        self.view = pn.Column(
            self._title,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            styles={"flex": "1 1 180px", "min-width": "0"},
            margin=0,
        )

    def draw(self, histogram: Histogram | None) -> None:
        """Show a histogram, or that there is none."""
        self.view.visible = histogram is not None
        if histogram is None:
            self._source.data = {"left": [], "right": [], "share": []}
            return
        edges = np.linspace(-histogram.bound, histogram.bound, BINS + 1)
        share = histogram.counts / max(1, histogram.counts.sum())
        self._source.data = {"left": edges[:-1], "right": edges[1:], "share": share}
        self._x.update(start=-histogram.bound, end=histogram.bound)
        self.chart.xaxis.ticker = [-histogram.bound, 0, histogram.bound]
        top = next(level for level in (0.1, 0.2, 0.5, 1.0) if level >= min(1.0, share.max(initial=0.0)))
        self._y.end = top * 1.04

    def recolour(self, *, dark: bool) -> None:
        palette = DARK if dark else LIGHT
        self._bars.glyph.update(fill_color=palette.train, line_color=palette.surface)
        self.chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=None)
        for axis in self.chart.axis:
            axis.update(
                axis_line_color=palette.grid,
                major_tick_line_color=palette.grid,
                minor_tick_line_color=None,
                major_label_text_color=palette.muted,
            )

    def _figure(self, title: str) -> Any:
        chart = figure(
            height=120,
            sizing_mode="stretch_width",
            x_range=self._x,
            y_range=self._y,
            toolbar_location=None,
            tools="",
            min_border_left=22,
            min_border_right=22,
            min_border_top=4,
            min_border_bottom=22,
            name=title,
        )
        chart.grid.visible = False
        chart.yaxis.visible = False
        chart.xaxis.formatter = BasicTickFormatter(use_scientific=True, power_limit_low=-4, power_limit_high=4)
        return chart


def _sentences(layer: LayerHistograms) -> str:
    """What the charts of a layer cannot show."""
    parts = [f"{layer.name[:1].upper()}{layer.name[1:]}."]
    if layer.saturated is not None:
        parts.append(f"{percent(layer.saturated)} of its activations are saturated.")
    if layer.updates.zeros > 0:
        parts.append(f"{percent(layer.updates.zeros)} of its updates are exactly 0.")
    if layer.sampled:
        parts.append("Evenly spread units are counted, not all.")
    parts.append("Updates are those of one mini-batch, before the learning rate; the outermost bars hold the rest.")
    return " ".join(parts)
