"""The messages that wait for the page."""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from collections.abc import Callable, Collection

from mdfa_app.trainer.messages import Update

MOST = 2000
"""Messages that may wait for a slow page; then training waits, so that they do not fill the server's memory."""

NOTIFY_SECONDS = 0.13
"""Time between two notices to the page about measurements."""


class Notice(enum.IntEnum):
    """How soon the page hears that a message waits."""

    LATER = 0
    """With the next message of another kind."""
    DUE = 1
    """As soon as the browser keeps up: nobody waits for it."""
    NOW = 2
    """At once: a visitor waits for it."""


class Outbox:
    """A bounded queue. Until the page takes the messages, it is notified at most once of each kind of `Notice`.

    Args:
        changed: the trainer's lock; `take`, `clear` and `drop` need it held.
        notify: called without the lock.
    """

    def __init__(self, changed: threading.Condition, notify: Callable[[], None]) -> None:
        self._changed, self._notify = changed, notify
        self._updates: deque[Update] = deque()
        self._notified = Notice.LATER  # since something was taken
        self._notified_at = 0.0

    @property
    def due(self) -> bool:
        """Whether the last notice is so long ago that a measurement is worth another one."""
        return time.monotonic() - self._notified_at > NOTIFY_SECONDS

    @property
    def pressing(self) -> bool:
        """Whether the page was notified of a message that a visitor waits for."""
        return self._notified is Notice.NOW

    def send(self, update: Update, *, wanted: Callable[[], bool], closed: Callable[[], bool], notice: Notice) -> None:
        """Queue a message, once there is room for it, if it is still wanted then; and notify the page."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._updates) < MOST or closed())
            if closed() or not wanted():
                return
            self._updates.append(update)
        self.announce(notice)

    def announce(self, notice: Notice) -> None:
        """Notify the page if messages wait, unless it was notified in this way or a more urgent one."""
        with self._changed:
            if self._notified >= notice or not self._updates:
                return
            self._notified = notice
            self._notified_at = time.monotonic()
        self._notify()

    def take(self) -> list[Update]:
        """All messages, which leave the queue."""
        self._notified = Notice.LATER
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
