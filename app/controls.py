"""The settings of an experiment as widgets: choices from the package's tables, help from the experiment's fields."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import panel as pn
import param

from app.limits import LIMITS, Limits
from app.session import absent
from app.style import WIDGETS
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, NETWORKS, OPTIMIZERS, Experiment
from mdfa_core.errors import InvalidValue
from mdfa_core.initializers import CONVENTIONS, Zeros, takes_number
from mdfa_core.networks import parse_architecture

LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
OUTPUTS = (1, 2, 3, 5, 10, 20, 50, 100)
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LAYERED = "layered"
"""The choice of a network by its depth and width."""
OWN = "own"
"""The choice of a network that is written out."""

_LONGEST = 200  # characters of a network that is written out
_SCALES = {"uniform": 1.0, "normal": 0.1}
_CONVENTIONS = {"paper": "the paper", "released": "released code"}


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

        self.data = pn.widgets.Select(options=_data_sets(), value=first.data, **named("Images", "data"))
        self.outputs = pn.widgets.Select(
            options=self._outputs(first), value=first.outputs, **named("Outputs", "outputs")
        )
        self.network = pn.widgets.Select(options=self._networks(first), **named("Network", "network"))
        self.depth = pn.widgets.IntInput(
            value=2, start=0, end=limits.hidden_layers, **named("Hidden layers", "network")
        )
        self.depth.description = "Fully-connected layers between the images and the output; 0 leaves them out."
        self.width = pn.widgets.Select(
            options={str(width): width for width in WIDTHS}, value=128, **named("Units of each", "network")
        )
        self.width.description = "Units of every hidden layer."
        self.own_network = pn.widgets.TextInput(
            value="fc:64,64", placeholder="fc:64,64", **named("Own network", "network")
        )
        self.activation = pn.widgets.Select(
            options={entry.title: name for name, entry in ACTIVATIONS.items()},
            value=first.activation,
            **named("Activation", "activation"),
        )
        self.forward = _Initializer("Weights W", first.forward_init, named("", "forward_init"), zeros=True)
        self.feedback = _Initializer("Feedback B", first.feedback_init, named("", "feedback_init"), zeros=False)
        self.convention = pn.widgets.Select(
            options={_CONVENTIONS.get(name, name): name for name in CONVENTIONS},
            value=first.convention,
            **named("Uniform as in", "convention"),
        )
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

        widgets: dict[str, tuple[param.Parameterized, ...]] = {
            "data": (self.data,),
            "outputs": (self.outputs,),
            "network": (self.network, self.depth, self.width, self.own_network),
            "activation": (self.activation,),
            "forward_init": self.forward.widgets,
            "feedback_init": self.feedback.widgets,
            "convention": (self.convention,),
            "optimizer": (self.optimizer,),
            "learning_rate": (self.learning_rate,),
            "batch_size": (self.batch_size,),
            "epochs": (self.epochs,),
            "seed": (self.seed,),
        }
        self.widgets: Mapping[str, tuple[param.Parameterized, ...]] = widgets
        self.show(first)
        for name, ones in widgets.items():
            for widget in ones:
                widget.param.watch(lambda _event, name=name: self._changed(name), "value")

    def experiment(self) -> Experiment:
        """What the widgets show.

        Raises:
            MdfaError: they show something that is not allowed; the message is one sentence.
        """
        return self._rest.replace(
            data=self.data.value,
            outputs=self.outputs.value,
            network=self._network(),
            activation=self.activation.value,
            forward_init=self.forward.text,
            feedback_init=self.feedback.text,
            convention=self.convention.value,
            optimizer=self.optimizer.value,
            learning_rate=self.learning_rate.value,
            batch_size=self.batch_size.value,
            epochs=self.epochs.value,
            seed=self.seed.value,
        )

    def show(self, experiment: Experiment) -> None:
        """Take the values of an experiment, without a word to `on_change`."""
        with self._quietly():
            self._rest = experiment
            self.data.value = experiment.data
            self.outputs.param.update(options=self._outputs(experiment), value=experiment.outputs)
            self.activation.value = experiment.activation
            self.optimizer.value = experiment.optimizer
            self.convention.value = experiment.convention
            for widget, value in (
                (self.learning_rate, experiment.learning_rate),
                (self.batch_size, experiment.batch_size),
            ):
                widget.param.update(options=_with(widget.options, value), value=value)
            self.epochs.value, self.seed.value = experiment.epochs, experiment.seed
            self.forward.text, self.feedback.text = experiment.forward_init, experiment.feedback_init
            self._show_network(experiment)
            self._show_what_applies()

    def next_seed(self) -> None:
        """Other weights, other feedback, other classes."""
        self.seed.value = ((self.seed.value or 0) + 1) % 2**32

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _changed(self, name: str) -> None:
        if self._quiet:
            return
        changed = {name}
        if name == "data":
            self._rest = self._rest.replace(image_size=None)  # of the images before
        with self._quietly():  # choices that no longer fit change others: one call for all of it
            if name in ("data", "outputs", "batch_size", "activation", "network"):
                changed |= self._adapt()
            self._show_what_applies()
        self._on_change(changed)

    def _show_what_applies(self) -> None:
        self.depth.visible = self.width.visible = self.network.value == LAYERED
        self.own_network.visible = self.network.value == OWN
        self.forward.show()
        self.feedback.show()
        self.convention.disabled = "uniform" not in (self.forward.kind.value, self.feedback.kind.value)

    # ------------------------------------------------------------------------------------------------- the network

    def _network(self) -> str:
        if self.network.value == LAYERED:
            depth = self.depth.value
            if not isinstance(depth, int):
                raise InvalidValue(f"the number of hidden layers is {depth}: give an integer of at least 0")
            if not 0 <= depth <= self._limits.hidden_layers:  # a browser can send what the widget does not offer
                raise InvalidValue(
                    f"{depth} hidden layers are asked for: this server allows 0 to {self._limits.hidden_layers}"
                )
            return "fc:" + ",".join([str(self.width.value)] * depth)
        if self.network.value == OWN:
            text = (self.own_network.value or "").strip()
            if len(text) > _LONGEST:
                raise InvalidValue(f"the network is described in {len(text)} characters: use at most {_LONGEST}")
            return text
        return str(self.network.value)

    def _show_network(self, experiment: Experiment) -> None:
        text = experiment.network
        self.network.options = self._networks(experiment)
        if text in self.network.options.values():
            self.network.value = text
            return
        widths = re.fullmatch(r"fc:((\d+)(?:,\2)*)?", text)
        if widths is not None and int(widths[2] or 128) in WIDTHS:
            self.network.value = LAYERED
            self.depth.value = len(parse_architecture(text).hidden)
            self.width.value = int(widths[2] or 128)
        else:
            self.network.value, self.own_network.value = OWN, text

    def _adapt(self) -> set[str]:
        """Offer what fits the data set, and choose something else where the choice does not."""
        before = (self.outputs.value, self.network.value)
        base = self._rest.replace(
            data=self.data.value,
            outputs=self.outputs.value,
            activation=self.activation.value,
            batch_size=self.batch_size.value,
        )
        if base.outputs not in self._outputs(base).values():
            base = base.replace(outputs=1)
        self.outputs.param.update(options=self._outputs(base), value=base.outputs)
        networks = self._networks(base)
        if self.network.value not in networks.values():
            self.network.param.update(options=networks, value=LAYERED)
        else:
            self.network.options = networks
        after = (self.outputs.value, self.network.value)
        return {name for name, b, a in zip(("outputs", "network"), before, after, strict=True) if a != b}

    def _outputs(self, base: Experiment) -> dict[str, int]:
        """What fits the data set of `OUTPUTS` and, as a link may ask for any number, of what there is now."""
        classes = DATASETS[base.data].facts.classes
        most = max(2, min(self._limits.outputs, classes or self._limits.outputs))
        named = {1: "1 (two classes)", 2: "2 (two classes)"}
        fitting = (count for count in sorted({*OUTPUTS, base.outputs}) if count <= most)
        return {named.get(count, f"{count} ({count} classes)"): count for count in fitting}

    def _networks(self, base: Experiment) -> dict[str, str]:
        fitting = {name: name for name in NETWORKS if self._limits.fits(base.replace(network=name))}
        return {"fully connected": LAYERED, **fitting, "own …": OWN}


class _Initializer:
    """A distribution and its scale."""

    def __init__(self, label: str, first: str, settings: dict[str, Any], *, zeros: bool) -> None:
        kind, _, scale = first.partition(":")
        allowed = [name for name, entry in INITIALIZERS.items() if zeros or entry is not Zeros]
        self.kind = pn.widgets.Select(options=allowed, value=kind, **{**settings, "label": label})
        self.scale = pn.widgets.FloatInput(
            value=float(scale) if scale else _SCALES.get(kind, 1.0),
            step=0.1,
            **{
                **settings,
                "label": f"Scale of {label[-1]}",
                "description": "Standard deviation, or the uniform bound times √fan-in.",
            },
        )
        self.show()

    @property
    def widgets(self) -> tuple[param.Parameterized, ...]:
        return self.kind, self.scale

    @property
    def text(self) -> str:
        return f"{self.kind.value}:{self.scale.value}" if self._scaled else str(self.kind.value)

    @text.setter
    def text(self, text: str) -> None:
        kind, _, scale = text.partition(":")
        self.kind.value = kind
        if scale:
            self.scale.value = float(scale)

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
