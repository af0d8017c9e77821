"""The memory of a server that makes and drops many pages."""

from __future__ import annotations

import atexit
import ctypes
import gc
import platform

# At its end, Python looks for reference cycles several times: seconds, for the models of some pages.
atexit.register(gc.freeze)


def trim(session_context: object) -> None:
    """Return freed memory to the system when a session is over.

    A page that ends leaves gaps between the memory of others, which glibc's allocator keeps. This takes some
    milliseconds, and does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
