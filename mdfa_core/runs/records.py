"""Records: one finished run as a frozen value, made from the run's events, exact to and from JSON."""

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
from typing import Any, TypeVar

import torch

from mdfa_core.base import distribution, machine
from mdfa_core.base.command import command_line
from mdfa_core.base.errors import InvalidValue, MdfaError
from mdfa_core.base.schema import (
    Count,
    Degrees,
    Duration,
    Measured,
    MeasuredShare,
    Share,
    check,
    check_column,
    field_hints,
    parse_json,
)
from mdfa_core.base.text import shown
from mdfa_core.compute.stacked_conv import described
from mdfa_core.training.events import Diverged, Evaluated, Event, Finished, Probed, Progress
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import NUMERICS, Run

T = TypeVar("T")

OUTCOME = (
    "best_train_accuracy",
    "best_validation_accuracy",
    "best_validation_epoch",
    "test_accuracy",
    "diverged_at",
)
"""The fields of `Record` with the outcome of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The learning curve after one epoch: mean losses and accuracies (0 to 1) over whole splits."""

    epoch: Count
    step: Count
    train_loss: Measured
    train_accuracy: Share
    validation_loss: Measured | None
    validation_accuracy: Share | None
    """None without validation images."""
    running_accuracy: Share | None = None
    """Mean training accuracy of the epoch's mini-batches, each measured before its update.

    None in runs from before this was recorded, and if progress was not reported once an epoch.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One comparison of the method's error signals and updates with the true gradient; see `events.Probed`.

    Attributes:
        step, epoch: the time of the measurement.
        units: the largest number of units measured per layer; None: all.
        unit, example, batch: sign agreement over all hidden layers at the three levels; None if it is undefined.
        angle: degrees between batch update and true gradient over all hidden layers.
        unit_layers, example_layers, batch_layers, angle_layers: the same per hidden layer.
        unit_undefined, example_undefined, batch_undefined: share of entries that are 0 on one side, per layer.
        norm_ratio: ‖batch update‖ ÷ ‖true gradient‖ per hidden layer.
        saturation: share of pre-activations whose f′ is at most 1 % of the largest f′, per hidden layer.
    """

    step: Count
    epoch: Count
    units: Count | None
    unit: MeasuredShare | None
    example: MeasuredShare | None
    batch: MeasuredShare | None
    angle: Degrees | None
    unit_layers: tuple[MeasuredShare | None, ...]
    example_layers: tuple[MeasuredShare | None, ...]
    batch_layers: tuple[MeasuredShare | None, ...]
    angle_layers: tuple[Degrees | None, ...]
    unit_undefined: tuple[MeasuredShare, ...]
    example_undefined: tuple[MeasuredShare, ...]
    batch_undefined: tuple[MeasuredShare, ...]
    norm_ratio: tuple[Measured | None, ...]
    saturation: tuple[MeasuredShare, ...]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How and where a run was made.

    Attributes:
        seconds: wall time of the run's stack, divided by its number of replicas.
        replicas: number of runs in that stack.
        device: the device; a GPU with its name.
        machine: processor, cores and system, without the host's name.
        threads: CPU threads of PyTorch.
        python, torch, mdfa: versions.
        commit: of this code, followed by `-dirty` if files differed; None outside a repository.
        command: the command line (`command_line`); None: not recorded, as in runs of mdfa 0.1.
        finished: time of the end, UTC, ISO 8601.
        convolutions: the algorithms of a stack's convolutions on a GPU and the products that each computed (see
            `stacked_conv`). They were chosen by measuring, and change the last bits. None if there were none.
    """

    seconds: Duration
    replicas: Count
    device: str
    machine: str
    threads: Count
    python: str
    torch: str
    mdfa: str
    commit: str | None
    command: str | None
    finished: str
    convolutions: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, without `convolutions` if there were none, as in runs from before that field."""
        return {name: v for name, v in dataclasses.asdict(self).items() if v is not None or name != "convolutions"}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run: settings, learning curve, probes, outcome and provenance.

    Attributes:
        experiment: the settings.
        checksum: SHA-256 of the task's data, `Task.checksum`.
        numerics: `training.NUMERICS` of the code.
        sealed: whether the test set was never evaluated; if so, `test_accuracy` is None.
        curve: one point per epoch, up to the epoch before the run diverged.
        probes: one per measurement.
        best_train_accuracy, best_validation_accuracy, best_validation_epoch, test_accuracy, diverged_at: the outcome by
            the paper's rules, see `events.Finished`; accuracies are between 0 and 1.
        provenance: how and where the run was made.
    """

    experiment: Experiment
    checksum: str
    numerics: Count
    sealed: bool
    curve: tuple[Point, ...]
    probes: tuple[Probe, ...]
    best_train_accuracy: Share | None
    best_validation_accuracy: Share | None
    best_validation_epoch: Count | None
    test_accuracy: Share | None
    diverged_at: Count | None
    provenance: Provenance

    @property
    def best_running_accuracy(self) -> float | None:
        """The highest running training accuracy of any epoch; None: not recorded."""
        return max((p.running_accuracy for p in self.curve if p.running_accuracy is not None), default=None)

    @property
    def reported_train_accuracy(self) -> float | None:
        """The training accuracy of a table: the best, or under the released code's evaluation the best running one."""
        released = self.experiment.evaluation == "released"
        return self.best_running_accuracy if released else self.best_train_accuracy

    @property
    def key(self) -> str:
        """The run's name in a store, see `run_key`."""
        return run_key(self.experiment, self.checksum, self.numerics)

    def __str__(self) -> str:
        return f"{self.key[:12]} ({self.experiment.method} on {self.experiment.data}, seed {self.experiment.seed})"

    def to_dict(self) -> dict[str, Any]:
        """Everything as values for strict JSON: NaN and infinities are texts, curve and probes are columns."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain |= {
            "experiment": self.experiment.written(),
            "curve": _columns(Point, self.curve),
            "probes": _columns(Probe, self.probes),
            "provenance": self.provenance.to_dict(),
        }
        return plain

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Record:
        """The record that `to_dict` wrote. Settings that did not exist then have their defaults.

        Raises:
            InvalidValue: `content` is not a record, or a value is impossible.
            UnknownName: its experiment has an unknown setting or name.
        """
        try:
            parts: dict[str, Any] = {
                "experiment": Experiment.from_dict(content["experiment"]),
                "curve": _rows(Point, content["curve"]),
                "probes": _rows(Probe, content["probes"]),
                "provenance": Provenance(**content["provenance"]),
            }
            check(parts["provenance"], Provenance, "the provenance")
            record = cls(**{**content, **parts})
            for name in ("checksum", "numerics", "sealed"):
                check(getattr(record, name), _HINTS[name], name)
            checked_outcome(content)
            _check_curve(record)
            return record
        except MdfaError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidValue(f"not a record of a run ({error}): give what Record.to_dict made") from None

    def to_json(self) -> str:
        """One line of strict JSON; equal records give the same line."""
        return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `to_json` wrote.

        Raises:
            InvalidValue: the text is not a record.
            UnknownName: see `from_dict`.
        """
        try:
            content = parse_json(text)
        except ValueError as error:
            raise InvalidValue(f"not a record of a run ({error}): give what Record.to_json wrote") from None
        return cls.from_dict(content)


