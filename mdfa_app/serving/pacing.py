"""How often a browser gets news of training: a slow one less often, so that a click does not wait behind old news.

Without a limit, messages that come faster than a browser draws them wait in its event loop, and a click's answer waits
behind them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import param

from mdfa_app.charts.live import Component

ASK_SECONDS = 1.0
"""Between two updates that a fast browser acknowledges: each acknowledgement costs the server some milliseconds."""
SLOW_SECONDS = 0.15
"""A browser is slow if its acknowledgement takes so much longer than its fastest one."""
MOST_REST_SECONDS = 1.0
"""The longest rest of a slow browser between two updates."""
PATIENCE_SECONDS = 5.0
"""After so long, an acknowledgement is not waited for any longer: the browser may have lost the update."""


class Pacing:
    """Decides when the next update may be sent, from the time that acknowledgements take.

    At most one acknowledgement is awaited. A fast browser acknowledges one update a second, a slow browser each one. A
    slow browser then rests for as long as drawing took, so that it has time for clicks.

    Args:
        clock: seconds from any origin.

    Attributes:
        number: of the update that was to be acknowledged last.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = False  # whether there is a browser that acknowledges
        self.number = 0
        self._awaited_since: float | None = None
        self._asked_at = self._rests_until = -ASK_SECONDS
        self._fastest = float("inf")
        self._slow = False

    def ask(self) -> bool:
        """Whether the update that is sent now is to be acknowledged; if so, its number is `number`."""
        now = self._clock()
        if not self._begun or self._awaits(now) or not (self._slow or now - self._asked_at >= ASK_SECONDS):
            return False
        self.number += 1
        self._asked_at = self._awaited_since = now
        return True

    def answered(self, number: int) -> float:
        """The browser has drawn an update, or it begins with number 0; returns the seconds until it is `free`."""
        now = self._clock()
        if number == 0:
            self._begun, self._awaited_since = True, None
        elif number == self.number and self._awaited_since is not None:
            took = now - self._awaited_since
            self._awaited_since = None
            self._fastest = min(self._fastest, took)
            late = took - self._fastest
            self._slow = late > SLOW_SECONDS
            self._rests_until = now + (min(late, MOST_REST_SECONDS) if self._slow else 0.0)
        return max(0.0, self._rests_until - now)

    @property
    def free(self) -> bool:
        """Whether an update that nobody waits for may be sent."""
        now = self._clock()
        return not self._awaits(now) and now >= self._rests_until

    def _awaits(self, now: float) -> bool:
        return self._awaited_since is not None and now - self._awaited_since < PATIENCE_SECONDS


class Drawn(Component):
    """The browser's half: it sends the number of an update back after it has drawn it.

    Args:
        on_drawn: called with the number, first with 0; it comes from a browser, so it may be any number.
    """

    number = param.Integer(default=0, doc="Of the newest update that is to be acknowledged.")

    _esm = """
export function render({ model }) {
  const tell = () => model.send_msg(model.number);
  // A browser draws nothing while the page is out of sight.
  model.on("number", () => document.hidden ? tell() : requestAnimationFrame(() => setTimeout(tell)));
  model.send_msg(0);
  const span = document.createElement("span");
  span.hidden = true;
  return span;
}
"""

    def __init__(self, on_drawn: Callable[[int], None]) -> None:
        super().__init__(width=0, height=0, margin=0)
        self._on_drawn = on_drawn

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, int) and not isinstance(data, bool):
            self._on_drawn(data)
