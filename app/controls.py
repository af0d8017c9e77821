"""The settings of an experiment as widgets: choices from the package's tables, help from the experiment's fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import panel as pn
import param

from app.limits import LIMITS, Limits
from app.session import absent
from app.style import WIDGETS
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment
from mdfa_core.initializers import Zeros, takes_number

FIRST = Experiment(learning_rate=0.003, batch_size=32, epochs=100)
"""What the page opens with: slow enough to watch, seconds until it is learnt."""

LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
OUTPUTS = (1, 2, 3, 5, 10, 20, 50, 100)
OWN = "own"
"""The choice of a network that is written out."""

_SCALES = {"uniform": 1.0, "normal": 0.1}


class Controls:
    """The widgets, and the experiment they describe.

    Args:
        first: what they show at first.
        limits: of the server; choices beyond them are not offered.
        on_change: called with the names of the settings that were changed.
    """

    def __init__(self, first: Experiment, *, limits: Limits = LIMITS, on_change: Callable[[set[str]], None]) -> None:
        self._limits, self._on_change = limits, on_change
        self._quiet = False
        self._rest = first  # settings that have no widget
        help_ = {setting.name: setting.metadata["help"] for setting in dataclasses.fields(Experiment)}

        def named(label: str, name: str, **more: Any) -> dict[str, Any]:
            text = help_[name]
            return {"label": label, "description": f"{text[0].upper()}{text[1:]}.", "stylesheets": [WIDGETS],
                    "sizing_mode": "stretch_width", "margin": 0, **more}  # fmt: skip

        self.method = pn.widgets.RadioButtonGroup(
            options={entry.title: name for name, entry in METHODS.items()},
            value=first.method,
            stylesheets=[WIDGETS],
            sizing_mode="stretch_width",
            margin=0,
            label="Learning rule",
        )
        self.data = pn.widgets.Select(options=_data_sets(), value=first.data, **named("Images", "data"))
        self.outputs = pn.widgets.Select(
            options=self._outputs(first), value=first.outputs, **named("Outputs", "outputs")
        )
        self.network = pn.widgets.Select(
            options=self._networks(first), value=first.network, **named("Network", "network")
        )
        self.own_network = pn.widgets.TextInput(
            value="fc:64,64", visible=False, placeholder="fc:64,64", **named("Own network", "network")
        )
        self.activation = pn.widgets.Select(
            options={entry.title: name for name, entry in ACTIVATIONS.items()},
            value=first.activation,
            **named("Activation", "activation"),
        )
        self.forward = _Initializer("Forward weights", first.forward_init, named("", "forward_init"), zeros=True)
        self.feedback = _Initializer("Feedback weights", first.feedback_init, named("", "feedback_init"), zeros=False)
        self.optimizer = pn.widgets.Select(
            options={entry.title: name for name, entry in OPTIMIZERS.items()},
            value=first.optimizer,
            **named("Optimizer", "optimizer"),
        )
        self.learning_rate = pn.widgets.Select(
            options=_with({f"{rate:g}": rate for rate in LEARNING_RATES}, first.learning_rate),
            value=first.learning_rate,
            **named("Learning rate", "learning_rate"),
        )
        self.batch_size = pn.widgets.Select(
            options=_with({str(size): size for size in BATCH_SIZES if size <= limits.batch_size}, first.batch_size),
            value=first.batch_size,
            **named("Batch size", "batch_size"),
        )
        self.epochs = pn.widgets.IntInput(value=first.epochs, step=10, **named("Epochs", "epochs"))
        self.seed = pn.widgets.IntInput(value=first.seed, step=1, **named("Seed", "seed"))
        self.new_seed = pn.widgets.Button(
            label="New seed",
            description="Other weights, other feedback, other classes.",
            stylesheets=[WIDGETS],
            margin=0,
            css_classes=["small"],
        )
        self.new_seed.on_click(self._next_seed)

        widgets: dict[str, tuple[param.Parameterized, ...]] = {
            "method": (self.method,),
            "data": (self.data,),
            "outputs": (self.outputs,),
            "network": (self.network, self.own_network),
            "activation": (self.activation,),
            "forward_init": self.forward.widgets,
            "feedback_init": self.feedback.widgets,
            "optimizer": (self.optimizer,),
            "learning_rate": (self.learning_rate,),
            "batch_size": (self.batch_size,),
            "epochs": (self.epochs,),
            "seed": (self.seed,),
        }
        self.widgets: Mapping[str, tuple[param.Parameterized, ...]] = widgets
        for name, ones in widgets.items():
            for widget in ones:
                widget.param.watch(lambda _event, name=name: self._changed(name), "value")

    def experiment(self) -> Experiment:
        """What the widgets show.

        Raises:
            MdfaError: they show something that is not allowed; the message is one sentence.
        """
        return self._rest.replace(
            method=self.method.value,
            data=self.data.value,
            outputs=self.outputs.value,
            network=(self.own_network.value or "").strip() if self.network.value == OWN else self.network.value,
            activation=self.activation.value,
            forward_init=self.forward.text,
            feedback_init=self.feedback.text,
            optimizer=self.optimizer.value,
            learning_rate=self.learning_rate.value,
            batch_size=self.batch_size.value,
            epochs=self.epochs.value,
            seed=self.seed.value,
        )

    def _changed(self, name: str) -> None:
        if self._quiet:
            return
        self._quiet = True  # choices that no longer fit change others: one call for all of it
        changed = {name}
        try:
            if name in ("data", "outputs", "batch_size", "activation", "network"):
                changed |= self._adapt()
            self.own_network.visible = self.network.value == OWN
            self.forward.show()
            self.feedback.show()
        finally:
            self._quiet = False
        self._on_change(changed)

    def _adapt(self) -> set[str]:
        """Offer what fits the data set, and choose something else where the choice does not."""
        before = (self.outputs.value, self.network.value)
        base = self._rest.replace(
            data=self.data.value, activation=self.activation.value, batch_size=self.batch_size.value
        )
        outputs = self._outputs(base)
        if self.outputs.value not in outputs.values():
            self.outputs.value = 1
        self.outputs.options = outputs
        networks = self._networks(base.replace(outputs=self.outputs.value))
        if self.network.value not in networks.values():
            fitting = next(iter(networks.values()))
            self.network.param.update(options=networks, value=fitting)
        else:
            self.network.options = networks
        after = (self.outputs.value, self.network.value)
        return {name for name, b, a in zip(("outputs", "network"), before, after, strict=True) if a != b}

    def _outputs(self, base: Experiment) -> dict[str, int]:
        classes = DATASETS[base.data].facts.classes
        most = min(self._limits.outputs, classes or self._limits.outputs)
        named = {1: "1 (two classes)", 2: "2 (two classes)"}
        return {named.get(count, f"{count} ({count} classes)"): count for count in OUTPUTS if count <= max(2, most)}

    def _networks(self, base: Experiment) -> dict[str, str]:
        fitting = {name: name for name in NETWORKS if self._limits.fits(base.replace(network=name))}
        return {**fitting, "own …": OWN}

    def _next_seed(self, _event: object) -> None:
        self.seed.value = ((self.seed.value or 0) + 1) % 2**32


class _Initializer:
    """A distribution and its scale."""

    def __init__(self, label: str, first: str, settings: dict[str, Any], *, zeros: bool) -> None:
        kind, _, scale = first.partition(":")
        allowed = [name for name, entry in INITIALIZERS.items() if zeros or entry is not Zeros]
        self.kind = pn.widgets.Select(options=allowed, value=kind, **{**settings, "label": label})
        self.scale = pn.widgets.FloatInput(
            value=float(scale) if scale else _SCALES.get(kind, 1.0),
            step=0.1,
            **{**settings, "label": "Scale", "description": "Standard deviation, or the uniform bound times √fan-in."},
        )
        self.show()

    @property
    def widgets(self) -> tuple[param.Parameterized, ...]:
        return self.kind, self.scale

    @property
    def text(self) -> str:
        return f"{self.kind.value}:{self.scale.value}" if self._scaled else str(self.kind.value)

    @property
    def _scaled(self) -> bool:
        return takes_number(self.kind.value)

    def show(self) -> None:
        """Ask for a scale only where there is one."""
        self.scale.disabled = not self._scaled


def _data_sets() -> dict[str, str]:
    """Data sets by title; those that are not here say so."""
    return {entry.title + (" (not here yet)" if absent(name) else ""): name for name, entry in DATASETS.items()}


def _with(options: dict[str, Any], value: float) -> dict[str, Any]:
    """The options, and among them, in order, the value."""
    if value in options.values():
        return options
    return dict(sorted({**options, f"{value:g}": value}.items(), key=lambda item: item[1]))
