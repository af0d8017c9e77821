"""`fit` trains to the end in one call and returns a `History`: final figures, all events, and a table for pandas."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import MissingPackage
from mdfa_core.learning.probes import LEVELS, Agreement, Sample
from mdfa_core.training.clock import Every
from mdfa_core.training.events import Evaluated, Event, Finished, Probed, Progress
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run

if TYPE_CHECKING:
    import pandas

Figure = float | None | tuple[float | None, ...]
"""A number if one experiment was trained, or a tuple with one number per experiment if several were."""

QUANTITIES = {
    "batch_loss": "mean cross-entropy in nats over the mini-batches since the previous report, as they were trained on",
    "batch_accuracy": "share of correct predictions on the same mini-batches",
    "train_loss": "mean cross-entropy in nats over all training images, after the epoch",
    "train_accuracy": "share of correct predictions on all training images, after the epoch",
    "validation_loss": "mean cross-entropy in nats over all validation images, after the epoch",
    "validation_accuracy": "share of correct predictions on all validation images, after the epoch",
    "test_accuracy": "share of correct predictions on all test images, with the weights of the best validation epoch",
    "sign_agreement": "share of units' error signals, over all examples of the mini-batch, with the true sign",
    "sign_agreement_example": "share of single examples' weight and bias updates with the true gradient's sign",
    "sign_agreement_batch": "share of the mini-batch's weight and bias updates with the true gradient's sign",
    "sign_undefined": "share of units' error signals that are 0 on either side, which `sign_agreement` leaves out",
    "sign_undefined_example": "the same for `sign_agreement_example`",
    "sign_undefined_batch": "the same for `sign_agreement_batch`",
    "angle": "angle in degrees between the mini-batch's update and the true gradient; 90 is unrelated",
    "norm_ratio": "‖mini-batch's update‖ ÷ ‖true gradient‖",
    "saturation": "share of pre-activations whose f′ is at most 1 % of the largest f′",
}
"""Every quantity of `History.frame`, with its meaning. All shares go from 0 to 1."""

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, kw_only=True, repr=False)
class History:
    """One finished run of one or several experiments: its final figures and its events.

    Each final figure is a plain number if `fit` was given one experiment. If `fit` was given a sequence, each final
    figure is a tuple with one number per experiment, in the order of the experiments. A figure is None if it was not
    measured, or if the replica's loss became NaN or infinite before it was measured; `diverged_at` tells the two apart.

    Attributes:
        experiments: the experiments, one per replica.
        events: all events of the run, in order; see `mdfa_core.training.events`.
        single: whether one experiment was given, so that each figure is a plain number.
    """

    experiments: tuple[Experiment, ...]
    events: tuple[Event, ...]
    single: bool

    @property
    def train_loss(self) -> Figure:
        """Mean cross-entropy in nats over all training images, after the last epoch."""
        return self._figure(self._last(Evaluated), "train_loss")

    @property
    def train_accuracy(self) -> Figure:
        """Share of correct predictions on all training images, 0 to 1, after the last epoch."""
        return self._figure(self._last(Evaluated), "train_accuracy")

    @property
    def validation_loss(self) -> Figure:
        """Mean cross-entropy in nats over all validation images, after the last epoch."""
        return self._figure(self._last(Evaluated), "validation_loss")

    @property
    def validation_accuracy(self) -> Figure:
        """Share of correct predictions on all validation images, 0 to 1, after the last epoch."""
        return self._figure(self._last(Evaluated), "validation_accuracy")

    @property
    def best_train_accuracy(self) -> Figure:
        """The highest training accuracy after any epoch, 0 to 1."""
        return self._figure(self._last(Finished), "best_train_accuracy")

    @property
    def best_validation_accuracy(self) -> Figure:
        """The highest validation accuracy after any epoch, 0 to 1."""
        return self._figure(self._last(Finished), "best_validation_accuracy")

    @property
    def best_validation_epoch(self) -> Figure:
        """The first epoch (from 1) with the highest validation accuracy; the last epoch without validation images."""
        return self._figure(self._last(Finished), "best_validation_epoch")

    @property
    def test_accuracy(self) -> Figure:
        """Share of correct predictions on all test images, 0 to 1, with the weights of `best_validation_epoch`."""
        return self._figure(self._last(Finished), "test_accuracy")

    @property
    def diverged_at(self) -> Figure:
        """The mini-batch (from 1) after which the replica's loss was NaN or infinite; None if that never happened."""
        return self._figure(self._last(Finished), "diverged_at")

    @property
    def sign_agreement(self) -> Figure:
        """Share of units' error signals with the true sign, 0 to 1, over all hidden layers, in the last probe."""
        probed = self._last(Probed)
        return self._figure(None if probed is None else probed.unit, "overall")

    def frame(self) -> pandas.DataFrame:
        """All numbers of the events as a tidy table: one row per number.

        Columns:
            step: int64, the mini-batch (from 1) after which the number was measured.
            epoch: int64, the epoch (from 1) of that mini-batch.
            replica: int64, the place of the experiment, from 0.
            layer: Int64, the hidden layer, from 0; missing for numbers of the whole network (or all hidden layers).
            quantity: str, a name in `QUANTITIES`.
            value: float64; NaN if the number does not exist: without validation images, where no sign is defined, or
                once the replica has diverged.

        Example:
            >>> from mdfa_core import Every, Experiment, fit
            >>> table = fit(Experiment(epochs=2), probe=Every(epochs=1)).frame()
            >>> table[(table.quantity == "sign_agreement") & table.layer.isna()].value.tolist()
            [1.0, 1.0]

        Raises:
            MissingPackage: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingPackage(f"the table of a history needs pandas: run {install('results')}") from None
        names = ("step", "epoch", "replica", "layer", "quantity", "value")
        table = pandas.DataFrame([row for event in self.events for row in _rows(event)], columns=list(names))
        kinds = dict(zip(names, ("int64", "int64", "int64", "Int64", "str", "float64"), strict=True))
        return table.astype(kinds)

    def __repr__(self) -> str:
        shown = ("test_accuracy", "best_validation_accuracy", "train_accuracy", "sign_agreement", "diverged_at")
        figures = ", ".join(f"{name}={getattr(self, name)}" for name in shown)
        return f"History({len(self.experiments)} experiment{'s' * (len(self.experiments) > 1)}, {figures})"

    def _last(self, kind: type[E]) -> E | None:
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)

    def _figure(self, source: Any, name: str) -> Figure:
        values = [None] * len(self.experiments) if source is None else getattr(source, name)
        known = tuple(None if value is None or math.isnan(value) else value for value in values)
        return known[0] if self.single else known


def fit(
    experiments: Experiment | Sequence[Experiment],
    *,
    probe: Every | None = None,
    progress: Every | None = None,
    sample: Sample | None = None,
    device: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
    test: bool = True,
    threads: int | None = None,
) -> History:
    """Train one experiment, or several as one stack, to the end.

    Example:
        >>> from mdfa_core import Every, Experiment, fit
        >>> history = fit(Experiment(method="mdfa", epochs=3), probe=Every(epochs=1))
        >>> history.sign_agreement
        1.0

    Args:
        experiments: one experiment; or a sequence of experiments that differ only in `mdfa_core.training.VARYING`.
        probe: how often to compare the rule's error signals with the true gradient; by default never.
        progress: how often to report running means over mini-batches; by default after every epoch.
        sample: the part of the network that a probe measures; by default all of it.
        device: `auto`, `cpu`, `cuda`, `cuda:i` or `mps`.
        data_dir: a folder with the data sets; by default, missing data is downloaded to the user's cache.
        test: whether to evaluate the test set at the end.
        threads: CPU threads; by default one for small networks, for large ones at most PyTorch's number.

    Returns:
        The final figures and events. Use `train` to receive events while training goes on.

    Raises:
        InvalidValue: no experiment is given, or the experiments do not fit into one stack.
        GeometryError: the network does not fit the images.
        DataError: the data is missing or broken.
        DeviceError: this machine has no such device.
    """
    single = isinstance(experiments, Experiment)
    stack = (experiments,) if isinstance(experiments, Experiment) else tuple(experiments)
    run = Run(stack, device=device, data_dir=data_dir, test=test, threads=threads)
    events = run.events(progress=progress, probe=probe, sample=sample)
    return History(experiments=stack, events=tuple(events), single=single)


Row = tuple[int, int, int, int | None, str, float | None]


def _rows(event: Event) -> Iterator[Row]:
    """The rows of one event: step, epoch, replica, layer, quantity, value."""

    def whole(quantity: str, values: Sequence[float | None]) -> Iterator[Row]:
        for replica, value in enumerate(values):
            yield event.step, event.epoch, replica, None, quantity, value

    def layers(quantity: str, values: Sequence[Sequence[float | None]]) -> Iterator[Row]:
        for layer, of_layer in enumerate(values):
            for replica, value in enumerate(of_layer):
                yield event.step, event.epoch, replica, layer, quantity, value

    match event:
        case Progress():
            yield from whole("batch_loss", event.loss)
            yield from whole("batch_accuracy", event.accuracy)
        case Probed():
            for level in LEVELS:
                agreement: Agreement = getattr(event, level)
                suffix = "" if level == "unit" else f"_{level}"
                yield from whole(f"sign_agreement{suffix}", agreement.overall)
                yield from layers(f"sign_agreement{suffix}", agreement.layers)
                yield from layers(f"sign_undefined{suffix}", agreement.undefined)
            yield from whole("angle", event.angle_overall)
            yield from layers("angle", event.angle)
            yield from layers("norm_ratio", event.norm_ratio)
            yield from layers("saturation", event.saturation)
        case Evaluated():
            for quantity in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
                yield from whole(quantity, getattr(event, quantity))
        case Finished():
            yield from whole("test_accuracy", event.test_accuracy)
