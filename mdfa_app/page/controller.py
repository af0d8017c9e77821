"""One visitor's page: what the visitor does and what the trainer reports change its state, and the state is shown.

A visitor's action changes the state, asks the trainer for what it takes, and ends with `refresh`. Messages of the
trainer come in through `receive`. Both ways lead to `_show`, the only place from which widgets and charts are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial, singledispatchmethod
from typing import Any

from bokeh.plotting import figure

from mdfa_app.charts.axis import Epochs
from mdfa_app.comparison.comparison import Comparison
from mdfa_app.page import pins
from mdfa_app.page.curves import Curves
from mdfa_app.page.own_files import OwnFiles, fitted
from mdfa_app.page.screen import Edit, Screen
from mdfa_app.page.settings_form import SettingsForm
from mdfa_app.page.state import PageState
from mdfa_app.page.view import View, view_of
from mdfa_app.page.widgets import STEPS, Widgets
from mdfa_app.page.words import PHASE_WORDS
from mdfa_app.settings import link
from mdfa_app.settings.availability import missing
from mdfa_app.settings.cells import find_preset, is_preset
from mdfa_app.settings.limits import LIMITS
from mdfa_app.settings.speeds import SPEEDS
from mdfa_app.settings.words import sentence
from mdfa_app.stage.stage import Stage
from mdfa_app.tabs import TABS
from mdfa_app.tabs.panel import TabPanel
from mdfa_app.trainer.messages import Answer, Phase, Update
from mdfa_app.trainer.trainer import Trainer
from mdfa_core import Experiment, MdfaError, Run
from mdfa_core.data.own_file import OwnFile
from mdfa_core.stage import Look
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.training.inspection import Snapshot


class Page:
    """One visitor's page.

    A changed setting makes new nets from the same seed. They start at once if the old nets were training, whose curves
    stay in grey. Learning rate, speed, level of agreement and rules change while the nets train.

    Args:
        screen: the place where it is shown; None if it is not shown; the caller then calls `drain`.
        query: of a link, as `settings.link` reads it.

    Attributes:
        state: all that the page knows.
        view: what it shows beside curves, as it was shown last.
        trainer: trains the nets.
        own: the visitor's own files.
        controls, widgets, stage, curves, tabs: its parts.
    """

    def __init__(self, screen: Screen | None, query: str = "") -> None:
        self._screen = screen
        self._refresh_asked = False
        opened, complaints = link.read(query, tabs=tuple(TABS))
        self.state = PageState.of(opened, complaints)
        self.state.begins = opened.start or not query
        self.comparison: Comparison = self.state.comparison
        self.trainer = Trainer(self._call_drain)
        self.trainer.set_speed(SPEEDS[opened.speed])
        self._begin(opened.settings, seeds=opened.seeds)
        self.view: View = view_of(self.state)
        self.own = OwnFiles(self.soon, self._use_file, self._show_files)
        self._wanted = opened  # by the link, which may name a file that it does not carry
        self.controls = SettingsForm(
            opened.settings, seeds=opened.seeds, on_change=self.change_settings, on_file=self.own.take
        )
        self.widgets = Widgets(self.view, speed=opened.speed, level=opened.level, actions=self)
        rules = self.comparison.rules
        self.stage = Stage(rules, on_pick=self.pick, on_switch=self.switch, on_look=self.look)
        self.curves = Curves(len(rules))
        self.tabs = TabPanel(self, opened.tab or next(iter(TABS)), self.open_tab)
        self._show()

    def parts(self) -> dict[str, Any]:
        """Everything the page is made of, by the names that layouts use."""
        return {
            **self.widgets.parts(),
            "settings": self.controls.form,
            **self.stage.parts(),
            **self.curves.parts(),
            "details": self.tabs.view,
        }

    def link(self) -> link.Link:
        """The content of a link to this page."""
        state, comparison = self.state, self.comparison
        own = self.own_file
        file, sha256 = (own.name, own.sha256) if own else ("", "")
        if own is None and comparison.experiment.data == self._wanted.settings.data:
            file, sha256 = self._wanted.file, self._wanted.sha256
        return link.Link(
            preset=state.preset, settings=comparison.experiment, seeds=comparison.seeds, rules=comparison.compared,
            draw=comparison.drawn, level=comparison.level, speed=state.speed, tab=self.tabs.name, embed=state.embed,
            file=file, sha256=sha256,
        )  # fmt: skip

    def close(self) -> None:
        """Stop training: the session is over."""
        self.trainer.close()
        self.own.close()

    # ----------------------------------------------------------------------------------------------- what tabs may use

    @property
    def epochs(self) -> Epochs:
        """The axis of epochs that all charts share."""
        return self.curves.epochs

    @property
    def figures(self) -> Mapping[str, figure]:
        """The charts beside the stage."""
        return {name: chart.figure for name, chart in self.curves.charts.items()}

    @property
    def preset(self) -> str:
        """Name of the preset that the page began with; empty for none."""
        return self.state.preset

    @property
    def complaint(self) -> str:
        """Why the last request was refused; empty if it was not."""
        return self.state.complaint

    @property
    def prepared(self) -> bool:
        """Whether the nets are made."""
        return self.state.prepared

    @property
    def own_files(self) -> Mapping[str, OwnFile]:
        """The visitor's own files by the names of their data sets."""
        return self.own.files

    @property
    def own_file(self) -> OwnFile | None:
        """The visitor's own file that the networks train on; None if it is another data set."""
        return self.own.files.get(self.comparison.experiment.data)

    def watch(self) -> None:
        """Take snapshots with what the open tab asks for."""
        self.trainer.watch(self.comparison.drawn, self.tabs.wanted)

    def ask(
        self, work: Callable[[Run], Any], receive: Callable[[Any], None], refuse: Callable[[str], None] | None = None
    ) -> None:
        """Have the training thread call `work` with the drawn net."""
        self.trainer.ask(self.comparison.drawn, work, receive, refuse)

    def complain(self, reason: str) -> None:
        """Say that something cannot be done. Any thread may call this."""
        self.state.complaint = reason
        self.refresh()

    # ---------------------------------------------------------------------------------------------- how it is shown

    def refresh(self) -> None:
        """Show the state as soon as Bokeh models may be changed. Any thread may call this, any number of times."""
        if not self._refresh_asked:
            self._refresh_asked = True
            self.soon(self._show)

    def _show(self) -> None:
        self._refresh_asked = False
        self.view = view_of(self.state)
        self.widgets.show(self.view, pins.query(self.link()))
        self.controls.refresh(self.view.wrong)
        self.stage.show(self.view.stage, self.controls.hidden_layers)
        self.curves.show(self.comparison)
        self.tabs.update()

    def soon(self, edit: Edit) -> None:
        """Run `edit`, which changes Bokeh models, as soon as that is allowed. Any thread may call this."""
        if self._screen is None:
            edit()
        else:
            self._screen.soon(edit)

    # ----------------------------------------------------------------------------------------- the trainer's messages

    def _call_drain(self) -> None:
        if self._screen is not None:
            self._screen.soon(self._drain_in_time)

    def _drain_in_time(self) -> None:
        """Take messages that a visitor waits for at once, and measurements as soon as the browser keeps up."""
        if self._screen is None or self.trainer.pressing:
            self.drain()
        else:
            self._screen.when_drawn(self.drain)

    def drain(self) -> None:
        """Take the messages that have come, and show them."""
        self.receive(self.trainer.take())

    def receive(self, updates: Iterable[Update]) -> None:
        """Take messages and show what has changed; messages about earlier comparisons are dropped.

        Raises:
            ExceptionGroup: a tab, perhaps somebody else's, could not show its part; all other messages have been shown.
        """
        updates = [update for update in updates if update.comparison == self.comparison.number]
        failed: list[Exception] = []
        for update in updates:
            try:
                self._take(update.content, update.lane)
            except Exception as error:
                failed.append(error)
        if updates:
            self._begin_by_itself()
            self._show()
        if failed:
            raise ExceptionGroup("messages that could not be shown", failed)

    @singledispatchmethod
    def _take(self, content: object, lane: str) -> None:
        self.state.apply(content, lane)

    @_take.register
    def _(self, answer: Answer, lane: str) -> None:
        answer.deliver(answer.value)

    @_take.register
    def _(self, snapshot: Snapshot, lane: str) -> None:
        if lane == self.comparison.drawn and self.tabs.wanted is not None:
            self.tabs.current.show(snapshot)

    # ------------------------------------------------------------------------------------------- training: the buttons

    def start(self) -> None:
        """Train to the end; after the end, train new nets."""
        experiment = self._requested()
        if experiment is None:
            return
        state = self.state
        state.note, state.by_itself, state.resting = "", False, False
        if state.phase.over or not self._is_current(experiment):
            self._restart(experiment, start=True)
        else:
            state.started, state.target_step = True, 0
            self.trainer.start()
            self.refresh()

    def pause(self) -> None:
        """Stop after the current mini-batch. Training that would begin by itself waits for Start."""
        state = self.state
        state.note = "Training does not begin by itself: press Start." if state.begins else ""
        state.started, state.by_itself, state.begins, state.target_step = False, False, False, 0
        state.resting = False
        self.trainer.pause()
        self.refresh()

    def step(self, name: str) -> None:
        """Train a little: `name` is one of `STEPS`."""
        state = self.state
        if not state.can_step or name not in STEPS:
            return
        state.started, state.by_itself, state.resting, state.note = False, False, False, ""
        epoch = self.comparison.steps_per_epoch
        begin = max(state.target_step, self.comparison.position.step)
        count = epoch - begin % epoch if name == "epoch" else int(name)
        state.target_step = begin + count
        self.trainer.step(count)
        self.refresh()

    def reset(self) -> None:
        """Make new nets from the same seed. If the old nets have no curves yet, the grey ones go."""
        experiment = self._requested()
        if experiment is not None:
            self.state.note = ""
            if not self.comparison.worth_keeping:
                self.comparison.before = {}
            self._restart(experiment)

    def new_seed(self) -> None:
        """Make new nets from the next seed."""
        self.controls.next_seed()

    def set_speed(self, name: str) -> None:
        """Train at another speed, a name in `SPEEDS`."""
        self.state.speed = name
        self.trainer.set_speed(SPEEDS[name])
        self.refresh()

    def arrive(self, *, motion: bool) -> None:
        """The visitor's browser shows the page: begin to train if the page does so by itself.

        It does if its address asks for nothing else, the visitor accepts motion, and a training slot is free.
        """
        self.state.begins &= motion
        self.state.arrived = True
        self._begin_by_itself()
        self.refresh()

    def _begin_by_itself(self) -> None:
        state = self.state
        if state.begins and state.arrived and state.prepared and state.phase is Phase.IDLE:
            state.begins = False
            if not self.trainer.crowded:
                state.started = state.by_itself = True
                self.trainer.start()
            self.refresh()

    def look_away(self, *, hidden: bool) -> None:
        """The visitor turns to another tab of the browser, or back: training that began by itself rests meanwhile."""
        if hidden and self.state.by_itself:
            self.rest()
        elif not hidden:
            self.resume("Training rested while the page was out of sight.")

    def rest(self) -> None:
        """The visitor is away: free the training slot for others."""
        self.state.resting |= self.state.started  # a hidden page rests already when its connection is lost, too
        self.trainer.pause()

    def resume(self, note: str = "Training rested while the connection was lost.") -> None:
        """The visitor is back: train again if training rested."""
        if self.state.resting:
            self.state.started, self.state.resting = True, False
            self.state.note = note
            self.trainer.start()
            self.refresh()

    # ------------------------------------------------------------------------------------ settings, presets and rules

    def change_settings(self, names: set[str]) -> None:
        """The controls show another experiment: change the learning rate of the nets, or make new nets."""
        experiment, state, comparison = self._requested(), self.state, self.comparison
        if experiment is None:
            return
        if self._is_current(experiment):
            self.refresh()
            return
        only_rate = names == {"learning_rate"} and experiment == comparison.experiment.replace(
            learning_rate=experiment.learning_rate
        )
        if only_rate and not state.phase.over:  # nets at their end would never learn at the new rate
            comparison.change_learning_rate(experiment)
            self.trainer.set_learning_rate(experiment.learning_rate)
            if comparison.position.step:
                state.note = f"Learning rate {experiment.learning_rate:g} since epoch {comparison.position.epoch}."
            self.refresh()
            return
        start = state.started and missing(experiment.data) is None  # nothing is downloaded before Start is pressed
        self._restart(experiment, start=start)
        state.note = "New networks, training from their first weights." if start else "New networks: press Start."
        if comparison.before:
            state.note += " The grey curves show the previous run."
        self.refresh()

    def _choose(self, name: str) -> None:
        """Load a preset, or keep everything as the visitor's own."""
        if name == link.OWN:
            self.state.preset = ""
            self.refresh()
        elif is_preset(name) and (
            name != self.state.preset or self.comparison.experiment != find_preset(name).experiment
        ):
            self._load(name)

    def _load(self, name: str) -> None:
        opened, state, comparison = link.of_preset(name), self.state, self.comparison
        try:
            of_rules = [comparison.rules[rule].experiment(opened.settings) for rule in opened.rules]
            LIMITS.check_all(of_rules, self.controls.seeds.value)
        except MdfaError as error:
            self.complain(f"{find_preset(name).title}: {error}")
            return
        state.preset, comparison.compared, comparison.drawn = opened.preset, opened.rules, opened.draw
        self.controls.show(opened.settings)
        state.complaint = state.wrong = state.note = ""
        self._restart(opened.settings, start=state.started and missing(opened.settings.data) is None)
        if opened.tab:
            self.open_tab(opened.tab, seen=False)

    def _show_files(self) -> None:
        self.controls.show_files(self.own.options(), self.own.said, self.own.wrong)
        self.refresh()

    def _use_file(self, name: str) -> None:
        """Train on a file that was read, with settings that fit it; those of the link that named it are kept."""
        state, comparison, own, wanted = self.state, self.comparison, self.own.files[name], self._wanted
        self._show_files()
        experiment = fitted(comparison.experiment, name, own)
        as_linked = wanted.settings.replace(data=name, image_size=None)
        as_wanted = own.sha256 == wanted.sha256 and LIMITS.fits(as_linked)
        if as_wanted:
            experiment, self._wanted = as_linked, link.Link()
        try:
            LIMITS.check_all([rule.experiment(experiment) for rule in comparison.chosen_rules], comparison.seeds)
        except MdfaError as error:
            self.complain(str(error))
            return
        self.controls.show(experiment)
        state.complaint = state.wrong = ""
        self._restart(experiment, start=state.started)
        state.note = f"New networks for {own.name}" + (", the file of the link" if as_wanted else "")
        state.note += ", training from their first weights." if state.started else ": press Start."
        if wanted.sha256 and own.sha256 != wanted.sha256:
            state.note += f" It is not the file {wanted.file} of the link: its SHA-256 differs."
        self.refresh()

    def pick(self, word: str) -> None:
        """Do what a word that was picked in a drawing stands for; the word comes from a browser."""
        kind, _, name = word.partition(":")
        if kind == "toggle" and name in self.comparison.rules:
            self._toggle(name)
        elif kind == "draw" and name in self.comparison.rules:
            if name not in self.comparison.compared:
                self._toggle(name)
            if name in self.comparison.compared and name != self.comparison.drawn:
                self._draw_net_of(name)
        elif kind == "preset":
            self._choose(name)
        elif kind == "restore" and is_preset(self.state.preset):
            self._load(self.state.preset)
        elif kind == "cell" and name in CELLS:
            self._load(name)
        elif kind == "layer" and name in map(str, range(LIMITS.hidden_layers)):
            self.open_layer(int(name))
        elif kind == "depth" and name in map(str, range(LIMITS.hidden_layers + 1)):
            self.controls.set_depth(int(name))

    def _toggle(self, name: str) -> None:
        """Compare a rule, or compare it no longer."""
        state, comparison = self.state, self.comparison
        rules = comparison.rules
        chosen = [other for other in rules if (other in comparison.compared) != (other == name)]
        try:
            if not chosen:
                raise MdfaError("compare at least one rule: add another before you remove this one")
            first = [rules[other] for other in chosen]
            now = [comparison.lanes[rule.name].rule if rule.name in comparison.lanes else rule for rule in first]
            for each in (now, first):  # nets that were switched have to fit after a reset, too
                LIMITS.check_all([rule.experiment(comparison.experiment) for rule in each], comparison.seeds)
        except MdfaError as error:
            self.complain(str(error))
            return
        comparison.compare(chosen)
        self._requested()  # a field that shows a value that is not allowed is still complained about
        if comparison.facts is None or state.phase in (Phase.FAILED, Phase.DIVERGED):
            self._restart(comparison.experiment, start=state.started)
            return
        self.trainer.set_rules(first)
        state.note = ""
        self._draw_net_of(comparison.drawn)

    def switch(self, name: str) -> None:
        """Let the drawn net learn by another rule from now on; the trainer answers whether it can."""
        if self.state.can_switch and name in self.comparison.rules:
            self.state.pending_rule = name
            self.trainer.switch(self.comparison.drawn, self.comparison.rules[name])
        self.refresh()

    def _requested(self) -> Experiment | None:
        """The experiment that the controls show if it is allowed; otherwise complain, and change nothing."""
        try:
            experiment = self.controls.experiment()
            rules = self.comparison.chosen_rules
            LIMITS.check_all([rule.experiment(experiment) for rule in rules], self.controls.seeds.value)
        except MdfaError as error:
            self.state.wrong = sentence(str(error))
            self.complain(str(error))
            return None
        self.state.complaint = self.state.wrong = ""
        return experiment

    def _is_current(self, experiment: Experiment) -> bool:
        """Whether the nets have these settings, and as many seeds as the controls show."""
        return (experiment, self.controls.seeds.value) == (self.comparison.experiment, self.comparison.seeds)

    def _begin(self, experiment: Experiment, *, seeds: int, start: bool = False) -> None:
        """Ask for new nets."""
        state, comparison = self.state, self.comparison
        comparison.begin(experiment, seeds)
        state.started, state.by_itself, state.target_step, state.pending_rule = start, False, 0, ""
        state.rate.clear()
        try:
            comparison.number = self.trainer.prepare(experiment, comparison.chosen_rules, seeds=seeds, start=start)
        except MdfaError as error:
            state.phase, state.message = Phase.FAILED, str(error)
        else:
            state.phase, state.message = Phase.PREPARING, PHASE_WORDS[Phase.PREPARING]

    def _restart(self, experiment: Experiment, *, start: bool = False) -> None:
        """Replace the nets by new ones; the curves of the old ones turn grey."""
        self._begin(experiment, seeds=self.controls.seeds.value, start=start)
        self.soon(self._forget_net)
        self.refresh()

    # ------------------------------------------------------------------------------------------------ what is looked at

    def pin(self, name: str) -> None:
        """Keep the current run in the charts, under a visitor's name or the proposed one."""
        comparison = self.comparison
        try:
            comparison.pin(pins.cleaned(name) or pins.proposal(comparison, self.preset), self.link())
        except MdfaError as error:
            self.complain(str(error))
            return
        self.state.complaint = ""
        self.refresh()

    def unpin(self, name: str) -> None:
        """Remove a pinned run; the name comes from a browser."""
        self.comparison.unpin(name)
        self.refresh()

    def set_level(self, name: str) -> None:
        """Show another level of sign agreement."""
        self.comparison.level = name
        self.refresh()

    def look(self, at: Look | None) -> None:
        """Show the error signals of a unit on the stage until another one, or None, is looked at."""
        shown = self.comparison.signals
        self.comparison.look_at(at)
        self.trainer.look(at)
        if shown:
            self.refresh()

    def set_dark(self, dark: bool) -> None:
        """Take the colours of a theme."""
        self.soon(partial(self._recolour, dark))

    def _recolour(self, dark: bool) -> None:
        self.curves.recolour(dark=dark)
        self.tabs.recolour(dark=dark)

    def open_tab(self, name: str, *, seen: bool = True) -> None:
        """Open a tab, by its name in `TABS`; `seen` is whether the visitor looks at it."""
        if name != self.tabs.name:
            self.tabs.open(name, seen=seen)
            self.watch()
            self.refresh()

    def open_layer(self, number: int) -> None:
        """Turn the tabs to a layer, counted from 0."""
        self.tabs.show_layer(number)
        self.watch()
        self.refresh()

    def _draw_net_of(self, name: str) -> None:
        self.comparison.drawn, self.state.pending_rule = name, ""
        self.soon(self._forget_net)
        self.refresh()

    def _forget_net(self) -> None:
        self.tabs.clear()
        self.watch()
