"""Logs a message from a browser that Bokeh or Panel refuses as one short line, without traceback and content.

Anyone who can reach the page can send such messages, so they must not fill the disk or hide real failures. An exception
that passed through this project's own code is a defect and keeps its traceback.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

from tornado.websocket import WebSocketClosedError

import mdfa_core

LOGGERS = ("bokeh.server.protocol_handler", "bokeh.server.views.ws", "panel.reactive", "tornado.application")
LONGEST = 200  # characters of a reason

_OURS = (str(Path(__file__).parents[1]), str(Path(mdfa_core.__file__).parent))


class _Shorten(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not _is_ours(error.__traceback__):
            reason = ascii(f"{type(error).__name__}: {error}"[:LONGEST])[1:-1]  # one line, no control characters
            record.msg, record.args = "refused what a browser sent: %s", (reason,)
            record.exc_info = record.exc_text = None
        return True


class _LeaveOut(logging.Filter):
    """Drops errors about messages to a browser that is gone; its leaving has a line of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], WebSocketClosedError))


_SHORTEN, _LEAVE_OUT = _Shorten(), _LeaveOut()


def log_shortly() -> None:
    """Log refusals in one line from now on, in this process; a second call changes nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_SHORTEN)
    logging.getLogger("asyncio").addFilter(_LEAVE_OUT)


def _is_ours(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(_OURS):
            return True
        traceback = traceback.tb_next
    return False
