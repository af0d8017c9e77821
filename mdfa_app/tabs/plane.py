"""The tab Plane: the net's prediction at every point of the plane, for moons, circles, spirals and XOR."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import panel as pn
from bokeh.models.glyphs import Line, Scatter
from bokeh.models.mappers import LinearColorMapper
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure
from bokeh.plotting.contour import contour_data

from mdfa_app.charts.live import Markup
from mdfa_app.charts.pictures import diverging, hexadecimal
from mdfa_app.charts.style import PANES
from mdfa_app.tabs.tab import Host, Tab
from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.training.inspection import Overview, Points, Reals, Snapshot, SnapshotRequest

_STRENGTH = 0.62  # of the colours of the field: points of the same class must stand out
_SIDE = 400  # pixels of the chart, unless the page is narrower
_MARKERS = ("circle", "triangle")  # of the two classes
_STYLE = """
.points { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; align-items: center; min-height: 20px; }
.points span { display: inline-flex; gap: 5px; align-items: center; white-space: nowrap; }
.points svg { width: 12px; height: 12px; }
.ramp { width: 96px; height: 10px; border-radius: 3px; border: 1px solid var(--line); }
"""


class PlaneTab(Tab):
    """The class probability over the plane as colours, the decision boundary as a line, the points on top.

    Attributes:
        field: the probabilities that are drawn.
        line: the decision boundary.
        points: of class 0 and 1, first the training points, then the validation points.
        key: the legend.
    """

    name, title = "plane", "Plane"

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self._overview: Overview | None = None
        self.field = ColumnDataSource({"image": []})
        self.line = ColumnDataSource({"x": [], "y": []})
        self.points = [ColumnDataSource({"x": [], "y": []}) for _ in range(4)]
        self.colours = LinearColorMapper(low=0, high=1, nan_color="rgba(0, 0, 0, 0)")
        self.chart = self._figure()
        self._renderers = self._draw()
        self.key = Markup("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=0)
        self.view = pn.Column(
            self.key,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )
        self.recolour(dark=False)
        self.clear()

    @property
    def wanted(self) -> SnapshotRequest:
        return SnapshotRequest(plane=True)

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.overview is not self._overview:
            self._set_overview(snapshot.overview)
        if snapshot.boundary is not None:
            self.field.data = {"image": [snapshot.boundary]}
            self.line.data = boundary_line(snapshot.boundary)

    def clear(self) -> None:
        self._overview = None
        self.field.data = {"image": []}
        for source in (self.line, *self.points):
            source.data = {"x": [], "y": []}
        self.key.object = '<p class="muted">The plane appears here once the networks are made.</p>'

    def recolour(self, *, dark: bool) -> None:
        palette = DARK if dark else LIGHT
        self.colours.palette = hexadecimal(diverging(dark, _STRENGTH))
        chart = self.chart
        chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=palette.grid)
        for axis in chart.axis:
            axis.update(
                axis_line_color=palette.grid,
                major_tick_line_color=palette.grid,
                minor_tick_line_color=None,
                major_label_text_color=palette.muted,
            )
        self._boundary.glyph.line_color = palette.text
        for number, renderer in enumerate(self._renderers):
            colour = (palette.train, palette.validation)[number % 2]
            training = number < 2
            renderer.glyph.update(
                fill_color=colour if training else palette.surface,
                line_color=palette.surface if training else colour,
            )

    # ------------------------------------------------------------------------------------------------ construction

    def _figure(self) -> Any:
        chart = figure(
            x_range=Range1d(start=0, end=1),
            y_range=Range1d(start=0, end=1),
            height=_SIDE,
            max_width=_SIDE + 10,
            sizing_mode="stretch_width",
            toolbar_location=None,
            tools="",
            min_border_left=28,
            min_border_right=10,
            min_border_top=8,
            min_border_bottom=24,
            name="The plane",
        )
        chart.grid.visible = False
        for axis in chart.axis:
            axis.ticker = [0, 0.5, 1]
        return chart

    def _draw(self) -> list[GlyphRenderer]:
        """Draw the field, the line and the points, in this order; returns the renderers of the points."""
        field = self.chart.image(
            "image", source=self.field, x=0, y=0, dw=1, dh=1, color_mapper=self.colours, level="image"
        )
        self.hover = HoverTool(renderers=[field], attachment="above")
        self.chart.add_tools(self.hover)
        self._boundary = self.chart.add_glyph(self.line, Line(x="x", y="y", line_width=2))
        renderers = []
        for number, source in enumerate(self.points):
            size, width = (5, 0.5) if number < 2 else (6, 1.4)
            glyph = Scatter(x="x", y="y", marker=_MARKERS[number % 2], size=size, line_width=width)
            renderers.append(self.chart.add_glyph(source, glyph))
        return renderers

    def _set_overview(self, overview: Overview) -> None:
        self.clear()
        self._overview = overview
        if overview.points is None:
            self.key.object = (
                '<p class="muted">Images of many pixels have no plane: choose moons, circles, spirals or XOR.</p>'
            )
            return
        for number, source in enumerate(self.points):
            source.data = _chosen(overview.points, training=number < 2, label=number % 2)
        name = html.escape(overview.class_names[1])
        self.hover.tooltips = [
            ("x, y", "$x{0.00}, $y{0.00}"),
            (f"probability of “{overview.class_names[1]}”", "@image{0.0 %}"),
        ]
        self.key.object = (
            f'<div class="points">{_sample(0, overview, training=True)}{_sample(1, overview, training=True)}'
            f"{_sample(0, overview, training=False)}{_sample(1, overview, training=False)}"
            f'<span>probability of “{name}”: 0 <i class="ramp" style="background:linear-gradient(90deg,var(--train),'
            f'var(--card),var(--validation))"></i> 1</span></div>'
        )


def _chosen(points: Points, *, training: bool, label: int) -> dict[str, Any]:
    chosen = points.xy[(points.training == training) & (points.labels == label)]
    return {"x": chosen[:, 0], "y": chosen[:, 1]}


def boundary_line(boundary: Reals) -> dict[str, Any]:
    """The line of points at which both classes are equally probable; NaN separates its pieces."""
    height, width = boundary.shape
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    lines = contour_data(x, y, np.nan_to_num(boundary, nan=0.0), [0.5], want_fill=False, want_line=True).line_data
    if lines is None or not lines.xs:
        return {"x": [], "y": []}
    return {"x": lines.xs[0], "y": lines.ys[0]}


def _sample(label: int, overview: Overview, *, training: bool) -> str:
    """One entry of the key: a marker as it is drawn, and its class."""
    colour = f"var(--{('train', 'validation')[label]})"
    look = f"fill:{colour}" if training else f"fill:var(--card);stroke:{colour};stroke-width:1.6"
    shape = (
        f'<circle cx="6" cy="6" r="4" style="{look}"/>' if label == 0 else f'<path d="M6 2L10 9.5H2Z" style="{look}"/>'
    )
    what = html.escape(f"“{overview.class_names[label]}”, {'training' if training else 'validation'}")
    return f'<span><svg viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>{what}</span>'
