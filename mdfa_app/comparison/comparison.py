"""The rules that are compared on one experiment, and what their nets have shown so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mdfa_app.comparison.history import Curve, History, Series, Spread
from mdfa_app.settings.link import Link
from mdfa_app.settings.rules import Rule
from mdfa_app.trainer.messages import Facts, Position
from mdfa_core import Experiment
from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.stage import Film, Look
from mdfa_core.training.events import Event

PINS = 5
"""The number of runs that can be pinned: with more, grey lines hide each other."""
PINNED_NUMBERS = 2_000_000
"""Numbers in the curves of all pinned runs, of 8 bytes each."""
BEFORE = "before"
"""Names the previous run."""


@dataclass(eq=False)
class Lane:
    """One rule that is compared.

    Attributes:
        histories: the measurements of its net, one for each seed.
        rule: the current rule of the net; after a switch it differs from the rule the lane is named after.
        settings: of its net with the first seed.
    """

    histories: tuple[History, ...]
    rule: Rule
    settings: Experiment
    _spread: Spread = field(default_factory=Spread)

    @property
    def history(self) -> History:
        """The measurements of the first seed."""
        return self.histories[0]

    @property
    def several(self) -> bool:
        """Whether there are several seeds."""
        return len(self.histories) > 1

    @property
    def diverged(self) -> int:
        """The number of seeds whose loss became NaN or infinite."""
        return sum(history.diverged is not None for history in self.histories)

    def curve(self, name: str) -> Curve:
        """A curve of the net: of its only seed, or the mean of all with a band."""
        return self._spread.curves[name] if self.several else self.history.curves[name]

    def add(self, event: Event) -> None:
        """Add an event of the run."""
        for replica, history in enumerate(self.histories):
            history.add(event, replica)
        if self.several:
            self._spread.add(event, self.histories)


@dataclass(eq=False)
class Pin:
    """A run that a visitor keeps to compare others with. While it is the current run, it goes on.

    Attributes:
        name: the visitor's name for it.
        lanes: its rules by name.
        link: to the page as it was then.
    """

    name: str
    lanes: dict[str, Lane]
    link: Link = field(default_factory=Link)

    @property
    def settings(self) -> Experiment:
        """The settings that its nets share."""
        return next(iter(self.lanes.values())).settings

    @property
    def seeds(self) -> int:
        """The number of seeds of each net."""
        return len(next(iter(self.lanes.values())).histories)


@dataclass(kw_only=True)
class Comparison:
    """What is compared, what is looked at, and what the nets have shown.

    Attributes:
        rules: all rules by name, in the order of the list on the page.
        experiment: the settings that all nets share.
        seeds: the number of seeds that every net is trained with; the experiment has the first.
        compared: names of the rules that are compared.
        drawn: the one of them whose net is drawn.
        level: the level of sign agreement that is shown, one of `LEVELS`.
        number: the trainer's number of this comparison; updates of earlier ones are dropped.
        facts: known once the nets are made.
        position: how far training has come.
        lanes: the compared rules by name.
        films: the frames of each net on the stage, by rule.
        look: the unit that the visitor looks at.
        signals: of this unit, as `mdfa_core.stage.UnitSignals.to_dict` gives them; empty until they have come.
        before: the lanes of the previous run, drawn in grey.
        pinned: runs that the visitor keeps, drawn in grey, too.
    """

    rules: dict[str, Rule]
    experiment: Experiment
    compared: tuple[str, ...]
    drawn: str
    level: str
    seeds: int = 1
    number: int = 0
    facts: Facts | None = None
    position: Position = field(default_factory=lambda: Position(0, 0))
    lanes: dict[str, Lane] = field(default_factory=dict)
    films: dict[str, Film] = field(default_factory=dict)
    look: Look | None = None
    signals: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Lane] = field(default_factory=dict)
    pinned: list[Pin] = field(default_factory=list)

    @property
    def chosen_rules(self) -> list[Rule]:
        """The rules that are compared."""
        return [self.rules[name] for name in self.compared]

    @property
    def drawn_lane(self) -> Lane:
        """The lane whose net is drawn."""
        return self.lanes[self.drawn]

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch; 1 until the nets are made."""
        return self.facts.steps_per_epoch if self.facts else 1

    @property
    def hidden_layers(self) -> int:
        """The number of hidden layers of every net."""
        return len(parse_architecture(self.experiment.network).hidden)

    @property
    def updates_level(self) -> str:
        """The level at which updates are compared: the mini-batch's unless single examples are chosen."""
        return "example" if self.level == "example" else "batch"

    @property
    def measured(self) -> bool:
        """Whether any net has been measured."""
        return any(len(lane.history.probed) for lane in self.lanes.values())

    @property
    def worth_keeping(self) -> bool:
        """Whether any curve is long enough to compare another one with."""
        return any(lane.history.worth_keeping for lane in self.lanes.values())

    def slot(self, name: str) -> int:
        """The place of a rule among all rules, which gives its colour and dash."""
        return list(self.rules).index(name)

    def title(self, name: str, lane: Lane | None = None) -> str:
        """The title of a lane, by default of the current run; after a switch it names both rules."""
        rule, title = (lane or self.lanes[name]).rule, self.rules[name].title
        return title if rule.name == name else f"{title} → {rule.title}"

    @property
    def current_pin(self) -> Pin | None:
        """The current run as it is pinned, if it is."""
        return next((pin for pin in self.pinned if self.is_current(pin)), None)

    def is_current(self, pin: Pin) -> bool:
        """Whether a pinned run is the current one."""
        return any(pin.lanes.get(name) is lane for name, lane in self.lanes.items())

    def pin(self, name: str, link: Link) -> None:
        """Keep the current run.

        Args:
            name: for it; `free_name` of it counts.
            link: to the page as it is.

        Raises:
            InvalidValue: it has no curves yet, it is pinned, or there is no place.
        """
        if not self.measured:
            raise InvalidValue("this run has no curves yet: train it first, then pin it")
        if self.current_pin is not None:
            raise InvalidValue(f"this run is pinned already, as “{self.current_pin.name}”")
        if len(self.pinned) >= PINS:
            raise InvalidValue(f"{PINS} runs are pinned, the most allowed: remove one, then pin this run")
        if sum(map(_numbers, [*(pin.lanes for pin in self.pinned), self.lanes])) > PINNED_NUMBERS:
            raise InvalidValue(
                "the pinned runs have as many curves as this page can keep: remove one, then pin this run"
            )
        self.pinned.append(Pin(self.free_name(name), dict(self.lanes), link))

    def unpin(self, name: str) -> None:
        """Remove a pinned run; a name that no run has is ignored."""
        self.pinned = [pin for pin in self.pinned if pin.name != name]

    def free_name(self, name: str) -> str:
        """The name, with a number if a pinned run has it."""
        taken = {BEFORE, *(pin.name for pin in self.pinned)}
        names = (name, *(f"{name} ({number})" for number in range(2, PINS + 2)))
        return next(one for one in names if one not in taken)

    def begin(self, experiment: Experiment, seeds: int = 1) -> None:
        """Replace the nets by new ones; the curves of the old ones are kept in `before`."""
        if self.worth_keeping:
            self.before = self.lanes
        self.experiment, self.seeds, self.facts = experiment, seeds, None
        self.position, self.films = Position(0, 0), {}
        self.look_at(None)
        self.lanes = {name: self._new_lane(name) for name in self.compared}

    def compare(self, names: Iterable[str]) -> None:
        """Compare these rules: lanes that stay are kept, new ones are empty."""
        pin = self.current_pin
        self.compared = tuple(names)
        if self.drawn not in self.compared:
            self.drawn = self.compared[0]
        self.lanes = {name: self.lanes.get(name) or self._new_lane(name) for name in self.compared}
        self.films = {name: film for name, film in self.films.items() if name in self.lanes}
        if pin is not None:
            pin.lanes = {**self.lanes, **pin.lanes}

    def change_learning_rate(self, experiment: Experiment) -> None:
        """Record that the nets learn by these settings from now on, which differ in the learning rate."""
        self.experiment = experiment
        for lane in self.lanes.values():
            lane.settings = experiment

    def learn_facts(self, facts: Facts) -> None:
        """Take what is known about the nets once they are made."""
        self.facts = facts
        for lane in self.lanes.values():
            for history in lane.histories:
                history.steps_per_epoch = facts.steps_per_epoch

    def look_at(self, look: Look | None) -> None:
        """Forget the signals of the unit before."""
        self.look, self.signals = look, {}

    def answer(self, signals: dict[str, Any]) -> None:
        """Take the signals of a unit, if it is still looked at."""
        if self.look == Look(signals["row"], signals["layer"], signals["unit"]):
            self.signals = signals

    def switch(self, name: str, rule: Rule) -> None:
        """Record that the net of rule `name` learns by `rule` from now on."""
        self.lanes[name].rule = rule

    @property
    def longest_before(self) -> float:
        """The last epoch of the previous run and of all pinned ones."""
        earlier = [*self.before.values(), *(lane for pin in self.pinned for lane in pin.lanes.values())]
        return max((lane.history.end for lane in earlier), default=0.0)

    def series(
        self, curve: str, column: str
    ) -> tuple[dict[int, Series], dict[int, Series], tuple[tuple[int, Series], ...]]:
        """One column of a curve of every net by slot: of the current run, of the previous one, and of the pinned ones.

        No net is there twice: a pinned run is not the previous one, and its nets that still learn are the current ones.
        """

        def line(name: str, lane: Lane, run: str = "") -> tuple[int, Series]:
            band = lane.several and not run
            return self.slot(name), Series(lane.curve(curve), column, self.title(name, lane), run, band)

        pinned = {id(lane) for pin in self.pinned for lane in pin.lanes.values()}
        current = {id(lane) for lane in self.lanes.values()}
        return (
            dict(line(name, lane) for name, lane in self.lanes.items()),
            dict(line(name, lane, BEFORE) for name, lane in self.before.items() if id(lane) not in pinned),
            tuple(
                line(name, lane, pin.name)
                for pin in self.pinned
                for name, lane in pin.lanes.items()
                if id(lane) not in current
            ),
        )

    def _new_lane(self, name: str) -> Lane:
        histories = tuple(History(self.rules[name].title, self.steps_per_epoch) for _ in range(self.seeds))
        return Lane(histories, self.rules[name], self.experiment)


def _numbers(lanes: dict[str, Lane]) -> int:
    """The most numbers that the curves of these lanes may come to have."""
    histories = [history for lane in lanes.values() for history in lane.histories]
    return sum(curve.most_numbers for history in histories for curve in history.curves.values())
