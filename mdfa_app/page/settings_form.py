"""The settings of an experiment as a form. Their choices come from the registries, their help from `Experiment`."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from mdfa_app.page.form import Field, FileField, Form, watch
from mdfa_app.page.own_files import LARGEST
from mdfa_app.settings.availability import missing
from mdfa_app.settings.limits import LIMITS, SEEDS, Limits
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, NETWORKS, OPTIMIZERS, Experiment, MdfaError
from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.initializers import CONVENTIONS, Zeros, takes_number
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.losses import LOSS_SCALES
from mdfa_core.nets.networks import parse_architecture

LEARNING_RATES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
OUTPUTS = (1, 2, 3, 5, 10, 20, 50, 100)
WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LAYERED = "layered"
"""The choice of a network by depth and width."""
OWN = "own"
"""The choice of a network written by the visitor."""

_FILE_HELP = (
    "A CSV file of points: x, y and a label in each line. Or a ZIP archive with one folder of small PNG or JPEG images "
    "for each class. 2 to 10 classes. Only this page has the data, until it is closed."
)
_LONGEST = 200  # characters of a network written by the visitor
_CONVENTIONS = {"paper": "as in the paper", "released": "as in the released code"}
_HELP = {setting.name: setting.metadata["help"] for setting in dataclasses.fields(Experiment)}


class SettingsForm:
    """The fields of an experiment: six essentials, and the others folded below them.

    Args:
        first: the experiment they show at first.
        seeds: the number of seeds at first.
        limits: of this server; choices beyond them are not offered.
        on_change: called with the names of the settings that were changed.
        on_file: called with what a browser sends of a visitor's own file.

    Attributes:
        form: what is shown.
        fields: the fields of every setting that has some, by its name.
        file: the field for a visitor's own file.
        seeds: the number of seeds, which is no setting of an experiment.
    """

    def __init__(
        self,
        first: Experiment,
        *,
        seeds: int = 1,
        limits: Limits = LIMITS,
        on_change: Callable[[set[str]], None],
        on_file: Callable[[Any], None],
    ) -> None:
        self._limits, self._on_change = limits, on_change
        self._quiet = False  # whether changes are made by the page
        self._rest = first  # settings that have no field
        self._touched: Field | None = None  # the field that was changed last

        def field(label: str, name: str, kind: str, options: dict[str, Any] | None = None, **more: Any) -> Field:
            text = _HELP[name]
            given = {"help_": f"{text[0].upper()}{text[1:]}.", "value": getattr(first, name), **more}
            return Field(label, kind, options=options, **given)

        def titles(table: Mapping[str, Any]) -> dict[str, str]:
            return {entry.title: name for name, entry in table.items()}

        self.data = field("Data", "data", "select", _data_sets())
        self.file = FileField("Your own data", _FILE_HELP, largest=LARGEST, on_send=on_file)
        self.outputs = field("Outputs", "outputs", "segments", self._outputs(first))
        self.network = field("Network", "network", "select", self._networks(first), value=LAYERED)
        self.depth = field(
            "Hidden layers", "network", "stepper", {str(depth): depth for depth in range(limits.hidden_layers + 1)},
            value=2, help_="Fully-connected layers between the images and the output; 0 for none.",
        )  # fmt: skip
        self.width = field(
            "Units per layer", "network", "slider", {str(width): width for width in WIDTHS},
            value=128, help_="Units of every hidden layer.",
        )  # fmt: skip
        self.own_network = field("Your network", "network", "text", value="fc:64,64")
        self.activation = field("Activation", "activation", "segments", titles(ACTIVATIONS))
        self.forward = _Initializer(field, "Initial weights W", "forward_init", zeros=True)
        self.learning_rate = field(
            "Learning rate", "learning_rate", "slider",
            _with({f"{rate:g}": rate for rate in LEARNING_RATES}, first.learning_rate),
        )  # fmt: skip
        self.feedback = _Initializer(field, "Feedback weights B", "feedback_init", zeros=False, more=True)
        conventions = {_CONVENTIONS.get(name, name): name for name in CONVENTIONS}
        self.convention = field("Convention of uniform", "convention", "select", conventions, more=True)
        self.optimizer = field("Optimizer", "optimizer", "select", titles(OPTIMIZERS), more=True)
        self.loss_scale = field("Loss", "loss_scale", "segments", {name: name for name in LOSS_SCALES}, more=True)
        self.batch_size = field(
            "Batch size", "batch_size", "slider",
            _with({str(size): size for size in BATCH_SIZES if size <= limits.batch_size}, first.batch_size),
            more=True,
        )  # fmt: skip
        self.epochs = field("Epochs", "epochs", "number", more=True)
        self.seed = field("Seed", "seed", "number", more=True)
        self.seeds = field(
            "Seeds", "seed", "segments", {str(count): count for count in SEEDS}, value=seeds, more=True,
            help_="Networks of every rule, with the seeds from Seed on and the same images. Charts show mean and band.",
        )  # fmt: skip

        self.fields: Mapping[str, tuple[Field, ...]] = {
            "data": (self.data,),
            "outputs": (self.outputs,),
            "network": (self.network, self.depth, self.width, self.own_network),
            "activation": (self.activation,),
            "forward_init": self.forward.fields,
            "learning_rate": (self.learning_rate,),
            "feedback_init": self.feedback.fields,
            "convention": (self.convention,),
            "optimizer": (self.optimizer,),
            "loss_scale": (self.loss_scale,),
            "batch_size": (self.batch_size,),
            "epochs": (self.epochs,),
            "seed": (self.seed,),
        }
        self.show(first)
        watch([self.seeds], lambda field: self._changed("seeds", field))
        self.form = Form(self._named())
        for name, ones in self.fields.items():
            watch(ones, partial(self._changed, name))

    def _named(self) -> dict[str, Field]:
        """The fields by their names in the form: the settings' own, or those of the parts of a network or scale."""
        parts = {
            "network": ("network", "depth", "width", "own_network"),
            "forward_init": ("forward", "forward_scale"),
            "feedback_init": ("feedback", "feedback_scale"),
        }
        named = {
            part: field
            for name, ones in self.fields.items()
            for part, field in zip(parts.get(name, (name,)), ones, strict=True)
        }
        return {"data": named.pop("data"), "file": self.file, **named, "seeds": self.seeds}

    def refresh(self, wrong: str = "") -> None:
        """Show the fields as they are.

        Args:
            wrong: why the experiment that they show is not allowed; empty if it is. The field it is about is marked.
        """
        marked = self._culprit() if wrong else None
        for field in itertools.chain(*self.fields.values(), [self.seeds]):
            field.wrong = wrong if field is marked else ""
        self.form.refresh()

    def show_files(self, options: Mapping[str, str], said: str, wrong: str) -> None:
        """Offer the visitor's own data sets (names by title), and say what happens to the newest file."""
        with self._quietly():
            self.data.options = {**_data_sets(), **options}
        self.file.param.update(value=said, wrong=wrong)

    def _culprit(self) -> Field | None:
        """The field whose value is not allowed by itself, or else the one that was changed last."""
        for name, ones in self.fields.items():
            try:
                self._limits.check(self._rest.replace(**{name: self._value(name)}))
            except MdfaError:
                return self._touched if self._touched in ones else next(one for one in reversed(ones) if one.visible)
        return self._touched

    def experiment(self) -> Experiment:
        """The experiment that the fields show.

        Raises:
            MdfaError: a value is not allowed; the message says which one.
        """
        return self._rest.replace(**{name: self._value(name) for name in self.fields})

    def _value(self, name: str) -> Any:
        """The value that the fields of a setting show."""
        if name == "network":
            return self._network()
        initializers = {"forward_init": self.forward, "feedback_init": self.feedback}
        return initializers[name].text if name in initializers else self.fields[name][0].value

    def show(self, experiment: Experiment) -> None:
        """Show an experiment, without calling `on_change`."""
        with self._quietly():
            self._rest = experiment
            self.data.value = experiment.data
            self.outputs.param.update(options=self._outputs(experiment), value=experiment.outputs)
            self.activation.value = experiment.activation
            self.optimizer.value = experiment.optimizer
            self.convention.value = experiment.convention
            self.loss_scale.value = experiment.loss_scale
            for field, value in (
                (self.learning_rate, experiment.learning_rate),
                (self.batch_size, experiment.batch_size),
            ):
                field.param.update(options=_with(field.options, value), value=value)
            self.epochs.value, self.seed.value = experiment.epochs, experiment.seed
            self.forward.text, self.feedback.text = experiment.forward_init, experiment.feedback_init
            self._show_network(experiment)
            self._show_what_applies()

    def next_seed(self) -> None:
        """Show the next seed."""
        self.seed.value = ((self.seed.value or 0) + 1) % 2**32

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _changed(self, name: str, field: Field) -> None:
        if self._quiet:
            return
        changed = {name}
        self._touched = field
        if name == "data":
            self._rest = self._rest.replace(image_size=None)  # it was the size of the old images
        with self._quietly():  # a choice can change others: one call of `on_change` for all
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
            return "fc:" + ",".join([str(self.width.value)] * self.depth.value)
        if self.network.value == OWN:
            text = (self.own_network.value or "").strip()
            if len(text) > _LONGEST:
                raise InvalidValue(f"the network is described in {len(text)} characters: use at most {_LONGEST}")
            return text
        return str(self.network.value)

    @property
    def hidden_layers(self) -> dict[str, int]:
        """The number of hidden layers `now` and at `most`; empty if the network is not fully connected."""
        widths = self._widths()
        return {} if widths is None else {"now": len(widths), "most": self._limits.hidden_layers}

    def set_depth(self, depth: int) -> None:
        """Show this number of hidden layers, as if a visitor had chosen it. A layer that is added is like the last one.

        Nothing changes if the network is not fully connected.
        """
        if self.network.value == LAYERED:
            self.depth.value = depth
            return
        widths = self._widths()
        if widths is None:
            return
        last = widths[-1] if widths else self.width.value
        widths = [*widths[:depth], *[last] * (depth - len(widths))]
        with self._quietly():
            self._show_network(self._rest.replace(network="fc:" + ",".join(map(str, widths))))
        self._changed("network", self.depth)

    def _widths(self) -> list[int] | None:
        """Units of the hidden layers; None if there are other layers, or a text that describes no network."""
        try:
            layers = parse_architecture(self._network()).hidden
        except MdfaError:
            return None
        widths = [layer.units for layer in layers if isinstance(layer, Dense)]
        return widths if len(widths) == len(layers) else None

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
        """Offer the choices that fit the data set; replace those that no longer fit. Returns the changed settings."""
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
        """The numbers of outputs that fit the data set: those in `OUTPUTS`, and the one of a link, which may be any."""
        classes = DATASETS[base.data].counts.classes
        most = max(2, min(self._limits.outputs, classes or self._limits.outputs))
        return {str(count): count for count in sorted({*OUTPUTS, base.outputs}) if count <= most}

    def _networks(self, base: Experiment) -> dict[str, str]:
        fitting = {name: name for name in NETWORKS if self._limits.fits(base.replace(network=name))}
        return {"fully connected": LAYERED, **fitting, "your own …": OWN}


