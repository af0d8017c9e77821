"""The name of every line at its end. Names that would overlap move apart; a thin line leads from an end to its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.core.properties import value
from bokeh.models.annotations.labels import LabelSet
from bokeh.models.glyphs import Segment
from bokeh.models.sources import ColumnDataSource
from bokeh.plotting import figure

from mdfa_app.charts.axis import LEAD, Axis
from mdfa_core.base.colours import Palette

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
SIZE = "11px"
_PIXELS = 13  # of height that a name needs


@dataclass(frozen=True)
class End:
    """The end of a line, in data coordinates."""

    x: float
    y: float
    name: str
    colour: str


class Names:
    """The names in one chart.

    Attributes:
        source: the names as they are drawn: from the end `x0`, `y0` of its line a thin line leads to the name at
            `x`, `y`.
    """

    def __init__(self, chart: figure, pixels: float) -> None:
        self._pixels = pixels
        self.source = ColumnDataSource({"x0": [], "y0": [], "x": [], "y": [], "name": [], "colour": []})
        chart.add_glyph(self.source, Segment(x0="x0", y0="y0", x1="x", y1="y", line_color="colour", line_width=1))
        self._labels = LabelSet(
            x="x",
            y="y",
            text="name",
            text_color="colour",
            source=self.source,
            x_offset=3,
            text_baseline="middle",
            text_font=value(FONT),
            text_font_size=SIZE,
            text_font_style="bold",
        )
        chart.add_layout(self._labels)

    def show(self, ends: Sequence[End], axis: Axis, epochs: float) -> None:
        """Draw the names; `epochs` is the length of the axis of epochs."""
        ends = sorted(ends, key=lambda end: end.y)
        gap = min(_PIXELS / self._pixels, 1 / max(1, len(ends)))
        places = spread([axis.share(end.y) for end in ends], gap, gap / 2, 1 - gap / 2)
        columns: dict[str, list[Any]] = {
            "x0": [end.x for end in ends],
            "y0": [end.y for end in ends],
            "x": [end.x + LEAD * epochs for end in ends],
            "y": [axis.value(place) for place in places],
            "name": [end.name for end in ends],
            "colour": [end.colour for end in ends],
        }
        if columns != self.source.data:
            self.source.data = columns

    def recolour(self, palette: Palette) -> None:
        """Take the colours of a theme: a name hides the lines behind it."""
        self._labels.update(background_fill_color=palette.surface, background_fill_alpha=0.8)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move increasing places so that they are at least `gap` apart, and between `low` and `high` if they fit.

    Places that would overlap are centred on where they were, so that no place moves further than it must.
    """
    blocks: list[tuple[float, int]] = []  # mean and number of the places that stand close together

    def centre(mean: float, count: int) -> float:
        half = (count - 1) * gap / 2
        return min(max(mean, low + half), high - half) if 2 * half <= high - low else (low + high) / 2

    def near(block: tuple[float, int], other: tuple[float, int]) -> bool:
        return centre(*other) - centre(*block) < ((block[1] + other[1]) / 2 - 1e-9) * gap

    for place in places:
        block = (place, 1)
        while blocks and near(blocks[-1], block):
            mean, count = blocks.pop()
            both = count + block[1]
            block = ((mean * count + block[0] * block[1]) / both, both)
        blocks.append(block)
    return [centre(*block) + (number - (block[1] - 1) / 2) * gap for block in blocks for number in range(block[1])]
