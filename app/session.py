"""One visitor's training, beside the event loop: a thread that drives a run of every rule in lockstep.

Nothing here knows Panel. The page asks (`prepare`, `start`, `step`, `pause`, `close`, …) and is told by `notify`, at
most once until it has called `take`.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from app.limits import LIMITS, Limits
from app.messages import Answer, Facts, Position, Refused, State, Status, Switched, Update
from app.pace import SPEEDS, Pace, Share, Speed, Threads
from app.rules import Rule
from app.sharing import MEMORY, PLACES, Memory, Places, Ticket
from mdfa_core import DATASETS, Every, Experiment, MdfaError, Run, side_by_side
from mdfa_core.data import TaskCache
from mdfa_core.data.places import find_place
from mdfa_core.errors import InvalidValue
from mdfa_core.inspection import Scene, Wanted, scene, snapshot
from mdfa_core.probes import LIVE

_log = logging.getLogger(__name__)

_open: weakref.WeakSet[Trainer] = weakref.WeakSet()
_PATIENCE = 5.0  # seconds for all trainings together to end with the interpreter


@atexit.register
def _close_all() -> None:
    """End every training before the interpreter goes: a thread that is cut off inside torch aborts the process."""
    trainers = list(_open)
    for trainer in trainers:
        trainer.close()
    end = time.monotonic() + _PATIENCE
    for trainer in trainers:
        trainer.join(max(0.0, end - time.monotonic()))


DEVICE = "cpu"
"""Visitors share the server; nets of this size gain nothing from a GPU."""

_ONCE = Every(seconds=1e9)
"""Due at the first mini-batch of a call of `Run.events`, and at the end of the run."""

_AT_END = Every(epochs=sys.maxsize)
"""Due at the end of the run alone: what a finished run shows is how it ended."""

_SPARE = 5  # times the share of measurements at a speed at which training rests most of the time
_PROBE_SECONDS = 0.12  # between two measurements: not more often than anyone can see
_SNAPSHOT_SECONDS = 0.3
_ROUND_SECONDS = 0.05  # of training at full speed between two looks at what is asked for
_TELL_SECONDS = 0.13  # between two notices to the page
_SWITCH_SECONDS = 0.0005
"""How long a thread that wants Python's lock waits for another one to give it up, in place of Python's 5 ms. Training
asks for it at every operator, and the page when it writes a message: neither shall stand still for the other."""

_THREADS = torch.get_num_threads()  # of PyTorch's choice, or OMP_NUM_THREADS
_EXACT = 200_000  # parameters up to which a measurement looks at the whole net
_PICTURED_CLASSES = 10
_PICTURES = 4  # of each class
_SINGLE = 10  # mini-batches up to which a step is shown one by one
_OUTBOX = 2000  # updates that may wait for a page that is slow


def absent(data: str) -> str | None:
    """A sentence on what a data set still needs, or None if it is here."""
    entry = DATASETS[data]
    try:
        place = find_place()
        if entry.bundled or entry.find(place) is not None:
            return None
    except MdfaError as error:
        return str(error)
    if place.named or not entry.downloads:
        return f"{entry.title} is not in the data folder of this server: Start says what is missing."
    return f"{entry.title} is not on this server yet: Start fetches it, once, if it can be downloaded ({entry.source})."


class _Net:
    """One rule's net: what the training thread knows of it."""

    def __init__(self, rule: Rule, run: Run, bytes_: int) -> None:
        self.rule, self.run, self.bytes = rule, run, bytes_
        self.learns_by = rule
        self._scene: Scene | None = None

    @property
    def experiment(self) -> Experiment:
        """What it has come to: that of the rule it learns by now."""
        return self.learns_by.experiment(self.run.experiments[0])

    @property
    def scene(self) -> Scene:
        """What stays the same for those who look into it."""
        if self._scene is None:
            self._scene = scene(self.run)
        return self._scene


