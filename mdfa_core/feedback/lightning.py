"""A callback for Lightning that logs what an attached model is told; importing it needs the package lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mdfa_core.errors import MdfaError
from mdfa_core.feedback.measuring import measure
from mdfa_core.feedback.tensorboard import check_every

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise MdfaError(
        "the Lightning callback needs the package lightning: pip install -e '.[integrations]' in the clone"
    ) from None


class LogMeasurement(Callback):
    """Measures the attached model inside a LightningModule before every so many steps, and logs it.

    Args:
        loss: (output, y) → one number.
        every: training batches from one measurement to the next; the first one is measured.
        examples: as in `measure`.
        pair: makes (x, y) of a batch of the loader; left out, batches are such pairs.

    Raises:
        InvalidValue: `every` is below 1.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], Tensor],
        *,
        every: int = 100,
        examples: int | None = 8,
        pair: Callable[[Any], tuple[Any, Any]] | None = None,
    ) -> None:
        check_every(every)
        self.loss, self.every, self.examples, self.pair = loss, every, examples, pair

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx % self.every:
            return
        with pl_module.trainer.precision_plugin.forward_context():
            found = measure(
                pl_module, batch if self.pair is None else self.pair(batch), self.loss, examples=self.examples
            )
        pl_module.log_dict(found.scalars())
