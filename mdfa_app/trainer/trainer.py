"""One visitor's training: a thread beside the event loop that trains a net of every compared rule in lockstep.

Nothing here knows Panel. The page calls `prepare`, `start`, `step`, `pause`, …; messages for it wait until it calls
`take`, and `notify` tells it so at most twice before it does: when there is anything, and when a visitor waits for it.
"""

from __future__ import annotations

import atexit
import logging
import math
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from mdfa_app.settings.availability import downloads, missing
from mdfa_app.settings.limits import LIMITS, Limits
from mdfa_app.settings.rules import Rule
from mdfa_app.settings.speeds import SPEEDS, Speed
from mdfa_app.trainer.messages import (
    Answer,
    Content,
    Phase,
    Position,
    Refused,
    StageFrame,
    StageSignals,
    Status,
    Switched,
    Update,
)
from mdfa_app.trainer.nets import Net, Nets, facts_of
from mdfa_app.trainer.outbox import Notice, Outbox
from mdfa_app.trainer.pace import Pace, Share
from mdfa_app.trainer.rounds import SPARE, Rounds
from mdfa_app.trainer.sharing import MEMORY, SLOTS, Memory, Slots, Ticket
from mdfa_core import DATASETS, Experiment, MdfaError, Run
from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.stage import Look, unit_signals
from mdfa_core.training.events import Event
from mdfa_core.training.inspection import SnapshotRequest, snapshot

_log = logging.getLogger(__name__)

_open: weakref.WeakSet[Trainer] = weakref.WeakSet()
_CLOSE_SECONDS = 5.0  # for all trainings together to end with the interpreter
_SNAPSHOT_SECONDS = 0.3  # between two snapshots
_FRAME_SECONDS = 0.12  # between two frames of the stage
_FRAMING_SECONDS = 0.03  # after which the remaining frames wait for the next round
_ANSWER_SECONDS = 0.1  # that the page has to itself after Pause
_SWITCH_SECONDS = 0.0005
"""How long a thread that wants Python's lock waits for the thread that has it; Python's default is 5 ms. Training asks
for it at every operator, and the page for every message: neither should stand still for the other."""


@atexit.register
def _close_all() -> None:
    """End every training before the interpreter ends: a thread that is cut off inside PyTorch aborts the process."""
    trainers = list(_open)
    for trainer in trainers:
        trainer.close()
    end = time.monotonic() + _CLOSE_SECONDS
    for trainer in trainers:
        trainer.join(max(0.0, end - time.monotonic()))


