"""The configuration of one run: frozen, keyword-only, checked when made, to and from JSON, with a stable digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from mdfa_core import initializers
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.data import DATASETS
from mdfa_core.errors import InvalidValue, UnknownName
from mdfa_core.kernels import PRECISIONS
from mdfa_core.methods import METHODS
from mdfa_core.networks import parse_architecture
from mdfa_core.optimizers import OPTIMIZERS


def _setting(default: Any, text: str, choices: Callable[[], list[str]] | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that determines one run's numbers (on one kind of device).

    Names are those of the tables (`METHODS`, `ACTIVATIONS`, `NETWORKS`, `OPTIMIZERS`, `DATASETS`); initialisers and
    networks can be written out, see `initializers.parse` and `networks.parse_architecture`.

    Raises:
        UnknownName: a name is in no table; the message lists the known ones.
        InvalidValue: a number is outside its range or of the wrong type.
    """

    data: str = _setting("digits", "data set", lambda: list(DATASETS))
    outputs: int = _setting(
        1, "output units: 1 (two classes, sigmoid), 2 (two classes, softmax) or n >= 3 (n classes, softmax)"
    )
    method: str = _setting("mdfa", "learning rule", lambda: list(METHODS))
    network: str = _setting(
        "digits-fc", "preset, or widths as fc:128,128, or filters/kernel/stride as conv:96/5/2,96/3/2"
    )
    activation: str = _setting("tanh", "activation of the hidden layers", lambda: list(ACTIVATIONS))
    forward_init: str = _setting("normal:0.1", "forward weights: zeros, uniform:SCALE or normal:STD")
    feedback_init: str = _setting("normal:1", "feedback weights: uniform:SCALE or normal:STD")
    convention: str = _setting(
        "paper", "what uniform means: the paper's text or its released code", lambda: list(initializers.CONVENTIONS)
    )
    floor: float = _setting(1e-6, "lower bound of constrained weights; 0 is the paper's, 1e-6 the released code's")
    optimizer: str = _setting("sgd", "optimizer, with TensorFlow's semantics", lambda: list(OPTIMIZERS))
    learning_rate: float = _setting(0.01, "step size of the optimizer")
    l2: float = _setting(0.0, "penalty 0.5 * l2 * |W|^2 on the weights")
    batch_size: int = _setting(64, "examples in a mini-batch")
    epochs: int = _setting(100, "passes over the training images")
    seed: int = _setting(0, "seed of weights, feedback and batch order (and of the task, unless --task-seed is given)")
    task_seed: int | None = _setting(None, "seed of the choice of classes and of the split; as --seed if left out")
    validation: float = _setting(0.15, "share of the training images set aside for validation")
    image_size: int | None = _setting(None, "height and width in pixels, for image folders")
    drop_last: bool = _setting(True, "drop an incomplete last mini-batch, as the paper's released code does")
    precision: str = _setting(
        "float32",
        "numbers of the products; bfloat16 keeps float32 weights",
        lambda: list(PRECISIONS),
    )

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value, choices = getattr(self, setting.name), setting.metadata["choices"]
            if choices is not None and value not in choices():
                raise UnknownName(_spoken(setting.name), value, choices())
        object.__setattr__(self, "network", str(self.network))
        parse_architecture(self.network)
        for name in ("forward_init", "feedback_init"):
            object.__setattr__(self, name, str(initializers.parse(getattr(self, name))))
        for name, least in (("outputs", 1), ("batch_size", 1), ("epochs", 1), ("seed", 0)):
            self._check_integer(name, least)
        for name, least in (("task_seed", 0), ("image_size", 1)):
            if getattr(self, name) is not None:
                self._check_integer(name, least)
        for name in ("seed", "task_seed"):
            if (getattr(self, name) or 0) >= 2**32:
                raise InvalidValue(f"the {_spoken(name)} is {getattr(self, name)}: give one below 2**32")
        for name in ("learning_rate", "l2", "floor", "validation"):
            self._check_real(name, positive=name == "learning_rate")
        if self.validation >= 1:
            raise InvalidValue(f"the validation share is {self.validation:g}: give one from 0 up to, but not, 1")
        if not isinstance(self.drop_last, bool):
            raise InvalidValue(f"drop last is {self.drop_last!r}: give true or false")

    def _check_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise InvalidValue(f"the {_spoken(name)} is {value!r}: give an integer of at least {least}")
        object.__setattr__(self, name, int(value))  # NumPy's integers are none to JSON

    def _check_real(self, name: str, *, positive: bool) -> None:
        value = getattr(self, name)
        try:
            number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        except OverflowError:  # an integer beyond every float
            number = math.inf
        if not math.isfinite(number) or number < 0 or (positive and number == 0):
            allowed = "a finite number above 0" if positive else "a finite number of at least 0"
            raise InvalidValue(f"the {_spoken(name)} is {value!r}: give {allowed}")
        object.__setattr__(self, name, number + 0.0)  # -0.0 and 0 are 0.0, too

    @property
    def classes(self) -> int:
        """Classes of the task: two for one or two outputs, else one an output."""
        return max(2, self.outputs)

    @property
    def task(self) -> int:
        """The seed that chooses classes and split."""
        return self.seed if self.task_seed is None else self.task_seed

    @property
    def task_settings(self) -> dict[str, Any]:
        """What `load_task` needs besides the data set's name."""
        return {
            "classes": self.classes,
            "seed": self.task,
            "validation": self.validation,
            "image_size": self.image_size,
        }

    def replace(self, **changes: Any) -> Experiment:
        """A copy with some settings changed.

        Raises:
            UnknownName: no such setting.
        """
        known = {setting.name for setting in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise UnknownName("setting", name, known)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All settings, as `from_dict` takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Experiment:
        """The experiment with these settings, the rest at their defaults.

        Raises:
            UnknownName: no such setting, or a name in no table.
            InvalidValue: a value that is not allowed.
        """
        return cls().replace(**settings)

    def to_json(self) -> str:
        """The settings as JSON, sorted by name: the same text for the same experiment."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """The experiment that `to_json` wrote.

        Raises:
            InvalidValue: the text is no JSON object.
            UnknownName: as `from_dict`.
        """
        try:
            settings = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"the experiment is not valid JSON ({error}): give what to_json wrote") from None
        if not isinstance(settings, dict):
            raise InvalidValue(f"the experiment is a JSON {type(settings).__name__}: give an object of settings")
        return cls.from_dict(settings)

    def digest(self) -> str:
        """SHA-256 of `to_json`, in hex: the run's name in a store."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _spoken(name: str) -> str:
    return name.replace("_", " ")
