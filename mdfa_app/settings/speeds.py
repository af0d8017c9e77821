"""The speeds of training that a visitor can choose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """A limit on the mini-batches trained per second.

    Attributes:
        title: its name on the page.
        steps_per_second: the limit; None for full speed.
    """

    title: str
    steps_per_second: float | None

    @property
    def round(self) -> int:
        """Mini-batches between two reports: often enough that the curves move smoothly."""
        return 1 if self.steps_per_second is None else max(1, int(self.steps_per_second // 15))


SPEEDS = {
    "slowest": Speed("1 step / s", 1),
    "slow": Speed("4 steps / s", 4),
    "normal": Speed("20 steps / s", 20),
    "fast": Speed("100 steps / s", 100),
    "max": Speed("full speed", None),
}
"""Every speed by its name in links."""
