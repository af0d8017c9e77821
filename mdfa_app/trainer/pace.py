"""The pace of a training thread: pauses between mini-batches and measurements that cost time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from mdfa_app.settings.speeds import Speed

SHARE = 20
"""Work that took t seconds is repeated after SHARE × t at the earliest."""


class Pace:
    """Compares training with the chosen speed."""

    def __init__(self, speed: Speed, step: int) -> None:
        self._speed, self._step, self._since = speed, step, time.monotonic()

    def ahead(self, step: int) -> float:
        """Seconds to wait after mini-batch `step`."""
        if self._speed.steps_per_second is None:
            return 0.0
        now = time.monotonic()
        ahead = self._since + (step - self._step) / self._speed.steps_per_second - now
        if ahead < -0.5:  # training that fell behind does not catch up afterwards
            self._step, self._since = step, now
        return ahead


class Share:
    """Limits how often costly work is done.

    Args:
        seconds: the shortest time between two times.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._next = seconds, -math.inf
        self._clock, self._paid = time.monotonic, -math.inf

    def due(self) -> bool:
        """Whether the work may be done again."""
        return time.monotonic() >= self._next and self._clock() >= self._paid

    def took(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """The work was done and took this long.

        Args:
            seconds: by the clock.
            clock: which counts until the work may be done again. On a busy machine, `time.thread_time` counts the
                share of this thread's own time only.
        """
        self._next = time.monotonic() + self._seconds
        self._clock, self._paid = clock, clock() + SHARE * seconds