class Trainer:
    """The training of one page: a net for every compared rule, all on the same mini-batches.

    The net that is behind always trains next. So the nets advance in lockstep, and a rule that is added later catches
    up with the others.

    Args:
        notify: called from the training thread when there is something to `take`, and again when that is `pressing`.
        slots, memory: shared with the other trainers of this server.
        limits: of one comparison.

    Attributes:
        nets: the nets that are made; they belong to the training thread, so look only while it rests.
        memory: shared with the other trainers of this server.
        closed: whether `close` was called.
    """

    def __init__(
        self,
        notify: Callable[[], None],
        *,
        slots: Slots = SLOTS,
        memory: Memory = MEMORY,
        limits: Limits = LIMITS,
    ) -> None:
        self.memory = memory
        self._slots, self._limits = slots, limits
        self._changed = threading.Condition()
        self._outbox = Outbox(self._changed, notify)
        self._thread: threading.Thread | None = None
        self.closed = False
        self._number = 0  # of the comparison that the page wants
        self._settings: Experiment | None = None
        self._rules: tuple[Rule, ...] = ()
        self._seeds = 1
        self._dropped: set[str] = set()  # names of rules whose nets are to be dropped
        self._speed = SPEEDS["normal"]
        self._remaining: int | None = 0  # mini-batches to train from the net ahead; None until the end
        self._active = False  # whether there is anything to train
        self._request = 0  # counts requests, so that the thread notices a new one
        self._jobs: deque[tuple[str, Callable[[], None]]] = deque()  # each with the lane it is about, if any
        self._watched: tuple[str, SnapshotRequest] | None = None
        self._look: Look | None = None  # the unit that the visitor looks at
        # The rest belongs to the thread.
        self.nets = Nets(memory, limits)
        self._made_number = 0
        self._rounds = Rounds(self._send_event)
        self._snapshots = Share(_SNAPSHOT_SECONDS)
        self._frames = Share(_FRAME_SECONDS)
        self._framed: deque[str] = deque()  # names of the nets, the one that waits longest for a frame first
        _open.add(self)

    # ------------------------------------------------------------------------------------------------ for the page

    def prepare(self, settings: Experiment, rules: Sequence[Rule], *, seeds: int = 1, start: bool = False) -> int:
        """Drop all nets and make new ones; returns the number of the new comparison.

        Args:
            settings: the experiment that all nets share.
            rules: a net is made for each.
            seeds: the number of replicas of each net.
            start: whether to train at once.

        Raises:
            InvalidValue: it is more than this server allows.
            GeometryError: the network does not fit the images.
        """
        self._limits.check_all([rule.experiment(settings) for rule in rules], seeds)
        with self._changed:
            self._number += 1
            self._outbox.clear()
            self._jobs.clear()
            self._watched = self._look = None
            self._settings, self._rules, self._seeds = settings, tuple(rules), seeds
            self._set_target(None if start else 0, active=start)
            return self._number

    @property
    def crowded(self) -> bool:
        """Whether other trainers have or want all slots."""
        return self._slots.taken + self._slots.waiting >= self._slots.count

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Compare other rules: nets of rules that stay are kept, those of new rules catch up.

        Raises:
            InvalidValue: it is more than this server allows.
        """
        assert self._settings is not None
        self._limits.check_all([rule.experiment(self._settings) for rule in rules], self._seeds)
        with self._changed:
            # Remembered by name: the thread may look only when a rule that went has already come back.
            dropped = {rule.name for rule in self._rules} - {rule.name for rule in rules}
            self._dropped |= dropped
            self._outbox.drop(dropped)
            self._jobs = deque((lane, job) for lane, job in self._jobs if lane not in dropped)
            self._rules = tuple(rules)
            self._set_target(self._remaining, active=True)

    def start(self) -> None:
        """Train until the end."""
        with self._changed:
            self._set_target(None, active=True)

    def step(self, count: int = 1) -> None:
        """Train this many more mini-batches than already requested, then pause."""
        with self._changed:
            self._set_target(count + (self._remaining or 0), active=True)

    def pause(self) -> None:
        """Stop after the current mini-batch; `start` continues from there."""
        with self._changed:
            self._set_target(0, active=False)

    def set_learning_rate(self, rate: float) -> None:
        """Train at another learning rate from now on.

        Raises:
            InvalidValue: it is not a positive finite number.
        """
        with self._changed:
            if self._settings is not None:
                self._settings = self._settings.replace(learning_rate=rate)

        def change() -> None:
            for net in self.nets.values():
                net.run.set_learning_rate(rate)

        self._queue(change)

    def switch(self, lane: str, rule: Rule) -> None:
        """Let the net of rule `lane` learn by another rule; the message is `Switched` or `Refused`."""

        def change() -> None:
            self.nets.switch(lane, rule)
            self._send(self._made_number, StageFrame(self.nets[lane].frame()), lane=lane, notice=Notice.LATER)
            self._send(self._made_number, Switched(rule), lane=lane)

        self._queue(change, lane)

    def set_speed(self, speed: Speed) -> None:
        """Train at another speed from now on."""
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def watch(self, lane: str, wanted: SnapshotRequest | None) -> None:
        """From now on send snapshots of a net with these parts, the first at once; None for no more snapshots."""
        with self._changed:
            self._watched = None if wanted is None else (lane, wanted)
        if wanted is not None:
            self._queue(partial(self._send_snapshot, Notice.NOW))

    def look(self, at: Look | None) -> None:
        """From now on send the error signals of a unit with the frames, the first at once; None for no unit."""
        with self._changed:
            self._look = at
            waits = any(job == self._answer_look for _, job in self._jobs)
        if at is not None and not waits:
            self._queue(self._answer_look)

    def ask(
        self,
        lane: str,
        work: Callable[[Run], Any],
        receive: Callable[[Any], None],
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        """Call `work` with the run of a rule between two mini-batches; the message is an `Answer` for `receive`.

        If there is no such net, or `work` raises an `MdfaError`, the answer is a sentence for `refuse`. Without
        `refuse`, there is no answer in the first case, and a `Refused` in the second.
        """

        def answer() -> None:
            net = self.nets.get(lane)
            if net is None and refuse is None:
                return
            try:
                if net is None:
                    raise InvalidValue("this network does not exist yet: press Start")
                result = Answer(receive, work(net.run))
            except MdfaError as error:
                if refuse is None:
                    raise
                result = Answer(refuse, str(error))
            self._send(self._made_number, result)

        self._queue(answer)

    def close(self) -> None:
        """Stop for good; the thread ends after the current mini-batch."""
        with self._changed:
            self.closed = True
            self._request += 1
            self._changed.notify_all()
            if self._thread is None:
                self.nets.drop(self.nets)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no thread runs; False if one still does. A thread ends when it has nothing to do."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def take(self) -> list[Update]:
        """The messages since the last call."""
        with self._changed:
            return self._outbox.take()

    @property
    def pressing(self) -> bool:
        """Whether a visitor waits for one of the messages."""
        return self._outbox.pressing

    def _set_target(self, remaining: int | None, *, active: bool) -> None:
        """Set how many mini-batches to train, and wake the thread. The caller holds the lock."""
        if self.closed:
            return
        self._remaining, self._active = remaining, active
        self._request += 1
        self._wake()

    def _queue(self, job: Callable[[], None], lane: str = "") -> None:
        """Have the thread do a job between two rounds; a job about a net is dropped with the net."""
        with self._changed:
            if not self.closed:
                self._jobs.append((lane, job))
                self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trainer", daemon=True)
            self._thread.start()

    # ---------------------------------------------------------------------------------------------- in the thread

    def _work(self) -> None:
        torch.set_num_threads(1)
        sys.setswitchinterval(_SWITCH_SECONDS)
        while True:
            with self._changed:
                made = self._made_number == self._number
                if self.closed or (made and not self._active and not self._jobs):
                    self._thread = None
                    if self.closed:
                        self.nets.drop(self.nets)
                    return
                number, settings, rules, seeds = self._number, self._settings, self._rules, self._seeds
                request, active = self._request, self._active
                dropped, self._dropped = self._dropped, set()
            try:
                if settings is None:
                    raise InvalidValue("there is nothing to train yet: prepare an experiment first")
                self.nets.drop(dropped)
                self._make(number, settings, rules, seeds, wanted=active)
                self._do_jobs(request)
                if active and self.nets and self._request == request:
                    self._train(number, request)
            except MdfaError as error:
                self._fail(number, str(error))
            except MemoryError:
                self._fail(number, "this machine has not enough memory for this run: choose a smaller network")
            except Exception as error:
                _log.exception("unexpected error in a training thread")
                self._fail(number, f"unexpected error ({type(error).__name__}): see the server's log")

    def _make(self, number: int, settings: Experiment, rules: Sequence[Rule], seeds: int, *, wanted: bool) -> None:
        """Make the nets that are missing; `wanted` says whether they are to be trained."""
        new = number != self._made_number
        if new:
            self.nets.drop(self.nets)
            self._made_number = number
        unmade = [rule for rule in rules if rule.name not in self.nets]
        if not unmade or not (new or wanted):
            return
        not_here = missing(settings.data)
        if not_here and not wanted:
            self._send(number, Status(Phase.IDLE, not_here))
            return
        if not_here and not downloads():
            raise InvalidValue(not_here)
        title = DATASETS[settings.data].title
        doing = f"Downloading {title}. This takes a while, but only once." if not_here else f"Reading {title}."
        self._send(number, Status(Phase.PREPARING, doing))
        try:
            for rule in unmade:
                self.nets.make(rule, settings, seeds)
        except DataError as error:
            if downloads():
                raise
            _log.warning("a visitor got no data set: %s", error)  # it names folders of this server
            raise InvalidValue(f"{title} cannot be read on this server: choose other data") from None
        self._send(number, facts_of(next(iter(self.nets.values()))))
        self._send_frames(math.inf)
        if not self._active:
            self._send(number, Status(Phase.IDLE))

    def _train(self, number: int, request: int) -> None:
        """Train until there is another request."""
        if self._remaining == 0 and all(net.run.step == self.nets.lead for net in self.nets.learning):
            with self._changed:
                if self._request == request:
                    self._active = False
            self._send_phase(number)
            return
        with self._slots.queued() as ticket:
            if not self._got_slot(ticket, number, request):
                return
            self._send(number, Status(Phase.RUNNING))
            self._train_rounds(number, request)
        paused = self._request != request
        if paused:
            self._send_phase(number)  # first: the visitor waits for it
        self._send_last(request)
        if not paused:
            self._send_phase(number)

    def _got_slot(self, ticket: Ticket, number: int, request: int) -> bool:
        """Wait for a slot and say how many are ahead; False if there is another request."""
        sent = None
        while not ticket.wait(0 if sent is None else 0.2):
            self._do_jobs(request)
            if self._request != request:
                if not self._active and number == self._number and not self.closed:
                    self._send(number, Status(Phase.PAUSED))
                return False
            if sent != ticket.ahead:
                sent = ticket.ahead
                ahead = "You are next." if sent == 0 else f"{sent} before you."
                self._send(number, Status(Phase.QUEUED, f"All {self._slots.count} training slots are taken. {ahead}"))
        return True

    def _train_rounds(self, number: int, request: int) -> None:
        """Train rounds in lockstep until the request is met or another one arrives."""
        until = time.monotonic() + self._limits.turn_seconds
        remaining, lead = self._remaining, self.nets.lead
        goal = None if remaining is None else lead + remaining
        speed, pace = self._speed, Pace(self._speed, lead)
        self._frames = Share(_FRAME_SECONDS)
        while True:
            thread_count = self._rounds.set_threads(self.nets.parameters, self._slots.taken)
            self._do_jobs(request)
            if self._speed is not speed:
                speed, pace = self._speed, Pace(self._speed, lead)
            learning = self.nets.learning
            low = min((net.run.step for net in learning), default=0)
            if not learning or (goal is not None and low >= goal):
                break
            behind = low < lead
            target, measuring = self._rounds.target(low, lead, goal, remaining, speed)
            with self._changed:
                if self._request != request:
                    return
                if goal is not None:
                    self._remaining = goal - max(lead, target)  # after this round: more steps may be requested
            self._rounds.train(learning, target, measuring=measuring, thread_count=thread_count, speed=speed)
            lead = max(lead, target)
            if self._frames.due():
                took = self._send_frames(_FRAMING_SECONDS)
                if speed.steps_per_second is None:
                    self._frames.took(took, time.thread_time)
                else:
                    self._frames.took(took / SPARE)
            self._send_position(number)
            if self._snapshots.due():
                self._send_snapshot()
            if not behind and remaining is None:
                self._rest(pace.ahead(lead), request, speed)
            turn_is_over = time.monotonic() > until and self._slots.waiting > 0
            if self._request != request or turn_is_over:
                return
        with self._changed:
            if self._request == request:
                self._remaining, self._active = 0, False

    def _rest(self, seconds: float, request: int, speed: Speed) -> None:
        """Wait, but no longer than until there is something to do."""
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._request != request or self._speed is not speed or bool(self._jobs), timeout=seconds
                )

    def _do_jobs(self, request: int) -> None:
        """Do the jobs that wait until there is another request: later jobs may need its nets."""
        while True:
            with self._changed:
                if not self._jobs or self._request != request:
                    return
                _, job = self._jobs.popleft()
            try:
                job()
            except MdfaError as error:
                self._send(self._made_number, Refused(str(error)))

    def _fail(self, number: int, sentence: str) -> None:
        """Drop all nets and say why."""
        self.nets.drop(self.nets)
        with self._changed:
            if number == self._number:
                self._remaining, self._active = 0, False
                self._made_number = number
                self._jobs.clear()
        self._send(number, Status(Phase.FAILED, sentence))

    # -------------------------------------------------------------------------------------------------- messages

    def _send(self, number: int, content: Content, *, lane: str = "", notice: Notice = Notice.NOW) -> None:
        """Send a message about comparison `number`, unless the page wants another one or the lane's net is dropped."""
        self._outbox.send(
            Update(number, content, lane),
            wanted=lambda: number == self._number and lane not in self._dropped,
            closed=lambda: self.closed,
            notice=notice,
        )

    def _send_frames(self, seconds: float, unless: Callable[[], bool] = lambda: False) -> float:
        """Send frames of the nets for so long, but one at least; the others come first the next time.

        Frames without a limit of time are the last ones for now, so they show the newest weights. `unless` ends them.

        Returns the seconds it took of this thread's own time: on a busy machine it also waits.
        """
        begun = time.thread_time()
        self._framed.extend(name for name in self.nets if name not in self._framed)
        for _ in range(len(self._framed)):
            name = self._framed.popleft()
            if name not in self.nets:
                continue
            self._framed.append(name)
            frame = self.nets[name].frame(whole=seconds == math.inf)
            self._send(self._made_number, StageFrame(frame), lane=name, notice=Notice.LATER)
            if time.thread_time() - begun > seconds or unless():
                break
        self._send_signals(Notice.LATER)
        return time.thread_time() - begun

    def _send_last(self, request: int) -> None:
        """Send frames and a snapshot of the weights at which training has stopped, unless it is to go on."""

        def ends() -> bool:
            return self.closed or (self._request != request and self._active)

        if self._request != request:  # somebody pressed Pause, and pictures would take Python's lock from the answer
            with self._changed:
                self._changed.wait_for(lambda: ends() or bool(self._jobs), timeout=_ANSWER_SECONDS)
        if not ends():
            self._send_frames(math.inf, unless=ends)
        if not ends():
            self._send_snapshot()
        self._outbox.announce(Notice.DUE)

    def _answer_look(self) -> None:
        self._send_signals(Notice.NOW)

    def _send_signals(self, notice: Notice) -> None:
        """Send the error signals of the unit that is looked at, if there is one."""
        look = self._look
        net = None if look is None else self.nets.get(look.row)
        if look is None or net is None:
            return
        try:
            found = unit_signals(net.run, look.layer, look.unit)
        except InvalidValue:  # a unit of the nets before these, or whatever a browser may name
            with self._changed:
                self._look = None if self._look is look else self._look
        else:
            self._send(self._made_number, StageSignals(found.to_dict(look.row)), lane=look.row, notice=notice)

    def _send_event(self, net: Net, event: Event) -> None:
        net.note(event)
        self._send(self._made_number, event, lane=net.rule.name, notice=Notice.LATER)

    def _send_position(self, number: int) -> None:
        run = max((net.run for net in self.nets.values()), key=lambda run: run.step)
        position = Position(run.step, run.epoch, self.nets.caught_up)
        self._send(number, position, notice=Notice.DUE if self._outbox.due else Notice.LATER)

    def _send_phase(self, number: int) -> None:
        """Say how training stands after it has stopped."""
        if self.nets.finished:
            self._send(number, Status(Phase.DIVERGED if self.nets.diverged else Phase.FINISHED))
        elif not self._active and number == self._number:
            begun = any(net.run.step for net in self.nets.values())
            self._send(number, Status(Phase.PAUSED if begun else Phase.IDLE))

    def _send_snapshot(self, notice: Notice = Notice.DUE) -> None:
        watched = self._watched
        if watched is None or watched[0] not in self.nets:
            return
        begun = time.monotonic()
        name, wanted = watched
        net = self.nets[name]
        try:
            self._send(self._made_number, snapshot(net.run, net.overview, wanted), lane=name, notice=notice)
        except InvalidValue as error:  # an image or a unit that this run does not have
            self._watched = None
            self._send(self._made_number, Refused(str(error)))
        self._snapshots.took(time.monotonic() - begun)
