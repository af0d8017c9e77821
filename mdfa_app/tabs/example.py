"""The tab Example: the net's prediction for one training example, and every hidden unit's error signal.

The chart draws the true error signal of every unit, which backpropagation computes, beside the delivered one.
"""

from __future__ import annotations

import html
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

from mdfa_app.charts.live import Markup
from mdfa_app.charts.pictures import png
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.settings.words import percent
from mdfa_app.tabs.tab import Host, Tab
from mdfa_core import Run
from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.training.inspection import (
    SEARCHED,
    DisagreeingUnit,
    Example,
    LayerSignals,
    Overview,
    Snapshot,
    SnapshotRequest,
    Thumbnails,
    any_sign,
    find_disagreeing,
)  # fmt: skip

_STYLE = """
.shown { display: flex; gap: 12px; align-items: center; }
.shown img { width: 76px; height: 76px; object-fit: contain; image-rendering: pixelated; }
.signals { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 12px; align-items: center; min-height: 20px; }
.signals span { display: inline-flex; gap: 5px; align-items: center; }
.signals svg { width: 16px; height: 14px; }
.share { font-weight: 650; }
"""
# The label of the button is for screen readers; visitors who see the page see the picture.
_PICTURE = """
.bk-btn {{
  height: 40px; width: 40px; padding: 0; font-size: 0; image-rendering: pixelated;
  background: var(--field) url("{address}") center / 34px 34px no-repeat !important;
}}
"""
_SIGNS = ("agrees", "disagrees", "undefined")
_COLUMNS = ("x", "true", "top", "name", "true_value", "delivered_value")


