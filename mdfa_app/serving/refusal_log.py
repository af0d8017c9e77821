"""One log line for each thing the server refuses, and a count in place of a flood of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

LINES = 5
"""Lines of one kind in `WINDOW_SECONDS`; further ones are counted."""
WINDOW_SECONDS = 60.0
LONGEST = 200
"""Characters of a line that a visitor can choose."""

_log = logging.getLogger(__name__)


class RefusalLog:
    """What was refused lately, by kind.

    Args:
        clock: seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._seen: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        """All refusals since the start, by kind."""

    def note(self, kind: str, address: str, detail: str = "") -> None:
        """Log that something was refused; `kind` is one of a few fixed phrases, `detail` may hold a visitor's words."""
        if self._clock() - self._since > WINDOW_SECONDS:
            self._report()
        self._seen[kind] += 1
        self.total[kind] += 1
        if self._seen[kind] <= LINES:
            words = ascii(f"{address}: {detail}"[:LONGEST])[1:-1]  # one line, no control characters
            _log.warning("refused %s from %s", kind, words)

    def _report(self) -> None:
        for kind, number in self._seen.items():
            if number > LINES:
                _log.warning("refused %s %d more times", kind, number - LINES)
        self._seen.clear()
        self._since = self._clock()