class _Initializer:
    """The choice of a distribution and its scale.

    Args:
        field: makes a field.
        label: of the distribution.
        name: of the setting.
        zeros: whether weights may be zero.
        more: whether its fields are folded.
    """

    def __init__(self, field: Callable[..., Field], label: str, name: str, *, zeros: bool, more: bool = False) -> None:
        allowed = {kind: kind for kind, entry in INITIALIZERS.items() if zeros or entry is not Zeros}
        self.kind = field(label, name, "segments", allowed, value=next(iter(allowed)), more=more)
        self.scale = field(
            f"Scale of {label[-1]}", name, "number", value=1.0, more=more,
            help_="Standard deviation, or the uniform bound times √fan-in.",
        )  # fmt: skip

    @property
    def fields(self) -> tuple[Field, ...]:
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
        """Disable the scale of a distribution that has none."""
        self.scale.disabled = not self._scaled


def _data_sets() -> dict[str, str]:
    """Names of the data sets by title, which says if a data set is not on this server."""
    return {entry.title + (" (not on this server)" if missing(name) else ""): name for name, entry in DATASETS.items()}


def _with(options: dict[str, Any], value: float) -> dict[str, Any]:
    """The options with the value among them, in order."""
    if value in options.values():
        return options
    return dict(sorted({**options, f"{value:g}": value}.items(), key=lambda item: item[1]))
