"""Charts side by side that are drawn less often while they are out of sight."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import panel as pn

from mdfa_app.charts.chart import Chart, Style
from mdfa_app.charts.live import Markup, ViewportWatcher
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.tabs.tab import Host

HEIGHT = 168
"""Pixels of one chart."""
DEGREES = (0.0, 45.0, 90.0, 135.0, 180.0)
"""Ticks of an axis of angles."""


REST_SECONDS = 2.0
"""Between two drawings of charts out of sight, so that they are not blank when the page is printed."""


class ChartGrid:
    """Charts by name. Drawing is most of what a browser does while a net trains, so charts out of sight rest.

    Args:
        styles: of the charts, by name.
        page: the page that holds them.

    Attributes:
        charts: by name.
        watcher: knows whether they are in sight.
        view: what is shown.
    """

    def __init__(self, styles: Mapping[str, Style], page: Host) -> None:
        self.charts = {name: Chart(style, page.epochs) for name, style in styles.items()}
        self.watcher = ViewportWatcher(page.refresh)
        self._drawn = time.monotonic()
        titled = (_titled(chart, page) for chart in self.charts.values())
        boxes = pn.FlexBox(*titled, sizing_mode="stretch_width", gap="6px 14px", margin=0)
        self.view = pn.Column(
            boxes, self.watcher, sizing_mode="stretch_width", margin=0, styles={"position": "relative"}
        )

    def due(self) -> Iterator[tuple[str, Chart]]:
        """The charts by name if they are in sight or have rested; nothing otherwise."""
        now = time.monotonic()
        if self.watcher.in_view or now - self._drawn >= REST_SECONDS:
            self._drawn = now
            yield from self.charts.items()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        for chart in self.charts.values():
            chart.recolour(dark=dark)


def _titled(chart: Chart, page: Host) -> pn.Column:
    """A chart below its title; an axis that fits the lines can be made logarithmic."""
    title: pn.viewable.Viewable = Markup(f"<h3>{chart.style.title}</h3>", stylesheets=[PANES], margin=0)
    if chart.style.top is None:
        choice = pn.widgets.Toggle(
            label="log axis", value=chart.style.log, stylesheets=[WIDGETS], css_classes=["small"], margin=0, width=64
        )
        choice.param.watch(lambda event: page.soon(lambda: chart.set_log(event.new)), "value")
        title = pn.Row(title, pn.Spacer(sizing_mode="stretch_width"), choice, sizing_mode="stretch_width", margin=0)
    return pn.Column(
        title,
        pn.pane.Bokeh(chart.figure, sizing_mode="stretch_width", margin=0),
        styles={"flex": "1 1 220px", "min-width": "0"},
        margin=0,
    )