_HINTS: dict[str, Any] = field_hints(Record)


def checked_outcome(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `OUTCOME`, if their values are possible.

    Raises:
        InvalidValue: an accuracy is not between 0 and 1, an epoch or step is not a whole number, or a sealed run has a
            test accuracy.
        KeyError: a field is missing.
    """
    outcome = {name: content[name] for name in OUTCOME}
    for name, value in outcome.items():
        check(value, _HINTS[name], name)
    if content["sealed"] and outcome["test_accuracy"] is not None:
        raise InvalidValue("a sealed run has a test accuracy: its test images were never evaluated, so give null")
    return outcome


def _check_curve(record: Record) -> None:
    """Refuse a curve that does not fit its experiment."""
    epochs = [point.epoch for point in record.curve]
    if epochs != sorted(set(epochs)) or (epochs and not 1 <= epochs[0] <= epochs[-1] <= record.experiment.epochs):
        raise InvalidValue(f"the curve has the epochs {shown(epochs)} of {record.experiment.epochs}: give each once")
    if (record.best_validation_epoch or 0) > record.experiment.epochs:
        best = record.best_validation_epoch
        raise InvalidValue(f"the best validation epoch is {best} of {record.experiment.epochs}: give one of them")


def run_key(experiment: Experiment, checksum: str, numerics: int = NUMERICS) -> str:
    """The key of a run: hexadecimal SHA-256 of all that determines its numbers: settings, data and numerics."""
    return _key(experiment.digest(), checksum, numerics)


def written_key(content: Mapping[str, Any]) -> str:
    """The key of a run when `Record.to_dict` wrote it, made of the settings that existed then."""
    settings = json.dumps(content["experiment"], sort_keys=True)
    return _key(hashlib.sha256(settings.encode()).hexdigest(), content["checksum"], content["numerics"])


def _key(digest: str, checksum: str, numerics: int) -> str:
    return hashlib.sha256(f"{digest} {checksum} {numerics}".encode()).hexdigest()


class Recorder:
    """Makes records from a run's events.

    Call the recorder with every event of `run.events(…)`; afterwards `records` has one record per replica. Except for
    its provenance, a record does not depend on the stack that the run was part of.

    Args:
        run: a run that has not begun.
        command: the command line, for the provenance; the default is this process's.

    Raises:
        InvalidValue: the run has begun, so its first events are missing.
    """

    def __init__(self, run: Run, *, command: str | None = None) -> None:
        if run.started:
            raise InvalidValue(f"a recorder was given a run at step {run.step}: give it a run that has not begun")
        self.run = run
        self.command = command_line() if command is None else command
        self.records: tuple[Record, ...] = ()
        self._commit = machine.commit()  # of the code as it was loaded, or nearly
        self._began = time.monotonic()
        self._curves: list[list[Point]] = [[] for _ in run.experiments]
        self._probes: list[list[Probe]] = [[] for _ in run.experiments]
        self._living = set(range(run.replicas))
        self._reports: list[Progress] = []  # since the last evaluation

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, Diverged):
            self._living.discard(event.replica)
        elif isinstance(event, Progress):
            self._reports.append(event)
        elif isinstance(event, Evaluated):
            # A single report at the end of the epoch, as a run makes by default, covers the epoch.
            reports, self._reports = self._reports, []
            running = reports[0].accuracy if [report.step for report in reports] == [event.step] else None
            for r in self._living:
                self._curves[r].append(_point(event, r, None if running is None else running[r]))
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
                device=machine.device_name(self.run.device),
                machine=machine.summary(),
                threads=self.run.fixed_threads or torch.get_num_threads(),
                python=platform.python_version(),
                torch=torch.__version__,
                mdfa=distribution.VERSION,
                commit=self._commit,
                command=self.command,
                finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                convolutions=described(self.run.convolutions),
            ),
        )


def _point(event: Evaluated, r: int, running: float | None) -> Point:
    return Point(
        epoch=event.epoch,
        step=event.step,
        train_loss=event.train_loss[r],
        train_accuracy=event.train_accuracy[r],
        validation_loss=event.validation_loss[r],
        validation_accuracy=event.validation_accuracy[r],
        running_accuracy=running,
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
    """Lists by field, which take half the text of one object per value; those of `_OPTIONAL` only if not empty."""
    values = tuple(values)
    columns = {f.name: [_said(getattr(value, f.name)) for value in values] for f in dataclasses.fields(kind)}
    return {name: column for name, column in columns.items() if name not in _OPTIONAL or set(column) - {None}}


def _rows(kind: type[T], columns: Mapping[str, list[Any]]) -> tuple[T, ...]:
    columns = {**{n: [None] * len(columns["epoch"]) for n in _OPTIONAL & set(field_hints(kind))}, **columns}
    meant: dict[str, list[Any]] = {}
    for name, hint in field_hints(kind).items():
        if not isinstance(columns[name], list):
            raise InvalidValue(f"{name} is {shown(columns[name])}: give a list")
        meant[name] = [_meant(value) for value in columns[name]]
        check_column(meant[name], hint, name)
    if len(columns) != len(meant):
        raise InvalidValue(f"columns {shown(sorted(columns))} were given: give {', '.join(meant)}")
    return tuple(kind(**dict(zip(meant, row, strict=True))) for row in zip(*meant.values(), strict=True))


_OPTIONAL = {"running_accuracy"}
"""Columns that were added after the first runs were published."""


def _said(value: Any) -> Any:
    """A number or tuple of numbers for strict JSON."""
    if isinstance(value, tuple):
        return [_said(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _meant(value: Any) -> Any:
    """The inverse of `_said`; curves and probes have no texts of their own."""
    if isinstance(value, list):
        return tuple(_NUMBERS.get(item, item) if isinstance(item, str) else item for item in value)
    return _NUMBERS.get(value, value) if isinstance(value, str) else value


_NUMBERS = {str(number): number for number in (math.nan, math.inf, -math.inf)}
