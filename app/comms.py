"""Messages of a notebook's front end that overtake the opening of their comm.

JupyterLab (4.4 and later, with ipykernel 7) sends the word that opens a comm to the kernel's main shell, where it waits
behind the cells that run, and what is said over the comm to a subshell, a thread that waits for no cell. Whatever comes
by that way first belongs to no comm yet, and the kernel drops it: the first clicks of a visitor, or the browser's word
that a page is drawn. Here it waits for its comm instead.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

_KEPT = 100
"""How many comms that were never opened are remembered, with what was said over them."""


class InOrder:
    """The kernel's handlers of `comm_open` and `comm_msg`, but nothing is said before it can be heard.

    Args:
        manager: the kernel's comm manager; both handlers may be called from any thread.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._early: defaultdict[str, list[tuple[Any, Any, dict[str, Any]]]] = defaultdict(list)
        self._lock = threading.RLock()

    @classmethod
    def keep(cls, kernel: Any) -> None:
        """Have a kernel use these handlers; a second time changes nothing."""
        handlers = kernel.shell_handlers
        if not isinstance(getattr(handlers["comm_msg"], "__self__", None), cls):
            made = cls(kernel.comm_manager)
            handlers.update(comm_open=made.comm_open, comm_msg=made.comm_msg)

    def comm_open(self, stream: Any, ident: Any, msg: dict[str, Any]) -> None:
        with self._lock:  # what is said meanwhile waits for what was said before
            self._manager.comm_open(stream, ident, msg)
            for said in self._early.pop(msg["content"]["comm_id"], ()):
                self._manager.comm_msg(*said)

    def comm_msg(self, stream: Any, ident: Any, msg: dict[str, Any]) -> None:
        comm = msg["content"]["comm_id"]
        with self._lock:
            if comm not in self._manager.comms and msg["header"].get("subshell_id"):
                self._early[comm].append((stream, ident, msg))
                while len(self._early) > _KEPT:
                    del self._early[next(iter(self._early))]
                return
        self._manager.comm_msg(stream, ident, msg)
