"""One finished run as a frozen value, made from a run's events; exact to and from JSON."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import torch

from mdfa_core import machine
from mdfa_core.errors import InvalidValue, MdfaError
from mdfa_core.events import Diverged, Evaluated, Event, Finished, Probed
from mdfa_core.experiment import Experiment
from mdfa_core.training import NUMERICS, Run

T = TypeVar("T")

OUTCOME = (
    "best_train_accuracy",
    "best_validation_accuracy",
    "best_validation_epoch",
    "test_accuracy",
    "diverged_at",
)
"""The fields of `Record` that say what a run reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The curve's point after one epoch: mean losses and accuracies (shares, 0 to 1) over whole splits."""

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    """None without validation images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One comparison of the method's error signals and updates with the true gradient; see `events.Probed`.

    Attributes:
        step, epoch: when it was measured.
        units: most units measured in a layer; None: all.
        unit, example, batch: sign agreement over all hidden layers at the three levels; None where nothing is defined.
        angle: degrees between batch update and true gradient over all hidden layers.
        unit_layers, example_layers, batch_layers, angle_layers: the same per hidden layer.
        unit_undefined, example_undefined, batch_undefined: share of entries that are 0 on either side, per layer.
        norm_ratio: ‖batch update‖ ÷ ‖true gradient‖ per hidden layer.
        saturation: share of pre-activations whose f′ is at most 1 % of the largest f′, per hidden layer.
    """

    step: int
    epoch: int
    units: int | None
    unit: float | None
    example: float | None
    batch: float | None
    angle: float | None
    unit_layers: tuple[float | None, ...]
    example_layers: tuple[float | None, ...]
    batch_layers: tuple[float | None, ...]
    angle_layers: tuple[float | None, ...]
    unit_undefined: tuple[float, ...]
    example_undefined: tuple[float, ...]
    batch_undefined: tuple[float, ...]
    norm_ratio: tuple[float | None, ...]
    saturation: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a run's numbers come from.

    Attributes:
        seconds: wall time of the run's stack, divided by its replicas.
        replicas: runs in that stack.
        device: what it ran on, a GPU with its name.
        machine: processor, cores and system; no host's name.
        threads: CPU threads of PyTorch.
        python, torch, mdfa: versions.
        commit: of this code, `-dirty` behind it where files differed; None outside its repository.
        command: what was typed, if somebody said so.
        finished: when, UTC, ISO 8601.
    """

    seconds: float
    replicas: int
    device: str
    machine: str
    threads: int
    python: str
    torch: str
    mdfa: str
    commit: str | None
    command: str | None
    finished: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run: its configuration, what it reached, how it got there, and where it was done.

    Attributes:
        experiment: the configuration.
        checksum: SHA-256 of the task's data, `Task.checksum`.
        numerics: `training.NUMERICS` of the code.
        sealed: whether the test images were never opened; `test_accuracy` is None then.
        curve: one point an epoch; it ends before the epoch in which the run diverged.
        probes: one for every measurement.
        best_train_accuracy, best_validation_accuracy, best_validation_epoch, test_accuracy, diverged_at: the outcome by
            the paper's rules, see `events.Finished`; accuracies are shares, 0 to 1.
        provenance: where the numbers come from.
    """

    experiment: Experiment
    checksum: str
    numerics: int
    sealed: bool
    curve: tuple[Point, ...]
    probes: tuple[Probe, ...]
    best_train_accuracy: float | None
    best_validation_accuracy: float | None
    best_validation_epoch: int | None
    test_accuracy: float | None
    diverged_at: int | None
    provenance: Provenance

    @property
    def key(self) -> str:
        """The run's name in a store, see `run_key`."""
        return run_key(self.experiment, self.checksum, self.numerics)

    def __str__(self) -> str:
        return f"{self.key[:12]} ({self.experiment.method} on {self.experiment.data}, seed {self.experiment.seed})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as strict JSON can say it: NaN and infinities are texts, curve and probes are columns."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain |= {
            "experiment": self.experiment.to_dict(),
            "curve": _columns(Point, self.curve),
            "probes": _columns(Probe, self.probes),
            "provenance": dataclasses.asdict(self.provenance),
        }
        return plain

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Record:
        """The record `to_dict` wrote; settings the experiment did not have then are at their defaults.

        Raises:
            InvalidValue: it is no record.
            UnknownName: its experiment has a setting or a name that is not known here.
        """
        try:
            parts: dict[str, Any] = {
                "experiment": Experiment.from_dict(content["experiment"]),
                "curve": _rows(Point, content["curve"]),
                "probes": _rows(Probe, content["probes"]),
                "provenance": Provenance(**content["provenance"]),
            }
            return cls(**{**content, **parts, **checked_outcome(content)})
        except MdfaError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidValue(f"not a record of a run ({error}): give what Record.to_dict made") from None

    def to_json(self) -> str:
        """One line of strict JSON; equal records give the same line."""
        return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record `to_json` wrote.

        Raises:
            InvalidValue: the text is no record.
            UnknownName: as `from_dict`.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InvalidValue(f"not a record of a run ({error}): give what Record.to_json wrote") from None
        return cls.from_dict(content)


