"""The measurements of a net over training: bounded lists of rows, which get coarser as they get long."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from mdfa_core.learning.probes import LEVELS
from mdfa_core.training.events import Agreement, Diverged, Evaluated, Event, Finished, Probed, Progress

Row = dict[str, float]

NOTHING = math.nan
"""A value that a chart leaves out."""


class Curve:
    """Rows of numbers over an increasing `x`.

    Beyond `limit` rows, every second row is dropped, and later rows are kept only at the new, larger spacing. So a
    curve costs the same after an hour as after a minute. `last` is always the newest row.
    """

    def __init__(self, limit: int = 600) -> None:
        self.limit = limit
        self.last: Row | None = None
        self.thinned = 0  # times that every second row was dropped
        self._columns = {"x": array("d")}  # a tenth of the memory that a dictionary a row takes
        self._spacing = 0.0

    def __len__(self) -> int:
        return len(self._columns["x"])

    @property
    def most_numbers(self) -> int:
        """The most numbers that its present columns come to have."""
        return len(self._columns) * self.limit

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        names = list(self._columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]

    def add(self, x: float, values: Row) -> None:
        """Add a row."""
        row = self.last = {"x": x, **values}
        xs, count = self._columns["x"], len(self)
        if count and x - xs[-1] < self._spacing:
            return
        for name in row.keys() - self._columns.keys():
            self._columns[name] = array("d", [NOTHING] * count)
        for name, column in self._columns.items():
            column.append(row.get(name, NOTHING))
        if len(self) > self.limit:
            self._columns = {name: column[::2] for name, column in self._columns.items()}
            self._spacing = 0.99 * (x - xs[0]) / (self.limit // 2)
            self.thinned += 1

    def column(self, name: str, start: int = 0) -> list[float]:
        """One column of the rows from `start` on."""
        column = self._columns.get(name)
        return [NOTHING] * (len(self) - start) if column is None else column[start:].tolist()


def low(column: str) -> str:
    """The column with the lowest value of all seeds."""
    return f"{column} low"


def high(column: str) -> str:
    """The column with the highest value of all seeds."""
    return f"{column} high"


@dataclass(frozen=True)
class Series:
    """A line of a chart: one column of a curve under a name.

    Attributes:
        run: the name of an earlier run; empty for the current one.
        band: whether the curve has the columns `low(column)` and `high(column)`, too.
    """

    curve: Curve
    column: str
    name: str
    run: str = ""
    band: bool = False


class Reader:
    """Reads some columns of a curve under other names, each row once."""

    def __init__(self, curve: Curve, columns: dict[str, str]) -> None:
        self.curve, self.columns = curve, columns
        self._read, self._thinned = 0, -1

    def news(self) -> tuple[bool, dict[str, list[float]]]:
        """Whether the whole line must be drawn again, and its columns: all rows, or those since the last call."""
        anew = self._thinned != self.curve.thinned
        start = 0 if anew else self._read
        self._read, self._thinned = len(self.curve), self.curve.thinned
        names = {"x": "x", **self.columns}
        return anew, {name: self.curve.column(source, start) for name, source in names.items()}


@dataclass
class History:
    """The measurements of one net so far.

    | curve | columns | columns by hidden layer, which end with its number |
    | --- | --- | --- |
    | `progress` | loss, accuracy | |
    | `evaluated` | train, validation, train_loss, validation_loss | |
    | `probed` | unit, example, batch, angle | the same, and ratio, saturation, undefined_{unit, example, batch} |

    Attributes:
        name: the title of its rule.
        steps_per_epoch: places a mini-batch on the axis of epochs.
        probe: the newest measurement.
        outcome: the result of the whole run, once it has ended.
        diverged: the epoch in which the loss became NaN or infinite.
    """

    name: str
    steps_per_epoch: int = 1
    progress: Curve = field(default_factory=Curve)
    evaluated: Curve = field(default_factory=Curve)
    probed: Curve = field(default_factory=Curve)
    probe: Probed | None = None
    outcome: Finished | None = None
    diverged: int | None = None

    @property
    def curves(self) -> dict[str, Curve]:
        """All curves by name."""
        return {"progress": self.progress, "evaluated": self.evaluated, "probed": self.probed}

    @property
    def end(self) -> float:
        """The epoch of the newest measurement."""
        return max((curve.last["x"] for curve in self.curves.values() if curve.last), default=0.0)

    @property
    def worth_keeping(self) -> bool:
        """Whether the curve is long enough to compare another one with."""
        return len(self.probed) >= 3

    def add(self, event: Event, replica: int = 0) -> None:
        """Add an event of the run, as far as it is about this replica."""
        x = event.step / self.steps_per_epoch
        if isinstance(event, Progress):
            self.progress.add(x, {"loss": event.loss[replica], "accuracy": event.accuracy[replica]})
        elif isinstance(event, Evaluated):
            row = {
                "train": event.train_accuracy[replica],
                "validation": _number(event.validation_accuracy[replica]),
                "train_loss": event.train_loss[replica],
                "validation_loss": _number(event.validation_loss[replica]),
            }
            self.evaluated.add(x, row)
        elif isinstance(event, Probed):
            self.probe = event
            self.probed.add(x, _measured(event, replica))
        elif isinstance(event, Diverged):
            if event.replica == replica:
                self.diverged = event.epoch
        elif isinstance(event, Finished):
            self.outcome = event


class Spread:
    """Mean, lowest and highest value of several seeds, as curves with the columns NAME, `low(NAME)` and `high(NAME)`.

    Seeds whose value is undefined, or whose loss became NaN or infinite, are left out.
    """

    columns: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "evaluated": ("train", "validation", "train_loss", "validation_loss"),
        "probed": (*LEVELS, "angle"),
    }
    """The quantities of a whole net, by curve."""

    def __init__(self) -> None:
        self.curves = {name: Curve() for name in self.columns}

    def add(self, event: Event, histories: Sequence[History]) -> None:
        """Take an event that every seed's history has taken."""
        name = "evaluated" if isinstance(event, Evaluated) else "probed" if isinstance(event, Probed) else ""
        if not name:
            return
        rows = [history.curves[name].last or {} for history in histories]
        row: Row = {}
        for column in self.columns[name]:
            values = [one for one in (row_.get(column, NOTHING) for row_ in rows) if math.isfinite(one)]
            row[column] = sum(values) / len(values) if values else NOTHING
            row[low(column)], row[high(column)] = min(values, default=NOTHING), max(values, default=NOTHING)
        self.curves[name].add(rows[0]["x"], row)


def _measured(event: Probed, replica: int) -> Row:
    def by_layer(name: str, layers: Sequence[tuple[float | None, ...]]) -> Row:
        return {f"{name}{number}": _number(values[replica]) for number, values in enumerate(layers)}

    row = {"angle": _number(event.angle_overall[replica])}
    for level in LEVELS:
        agreement: Agreement = getattr(event, level)
        row[level] = _number(agreement.overall[replica])
        row |= by_layer(level, agreement.layers) | by_layer(f"undefined_{level}", agreement.undefined)
    return (
        row
        | by_layer("angle", event.angle)
        | by_layer("ratio", event.norm_ratio)
        | by_layer("saturation", event.saturation)
    )


def _number(value: float | None) -> float:
    return NOTHING if value is None else value
