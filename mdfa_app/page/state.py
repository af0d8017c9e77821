"""All that a page knows, and how the messages of its trainer change it. Nothing here knows Panel."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import singledispatchmethod

from mdfa_app.comparison.comparison import Comparison
from mdfa_app.page.words import PHASE_WORDS, outcomes
from mdfa_app.settings.link import Link
from mdfa_app.settings.rules import rules
from mdfa_app.settings.words import sentence
from mdfa_app.trainer.messages import Facts, Phase, Position, Refused, StageFrame, StageSignals, Status, Switched
from mdfa_core.stage import Film
from mdfa_core.training.events import Event

_LONGEST = 200  # characters of a complaint about a link


class StepRate:
    """The number of mini-batches per second, over the newest positions."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[float, int]] = deque(maxlen=60)  # time and step

    def add(self, step: int) -> None:
        """Note that training has reached this mini-batch."""
        self._ticks.append((time.monotonic(), step))

    def clear(self) -> None:
        """Forget all positions: training has stopped or restarted."""
        self._ticks.clear()

    @property
    def per_second(self) -> float:
        """0 if it is not known."""
        if len(self._ticks) < 3:
            return 0.0
        (first, first_step), (last, last_step) = self._ticks[0], self._ticks[-1]
        return (last_step - first_step) / (last - first) if last > first else 0.0


@dataclass(kw_only=True)
class PageState:
    """The state of one visitor's page.

    Attributes:
        comparison: what is compared, and what it has shown.
        preset: name of the preset that the page began with; empty for none.
        speed: name in `SPEEDS`.
        embed: whether the page shows the run alone.
        phase: of training.
        message: a sentence on the phase.
        note: a sentence on the last change; replaces the message while it is true.
        complaint: why the last request was refused; empty if it was not.
        wrong: why the settings that are shown are not allowed; empty if they are.
        begins: whether training is to start by itself.
        arrived: whether the visitor's browser shows the page.
        by_itself: whether it did so, and the visitor has not taken over since.
        started: whether Start was pressed, and neither Pause nor the end came since.
        target_step: the mini-batch that the requested steps lead to; 0 if there are none.
        resting: whether training waits for a visitor whose connection is lost or who looks at another tab.
        pending_rule: name of the rule that the drawn net was asked to switch to, until the trainer has answered.
        rate: mini-batches per second.
    """

    comparison: Comparison
    preset: str
    speed: str
    embed: bool
    phase: Phase = Phase.IDLE
    message: str = PHASE_WORDS[Phase.IDLE]
    note: str = ""
    complaint: str = ""
    wrong: str = ""
    begins: bool = False
    arrived: bool = False
    by_itself: bool = False
    started: bool = False
    target_step: int = 0
    resting: bool = False
    pending_rule: str = ""
    rate: StepRate = field(default_factory=StepRate)

    @classmethod
    def of(cls, link: Link, complaints: list[str]) -> PageState:
        """The state of a page that was opened by a link."""
        comparison = Comparison(
            rules=rules(),
            experiment=link.settings,
            seeds=link.seeds,
            compared=link.rules,
            drawn=link.draw,
            level=link.level,
        )
        complaint = _shortened(complaints)
        return cls(comparison=comparison, preset=link.preset, speed=link.speed, embed=link.embed, complaint=complaint)

    # ------------------------------------------------------------------------------------------------ what is possible

    @property
    def prepared(self) -> bool:
        """Whether the nets are made."""
        return self.comparison.facts is not None and self.phase is not Phase.FAILED

    @property
    def can_start(self) -> bool:
        """Whether Start can be pressed."""
        return not self.phase.busy

    @property
    def can_pause(self) -> bool:
        """Whether Pause can be pressed: also before training begins by itself."""
        return self.started or self.begins or self.phase in (Phase.RUNNING, Phase.QUEUED)

    @property
    def can_step(self) -> bool:
        """Whether steps can be requested: at rest, and during other steps, to which they are added."""
        stepping = self.phase in (Phase.RUNNING, Phase.QUEUED) and not self.started
        return stepping or self.phase in (Phase.IDLE, Phase.PAUSED)

    @property
    def can_switch(self) -> bool:
        """Whether the drawn net is made and still learns."""
        learns = self.comparison.drawn_lane.history.outcome is None
        return learns and self.comparison.facts is not None and not self.phase.over

    # ------------------------------------------------------------------------------------------- the trainer's messages

    @singledispatchmethod
    def apply(self, content: object, lane: str) -> None:
        """Change the state by the content of a message; `lane` names the rule it is about, if any.

        Raises:
            TypeError: there is no handler for such a message.
        """
        raise TypeError(f"a page cannot receive a {type(content).__name__}")

    @apply.register
    def _(self, status: Status, lane: str) -> None:
        self.phase = status.phase
        self.message = status.message or PHASE_WORDS[status.phase]
        stopped = status.phase is Phase.IDLE and status.message
        if stopped or status.phase not in (Phase.IDLE, Phase.RUNNING, Phase.PREPARING, Phase.PAUSED):
            self.note = ""
        if status.phase is Phase.FINISHED:
            ends = {one.history.name: one.history.outcome for one in self.comparison.lanes.values()}
            self.message += " " + outcomes({name: end for name, end in ends.items() if end is not None})
        self.started &= status.phase.busy
        self.rate.clear()

    @apply.register
    def _(self, facts: Facts, lane: str) -> None:
        self.comparison.learn_facts(facts)

    @apply.register
    def _(self, position: Position, lane: str) -> None:
        self.comparison.position = position
        self.rate.add(position.step)

    @apply.register
    def _(self, refused: Refused, lane: str) -> None:
        self.complaint, self.pending_rule = refused.reason, ""

    @apply.register
    def _(self, switched: Switched, lane: str) -> None:
        comparison, rule = self.comparison, switched.rule
        comparison.switch(lane, rule)
        self.complaint = self.pending_rule = ""
        title, epoch = comparison.rules[lane].title, comparison.position.epoch
        self.note = f"From epoch {epoch}, the {title} network learns by {rule.title}. It keeps its weights."

    @apply.register
    def _(self, frame: StageFrame, lane: str) -> None:
        if lane in self.comparison.lanes:
            self.comparison.films.setdefault(lane, Film()).add(frame.data)

    @apply.register
    def _(self, signals: StageSignals, lane: str) -> None:
        self.comparison.answer(signals.data)

    @apply.register
    def _(self, event: Event, lane: str) -> None:
        if lane in self.comparison.lanes:
            self.comparison.lanes[lane].add(event)


def _shortened(complaints: list[str]) -> str:
    """The first complaint about a link and the number of the others, in two lines of a page at most."""
    if not complaints:
        return ""
    first, more = sentence(complaints[0]), len(complaints) - 1
    others = (
        f" {more} more part{'s' * (more != 1)} of the link {'were' if more != 1 else 'was'} left out." if more else ""
    )
    return (first if len(first) <= _LONGEST else first[: _LONGEST - 1] + "…") + others
