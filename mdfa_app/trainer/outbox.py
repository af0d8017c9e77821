"""The messages that wait for the page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection

from mdfa_app.trainer.messages import Update

MOST = 2000
"""Messages that may wait for a slow page; then training waits, so that they do not fill the server's memory."""

NOTIFY_SECONDS = 0.13
"""Time between two notices to the page about measurements."""


class Outbox:
    """A bounded queue with at most one notice to the page that something waits.

    Args:
        changed: the trainer's lock; `take`, `clear` and `drop` need it held.
        notify: called without the lock.
    """

    def __init__(self, changed: threading.Condition, notify: Callable[[], None]) -> None:
        self._changed, self._notify = changed, notify
        self._updates: deque[Update] = deque()
        self._notified = False  # and nothing was taken since
        self._notified_at = 0.0

    @property
    def due(self) -> bool:
        """Whether the last notice is so long ago that a measurement is worth another one."""
        return time.monotonic() - self._notified_at > NOTIFY_SECONDS

    def send(self, update: Update, *, wanted: Callable[[], bool], closed: Callable[[], bool], notify: bool) -> None:
        """Queue a message, once there is room for it, if it is still wanted then; and notify the page if asked to."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._updates) < MOST or closed())
            if closed() or not wanted():
                return
            self._updates.append(update)
        if notify:
            self.announce()

    def announce(self) -> None:
        """Notify the page if messages wait and it was not notified yet."""
        with self._changed:
            if self._notified or not self._updates:
                return
            self._notified = True
            self._notified_at = time.monotonic()
        self._notify()

    def take(self) -> list[Update]:
        """All messages, which leave the queue."""
        self._notified = False
        updates = list(self._updates)
        self._updates.clear()
        self._changed.notify_all()
        return updates

    def clear(self) -> None:
        """Drop all messages."""
        self._updates.clear()

    def drop(self, lanes: Collection[str]) -> None:
        """Drop the messages about these lanes."""
        self._updates = deque(update for update in self._updates if update.lane not in lanes)
