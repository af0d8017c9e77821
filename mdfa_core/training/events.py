"""Events of a training run: frozen dataclasses of plain numbers. A tuple has one value per replica.

A progress bar, a store or the app receives events in an ordinary loop: `for event in train(...)`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.base.schema import Count, Degrees, Measured, MeasuredShare, Share
from mdfa_core.base.types import field_types
from mdfa_core.learning.probes import Agreement


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened after mini-batch `step` of epoch `epoch`; both count from 1, and 0 is before training."""

    kind: ClassVar[str]
    step: Count
    epoch: Count


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The first event of a run, with facts that do not change during the run."""

    kind: ClassVar[str] = "started"
    replicas: Count
    seeds: tuple[Count, ...]
    tasks: tuple[tuple[str, ...], ...]
    """Class names of each replica's task, in the order of the labels."""
    parameters: Count
    """Number of weights and biases of one replica."""
    layers: tuple[str, ...]
    """A short name of each layer, the output layer last."""
    train_examples: tuple[Count, ...]
    validation_examples: tuple[Count, ...]
    test_examples: tuple[Count, ...]
    steps_per_epoch: Count
    epochs: Count
    device: str
    threads: Count | None = None
    """CPU threads; None if the run measures whether one or all are faster, which changes no number."""


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Means over the mini-batches since the previous `Progress`, each measured before its update."""

    kind: ClassVar[str] = "progress"
    loss: tuple[Measured, ...]
    """Cross-entropy in nats; NaN once the replica has diverged."""
    accuracy: tuple[MeasuredShare, ...]
    """Share of correct predictions, 0 to 1; NaN once the replica has diverged."""


@dataclass(frozen=True, kw_only=True)
class Probed(Event):
    """The rule's error signals and updates compared with the true gradient, on the mini-batch of this step.

    Only hidden layers are measured, because the output layer's error is the same for every rule.
    """

    kind: ClassVar[str] = "probed"
    units: Count | None = None
    """The largest number of units measured per layer; None if all units were measured."""
    unit: Agreement
    """Sign agreement of units' error signals."""
    example: Agreement
    """Sign agreement of single examples' weight and bias updates."""
    batch: Agreement
    """Sign agreement of the mini-batch's weight and bias updates."""
    angle: tuple[tuple[Degrees | None, ...], ...]
    """Angle in degrees (0 to 180) between the mini-batch's update and the true gradient: `angle[layer][replica]`."""
    angle_overall: tuple[Degrees | None, ...]
    """The same angle over all hidden layers together; 90 means unrelated."""
    norm_ratio: tuple[tuple[Measured | None, ...], ...]
    """‖mini-batch's update‖ ÷ ‖true gradient‖: `norm_ratio[layer][replica]`."""
    saturation: tuple[tuple[MeasuredShare, ...], ...]
    """Share of pre-activations whose f′ is at most 1 % of the largest f′: `saturation[layer][replica]`."""


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Losses in nats and accuracies (0 to 1) on all training and validation images, with the weights after `epoch`."""

    kind: ClassVar[str] = "evaluated"
    train_loss: tuple[Measured, ...]
    train_accuracy: tuple[MeasuredShare, ...]
    """NaN once the replica has diverged."""
    validation_loss: tuple[Measured | None, ...]
    validation_accuracy: tuple[Share | None, ...]
    """None without validation images, and once the replica has diverged."""


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    """One replica's loss became NaN or infinite. Its later figures are missing; the other replicas continue."""

    kind: ClassVar[str] = "diverged"
    replica: Count
    seed: Count
    loss: float


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The final figures by the paper's rules (section 4)."""

    kind: ClassVar[str] = "finished"
    best_train_accuracy: tuple[Share | None, ...]
    """The highest training accuracy after any epoch, 0 to 1."""
    best_validation_accuracy: tuple[Share | None, ...]
    """The highest validation accuracy after any epoch, 0 to 1; None without validation images."""
    best_validation_epoch: tuple[Count | None, ...]
    """The first epoch with the highest validation accuracy; without validation images, the last validated epoch.

    If validation comes before each epoch, 0 stands for the initial weights, and the last epoch is not validated.
    """
    test_accuracy: tuple[Share | None, ...]
    """Test accuracy, 0 to 1, with the weights after `best_validation_epoch`; None if the test set was not evaluated."""
    diverged_at: tuple[Count | None, ...]
    """The mini-batch after which the replica's loss was NaN or infinite; None if that never happened."""


EVENTS: Registry[type[Event]] = Registry("event")
for _event in (Started, Progress, Probed, Evaluated, Diverged, Finished):
    EVENTS.add(_event.kind, _event)


def to_dict(event: Event) -> dict[str, Any]:
    """An event as a dictionary, with its `kind` first."""
    return {"kind": event.kind, **dataclasses.asdict(event)}


def to_json(event: Event) -> str:
    """An event as one line of strict JSON; NaN and infinities become strings, because JSON has no such numbers."""
    return json.dumps(_finite(to_dict(event)), allow_nan=False)


def from_dict(fields: dict[str, Any]) -> Event:
    """The event that `to_dict` turned into this dictionary; also of a decoded line of `to_json`.

    Raises:
        InvalidValue: the dictionary describes no event.
    """
    try:
        event = EVENTS[fields["kind"]]
        texts = {name for name, field in field_types(event).items() if field.kind is str}
        rest = {
            name: _tuples(value) if name in texts else _restored(value)
            for name, value in fields.items()
            if name != "kind"
        }
        for name in ("unit", "example", "batch"):
            if name in rest:
                rest[name] = Agreement(**rest[name])
        return event(**rest)
    except (KeyError, TypeError) as error:
        raise InvalidValue(f"the dictionary describes no event ({error}): give one that events.to_dict made") from None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _restored(value: Any) -> Any:
    """Lists become tuples, and the texts that `_finite` made become numbers; not for fields of type str."""
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_restored(item) for item in value)
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return value
