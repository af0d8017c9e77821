"""The details below the charts: one tab at a time, each made when it is first opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import panel as pn
from bokeh.models.ranges import Range1d

from app.example import ExamplePane
from app.history import History
from app.live import Sight
from app.plane import PlanePane
from app.style import PANES, WIDGETS
from app.views import Chart, Drawn, Style
from app.weights import WeightsPane
from mdfa_core.inspection import Snapshot, Wanted

TABS = {
    "layers": "Layers",
    "curves": "Loss and angle",
    "example": "One image",
    "weights": "Weights",
    "plane": "Plane",
    "paper": "Paper",
    "take": "Take away",
}
"""Titles of the tabs by name."""

_HEIGHT = 168
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Pane = ExamplePane | WeightsPane | PlanePane


class Details:
    """The tabs.

    Args:
        x: the axis of epochs.
        rules, layers: lines of a chart at most.
        given: what tabs hold that are not made here, by name.
        on_open: called when another tab is opened.
        on_sight: called when charts that were out of sight are seen again.
        on_pick, on_find: as `ExamplePane` takes them.
    """

    def __init__(
        self,
        x: Range1d,
        *,
        rules: int,
        layers: int,
        given: Mapping[str, pn.viewable.Viewable],
        on_open: Callable[[], None],
        on_sight: Callable[[], None],
        on_pick: Callable[[int], None],
        on_find: Callable[[], None],
    ) -> None:
        self._x, self._rules, self._layers = x, rules, layers
        self._on_open, self._on_sight, self._on_pick, self._on_find = on_open, on_sight, on_pick, on_find
        self._dark = False
        self._charts: dict[str, dict[str, Chart]] = {}
        self._sights: dict[str, Sight] = {}  # of the charts
        self._panes: dict[str, Pane] = {}
        self._views: dict[str, pn.viewable.Viewable] = dict(given)
        self.example: int | None = None
        self.unit: tuple[int, int] | None = None
        self.choice = pn.widgets.RadioButtonGroup(
            options={title: name for name, title in TABS.items()}, value="layers",
            stylesheets=[WIDGETS], css_classes=["tabs"], margin=0, label="Details",
        )  # fmt: skip
        self._words = pn.pane.HTML("", stylesheets=[PANES], sizing_mode="stretch_width", margin=(5, 0, 4, 0))
        self._place = pn.Column(sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        self.view = pn.Column(self.choice, self._words, self._place, sizing_mode="stretch_width", margin=0)
        self.choice.param.watch(self._opened, "value")
        self._show_place()

    @property
    def tab(self) -> str:
        """The name of the open tab."""
        return str(self.choice.value)

    @property
    def wanted(self) -> Wanted | None:
        """What the open tab wants to see of the net that is drawn."""
        if self.tab == "example":
            return Wanted(example=self.example, unit=self.unit)
        if self.tab in ("weights", "plane"):
            return Wanted(weights=self.tab == "weights", plane=self.tab == "plane")
        return None

    def draw(
        self,
        live: Mapping[int, tuple[str, History]],
        before: Mapping[int, tuple[str, History]],
        drawn: History,
        level: str,
        layers: int,
    ) -> None:
        """Draw the curves of the open tab: of rules by slot, or of the hidden layers of the net that is drawn."""
        for column, chart in self._charts.get(self.tab, {}).items():
            if self.tab == "layers":
                name = {"agreement": level, "undefined": f"undefined_{level}"}.get(column, column)
                lines = {n: Drawn(drawn.probed, f"{name}{n}", f"L{n + 1}") for n in range(layers)}
                chart.show(lines, {})
            else:
                curve, column = column.split(" ")
                lines, old = (
                    {slot: Drawn(history.curves[curve], column, title) for slot, (title, history) in some.items()}
                    for some in (live, before)
                )
                chart.show(lines, old)

    def update(self) -> None:
        """Draw what has come since, where it is seen: drawing is most of what a browser does while a net trains."""
        if self.tab in self._charts and self._sights[self.tab].seen:
            for chart in self._charts[self.tab].values():
                chart.update()

    def show(self, snapshot: Snapshot) -> None:
        """Hand a snapshot to the pane that wanted it."""
        if self.tab in self._panes:
            self._panes[self.tab].show(snapshot)

    def show_layer(self, number: int) -> None:
        """Turn to a layer, from 0."""
        for pane in self._panes.values():
            if not isinstance(pane, PlanePane):
                pane.show_layer(number)

    @property
    def example_pane(self) -> ExamplePane | None:
        """The pane of one example, if it was opened."""
        pane = self._panes.get("example")
        return pane if isinstance(pane, ExamplePane) else None

    def clear(self) -> None:
        """Forget the nets."""
        self.example = self.unit = None
        for pane in self._panes.values():
            pane.clear()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        self._dark = dark
        for charts in self._charts.values():
            for chart in charts.values():
                chart.recolour(dark=dark)
        for pane in self._panes.values():
            pane.recolour(dark=dark)

    def say(self, words: str) -> None:
        """What the open tab is about (markup)."""
        self._words.object = words

    def _opened(self, _event: object) -> None:
        self._show_place()
        self._on_open()

    def _show_place(self) -> None:
        if self.tab not in self._views:
            self._views[self.tab] = self._make(self.tab)
        self._place.objects = [self._views[self.tab]]

    def _make(self, tab: str) -> pn.viewable.Viewable:
        if tab in ("layers", "curves"):
            return self._make_charts(tab)
        pane: Pane
        if tab == "example":
            pane = ExamplePane(on_pick=self._on_pick, on_find=self._on_find)
        else:
            pane = WeightsPane() if tab == "weights" else PlanePane()
        pane.recolour(dark=self._dark)
        self._panes[tab] = pane
        view: pn.viewable.Viewable = pane.view
        return view

    def _make_charts(self, tab: str) -> pn.viewable.Viewable:
        def style(title: str, format_: str, **more: object) -> Style:
            layers = tab == "layers"
            slots = self._layers if layers else self._rules
            return Style(title=title, height=_HEIGHT, format=format_, slots=slots, layers=layers, **more)  # type: ignore[arg-type]

        share, degrees = {"ticks": _SHARES}, {"top": 180.0, "ticks": (0.0, 45.0, 90.0, 135.0, 180.0)}
        styles = {
            "layers": {
                "agreement": style("Sign agreement by layer", "0.0 %", mark=(0.5, "chance"), **share),
                "undefined": style("Share of signs that are undefined", "0.0 %", **share),
                "angle": style("Angle to the true gradient, degrees", "0.0", mark=(90, "unrelated"), **degrees),
                "ratio": style("Size of the update ÷ true gradient", "0.00", top=None),
                "saturation": style("Saturated activations", "0.0 %", **share),
            },
            "curves": {
                "evaluated train_loss": style("Loss on the training images", "0.0000", top=None),
                "evaluated validation_loss": style("Loss on the validation images", "0.0000", top=None),
                "evaluated validation": style("Accuracy on the validation images", "0.0 %", **share),
                "probed angle": style("Angle to the true gradient, degrees", "0.0", mark=(90, "unrelated"), **degrees),
            },
        }[tab]
        charts = {name: Chart(one, self._x) for name, one in styles.items()}
        self._charts[tab] = charts
        for chart in charts.values():
            chart.recolour(dark=self._dark)
        shown = pn.FlexBox(*map(_titled, charts.values()), sizing_mode="stretch_width", gap="6px 14px", margin=0)
        self._sights[tab] = Sight(self._on_sight)
        place = {"sizing_mode": "stretch_width", "margin": 0, "styles": {"position": "relative"}}
        return pn.Column(shown, self._sights[tab], **place)


def _titled(chart: Chart) -> pn.Column:
    return pn.Column(
        pn.pane.HTML(f"<h3>{chart.style.title}</h3>", stylesheets=[PANES], margin=0),
        pn.pane.Bokeh(chart.figure, sizing_mode="stretch_width", margin=0),
        styles={"flex": "1 1 300px", "min-width": "0"},
        margin=0,
    )
