"""The widgets of a page beside settings, stage and tabs: buttons, choices and texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import panel as pn
from bokeh.models.ui import Tooltip

from mdfa_app.charts.live import LiveHTML, Markup, assign
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.page.address import Address, copy_button
from mdfa_app.page.arrival import Arrival
from mdfa_app.page.pins import Pins
from mdfa_app.page.view import View
from mdfa_app.settings.speeds import SPEEDS
from mdfa_app.settings.words import levels

STEPS = {
    "1": ("Step", "Train every network on one mini-batch.", 62),
    "10": ("10 steps", "Train every network on ten mini-batches.", 86),
    "epoch": ("Epoch", "Train every network to the end of the epoch.", 70),
}
"""Label, help and width in pixels of the buttons that train a little, by name."""


def button(label: str, on_click: Callable[[Any], None], help_: str = "", **more: Any) -> pn.widgets.Button:
    """A button, with a tooltip if there is a help text."""
    if help_:
        more |= {"description": Tooltip(content=help_, position="bottom_center"), "description_delay": 700}
    made = pn.widgets.Button(label=label, stylesheets=[WIDGETS], margin=0, **more)
    made.on_click(on_click)
    return made


def select(label: str, options: dict[str, Any], value: Any, **more: Any) -> pn.widgets.Select:
    """A choice from a list."""
    more = {"stylesheets": [WIDGETS], "sizing_mode": "stretch_width", "margin": 0, **more}
    return pn.widgets.Select(options=options, value=value, label=label, **more)


def text() -> Markup:
    """A place for markup."""
    return Markup("", stylesheets=[PANES], sizing_mode="stretch_width", margin=0)


class Actions(Protocol):
    """The actions of a page that its buttons and choices call."""

    def start(self) -> None:
        """Train to the end."""

    def pause(self) -> None:
        """Stop after the current mini-batch."""

    def step(self, name: str) -> None:
        """Train a little: `name` is one of `STEPS`."""

    def reset(self) -> None:
        """Make new networks from the same seed."""

    def new_seed(self) -> None:
        """Make new networks from the next seed."""

    def pick(self, word: str) -> None:
        """Do what a part of the cards or the claim stands for."""

    def arrive(self, *, motion: bool) -> None:
        """The visitor's browser shows the page."""

    def look_away(self, *, hidden: bool) -> None:
        """The visitor turns to another tab of the browser, or back."""

    def set_speed(self, name: str) -> None:
        """Train at another speed."""

    def set_level(self, name: str) -> None:
        """Show another level of sign agreement."""

    def set_dark(self, dark: bool) -> None:
        """Use the colours of a theme."""

    def pin(self, name: str) -> None:
        """Keep the current run under a name."""

    def unpin(self, name: str) -> None:
        """Remove a pinned run."""


class Widgets:
    """The widgets.

    Args:
        view: what they show at first.
        speed, level: the choices that are shown at first.
        actions: the page, whose methods they call.

    Attributes:
        start, pause, reset, new_seed: buttons.
        steps: the buttons in `STEPS` by name.
        speed, level: choices.
        presets, claim: the cards, and the claim of the chosen one.
        pins: the pinned runs.
        dark: the switch of the theme.
        address: keeps the browser's address.
        arrival: tells when the visitor comes, looks away and comes back.
    """

    def __init__(self, view: View, *, speed: str, level: str, actions: Actions) -> None:
        def step(name: str) -> Callable[[Any], None]:
            return lambda _event: actions.step(name)

        def choose(widget: Any, on_choice: Callable[[Any], None]) -> Any:
            widget.param.watch(lambda event: on_choice(event.new), "value")
            return widget

        self.start = button(view.start, lambda _event: actions.start(), color="primary", width=106)
        self.pause = button("Pause", lambda _event: actions.pause(), width=70)
        self.steps = {
            name: button(label, step(name), help_, width=width) for name, (label, help_, width) in STEPS.items()
        }
        back = "New networks from the same seed. The curves so far turn grey; press again to remove them."
        self.reset = button("Reset", lambda _event: actions.reset(), back, width=68)
        other = "New networks from the next seed: other weights, other feedback, other classes."
        self.new_seed = button("New seed", lambda _event: actions.new_seed(), other, width=98)
        speeds = {one.title: name for name, one in SPEEDS.items()}
        self.speed = choose(select("Speed", speeds, speed, css_classes=["unlabelled"]), actions.set_speed)
        self.level = choose(
            pn.widgets.RadioButtonGroup(
                options=levels(), value=level, stylesheets=[WIDGETS], css_classes=["small"], margin=0
            ),
            actions.set_level,
        )
        self.dark = pn.widgets.Toggle(
            label="Dark", stylesheets=[WIDGETS], css_classes=["small"], margin=0, tags=["dark"]
        )
        # This value alone decides the theme; assets/page.html sets it to the browser's preference at first.
        self.dark.jscallback(value="document.documentElement.dataset.theme = cb_obj.active ? 'dark' : 'light'")
        choose(self.dark, actions.set_dark)
        self.presets, self.claim = LiveHTML(actions.pick), LiveHTML(actions.pick)
        self.pins = Pins(actions.pin, actions.unpin)
        self._status, self._numbers = text(), text()
        self.address = Address()
        self.arrival = Arrival(actions.arrive, actions.look_away)
        self._copy = copy_button()

    def parts(self) -> dict[str, Any]:
        """The widgets by the names that layouts use."""
        return {
            "dark": self.dark, "presets": self.presets, "copy": self._copy, "address": self.address,
            "start": self.start, "pause": self.pause, "step": self.steps["1"], "step10": self.steps["10"],
            "step_epoch": self.steps["epoch"], "reset": self.reset, "new_seed": self.new_seed, "speed": self.speed,
            "numbers": self._numbers, "status": self._status, "claim": self.claim, "level": self.level,
            "arrival": self.arrival, "pins": self.pins,
        }  # fmt: skip

    def show(self, view: View, query: str) -> None:
        """Show a view and the query of its link; only what differs is sent to the browser."""
        assign(self.start, label=view.start, disabled=not view.can_start)
        assign(self.pause, disabled=not view.can_pause)
        for step in self.steps.values():
            assign(step, disabled=not view.can_step)
        assign(self.presets, html=view.presets)
        assign(self.claim, html=view.claim)
        assign(self.pins, shown=view.pins)
        assign(self._status, object=view.status)
        assign(self._numbers, object=view.numbers)
        assign(self.address, query=query)
