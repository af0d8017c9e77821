"""Bounds on what a browser sends: heads, bodies, connections, and the messages of a websocket.

A page's browser sends clicks, values of controls and sizes of charts. The largest message seen in all tests has under
2 kB, the widest control takes a text of some hundred characters, and no message has binary buffers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tornado.iostream import IOStream

HEAD_BYTES = 32 * 1024
"""Of a request's head; Bokeh's token is in that of the websocket, and JupyterHub's cookies may be."""
HEAD_SECONDS = 15.0
"""For a whole head, and how long an idle connection is kept."""
BODY_BYTES = 4096
"""Of a request's body; no request of the page has one."""
BODY_SECONDS = 5.0
READ_BYTES = 1024 * 1024
"""Read of one connection and not yet used."""

CONNECTIONS = 400
"""Open at once."""
CONNECTIONS_OF_ADDRESS = 120
"""Open at once from one address, unless a proxy is in front."""
ANSWER_SECONDS = 120.0
"""Once connections are scarce, how old an answer must be that is still being read to make room."""

MESSAGE_BYTES = 256 * 1024
"""Of one message, with its buffers."""
HEADER_BYTES = 1024
"""Of a message's header, and of its metadata."""
BUFFERS = 8
"""Binary buffers that one message may announce."""
EVENTS = 1000
"""Changes in one message."""
VALUES_BYTES = 256 * 1024
"""Of all values of one page that browsers have set."""
MESSAGES = ("PATCH-DOC", "PULL-DOC-REQ", "SERVER-INFO-REQ")
"""What a browser may send: a change, a request for the page, a request for versions. No browser replaces the page."""
CHANGES = ("ModelChanged", "MessageSent")
"""Changes a browser may make: a value, or an event. It adds nothing to the page."""

PING_SECONDS = 60.0
"""Between two pings of a websocket; a browser that does not answer one before the next is gone, or does not read."""
SHARE = 0.25
"""Of the server's time that one connection gets in the long run."""
CREDIT_SECONDS = 5.0
"""Of the server's time that one connection may take at once."""
FRAGMENT_SECONDS = 0.001
"""What a fragment of a message costs at least: 250 a second in the long run."""


class Unacceptable(Exception):
    """A browser sent something out of bounds."""


@dataclass
class MessageMeter:
    """Follows the fragments of one connection's messages, and refuses before they are kept.

    A message is a header, metadata, content, and for each buffer a header and the data.
    """

    _fragment: int = 0
    _bytes: int = 0
    _fragments: int = 3

    def take(self, fragment: str | bytes) -> None:
        """Count a fragment.

        Raises:
            Unacceptable: if it is out of bounds.
        """
        self._bytes += len(fragment.encode()) if isinstance(fragment, str) else len(fragment)
        if self._fragment < 2 and len(fragment) > HEADER_BYTES:
            raise Unacceptable(f"a header of {len(fragment)} bytes; {HEADER_BYTES} are allowed")
        if self._bytes > MESSAGE_BYTES:
            raise Unacceptable(f"a message of more than {MESSAGE_BYTES} bytes")
        if self._fragment == 0:
            self._fragments = 3 + 2 * _announced(fragment)
        self._fragment += 1
        if self._fragment == self._fragments:
            self._fragment = self._bytes = 0


def _announced(header: str | bytes) -> int:
    try:
        read = json.loads(header)
    except (ValueError, RecursionError):
        raise Unacceptable("a header that is not JSON") from None
    buffers = read.get("num_buffers", 0) if isinstance(read, dict) else None
    if type(buffers) is not int or not 0 <= buffers <= BUFFERS:
        raise Unacceptable(f"a header that announces no number of buffers up to {BUFFERS}")
    return buffers


