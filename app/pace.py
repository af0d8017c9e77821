"""How fast to train, and how often to do what costs time."""

from __future__ import annotations

import time
from dataclasses import dataclass

BREATH = 0.0015
"""Seconds that training at full speed leaves to the page after every round."""

SHARE = 20
"""What took t seconds is not repeated before SHARE × t."""


@dataclass(frozen=True)
class Speed:
    """How fast to train: at most so many mini-batches a second."""

    title: str
    steps_per_second: float | None

    @property
    def round(self) -> int:
        """Mini-batches between two reports: often enough to look smooth."""
        return 1 if self.steps_per_second is None else max(1, int(self.steps_per_second // 15))


SPEEDS = {
    "slowest": Speed("1 step / s", 1),
    "slow": Speed("4 steps / s", 4),
    "normal": Speed("20 steps / s", 20),
    "fast": Speed("100 steps / s", 100),
    "max": Speed("full speed", None),
}


class Pace:
    """How far training is ahead of its speed."""

    def __init__(self, speed: Speed, step: int) -> None:
        self._speed, self._step, self._since = speed, step, time.monotonic()

    def ahead(self, step: int) -> float:
        """Seconds to wait after mini-batch `step`."""
        if self._speed.steps_per_second is None:
            return BREATH
        now = time.monotonic()
        ahead = self._since + (step - self._step) / self._speed.steps_per_second - now
        if ahead < -0.5:  # what is too slow for this speed does not hurry afterwards
            self._step, self._since = step, now
        return ahead


class Share:
    """When something that costs time may be done again."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, -float("inf")

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def took(self, seconds: float) -> None:
        self._next = time.monotonic() + max(self._seconds, SHARE * seconds)
