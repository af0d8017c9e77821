"""How many pages and websockets the server keeps, per address and in all, and the queue of those who wait.

Every page passes `Admission.enter`, whatever the path or token that asks for it. A page that finds no place gets a
ticket instead. The browser shows the position and asks again. The first ticket for which there is a place is called,
and the place is kept for some seconds for the address that held the ticket.
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

MAKING = 1
"""Pages in the making at once. Each takes the server about a second. Further visitors see the queue at once.

With three, arriving visitors waited for an answer instead, up to a minute on a busy machine."""
TICKET_SECONDS = 45.0
"""How long a ticket is kept after its browser was last heard of."""
CALL_SECONDS = 30.0
"""How long a place is kept for a ticket that was called."""
NEW_PAGE_SECONDS = 3.0
"""Between two pages of one address in the long run; as many as it may have open come at once."""


@dataclass(frozen=True)
class Caps:
    """How many of each there may be.

    Attributes:
        pages: in all; each takes some 13 MB besides its nets.
        pages_of_address: from one address: a classroom may share one.
        sockets_of_page: a connection that was lost counts until the server knows.
        tickets: in the queue.
        tickets_of_address: in the queue from one address.
    """

    pages: int = 40
    pages_of_address: int = 24
    sockets_of_page: int = 4
    tickets: int = 200
    tickets_of_address: int = 40

    @property
    def sockets(self) -> int:
        """In all."""
        return 2 * self.pages

    @property
    def sockets_of_address(self) -> int:
        """From one address."""
        return 2 * self.pages_of_address


class Full(Exception):
    """There is no place for a page now.

    Args:
        reason: a sentence for the visitor.
        ticket: to ask with again; empty if the queue has no place either.
        position: of the ticket, from 1.
    """

    def __init__(self, reason: str, ticket: str = "", position: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.ticket, self.position = reason, ticket, position


def party(address: str) -> str:
    """Whom an address counts for: itself, or its /64 network, which an IPv6 host has all addresses of."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(read, ipaddress.IPv6Address):
        if read.ipv4_mapped is not None:
            return str(read.ipv4_mapped)
        if not read.is_loopback:
            return str(ipaddress.ip_network((read, 64), strict=False))
    return str(read)


@dataclass
class _Ticket:
    party: str
    heard: float


