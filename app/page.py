"""The page of one visitor: its controls, its trainer, its charts, and what passes between them."""

from __future__ import annotations

import contextlib
import html
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
from bokeh.document import Document
from bokeh.models.ui import Tooltip

from app import diagram, link, scoreboard, upkeep, words
from app.controls import Controls
from app.details import TABS, Details
from app.history import History
from app.limits import LIMITS
from app.live import LiveHTML
from app.messages import Answer, Facts, Position, Refused, State, Status, Switched, Update
from app.pace import SPEEDS
from app.paper import PaperPane, known, preset
from app.presence import Presence
from app.presets import PRESETS
from app.refusals import log_shortly
from app.rules import Rule, rules
from app.scoreboard import Lane
from app.screens import Screen, Served
from app.session import Trainer, absent
from app.sharing_links import Address, copy_button
from app.style import PAGE, PANES, WIDGETS, asset
from app.takeaway_pane import TakeAway
from app.views import Chart, Drawn, Epochs, Style
from mdfa_core import Experiment, MdfaError, Run
from mdfa_core.events import Finished
from mdfa_core.inspection import Found, Snapshot, any_sign, find_disagreeing
from mdfa_core.networks import parse_architecture
from mdfa_core.paper.published import CELLS

TITLE = "Learning without backpropagation"

_BUSY = (State.RUNNING, State.QUEUED, State.PREPARING)
OVER = (State.FINISHED, State.DIVERGED, State.FAILED)
_SEEN_EVERYWHERE = (Status, Facts, Refused, Switched, Answer, Finished)
"""What changes more than measurements do."""

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_log = logging.getLogger(__name__)


