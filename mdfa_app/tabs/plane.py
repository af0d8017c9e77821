"""The tab Plane: the net's prediction at every point of the plane, if the images are points."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import panel as pn
from bokeh.models.glyphs import Line, Scatter
from bokeh.models.mappers import CategoricalColorMapper, LinearColorMapper
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure
from bokeh.plotting.contour import contour_data

from mdfa_app.charts.live import Markup
from mdfa_app.charts.pictures import class_colours, diverging, hexadecimal
from mdfa_app.charts.style import PANES
from mdfa_app.tabs.tab import Host, Tab
from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.training.inspection import Overview, Points, Reals, Snapshot, SnapshotRequest

_STRENGTH = 0.62  # of the colours of the field: points of the same class must stand out
_SIDE = 400  # pixels of the chart, unless the page is narrower
_CORNERS = {
    "circle": "",
    "triangle": "M6 2L10 9.5H2Z",
    "square": "M2.5 2.5H9.5V9.5H2.5Z",
    "diamond": "M6 1L10 6L6 11L2 6Z",
    "inverted_triangle": "M6 10L2 2.5H10Z",
    "hex": "M6 1.5L10 3.8V8.2L6 10.5L2 8.2V3.8Z",
    "star": "M6 1L7.3 4.4L11 4.6L8.1 6.9L9.1 10.5L6 8.4L2.9 10.5L3.9 6.9L1 4.6L4.7 4.4Z",
    "square_pin": "M2 2Q6 4 10 2Q8 6 10 10Q6 8 2 10Q4 6 2 2Z",
    "triangle_pin": "M6 1Q7 6 11 10Q6 8 1 10Q5 6 6 1Z",
    "plus": "M4.5 1.5H7.5V4.5H10.5V7.5H7.5V10.5H4.5V7.5H1.5V4.5H4.5Z",
}
"""The marker of each class as Bokeh calls it, and as the path of an SVG; a circle has none."""
_MARKERS = tuple(_CORNERS)
_NO_POINTS: dict[str, Any] = {"x": [], "y": [], "label": [], "marker": []}
_STYLE = """
.points { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; align-items: center; min-height: 20px; }
.points span { display: inline-flex; gap: 5px; align-items: center; white-space: nowrap; }
.points svg { width: 12px; height: 12px; }
.ramp { width: 96px; height: 10px; border-radius: 3px; border: 1px solid var(--line); }
"""


class PlaneTab(Tab):
    """The class probability over the plane as colours, the decision boundary as a line, the points on top.

    Attributes:
        field: what is drawn: the probability of class 1, or for more classes the bytes of `decision`.
        line: the decision boundary, if there are two classes.
        points: the training points and the validation points.
        key: the legend.
    """

    name, title = "plane", "Plane"

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self._overview: Overview | None = None
        self.field = ColumnDataSource({"image": []})
        self.line = ColumnDataSource({"x": [], "y": []})
        self.points = [ColumnDataSource(_NO_POINTS) for _ in range(2)]
        self.colours = LinearColorMapper(low=0, high=1, nan_color="rgba(0, 0, 0, 0)")
        self.classes = CategoricalColorMapper(factors=[str(label) for label in range(len(_MARKERS))])
        self._dark = False
        self.chart = self._figure()
        self._renderers = self._draw()
        self.key = Markup("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=0)
        self._pane = pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0)
        self.view = pn.Column(self.key, self._pane, sizing_mode="stretch_width", margin=0)
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
        if snapshot.decision is not None:
            self.field.data = {"image": [snapshot.decision]}

    def clear(self) -> None:
        self._overview = None
        self.field.data = {"image": []}
        self.line.data = {"x": [], "y": []}
        for source in self.points:
            source.data = dict(_NO_POINTS)
        self.key.object = '<p class="muted">The plane appears here once the networks are made.</p>'

    def recolour(self, *, dark: bool) -> None:
        palette = DARK if dark else LIGHT
        self._dark = dark
        self._set_colours()
        self.classes.palette = list(palette.classes)
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
        by_class = {"field": "label", "transform": self.classes}
        training, validation = (renderer.glyph for renderer in self._renderers)
        training.update(fill_color=by_class, line_color=palette.surface)
        validation.update(fill_color=palette.surface, line_color=by_class)

    def _set_colours(self) -> None:
        """The colours of the field, for the classes there are."""
        classes = 2 if self._overview is None else len(self._overview.class_names)
        two = diverging(self._dark, _STRENGTH) if classes == 2 else class_colours(self._dark, classes, _STRENGTH)
        self.colours.update(palette=hexadecimal(two), high=1 if classes == 2 else 256)

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
        for source, size, width in zip(self.points, (5, 6), (0.5, 1.4), strict=True):
            glyph = Scatter(x="x", y="y", marker="marker", size=size, line_width=width)
            renderers.append(self.chart.add_glyph(source, glyph))
        return renderers

    def _set_overview(self, overview: Overview) -> None:
        self.clear()
        self._overview = overview
        self._pane.visible = overview.points is not None
        if overview.points is None:
            self.key.object = (
                '<p class="muted">Images of many pixels have no plane: choose points, such as the experiment '
                "“Two moons”.</p>"
            )
            return
        self._set_colours()
        for source, training in zip(self.points, (True, False), strict=True):
            source.data = _chosen(overview.points, training=training)
        classes = range(len(overview.class_names))
        samples = "".join(
            _sample(label, overview, training=training) for training in (True, False) for label in classes
        )
        place = ("x, y", "$x{0.00}, $y{0.00}")
        if len(classes) > 2:
            self.hover.tooltips = [place]
            self.key.object = f'<div class="points">{samples}<span>the paler, the less certain</span></div>'
            return
        name = html.escape(overview.class_names[1])
        self.hover.tooltips = [place, (f"probability of “{overview.class_names[1]}”", "@image{0.0 %}")]
        self.key.object = (
            f'<div class="points">{samples}'
            f'<span>probability of “{name}”: 0 <i class="ramp" style="background:linear-gradient(90deg,var(--train),'
            f'var(--card),var(--validation))"></i> 1</span></div>'
        )


def _chosen(points: Points, *, training: bool) -> dict[str, Any]:
    chosen = points.training == training
    labels = points.labels[chosen].tolist()
    return {
        "x": points.xy[chosen, 0],
        "y": points.xy[chosen, 1],
        "label": [str(label) for label in labels],
        "marker": [_MARKERS[label] for label in labels],
    }


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
    colour = f"var(--{('train', 'validation')[label]})" if label < 2 else f"var(--class{label})"
    look = f"fill:{colour}" if training else f"fill:var(--card);stroke:{colour};stroke-width:1.6"
    corners = _CORNERS[_MARKERS[label]]
    shape = f'<path d="{corners}" style="{look}"/>' if corners else f'<circle cx="6" cy="6" r="4" style="{look}"/>'
    what = html.escape(f"“{overview.class_names[label]}”, {'training' if training else 'validation'}")
    return f'<span><svg viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>{what}</span>'
