"""What a training thread tells its page."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.rules import Rule
from mdfa_core.events import Event
from mdfa_core.inspection import Snapshot


class State(enum.Enum):
    """What a session does."""

    IDLE = "ready"
    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """A state, with a sentence where the state alone does not say it."""

    state: State
    message: str = ""


@dataclass(frozen=True)
class Facts:
    """What is known about a run once it is prepared."""

    class_names: tuple[str, ...]
    pictures: tuple[tuple[NDArray[np.uint8], ...], ...]
    """Some training images of every class, [C, H, W]."""
    layers: tuple[str, ...]
    parameters: int
    steps_per_epoch: int
    train_examples: int
    validation_examples: int
    test_examples: int


@dataclass(frozen=True)
class Position:
    """Where the comparison is: the mini-batch and epoch of the net that is ahead, and the rules not behind it."""

    step: int
    epoch: int
    epochs: int
    level: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Something that was asked for as it runs cannot be: why, in one sentence."""

    sentence: str


@dataclass(frozen=True)
class Switched:
    """A net goes on by this rule from now on."""

    rule: Rule


@dataclass(frozen=True)
class Answer:
    """What came of a question: `tell(value)` is to be called where the page is."""

    tell: Callable[[Any], None]
    value: Any


@dataclass(frozen=True)
class Update:
    """Something that happened in comparison number `run`; events and snapshots are those of the rule `lane`."""

    run: int
    what: Status | Facts | Position | Refused | Switched | Answer | Snapshot | Event
    lane: str = ""