class Page:
    """One visitor's page.

    A setting that is changed makes new nets from the same seed, which start at once if the old ones were training; the
    old curves stay in grey. Learning rate, speed, measurement level and rules change as it runs.

    Args:
        screen: where it is shown; None if nobody looks, and `drain` is called by who made it.
        query: of a link, as `link` reads it.
    """

    def __init__(self, screen: Screen | None, query: str = "") -> None:
        self._screen = screen
        state, complaints = link.read(query, tabs=tuple(TABS))
        self.trainer = Trainer(self._call_drain)
        self.rules = rules()
        self.controls = Controls(state.settings, on_change=self._settings_changed)
        self.experiment = state.settings
        self.compared, self.drawn, self.preset, self._embed = state.rules, state.draw, state.preset, state.embed
        self.state = State.IDLE
        self.message = words.STATE_WORDS[State.IDLE]
        self._note = ""
        self._complaint = " ".join(map(words.sentence, complaints))
        self._number = 0
        self._going = False  # whether Start was pressed, and neither Pause nor the end came since
        self._goal = 0  # the mini-batch that the steps asked for lead to
        self._resting = False  # whether training waits for a visitor who is away
        self._facts: Facts | None = None
        self.lanes: dict[str, Lane] = {}
        self.before: dict[str, History] = {}
        self.position = Position(0, 0, self.experiment.epochs)
        self._ticks: deque[tuple[float, int]] = deque(maxlen=60)  # time and step of the newest positions
        self._epochs = Epochs()
        self._make_widgets(state)
        self._make(self.experiment)
        self._refresh()

    # ------------------------------------------------------------------------------------------------ how it is made

    def _make_widgets(self, state: link.State) -> None:
        def button(name: str, handler: Callable[[Any], None], help_: str = "", **more: Any) -> pn.widgets.Button:
            if help_:
                tip = Tooltip(content=help_, position="bottom_center")
                more |= {"description": tip, "description_delay": 700}
            made = pn.widgets.Button(label=name, stylesheets=[WIDGETS], margin=0, **more)
            made.on_click(handler)
            return made

        def select(options: dict[str, Any], value: Any, label: str = "", **more: Any) -> pn.widgets.Select:
            more = {"stylesheets": [WIDGETS], "sizing_mode": "stretch_width", "margin": 0, **more}
            return pn.widgets.Select(options=options, value=value, label=label, **more)

        def pane() -> pn.pane.HTML:
            return pn.pane.HTML("", stylesheets=[PANES], sizing_mode="stretch_width", margin=0)

        self.start = button("▶ Start", self._start, color="primary", width=106)
        self.pause = button("Pause", self._pause, width=70)
        self.steps = {
            "1": button("Step", partial(self._step, "1"), "Train every net on one mini-batch.", width=62),
            "10": button("10 steps", partial(self._step, "10"), "Ten mini-batches.", width=86),
            "epoch": button("Epoch", partial(self._step, "epoch"), "Every training image once.", width=70),
        }
        again = "Back to the same first weights. What was drawn turns grey; pressed once more, it goes."
        self.reset = button("Reset", self._reset, again, width=68)
        self.new_seed = button("New seed", self._new_seed, "Other weights, other feedback, other classes.", width=98)
        speeds = {speed.title: name for name, speed in SPEEDS.items()}
        self.speed = select(speeds, state.speed, "Speed", css_classes=["unlabelled"])
        self.speed.param.watch(self._set_speed, "value")
        self.trainer.set_speed(SPEEDS[state.speed])
        self.level = pn.widgets.RadioButtonGroup(
            options=words.levels(), value=state.level, stylesheets=[WIDGETS], css_classes=["small"], margin=0
        )
        self.level.param.watch(self._set_level, "value")
        self.presets = select(_presets(state.preset), state.preset or link.OWN, "Show me", css_classes=["inline"])
        self.presets.param.watch(self._set_preset, "value")
        self.goes_on = select({rule.title: name for name, rule in self.rules.items()}, state.draw, "Its net goes on by")
        self._shown_rule = state.draw  # what `goes_on` was last known to show: anything else is a visitor's choice
        self.goes_on.param.watch(self._switch, "value")
        self.dark = pn.widgets.Toggle(
            label="Dark", stylesheets=[WIDGETS], css_classes=["small"], margin=0, tags=["dark"]
        )
        # One truth for the theme: this value; assets/page.html gives it the browser's preference at first.
        self.dark.jscallback(value="document.documentElement.dataset.theme = cb_obj.active ? 'dark' : 'light'")
        self.dark.param.watch(lambda event: self._locked(partial(self._recolour, event.new)), "value")
        self.status, self.numbers, self.meaning, self.claim, self.drawn_title = (pane() for _ in range(5))
        self.list = LiveHTML(self._picked)
        self.net = LiveHTML(self._picked)
        self.address = Address()
        self.copy = copy_button()
        slots = len(self.rules)
        shared = {"height": 236, "format": "0.0 %", "ticks": _SHARES, "slots": slots}
        self.charts = {
            "agreement": Chart(Style(title="Sign agreement", mark=(0.5, "chance"), **shared), self._epochs.range),  # type: ignore[arg-type]
            "accuracy": Chart(Style(title="Training accuracy", **shared), self._epochs.range),  # type: ignore[arg-type]
        }
        self.take, self.paper = TakeAway(self), PaperPane(self._picked)
        self.details = Details(
            self._epochs.range,
            rules=slots,
            layers=LIMITS.hidden_layers,
            given={"take": self.take.view, "paper": self.paper.view},
            on_open=self._opened,
            on_sight=lambda: self._locked(self.details.update),
            on_pick=self._pick_example,
            on_find=self._find,
        )
        if state.tab:
            self.details.choice.value = state.tab

    def parts(self) -> dict[str, Any]:
        """Everything the page is made of, by name."""
        controls = self.controls
        parts: dict[str, Any] = {
            "dark": self.dark, "presets": self.presets, "copy": self.copy, "address": self.address,
            "data": controls.data, "outputs": controls.outputs, "network": controls.network, "depth": controls.depth,
            "width": controls.width, "own_network": controls.own_network, "activation": controls.activation,
            "forward": controls.forward.kind, "forward_scale": controls.forward.scale,
            "feedback": controls.feedback.kind, "feedback_scale": controls.feedback.scale,
            "convention": controls.convention, "optimizer": controls.optimizer,
            "learning_rate": controls.learning_rate, "batch_size": controls.batch_size, "epochs": controls.epochs,
            "seed": controls.seed, "new_seed": self.new_seed, "start": self.start, "pause": self.pause,
            "step": self.steps["1"], "step10": self.steps["10"], "step_epoch": self.steps["epoch"],
            "reset": self.reset, "speed": self.speed, "numbers": self.numbers, "status": self.status,
            "claim": self.claim, "list": self.list, "goes_on": self.goes_on, "drawn_title": self.drawn_title,
            "net": self.net, "meaning": self.meaning, "level": self.level, "details": self.details.view,
        }  # fmt: skip
        for name, chart in self.charts.items():
            parts[name] = pn.pane.Bokeh(chart.figure, sizing_mode="stretch_width", margin=0)
        return parts

    def template(self, document: Document | None) -> pn.Template:
        """The page, ready to be served as this document."""
        template = _Template(asset("page.html"))
        template.add_variable("page_css", PAGE)
        presence = Presence(document, on_away=self._away, on_back=self._back)
        for name, part in {**self.parts(), "presence": presence}.items():
            template.add_panel(name, part)
        return template

    # ------------------------------------------------------------------------------------------- what the visitor does

    def _start(self, _event: object) -> None:
        experiment = self._asked_for()
        if experiment is None:
            return
        self._note = ""
        if self.state in OVER or experiment != self.experiment:
            self._make(experiment, start=True)
        else:
            self._going, self._goal = True, 0
            self.trainer.start()

    def _pause(self, _event: object) -> None:
        self._going, self._goal, self._note = False, 0, ""
        self.trainer.pause()

    def _step(self, name: str, _event: object) -> None:
        if self._may_step:
            self._going, self._note = False, ""
            epoch = self._facts.steps_per_epoch if self._facts else 1
            begin = max(self._goal, self.position.step)
            count = epoch - begin % epoch if name == "epoch" else int(name)
            self._goal = begin + count
            self.trainer.step(count)

    @property
    def _may_step(self) -> bool:
        """At rest, and while steps are made: further ones come to them."""
        stepping = self.state in (State.RUNNING, State.QUEUED) and not self._going
        return stepping or self.state in (State.IDLE, State.PAUSED)

    def _reset(self, _event: object) -> None:
        experiment = self._asked_for()
        if experiment is not None:
            self._note = ""
            if not self._worth_keeping:
                self.before = {}
            self._make(experiment)

    def _new_seed(self, _event: object) -> None:
        self.controls.next_seed()

    def _set_speed(self, event: Any) -> None:
        self.trainer.set_speed(SPEEDS[event.new])
        self._refresh()

    def _set_level(self, _event: object) -> None:
        self._locked(self._draw)
        self._refresh()

    def _set_preset(self, event: Any) -> None:
        if event.new == link.OWN:
            self.preset = ""
            self._refresh()
        elif event.new != self.preset and known(event.new):
            self._load(event.new)

    def _load(self, name: str) -> None:
        """Begin what a preset or a cell of the paper describes."""
        state = link.of_preset(name)
        try:
            LIMITS.check_all([self.rules[rule].experiment(state.settings) for rule in state.rules])
        except MdfaError as error:
            self._complaint = f"{preset(name).title}: {error}"
            self._refresh()
            return
        self.preset, self.compared, self.drawn = state.preset, state.rules, state.draw
        self.controls.show(state.settings)
        self._complaint = self._note = ""
        self._make(state.settings, start=self._going and absent(state.settings.data) is None)
        if state.tab:
            self.details.choice.value = state.tab

    def _settings_changed(self, names: set[str]) -> None:
        experiment = self._asked_for()
        if experiment is None:
            return
        if experiment == self.experiment:
            self._refresh()
            return
        only_rate = names == {"learning_rate"} and experiment == self.experiment.replace(
            learning_rate=experiment.learning_rate
        )
        if only_rate and self.state not in OVER:  # nets that are at their end would never learn at the new one
            self.experiment = experiment
            self.trainer.set_learning_rate(experiment.learning_rate)
            if self.position.step:
                self._note = f"Learning rate {experiment.learning_rate:g} since epoch {self.position.epoch}."
            self._refresh()
            return
        start = self._going and absent(experiment.data) is None  # nothing is fetched before Start is pressed
        self._make(experiment, start=start)
        self._note = "New nets have started" if start else "New nets are ready"
        self._note += " from their first weights."
        if self.before:
            self._note += " The grey lines are those before."
        self._refresh()

    def _picked(self, word: str) -> None:
        """A part of the list or of the drawing was picked; the word comes from a browser."""
        what, _, name = word.partition(":")
        if what == "toggle" and name in self.rules:
            self._toggle(name)
        elif what == "draw" and name in self.rules:
            if name not in self.compared:
                self._toggle(name)
            if name in self.compared:
                self._draw_net_of(name)
        elif what == "cell" and name in CELLS:
            self._load(name)
        elif what == "layer" and name in map(str, range(LIMITS.hidden_layers)):
            if self.details.tab not in ("layers", "example", "weights"):
                self.details.choice.value = "layers"
            self.details.show_layer(int(name))

    def _toggle(self, name: str) -> None:
        chosen = [other for other in self.rules if (other in self.compared) != (other == name)]
        try:
            if not chosen:
                raise MdfaError("at least one rule has to be compared: choose another one first")
            begun = [self.rules[other] for other in chosen]
            now = [self.lanes[rule.name].rule if rule.name in self.lanes else rule for rule in begun]
            for ones in (now, begun):  # nets that were switched have to fit after a reset, too
                LIMITS.check_all([rule.experiment(self.experiment) for rule in ones])
        except MdfaError as error:
            self._complaint = str(error)
            self._refresh()
            return
        self.compared = tuple(chosen)
        self._asked_for()  # what a field still shows and is not allowed is still said
        if self.drawn not in chosen:
            self.drawn = chosen[0]
        if self._facts is None or self.state in (State.FAILED, State.DIVERGED):
            self._make(self.experiment, start=self._going)
            return
        self.lanes = {other: self.lanes.get(other) or self._new_lane(other) for other in chosen}
        self.trainer.set_rules(begun)
        self._note = ""
        self._draw_net_of(self.drawn)

    def _draw_net_of(self, name: str) -> None:
        self.drawn = name
        self.details.clear()
        self._look()
        self._locked(self._draw)
        self._refresh()

    def _switch(self, event: Any) -> None:
        if event.new == self._shown_rule:
            return
        self._shown_rule = event.new
        if self._can_switch and event.new in self.rules:
            self.trainer.switch(self.drawn, self.rules[event.new])
        else:
            self._refresh()

    @property
    def _can_switch(self) -> bool:
        """Whether the net that is drawn is there and still learns."""
        learns = self.lanes[self.drawn].history.outcome is None
        return learns and self._facts is not None and self.state not in OVER

    def _switched(self, name: str, rule: Rule) -> None:
        """The net of rule `name` goes on by another one now."""
        self.lanes[name] = Lane(self.lanes[name].history, rule)
        self._complaint = ""
        title = self.rules[name].title
        self._note = f"The net of {title} goes on by {rule.title} from epoch {self.position.epoch}, with its weights."
        self._locked(self._draw)

    def _opened(self) -> None:
        if not self.lanes:  # the tab of a link, before there is anything to show
            return
        self._look()
        self._locked(self._draw)
        self._refresh()

    def _pick_example(self, index: int) -> None:
        self.details.example, self.details.unit = index, None
        self._look()

    def _find(self) -> None:
        after = -1 if self.details.example is None else self.details.example

        def search(run: Run) -> tuple[Found | None, bool]:
            found = find_disagreeing(run, after=after)
            return found, found is not None or any_sign(run, after=after)

        self.trainer.ask(self.drawn, search, self._found)

    def _found(self, answer: tuple[Found | None, bool]) -> None:
        pane, (found, signs) = self.details.example_pane, answer
        if pane is None:
            return
        pane.show_found(found, signs=signs)
        if found is not None:
            self.details.example, self.details.unit = found.index, (found.layer, found.unit)
            self._look()

    def _look(self) -> None:
        self.trainer.look(self.drawn, self.details.wanted)

    def _asked_for(self) -> Experiment | None:
        """What the controls ask for, if it is allowed; a complaint otherwise, and all goes on as it was."""
        try:
            experiment = self.controls.experiment()
            LIMITS.check_all([self.rules[name].experiment(experiment) for name in self.compared])
        except MdfaError as error:
            self._complaint = str(error)
            self._refresh()
            return None
        self._complaint = ""
        return experiment

    @property
    def _worth_keeping(self) -> bool:
        return any(lane.history.worth_keeping for lane in self.lanes.values())

    def _make(self, experiment: Experiment, *, start: bool = False) -> None:
        """Begin new nets; the curves of the old ones become those before."""
        if self._worth_keeping:
            self.before = {name: lane.history for name, lane in self.lanes.items()}
        self.experiment, self._going, self._goal = experiment, start, 0
        self._facts, self.position = None, Position(0, 0, experiment.epochs)
        self._ticks.clear()
        self.lanes = {name: self._new_lane(name) for name in self.compared}
        try:
            self._number = self.trainer.prepare(experiment, [self.rules[name] for name in self.compared], start=start)
        except MdfaError as error:
            self.state, self.message = State.FAILED, str(error)
        else:
            self.state, self.message = State.PREPARING, words.STATE_WORDS[State.PREPARING]
        self.details.clear()
        self._look()
        self._locked(self._draw)
        self._refresh()

    def _new_lane(self, name: str) -> Lane:
        steps = self._facts.steps_per_epoch if self._facts else 1
        return Lane(History(self.rules[name].title, steps), self.rules[name])

    # ----------------------------------------------------------------------------------------- what the trainer says

    def _locked(self, edit: Callable[[], None]) -> None:
        """Edit Bokeh models where that is allowed; at once where nobody looks."""
        if self._screen is None:
            edit()
        else:
            self._screen.soon(edit)

    def _call_drain(self) -> None:
        if self._screen is not None:
            self._screen.soon(self.drain)

    def drain(self) -> None:
        """Draw what has happened since the last time."""
        updates = [update for update in self.trainer.take() if update.run == self._number]
        for update in updates:
            self._absorb(update)
        if updates:
            for chart in self.charts.values():
                chart.update()
            self.details.update()
            self._fit()
            if any(isinstance(update.what, _SEEN_EVERYWHERE) for update in updates):
                self._refresh()
            else:
                self._refresh_measured()

    def _absorb(self, update: Update) -> None:
        what = update.what
        if isinstance(what, Status):
            self._absorb_status(what)
        elif isinstance(what, Facts):
            self._facts = what
            for lane in self.lanes.values():
                lane.history.steps_per_epoch = what.steps_per_epoch
        elif isinstance(what, Position):
            self.position = what
            self._ticks.append((time.monotonic(), what.step))
        elif isinstance(what, Refused):
            self._complaint = what.sentence
        elif isinstance(what, Switched):
            self._switched(update.lane, what.rule)
        elif isinstance(what, Answer):
            what.tell(what.value)
        elif isinstance(what, Snapshot):
            if update.lane == self.drawn:
                self.details.show(what)
        elif update.lane in self.lanes:
            self.lanes[update.lane].history.add(what)

    def _absorb_status(self, status: Status) -> None:
        self.state = status.state
        self.message = status.message or words.STATE_WORDS[status.state]
        if status.state not in (State.IDLE, State.RUNNING, State.PREPARING, State.PAUSED) or (
            status.state is State.IDLE and status.message
        ):
            self._note = ""
        if status.state is State.FINISHED:
            ends = {lane.history.name: lane.history.outcome for lane in self.lanes.values()}
            self.message += " " + words.outcomes({name: end for name, end in ends.items() if end is not None})
        self._going &= status.state in _BUSY
        self._ticks.clear()

    # ----------------------------------------------------------------------------------------------- what it shows

    def _slot(self, name: str) -> int:
        return list(self.rules).index(name)

    def _draw(self) -> None:
        """Draw all curves anew."""
        live = {self._slot(name): (self._title(name), lane.history) for name, lane in self.lanes.items()}
        before = {self._slot(name): (history.name, history) for name, history in self.before.items()}
        for chart, curve, column in (
            (self.charts["agreement"], "probed", self.level.value),
            (self.charts["accuracy"], "evaluated", "train"),
        ):
            lines, old = (
                {slot: Drawn(history.curves[curve], column, title) for slot, (title, history) in some.items()}
                for some in (live, before)
            )
            chart.show(lines, old)
        layers = len(parse_architecture(self.experiment.network).hidden)
        self.details.draw(live, before, self.lanes[self.drawn].history, self.level.value, layers)
        self._fit()

    def _fit(self) -> None:
        live = max((lane.history.end for lane in self.lanes.values()), default=0.0)
        self._epochs.fit(live, max((history.end for history in self.before.values()), default=0.0))

    def _title(self, name: str) -> str:
        rule = self.lanes[name].rule
        title = self.rules[name].title
        return title if rule.name == name else f"{title} → {rule.title}"

    def _recolour(self, dark: bool) -> None:
        for chart in self.charts.values():
            chart.recolour(dark=dark)
        self.details.recolour(dark=dark)

    def link_state(self) -> link.State:
        """What a link to this page holds."""
        return link.State(
            preset=self.preset, settings=self.experiment, rules=self.compared, draw=self.drawn,
            level=self.level.value, speed=self.speed.value, tab=self.details.tab, embed=self._embed,
        )  # fmt: skip

    def _refresh(self) -> None:
        """Bring every text and button up to date."""
        state = self.state
        self.start.param.update(
            label="▶ Continue" if state is State.PAUSED else "▶ Again" if state is State.FINISHED else "▶ Start",
            disabled=state in _BUSY,
        )
        self.pause.disabled = not self._going and state not in (State.RUNNING, State.QUEUED)
        for step in self.steps.values():
            step.disabled = not self._may_step
        self.presets.param.update(options=_presets(self.preset), value=self.preset or link.OWN)
        self.paper.show(self.preset)
        self.claim.object = self._claim()
        self._refresh_rules()
        self._refresh_measured()
        self.address.query = link.write(self.link_state())
        self.take.refresh()

    def _refresh_rules(self) -> None:
        lane = self.lanes[self.drawn]
        switched = {name: other.rule for name, other in self.lanes.items() if other.rule.name != name}
        self.list.html = scoreboard.draw(self.rules, self.compared, self.drawn, switched)
        self._shown_rule = lane.rule.name
        self.goes_on.param.update(value=lane.rule.name, disabled=not self._can_switch)
        method = lane.rule.method
        title = f"{html.escape(self._title(self.drawn))}: {html.escape(method.description.split(': ')[-1])}"
        self.drawn_title.object = f'<p class="muted">{title}.</p>'
        self.net.html = diagram.draw(method, self.experiment, self._facts, None)
        self.details.say(f'<p class="muted">{html.escape(self._about_tab())}</p>')

    def _refresh_measured(self) -> None:
        """Bring up to date what changes with every measurement: many times a second, so nothing else."""
        lane = self.lanes[self.drawn]
        probe = lane.history.probe
        shares = [layer[0] for layer in getattr(probe, self.level.value).layers] if probe else []
        self.status.object = self._status()
        self.numbers.object = self._numbers()
        self.list.values = scoreboard.values(self.lanes, self.level.value)
        self.net.values, self.net.styles_of = diagram.shares(shares)
        self.meaning.object = self._meaning(lane)

    def _about_tab(self) -> str:
        title = self._title(self.drawn)
        return {
            "layers": f"The hidden layers of the net of {title}; {words.level_title(self.level.value)} are measured.",
            "curves": "All rules; the grey lines are those before.",
            "take": "Everything here is about the nets as they are now.",
            "paper": words.sentence(self._complaint or "The paper's tables beside what this project measured"),
        }.get(self.details.tab, f"The net of {title}; choose another one in the list of learning rules.")

    def _claim(self) -> str:
        if not known(self.preset):
            return "<h2>Your own</h2><p>Nothing is claimed of this configuration: what “Show me” lists has claims.</p>"
        shown = preset(self.preset)
        changed = "" if self.experiment == shown.experiment else ' <span class="chip">changed since</span>'
        look = "Look for" if self.preset in PRESETS else "How"
        return (
            f"<h2>{html.escape(shown.title)}{changed}</h2><p>{html.escape(shown.claim)}</p>"
            f'<p class="look"><b>{look}:</b> {html.escape(shown.look)}</p>'
        )

    def _status(self) -> str:
        state = self.state
        chip = f'<span class="chip {state.name.lower()}">{state.value.capitalize()}</span>'
        # A note on what was just changed is worth more than what a state always means.
        note = self._note or self._behind()
        message = note if note and state in (State.IDLE, State.RUNNING, State.PAUSED) else self.message
        complaint = (
            f'<p class="complaint" role="alert"><span class="chip invalid">Not possible</span>'
            f"{html.escape(words.sentence(self._complaint))}</p>"
            if self._complaint
            else ""
        )
        return f'<div role="status">{chip}{html.escape(words.sentence(message))}</div>{complaint}'

    def _behind(self) -> str:
        """A sentence on the nets that were added as the others trained, until they are level with them."""
        behind = [self.rules[name].title for name in self.lanes if name not in self.position.level]
        if not behind or self.position.step == 0:
            return ""
        one = len(behind) == 1
        return f"The net{'' if one else 's'} of {' and '.join(behind)} catch{'es' if one else ''} up with the others."

    def _numbers(self) -> str:
        rate = self._steps_per_second()
        entries = [
            (f"{self.position.epoch} / {self.experiment.epochs}", "epoch"),
            (f"{self.position.step:,}", "mini-batches"),
            (f"{rate:,.0f}" if rate else "–", "steps / s"),
        ]
        cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in entries)
        return f'<div class="numbers">{cells}</div>'

    def _steps_per_second(self) -> float:
        if len(self._ticks) < 3:
            return 0.0
        (first, first_step), (last, last_step) = self._ticks[0], self._ticks[-1]
        return (last_step - first_step) / (last - first) if last > first else 0.0

    def _meaning(self, lane: Lane) -> str:
        probe = lane.history.probe
        meaning = words.meaning(lane.rule.method, self.experiment, self.level.value, probe)
        kind = "" if probe is None else " good" if meaning.good else " bad"
        measured, reason = html.escape(meaning.measured), html.escape(meaning.reason)
        return f'<p class="measured{kind}">{measured}</p><p class="muted">{reason}</p>'

    def chosen_rules(self) -> list[Rule]:
        """The rules that are compared."""
        return [self.rules[name] for name in self.compared]

    @property
    def prepared(self) -> bool:
        """Whether there are nets."""
        return self._facts is not None and self.state is not State.FAILED

    def complain(self, sentence: str) -> None:
        """Say that something cannot be done; may be called from anywhere."""
        self._complaint = sentence
        self._locked(self._refresh)

    def _away(self) -> None:
        """Nobody looks: the place to train at is for others."""
        self._resting = self._going
        self.trainer.pause()

    def _back(self) -> None:
        if self._resting:
            self._going, self._resting = True, False
            self._note = "Training rested while the connection was lost."
            self.trainer.start()

    def close(self, session_context: object) -> None:
        """Stop training: the session is over, nobody looks any more."""
        self.trainer.close()


