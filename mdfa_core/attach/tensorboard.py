"""Logging of measurements to TensorBoard from a plain training loop."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from mdfa_core.attach.measuring import Measurement, measure
from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MdfaError


class TensorBoard:
    """Measures an attached model every `every` calls and logs the values for TensorBoard.

    Args:
        folder: the folder of the log.
        loss: (output, y) → one number.
        every: calls from one measurement to the next; the first call measures.
        examples: see `measure`.

    Raises:
        MdfaError: the package tensorboard is missing.
        InvalidValue: `every` is below 1.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        loss: Callable[[Any, Any], Tensor],
        *,
        every: int = 100,
        examples: int | None = 8,
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MdfaError(f"a TensorBoard log needs the package tensorboard: run {install('integrations')}") from None
        check_every(every)
        self._writer = SummaryWriter(os.fspath(folder))
        self._loss, self._every, self._examples = loss, every, examples
        self.step = 0

    def __call__(self, model: nn.Module, batch: tuple[Any, Any]) -> Measurement | None:
        """Count one step; measure the model on this batch if it is due."""
        step, self.step = self.step, self.step + 1
        if step % self._every:
            return None
        found = measure(model, batch, self._loss, examples=self._examples)
        for name, value in found.scalars().items():
            self._writer.add_scalar(name, value, step)
        return found

    def close(self) -> None:
        """Write all remaining values and close the log."""
        self._writer.close()

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_every(every: int) -> None:
    """Refuse an invalid number of steps between measurements.

    Raises:
        InvalidValue: it is below 1 or not an integer.
    """
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise InvalidValue(f"every is {every!r}: give the number of steps between measurements, at least 1")
