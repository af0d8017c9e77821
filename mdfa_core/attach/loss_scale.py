"""Notice a factor of the loss under a rule whose signals do not depend on the size of the loss (sDFA, DRTP)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LARGE = 16.0
"""Largest |e| · N that suggests no factor: cross-entropy has at most 1, and a GradScaler starts with 65536."""


class ScaleWatch:
    """Warns once if a loss looks scaled, or if gradients of several backward passes are added.

    Args:
        title: of the rule.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._task: int | None = None  # the backward pass that was looked at last, since the last step
        self._first = True
        self._warned = False

    def stepped(self) -> None:
        """An optimizer made a step."""
        self._task = None

    def look(self, error: Tensor, hidden: Iterable[nn.Parameter]) -> None:
        """Look at the output error e [N, …] of a backward pass, before a hidden parameter gets its gradient."""
        task = torch._C._current_graph_task_id()
        if self._warned or task == self._task:
            return
        added = self._task is not None and any(parameter.grad is not None for parameter in hidden)
        self._task = task
        if added:
            self._warn("the gradients of several batches are added")
        elif self._first and float(error.abs().max()) * len(error) > _LARGE:
            self._warn("the loss has large errors, as with a GradScaler")
        self._first = False

    def _warn(self, noticed: str) -> None:
        self._warned = True
        warnings.warn(
            f"{noticed}, but the signals of {self._title} do not depend on the size of the loss: set "
            f"attached.loss_scale to the factor of your loss (scaler.get_scale(), 1/k for k batches, 1 if it has none)",
            stacklevel=2,
        )
