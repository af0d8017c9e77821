"""The plane of moons, circles, spirals and XOR, painted with what the net makes of every point of it, as it learns.

    pane = PlanePane()
    pane.view                 # goes into the page
    pane.show(snapshot)       # inspection.snapshot(run, scene, Wanted(plane=True)), made in the training thread
    pane.clear()              # before another run
    pane.recolour(dark=True)

`show`, `clear` and `recolour` edit Bokeh models: call them while the document is locked.
"""

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

from app.colours import DARK, LIGHT
from app.pictures import diverging, hexadecimal
from app.style import PANES
from mdfa_core.inspection import Points, Reals, Scene, Snapshot

_STRENGTH = 0.62  # of the field's colours: points of the same class must stand out from it
_SIDE = 400  # pixels of the chart, unless the page is narrower
_MARKERS = ("circle", "triangle")  # of the two classes
_STYLE = """
.points { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; align-items: center; min-height: 20px; }
.points span { display: inline-flex; gap: 5px; align-items: center; white-space: nowrap; }
.points svg { width: 12px; height: 12px; }
.ramp { width: 96px; height: 10px; border-radius: 3px; border: 1px solid var(--line); }
"""


class PlanePane:
    """The class probability over the plane as colours, the decision boundary as a line, the points on top."""

    def __init__(self) -> None:
        self._scene: Scene | None = None
        self._field = ColumnDataSource({"image": []})
        self._line = ColumnDataSource({"x": [], "y": []})
        self._points = [ColumnDataSource({"x": [], "y": []}) for _ in range(4)]  # class 0, 1 of training, validation
        self._colours = LinearColorMapper(low=0, high=1, nan_color="rgba(0, 0, 0, 0)")
        self.chart = self._figure()
        self._renderers = self._draw()
        self._key = pn.pane.HTML("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=0)
        self.view = pn.Column(
            self._key,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )
        self.recolour(dark=False)
        self.clear()

    def show(self, snapshot: Snapshot) -> None:
        """Paint the plane of this moment; nothing happens if the snapshot has none."""
        if snapshot.scene is not self._scene:
            self._set_scene(snapshot.scene)
        if snapshot.boundary is not None:
            self._field.data = {"image": [snapshot.boundary]}
            self._line.data = _boundary_line(snapshot.boundary)

    def clear(self) -> None:
        """Empty the plane."""
        self._scene = None
        self._field.data = {"image": []}
        for source in (self._line, *self._points):
            source.data = {"x": [], "y": []}
        self._key.object = '<p class="muted">The plane appears when the points are there.</p>'

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        palette = DARK if dark else LIGHT
        self._colours.palette = hexadecimal(diverging(dark, _STRENGTH))
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

    # -------------------------------------------------------------------------------------------------- how it is made

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
        """The field, the line and the points, in this order; returns the renderers of the points."""
        field = self.chart.image(
            "image", source=self._field, x=0, y=0, dw=1, dh=1, color_mapper=self._colours, level="image"
        )
        self._hover = HoverTool(renderers=[field], attachment="above")
        self.chart.add_tools(self._hover)
        self._boundary = self.chart.add_glyph(self._line, Line(x="x", y="y", line_width=2))
        renderers = []
        for number, source in enumerate(self._points):
            size, width = (5, 0.5) if number < 2 else (6, 1.4)
            glyph = Scatter(x="x", y="y", marker=_MARKERS[number % 2], size=size, line_width=width)
            renderers.append(self.chart.add_glyph(source, glyph))
        return renderers

    def _set_scene(self, scene: Scene) -> None:
        self.clear()
        self._scene = scene
        if scene.points is None:
            self._key.object = (
                '<p class="muted">These images have no plane to paint: choose moons, circles, spirals or XOR.</p>'
            )
            return
        for number, source in enumerate(self._points):
            source.data = _chosen(scene.points, training=number < 2, label=number % 2)
        name = html.escape(scene.class_names[1])
        self._hover.tooltips = [
            ("x, y", "$x{0.00}, $y{0.00}"),
            (f"probability of “{scene.class_names[1]}”", "@image{0.0 %}"),
        ]
        self._key.object = (
            f'<div class="points">{_sample(0, scene, training=True)}{_sample(1, scene, training=True)}'
            f"{_sample(0, scene, training=False)}{_sample(1, scene, training=False)}"
            f'<span>probability of “{name}”: 0 <i class="ramp" style="background:linear-gradient(90deg,var(--train),'
            f'var(--card),var(--validation))"></i> 1</span></div>'
        )


def _chosen(points: Points, *, training: bool, label: int) -> dict[str, Any]:
    chosen = points.xy[(points.training == training) & (points.labels == label)]
    return {"x": chosen[:, 0], "y": chosen[:, 1]}


def _boundary_line(boundary: Reals) -> dict[str, Any]:
    """Where both classes are equally probable, pieces separated by NaN."""
    height, width = boundary.shape
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    lines = contour_data(x, y, np.nan_to_num(boundary, nan=0.0), [0.5], want_fill=False, want_line=True).line_data
    if lines is None or not lines.xs:
        return {"x": [], "y": []}
    return {"x": lines.xs[0], "y": lines.ys[0]}


def _sample(label: int, scene: Scene, *, training: bool) -> str:
    """One entry of the key: a marker as it is drawn, and what it means."""
    colour = f"var(--{('train', 'validation')[label]})"
    look = f"fill:{colour}" if training else f"fill:var(--card);stroke:{colour};stroke-width:1.6"
    shape = (
        f'<circle cx="6" cy="6" r="4" style="{look}"/>' if label == 0 else f'<path d="M6 2L10 9.5H2Z" style="{look}"/>'
    )
    what = html.escape(f"“{scene.class_names[label]}”, {'training' if training else 'validation'}")
    return f'<span><svg viewBox="0 0 12 12" aria-hidden="true">{shape}</svg>{what}</span>'
