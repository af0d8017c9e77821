"""Rounds of training: how many mini-batches, which of them is measured, with how many threads.

A round lets every net that is not at its end advance to the same mini-batch. Between two rounds the trainer looks at
what the page asks for, so a round at full speed takes about `ROUND_SECONDS`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch

from mdfa_app.settings.limits import EXACT_PARAMETERS, measured_part
from mdfa_app.settings.speeds import Speed
from mdfa_app.trainer.nets import Net
from mdfa_app.trainer.pace import Share
from mdfa_core import Every
from mdfa_core.compute import threads
from mdfa_core.training.events import Event

ROUND_SECONDS = 0.05
PROBE_SECONDS = 0.12
"""Between two measurements: more often than a visitor can see makes no sense."""
SINGLE_STEPS = 10
"""Steps that a visitor asks for are shown one by one up to this number."""
SPARE = 5
"""Times the usual share of time for measurements, at speeds at which training mostly rests."""

_LONGEST = 4096  # mini-batches of a round
_THREADS = torch.get_num_threads()  # PyTorch's choice, or OMP_NUM_THREADS

_ONCE = Every(seconds=1e9)
"""Due at the first mini-batch of a call of `Run.events`, and at the end of the run."""

_AT_END = Every(epochs=sys.maxsize)
"""Due at the end of the run alone: a finished run always shows its last measurement."""


class Rounds:
    """Trains in rounds and learns from each how long the next one may be.

    Args:
        on_event: called with the net and every event; from another thread if nets train side by side.
    """

    def __init__(self, on_event: Callable[[Net, Event], None]) -> None:
        self._on_event = on_event
        self._probes = Share(PROBE_SECONDS)
        self._length = 1  # mini-batches of a round at full speed
        self._threads = threads.FasterCount()

    def set_threads(self, parameters: int, trainings: int) -> int:
        """Give PyTorch as many threads as serve nets of this size best while so many trainings share the machine."""
        most = max(1, _THREADS // trainings) if parameters > EXACT_PARAMETERS else 1  # small nets gain nothing
        count = self._threads.choose(most)
        if torch.get_num_threads() != count:  # a setting of this thread alone
            torch.set_num_threads(count)
        return count

    def target(self, low: int, lead: int, goal: int | None, remaining: int | None, speed: Speed) -> tuple[int, bool]:
        """The mini-batch that a round leads to, and whether its first mini-batch is measured.

        Args:
            low: the mini-batch of the net that is last.
            lead: of the net that is ahead.
            goal: the last requested mini-batch; None for the end of the run.
            remaining: mini-batches requested when training started; None for the end of the run.
            speed: the chosen speed.
        """
        behind = low < lead
        if behind:
            length = self._length
        elif remaining is not None:
            length = 1 if remaining <= SINGLE_STEPS else min(self._length, remaining // SINGLE_STEPS)
        else:
            length = self._length if speed.steps_per_second is None else speed.round
        target = low + max(1, length)
        for bound in (goal, lead if behind else None):
            target = target if bound is None else min(target, bound)
        measuring = self._probes.due() or (remaining is not None and remaining <= SINGLE_STEPS)
        if measuring and not behind:
            target = low + 1  # the price of a measurement is that of one mini-batch
        return target, measuring

    def train(self, nets: Sequence[Net], target: int, *, measuring: bool, thread_count: int, speed: Speed) -> None:
        """Train these nets up to a mini-batch; large nets side by side, if there is a thread for each of two."""

        side_by_side = thread_count > 1 and len(nets) > 1
        for net in nets:
            net.run.threads = 1 if side_by_side else thread_count

        def advance(place: int) -> None:
            self._advance(nets[place], target, measuring=measuring)

        begun, trained = time.monotonic(), sum(net.run.step for net in nets)
        if side_by_side:
            threads.parallel_map(advance, len(nets))
        else:
            for place in range(len(nets)):
                advance(place)
        took = time.monotonic() - begun
        if measuring:
            self._probes.took(took if speed.steps_per_second is None else took / SPARE)
            return
        self._threads.took(thread_count, sum(net.run.step for net in nets) - trained, took)
        if took < 0.5 * ROUND_SECONDS:
            self._length = min(2 * self._length, _LONGEST)
        elif took > 1.5 * ROUND_SECONDS:
            self._length = max(1, self._length // 2)

    def _advance(self, net: Net, target: int, *, measuring: bool) -> None:
        count = target - net.run.step
        if count < 1:
            return
        sample = measured_part(net.run.network.parameter_count)
        probe = _ONCE if measuring else _AT_END
        for event in net.run.events(progress=_ONCE, probe=probe, sample=sample, steps=count):
            self._on_event(net, event)
