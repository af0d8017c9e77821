"""The tab Weights: histograms of one layer's weights, updates and activations; filters of the first layer."""

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
from bokeh.models.tickers import FixedTicker
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from mdfa_app.charts.live import Markup
from mdfa_app.charts.pictures import mosaic
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.settings.words import percent
from mdfa_app.tabs.tab import Host, Tab
from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.training.inspection import BINS, Filters, Histogram, LayerHistograms, Overview, Snapshot, SnapshotRequest

_COLUMNS = 12  # of filters
_STYLE = """
h3 { margin: 0; font-size: 12.5px; font-weight: 650; }
.filters { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; margin: 4px 0; }
"""
_TITLES = {"weights": "Weights", "updates": "Updates", "activations": "Activations"}


class WeightsTab(Tab):
    """Three histograms of one layer, chosen by its button, and the filters of the first layer."""

    name, title = "weights", "Weights"
    has_layers = True

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self._overview: Overview | None = None
        self._snapshot: Snapshot | None = None
        self._dark = False
        self.histograms = {name: _Bars(title) for name, title in _TITLES.items()}
        self.layers = pn.widgets.RadioButtonGroup(
            options={}, stylesheets=[WIDGETS], css_classes=["small"], margin=(0, 0, 6, 0), label="Layer"
        )
        self.layers.param.watch(lambda _event: self.page.soon(self._draw), "value")
        self.summary = Markup("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=0)
        self.filters = Markup("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        self._charts = pn.FlexBox(
            *(bars.view for bars in self.histograms.values()), sizing_mode="stretch_width", gap="4px"
        )
        self.view = pn.Column(
            self.layers, self.summary, self._charts, self.filters, sizing_mode="stretch_width", margin=0
        )
        self.recolour(dark=False)
        self.clear()

    @property
    def wanted(self) -> SnapshotRequest:
        return SnapshotRequest(weights=True)

    @property
    def layer(self) -> int | None:
        """The layer that is shown, counted from 0; None before the first snapshot."""
        value: int | None = self.layers.value
        return value

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.histograms is None:
            return
        self._snapshot = snapshot
        if snapshot.overview is not self._overview:
            self._overview = snapshot.overview
            last = len(snapshot.histograms) - 1
            names = {"output" if number == last else f"layer {number + 1}": number for number in range(last + 1)}
            value = self.layers.value if self.layers.value in names.values() else 0
            self.layers.param.update(options=names, value=value)
        self._draw()

    def show_layer(self, number: int) -> None:
        if number in self.layers.options.values():
            self.layers.value = number

    def clear(self) -> None:
        self._overview = self._snapshot = None
        for bars in self.histograms.values():
            bars.draw(None)
        self.summary.object = '<p class="muted">Histograms and filters appear here once the networks are made.</p>'
        self.filters.object = ""

    def recolour(self, *, dark: bool) -> None:
        self._dark = dark
        for bars in self.histograms.values():
            bars.recolour(dark=dark)
        if self._snapshot is not None:
            self.filters.object = self._pictures(self._snapshot.filters)

    def _draw(self) -> None:
        snapshot, number = self._snapshot, self.layers.value
        if snapshot is None or snapshot.histograms is None or number is None:
            return
        layer = snapshot.histograms[number]
        for name, bars in self.histograms.items():
            bars.draw(getattr(layer, name))
        self.summary.object = f"<p>{html.escape(_sentences(layer))}</p>"
        self.filters.object = self._pictures(snapshot.filters)

    def _pictures(self, filters: Filters | None) -> str:
        if filters is None:
            return '<p class="muted">The first layer has two inputs, so its weights make no picture.</p>'
        count, channels = filters.weights.shape[:2]
        units = f"all {filters.of} units" if count == filters.of else f"{count} of {filters.of} units, evenly spaced"
        colours = "in the colours of the image, grey is 0" if channels == 3 else "blue below 0, orange above"
        text = f"Weights of the first layer: {units}, each scaled to its own largest weight ({colours})."
        columns = min(_COLUMNS, count)
        picture = mosaic(filters.weights, columns, dark=self._dark)
        return (
            f'<h3>Filters</h3><img class="filters" alt="{html.escape(text)}" src="{picture}"'
            f' style="max-width:{46 * columns}px"><p class="muted">{html.escape(text)}</p>'
        )


class _Bars:
    """One histogram.

    Attributes:
        source: the bars that are drawn.
        y: the axis of shares.
        view: what is shown.
    """

    def __init__(self, title: str) -> None:
        self.source = ColumnDataSource({"left": [], "right": [], "share": []})
        self._x, self.y = Range1d(start=-1, end=1), Range1d(start=0, end=1)
        self._ticker = FixedTicker(ticks=[])
        self._drawn: Histogram | None = None
        self.chart = self._figure(title)
        self._bars: GlyphRenderer = self.chart.add_glyph(
            self.source, Quad(left="left", right="right", bottom=0, top="share", line_width=0.5)
        )
        self.chart.add_tools(
            HoverTool(
                renderers=[self._bars],
                mode="vline",
                tooltips=[("from", "@left{0.0000}"), ("to", "@right{0.0000}"), ("share", "@share{0.0 %}")],
            )
        )
        self._title = Markup(f"<h3>{title}</h3>", stylesheets=[PANES, _STYLE], margin=0)
        self.view = pn.Column(
            self._title,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            styles={"flex": "1 1 180px", "min-width": "0"},
            margin=0,
        )

    def draw(self, histogram: Histogram | None) -> None:
        """Draw a histogram; None hides the chart. Only the shares of the bars change with every snapshot."""
        before, self._drawn = self._drawn, histogram
        self.view.visible = histogram is not None
        if histogram is None:
            if before is not None:
                self.source.data = {"left": [], "right": [], "share": []}
            return
        share, bound = histogram.counts / max(1, histogram.counts.sum()), histogram.bound
        if before is not None and before.bound == bound:
            self.source.data["share"] = share
        else:
            edges = np.linspace(-bound, bound, BINS + 1)
            self.source.data = {"left": edges[:-1], "right": edges[1:], "share": share}
            self._x.update(start=-bound, end=bound)
            self._ticker.ticks = [-bound, 0, bound]  # a new ticker would have Bokeh walk all models of the page
        top = next(level for level in (0.1, 0.2, 0.5, 1.0) if level >= min(1.0, share.max(initial=0.0)))
        self.y.end = top * 1.04

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
            y_range=self.y,
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
        chart.xaxis.ticker = self._ticker
        chart.xaxis.formatter = BasicTickFormatter(use_scientific=True, power_limit_low=-4, power_limit_high=4)
        return chart


def _sentences(layer: LayerHistograms) -> str:
    """Sentences on what the charts of a layer cannot show."""
    parts = [f"{layer.name[:1].upper()}{layer.name[1:]}."]
    if layer.saturated is not None:
        parts.append(f"{percent(layer.saturated)} of its activations are saturated.")
    if layer.updates.zeros > 0:
        parts.append(f"{percent(layer.updates.zeros)} of its updates are zero.")
    if layer.sampled:
        parts.append("Evenly spaced units are counted, not all.")
    parts.append(
        "Updates of one mini-batch, before the learning rate is applied. The outermost bars count all larger values."
    )
    return " ".join(parts)
