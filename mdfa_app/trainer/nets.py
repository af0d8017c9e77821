"""The nets of one comparison: made, switched, dropped, and their memory counted."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping

from mdfa_app.settings.limits import Limits, measured_part
from mdfa_app.settings.rules import Rule
from mdfa_app.trainer.messages import Facts
from mdfa_app.trainer.sharing import Memory
from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import TaskCache
from mdfa_core.stage import Camera, Scene, TrainingAccuracy, scene_of
from mdfa_core.training.events import Diverged, Event
from mdfa_core.training.inspection import Overview, overview

DEVICE = "cpu"
"""Visitors share the server, and nets of this size gain nothing from a GPU."""


class Net:
    """The net of one rule.

    Attributes:
        rule: the rule the net was made for.
        learns_by: its current learning rule.
        run: trains it.
        bytes: the memory that is counted for it.
        accuracy: its newest training accuracy.
    """

    def __init__(self, rule: Rule, run: Run, bytes_: int) -> None:
        self.rule, self.run, self.bytes = rule, run, bytes_
        self.learns_by = rule
        self.accuracy = TrainingAccuracy()
        self._diverged: set[int] = set()  # replicas
        self._overview: Overview | None = None

    @property
    def experiment(self) -> Experiment:
        """The experiment of its current learning rule."""
        return self.learns_by.experiment(self.run.experiments[0])

    @property
    def overview(self) -> Overview:
        """The parts of its snapshots that stay the same."""
        if self._overview is None:
            self._overview = overview(self.run)
        return self._overview

    @functools.cached_property
    def scene(self) -> Scene:
        """Its layers and pictures, as the stage draws them."""
        return scene_of(self.run)

    @property
    def diverged(self) -> bool:
        """Whether its loss became NaN or infinite, for every seed."""
        return len(self._diverged) == self.run.replicas

    def note(self, event: Event) -> None:
        """Take what an event of its run tells."""
        self.accuracy.note(event)
        if isinstance(event, Diverged):
            self._diverged.add(event.replica)

    @functools.cached_property
    def _camera(self) -> Camera:
        return Camera(self.run, self.scene)

    def frame(self, *, whole: bool = True) -> bytes:
        """The stage's frame of this moment, as bytes; if not `whole`, with weights that are up to a second old."""
        part = measured_part(self.run.network.parameter_count)
        units = None if part is None else part.units
        return self._camera.take(whole=whole, accuracy=self.accuracy.value, units=units).to_bytes()


class Nets(Mapping[str, Net]):
    """The nets by the names of their rules. They belong to the training thread: others may look while it rests.

    Args:
        memory: shared with the other trainers of this server.
        limits: of one comparison.
    """

    def __init__(self, memory: Memory, limits: Limits) -> None:
        self._memory, self._limits = memory, limits
        self._nets: dict[str, Net] = {}
        self._tasks = TaskCache(memory_limit=1)

    def __getitem__(self, name: str) -> Net:
        return self._nets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nets)

    def __len__(self) -> int:
        return len(self._nets)

    @property
    def lead(self) -> int:
        """The mini-batch that the leading net has reached."""
        return max(net.run.step for net in self.values())

    @property
    def learning(self) -> list[Net]:
        """The nets that are not at their end."""
        return [net for net in self.values() if not net.run.finished]

    @property
    def finished(self) -> bool:
        """Whether all nets are at their end."""
        return not self.learning

    @property
    def diverged(self) -> bool:
        """Whether the loss of every net became NaN or infinite."""
        return all(net.diverged for net in self.values())

    @property
    def caught_up(self) -> tuple[str, ...]:
        """Names of the nets that are not behind the leading one."""
        lead = self.lead
        return tuple(name for name, net in self.items() if net.run.finished or net.run.step == lead)

    @property
    def parameters(self) -> int:
        """The number of parameters of the largest net."""
        return max(net.run.network.parameter_count for net in self.values())

    def make(self, rule: Rule, settings: Experiment, seeds: int = 1) -> None:
        """Make the net of a rule, with so many seeds side by side.

        Raises:
            InvalidValue: it is more than this server allows, or its memory is full.
        """
        experiments = rule.experiments(settings, seeds)
        bytes_ = self._limits.check(experiments[0], seeds)
        self._memory.reserve(bytes_)
        try:
            run = Run(experiments, device=DEVICE, tasks=self._tasks)
            if run.learner.method is not rule.method:
                run.set_method(rule.method)
        except BaseException:
            self._memory.release(bytes_)
            raise
        self._nets[rule.name] = Net(rule, run, bytes_)

    def switch(self, name: str, rule: Rule) -> None:
        """Let a net learn by another rule from now on, with the weights it has.

        Raises:
            InvalidValue: there is no such net, it is at its end, or the rule needs more than this server allows.
            MdfaError: the rule cannot take over the net's weights and feedback.
        """
        net = self._nets.get(name)
        if net is None:
            raise InvalidValue("this network does not exist yet: press Start, then switch it")
        if net.run.finished:
            raise InvalidValue(f"the {net.rule.title} network has finished: press Reset for a new one")
        experiment = rule.experiment(net.run.experiments[0])
        others = [other.experiment for other in self.values() if other is not net]
        self._limits.check_all([*others, experiment], net.run.replicas)
        more = self._limits.check(experiment, net.run.replicas) - net.bytes
        self._memory.reserve(more)
        try:
            net.run.set_method(rule.method)
        except BaseException:
            self._memory.release(more)
            raise
        net.bytes += more
        net.learns_by = rule

    def drop(self, names: Iterable[str]) -> None:
        """Drop the nets of these rules."""
        for name in list(names):
            net = self._nets.pop(name, None)
            if net is not None:
                self._memory.release(net.bytes)


def facts_of(net: Net) -> Facts:
    """The facts about the nets that their page shows; all nets have them in common."""
    run = net.run
    return Facts(class_names=run.tasks[0].class_names, scene=net.scene, steps_per_epoch=run.steps_per_epoch)
