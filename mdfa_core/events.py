"""What a training run says: frozen dataclasses of plain numbers, one value per replica wherever there is a tuple.

Consumers (progress bar, store, app, notebook) are ordinary `for event in train(...)` loops; none knows another.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from mdfa_core.errors import InvalidValue
from mdfa_core.registry import Table

PerReplica = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Where the run was: mini-batch `step` (counted from 1; 0 is before training) of epoch `epoch` (from 1)."""

    kind: ClassVar[str]
    step: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The first event of a run, with the facts that stay the same."""

    kind: ClassVar[str] = "started"
    replicas: int
    seeds: tuple[int, ...]
    tasks: tuple[tuple[str, ...], ...]
    """Class names of each replica's task, in label order."""
    parameters: int
    """Trained numbers (weights and biases) of one replica."""
    layers: tuple[str, ...]
    """A short name of each layer, the output layer last."""
    train_examples: tuple[int, ...]
    validation_examples: tuple[int, ...]
    test_examples: tuple[int, ...]
    steps_per_epoch: int
    epochs: int
    device: str


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Running means since the previous `Progress`, measured on the mini-batches as they were trained on."""

    kind: ClassVar[str] = "progress"
    loss: PerReplica
    accuracy: PerReplica
    """Share of correct predictions, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far one kind of quantity agrees in sign with its true value; None where nothing is defined."""

    layers: tuple[tuple[float | None, ...], ...]
    """Agreement per hidden layer, per replica: `layers[l][r]`."""
    overall: tuple[float | None, ...]
    """Over all defined entries of all hidden layers, per replica."""
    undefined: tuple[tuple[float, ...], ...]
    """Share of entries that are exactly 0 on either side, per hidden layer, per replica."""


@dataclass(frozen=True, kw_only=True)
class Probed(Event):
    """The method's error signals and updates beside the true gradient, on the mini-batch of this step.

    Everything is over the hidden layers: the output layer's error is the same for every method.
    """

    kind: ClassVar[str] = "probed"
    units: int | None = None
    """Most units measured in a layer, where a sample was asked for; None: all were."""
    unit: Agreement
    example: Agreement
    batch: Agreement
    angle: tuple[tuple[float | None, ...], ...]
    """Degrees (0 to 180) between batch update and true gradient, per hidden layer, per replica; 90 is unrelated."""
    angle_overall: tuple[float | None, ...]
    norm_ratio: tuple[tuple[float | None, ...], ...]
    """‖batch update‖ ÷ ‖true gradient‖, per hidden layer, per replica."""
    saturation: tuple[tuple[float, ...], ...]
    """Share of pre-activations whose f′ is at most 1 % of the largest f′, per hidden layer, per replica."""


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Full passes over the training and validation images with the weights as they are after `epoch`."""

    kind: ClassVar[str] = "evaluated"
    train_loss: PerReplica
    train_accuracy: PerReplica
    validation_loss: tuple[float | None, ...]
    validation_accuracy: tuple[float | None, ...]
    """None without validation images."""


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    """One replica's loss became NaN or infinite; it is left out from here on, the others go on."""

    kind: ClassVar[str] = "diverged"
    replica: int
    seed: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The outcome by the paper's rules (section 4); every tuple is per replica."""

    kind: ClassVar[str] = "finished"
    best_train_accuracy: tuple[float | None, ...]
    """The highest training accuracy after any epoch."""
    best_validation_accuracy: tuple[float | None, ...]
    best_validation_epoch: tuple[int | None, ...]
    """The first epoch with the highest validation accuracy."""
    test_accuracy: tuple[float | None, ...]
    """Test accuracy of the weights after `best_validation_epoch` (of the final weights without validation images)."""
    diverged_at: tuple[int | None, ...]
    """The step at which a replica was found diverged."""


EVENTS: Table[type[Event]] = Table("event")
for _event in (Started, Progress, Probed, Evaluated, Diverged, Finished):
    EVENTS.add(_event.kind, _event)


def to_dict(event: Event) -> dict[str, Any]:
    """Plain dictionary of an event, its `kind` first."""
    return {"kind": event.kind, **dataclasses.asdict(event)}


def to_json(event: Event) -> str:
    """One line of strict JSON; NaN and infinities become strings, so that every JSON reader can read it."""
    return json.dumps(_finite(to_dict(event)), allow_nan=False)


def from_dict(fields: dict[str, Any]) -> Event:
    """The event a dictionary of `to_dict` (or a decoded line of `to_json`) describes.

    Raises:
        InvalidValue: it describes none.
    """
    try:
        event = EVENTS[fields["kind"]]
        texts = {field.name for field in dataclasses.fields(event) if "str" in str(field.type)}
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
        raise InvalidValue(f"not an event ({error}): give a dictionary made by events.to_dict") from None


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
    """Tuples for lists, and numbers for the texts `_finite` made; only for fields that hold no text of their own."""
    if isinstance(value, dict):
        return {name: _restored(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_restored(item) for item in value)
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return value
