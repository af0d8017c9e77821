"""The stage: the nets of the compared rules, the list of all rules, and what the measured signs of one net mean.

The page knows the stage by `Stage` and `view_of` alone, so another picture of the nets can take its place.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import panel as pn

from mdfa_app.charts.live import LiveHTML, Markup, assign
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.comparison.comparison import Comparison
from mdfa_app.settings.rules import Rule
from mdfa_app.stage import nets, scoreboard
from mdfa_app.stage.meaning import meaning_of
from mdfa_core.stage import Look, joined


@dataclass(frozen=True, kw_only=True)
class StageView:
    """What the stage shows, as plain values.

    Attributes:
        rules: the list of rules as markup.
        scores: the newest validation accuracies in it, by rule.
        caption: the title of the drawn net as markup.
        why_empty: why there are no nets, as markup; empty if there are some, or soon will be.
        scene, frame: what the nets of all compared rules are, and their newest moment, as `mdfa_core.stage` has them.
        moving: whether the nets train.
        signals: of the unit that the visitor looks at, as `mdfa_core.stage` has them, or empty.
        meaning: the measured agreement beside the theorem, as markup.
        learns_by: name of the rule by which the drawn net learns, or was asked to.
        can_switch: whether that rule can be changed.
    """

    rules: str
    scores: Mapping[str, str]
    caption: str
    why_empty: str
    scene: Mapping[str, Any]
    frame: bytes
    moving: bool
    signals: Mapping[str, Any]
    meaning: str
    learns_by: str
    can_switch: bool


def view_of(
    comparison: Comparison, *, can_switch: bool, pending_rule: str = "", moving: bool = False, why_empty: str = ""
) -> StageView:
    """The stage of a comparison.

    Args:
        comparison: what is compared.
        can_switch, moving: as the view has them.
        pending_rule: the rule that the drawn net was asked to switch to.
        why_empty: a sentence that the stage shows if the nets are not made.
    """
    lane, rules = comparison.drawn_lane, comparison.rules
    switched = {name: other.rule for name, other in comparison.lanes.items() if other.rule.name != name}
    description = lane.rule.method.description.split(": ")[-1]
    caption = f"{comparison.title(comparison.drawn)}: {description}."
    if comparison.seeds > 1:
        caption += f" Seed {comparison.experiment.seed}, the first of {comparison.seeds}."
    return StageView(
        rules=scoreboard.draw(rules, comparison.compared, comparison.drawn, switched),
        scores=scoreboard.values(comparison.lanes),
        caption=f'<p class="muted">{html.escape(caption)}</p>',
        why_empty=_why_empty(why_empty) if why_empty and comparison.facts is None else "",
        scene=nets.scene_of(comparison),
        frame=joined([comparison.films.get(name) for name in comparison.lanes]),
        moving=moving,
        signals=comparison.signals,
        meaning=_meaning(comparison),
        learns_by=pending_rule or lane.rule.name,
        can_switch=can_switch,
    )


def _why_empty(reason: str) -> str:
    return f"<p><b>No networks yet.</b> {html.escape(reason)}</p>"


def _meaning(comparison: Comparison) -> str:
    lane = comparison.drawn_lane
    meaning = meaning_of(lane.rule.method, comparison.experiment, comparison.level, lane.history.probe)
    kind = "" if lane.history.probe is None else " good" if meaning.good else " bad"
    measured, reason = html.escape(meaning.measured), html.escape(meaning.reason)
    return f'<p class="measured{kind}">{measured}</p><p class="muted">{reason}</p>'


class Stage:
    """The stage's widgets.

    Args:
        rules: all rules by name.
        on_pick: called with the word of a part of the list or the drawing that was picked; it comes from a browser.
        on_switch: called with the name of the new rule of the drawn net.
        on_look: called with the unit that is looked at, or None; it comes from a browser, too.

    Attributes:
        list: the list of rules.
        nets: the nets of all compared rules.
        switch: the choice of the rule by which the drawn net learns.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        *,
        on_pick: Callable[[str], None],
        on_switch: Callable[[str], None],
        on_look: Callable[[Look | None], None],
    ) -> None:
        self.list = LiveHTML(on_pick)
        self.nets = nets.NetsPicture(
            lambda row, layer: self._choose(row, layer, on_pick), on_look, lambda depth: on_pick(f"depth:{depth}")
        )
        self._caption, self._meaning, self._why_empty = (
            Markup("", stylesheets=[PANES], sizing_mode="stretch_width", margin=0) for _ in range(3)
        )
        self.switch = pn.widgets.Select(
            options={rule.title: name for name, rule in rules.items()}, label="Switch this network to",
            stylesheets=[WIDGETS], sizing_mode="stretch_width", margin=0,
        )  # fmt: skip
        self._learns_by = self.switch.value  # as it was shown last: any other value is a visitor's choice
        self._on_switch = on_switch
        self.switch.param.watch(self._switched, "value")

    def parts(self) -> dict[str, Any]:
        """The widgets by the names that layouts use."""
        return {"list": self.list, "nets": self.nets, "why_empty": self._why_empty, "meaning": self._meaning,
                "drawn_title": self._caption, "switch": self.switch}  # fmt: skip

    def show(self, view: StageView, depth: Mapping[str, int]) -> None:
        """Show a view; only what differs is sent to the browser.

        Args:
            depth: the numbers of hidden layers `now` and at `most`; empty if they cannot be changed on the drawing.
        """
        assign(self.list, html=view.rules, values=view.scores)
        assign(
            self.nets, scene=view.scene, frame=view.frame, moving=view.moving, signals=view.signals, depth=dict(depth)
        )
        assign(self._caption, object=view.caption)
        assign(self._why_empty, object=view.why_empty)
        assign(self._meaning, object=view.meaning)
        self._learns_by = view.learns_by
        assign(self.switch, value=view.learns_by, disabled=not view.can_switch)

    @staticmethod
    def _choose(row: str, layer: int, on_pick: Callable[[str], None]) -> None:
        on_pick(f"draw:{row}")
        on_pick(f"layer:{layer}")

    def _switched(self, event: Any) -> None:
        if event.new != self._learns_by:
            self._learns_by = event.new
            self._on_switch(event.new)