class Trainer:
    """The training of one page: a net for every rule that is compared, all on the same mini-batches.

    The net that is behind is always the next: that is what lockstep means, and how a rule that is added later catches
    up with the others.

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
        self._told = 0.0  # when notify was called last
        self._thread: threading.Thread | None = None
        self._closed = False
        self._number = 0  # of the comparison the page wants
        self._settings: Experiment | None = None
        self._rules: tuple[Rule, ...] = ()
        self._left: set[str] = set()  # names of rules whose nets are to be dropped
        self._speed = SPEEDS["normal"]
        self._wish: int | None = 0  # mini-batches still to train, from the net that is ahead: None until the end
        self._active = False  # whether anything is wished
        self._wishes = 0  # counts what was asked for, so that the thread sees it was asked for something else
        self._errands: deque[tuple[str, Callable[[], None]]] = deque()  # and whose net each is about, if it matters
        self._look: tuple[str, Wanted] | None = None
        # The rest belongs to the thread.
        self._nets: dict[str, _Net] = {}
        self._made_number = 0
        self._tasks = TaskCache(memory_limit=1)
        self._probe_share, self._snapshot_share = Share(_PROBE_SECONDS), Share(_SNAPSHOT_SECONDS)
        self._round = 1  # mini-batches of a round at full speed
        self._threads = Threads()
        _open.add(self)

    # ------------------------------------------------------------------------------------------------ for the page

    def prepare(self, settings: Experiment, rules: Sequence[Rule], *, start: bool = False) -> int:
        """Give up the nets there are, make new ones, and start them if asked to; returns the comparison's number.

        Raises:
            InvalidValue: it is more than this server allows.
            GeometryError: the network does not fit the images.
        """
        self._limits.check_all([rule.experiment(settings) for rule in rules])
        with self._changed:
            self._number += 1
            self._outbox.clear()
            self._errands.clear()
            self._look = None
            self._settings, self._rules = settings, tuple(rules)
            self._ask(None if start else 0, active=start)
            return self._number

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Compare other rules: nets that stay go on, new ones catch up, and so do those that come back.

        Raises:
            InvalidValue: it is more than this server allows.
        """
        assert self._settings is not None
        self._limits.check_all([rule.experiment(self._settings) for rule in rules])
        with self._changed:
            # Noted by name: the thread may look only when a rule that went has already come back.
            left = {rule.name for rule in self._rules} - {rule.name for rule in rules}
            self._left |= left
            self._outbox = deque(update for update in self._outbox if update.lane not in left)
            self._errands = deque((lane, errand) for lane, errand in self._errands if lane not in left)
            self._rules = tuple(rules)
            self._ask(self._wish, active=True)

    def start(self) -> None:
        """Train until the end."""
        with self._changed:
            self._ask(None, active=True)

    def step(self, count: int = 1) -> None:
        """Train so many mini-batches, after those of steps that are not done yet, then pause."""
        with self._changed:
            self._ask(count + (self._wish or 0), active=True)

    def pause(self) -> None:
        """Stop after the current mini-batch; `start` goes on."""
        with self._changed:
            self._ask(0, active=False)

    def set_learning_rate(self, rate: float) -> None:
        """Go on with another learning rate.

        Raises:
            InvalidValue: it is not a positive finite number.
        """
        with self._changed:
            if self._settings is not None:
                self._settings = self._settings.replace(learning_rate=rate)

        def change() -> None:
            for net in self._nets.values():
                net.run.set_learning_rate(rate)

        self._do(change)

    def switch(self, lane: str, rule: Rule) -> None:
        """Let the net of rule `lane` go on by another one, with the weights it has; answers `Switched` or `Refused`."""

        def change() -> None:
            self._switch(lane, rule)
            self._say(self._made_number, Switched(rule), lane=lane)

        self._do(change, lane)

    def set_speed(self, speed: Speed) -> None:
        """Go on at another speed."""
        with self._changed:
            self._speed = speed
            self._changed.notify_all()

    def look(self, lane: str, wanted: Wanted | None) -> None:
        """From now on hand over snapshots of a rule's net, the first at once; None for no more."""
        with self._changed:
            self._look = None if wanted is None else (lane, wanted)
        if wanted is not None:
            self._do(self._take_snapshot)

    def ask(
        self,
        lane: str,
        work: Callable[[Run], Any],
        tell: Callable[[Any], None],
        refuse: Callable[[str], None] | None = None,
    ) -> None:
        """Have `work` done with a rule's run between two mini-batches; `tell` is handed over with what it returns.

        `refuse` is handed over with a sentence if there is no such net, or for an `MdfaError` of `work`. Without it
        nothing is handed over in the first case, and a `Refused` in the second.
        """

        def answer() -> None:
            net = self._nets.get(lane)
            if net is None and refuse is None:
                return
            try:
                if net is None:
                    raise InvalidValue("there is no such net yet: Start makes it, and says why if it cannot")
                told = Answer(tell, work(net.run))
            except MdfaError as error:
                if refuse is None:
                    raise
                told = Answer(refuse, str(error))
            self._say(self._made_number, told)

        self._do(answer)

    def close(self) -> None:
        """Stop for good; the thread ends after the current mini-batch."""
        with self._changed:
            self._closed = True
            self._wishes += 1
            self._changed.notify_all()
            if self._thread is None:
                self._drop_all()

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

    def _ask(self, steps: int | None, *, active: bool) -> None:
        """Change the wish (the lock is held) and see to it that a thread fulfils it."""
        if self._closed:
            return
        self._wish, self._active = steps, active
        self._wishes += 1
        self._wake()

    def _do(self, errand: Callable[[], None], lane: str = "") -> None:
        """Have something done in the thread between two rounds; not if it is about a net that has gone by then."""
        with self._changed:
            if not self._closed:
                self._errands.append((lane, errand))
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
                if self._closed or (made and not self._active and not self._errands):
                    self._thread = None
                    if self._closed:
                        self._drop_all()
                    return
                number, settings, rules = self._number, self._settings, self._rules
                wishes, active = self._wishes, self._active
                left, self._left = self._left, set()
            try:
                if settings is None:
                    raise InvalidValue("there is nothing to train yet: prepare an experiment first")
                self._drop(left)
                self._make(number, settings, rules, wanted=active)
                self._run_errands(wishes)
                if active and self._nets and self._wishes == wishes:
                    self._train(number, wishes)
            except MdfaError as error:
                self._give_up(number, str(error))
            except MemoryError:
                self._give_up(number, "this machine has not enough memory for this run: choose a smaller network")
            except Exception as error:
                _log.exception("a training thread met an unexpected error")
                self._give_up(number, f"something unexpected went wrong ({type(error).__name__}): see the server's log")

    def _make(self, number: int, settings: Experiment, rules: Sequence[Rule], *, wanted: bool) -> None:
        """Make the nets that are missing."""
        anew = number != self._made_number
        if anew:
            self._drop_all()
            self._made_number = number
        missing = [rule for rule in rules if rule.name not in self._nets]
        if not missing or not (anew or wanted):
            return
        absent_ = absent(settings.data)
        if absent_ and not wanted:
            self._say(number, Status(State.IDLE, absent_))
            return
        title = DATASETS[settings.data].title
        doing = f"Fetching {title}; this takes a while, but only once." if absent_ else f"Reading {title}."
        self._say(number, Status(State.PREPARING, doing))
        for rule in missing:
            self._nets[rule.name] = self._make_net(rule, settings)
        self._say(number, _facts(next(iter(self._nets.values())).run))
        if not self._active:
            self._say(number, Status(State.IDLE))

    def _make_net(self, rule: Rule, settings: Experiment) -> _Net:
        experiment = rule.experiment(settings)
        bytes_ = self._limits.check(experiment)
        self._memory.take(bytes_)
        try:
            run = Run(experiment, device=DEVICE, tasks=self._tasks)
            if run.learner.method is not rule.method:
                run.set_method(rule.method)
        except BaseException:
            self._memory.give_back(bytes_)
            raise
        return _Net(rule, run, bytes_)

    def _switch(self, name: str, rule: Rule) -> None:
        net = self._nets.get(name)
        if net is None:
            raise InvalidValue("this net is not made yet: choose its rule once training has begun")
        if net.run.finished:
            raise InvalidValue(f"the net of {net.rule.title} is at its end: press Reset for a new one")
        experiment = rule.experiment(net.run.experiments[0])
        others = [other.experiment for other in self._nets.values() if other is not net]
        self._limits.check_all([*others, experiment])
        more = self._limits.check(experiment) - net.bytes
        self._memory.take(more)
        try:
            net.run.set_method(rule.method)
        except BaseException:
            self._memory.give_back(more)
            raise
        net.bytes += more
        net.learns_by = rule

    def _drop_all(self) -> None:
        self._drop(set(self._nets))

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            net = self._nets.pop(name, None)
            if net is not None:
                self._memory.give_back(net.bytes)

    def _train(self, number: int, wishes: int) -> None:
        """Train as long as nothing else is wished."""
        if self._fulfilled():
            with self._changed:
                if self._wishes == wishes:
                    self._active = False
            self._say_how_it_stands(number)
            return
        with self._places.asked() as ticket:
            if not self._got_place(ticket, number, wishes):
                return
            self._say(number, Status(State.RUNNING))
            self._drive(number, wishes)
        self._take_snapshot()
        self._say_how_it_stands(number)

    def _fulfilled(self) -> bool:
        """Whether nothing is left to train."""
        steps = [net.run.step for net in self._nets.values()]
        return self._wish == 0 and all(net.run.finished or net.run.step == max(steps) for net in self._nets.values())

    def _say_how_it_stands(self, number: int) -> None:
        runs = [net.run for net in self._nets.values()]
        if all(run.finished for run in runs):
            diverged = all(run.step < run.steps for run in runs)
            self._say(number, Status(State.DIVERGED if diverged else State.FINISHED))
        elif not self._active and number == self._number:
            begun = any(run.step for run in runs)
            self._say(number, Status(State.PAUSED if begun else State.IDLE))

    def _got_place(self, ticket: Ticket, number: int, wishes: int) -> bool:
        told = None
        while not ticket.wait(0 if told is None else 0.2):
            self._run_errands(wishes)
            if self._wishes != wishes:
                if not self._active and number == self._number and not self._closed:
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

    def _drive(self, number: int, wishes: int) -> None:
        """Train rounds in lockstep until the wish is fulfilled or another one is made."""
        until = time.monotonic() + self._limits.turn_seconds
        wish, lead = self._wish, max(net.run.step for net in self._nets.values())
        goal = None if wish is None else lead + wish
        speed, pace = self._speed, Pace(self._speed, lead)
        while True:
            threads = self._share_cores()
            self._run_errands(wishes)
            if self._speed is not speed:
                speed, pace = self._speed, Pace(self._speed, lead)
            going = [net for net in self._nets.values() if not net.run.finished]
            low = min((net.run.step for net in going), default=0)
            if not going or (goal is not None and low >= goal):
                break
            behind = low < lead
            target = low + self._size(speed, behind=behind, wish=wish)
            for bound in (goal, lead if behind else None):
                target = target if bound is None else min(target, bound)
            begun, trained = time.monotonic(), sum(net.run.step for net in going)
            measuring = self._probe_share.due() or (wish is not None and wish <= _SINGLE)
            if measuring and not behind:
                target = low + 1  # the price of a measurement is that of one mini-batch
            with self._changed:
                if self._wishes != wishes:
                    return
                if goal is not None:
                    self._wish = goal - max(lead, target)  # what is left after this round: steps may come to it
            self._advance_all(number, going, target, measuring=measuring, threads=threads)
            took = time.monotonic() - begun
            if measuring:
                self._probe_share.took(took if speed.steps_per_second is None else took / _SPARE)
            else:
                self._threads.took(threads, sum(net.run.step for net in going) - trained, took)
                if took < 0.5 * _ROUND_SECONDS:
                    self._round = min(2 * self._round, 4096)
                elif took > 1.5 * _ROUND_SECONDS:
                    self._round = max(1, self._round // 2)
            lead = max(lead, target)
            self._tell_position(number)
            if self._snapshot_share.due():
                self._take_snapshot()
            if not behind and wish is None:
                self._rest(pace.ahead(lead), wishes, speed)
            turn_is_over = time.monotonic() > until and self._places.waiting > 0
            if self._wishes != wishes or turn_is_over:
                return
        with self._changed:
            if self._wishes == wishes:
                self._wish, self._active = 0, False

    def _share_cores(self) -> int:
        """Take as many threads as serve these nets best; small ones gain nothing from a second one."""
        large = max(net.run.network.parameter_count for net in self._nets.values()) > _EXACT
        threads = self._threads.choose(max(1, _THREADS // self._places.taken) if large else 1)
        if torch.get_num_threads() != threads:  # a setting of this thread alone
            torch.set_num_threads(threads)
        return threads

    def _size(self, speed: Speed, *, behind: bool, wish: int | None) -> int:
        """Mini-batches of the next round."""
        if behind:
            return max(1, self._round)
        if wish is not None:
            return 1 if wish <= _SINGLE else max(1, min(self._round, wish // _SINGLE))
        return self._round if speed.steps_per_second is None else speed.round

    def _advance_all(self, number: int, nets: Sequence[_Net], target: int, *, measuring: bool, threads: int) -> None:
        """Train nets up to a mini-batch: large ones side by side, where there is a thread for each of two."""

        def advance(place: int) -> None:
            self._advance(number, nets[place], target, measuring=measuring)

        if threads > 1 and len(nets) > 1:
            side_by_side.each(advance, len(nets))
        else:
            for place in range(len(nets)):
                advance(place)

    def _advance(self, number: int, net: _Net, target: int, *, measuring: bool) -> None:
        """Train one net up to a mini-batch and hand over what happens."""
        count = target - net.run.step
        if count < 1:
            return
        sample = LIVE if net.run.network.parameter_count > _EXACT else None
        probe = _ONCE if measuring else _AT_END
        for event in net.run.events(progress=_ONCE, probe=probe, sample=sample, steps=count):
            self._say(number, event, lane=net.rule.name, now=False)

    def _tell_position(self, number: int) -> None:
        run = max((net.run for net in self._nets.values()), key=lambda run: run.step)
        level = tuple(name for name, net in self._nets.items() if net.run.finished or net.run.step == run.step)
        now = time.monotonic() - self._told > _TELL_SECONDS
        self._say(number, Position(run.step, run.epoch, run.experiments[0].epochs, level), now=now)

    def _run_errands(self, wishes: int) -> None:
        """Do what is to be done, as long as nothing else is wished: what came after a wish may need its nets."""
        while True:
            with self._changed:
                if not self._errands or self._wishes != wishes:
                    return
                _, errand = self._errands.popleft()
            try:
                errand()
            except MdfaError as error:
                self._say(self._made_number, Refused(str(error)))

    def _take_snapshot(self) -> None:
        look = self._look
        if look is None or look[0] not in self._nets:
            return
        begun = time.monotonic()
        name, wanted = look
        net = self._nets[name]
        try:
            self._say(self._made_number, snapshot(net.run, net.scene, wanted), lane=name)
        except InvalidValue as error:  # an image or unit that this run does not have
            self._look = None
            self._say(self._made_number, Refused(str(error)))
        self._snapshot_share.took(time.monotonic() - begun)

    def _rest(self, seconds: float, wishes: int, speed: Speed) -> None:
        """Wait, but not longer than until something else is wished."""
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._wishes != wishes or self._speed is not speed or bool(self._errands), timeout=seconds
                )

    def _give_up(self, number: int, sentence: str) -> None:
        self._drop_all()
        with self._changed:
            if number == self._number:
                self._wish, self._active = 0, False
                self._made_number = number
                self._errands.clear()
        self._say(number, Status(State.FAILED, sentence))

    def _say(self, number: int, what: Any, *, lane: str = "", now: bool = True) -> None:
        with self._changed:
            # A page that does not keep up holds its own training back, not the server's memory.
            self._changed.wait_for(lambda: len(self._outbox) < _OUTBOX or self._closed)
            if self._closed or number != self._number or lane in self._left:
                return
            self._outbox.append(Update(number, what, lane))
            if self._notified or not now:
                return
            self._notified = True
            self._told = time.monotonic()
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
