"""Measured descent and agreement equal those of a run. Sizes and names are checked before training."""

from __future__ import annotations

import pytest
import torch

from mdfa_core import METHODS, Every, Experiment, Run, train
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.learning.probes import LEVELS
from mdfa_core.studies.theory import PROFILES, agreement_study, measured_descent, parse_names, study_sizes
from mdfa_core.training.events import Probed

SMALL = Experiment(network="fc:5,4", epochs=2, batch_size=64)


@pytest.mark.parametrize("method", METHODS)
def test_descent_is_measured_on_the_steps_a_run_makes(method: str) -> None:
    experiment = SMALL.replace(method=method, learning_rate=2.0)
    rows = list(measured_descent(experiment))
    run = Run(experiment)
    losses, lowered = [], []
    for step in range(1, run.steps + 1):
        inputs, labels = run.batch(step)
        before = run.learner.score(run.learner.observe(inputs, labels), labels).loss.item()
        for _ in run.events(steps=1):
            pass
        after = run.learner.score(run.learner.observe(inputs, labels), labels).loss.item()
        losses.append(before)
        lowered.append(after < before)
    assert [row.epoch for row in rows] == [1, 2]
    assert sum(row.steps for row in rows) == run.steps
    for row, start in zip(rows, (0, run.steps_per_epoch), strict=True):
        part = slice(start, start + run.steps_per_epoch)
        assert row.loss == pytest.approx(sum(losses[part]) / row.steps)
        assert row.lowered == pytest.approx(sum(lowered[part]) / row.steps)
        assert (row.method, row.learning_rate, row.seed) == (method, 2.0, 0)


def test_a_small_step_of_bp_always_descends_and_a_huge_one_does_not() -> None:
    rates = (1e-3, 100.0)
    rows = list(measured_descent([SMALL.replace(method="bp", learning_rate=rate) for rate in rates]))
    small, huge = ([row for row in rows if row.learning_rate == rate] for rate in rates)
    assert all(row.lowered == row.downhill == 1.0 and row.change < 0 for row in small)
    assert any(row.lowered < 1 for row in huge)
    assert all(row.downhill == 1.0 for row in huge)  # wrong in size, not in direction


def test_mdfa_goes_downhill_with_one_hidden_layer() -> None:
    rows = measured_descent(SMALL.replace(network="fc:6", learning_rate=1e-3))
    assert all(row.downhill == 1.0 for row in rows)


def test_descent_sees_a_direction_that_is_wrong() -> None:
    # Feedback of any sign against weights that are all positive: half of the units are pushed the wrong way.
    rows = [
        row
        for seed in range(4)
        for row in measured_descent(SMALL.replace(method="dfa", seed=seed, forward_init="normal:1", learning_rate=1e-4))
    ]
    assert min(row.downhill for row in rows) < 1


def test_a_run_that_diverged_has_no_steps_to_count() -> None:
    rows = list(measured_descent(SMALL.replace(activation="identity", learning_rate=1e30, epochs=3)))
    assert rows[-1].steps == 0
    assert rows[-1].lowered is rows[-1].downhill is rows[-1].change is rows[-1].loss is None


def test_agreement_rows_are_the_probes_of_a_run() -> None:
    two = SMALL.replace(outputs=2)
    rows = list(agreement_study({"one": SMALL, "two": two}, seeds=(0, 3)))
    keys = [(row.label, row.seed, row.epoch, row.level) for row in rows]
    assert keys == [(n, s, e, level) for n in ("one", "two") for s in (0, 3) for e in (1, 2) for level in LEVELS]
    events = [event for event in train(two.replace(seed=3), probe=Every(epochs=1)) if isinstance(event, Probed)]
    for row, event in zip(rows[-6::3], events, strict=True):
        assert row.level == "unit"
        assert row.overall == event.unit.overall[0]
        assert row.layers == tuple(layer[0] for layer in event.unit.layers)
        assert row.undefined == tuple(layer[0] for layer in event.unit.undefined)
    assert all(row.overall == 1.0 for row in rows if row.label == "one" and row.level != "batch")


def test_a_profile_is_taken_as_it_is_or_changed_where_something_is_given() -> None:
    assert study_sizes("quick") is not None
    assert study_sizes("smoke", seeds="", epochs=0) == PROFILES["smoke"]
    changed = study_sizes("smoke", seeds="0, 4", epochs=7, rates="0.1,1e-3", units="3")
    assert (changed.seeds, changed.epochs, changed.rates, changed.units) == ((0, 4), 7, (0.1, 0.001), (3,))
    assert changed.depths == PROFILES["smoke"].depths


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": "-1"}, "seeds are '-1': give integers of at least 0"),
        ({"units": "2,x"}, "units are '2,x': give integers of at least 1, separated by commas"),
        ({"batch_sizes": "0"}, "batch sizes are '0': give integers of at least 1"),
        ({"rates": "0"}, "rates are '0': give numbers above 0"),
        ({"rates": "inf"}, "rates are 'inf'"),
        ({"epochs": "1,2"}, "epochs are '1,2': give one number"),
        ({"epochs": -3}, "epochs are '-3'"),
    ],
)
def test_a_wrong_size_is_refused(given: dict[str, str | int], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        study_sizes("smoke", **given)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="unknown profile 'huge': choose one of full, quick, smoke"):
        study_sizes("huge")
    with pytest.raises(UnknownName, match="unknown size of a profile 'sizes'"):
        study_sizes("smoke", sizes="3")
    with pytest.raises(UnknownName, match="unknown method 'mdf'"):
        parse_names(METHODS, "bp,mdf")
    assert parse_names(METHODS, " mdfa, bp") == ("mdfa", "bp")
    assert parse_names(METHODS, "") == tuple(METHODS)


def test_measuring_changes_nothing_outside() -> None:
    state = torch.get_rng_state()
    list(measured_descent(SMALL))
    assert torch.equal(state, torch.get_rng_state())