@dataclass
class SetValues:
    """How much browsers have set in one page: each value stays in the server's memory until it is set again."""

    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    _sum: int = 0

    def change(self, model: str, attribute: str, value: object) -> None:
        """Count a value.

        Raises:
            Unacceptable: if the page's values come to too much.
        """
        size = len(model) + len(attribute) + len(json.dumps(value))
        before = self._sizes.get((model, attribute), 0)
        if self._sum - before + size > VALUES_BYTES:
            raise Unacceptable(f"values of more than {VALUES_BYTES} bytes in one page")
        self._sizes[model, attribute] = size
        self._sum += size - before


def check_message(kind: str, content: Any, values: SetValues) -> None:
    """Refuse a message that no browser with the page would send.

    Args:
        kind: its type.
        content: as read from JSON.
        values: of the page that it is for.

    Raises:
        Unacceptable: if it is out of bounds.
    """
    if kind not in MESSAGES:
        raise Unacceptable(f"a message {kind}; a page sends {', '.join(MESSAGES)}")
    if kind != "PATCH-DOC":
        return
    events = content.get("events") if isinstance(content, dict) else None
    if not isinstance(events, list) or len(events) > EVENTS:
        raise Unacceptable(f"a change that is not a list of up to {EVENTS} events")
    for event in events:
        change = event.get("kind") if isinstance(event, dict) else None
        if change not in CHANGES:
            raise Unacceptable(f"a change {change}; a page sends {', '.join(CHANGES)}")
        if change == "ModelChanged":
            model = event.get("model")
            id_ = model.get("id") if isinstance(model, dict) else None
            values.change(str(id_), str(event.get("attr")), event.get("new"))


class FairShare:
    """How long a connection must wait so that others get their turn.

    Args:
        clock: seconds from any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._credit, self._at = CREDIT_SECONDS, clock()

    def spend(self, seconds: float) -> float:
        """Charge a connection for the seconds its last fragment took; returns how long its next one has to wait."""
        now = self._clock()
        self._credit = min(CREDIT_SECONDS, self._credit + SHARE * (now - self._at))
        self._at = now
        self._credit -= max(seconds, FRAGMENT_SECONDS)
        return max(0.0, -self._credit / SHARE)


@dataclass
class _Open:
    address: str
    since: float
    state: str  # "head" while a request is awaited, "answer" while it is answered, "socket" once it is a websocket


class Connections:
    """Open connections. If they are too many, one that waits for its request's head makes room.

    Args:
        limit: open at once.
        of_address: open at once from one address; None where all come from a proxy.
        clock: seconds from any origin.
    """

    def __init__(
        self, limit: int = CONNECTIONS, of_address: int | None = CONNECTIONS_OF_ADDRESS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._limit, self._of_address, self._clock = limit, of_address, clock
        self._open: dict[IOStream, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, stream: IOStream, address: str) -> bool:
        """Whether a new connection may stay; an older one may be closed for it."""
        for closed in [known for known in self._open if known.closed()]:
            del self._open[closed]
        own = [known for known, entry in self._open.items() if entry.address == address]
        if self._of_address is not None and len(own) >= self._of_address and not self._make_room(own):
            return False
        if len(self._open) >= self._limit and not self._make_room(list(self._open)):
            return False
        self._open[stream] = _Open(address, self._clock(), "head")
        return True

    def awaits(self, stream: IOStream) -> None:
        """Note that a connection waits for a request."""
        self._enter(stream, "head")

    def request_received(self, stream: IOStream) -> None:
        """Note that a request's headers have arrived."""
        self._enter(stream, "answer")

    def becomes_socket(self, stream: IOStream) -> None:
        """Note that a connection has become a websocket, which has its own bounds."""
        self._enter(stream, "socket")

    def _enter(self, stream: IOStream, state: str) -> None:
        if stream in self._open:
            self._open[stream].state, self._open[stream].since = state, self._clock()

    def _make_room(self, among: list[IOStream]) -> bool:
        now = self._clock()
        late = [
            stream
            for stream in among
            if self._open[stream].state == "head"
            or (self._open[stream].state == "answer" and now - self._open[stream].since > ANSWER_SECONDS)
        ]
        if not late:
            return False
        oldest = min(late, key=lambda stream: self._open[stream].since)
        del self._open[oldest]
        oldest.close()
        return True
