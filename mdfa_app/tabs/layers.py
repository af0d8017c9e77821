"""The tab Layers: curves of every hidden layer of the drawn net."""

from __future__ import annotations

from typing import Any

from mdfa_app.charts.chart import SHARES, Style
from mdfa_app.comparison.history import Series
from mdfa_app.settings.limits import LIMITS
from mdfa_app.settings.words import level_title
from mdfa_app.tabs.chart_grid import DEGREES, HEIGHT, ChartGrid
from mdfa_app.tabs.tab import Host, Tab


def _style(title: str, format_: str, **more: Any) -> Style:
    return Style(title=title, height=HEIGHT, format=format_, slots=LIMITS.hidden_layers, layers=True, **more)


STYLES = {
    "agreement": _style("Sign agreement by layer", "0.0 %", mark=(0.5, "chance"), from_mark=True, ticks=SHARES),
    "undefined": _style("Share of undefined signs", "0.0 %", ticks=SHARES),
    "angle": _style("Angle to the true gradient, degrees", "0.0", mark=(90, "chance"), top=180.0, ticks=DEGREES),
    "ratio": _style("Size of the update ÷ true gradient", "0.00", top=None, log=True),
    "saturation": _style("Saturated activations", "0.0 %", ticks=SHARES),
}
"""The charts by quantity of `History.probed`; the first two exist for every level of agreement."""


class LayersTab(Tab):
    """One line per hidden layer."""

    name, title = "layers", "Layers"
    has_layers = True

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self.grid = ChartGrid(STYLES, page)
        self.view = self.grid.view

    def about(self) -> str:
        comparison = self.page.comparison
        title, level = comparison.title(comparison.drawn), level_title(comparison.level)
        return f"The hidden layers of the {title} network. Sign agreement is measured on {level}."

    def update(self) -> None:
        comparison = self.page.comparison
        curve, level = comparison.drawn_lane.history.probed, comparison.level
        columns = {"agreement": level, "undefined": f"undefined_{level}"}
        for name, chart in self.grid.due():
            column = columns.get(name, name)
            numbers = range(comparison.hidden_layers)
            chart.show({n: Series(curve, f"{column}{n}", f"L{n + 1}") for n in numbers}, {})

    def recolour(self, *, dark: bool) -> None:
        self.grid.recolour(dark=dark)
