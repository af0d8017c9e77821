"""The configuration of a run: what it refuses and says, JSON there and back, a digest that stays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core import ACTIVATIONS, DATASETS, METHODS, OPTIMIZERS, Experiment
from mdfa_core.base.errors import InvalidValue, MdfaError, UnknownName
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.nets.initializers import Normal, Zeros, parse
from mdfa_core.nets.layers import Conv, Dense
from mdfa_core.nets.networks import NETWORKS, Architecture
from mdfa_core.training.experiment import ADDED_LATER, LARGEST_FLOAT32

# Written by hand: the settings sorted by name, the separators of JSON's usual form.
DEFAULT_JSON = (
    '{"activation": "tanh", "batch_size": 64, "convention": "paper", "data": "digits", "drop_last": true, '
    '"epochs": 100, "feedback_init": "normal:1", "floor": 1e-06, "forward_init": "normal:0.1", "image_size": null, '
    '"l2": 0.0, "learning_rate": 0.01, "method": "mdfa", "network": "digits-fc", "optimizer": "sgd", "outputs": 1, '
    '"precision": "float32", "seed": 0, "task_seed": null, "validation": 0.15}'
)
DEFAULT_DIGEST = "1ee74ac3af614de1960ee296dccab6d2c0b50ceedd5f02befdd341c650918441"  # sha256sum of that text

# One other value for every setting.
CHANGES: dict[str, Any] = {
    "data": "cifar100",
    "outputs": 2,
    "method": "bp",
    "network": "fc:8",
    "activation": "relu",
    "forward_init": "zeros",
    "feedback_init": "uniform:1",
    "convention": "released",
    "floor": 0.0,
    "optimizer": "adam",
    "learning_rate": 0.02,
    "l2": 1e-4,
    "batch_size": 32,
    "epochs": 3,
    "seed": 1,
    "task_seed": 0,  # what it is by default too, but said, and so another experiment
    "validation": 0.0,
    "image_size": 64,
    "drop_last": False,
    "precision": "float64",
    "loss_scale": "sum",
    "evaluation": "released",
    "engine": "compiled",
}

BIG = 10**400  # an integer, and beyond every float


def _message(settings: dict[str, Any], error: type[MdfaError]) -> str:
    with pytest.raises(error) as caught:
        Experiment(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert not message.endswith(".")
    return message


@pytest.mark.parametrize(
    ("setting", "spoken", "known"),
    [
        ("data", "data", list(DATASETS)),
        ("method", "method", list(METHODS)),
        ("activation", "activation", list(ACTIVATIONS)),
        ("optimizer", "optimizer", list(OPTIMIZERS)),
        ("convention", "convention", ["paper", "released"]),
        ("precision", "precision", list(PRECISIONS)),
        ("loss_scale", "loss scale", ["mean", "sum"]),
        ("evaluation", "evaluation", ["paper", "released"]),
        ("engine", "engine", ["torch", "compiled"]),
        ("network", "network", list(NETWORKS)),
        ("forward_init", "initializer", ["zeros", "uniform", "normal"]),
        ("feedback_init", "initializer", ["zeros", "uniform", "normal"]),
    ],
)
@pytest.mark.parametrize("value", ["nonesuch", "", "SGD", None, 3, ["bp"]])
def test_an_unknown_name_is_refused_with_all_known_ones(
    setting: str, spoken: str, known: list[str], value: Any
) -> None:
    message = _message({setting: value}, UnknownName)

    assert spoken in message
    assert repr(value) in message or repr(str(value)) in message
    for name in known:
        assert name in message


@pytest.mark.parametrize(
    ("setting", "spoken", "least"),
    [
        ("outputs", "number of outputs", 1), ("batch_size", "batch size", 1), ("epochs", "number of epochs", 1),
        ("seed", "seed", 0), ("task_seed", "task seed", 0), ("image_size", "image size", 1),
    ],
)  # fmt: skip
def test_an_integer_that_is_none_or_too_small_is_refused(setting: str, spoken: str, least: int) -> None:
    wrong = [least - 1, -7, 1.0, 0.5, math.nan, math.inf, "1", True, False, [1]]
    if setting not in ("task_seed", "image_size"):
        wrong.append(None)
    for value in wrong:
        message = _message({setting: value}, InvalidValue)
        assert message == f"the {spoken} is {value!r}: give an integer of at least {least}"

    assert getattr(Experiment(**{setting: least}), setting) == least


@pytest.mark.parametrize("setting", ["seed", "task_seed"])
def test_seeds_are_below_two_to_the_32(setting: str) -> None:
    message = _message({setting: 2**32}, InvalidValue)

    assert setting.replace("_", " ") in message
    assert "4294967296" in message
    assert "below 2**32" in message
    assert getattr(Experiment(**{setting: 2**32 - 1}), setting) == 2**32 - 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (setting, value)
        for setting in ("learning_rate", "l2", "floor", "validation")
        for value in (-0.1, -1, math.nan, math.inf, -math.inf, "0.1", True, False, None, [0.1], 1j)
    ]
    + [("learning_rate", 0), ("learning_rate", 0.0), ("learning_rate", -0.0)],
)
def test_a_number_that_is_none_or_out_of_range_is_refused(setting: str, value: Any) -> None:
    message = _message({setting: value}, InvalidValue)

    allowed = "above 0" if setting == "learning_rate" else "of at least 0"
    assert message == f"the {setting.replace('_', ' ')} is {value!r}: give a finite number {allowed}"


@pytest.mark.parametrize("setting", ["learning_rate", "l2", "floor", "validation"])
def test_an_integer_beyond_every_float_is_refused(setting: str) -> None:
    assert setting.replace("_", " ") in _message({setting: BIG}, InvalidValue)


@pytest.mark.parametrize("value", [1, 1.0, 1.5])
def test_a_validation_share_of_one_or_more_is_refused(value: float) -> None:
    message = _message({"validation": value}, InvalidValue)

    assert message == f"the validation share is {value:g}: give a number from 0 to below 1"


@pytest.mark.parametrize("value", [0, 1, None, "yes", 1.0])
def test_drop_last_is_true_or_false(value: Any) -> None:
    assert _message({"drop_last": value}, InvalidValue) == f"drop last is {value!r}: give true or false"


@pytest.mark.parametrize("network", ["fc:0", "fc:-3", "fc:1.5", "fc:x", "conv:4/0/1", "conv:a/3/1", "conv:4/3/1/2"])
def test_a_network_with_an_impossible_size_is_refused(network: str) -> None:
    assert "integer" in _message({"network": network}, InvalidValue)


@pytest.mark.parametrize("setting", ["forward_init", "feedback_init"])
@pytest.mark.parametrize("text", ["normal:0", "normal:-1", "uniform:nan", "normal:inf", "normal:x", "zeros:1"])
def test_an_initializer_with_an_impossible_number_is_refused(setting: str, text: str) -> None:
    assert repr(text) in _message({setting: text}, InvalidValue)


@pytest.mark.parametrize(
    "settings",
    [
        {"validation": 0, "l2": 0, "floor": 0},
        {"validation": 0.999, "learning_rate": 1e-300},
        {"outputs": 10_000, "batch_size": 1, "epochs": 10**9, "image_size": 1},
    ],
)
def test_the_ends_of_what_is_allowed_are_allowed(settings: dict[str, Any]) -> None:
    experiment = Experiment(**settings)

    assert {name: getattr(experiment, name) for name in settings} == settings


def test_settings_are_named_and_stay() -> None:
    experiment = Experiment()

    with pytest.raises(TypeError):
        Experiment("digits")  # type: ignore[misc]
    with pytest.raises(TypeError):
        Experiment(rate=0.1)  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.seed = 1  # type: ignore[misc]


def test_every_setting_says_what_it_is() -> None:
    for setting in dataclasses.fields(Experiment):
        assert len(setting.metadata["help"]) > 5, setting.name


# ----------------------------------------------------------------------------------------------- one form for one thing


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"l2": 0, "floor": 0}, {"l2": 0.0, "floor": 0.0}),
        ({"l2": -0.0, "floor": -0.0, "validation": -0.0}, {"l2": 0.0, "floor": 0.0, "validation": 0.0}),
        ({"forward_init": "N(0.1)"}, {"forward_init": "normal:0.10"}),
        ({"forward_init": Zeros(), "feedback_init": Normal(1)}, {"forward_init": "zeros", "feedback_init": "normal:1"}),
        ({"feedback_init": "U(1)"}, {"feedback_init": "uniform"}),
        ({"network": Architecture((Dense(8), Dense(4)))}, {"network": "fc:8,4"}),
        ({"network": Architecture((Conv(4, 3, 2),))}, {"network": "conv:4/3/2"}),
    ],
)
def test_two_ways_to_write_a_value_are_one_experiment(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = Experiment(**one), Experiment(**other)

    assert first == second
    assert hash(first) == hash(second)
    assert first.to_json() == second.to_json()
    assert first.digest() == second.digest()


@pytest.mark.parametrize("text", ["normal:0.123456789", "uniform:1234567.5", "normal:0.30000000000000004"])
def test_an_initializers_number_keeps_all_its_digits(text: str) -> None:
    kept = Experiment(forward_init=text, feedback_init=text)

    assert parse(kept.forward_init) == parse(text)
    assert parse(kept.feedback_init) == parse(text)


# ------------------------------------------------------------------------------------------------------ JSON and digest


def test_the_default_experiment_has_this_json_and_this_digest_for_ever() -> None:
    assert Experiment().to_json() == DEFAULT_JSON
    assert hashlib.sha256(DEFAULT_JSON.encode()).hexdigest() == DEFAULT_DIGEST
    assert Experiment().digest() == DEFAULT_DIGEST


def test_every_changed_setting_changes_the_digest() -> None:
    assert set(CHANGES) == {setting.name for setting in dataclasses.fields(Experiment)}

    digests = {Experiment(**{name: value}).digest() for name, value in CHANGES.items()}
    assert len(digests) == len(CHANGES)
    assert DEFAULT_DIGEST not in digests


@pytest.mark.parametrize("changes", [{}, CHANGES, *({name: value} for name, value in CHANGES.items())])
def test_json_and_dictionaries_go_there_and_back(changes: dict[str, Any]) -> None:
    experiment = Experiment(**changes)

    assert Experiment.from_json(experiment.to_json()) == experiment
    assert Experiment.from_dict(experiment.to_dict()) == experiment
    assert Experiment.from_json(experiment.to_json()).digest() == experiment.digest()
    assert json.loads(experiment.to_json()) == experiment.written()
    assert experiment.to_dict() == dataclasses.asdict(experiment)


def test_settings_added_later_are_written_if_they_say_something() -> None:
    assert ADDED_LATER == {"loss_scale": "mean", "evaluation": "paper", "engine": "torch"}
    assert not ADDED_LATER.keys() & Experiment().written().keys()
    for name in ADDED_LATER:
        assert Experiment(**{name: CHANGES[name]}).written() == {**Experiment().written(), name: CHANGES[name]}


@given(
    rate=st.floats(min_value=0, max_value=LARGEST_FLOAT32, exclude_min=True),
    l2=st.floats(min_value=0, max_value=LARGEST_FLOAT32),
    validation=st.floats(min_value=0, max_value=1, exclude_max=True),
    seed=st.integers(0, 2**32 - 1),
    std=st.floats(min_value=1e-300, max_value=3.4e38),
)
def test_numbers_go_there_and_back_to_the_last_bit(
    rate: float, l2: float, validation: float, seed: int, std: float
) -> None:
    experiment = Experiment(learning_rate=rate, l2=l2, validation=validation, seed=seed, forward_init=f"normal:{std!r}")

    back = Experiment.from_json(experiment.to_json())
    assert back == experiment
    assert (back.learning_rate, back.l2, back.validation, back.seed) == (rate, l2, validation, seed)


def test_settings_left_out_of_json_are_at_their_defaults() -> None:
    assert Experiment.from_json("{}") == Experiment()
    assert Experiment.from_json('{"method": "fa", "seed": 3}') == Experiment(method="fa", seed=3)


@pytest.mark.parametrize("text", ["", "{", "mdfa", "{'seed': 1}", '{"seed": 1} x', b"\xff\xfe\xfa", None, 3])
def test_text_that_is_no_json_is_refused(text: Any) -> None:
    with pytest.raises(InvalidValue, match="not valid JSON") as caught:
        Experiment.from_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"mdfa"', "[{}]"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="give an object of settings"):
        Experiment.from_json(text)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('{"rate": 0.1}', UnknownName, "unknown setting 'rate': choose one of activation, batch_size, "),
        ('{"method": "hebb"}', UnknownName, "unknown method 'hebb'"),
        ('{"learning_rate": NaN}', InvalidValue, "NaN is no number of JSON"),
        ('{"learning_rate": 1e999}', InvalidValue, "learning rate is inf"),
        ('{"seed": true}', InvalidValue, "seed is True"),
        ('{"seed": "1"}', InvalidValue, "seed is '1'"),
        ('{"method": null}', UnknownName, "method None"),
    ],
)
def test_a_bad_setting_in_json_is_refused_as_anywhere(text: str, error: type[MdfaError], said: str) -> None:
    with pytest.raises(error) as caught:
        Experiment.from_json(text)
    assert said in str(caught.value)


# ------------------------------------------------------------------------------------------------- what it can be asked


def test_replace_changes_a_copy() -> None:
    first = Experiment(method="fa", seed=3)

    second = first.replace(seed=4, epochs=2)

    assert (second.method, second.seed, second.epochs) == ("fa", 4, 2)
    assert first == Experiment(method="fa", seed=3)
    assert first.replace() == first


def test_replace_refuses_an_unknown_setting_and_a_bad_value() -> None:
    with pytest.raises(UnknownName) as caught:
        Experiment().replace(rate=0.1)
    message = str(caught.value)
    assert message.startswith("unknown setting 'rate': choose one of ")
    for setting in dataclasses.fields(Experiment):
        assert setting.name in message

    with pytest.raises(InvalidValue, match="epochs is 0"):
        Experiment().replace(epochs=0)


@pytest.mark.parametrize(("outputs", "classes"), [(1, 2), (2, 2), (3, 3), (10, 10)])
def test_one_output_means_two_classes(outputs: int, classes: int) -> None:
    assert Experiment(outputs=outputs).classes == classes


def test_the_task_is_the_seeds_unless_it_has_its_own() -> None:
    assert Experiment().effective_task_seed == 0
    assert Experiment(seed=3).effective_task_seed == 3
    assert Experiment(seed=3, task_seed=0).effective_task_seed == 0
    assert Experiment(seed=3, task_seed=5).effective_task_seed == 5


def test_numpys_numbers_are_taken_as_pythons() -> None:
    made = Experiment(seed=np.int64(3), epochs=np.uint8(5), learning_rate=np.float64(0.1), l2=np.float32(0.5))
    plain = Experiment(seed=3, epochs=5, learning_rate=0.1, l2=0.5)
    assert made == plain
    assert made.digest() == plain.digest()
    assert {type(value) for value in (made.seed, made.epochs, made.learning_rate, made.l2)} == {int, float}
