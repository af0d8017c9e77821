"""What the visitors of one server share: its memory, and the places to train at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.limits import LIMITS
from mdfa_core.errors import InvalidValue


class Memory:
    """The memory of all runs of this process together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, bytes_: int) -> None:
        """Count a run in.

        Raises:
            InvalidValue: there is no room.
        """
        with self._lock:
            if self.taken + bytes_ > self.limit:
                raise InvalidValue(
                    "the other visitors' runs fill this server's memory: choose a smaller network or try again later"
                )
            self.taken += bytes_

    def give_back(self, bytes_: int) -> None:
        """Count a run out."""
        with self._lock:
            self.taken -= bytes_


class Places:
    """The places to train at, given in the order of asking."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._queue: list[object] = []
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def taken(self) -> int:
        """How many train."""
        return self.count - self._free

    @contextmanager
    def asked(self) -> Iterator[Ticket]:
        """Ask for a place; it, or the place in the queue, is given back at the end of the block."""
        ticket = Ticket(self)
        with self._changed:
            self._queue.append(ticket)
        try:
            yield ticket
        finally:
            with self._changed:
                if ticket.given:
                    self._free += 1
                else:
                    self._queue.remove(ticket)
                self._changed.notify_all()


class Ticket:
    """A session's turn for a training place."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.given = False

    @property
    def before(self) -> int:
        """How many are earlier in the queue."""
        queue = self._places._queue
        return queue.index(self) if self in queue else 0

    def wait(self, seconds: float) -> bool:
        """Take a place as soon as it is this ticket's turn; False after so many seconds without one."""
        places = self._places
        with places._changed:
            places._changed.wait_for(lambda: places._free > 0 and places._queue[0] is self, timeout=seconds)
            if places._free > 0 and places._queue[0] is self:
                places._queue.pop(0)
                places._free -= 1
                self.given = True
                places._changed.notify_all()
        return self.given


MEMORY = Memory(LIMITS.server_bytes)
PLACES = Places(LIMITS.trainings)
