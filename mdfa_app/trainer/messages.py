"""The messages that a training thread sends to its page."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mdfa_app.settings.rules import Rule
from mdfa_core.stage import Scene
from mdfa_core.training.events import Event
from mdfa_core.training.inspection import Snapshot


class Phase(enum.Enum):
    """The phases of training; the value is the word that the page shows."""

    IDLE = "ready"
    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether training runs, or will by itself."""
        return self in (Phase.RUNNING, Phase.QUEUED, Phase.PREPARING)

    @property
    def over(self) -> bool:
        """Whether these nets learn no more."""
        return self in (Phase.FINISHED, Phase.DIVERGED, Phase.FAILED)


@dataclass(frozen=True)
class Status:
    """The phase has changed; `message` explains it if the phase alone does not."""

    phase: Phase
    message: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known about the nets once they are made.

    Attributes:
        class_names: of the task, by label.
        scene: their layers and pictures, as the stage draws them.
        steps_per_epoch: mini-batches of an epoch.
    """

    class_names: tuple[str, ...]
    scene: Scene
    steps_per_epoch: int


@dataclass(frozen=True)
class Position:
    """How far a comparison has come.

    Attributes:
        step, epoch: of the leading net.
        caught_up: names of the rules whose nets are not behind it.
    """

    step: int
    epoch: int
    caught_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """A request could not be met while training; `reason` is one sentence."""

    reason: str


@dataclass(frozen=True)
class Switched:
    """A net learns by `rule` from now on."""

    rule: Rule


@dataclass(frozen=True)
class StageFrame:
    """One moment of a net, as `mdfa_core.stage.Frame.to_bytes` gives it."""

    data: bytes


@dataclass(frozen=True)
class StageSignals:
    """The error signals of the unit that the visitor looks at, as `mdfa_core.stage.UnitSignals.to_dict` gives them."""

    data: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The answer to a question. The page calls `deliver(value)`."""

    deliver: Callable[[Any], None]
    value: Any


Content = Status | Facts | Position | Refused | Switched | StageFrame | StageSignals | Answer | Snapshot | Event


@dataclass(frozen=True)
class Update:
    """A message about a comparison, by number; frames, events, switches and snapshots are about the net of `lane`."""

    comparison: int
    content: Content
    lane: str = ""
