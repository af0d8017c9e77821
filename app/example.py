"""One training image: what the net says of it, and every hidden unit's true error signal beside the delivered one.

    pane = ExamplePane(on_pick=..., on_find=...)
    pane.view                 # goes into the page
    pane.show(snapshot)       # inspection.snapshot(run, scene, Wanted(example=index)), made in the training thread
    pane.show_found(found)    # the answer to on_find: inspection.find_disagreeing(run, after=pane.index)
    pane.show_layer(0)        # another hidden layer, from 0: after a click in a drawing of the net
    pane.clear()              # before another run
    pane.recolour(dark=True)

`on_pick(index)` is called when a picture is pressed: from then on snapshots with `Wanted(example=index)` are wanted,
the first at once, also of a run that stands still. `on_find()` is called when a disagreeing unit is asked for: search
in the training thread, take a snapshot with `Wanted(example=found.index, unit=(found.layer, found.unit))`, and hand
both over, `show_found` first. All methods edit Bokeh models: call them while the document is locked.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import panel as pn
from bokeh.models.annotations import BoxAnnotation
from bokeh.models.glyphs import Scatter, VBar
from bokeh.models.ranges import Range1d
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from app.colours import DARK, LIGHT
from app.pictures import png
from app.style import PANES, WIDGETS
from app.words import percent
from mdfa_core.inspection import SEARCHED, Example, Found, LayerSignals, Scene, Snapshot, Thumbnails

_STYLE = """
.shown { display: flex; gap: 12px; align-items: center; }
.shown img { width: 76px; height: 76px; object-fit: contain; image-rendering: pixelated; }
.signals { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; align-items: center; min-height: 20px; }
.signals span { display: inline-flex; gap: 5px; align-items: center; }
.signals svg { width: 16px; height: 14px; }
.share { font-weight: 650; }
"""
# The button's words are for those who hear the page; the picture takes their place.
_PICTURE = """
.bk-btn {{
  height: 40px; width: 40px; padding: 0; font-size: 0; image-rendering: pixelated;
  background: var(--field) url("{address}") center / 34px 34px no-repeat !important;
}}
"""
_SIGNS = ("agrees", "disagrees", "undefined")
_COLUMNS = ("x", "true", "top", "name", "true_value", "delivered_value")


class ExamplePane:
    """A row of pictures to choose from, the chosen one, and a chart of one hidden layer's error signals.

    Args:
        on_pick: called with the place of a picture in the training split.
        on_find: called when a unit of the wrong sign is to be found.
    """

    def __init__(self, on_pick: Callable[[int], None], on_find: Callable[[], None]) -> None:
        self._on_pick, self._on_find = on_pick, on_find
        self._scene: Scene | None = None
        self._snapshot: Snapshot | None = None
        self._sources = {sign: ColumnDataSource({name: [] for name in _COLUMNS}) for sign in _SIGNS}
        self._x, self._y = Range1d(start=-0.7, end=0.7), Range1d(start=-1.12, end=1.12)
        self.chart = self._figure()
        self._mark = BoxAnnotation(visible=False, line_width=1)
        self.chart.add_layout(self._mark)
        self._true, self._delivered, self._tips = self._draw_bars()
        self._make_widgets()
        self.recolour(dark=False)
        self.clear()

    @property
    def index(self) -> int | None:
        """Which training image is shown; None if none is."""
        return None if self._snapshot is None or self._snapshot.example is None else self._snapshot.example.index

    @property
    def layer(self) -> int | None:
        """The hidden layer that is shown, from 0; None if there is none."""
        value: int | None = self._layers.value
        return value

    def show(self, snapshot: Snapshot) -> None:
        """Draw the example of this moment; without one, only the pictures to choose from."""
        if snapshot.scene is not self._scene:
            self._set_scene(snapshot.scene)
        if snapshot.example is None:
            return
        self._snapshot = snapshot
        self._said.object = _what_the_net_says(snapshot.example, snapshot.scene)
        self._draw()

    def show_found(self, found: Found | None, *, signs: bool = True) -> None:
        """Say what a search for a disagreeing unit has found, or that there was no sign (`inspection.any_sign`)."""
        self._find.disabled = self._scene is None
        if found is None:
            searched = "" if self._scene is None else f" in {min(SEARCHED, self._scene.examples):,} training images"
            self._answer.object = (
                f"<p>No unit's error signal has the wrong sign{searched}.</p>"
                if signs or self.layer is None
                else f"<p>No sign is defined{searched}: the true or the delivered signal is exactly 0 or no number.</p>"
            )
            return
        self._answer.object = (
            f"<p>Unit {found.unit} of layer {found.layer + 1} is told the wrong direction for this image.</p>"
        )
        self.show_layer(found.layer)

    def show_layer(self, number: int) -> None:
        """Another hidden layer, from 0; one that the net does not have is ignored."""
        if number in self._layers.options.values():
            self._layers.value = number

    def clear(self) -> None:
        """Forget the run."""
        self._scene = self._snapshot = None
        self._pictures.objects = []
        self._said.object = '<p class="muted">Pictures to choose from appear when the images are there.</p>'
        self._answer.object = self._words.object = ""
        self._find.disabled = True
        self._empty()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        palette = DARK if dark else LIGHT
        colours = {"agrees": palette.train, "disagrees": palette.validation, "undefined": palette.muted}
        for sign in _SIGNS:
            self._true[sign].glyph.update(fill_color=palette.batch, line_color=None)
            bar, tip = self._delivered[sign].glyph, self._tips[sign].glyph
            bar.update(fill_color=colours[sign], line_color=colours[sign], hatch_color=palette.surface)
            tip.update(line_color=colours[sign], fill_color=palette.surface if sign == "undefined" else colours[sign])
        self._mark.update(fill_color=palette.validation, fill_alpha=0.14, line_color=palette.validation)
        self.chart.update(background_fill_color=None, border_fill_color=None, outline_line_color=None)
        self.chart.ygrid.grid_line_color = palette.grid
        for axis in self.chart.axis:
            axis.update(
                axis_line_color=palette.grid,
                major_tick_line_color=palette.grid,
                minor_tick_line_color=None,
                major_label_text_color=palette.muted,
                axis_label_text_color=palette.muted,
            )

    # ---------------------------------------------------------------------------------------------------- what is drawn

    def _set_scene(self, scene: Scene) -> None:
        self.clear()
        self._scene = scene
        self._find.disabled = False
        self._said.object = '<p class="muted">Choose a picture: its error signals are drawn unit by unit.</p>'
        self._pictures.objects = self._buttons(scene.thumbnails, scene.class_names)
        hidden = {f"layer {number + 1}": number for number in range(len(scene.layers) - 1)}
        value = self._layers.value if self._layers.value in hidden.values() else next(iter(hidden.values()), None)
        self._layers.param.update(options=hidden, value=value)

    def _draw(self) -> None:
        snapshot, number = self._snapshot, self._layers.value
        if snapshot is None or snapshot.example is None:
            return
        if number is None:
            self._words.object = "<p>This net has no hidden layer: every method brings the same error.</p>"
            return
        layer = snapshot.example.layers[number]
        true, delivered = _scaled(layer.true), _scaled(layer.delivered)
        names = [_name(layer, unit) for unit in layer.units.tolist()]
        for sign, value in zip(_SIGNS, (1, -1, 0), strict=True):
            rows = np.flatnonzero(layer.signs == value)
            self._sources[sign].data = {
                "x": rows,
                "true": true[rows],
                "top": delivered[rows],
                "name": [names[row] for row in rows],
                "true_value": layer.true[rows],
                "delivered_value": layer.delivered[rows],
            }
        self._x.update(start=-0.7, end=len(layer.units) - 0.3)
        self._set_mark(layer, snapshot.unit, number)
        self._words.object = _share(layer)

    def _set_mark(self, layer: LayerSignals, unit: tuple[int, int] | None, number: int) -> None:
        self._mark.visible = unit is not None and unit[0] == number and unit[1] in layer.units
        if unit is not None and self._mark.visible:
            place = int(np.flatnonzero(layer.units == unit[1])[0])
            self._mark.update(left=place - 0.6, right=place + 0.6)

    def _empty(self) -> None:
        for source in self._sources.values():
            source.data = {name: [] for name in _COLUMNS}
        self._mark.visible = False

    # -------------------------------------------------------------------------------------------------- how it is made

    def _make_widgets(self) -> None:
        def pane(margin: Any = 0) -> pn.pane.HTML:
            return pn.pane.HTML("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=margin)

        self._said, self._answer, self._words = pane(), pane((4, 0)), pane((4, 0))
        self._pictures = pn.FlexBox(gap="4px", sizing_mode="stretch_width")
        self._find = pn.widgets.Button(
            label="Find me a disagreeing unit", stylesheets=[WIDGETS], css_classes=["quiet"], margin=(6, 0, 0, 0)
        )
        self._find.on_click(self._search)
        self._layers = pn.widgets.RadioButtonGroup(
            options={}, stylesheets=[WIDGETS], css_classes=["small"], margin=(6, 0, 0, 0), label="Hidden layer"
        )
        self._layers.param.watch(lambda _event: self._draw(), "value")
        key = pane((6, 0, 0, 0))
        key.object = _KEY
        self.view = pn.Column(
            self._pictures,
            self._find,
            self._answer,
            self._said,
            self._layers,
            key,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            self._words,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _buttons(self, thumbnails: Thumbnails, class_names: tuple[str, ...]) -> list[pn.widgets.Button]:
        buttons = []
        for index, pixels, label in zip(thumbnails.indices, thumbnails.pixels, thumbnails.labels, strict=True):
            button = pn.widgets.Button(
                label=f"{class_names[label]}, training image {index}",
                stylesheets=[WIDGETS, _PICTURE.format(address=png(pixels))],
                margin=0,
                width=40,
                height=40,
            )
            button.on_click(partial(self._pick, index))
            buttons.append(button)
        return buttons

    def _pick(self, index: int, _event: object) -> None:
        self._answer.object = ""
        self._on_pick(index)

    def _search(self, _event: object) -> None:
        self._find.disabled = True
        self._answer.object = '<p class="muted">Searching …</p>'
        self._on_find()

    def _figure(self) -> Any:
        chart = figure(
            height=190,
            sizing_mode="stretch_width",
            x_range=self._x,
            y_range=self._y,
            toolbar_location=None,
            tools="",
            min_border_left=34,
            min_border_right=6,
            min_border_top=6,
            min_border_bottom=8,
            y_axis_label="relative size",
            name="Error signals",
        )
        chart.xgrid.visible = False
        chart.xaxis.visible = False
        chart.yaxis.ticker = [-1, 0, 1]
        return chart

    def _draw_bars(self) -> tuple[dict[str, GlyphRenderer], ...]:
        """Per sign: true bars behind, delivered bars before them, and the tips of these."""
        hatches = {"agrees": " ", "disagrees": "/", "undefined": " "}
        markers = {"agrees": "circle", "disagrees": "x", "undefined": "diamond"}
        true = {s: self.chart.add_glyph(self._sources[s], VBar(x="x", top="true", width=0.86)) for s in _SIGNS}
        delivered, tips = {}, {}
        for sign in _SIGNS:
            source = self._sources[sign]
            bar = VBar(x="x", top="top", width=0.36, hatch_pattern=hatches[sign], hatch_scale=5, hatch_weight=1)
            delivered[sign] = self.chart.add_glyph(source, bar)
            tip = Scatter(x="x", y="top", marker=markers[sign], size=8 if sign == "disagrees" else 5, line_width=2)
            tips[sign] = self.chart.add_glyph(source, tip)
        tooltips = [("unit", "@name"), ("true", "@true_value{0.00e+0}"), ("delivered", "@delivered_value{0.00e+0}")]
        hovered = [*true.values(), *delivered.values()]
        self.chart.add_tools(HoverTool(renderers=hovered, tooltips=tooltips))
        return true, delivered, tips


_KEY = (
    '<div class="signals">'
    '<span><svg viewBox="0 0 16 14"><rect x="2" width="12" height="14" style="fill:var(--batch)"/></svg>true</span>'
    '<span><svg viewBox="0 0 16 14"><rect x="5" y="3" width="6" height="11" style="fill:var(--train)"/>'
    '<circle cx="8" cy="4" r="3.4" style="fill:var(--train)"/></svg>delivered, same sign</span>'
    '<span><svg viewBox="0 0 16 14"><rect x="5" y="5" width="6" height="9" style="fill:var(--validation)"/>'
    '<path d="M4 1L12 9M12 1L4 9" style="stroke:var(--validation);stroke-width:2"/></svg>delivered, wrong sign</span>'
    '<span><svg viewBox="0 0 16 14"><path d="M8 3L12 7L8 11L4 7Z" style="fill:none;stroke:var(--muted)"/></svg>'
    "exactly 0 or no number: no sign</span></div>"
)


def _scaled(values: Any) -> Any:
    """Values over their largest: true and delivered signals have units of their own, only signs can be compared."""
    finite = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    largest = np.abs(finite).max(initial=0.0)
    return finite / largest if largest > 0 else finite


def _name(layer: LayerSignals, unit: int) -> str:
    """A unit's number, or the filter and place of a convolution's."""
    if len(layer.shape) == 1:
        return str(unit)
    filter_, row, column = np.unravel_index(unit, layer.shape)
    return f"filter {filter_}, row {row}, column {column}"


def _share(layer: LayerSignals) -> str:
    """How many units of the layer agree, in words."""
    total = layer.agreeing + layer.disagreeing + layer.undefined
    defined = layer.agreeing + layer.disagreeing
    if not defined:
        text = f"All {total:,} error signals of this layer are exactly 0 or no number: no sign is defined."
    else:
        text = (
            f"{layer.agreeing:,} of {defined:,} units ({percent(layer.agreeing / defined)}) are told the true "
            f"direction, {layer.disagreeing:,} the wrong one."
        )
        if layer.undefined:
            text += f" {layer.undefined:,} have a signal of exactly 0 or no number, and no sign."
    if len(layer.units) < total:
        text += f" Drawn are {len(layer.units)}, evenly spread."
    return f'<p class="share">{text}</p>'


def _what_the_net_says(example: Example, scene: Scene) -> str:
    guess = int(np.argmax(example.probabilities))
    name, guessed = (html.escape(scene.class_names[label]) for label in (example.label, guess))
    verdict = "and is right" if guess == example.label else f"but it is “{name}”"
    says = f"The net says “{guessed}” with probability {percent(example.probabilities[guess])}, {verdict}."
    if not np.isfinite(example.probabilities).all():
        says = "The net's output is no number: it says nothing."
    return (
        f'<div class="shown"><img alt="the image that is looked at" src="{png(example.pixels)}"><div>'
        f"<p><b>Training image {example.index:,}: “{name}”</b></p>"
        f"<p>{says}</p></div></div>"
    )
