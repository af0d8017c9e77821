"""What the visitors of one server share: its memory, and the slots for training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mdfa_app.settings.limits import LIMITS, server_memory
from mdfa_core.base import machine
from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.capacity import in_words

_RELEASE_SECONDS = 2.0
"""How long a run waits for the memory of a page that was ended for it."""


class Memory:
    """The memory of all runs of this process together.

    Args:
        limit: the bytes that all runs may take now; it may change with the machine.
        free: the bytes that are free now.

    Attributes:
        taken: bytes that are reserved.
        make_room: called from any thread when a run does not fit. It ends the page that has been abandoned for longest
            and returns True, or returns False if there is none. A server sets it.
    """

    def __init__(self, limit: Callable[[], int], free: Callable[[], int] = machine.free_memory) -> None:
        self.limit, self.free = limit, free
        self.taken = 0
        self.make_room: Callable[[], bool] = lambda: False
        self._released = 0  # times
        self._changed = threading.Condition()

    def reserve(self, bytes_: int) -> None:
        """Reserve memory for a run, after abandoned pages were ended if it does not fit otherwise.

        Raises:
            InvalidValue: there is not enough left.
        """
        while not self._fitted(bytes_):
            if bytes_ > (limit := self.limit()):
                raise InvalidValue(
                    f"this run needs about {in_words(bytes_)}, and this server has {in_words(limit)} for all runs: "
                    f"choose a smaller network"
                )
            released = self._released
            if not self.make_room():
                raise InvalidValue(
                    "the other visitors' runs fill this server's memory: choose a smaller network or try again later"
                )
            with self._changed:  # the page's thread ends after its mini-batch
                if self._released == released:
                    self._changed.wait(_RELEASE_SECONDS)

    def _fitted(self, bytes_: int) -> bool:
        """Reserve memory if there is enough."""
        with self._changed:
            fits = bytes_ <= 0 or (self.taken + bytes_ <= self.limit() and bytes_ <= self.free())
            if fits:
                self.taken += bytes_
            return fits

    def release(self, bytes_: int) -> None:
        """Release memory that was reserved."""
        with self._changed:
            self.taken -= bytes_
            self._released += 1
            self._changed.notify_all()


class Slots:
    """The slots for training, given in the order of asking.

    Attributes:
        count: how many sessions may train at the same time.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._queue: list[object] = []
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """The number of sessions in the queue."""
        return len(self._queue)

    @property
    def taken(self) -> int:
        """The number of sessions that train."""
        return self.count - self._free

    @contextmanager
    def queued(self) -> Iterator[Ticket]:
        """Wait in the queue for a slot; the slot, or the place in the queue, is given up at the end of the block."""
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
    """A place in the queue for a slot.

    Attributes:
        given: whether its slot was given to it.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.given = False

    @property
    def ahead(self) -> int:
        """The number of sessions ahead in the queue."""
        queue = self._slots._queue
        return queue.index(self) if self in queue else 0

    def wait(self, seconds: float) -> bool:
        """Take a slot as soon as it is this ticket's turn; False if there was none within this time."""
        slots = self._slots
        with slots._changed:
            slots._changed.wait_for(lambda: slots._free > 0 and slots._queue[0] is self, timeout=seconds)
            if slots._free > 0 and slots._queue[0] is self:
                slots._queue.pop(0)
                slots._free -= 1
                self.given = True
                slots._changed.notify_all()
        return self.given


MEMORY = Memory(server_memory)
SLOTS = Slots(LIMITS.trainings)