class Admission:
    """Who has a page, who makes one, and who waits.

    Args:
        live: the ids of the pages that exist.
        make_room: called when places are wanted, to end pages whose visitors have gone.
        caps: how many there may be.
        clock: seconds from any origin.
    """

    def __init__(
        self,
        live: Callable[[], Collection[str]],
        make_room: Callable[[], None] = lambda: None,
        caps: Caps | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.caps = caps or Caps()
        self._live, self._make_room, self._clock = live, make_room, clock
        self._owners: dict[str, str] = {}
        self._making: Counter[str] = Counter()
        self._waiting: OrderedDict[str, _Ticket] = OrderedDict()
        self._called: dict[str, _Ticket] = {}
        self._allowances: dict[str, tuple[float, float]] = {}  # pages that may come at once, and since when
        self._sockets: Counter[str] = Counter()
        self._page_sockets: Counter[str] = Counter()

    # ---------------------------------------------------------------------------------------------------------- pages

    def enter(self, address: str) -> None:
        """Take a place to make a page in; `made` or `failed` follows.

        Raises:
            Full: if there is none.
        """
        who = party(address)
        self._forget()
        called = next((ticket for ticket, entry in self._called.items() if entry.party == who), None)
        if called is not None:
            del self._called[called]
        else:
            reason = self._reason(who)
            if reason or self._next() is not None:
                raise self._queue(who, reason or "Other visitors are already waiting.")
        self._spend(who)
        self._making[who] += 1

    def made(self, address: str, page: str) -> None:
        """A page that was entered exists."""
        self.failed(address)
        self._owners[page] = party(address)

    def failed(self, address: str) -> None:
        """Making a page that was entered has failed."""
        self._making[party(address)] -= 1
        self._making += Counter()  # without those at 0

    def ask(self, ticket: str, address: str) -> int | None:
        """The position of a ticket from 1, 0 if it is called, or None if it is not known (any more)."""
        self._forget()
        entry = self._called.get(ticket) or self._waiting.get(ticket)
        if entry is None or entry.party != party(address):
            return None
        if ticket in self._called:
            return 0
        entry.heard = self._clock()
        if self._next() == ticket:
            self._called[ticket] = self._waiting.pop(ticket)
            return 0
        return list(self._waiting).index(ticket) + 1

    def _next(self) -> str | None:
        """The first ticket for which there is a place."""
        full: set[str] = set()  # of whom it is known
        for ticket, entry in self._waiting.items():
            if entry.party not in full:
                if not self._reason(entry.party):
                    return ticket
                full.add(entry.party)
        return None

    def _reason(self, who: str) -> str:
        """Why there is no place, or nothing."""
        pages = self._pages()
        coming = sum(self._making.values()) + len(self._called)
        own = pages[who] + self._making[who] + sum(entry.party == who for entry in self._called.values())
        reason = ""
        if pages.total() + coming >= self.caps.pages:
            reason = f"All {self.caps.pages} pages that this server allows are open."
        elif own >= self.caps.pages_of_address:
            reason = f"Your network address already has {self.caps.pages_of_address} open pages, the most allowed."
        if reason:
            self._make_room()
        elif coming >= MAKING:
            reason = "Other pages are being made."
        elif self._allowance(who) < 1:
            reason = "Many pages were opened from your network address within a short time."
        return reason

    def _pages(self) -> Counter[str]:
        live = set(self._live())
        self._owners = {page: who for page, who in self._owners.items() if page in live}
        return Counter(self._owners.get(page, "") for page in live)

    def _allowance(self, who: str) -> float:
        pages, since = self._allowances.get(who, (float(self.caps.pages_of_address), self._clock()))
        return min(self.caps.pages_of_address, pages + (self._clock() - since) / NEW_PAGE_SECONDS)

    def _spend(self, who: str) -> None:
        self._allowances[who] = (max(0.0, self._allowance(who) - 1), self._clock())

    def _queue(self, who: str, reason: str) -> Full:
        own = sum(entry.party == who for entry in self._waiting.values())
        if len(self._waiting) >= self.caps.tickets or own >= self.caps.tickets_of_address:
            return Full(reason)
        ticket = secrets.token_urlsafe(12)
        self._waiting[ticket] = _Ticket(who, self._clock())
        return Full(reason, ticket, len(self._waiting))

    def _forget(self) -> None:
        now = self._clock()
        for tickets, seconds in ((self._waiting, TICKET_SECONDS), (self._called, CALL_SECONDS)):
            for ticket in [ticket for ticket, entry in tickets.items() if now - entry.heard > seconds]:
                del tickets[ticket]
        for who in [who for who in self._allowances if self._allowance(who) >= self.caps.pages_of_address]:
            del self._allowances[who]

    # ----------------------------------------------------------------------------------------------------- websockets

    def socket_refusal(self, address: str, page: str) -> str:
        """Why another websocket cannot be opened, or nothing."""
        if self._sockets.total() >= self.caps.sockets:
            return f"{self.caps.sockets} websockets are open"
        if self._sockets[party(address)] >= self.caps.sockets_of_address:
            return f"{self.caps.sockets_of_address} websockets are open from this address"
        if self._page_sockets[page] >= self.caps.sockets_of_page:
            return f"{self.caps.sockets_of_page} websockets are open to this page"
        return ""

    def socket_opened(self, address: str, page: str) -> None:
        """Count a websocket; `socket_closed` follows with the same arguments."""
        self._sockets[party(address)] += 1
        self._page_sockets[page] += 1

    def socket_closed(self, address: str, page: str) -> None:
        """A websocket that was counted is closed."""
        self._sockets[party(address)] -= 1
        self._page_sockets[page] -= 1
        self._sockets += Counter()
        self._page_sockets += Counter()
