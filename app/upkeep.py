"""What a server that makes and drops many pages does about its memory."""

from __future__ import annotations

import atexit
import ctypes
import gc
import platform

# When Python ends it looks for cycles among all that is left, several times: seconds for the models of some pages.
atexit.register(gc.freeze)


def give_back(session_context: object) -> None:
    """Give freed memory back to the system, when a session is over.

    A page that ends leaves holes between what others hold, and glibc's allocator keeps these. Takes some milliseconds;
    does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
