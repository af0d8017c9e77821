"""A callback for Lightning that measures and logs an attached model; importing it needs the package lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mdfa_core.attach.measuring import measure
from mdfa_core.attach.tensorboard import check_every
from mdfa_core.base.distribution import install
from mdfa_core.base.errors import MdfaError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    raise MdfaError(f"the Lightning callback needs the package lightning: run {install('integrations')}") from None


class LogMeasurement(Callback):
    """Measures the attached model inside a LightningModule every `every` training batches, and logs the values.

    Every measurement goes to all loggers of the trainer once, whatever `log_every_n_steps` is. Its step is the number
    of batches after which an optimizer stepped, as for everything else that Lightning logs. Batches that accumulate
    gradients for one step have the same weights, so at most one of them is measured. The last values are also in
    `trainer.callback_metrics`.

    Args:
        loss: (output, y) → one number.
        every: training batches from one measurement to the next; the first one is measured.
        examples: see `measure`.
        pair: makes (x, y) from a batch of the loader; by default, batches are such pairs.

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
        self._measured: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._measured = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        loop = trainer.fit_loop.epoch_loop
        step = loop._batches_that_stepped
        if loop.total_batch_idx % self.every or step == self._measured:
            return
        self._measured = step
        with trainer.precision_plugin.forward_context():
            found = measure(
                pl_module, batch if self.pair is None else self.pair(batch), self.loss, examples=self.examples
            )
        for logger in trainer.loggers:
            logger.log_metrics(found.scalars(), step=step)
        pl_module.log_dict(found.scalars(), logger=False)
