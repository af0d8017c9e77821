"""The settings of one run: checked when created, converted to and from JSON, and named by a stable digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.base.schema import parse_json
from mdfa_core.base.text import shown, spoken
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.data import DATASETS
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.learning.steps import ENGINES
from mdfa_core.nets import initializers
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.losses import LOSS_SCALES
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.rules.methods import METHODS

LARGEST_FLOAT32 = 3.4028234663852886e38
"""Weights are float32 unless float64 was asked for; a larger setting would be infinite."""

EVALUATIONS = ("paper", "released")
"""When a run validates, and what its training accuracy is: see the setting `evaluation`."""

_COUNTS = {"epochs": "number of epochs", "outputs": "number of outputs"}  # in error messages
_INTEGERS = ("outputs", "batch_size", "epochs", "image_size", "seed", "task_seed")


def _setting(
    default: Any, text: str, choices: Callable[[], Collection[str]] | None = None, *, added_later: bool = False
) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices, "added later": added_later})


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All settings of one run. On one kind of device, they determine every number that the run computes.

    A setting that is a name must be in its table: `DATASETS`, `METHODS`, `NETWORKS`, `ACTIVATIONS` or `OPTIMIZERS`.
    Networks and initializers can also be written out: `fc:128,128` (`networks.parse_architecture`) and `normal:0.1`
    (`initializers.parse`). Experiments are frozen; use `replace` to change a setting.

    Example:
        >>> from mdfa_core import Experiment
        >>> Experiment(method="dfa", network="fc:32,16", learning_rate=0.1).replace(seed=3).seed
        3

    Raises:
        UnknownName: a name is not in its table; the message lists the names that are.
        InvalidValue: a number is out of range or of the wrong type, or a network or initializer cannot be parsed.
    """

    data: str = _setting("digits", "data set", lambda: DATASETS)
    outputs: int = _setting(
        1, "output units: 1 (two classes, sigmoid), 2 (two classes, softmax) or n >= 3 (n classes, softmax)"
    )
    method: str = _setting("mdfa", "learning rule", lambda: list(METHODS))
    network: str = _setting(
        "digits-fc", "preset, or widths such as fc:128,128, or filters/kernel/stride such as conv:96/5/2,96/3/2"
    )
    activation: str = _setting("tanh", "activation of the hidden layers", lambda: list(ACTIVATIONS))
    forward_init: str = _setting("normal:0.1", "forward weights: zeros, uniform:SCALE or normal:STD")
    feedback_init: str = _setting("normal:1", "feedback weights: uniform:SCALE or normal:STD")
    convention: str = _setting(
        "paper",
        "meaning of uniform:SCALE, by the paper's text or by its released code",
        lambda: list(initializers.CONVENTIONS),
    )
    floor: float = _setting(1e-6, "lower bound of constrained weights: 0 in the paper, 1e-6 in its released code")
    optimizer: str = _setting("sgd", "optimizer, with TensorFlow's semantics", lambda: list(OPTIMIZERS))
    learning_rate: float = _setting(0.01, "step size of the optimizer")
    l2: float = _setting(0.0, "penalty 0.5 * l2 * |W|^2 on the weights")
    batch_size: int = _setting(64, "examples in a mini-batch")
    epochs: int = _setting(100, "passes over the training images")
    seed: int = _setting(0, "seed of weights, feedback and batch order (and of the task, unless --task-seed is given)")
    task_seed: int | None = _setting(None, "seed of the choice of classes and of the split; by default --seed")
    validation: float = _setting(0.15, "share of the training images set aside for validation")
    image_size: int | None = _setting(None, "height and width in pixels, for image folders")
    drop_last: bool = _setting(True, "drop an incomplete last mini-batch, as the paper's released code does")
    precision: str = _setting(
        "float32",
        "number format of matrix products; with bfloat16 and tf32, weights stay float32",
        lambda: list(PRECISIONS),
    )
    loss_scale: str = _setting(
        "mean",
        "loss of a mini-batch: mean over its examples, or their sum, which multiplies every update's gradient",
        lambda: list(LOSS_SCALES),
        added_later=True,
    )
    evaluation: str = _setting(
        "paper",
        "paper: validate after each epoch; released: validate before it and report the running training accuracy, as "
        "the paper's released code does",
        lambda: list(EVALUATIONS),
        added_later=True,
    )
    engine: str = _setting(
        "torch",
        "code of a training step: torch, or compiled (dense networks, SGD, the paper's rules); equal but for rounding",
        lambda: list(ENGINES),
        added_later=True,
    )

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value, choices = getattr(self, setting.name), setting.metadata["choices"]
            if choices is not None and not (isinstance(value, str) and value in choices()):
                raise UnknownName(spoken(setting.name), value, choices())
        object.__setattr__(self, "network", str(self.network))
        parse_architecture(self.network)
        for name in ("forward_init", "feedback_init"):
            object.__setattr__(self, name, str(initializers.parse(getattr(self, name))))
        for name, least in (("outputs", 1), ("batch_size", 1), ("epochs", 1), ("seed", 0)):
            self._check_integer(name, least)
        for name, least in (("task_seed", 0), ("image_size", 1)):
            if getattr(self, name) is not None:
                self._check_integer(name, least)
        for name in _INTEGERS:
            if (getattr(self, name) or 0) >= 2**32:
                raise InvalidValue(f"the {spoken(name)} is {shown(getattr(self, name))}: give an integer below 2**32")
        for name in ("learning_rate", "l2", "floor", "validation"):
            self._check_real(name, positive=name == "learning_rate")
        if self.validation >= 1:
            raise InvalidValue(f"the validation share is {self.validation:g}: give a number from 0 to below 1")
        if not isinstance(self.drop_last, bool):
            raise InvalidValue(f"drop last is {shown(self.drop_last)}: give true or false")

    def _check_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            words = _COUNTS.get(name, spoken(name))
            raise InvalidValue(f"the {words} is {shown(value)}: give an integer of at least {least}")
        object.__setattr__(self, name, int(value))  # JSON cannot write NumPy's integers

    def _check_real(self, name: str, *, positive: bool) -> None:
        value = getattr(self, name)
        try:
            number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        except OverflowError:  # an integer beyond every float
            number = math.inf
        if not math.isfinite(number) or number < 0 or (positive and number == 0):
            allowed = "a finite number above 0" if positive else "a finite number of at least 0"
            raise InvalidValue(f"the {spoken(name)} is {shown(value)}: give {allowed}")
        if number > LARGEST_FLOAT32:
            raise InvalidValue(f"the {spoken(name)} is {number:g}: give at most {LARGEST_FLOAT32:.2g}, as float32 has")
        object.__setattr__(self, name, number + 0.0)  # turns -0.0 into 0.0

    @property
    def classes(self) -> int:
        """Number of classes of the task: 2 with one or two outputs, otherwise as many as outputs."""
        return max(2, self.outputs)

    @property
    def effective_task_seed(self) -> int:
        """The seed for the choice of classes and of validation images: `task_seed`, or `seed` if that is None."""
        return self.seed if self.task_seed is None else self.task_seed

    @property
    def task_settings(self) -> dict[str, Any]:
        """The arguments of `data.load_task`, without the name of the data set."""
        return {
            "classes": self.classes,
            "seed": self.effective_task_seed,
            "validation": self.validation,
            "image_size": self.image_size,
        }

    def steps_per_epoch(self, train_examples: int) -> int:
        """Mini-batches in one pass over so many training images; 0 if the only one would be incomplete and dropped."""
        whole, rest = divmod(train_examples, self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def replace(self, **changes: Any) -> Experiment:
        """A copy with some settings changed.

        Raises:
            UnknownName: there is no such setting, or a name is not in its table.
            InvalidValue: a value is not allowed.
        """
        known = {setting.name for setting in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise UnknownName("setting", name, known)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All settings as a dictionary, which `from_dict` reads."""
        return dataclasses.asdict(self)

    def written(self) -> dict[str, Any]:
        """The settings as they are stored: without those of `ADDED_LATER` that have their default.

        An experiment from before these settings existed keeps its digest.
        """
        return {name: v for name, v in self.to_dict().items() if name not in ADDED_LATER or v != ADDED_LATER[name]}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Experiment:
        """The experiment with these settings; settings left out have their defaults.

        Raises:
            UnknownName: there is no such setting, or a name is not in its table.
            InvalidValue: a value is not allowed.
        """
        return cls().replace(**settings)

    def to_json(self) -> str:
        """The settings of `written` as JSON, sorted by name, so that equal experiments give equal texts."""
        return json.dumps(self.written(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """The experiment that `to_json` wrote.

        Raises:
            InvalidValue: the text is no JSON object, or a value is not allowed.
            UnknownName: there is no such setting, or a name is not in its table.
        """
        try:
            settings = parse_json(text)
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"the experiment is not valid JSON ({error}): give what to_json wrote") from None
        if not isinstance(settings, dict):
            raise InvalidValue(f"the experiment is a JSON {type(settings).__name__}: give an object of settings")
        return cls.from_dict(settings)

    def digest(self) -> str:
        """SHA-256 of `to_json` in hexadecimal: the name of this experiment in a store."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


ADDED_LATER: Mapping[str, Any] = {
    setting.name: setting.default for setting in dataclasses.fields(Experiment) if setting.metadata["added later"]
}
"""Settings that were added after the first runs were published, with their defaults."""
