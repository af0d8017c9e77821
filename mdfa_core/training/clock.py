"""How often a run reports: `Every` names an interval, `Clock` says when the interval has passed."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

from mdfa_core.base.errors import InvalidValue


@dataclass(frozen=True, kw_only=True)
class Every:
    """An interval: a number of mini-batches, of epochs, or of seconds. Give exactly one of the three.

    A report is always due after the last mini-batch of a run. With seconds, a report is also due after the first one,
    and the other reports come at other mini-batches each time the experiment is repeated; training itself is the same.

    Args:
        steps: mini-batches, at least 1.
        epochs: passes over the training images, at least 1.
        seconds: seconds of wall-clock time, more than 0.

    Raises:
        InvalidValue: none or several of the three are given, or the one given is not positive.
    """

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) != 1:
            raise InvalidValue(f"Every got {given or 'nothing'}: give exactly one of steps, epochs and seconds")
        ((name, value),) = given.items()
        kinds = (int, float) if name == "seconds" else (int,)
        if not isinstance(value, kinds) or isinstance(value, bool) or not value > 0 or not math.isfinite(value):
            raise InvalidValue(
                f"Every got {name}={value!r}: give a positive {'number' if name == 'seconds' else 'integer'}"
            )


class Clock:
    """Says after each mini-batch whether a report is due.

    Args:
        every: the interval between two reports; None means no report at all.
        share: the largest share of the time that reports may take, as far as `took` says how long they take. It
            stretches intervals in seconds only.
    """

    def __init__(self, every: Every | None, *, share: float = 1.0) -> None:
        self.every, self._share = every, share
        self._next = -math.inf

    def due(self, step: int, epoch: int, *, epoch_ends: bool, run_ends: bool) -> bool:
        """Whether a report is due after mini-batch `step` (from 1) of epoch `epoch` (from 1)."""
        if self.every is None:
            return False
        if run_ends:
            return True
        if self.every.steps is not None:
            return step % self.every.steps == 0
        if self.every.epochs is not None:
            return epoch_ends and epoch % self.every.epochs == 0
        assert self.every.seconds is not None
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.every.seconds
        return True

    def took(self, seconds: float) -> None:
        """A report was made and took this long."""
        self._next = max(self._next, time.monotonic() + seconds * (1 / self._share - 1))
