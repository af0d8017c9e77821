"""How fast to train, and how often to do what costs time."""

from __future__ import annotations

import time
from dataclasses import dataclass

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
            return 0.0
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


class Threads:
    """How many threads train fastest: one, or all there are.

    A second thread nearly doubles a large net's speed on an idle machine, and on a busy one makes it many times slower,
    since each product waits for the slower half. So both are tried for a moment, and tried again after a while.
    """

    TRIED, KEPT = 0.4, 20.0  # seconds

    def __init__(self) -> None:
        self._most = 1
        self._steps: dict[int, int] = {}
        self._seconds: dict[int, float] = {}
        self._best: int | None = None
        self._kept = 0.0

    def choose(self, most: int) -> int:
        """The number to train with now, if there are so many."""
        if most != self._most:
            self._most = most
            self._begin()
        if most == 1:
            return 1
        if self._best is not None:
            return self._best
        return min((1, most), key=lambda count: self._seconds.get(count, 0.0))

    def took(self, threads: int, steps: int, seconds: float) -> None:
        """So many mini-batches took so long with so many threads."""
        if self._best is not None:
            self._kept += seconds
            if self._kept > self.KEPT:
                self._begin()
            return
        self._steps[threads] = self._steps.get(threads, 0) + steps
        self._seconds[threads] = self._seconds.get(threads, 0.0) + seconds
        if all(self._seconds.get(count, 0.0) > self.TRIED for count in (1, self._most)):
            self._best = max((1, self._most), key=lambda count: self._steps[count] / self._seconds[count])

    def _begin(self) -> None:
        self._steps, self._seconds, self._best, self._kept = {}, {}, None, 0.0
