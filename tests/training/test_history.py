"""`fit` against the events of `train`: final figures, the table, divergence, and what was not measured."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from mdfa_core import METHODS, Every, Experiment, History, fit
from mdfa_core.base.errors import InvalidValue, MissingPackage
from mdfa_core.learning.probes import LIVE
from mdfa_core.training import QUANTITIES, Diverged, Evaluated, Event, Finished, Probed, Progress
from tests.support.runs import ABSURD, lines, trained

SMALL = Experiment(network="fc:8,6", epochs=2)  # 3 mini-batches an epoch
OFTEN: dict[str, Any] = {"probe": Every(steps=2), "progress": Every(steps=1)}
AFTER_EPOCH = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
AT_END = ("best_train_accuracy", "best_validation_accuracy", "best_validation_epoch", "test_accuracy", "diverged_at")
FIGURES = (*AFTER_EPOCH, *AT_END, "sign_agreement")


def _expected(events: Sequence[Event], replica: int) -> dict[str, float | None]:
    """The final figures of one replica, read off the events in order; later ones overwrite earlier ones."""
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    for event in events:
        if isinstance(event, Evaluated):
            figures |= {name: getattr(event, name)[replica] for name in AFTER_EPOCH}
        elif isinstance(event, Finished):
            figures |= {name: getattr(event, name)[replica] for name in AT_END}
        elif isinstance(event, Probed):
            figures["sign_agreement"] = event.unit.overall[replica]
    return {name: None if value is None or math.isnan(value) else value for name, value in figures.items()}


def _figures(history: History) -> dict[str, Any]:
    return {name: getattr(history, name) for name in FIGURES}


@pytest.mark.parametrize("method", METHODS)
def test_the_figures_of_one_experiment_are_plain_numbers_from_itstrained(method: str) -> None:
    experiment = SMALL.replace(method=method)

    history = fit(experiment, device="cpu", **OFTEN)

    events = trained(experiment, **OFTEN)
    assert lines(history.events) == lines(events)
    assert history.experiments == (experiment,)
    assert _figures(history) == _expected(events, 0)
    assert all(value is not None for name, value in _figures(history).items() if name != "diverged_at")


@pytest.mark.parametrize("count", [1, 3])
def test_the_figures_of_a_list_are_tuples_with_one_number_per_experiment(count: int) -> None:
    stack = [SMALL.replace(seed=seed, learning_rate=0.1 / (seed + 1)) for seed in range(count)]

    history = fit(stack, device="cpu", **OFTEN)

    expected = [_expected(trained(stack, **OFTEN), replica) for replica in range(count)]
    assert _figures(history) == {name: tuple(one[name] for one in expected) for name in FIGURES}


@pytest.mark.parametrize(
    ("settings", "options", "missing"),
    [
        ({}, {}, {"sign_agreement"}),
        ({"validation": 0.0}, OFTEN, {"validation_loss", "validation_accuracy", "best_validation_accuracy"}),
        ({}, {**OFTEN, "test": False}, {"test_accuracy"}),
        ({}, {"probe": Every(epochs=5), "sample": LIVE}, set()),
    ],
)
def test_a_figure_that_was_not_measured_is_none(
    settings: dict[str, Any], options: dict[str, Any], missing: set[str]
) -> None:
    experiment = SMALL.replace(**settings)

    history = fit(experiment, device="cpu", **options)

    assert {name for name, value in _figures(history).items() if value is None} == missing | {"diverged_at"}
    assert _figures(history) == _expected(trained(experiment, **options), 0)


def test_a_diverged_replica_has_no_figures_and_leaves_the_others_alone() -> None:
    stack = [SMALL, SMALL.replace(learning_rate=ABSURD)]

    history = fit(stack, device="cpu", **OFTEN)

    (diverged,) = (event for event in history.events if isinstance(event, Diverged))
    assert history.diverged_at == (None, diverged.step)
    alone = _figures(fit(SMALL, device="cpu", **OFTEN))
    for name, value in _figures(history).items():
        assert value[0] == alone[name]
        assert name in ("diverged_at", "sign_agreement") or value[1] is None
    table = history.frame()
    late = table[
        (table.replica == 1) & (table.step >= diverged.step) & table.quantity.isin(["train_loss", "batch_loss"])
    ]
    assert len(late) > 0
    assert late.value.isna().all()


def test_a_run_that_ends_before_its_first_epoch_has_only_the_step_of_its_end() -> None:
    history = fit(SMALL.replace(learning_rate=ABSURD), device="cpu")

    figures = _figures(history)
    assert isinstance(figures.pop("diverged_at"), int)
    assert set(figures.values()) == {None}


@pytest.mark.parametrize("stack", [[], ()])
def test_no_experiment_is_refused(stack: Sequence[Experiment]) -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        fit(stack, device="cpu")


# ------------------------------------------------------------------------------------------------------------ the table


def _value(event: Event, quantity: str, layer: int | None, replica: int) -> float | None:
    """The number of an event that a row of the table stands for, by the documented meaning of the quantity."""
    level = {"example": "example", "batch": "batch"}.get(quantity.rsplit("_", 1)[-1], "unit")
    if isinstance(event, Progress):
        return {"batch_loss": event.loss, "batch_accuracy": event.accuracy}[quantity][replica]
    if isinstance(event, Probed):
        if quantity.startswith("sign_agreement"):
            agreement = getattr(event, level)
            return (agreement.overall if layer is None else agreement.layers[layer])[replica]
        if quantity.startswith("sign_undefined"):
            assert layer is not None
            return getattr(event, level).undefined[layer][replica]
        if quantity == "angle" and layer is None:
            return event.angle_overall[replica]
        return getattr(event, quantity)[layer][replica]
    return getattr(event, quantity)[replica]


@pytest.mark.parametrize("method", ["bp", "fa", "dfa", "mdfa"])
@pytest.mark.parametrize("validation", [0.15, 0.0])
def test_every_row_of_the_table_is_a_number_of_an_event(method: str, validation: float) -> None:
    stack = [SMALL.replace(method=method, validation=validation, seed=seed) for seed in (0, 4)]
    history = fit(stack, device="cpu", **OFTEN)

    table = history.frame()

    assert list(table.columns) == ["step", "epoch", "replica", "layer", "quantity", "value"]
    assert set(table.quantity) == set(QUANTITIES)
    assert not table.duplicated(["step", "replica", "layer", "quantity"]).any()
    kinds = {"batch": Progress, "train": Evaluated, "validation": Evaluated, "test": Finished}
    found = {(kind, event.step): event for event in history.events for kind in [type(event)]}
    for row in table.itertuples():
        event = found[kinds.get(row.quantity.split("_")[0], Probed), row.step]
        layer = None if row.layer is sys.modules["pandas"].NA else int(row.layer)
        expected = _value(event, row.quantity, layer, row.replica)
        assert row.epoch == event.epoch
        assert math.isnan(row.value) if expected is None else row.value == expected
    numbers = {Progress: 2, Evaluated: 4, Finished: 1, Probed: 3 * (1 + 2 + 2) + (1 + 2) + 2 + 2}  # 2 hidden layers
    assert len(table) == 2 * sum(numbers.get(type(event), 0) for event in history.events)


def test_the_last_rows_of_the_table_are_the_final_figures() -> None:
    history = fit(SMALL, device="cpu", **OFTEN)
    table = history.frame()

    for name in (*AFTER_EPOCH, "test_accuracy", "sign_agreement"):
        rows = table[(table.quantity == name) & table.layer.isna()]
        assert rows.value.iloc[-1] == getattr(history, name)


def test_the_table_has_its_columns_types_whatever_was_measured() -> None:
    plain, probed = fit(SMALL, device="cpu").frame(), fit(SMALL, device="cpu", **OFTEN).frame()

    assert list(plain.dtypes) == list(probed.dtypes)
    assert plain.layer.isna().all()


def test_without_pandas_the_table_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    history = fit(SMALL.replace(epochs=1), device="cpu")
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingPackage, match=r"needs pandas: run pip install .*\[results\]"):
        history.frame()


def test_a_history_shows_its_figures_and_not_itstrained() -> None:
    history = fit(SMALL, device="cpu", **OFTEN)

    assert repr(history).startswith(f"History(1 experiment, test_accuracy={history.test_accuracy}, ")
    assert len(repr(history)) < 300
