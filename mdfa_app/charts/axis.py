"""The axes of a chart: of its quantity, linear or logarithmic, and of the epochs, which many charts share."""

from __future__ import annotations

import math
from typing import cast

from bokeh.models.ranges import Range1d

from mdfa_app.charts.crosshair import Crosshair

LEAD = 0.03
"""From the end of a line to its name, as a share of the axis of epochs."""

_DECADES = 12  # at most, on a logarithmic axis
_LOG_TICKS = 6  # spaces between the ticks of a logarithmic axis, at most
_LETTER = 8.5  # pixels of a letter of a name, of which most are capitals
_NARROWEST = 236  # pixels of the axis of epochs in a window of 1280 pixels
_MOST_ROOM = 0.4  # for names, as a share of the axis


class Axis:
    """The axis of a chart's quantity: it shows every value it was told, and changes in steps.

    Args:
        top: end of the linear axis; None fits it to the values.
        log: whether it is logarithmic.

    Attributes:
        log: whether it is logarithmic; `fit` follows a change.
        start, end: where it begins and ends.
        range: the same as Bokeh's range.
    """

    def __init__(self, top: float | None, *, log: bool) -> None:
        self._top, self.log = top, log
        self._low = self._least = math.inf  # of all values, and of those above 0
        self._high = -math.inf
        self.start, self.end = 0.0, 1.0
        self.range = Range1d(start=0, end=1)
        self.fit()

    def forget(self) -> None:
        """Forget all values."""
        self._low = self._least = math.inf
        self._high = -math.inf

    def note(self, values: list[float]) -> None:
        """Take values into account; those that are NaN or infinite have no place on an axis."""
        finite = [value for value in values if math.isfinite(value)]
        self._low, self._high = min([self._low, *finite]), max([self._high, *finite])
        self._least = min([self._least, *(value for value in finite if value > 0)])

    def fit(self, chance: float | None = None) -> None:
        """Fit the range to the values; a linear axis of shares begins near `chance` if no value is far below it."""
        top = self._top or round_up(max(self._high, 0.1))
        start, end = self._decades() if self.log else (self._bottom(chance), top)
        if (self.start, self.end) != (start, end):
            self.start, self.end = start, end
            self.range.update(start=start, end=end)

    def share(self, value: float) -> float:
        """The place of a value on the axis: 0 at its start, 1 at its end; values beyond are at an end."""
        start, end = self.start, self.end
        if self.log:
            value, start, end = (math.log10(max(number, start)) for number in (value, start, end))
        return min(1.0, max(0.0, (value - start) / (end - start)))

    def value(self, share: float) -> float:
        """The value at a place."""
        start, end = self.start, self.end
        return start * (end / start) ** share if self.log else start + share * (end - start)

    @property
    def log_ticks(self) -> list[float]:
        """Ticks of the logarithmic axis, as many as have room: 1, 2 and 5 in up to two decades, or powers of ten."""
        first, last = round(math.log10(self.start)), round(math.log10(self.end))
        if last - first <= 2:
            ticks = [10.0**decade * factor for decade in range(first, last + 1) for factor in (1, 2, 5)]
            return [tick for tick in ticks if tick <= self.end * 1.001]
        return [10.0**decade for decade in range(first, last + 1, math.ceil((last - first) / _LOG_TICKS))]

    def _bottom(self, chance: float | None) -> float:
        if chance is None:
            return 0.0
        starts = (chance - 0.06, chance - 0.2)
        return next((start for start in starts if start > 0.1 and self._low >= start + 0.02), 0.0)

    def _decades(self) -> tuple[float, float]:
        if not 0 < self._least <= self._high:
            return 0.1, 10.0
        first, last = math.floor(math.log10(self._least)), math.ceil(math.log10(self._high))
        last = max(last, first + 1)
        return 10.0 ** max(first, last - _DECADES), 10.0**last


class Epochs:
    """The axis of epochs that charts share: long enough for every line; it changes in steps.

    Attributes:
        range: Bokeh's range. A visitor may zoom it; it stays zoomed until the visitor goes back.
        crosshair: the line through all charts.
    """

    def __init__(self) -> None:
        self.range = Range1d(start=0, end=5, reset_start=0, reset_end=5)
        self.crosshair = Crosshair()

    @property
    def shown(self) -> tuple[float, float]:
        """The epochs at which the axis begins and ends."""
        return cast(float, self.range.start), cast(float, self.range.end)

    def fit(self, live: float, before: float, longest: int = 4) -> None:
        """Fit the axis to runs that end there; a long run before does not squeeze a young run into the corner.

        Args:
            live: the last epoch of the current run.
            before: that of all earlier runs.
            longest: characters of the longest name of a line: the names have room at the end.
        """
        if live:
            before = min(before, max(25.0, 4 * live))
        room = min(_MOST_ROOM, LEAD + (4 + _LETTER * longest) / _NARROWEST)
        end = round_up(max(live / (1 - room), before, 5))
        if self.range.reset_end == end:
            return
        zoomed = self.shown != (0, self.range.reset_end)
        self.range.reset_end = end
        if not zoomed:
            self.range.end = end


def round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7.5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 1.5, 2, 3, 5, 7.5, 10) if power * factor >= value * 0.999)