class ExampleTab(Tab):
    """A row of pictures to choose from, the chosen one, and a chart of one hidden layer's error signals."""

    name, title = "example", "Example"
    has_layers = True

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self._example: int | None = None  # the training example that snapshots are to show
        self._unit: tuple[int, int] | None = None  # and the unit in it that is marked: layer, unit
        self._overview: Overview | None = None
        self._snapshot: Snapshot | None = None
        self.sources = {sign: ColumnDataSource({name: [] for name in _COLUMNS}) for sign in _SIGNS}
        self._x, self._y = Range1d(start=-0.7, end=0.7), Range1d(start=-1.12, end=1.12)
        self.chart = self._figure()
        self.mark = BoxAnnotation(visible=False, line_width=1)
        self.chart.add_layout(self.mark)
        self._true, self._delivered, self._tips = self._draw_bars()
        self._make_widgets()
        self.recolour(dark=False)
        self.clear()

    @property
    def wanted(self) -> SnapshotRequest:
        return SnapshotRequest(example=self._example, unit=self._unit)

    @property
    def index(self) -> int | None:
        """The place of the shown example in the training split; None if no example is shown."""
        return None if self._snapshot is None or self._snapshot.example is None else self._snapshot.example.index

    @property
    def layer(self) -> int | None:
        """The hidden layer that is shown, counted from 0; None if the net has none."""
        value: int | None = self._layers.value
        return value

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.overview is not self._overview:
            self._set_overview(snapshot.overview)
        if snapshot.example is None:
            return
        self._snapshot = snapshot
        self.prediction.object = _prediction(snapshot.example, snapshot.overview)
        self._draw()

    def pick(self, index: int) -> None:
        """Show a training example from now on."""
        self.answer.object = ""
        self._example, self._unit = index, None
        self.page.watch()

    def search(self) -> None:
        """Search the training examples after this one for a unit whose error signal has the wrong sign."""
        self.find.disabled = True
        self.answer.object = '<p class="muted">Searching …</p>'
        after = -1 if self._example is None else self._example

        def work(run: Run) -> tuple[DisagreeingUnit | None, bool]:
            found = find_disagreeing(run, after=after)
            return found, found is not None or any_sign(run, after=after)

        self.page.ask(work, lambda result: self.show_found(*result))

    def show_found(self, found: DisagreeingUnit | None, signs: bool = True) -> None:
        """Show the result of a search: the unit, if one was found, and otherwise whether any sign is defined."""
        self.find.disabled = self._overview is None
        if found is None:
            searched = (
                "" if self._overview is None else f" in {min(SEARCHED, self._overview.examples):,} training examples"
            )
            self.answer.object = (
                f"<p>No unit's error signal has the wrong sign{searched}.</p>"
                if signs or self.layer is None
                else f"<p>No sign is defined{searched}: the true or the delivered signal is zero or undefined.</p>"
            )
            return
        self.answer.object = (
            f"<p>Unit {found.unit} of layer {found.layer + 1} gets an error signal of the wrong sign here.</p>"
        )
        self.show_layer(found.layer)
        self._example, self._unit = found.index, (found.layer, found.unit)
        self.page.watch()

    def show_layer(self, number: int) -> None:
        if number in self._layers.options.values():
            self._layers.value = number

    def clear(self) -> None:
        self._example = self._unit = None
        self._overview = self._snapshot = None
        self.pictures.objects = []
        self.prediction.object = '<p class="muted">Training examples appear here once the networks are made.</p>'
        self.answer.object = self.share.object = ""
        self.find.disabled = True
        self._empty()

    def recolour(self, *, dark: bool) -> None:
        palette = DARK if dark else LIGHT
        colours = {"agrees": palette.train, "disagrees": palette.validation, "undefined": palette.muted}
        for sign in _SIGNS:
            self._true[sign].glyph.update(fill_color=palette.batch, line_color=None)
            bar, tip = self._delivered[sign].glyph, self._tips[sign].glyph
            bar.update(fill_color=colours[sign], line_color=colours[sign], hatch_color=palette.surface)
            tip.update(line_color=colours[sign], fill_color=palette.surface if sign == "undefined" else colours[sign])
        self.mark.update(fill_color=palette.validation, fill_alpha=0.14, line_color=palette.validation)
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

    # ----------------------------------------------------------------------------------------------------- drawing

    def _set_overview(self, overview: Overview) -> None:
        example, unit = self._example, self._unit
        self.clear()
        self._example, self._unit = example, unit
        self._overview = overview
        self.find.disabled = False
        self.prediction.object = '<p class="muted">Choose an example to see the error signal of every unit.</p>'
        self.pictures.objects = self._buttons(overview.thumbnails, overview.class_names)
        hidden = {f"layer {number + 1}": number for number in range(len(overview.layers) - 1)}
        value = self._layers.value if self._layers.value in hidden.values() else next(iter(hidden.values()), None)
        self._layers.param.update(options=hidden, value=value)

    def _draw(self) -> None:
        snapshot, number = self._snapshot, self._layers.value
        if snapshot is None or snapshot.example is None:
            return
        if number is None:
            self.share.object = "<p>This network has no hidden layer, so every rule makes the same update.</p>"
            return
        layer = snapshot.example.layers[number]
        true, delivered = scaled(layer.true), scaled(layer.delivered)
        names = [unit_name(layer, unit) for unit in layer.units.tolist()]
        for sign, value in zip(_SIGNS, (1, -1, 0), strict=True):
            rows = np.flatnonzero(layer.signs == value)
            self.sources[sign].data = {
                "x": rows,
                "true": true[rows],
                "top": delivered[rows],
                "name": [names[row] for row in rows],
                "true_value": layer.true[rows],
                "delivered_value": layer.delivered[rows],
            }
        self._x.update(start=-0.7, end=len(layer.units) - 0.3)
        self._set_mark(layer, snapshot.unit, number)
        self.share.object = share_of(layer)

    def _set_mark(self, layer: LayerSignals, unit: tuple[int, int] | None, number: int) -> None:
        self.mark.visible = unit is not None and unit[0] == number and unit[1] in layer.units
        if unit is not None and self.mark.visible:
            place = int(np.flatnonzero(layer.units == unit[1])[0])
            self.mark.update(left=place - 0.6, right=place + 0.6)

    def _empty(self) -> None:
        for source in self.sources.values():
            source.data = {name: [] for name in _COLUMNS}
        self.mark.visible = False

    # ------------------------------------------------------------------------------------------------ construction

    def _make_widgets(self) -> None:
        def pane(margin: Any = 0) -> Markup:
            return Markup("", stylesheets=[PANES, _STYLE], sizing_mode="stretch_width", margin=margin)

        self.prediction, self.answer, self.share = pane(), pane((4, 0)), pane((4, 0))
        self.pictures = pn.FlexBox(gap="4px", sizing_mode="stretch_width")
        self.find = pn.widgets.Button(
            label="Find a disagreeing unit", stylesheets=[WIDGETS], css_classes=["quiet"], margin=(6, 0, 0, 0)
        )
        self.find.on_click(lambda _event: self.search())
        self._layers = pn.widgets.RadioButtonGroup(
            options={}, stylesheets=[WIDGETS], css_classes=["small"], margin=(6, 0, 0, 0), label="Hidden layer"
        )
        self._layers.param.watch(lambda _event: self.page.soon(self._draw), "value")
        key = pane((6, 0, 0, 0))
        key.object = _KEY
        self.view = pn.Column(
            self.pictures,
            self.find,
            self.answer,
            self.prediction,
            self._layers,
            key,
            pn.pane.Bokeh(self.chart, sizing_mode="stretch_width", margin=0),
            self.share,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _buttons(self, thumbnails: Thumbnails, class_names: tuple[str, ...]) -> list[pn.widgets.Button]:
        buttons = []
        for index, pixels, label in zip(thumbnails.indices, thumbnails.pixels, thumbnails.labels, strict=True):
            button = pn.widgets.Button(
                label=f"{class_names[label]}, training example {index}",
                stylesheets=[WIDGETS, _PICTURE.format(address=png(pixels))],
                margin=0,
                width=40,
                height=40,
            )
            button.on_click(partial(self._picked, index))
            buttons.append(button)
        return buttons

    def _picked(self, index: int, _event: object) -> None:
        self.pick(index)

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
        """For every sign: the true bars behind, the delivered bars in front, and the tips of the delivered bars."""
        hatches = {"agrees": " ", "disagrees": "/", "undefined": " "}
        markers = {"agrees": "circle", "disagrees": "x", "undefined": "diamond"}
        true = {s: self.chart.add_glyph(self.sources[s], VBar(x="x", top="true", width=0.86)) for s in _SIGNS}
        delivered, tips = {}, {}
        for sign in _SIGNS:
            source = self.sources[sign]
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
    "zero or undefined: no sign</span></div>"
)


