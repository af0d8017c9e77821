"""The tab Loss and angle: curves of every network, with the previous runs in grey."""

from __future__ import annotations

from typing import Any

from mdfa_app.charts.chart import SHARES, Style
from mdfa_app.tabs.chart_grid import DEGREES, HEIGHT, ChartGrid
from mdfa_app.tabs.tab import Host, Tab

CHARTS: dict[tuple[str, str], dict[str, Any]] = {
    ("evaluated", "train_loss"): {"title": "Training loss", "format": "0.0000", "top": None},
    ("evaluated", "validation_loss"): {"title": "Validation loss", "format": "0.0000", "top": None},
    ("evaluated", "validation"): {
        "title": "Validation accuracy",
        "format": "0.0 %",
        "mark": (0.5, "chance"),
        "from_mark": True,
        "ticks": SHARES,
    },
    ("probed", "angle"): {
        "title": "Angle to the true gradient, degrees",
        "format": "0.0",
        "mark": (90, "chance"),
        "top": 180.0,
        "ticks": DEGREES,
    },
}
"""The styles of the charts by curve and column of a `History`."""


class CurvesTab(Tab):
    """One line per rule."""

    name, title = "curves", "Loss and angle"

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        slots = len(page.comparison.rules)
        styles = {
            f"{curve} {column}": Style(height=HEIGHT, slots=slots, **style) for (curve, column), style in CHARTS.items()
        }
        self.grid = ChartGrid(styles, page)
        self.view = self.grid.view

    def about(self) -> str:
        return "All compared rules. Previous runs are grey."

    def update(self) -> None:
        comparison = self.page.comparison
        for name, chart in self.grid.due():
            curve, column = name.split()
            mark = 1 / comparison.experiment.classes if column == "validation" else None
            chart.show(*comparison.series(curve, column), mark=mark)

    def recolour(self, *, dark: bool) -> None:
        self.grid.recolour(dark=dark)
