"""The curves of a run: bounded lists of rows that get coarser as they get long, apart from what draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from mdfa_core.events import Agreement, Evaluated, Event, Probed, Progress
from mdfa_core.probes import LEVELS

Row = dict[str, float]

NOTHING = math.nan
"""What a chart leaves out."""


class Curve:
    """Rows of numbers over an increasing `x`.

    Past `limit` rows every second one is dropped and from then on only every so far apart row is taken, so that a curve
    costs the same after an hour as after a minute. `last` is always the newest row.
    """

    def __init__(self, columns: Sequence[str], limit: int = 600) -> None:
        self.columns = ("x", *columns)
        self.limit = limit
        self.rows: list[Row] = []
        self.last: Row | None = None
        self._spacing = 0.0
        self._shown = -1  # rows that were drawn already; -1 if all have to be drawn anew

    def add(self, x: float, values: Row) -> None:
        """Take a row; columns it lacks are not drawn."""
        row = {name: values.get(name, NOTHING) for name in self.columns} | {"x": x}
        self.last = row
        if self.rows and x - self.rows[-1]["x"] < self._spacing:
            return
        self.rows.append(row)
        if len(self.rows) > self.limit:
            self.rows = self.rows[::2]
            self._spacing = 0.99 * (x - self.rows[0]["x"]) / (self.limit // 2)
            self._shown = -1

    def columns_of(self, rows: Sequence[Row]) -> dict[str, list[float]]:
        """Rows as columns."""
        return {name: [row[name] for row in rows] for name in self.columns}

    def everything(self) -> dict[str, list[float]]:
        """All rows as columns."""
        return self.columns_of(self.rows)

    def news(self) -> tuple[bool, dict[str, list[float]]]:
        """Whether everything has to be drawn anew, and all rows or those that came since the last call."""
        anew = self._shown < 0
        rows = self.rows if anew else self.rows[self._shown :]
        self._shown = len(self.rows)
        return anew, self.columns_of(rows)


def level_columns(level: str, layers: int) -> list[str]:
    """The columns of one level's agreement, by hidden layer."""
    return [f"{level}{layer}" for layer in range(layers)]


@dataclass
class History:
    """What one run has shown so far.

    Attributes:
        name: what to call it when it has become the previous run.
        layers: columns kept for hidden layers.
        steps_per_epoch: to place a mini-batch on the axis of epochs.
    """

    name: str
    layers: int
    steps_per_epoch: int = 1
    progress: Curve = field(init=False)
    evaluated: Curve = field(init=False)
    probed: Curve = field(init=False)
    probe: Probed | None = None

    def __post_init__(self) -> None:
        angles = [f"angle{layer}" for layer in range(self.layers)]
        levels = [column for level in LEVELS for column in level_columns(level, self.layers)]
        self.progress = Curve(["loss", "accuracy"])
        self.evaluated = Curve(["train", "validation", "train_loss", "validation_loss"])
        self.probed = Curve([*levels, *angles])

    @property
    def curves(self) -> tuple[Curve, Curve, Curve]:
        """All of them, in the order the charts expect."""
        return self.progress, self.evaluated, self.probed

    @property
    def end(self) -> float:
        """The last place on the axis."""
        return max((curve.last["x"] for curve in self.curves if curve.last), default=0.0)

    @property
    def worth_keeping(self) -> bool:
        """Whether there is enough of it to compare with."""
        return len(self.probed.rows) >= 3

    def add(self, event: Event) -> None:
        """Take what an event of replica 0 says."""
        x = event.step / self.steps_per_epoch
        if isinstance(event, Progress):
            self.progress.add(x, {"loss": event.loss[0], "accuracy": event.accuracy[0]})
        elif isinstance(event, Evaluated):
            row = {
                "train": event.train_accuracy[0],
                "validation": _number(event.validation_accuracy[0]),
                "train_loss": event.train_loss[0],
                "validation_loss": _number(event.validation_loss[0]),
            }
            self.evaluated.add(x, row)
        elif isinstance(event, Probed):
            self.probe = event
            row = {f"angle{layer}": _number(angle[0]) for layer, angle in enumerate(event.angle)}
            for level in LEVELS:
                agreement: Agreement = getattr(event, level)
                for column, values in zip(level_columns(level, self.layers), agreement.layers, strict=False):
                    row[column] = _number(values[0])
            self.probed.add(x, row)

    def highest_loss(self) -> float:
        """The highest finite loss of all rows that are drawn."""
        losses = [row["loss"] for row in self.progress.rows]
        losses += [row[name] for row in self.evaluated.rows for name in ("train_loss", "validation_loss")]
        return max((loss for loss in losses if math.isfinite(loss)), default=0.0)


def _number(value: float | None) -> float:
    return NOTHING if value is None else value
