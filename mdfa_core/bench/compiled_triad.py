"""A triad in compiled code, for arrays so small that a call from Python takes longer. Needs Numba."""

from __future__ import annotations

from typing import Any

from mdfa_core.compute.compiled import jit


@jit
def triad(a: Any, b: Any, c: Any, s: Any, repeats: int) -> None:
    """a ← b + s c for arrays of one length, `repeats` times with a growing s."""
    for _ in range(repeats):
        for j in range(len(a)):
            a[j] = b[j] + s * c[j]
        s += s