def scaled(values: Any) -> Any:
    """Values divided by the largest one: true and delivered signals differ in scale, so only signs can be compared."""
    finite = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    largest = np.abs(finite).max(initial=0.0)
    return finite / largest if largest > 0 else finite


def unit_name(layer: LayerSignals, unit: int) -> str:
    """The number of a unit; for a convolution, its filter and place."""
    if len(layer.shape) == 1:
        return str(unit)
    filter_, row, column = np.unravel_index(unit, layer.shape)
    return f"filter {filter_}, row {row}, column {column}"


def share_of(layer: LayerSignals) -> str:
    """A sentence that says how many units of the layer agree."""
    total = layer.agreeing + layer.disagreeing + layer.undefined
    defined = layer.agreeing + layer.disagreeing
    if not defined:
        text = f"All {total:,} error signals of this layer are zero or undefined, so none has a sign."
    else:
        text = (
            f"{layer.agreeing:,} of {defined:,} units ({percent(layer.agreeing / defined)}) receive an error signal "
            f"with the right sign, {layer.disagreeing:,} with the wrong sign."
        )
        if layer.undefined:
            text += f" The signal of {layer.undefined:,} units is zero or undefined, so it has no sign."
    if len(layer.units) < total:
        text += f" The chart shows {len(layer.units)} of them, evenly spaced."
    return f'<p class="share">{text}</p>'


def _prediction(example: Example, overview: Overview) -> str:
    guess = int(np.argmax(example.probabilities))
    name, guessed = (html.escape(overview.class_names[label]) for label in (example.label, guess))
    verdict = "which is right" if guess == example.label else f"but the label is “{name}”"
    says = f"The network predicts “{guessed}” with probability {percent(example.probabilities[guess])}, {verdict}."
    if not np.isfinite(example.probabilities).all():
        says = "The network's output is NaN or infinite, so there is no prediction."
    return (
        f'<div class="shown"><img alt="the chosen example" src="{png(example.pixels)}"><div>'
        f"<p><b>Training example {example.index:,}: “{name}”</b></p>"
        f"<p>{says}</p></div></div>"
    )
