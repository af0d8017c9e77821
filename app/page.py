"""The page of one visitor: its controls, its trainer, its charts, and what passes between them."""

from __future__ import annotations

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
from panel.io.state import set_curdoc

from app import diagram, words
from app.controls import FIRST, Controls
from app.history import History
from app.limits import LIMITS
from app.session import SPEEDS, Facts, State, Status, Trainer, Update, absent
from app.style import PAGE, PANES, WIDGETS, asset
from app.views import Charts, keys_of_layers, keys_of_outcome
from mdfa_core import METHODS, Experiment, MdfaError
from mdfa_core.events import Event, Finished, Probed, Progress
from mdfa_core.networks import parse_architecture

TITLE = "Learning without backpropagation"

_BUSY = (State.RUNNING, State.QUEUED, State.PREPARING)
_log = logging.getLogger(__name__)


class Page:
    """One visitor's page.

    A setting that is changed makes a new run from the same seed, which starts at once if the old one was training; the
    old one stays in grey. The learning rate and the speed change as the run goes on.
    """

    def __init__(self, document: Document | None, first: Experiment = FIRST) -> None:
        self._document = document
        self.trainer = Trainer(self._call_drain)
        self.controls = Controls(first, on_change=self._settings_changed)
        self.charts = Charts(LIMITS.hidden_layers)
        self.experiment = first
        self.state = State.IDLE
        self._message = words.STATE_WORDS[State.IDLE]
        self._note = ""
        self._complaint = ""
        self._number = 0
        self._going = False  # whether Start was pressed, and neither Pause nor the end came since
        self._facts: Facts | None = None
        self._live = self._new_history(first)
        self._ghost: History | None = None
        self._outcome: Finished | None = None
        self._where = (0, 0)  # epoch and step
        self._ticks: deque[tuple[float, int]] = deque(maxlen=60)  # time and step of the newest progress
        self._make_widgets()
        self._make(first)
        self._refresh()

    # ------------------------------------------------------------------------------------------------ how it is made

    def _make_widgets(self) -> None:
        def button(name: str, handler: Callable[[Any], None], help_: str = "", **more: Any) -> pn.widgets.Button:
            if help_:
                tip = Tooltip(content=help_, position="top_center")  # beside it would cover the next button
                more |= {"description": tip, "description_delay": 700}
            made = pn.widgets.Button(label=name, stylesheets=[WIDGETS], margin=0, **more)
            made.on_click(handler)
            return made

        def pane() -> pn.pane.HTML:
            return pn.pane.HTML("", stylesheets=[PANES], sizing_mode="stretch_width", margin=0)

        self.start = button("▶ Start", self._start, color="primary", width=96)
        self.pause = button("Pause", self._pause, width=66)
        self.step = button("Step", self._step, "Train on one mini-batch.", width=58)
        again = "Back to the first weights. What was drawn turns grey; pressed once more, it goes."
        self.reset = button("Reset", self._reset, again, width=62)
        self.speed = pn.widgets.Select(
            options={speed.title: name for name, speed in SPEEDS.items()},
            value="normal",
            stylesheets=[WIDGETS],
            sizing_mode="stretch_width",
            margin=0,
        )
        self.speed.param.watch(self._set_speed, "value")
        self.level = pn.widgets.RadioButtonGroup(
            options=words.levels(), value="unit", stylesheets=[WIDGETS], css_classes=["small"], margin=0
        )
        self.level.param.watch(self._set_level, "value")
        self.dark = pn.widgets.Toggle(
            label="Dark", stylesheets=[WIDGETS], css_classes=["small"], margin=0, tags=["dark"]
        )
        # One truth for the theme: this value; assets/page.html gives it the browser's preference at first.
        self.dark.jscallback(value="document.documentElement.dataset.theme = cb_obj.active ? 'dark' : 'light'")
        self.dark.param.watch(lambda event: self._locked(partial(self.charts.recolour, dark=event.new)), "value")
        self.status, self.numbers, self.rule, self.net, self.meaning = (pane() for _ in range(5))
        self.keys = {name: pane() for name in ("accuracy", "agreement", "loss", "angle")}

    def template(self) -> pn.Template:
        """The page, ready to be served."""
        template = pn.Template(asset("page.html"))
        template.add_variable("page_css", PAGE)
        controls = self.controls
        parts: dict[str, Any] = {
            "dark": self.dark,
            "method": controls.method,
            "rule": self.rule,
            "data": controls.data,
            "outputs": controls.outputs,
            "network": controls.network,
            "own_network": controls.own_network,
            "activation": controls.activation,
            "forward": controls.forward.kind,
            "forward_scale": controls.forward.scale,
            "feedback": controls.feedback.kind,
            "feedback_scale": controls.feedback.scale,
            "optimizer": controls.optimizer,
            "learning_rate": controls.learning_rate,
            "batch_size": controls.batch_size,
            "epochs": controls.epochs,
            "seed": controls.seed,
            "new_seed": controls.new_seed,
            "start": self.start,
            "pause": self.pause,
            "step": self.step,
            "reset": self.reset,
            "speed": self.speed,
            "numbers": self.numbers,
            "status": self.status,
            "net": self.net,
            "meaning": self.meaning,
            "level": self.level,
        }
        for name, pane in self.keys.items():
            parts[f"{name}_key"] = pane
            parts[name] = pn.pane.Bokeh(getattr(self.charts, name), sizing_mode="stretch_width", margin=0)
        for name, part in parts.items():
            template.add_panel(name, part)
        return template

    # ------------------------------------------------------------------------------------------- what the visitor does

    def _start(self, _event: object) -> None:
        experiment = self._asked_for()
        if experiment is None:
            return
        if self.state in (State.FINISHED, State.DIVERGED, State.FAILED) or experiment != self.experiment:
            self._make(experiment, start=True)
        else:
            self._going = True
            self.trainer.start()

    def _pause(self, _event: object) -> None:
        self._going = False
        self.trainer.pause()

    def _step(self, _event: object) -> None:
        if self.state in (State.IDLE, State.PAUSED):
            self._going = False
            self.trainer.step()

    def _reset(self, _event: object) -> None:
        experiment = self._asked_for()
        if experiment is not None:
            self._note = ""
            if not self._live.worth_keeping:
                self._ghost = None
            self._make(experiment)

    def _set_speed(self, event: Any) -> None:
        self.trainer.set_speed(SPEEDS[event.new])

    def _set_level(self, event: Any) -> None:
        self._locked(partial(self.charts.set_level, event.new))
        self._refresh()

    def _settings_changed(self, names: set[str]) -> None:
        experiment = self._asked_for()
        if experiment is None:
            return
        if names == {"learning_rate"} and experiment == self.experiment.replace(learning_rate=experiment.learning_rate):
            self.experiment = experiment
            if self.state not in (State.FINISHED, State.DIVERGED, State.FAILED):
                self.trainer.set_learning_rate(experiment.learning_rate)
                if self._where[1]:
                    self._note = f"Learning rate {experiment.learning_rate:g} since epoch {self._where[0]}."
            self._refresh()
            return
        if experiment == self.experiment:
            self._refresh()
            return
        start = self._going and absent(experiment.data) is None  # nothing is fetched before Start is pressed
        self._make(experiment, start=start)
        self._note = "A new run has started" if start else "A new run is ready"
        self._note += " from its first weights."
        if self._ghost is not None:
            self._note += f" The grey lines are the run before ({self._ghost.name})."
        self._refresh()

    def _asked_for(self) -> Experiment | None:
        """What the controls ask for, if it is allowed; a complaint otherwise, and all goes on as it was."""
        try:
            experiment = self.controls.experiment()
            LIMITS.check(experiment)
        except MdfaError as error:
            self._complaint = str(error)
            self._refresh()
            return None
        self._complaint = ""
        return experiment

    def _make(self, experiment: Experiment, *, start: bool = False) -> None:
        """Begin a new run; the old one becomes the previous one."""
        if self._live.worth_keeping:
            self._ghost = self._live
        self.experiment, self._going = experiment, start
        self._live = self._new_history(experiment)
        self._outcome, self._facts, self._where = None, None, (0, 0)
        self._ticks.clear()
        self._number = self.trainer.prepare(experiment, start=start)
        self.state, self._message = State.PREPARING, words.STATE_WORDS[State.PREPARING]
        layers = len(parse_architecture(experiment.network).hidden)
        live, ghost = self._live, self._ghost

        def draw() -> None:
            self.charts.set_layers(layers)
            self.charts.show(live, ghost)

        self._locked(draw)
        self._refresh()

    def _new_history(self, experiment: Experiment) -> History:
        return History(METHODS[experiment.method].title, LIMITS.hidden_layers)

    # ----------------------------------------------------------------------------------------- what the trainer says

    def _locked(self, edit: Callable[[], None]) -> None:
        """Edit Bokeh models while the document is locked; at once where there is no document."""
        if self._document is None or self._document.session_context is None:
            edit()
        else:
            self._document.add_next_tick_callback(partial(self._guarded, edit))

    def _guarded(self, edit: Callable[[], None]) -> None:
        with set_curdoc(self._document):
            edit()

    def _call_drain(self) -> None:
        if self._document is not None:
            self._document.add_next_tick_callback(partial(self._guarded, self.drain))

    def drain(self) -> None:
        """Draw what has happened since the last time."""
        updates = [update for update in self.trainer.take() if update.run == self._number]
        for update in updates:
            self._absorb(update)
        if updates:
            self.charts.update(self._live, self._ghost)
            self._refresh()

    def _absorb(self, update: Update) -> None:
        what = update.what
        if isinstance(what, Status):
            self.state = what.state
            self._message = what.message or words.STATE_WORDS[what.state]
            if what.state not in (State.IDLE, State.RUNNING, State.PREPARING) or (
                what.state is State.IDLE and what.message
            ):
                self._note = ""
            if what.state is State.FINISHED and self._outcome is not None:
                self._message += " " + words.outcome(self._outcome)
            self._going &= what.state in _BUSY
            self._ticks.clear()
        elif isinstance(what, Facts):
            self._facts = what
            self._live.steps_per_epoch = what.steps_per_epoch
        else:
            self._absorb_event(what)

    def _absorb_event(self, event: Event) -> None:
        self._where = (event.epoch, event.step)
        self._live.add(event)
        if isinstance(event, Progress):
            self._ticks.append((time.monotonic(), event.step))
        elif isinstance(event, Finished):
            self._outcome = event

    # ----------------------------------------------------------------------------------------------- what it says

    def _refresh(self) -> None:
        """Bring every text and button up to date."""
        state = self.state
        self.start.param.update(
            label="▶ Continue" if state is State.PAUSED else "▶ Again" if state is State.FINISHED else "▶ Start",
            disabled=state in _BUSY,
        )
        self.pause.disabled = state not in (State.RUNNING, State.QUEUED)
        self.step.disabled = state not in (State.IDLE, State.PAUSED)
        method = METHODS[self.experiment.method]
        self.rule.object = f'<p class="muted">{html.escape(_sentence(method.description))}</p>'
        self.status.object = self._status()
        self.numbers.object = self._numbers()
        probe = self._live.probe
        shares = [layer[0] for layer in getattr(probe, self.level.value).layers] if probe else []
        self.net.object = diagram.draw(self.experiment, self._facts, shares)
        self.meaning.object = self._meaning(probe)
        layers = len(parse_architecture(self.experiment.network).hidden)
        for name in ("accuracy", "loss"):
            self.keys[name].object = keys_of_outcome(self._live, self._ghost, loss=name == "loss")
        for name in ("agreement", "angle"):
            self.keys[name].object = keys_of_layers(
                self._live, self._ghost, layers, self.level.value, angle=name == "angle"
            )

    def _status(self) -> str:
        state = self.state
        chip = f'<span class="chip {state.name.lower()}">{state.value.capitalize()}</span>'
        # A note on what was just changed is worth more than what a state always means.
        message = self._note if self._note and state in (State.IDLE, State.RUNNING) else self._message
        complaint = (
            f'<p class="complaint" role="alert"><span class="chip invalid">Not possible</span>'
            f"{html.escape(_sentence(self._complaint))}</p>"
            if self._complaint
            else ""
        )
        return f'<div role="status">{chip}{html.escape(_sentence(message))}</div>{complaint}'

    def _numbers(self) -> str:
        epoch, step = self._where
        rate = self._steps_per_second()
        entries = [
            (f"{epoch} / {self.experiment.epochs}", "epoch"),
            (f"{step:,}", "mini-batches"),
            (f"{rate * self.experiment.batch_size:,.0f}" if rate else "–", "examples / s"),
        ]
        cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in entries)
        return f'<div class="numbers">{cells}</div>'

    def _steps_per_second(self) -> float:
        if len(self._ticks) < 3:
            return 0.0
        (first, first_step), (last, last_step) = self._ticks[0], self._ticks[-1]
        return (last_step - first_step) / (last - first) if last > first else 0.0

    def _meaning(self, probe: Probed | None) -> str:
        meaning = words.meaning(self.experiment, self.level.value, probe)
        kind = "" if probe is None else " good" if meaning.good else " bad"
        measured, reason = html.escape(meaning.measured), html.escape(meaning.reason)
        return f'<p class="measured{kind}">{measured}</p><p class="muted">{reason}</p>'

    def close(self, session_context: object) -> None:
        """Stop training: the session is over, nobody looks any more."""
        self.trainer.close()


def _sentence(text: str) -> str:
    """An error's message as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def build() -> pn.Template:
    """The page for the visitor whose session this is."""
    page = Page(pn.state.curdoc)
    pn.state.on_session_destroyed(page.close)
    template = page.template()
    if pn.state.curdoc is not None:
        pn.state.curdoc.title = TITLE
    return template