def checked_outcome(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OUTCOME`, if they are what a run can reach.

    Raises:
        InvalidValue: an accuracy is no share, or an epoch or step no number.
        KeyError: one is missing.
    """
    outcome = {name: content[name] for name in OUTCOME}
    for name, value in outcome.items():
        if value is None:
            continue
        if name.endswith("accuracy"):
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InvalidValue(f"{name} is {value!r}: give a number of 0 to 1, or null")
        elif type(value) is not int or value < 0:
            raise InvalidValue(f"{name} is {value!r}: give a whole number of at least 0, or null")
    return outcome


def run_key(experiment: Experiment, checksum: str, numerics: int = NUMERICS) -> str:
    """SHA-256, hexadecimal, of what determines a run's numbers: configuration, data and the code's numerics."""
    return _key(experiment.digest(), checksum, numerics)


def written_key(content: Mapping[str, Any]) -> str:
    """The key a run had when `Record.to_dict` wrote it: of the settings that there were then."""
    settings = json.dumps(content["experiment"], sort_keys=True)
    return _key(hashlib.sha256(settings.encode()).hexdigest(), content["checksum"], content["numerics"])


def _key(digest: str, checksum: str, numerics: int) -> str:
    return hashlib.sha256(f"{digest} {checksum} {numerics}".encode()).hexdigest()


class Recorder:
    """Makes records from a run: call it with every event of `run.events(…)`; afterwards `records` has one a replica.

    What a record says does not depend on the stack the run was part of, its provenance aside.

    Args:
        run: a run that has not begun.
        command: what was typed, for the provenance.

    Raises:
        InvalidValue: the run has begun, so that its first events are gone.
    """

    def __init__(self, run: Run, *, command: str | None = None) -> None:
        if run.started:
            raise InvalidValue(f"a recorder was given a run at step {run.step}: give it a run that has not begun")
        self.run = run
        self.command = command
        self.records: tuple[Record, ...] = ()
        self._commit = machine.commit()  # of the code as it was loaded, or nearly
        self._began = time.monotonic()
        self._curves: list[list[Point]] = [[] for _ in run.experiments]
        self._probes: list[list[Probe]] = [[] for _ in run.experiments]
        self._living = set(range(run.replicas))

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Diverged):
            self._living.discard(event.replica)
        elif isinstance(event, Evaluated):
            for r in self._living:
                self._curves[r].append(_point(event, r))
        elif isinstance(event, Probed):
            for r in self._living:
                self._probes[r].append(_probe(event, r))
        elif isinstance(event, Finished):
            self.records = tuple(self._record(event, r) for r in range(self.run.replicas))

    def _record(self, event: Finished, r: int) -> Record:
        return Record(
            experiment=self.run.experiments[r],
            checksum=self.run.tasks[r].checksum,
            numerics=NUMERICS,
            sealed=not self.run.test,
            curve=tuple(self._curves[r]),
            probes=tuple(self._probes[r]),
            **{name: getattr(event, name)[r] for name in OUTCOME},
            provenance=Provenance(
                seconds=(time.monotonic() - self._began) / self.run.replicas,
                replicas=self.run.replicas,
                device=machine.device_described(self.run.device),
                machine=machine.described(),
                threads=torch.get_num_threads(),
                python=platform.python_version(),
                torch=torch.__version__,
                mdfa=metadata.version("mdfa"),
                commit=self._commit,
                command=self.command,
                finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            ),
        )


def _point(event: Evaluated, r: int) -> Point:
    return Point(
        epoch=event.epoch,
        step=event.step,
        train_loss=event.train_loss[r],
        train_accuracy=event.train_accuracy[r],
        validation_loss=event.validation_loss[r],
        validation_accuracy=event.validation_accuracy[r],
    )


def _probe(event: Probed, r: int) -> Probe:
    def of(layers: Sequence[Sequence[T]]) -> tuple[T, ...]:
        return tuple(layer[r] for layer in layers)

    return Probe(
        step=event.step,
        epoch=event.epoch,
        units=event.units,
        unit=event.unit.overall[r],
        example=event.example.overall[r],
        batch=event.batch.overall[r],
        angle=event.angle_overall[r],
        unit_layers=of(event.unit.layers),
        example_layers=of(event.example.layers),
        batch_layers=of(event.batch.layers),
        angle_layers=of(event.angle),
        unit_undefined=of(event.unit.undefined),
        example_undefined=of(event.example.undefined),
        batch_undefined=of(event.batch.undefined),
        norm_ratio=of(event.norm_ratio),
        saturation=of(event.saturation),
    )


def _columns(kind: type[Any], values: Iterable[Any]) -> dict[str, list[Any]]:
    """Lists by field: half the text of one object a value."""
    values = tuple(values)
    return {field.name: [_said(getattr(value, field.name)) for value in values] for field in dataclasses.fields(kind)}


def _rows(kind: type[T], columns: Mapping[str, list[Any]]) -> tuple[T, ...]:
    names = list(columns)
    rows = zip(*(map(_meant, columns[name]) for name in names), strict=True)
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in rows)


def _said(value: Any) -> Any:
    """A number or tuple of numbers for strict JSON."""
    if isinstance(value, tuple):
        return [_said(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _meant(value: Any) -> Any:
    """What `_said` was given; curves and probes hold no texts of their own."""
    if isinstance(value, list):
        return tuple(_meant(item) for item in value)
    return float(value) if isinstance(value, str) else value
