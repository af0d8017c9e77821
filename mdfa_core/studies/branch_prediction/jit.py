"""Compilation by Numba, if it is installed. Without it, the same functions run as plain Python, 100 times slower."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

COMPILED = importlib.util.find_spec("numba") is not None
"""Whether Numba is installed: `pip install mdfa-lab[fast]`."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays and numbers at its first call; the machine code is cached on disk."""
    if not COMPILED:
        return function
    import numba

    return numba.njit(cache=True, fastmath=True)(function)
