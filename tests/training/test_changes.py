"""Changes of a run between two mini-batches: given arrays, another learning rate, another rule."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import METHODS, OPTIMIZERS, Every, Experiment, Run, train
from mdfa_core.base.errors import CheckpointError, GeometryError, InvalidValue, MdfaError, UnknownName
from mdfa_core.rules.methods import Constraint
from mdfa_core.training.events import (
    Finished,
    Progress,
)
from tests.support.runs import (
    CASES,
    OFTEN,
    SMALL,
    lines,
    of_kind,
    trained,
)

# --------------------------------------------------------------------------------------------------------- given arrays


def _arrays(run: Run, seed: int, replicas: int | None = None) -> tuple[list[Any], list[Any], list[Any]]:
    """Positive weights, biases and feedback that fit `run`; a leading axis if `replicas` are asked for."""
    random = np.random.default_rng(seed)
    lead = () if replicas is None else (replicas,)
    shapes = [layer.weight_shape for layer in run.network.layers]
    needed = [item.shape for item in run.learner.method.transport.feedback(run.network)]
    return (
        [random.uniform(0.01, 0.5, (*lead, *shape)) for shape in shapes],
        [random.normal(size=(*lead, shape[0])) for shape in shapes],
        [random.uniform(0.01, 2.0, (*lead, *shape)) for shape in needed],
    )


@pytest.mark.parametrize(("method", "network"), CASES)
def test_given_arrays_are_what_is_trained(method: str, network: str) -> None:
    """Two runs that start differently are one run once they are given the same numbers."""
    experiments = [
        Experiment(method=method, network=network, epochs=2, forward_init=forward, feedback_init=feedback)
        for forward, feedback in (("normal:0.1", "normal:1"), ("zeros", "uniform:2"))
    ]
    runs = [Run(experiment, device="cpu") for experiment in experiments]
    weights, biases, feedback = _arrays(runs[0], 3)
    drawn = lines(trained(experiments[0], **OFTEN))
    for run in runs:
        run.set_parameters(weights, biases)
        if method != "bp":
            run.set_feedback(feedback)

    first, second = (lines(run.events(**OFTEN)) for run in runs)

    assert first == second != drawn


def test_arrays_without_a_replica_axis_go_to_every_replica() -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base.replace(seed=seed) for seed in range(3)], device="cpu")
    weights, biases, feedback = _arrays(run, 0)

    run.set_parameters(weights, biases)
    run.set_feedback(feedback)

    parameters = run.learner.parameters
    for ours, given in [
        *zip(parameters.weights, weights, strict=True),
        *zip(parameters.biases, biases, strict=True),
        *zip(run.learner.feedback, feedback, strict=True),
    ]:
        for replica in range(3):
            assert np.array_equal(ours[replica].numpy(), given.astype(np.float32))


def test_arrays_with_a_replica_axis_go_one_to_each() -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base.replace(seed=seed) for seed in range(3)], device="cpu")
    weights, biases, feedback = _arrays(run, 0, replicas=3)

    run.set_parameters([torch.from_numpy(w) for w in weights], biases)
    run.set_feedback([b.tolist() for b in feedback])

    parameters = run.learner.parameters
    for ours, given in [
        *zip(parameters.weights, weights, strict=True),
        *zip(parameters.biases, biases, strict=True),
        *zip(run.learner.feedback, feedback, strict=True),
    ]:
        assert np.array_equal(ours.numpy(), given.astype(np.float32))


def test_given_arrays_are_copied_and_biases_may_be_left_out() -> None:
    run = Run(Experiment(network="fc:5"), device="cpu")
    weights, biases, feedback = _arrays(run, 0)
    kept = [w.copy() for w in weights]
    run.set_parameters(weights, biases)

    run.set_parameters(weights)
    run.set_feedback(feedback)
    assert all(not b.any() for b in run.learner.parameters.biases)
    list(run.events(steps=5))

    assert all(np.array_equal(w, k) for w, k in zip(weights, kept, strict=True))
    for ours, given in zip(run.learner.feedback, feedback, strict=True):  # and training does not change feedback
        assert np.array_equal(ours[0].numpy(), given.astype(np.float32))


def _spoilt(arrays: list[Any], number: int, array: Any) -> list[Any]:
    return [*arrays[:number], array, *arrays[number + 1 :]]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda w, b, f: (w[:-1], b, f), GeometryError),
        (lambda w, b, f: ([*w, w[-1]], b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 0, w[0].T), b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, w[1][:, :-1]), b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, w[1][None, None]), b, f), GeometryError),
        (lambda w, b, f: (w, b[:-1], f), GeometryError),
        (lambda w, b, f: (w, _spoilt(b, 0, b[0][:-1]), f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, -w[1]), b, f), InvalidValue),
        (lambda w, b, f: (_spoilt(w, 2, w[2] * np.nan), b, f), InvalidValue),
        (lambda w, b, f: ([np.stack([x] * 3) for x in w], [np.stack([x] * 3) for x in b], f), InvalidValue),
        (lambda w, b, f: (_spoilt([x[None] for x in w], 2, np.stack([w[2]] * 2)), b, f), GeometryError),
        (lambda w, b, f: (w, b, f[:-1]), GeometryError),
        (lambda w, b, f: (w, b, _spoilt(f, 0, f[0].T)), GeometryError),
        (lambda w, b, f: (w, b, _spoilt(f, 1, -f[1])), InvalidValue),
        (lambda w, b, f: (w, b, _spoilt(f, 1, f[1] * np.nan)), InvalidValue),
        (lambda w, b, f: (w, b, [np.stack([x] * 3) for x in f]), InvalidValue),
        (lambda w, b, f: (w, b, _spoilt(f, 1, np.stack([f[1]] * 3))), InvalidValue),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(spoil: Any, error: type[MdfaError]) -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base, base.replace(seed=1)], device="cpu")
    good = _arrays(run, 0)
    weights, biases, feedback = spoil(*good)
    before = [tensor.clone() for tensor in (*run.learner.parameters.tensors(), *run.learner.feedback)]

    with pytest.raises(error) as caught:
        run.set_feedback(feedback) if feedback is not good[2] else run.set_parameters(weights, biases)

    assert "\n" not in str(caught.value)
    after = (*run.learner.parameters.tensors(), *run.learner.feedback)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_backpropagation_takes_no_feedback_arrays_and_negative_weights() -> None:
    run = Run(Experiment(method="bp", network="fc:5"), device="cpu")
    weights, biases, _ = _arrays(run, 0)

    run.set_parameters([-w for w in weights], biases)

    assert (run.learner.parameters.weights[1] < 0).all()
    with pytest.raises(GeometryError):
        run.set_feedback([np.ones((1, 5))])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_new_learning_rate_counts_from_the_next_step(optimizer: str) -> None:
    experiment = SMALL.replace(optimizer=optimizer, learning_rate=0.01)
    changed, other = Run(experiment, device="cpu"), Run(experiment.replace(learning_rate=0.1), device="cpu")

    changed.set_learning_rate(0.1)
    assert lines(changed.events(**OFTEN)) == lines(other.events(**OFTEN))

    plain, late = Run(experiment, device="cpu"), Run(experiment, device="cpu")
    assert lines(plain.events(steps=2, **OFTEN)) == lines(late.events(steps=2, **OFTEN))
    late.set_learning_rate(0.1)
    a, b = (of_kind(Progress, list(run.events(**OFTEN))) for run in (plain, late))
    assert a[0].loss == b[0].loss  # shown before it is learnt
    assert a[1].loss != b[1].loss


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, True, "0.1", None])
def test_an_impossible_new_learning_rate_is_refused(rate: Any) -> None:
    run = Run(SMALL, device="cpu")

    with pytest.raises(InvalidValue, match="learning rate"):
        run.set_learning_rate(rate)
    assert lines(run.events()) == lines(trained(SMALL))


# ----------------------------------------------------------------------------------------------------- another method


@pytest.mark.parametrize("name", list(METHODS))
def test_another_method_goes_on_with_the_same_weights(name: str) -> None:
    run = Run(SMALL.replace(method="fa", optimizer="adam"), device="cpu")
    list(run.events(steps=2))
    before = run.learner.parameters.clone()
    slots = [slot.clone() for slots in run.learner.optimizer_state.slots for slot in slots]
    run.set_method(name)
    for number, (now, then) in enumerate(zip(run.learner.parameters.weights, before.weights, strict=True)):
        constrained = METHODS[name].constraint.covers(number)
        assert torch.equal(now, then.clamp(min=1e-6) if constrained else then)
    assert all(map(torch.equal, run.learner.parameters.biases, before.biases))
    assert all(map(torch.equal, [slot for slots in run.learner.optimizer_state.slots for slot in slots], slots))
    assert run.learner.optimizer_state.step == 2
    assert run.experiments[0].method == name
    fresh = Run(SMALL.replace(method=name), device="cpu")
    assert all(map(torch.equal, run.learner.feedback, fresh.learner.feedback))
    assert len(of_kind(Finished, list(run.events()))) == 1
    for number, weight in enumerate(run.learner.parameters.weights):
        if METHODS[name].constraint.covers(number):
            assert bool((weight >= 1e-6).all())


def test_a_method_that_is_set_at_once_learns_as_if_it_had_been_chosen() -> None:
    run = Run([SMALL.replace(method="fa", seed=seed) for seed in (0, 1)], device="cpu")
    run.set_learning_rate(0.05)
    run.set_method("dfa")
    chosen = [SMALL.replace(method="dfa", seed=seed, learning_rate=0.05) for seed in (0, 1)]
    assert lines(run.events(progress=Every(steps=1))) == lines(train(chosen, device="cpu", progress=Every(steps=1)))


def test_a_method_without_a_name_learns_but_is_not_saved(tmp_path: Path) -> None:
    run = Run(SMALL, device="cpu")
    free = dataclasses.replace(METHODS["mdfa"], title="free mDFA", constraint=Constraint(None, feedback=True))
    run.set_method(free)
    run.set_learning_rate(1.0)
    list(run.events(steps=3))
    assert bool((run.learner.parameters.weights[1] < 0).any())
    assert all(bool((b >= 0).all()) for b in run.learner.feedback)
    with pytest.raises(CheckpointError, match="free mDFA, which is not in the table METHODS"):
        run.save(tmp_path / "run.pt")
    run.set_method("mdfa")
    run.save(tmp_path / "run.pt")


def test_a_saved_run_goes_on_with_the_method_it_was_given(tmp_path: Path) -> None:
    run = Run(SMALL.replace(method="bp"), device="cpu")
    list(run.events(steps=2))
    run.set_method("mdfa")
    list(run.events(steps=1))
    run.save(tmp_path / "run.pt")
    rest = lines(run.events(probe=Every(steps=1)))
    assert lines(Run.load(tmp_path / "run.pt", device="cpu").events(probe=Every(steps=1))) == rest


def test_a_method_that_is_unknown_or_cannot_be_fed_changes_nothing() -> None:
    run = Run(SMALL.replace(method="bp", feedback_init="uniform:1e-9"), device="cpu")
    learner = run.learner
    with pytest.raises(UnknownName, match="unknown method 'nonsense'"):
        run.set_method("nonsense")
    with pytest.raises(InvalidValue, match="choose a larger scale"):
        run.set_method("mdfa")
    assert run.learner is learner
    assert run.experiments[0].method == "bp"