def _presets(chosen: str) -> dict[str, str]:
    """What to begin with, by title; a cell of the paper only while it is chosen."""
    cell = {preset(chosen).title: chosen} if chosen in CELLS else {}
    return {**{shown.title: name for name, shown in PRESETS.items()}, **cell, "Your own": link.OWN}


class _Template(pn.Template):
    def __repr__(self) -> str:  # Panel writes it out again for each part that is added
        return "the page"

    def server_doc(self, doc: Document | None = None, *args: Any, **settings: Any) -> Document:
        document = doc or pn.state.curdoc
        # Otherwise Bokeh goes through all models again for each of the forty parts.
        with contextlib.nullcontext() if document is None else document.models.freeze():
            made: Document = super().server_doc(document, *args, **settings)
        return made


def build() -> pn.Template:
    """The page for the visitor whose session this is."""
    log_shortly()
    given = pn.state.session_args or {}
    pairs = [(key, values[0].decode("utf-8", "replace")) for key, values in given.items() if values]
    document = pn.state.curdoc
    if document is not None:
        # Panel sets this only when it sends the page; what has been drawn by then would name Panel's own server.
        styles = "static/extensions/panel/"
        document._template_variables["dist_url"] = f"{pn.state.rel_path}/{styles}" if pn.state.rel_path else styles
    page = Page(None if document is None else Served(document), link.joined(pairs))
    pn.state.on_session_destroyed(page.close)
    pn.state.on_session_destroyed(upkeep.give_back)
    template = page.template(document)
    pn.config.reconnect = True  # Panel hands it on for a served script,
    if document is not None:
        document.config.reconnect_session = True  # but not for a served function
        document.title = TITLE
    return template
