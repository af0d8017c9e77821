"""One visitor's training, beside the event loop: a thread that drives `Run.events` and hands over what happens.

Nothing here knows Panel. The page asks (`prepare`, `start`, `step`, `pause`, `close`) and is told by `notify`, at most
once until it has called `take`.
"""

from __future__ import annotations

import atexit
import enum
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from app.limits import LIMITS, Limits
from app.sharing import MEMORY, PLACES, Memory, Places, Ticket
from mdfa_core import DATASETS, Every, Experiment, MdfaError, Run
from mdfa_core.data.places import find_place
from mdfa_core.errors import InvalidValue
from mdfa_core.events import Diverged, Event, Progress
from mdfa_core.probes import LIVE

_log = logging.getLogger(__name__)

_open: weakref.WeakSet[Trainer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End every training before the interpreter goes: a thread that is cut off inside torch aborts the process."""
    trainers = list(_open)
    for trainer in trainers:
        trainer.close()
    for trainer in trainers:
        trainer.join(5)


DEVICE = "cpu"
"""Visitors share the server; nets of this size gain nothing from a GPU."""

PROBE = Every(seconds=0.2)
"""A measurement costs a few steps: not more often than anyone can see."""

_EXACT = 200_000  # parameters up to which a measurement looks at the whole net
_PICTURED_CLASSES = 10
_PICTURES = 4  # of each class
_OUTBOX = 2000  # updates that may wait for a page that is slow


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
class Update:
    """Something that happened in run number `run`."""

    run: int
    what: Status | Facts | Event


@dataclass(frozen=True)
class Speed:
    """How fast to train: at most so many mini-batches a second."""

    title: str
    steps_per_second: float | None

    @property
    def progress(self) -> Every:
        """Often enough to look smooth."""
        if self.steps_per_second is None:
            return Every(seconds=0.05)
        return Every(steps=max(1, int(self.steps_per_second // 20)))


SPEEDS = {
    "slow": Speed("4 steps / s", 4),
    "normal": Speed("20 steps / s", 20),
    "fast": Speed("100 steps / s", 100),
    "max": Speed("full speed", None),
}

_BREATH = 0.002  # seconds that training at full speed leaves to the page every now and then


def absent(data: str) -> str | None:
    """A sentence on what a data set still needs, or None if it is here."""
    entry = DATASETS[data]
    try:
        place = find_place()
        if entry.bundled or entry.find(place) is not None:
            return None
    except MdfaError as error:
        return str(error)
    if place.named:
        return f"{entry.title} is not in the data folder of this server: Start says what is missing."
    return f"{entry.title} is not on this server yet: Start fetches it, once, if it can be downloaded ({entry.source})."


class _Pace:
    """How far training is ahead of its speed."""

    def __init__(self, speed: Speed, step: int) -> None:
        self._speed, self._step, self._since = speed, step, time.monotonic()

    def ahead(self, step: int) -> float:
        """Seconds to wait after mini-batch `step`."""
        if self._speed.steps_per_second is None:
            return _BREATH
        now = time.monotonic()
        ahead = self._since + (step - self._step) / self._speed.steps_per_second - now
        if ahead < -0.5:  # what is too slow for this speed does not hurry afterwards
            self._step, self._since = step, now
        return ahead


class Trainer:
    """The training of one page.

    Args:
        notify: called from the training thread when there is something to `take`.
        places, memory, limits: what is shared with others.
    """

    def __init__(
        self,
        notify: Callable[[], None],
        *,
        places: Places = PLACES,
        memory: Memory = MEMORY,
        limits: Limits = LIMITS,
    ) -> None:
        self._notify, self._places, self._memory, self._limits = notify, places, memory, limits
        self._changed = threading.Condition()
        self._outbox: deque[Update] = deque()
        self._notified = False
        self._thread: threading.Thread | None = None
        self._closed = False
        self._number = 0  # of the run the page wants
        self._experiment: Experiment | None = None
        self._bytes = 0  # that its run takes
        self._rate: float | None = None
        self._speed = SPEEDS["normal"]
        self._wish: int | None = 0  # mini-batches still to train: 0 none, None until the end
        self._wishes = 0  # counts what was asked for, so that the thread sees it was asked for something else
        # The rest belongs to the thread.
        self._run: Run | None = None
        self._run_number = 0
        self._reserved = 0
        _open.add(self)

    # ------------------------------------------------------------------------------------------------ for the page

    def prepare(self, experiment: Experiment, *, start: bool = False) -> int:
        """Give up the run there is, make a new one, and start it if asked to; returns its number.

        Raises:
            InvalidValue: it is more than this server allows.
            GeometryError: its network does not fit its images.
        """
        bytes_ = self._limits.check(experiment)
        with self._changed:
            self._number += 1
            self._outbox.clear()
            self._experiment, self._bytes, self._rate = experiment, bytes_, None
            self._ask(None if start else 0)
            return self._number

    def start(self) -> None:
        """Train until the end."""
        with self._changed:
            self._ask(None)

    def step(self, count: int = 1) -> None:
        """Train so many mini-batches, then pause."""
        with self._changed:
            self._ask(count)

    def pause(self) -> None:
        """Stop after the current mini-batch; `start` goes on."""
        with self._changed:
            self._ask(0)

    def set_learning_rate(self, rate: float) -> None:
        """Go on with another learning rate.

        Raises:
            InvalidValue: it is not a positive finite number.
        """
        with self._changed:
            if self._experiment is not None:
                self._experiment = self._experiment.replace(learning_rate=rate)
            self._rate = rate
            self._changed.notify_all()

    def set_speed(self, speed: Speed) -> None:
        """Go on at another speed."""
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def close(self) -> None:
        """Stop for good; the thread ends after the current mini-batch."""
        with self._changed:
            self._closed = True
            self._wishes += 1
            self._changed.notify_all()
            if self._thread is None:
                self._drop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end; False if it has not."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def take(self) -> list[Update]:
        """What has happened since the last call."""
        with self._changed:
            self._notified = False
            updates = list(self._outbox)
            self._outbox.clear()
            self._changed.notify_all()
            return updates

    def _ask(self, steps: int | None) -> None:
        """Change the wish (the lock is held) and see to it that a thread fulfils it."""
        if self._closed:
            return
        self._wish = steps
        self._wishes += 1
        self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trainer", daemon=True)
            self._thread.start()

    # ---------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        torch.set_num_threads(1)
        while True:
            with self._changed:
                if self._closed or (self._wish == 0 and self._run_number == self._number):
                    self._thread = None
                    if self._closed:
                        self._drop()
                    return
                number, experiment, bytes_ = self._number, self._experiment, self._bytes
                wishes, wish = self._wishes, self._wish
            try:
                if number != self._run_number or (self._run is None and wish != 0):
                    self._make(number, experiment, bytes_, wanted=wish != 0)
                if wish != 0 and self._run is not None and self._wishes == wishes:
                    self._train(self._run, number, wishes)
            except MdfaError as error:
                self._give_up(number, str(error))
            except MemoryError:
                self._give_up(number, "this machine has not enough memory for this run: choose a smaller network")
            except Exception as error:
                _log.exception("a training thread met an unexpected error")
                self._give_up(number, f"something unexpected went wrong ({type(error).__name__}): see the server's log")

    def _make(self, number: int, experiment: Experiment | None, bytes_: int, *, wanted: bool) -> None:
        if experiment is None:
            raise InvalidValue("there is nothing to train yet: prepare an experiment first")
        self._drop()
        self._run_number = number
        missing = absent(experiment.data)
        if missing and not wanted:
            self._say(number, Status(State.IDLE, missing))
            return
        title = DATASETS[experiment.data].title
        doing = f"Fetching {title}; this takes a while, but only once." if missing else f"Reading {title}."
        self._say(number, Status(State.PREPARING, doing))
        self._memory.take(bytes_)
        self._reserved = bytes_
        self._run = Run(experiment, device=DEVICE)
        self._say(number, _facts(self._run))
        if self._wish == 0:
            self._say(number, Status(State.IDLE))

    def _drop(self) -> None:
        self._run = None
        self._memory.give_back(self._reserved)
        self._reserved = 0

    def _train(self, run: Run, number: int, wishes: int) -> None:
        """Train as long as nothing else is wished."""
        with self._places.asked() as ticket:
            if not self._got_place(ticket, number, wishes):
                return
            self._say(number, Status(State.RUNNING))
            diverged = self._drive(run, number, wishes)
        if run.finished:
            self._say(number, Status(State.DIVERGED if diverged else State.FINISHED))
        elif self._wish == 0 and number == self._number:
            self._say(number, Status(State.PAUSED))

    def _got_place(self, ticket: Ticket, number: int, wishes: int) -> bool:
        told = None
        while not ticket.wait(0 if told is None else 0.2):
            if self._wishes != wishes:
                if self._wish == 0 and number == self._number and not self._closed:
                    self._say(number, Status(State.PAUSED))
                return False
            if told != ticket.before:
                told = ticket.before
                first = "You are next." if told == 0 else f"{told} before you."
                self._say(
                    number,
                    Status(State.QUEUED, f"All {self._places.count} training places are taken. {first}"),
                )
        return True

    def _drive(self, run: Run, number: int, wishes: int) -> bool:
        """Take events and hand them over until something else is wished; returns whether the run diverged."""
        until = time.monotonic() + self._limits.turn_seconds
        steps, diverged = self._wish, False
        while not run.finished:
            speed = self._speed
            pace = _Pace(speed, run.step)
            progress, probe = (speed.progress, PROBE) if steps is None else (Every(steps=1), Every(steps=1))
            sample = LIVE if run.network.parameter_count > _EXACT else None
            self._apply_rate(run)
            for event in run.events(progress=progress, probe=probe, sample=sample, steps=steps):
                # At full speed what happens between two reports is told with the second.
                self._say(number, event, now=speed.steps_per_second is not None or isinstance(event, Progress))
                diverged |= isinstance(event, Diverged)
                self._apply_rate(run)
                if isinstance(event, Progress) and steps is None:
                    self._rest(pace.ahead(run.step), wishes, speed)
                turn_is_over = time.monotonic() > until and self._places.waiting > 0
                if self._wishes != wishes or (turn_is_over and steps is None):
                    return diverged
                if self._speed is not speed and steps is None:
                    break
            if steps is not None:
                break
        with self._changed:
            if self._wishes == wishes:
                self._wish = 0
        return diverged

    def _apply_rate(self, run: Run) -> None:
        with self._changed:
            rate, self._rate = self._rate, None
        if rate is not None:
            run.set_learning_rate(rate)

    def _rest(self, seconds: float, wishes: int, speed: Speed) -> None:
        """Wait, but not longer than until something else is wished."""
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._wishes != wishes or self._speed is not speed, timeout=seconds)

    def _give_up(self, number: int, sentence: str) -> None:
        self._drop()
        with self._changed:
            if number == self._number:
                self._wish = 0
                self._run_number = number
        self._say(number, Status(State.FAILED, sentence))

    def _say(self, number: int, what: Status | Facts | Event, *, now: bool = True) -> None:
        with self._changed:
            # A page that does not keep up holds its own training back, not the server's memory.
            self._changed.wait_for(lambda: len(self._outbox) < _OUTBOX or self._closed)
            if self._closed or number != self._number:
                return
            self._outbox.append(Update(number, what))
            if self._notified or not now:
                return
            self._notified = True
        self._notify()


def _facts(run: Run) -> Facts:
    task = run.tasks[0]
    pictures = []
    for label in range(min(len(task.class_names), _PICTURED_CLASSES)):
        index = torch.nonzero(task.train.labels == label).flatten()[:_PICTURES]
        pictures.append(tuple(task.train.gather(index).cpu().numpy()))
    return Facts(
        class_names=task.class_names,
        pictures=tuple(pictures),
        layers=tuple(layer.name for layer in run.network.layers),
        parameters=run.network.parameter_count,
        steps_per_epoch=run.steps_per_epoch,
        train_examples=len(task.train),
        validation_examples=len(task.validation),
        test_examples=len(task.test),
    )
