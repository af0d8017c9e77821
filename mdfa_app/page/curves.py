"""The charts beside the stage: one line per rule, with the previous and the pinned runs in grey."""

from __future__ import annotations

from typing import Any

import panel as pn

from mdfa_app.charts.axis import Epochs
from mdfa_app.charts.chart import SHARES, Chart, Style
from mdfa_app.charts.live import Markup, assign
from mdfa_app.charts.style import PANES
from mdfa_app.comparison.comparison import Comparison
from mdfa_app.settings.words import LEVEL_CHOICES
from mdfa_app.tabs.tab import muted

_STYLE: dict[str, Any] = {"height": 184, "format": "0.0 %", "ticks": SHARES, "mark": (0.5, "chance"), "from_mark": True}


class Curves:
    """Three charts, and the axis of epochs that all charts of the page share.

    Attributes:
        charts: by name.
        epochs: the axis.
    """

    def __init__(self, slots: int) -> None:
        self.epochs = Epochs()
        styles = {
            "agreement": Style(title="Error signals with the right sign", slots=slots, **_STYLE),
            "updates": Style(title="Updates with the right sign", slots=slots, **_STYLE),
            "accuracy": Style(title="Training accuracy", slots=slots, **_STYLE),
        }
        self.charts = {name: Chart(style, self.epochs) for name, style in styles.items()}
        self._updates = Markup("", stylesheets=[PANES], margin=0)
        self._bands = Markup("", stylesheets=[PANES], sizing_mode="stretch_width", margin=0)

    def parts(self) -> dict[str, Any]:
        """The charts by the names that layouts use, and the title of the one that changes."""
        return {
            "updates_title": self._updates,
            "bands": self._bands,
            **{
                name: pn.pane.Bokeh(chart.figure, sizing_mode="stretch_width", margin=0)
                for name, chart in self.charts.items()
            },
        }

    @property
    def bands(self) -> str:
        """The markup of the sentence on several seeds; empty for one."""
        return str(self._bands.object)

    def show(self, comparison: Comparison) -> None:
        """Draw the comparison as it is now; only what differs is sent to the browser."""
        self.charts["agreement"].show(*comparison.series("probed", "unit"))
        level = comparison.updates_level
        self.charts["updates"].show(*comparison.series("probed", level))
        title = self.charts["updates"].style.title
        assign(self._updates, object=f'<h3>{title} <span class="muted">{LEVEL_CHOICES[level].lower()}</span></h3>')
        self.charts["accuracy"].show(*comparison.series("evaluated", "train"), mark=1 / comparison.experiment.classes)
        assign(self._bands, object=_about_bands(comparison))
        live = max((lane.history.end for lane in comparison.lanes.values()), default=0.0)
        longest = max(4, *(len(comparison.title(name)) for name in comparison.lanes))
        self.epochs.fit(live, comparison.longest_before, longest)

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        for chart in self.charts.values():
            chart.recolour(dark=dark)


def _about_bands(comparison: Comparison) -> str:
    """A sentence on what lines and bands are if there are several seeds, and on seeds that are left out."""
    if comparison.seeds == 1:
        return ""
    first, count = comparison.experiment.seed, comparison.seeds
    text = f"Lines: mean of {count} seeds from {first} on. Bands: lowest to highest. Networks shown: seed {first}."
    lost = {comparison.title(name): lane.diverged for name, lane in comparison.lanes.items() if lane.diverged}
    for title, seeds in lost.items():
        text += f" {title}: {seeds} of {count} seeds diverged and {'are' if seeds > 1 else 'is'} left out."
    return muted(text)
