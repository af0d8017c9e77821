"""Child processes that do not import from the folder they happen to start in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "PYTHONSAFEPATH"


@contextmanager
def safe_children() -> Iterator[None]:
    """Set PYTHONSAFEPATH for all child processes that are started inside.

    `python -m`, `python -c` and Jupyter kernels put the current folder on `sys.path`: a user's own `random.py` or
    `torch.py` would be imported in place of the real module. In the folder that contains this package (a clone) the
    variable is left alone, because children may find the package through that folder.
    """
    clone = Path(__file__).resolve().parents[2]
    if _VARIABLE in os.environ or Path.cwd().resolve() == clone:
        yield
        return
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
