"""The rules that are compared on one experiment, and what their nets have shown so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from mdfa_app.comparison.history import History, Series
from mdfa_app.settings.rules import Rule
from mdfa_app.trainer.messages import Facts, Position
from mdfa_core import Experiment
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.stage import Film, Look


@dataclass(frozen=True)
class Lane:
    """One rule that is compared.

    Attributes:
        history: the measurements of its net.
        rule: the current rule of the net; after a switch it differs from the rule the lane is named after.
    """

    history: History
    rule: Rule


@dataclass(kw_only=True)
class Comparison:
    """What is compared, what is looked at, and what the nets have shown.

    Attributes:
        rules: all rules by name, in the order of the list on the page.
        experiment: the settings that all nets share.
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
        before: the histories of the previous run, drawn in grey.
    """

    rules: dict[str, Rule]
    experiment: Experiment
    compared: tuple[str, ...]
    drawn: str
    level: str
    number: int = 0
    facts: Facts | None = None
    position: Position = field(default_factory=lambda: Position(0, 0))
    lanes: dict[str, Lane] = field(default_factory=dict)
    films: dict[str, Film] = field(default_factory=dict)
    look: Look | None = None
    signals: dict[str, Any] = field(default_factory=dict)
    before: dict[str, History] = field(default_factory=dict)

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
    def worth_keeping(self) -> bool:
        """Whether any curve is long enough to compare another one with."""
        return any(lane.history.worth_keeping for lane in self.lanes.values())

    def slot(self, name: str) -> int:
        """The place of a rule among all rules, which gives its colour and dash."""
        return list(self.rules).index(name)

    def title(self, name: str) -> str:
        """The title of a lane; after a switch it names both rules."""
        rule, title = self.lanes[name].rule, self.rules[name].title
        return title if rule.name == name else f"{title} → {rule.title}"

    def begin(self, experiment: Experiment) -> None:
        """Replace the nets by new ones; the curves of the old ones are kept in `before`."""
        if self.worth_keeping:
            self.before = {name: lane.history for name, lane in self.lanes.items()}
        self.experiment, self.facts = experiment, None
        self.position, self.films = Position(0, 0), {}
        self.look_at(None)
        self.lanes = {name: self._new_lane(name) for name in self.compared}

    def compare(self, names: Iterable[str]) -> None:
        """Compare these rules: lanes that stay are kept, new ones are empty."""
        self.compared = tuple(names)
        if self.drawn not in self.compared:
            self.drawn = self.compared[0]
        self.lanes = {name: self.lanes.get(name) or self._new_lane(name) for name in self.compared}
        self.films = {name: film for name, film in self.films.items() if name in self.lanes}

    def learn_facts(self, facts: Facts) -> None:
        """Take what is known about the nets once they are made."""
        self.facts = facts
        for lane in self.lanes.values():
            lane.history.steps_per_epoch = facts.steps_per_epoch

    def look_at(self, look: Look | None) -> None:
        """Forget the signals of the unit before."""
        self.look, self.signals = look, {}

    def answer(self, signals: dict[str, Any]) -> None:
        """Take the signals of a unit, if it is still looked at."""
        if self.look == Look(signals["row"], signals["layer"], signals["unit"]):
            self.signals = signals

    def switch(self, name: str, rule: Rule) -> None:
        """Record that the net of rule `name` learns by `rule` from now on."""
        self.lanes[name] = replace(self.lanes[name], rule=rule)

    def series(self, curve: str, column: str) -> tuple[dict[int, Series], dict[int, Series]]:
        """One column of a curve of every net, by slot: of the current nets, and of the previous run."""
        return (
            {self.slot(name): Series(lane.history.curves[curve], column, self.title(name))
             for name, lane in self.lanes.items()},
            {self.slot(name): Series(history.curves[curve], column, history.name)
             for name, history in self.before.items()},
        )  # fmt: skip

    def _new_lane(self, name: str) -> Lane:
        return Lane(History(self.rules[name].title, self.steps_per_epoch), self.rules[name])
