"""`check` reports every violated premise of Theorem 2 and where. Networks that pass agree in sign."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from mdfa_core import ACTIVATIONS, METHODS, OPTIMIZERS, Experiment, Learner, Network, Run
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.nets.activations import Activation
from mdfa_core.nets.initializers import Normal
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.rules import MONO, Method, Signals, Transport
from mdfa_core.studies.theory import Premise, PremiseCheck, check, check_net

OUTPUT, ACTIVATION, WEIGHTS, TRANSPORT, FEEDBACK = range(5)


def learner_of(
    method: Method = METHODS["mdfa"],
    *,
    architecture: str = "fc:4,3",
    activation: Activation = ACTIVATIONS["tanh"],
    outputs: int = 1,
    seed: int = 0,
) -> Learner:
    network = Network(parse_architecture(architecture), (1, 3, 3), outputs, activation, PRECISIONS["float64"])
    return Learner(
        network,
        method,
        OPTIMIZERS["sgd"],
        method.initial_parameters(network, Normal(1.0), seed=seed, convention="paper", floor=1e-6),
        method.initial_feedback(network, Normal(1.0), seed=seed, convention="paper"),
        learning_rates=[0.1],
    )


def failed(found: PremiseCheck) -> list[int]:
    return [number for number, premise in enumerate(found.premises) if not premise.holds]


@pytest.mark.parametrize("architecture", ["fc:4,3", "conv:2/2/1+fc:3", "fc:"])
def test_mdfa_with_one_output_meets_every_premise(architecture: str) -> None:
    found = check(learner_of(architecture=architecture))
    assert found.holds
    assert found.failed == ()
    assert "also during training" in found.conclusion
    assert "FAILS" not in str(found)


def test_each_premise_fails_alone_and_says_where() -> None:
    assert failed(check(learner_of(outputs=2))) == [OUTPUT]

    learner = learner_of()
    learner.parameters.weights[1][0, 2, 1] = -0.25
    found = check(learner)
    assert failed(found) == [WEIGHTS]
    (failure,) = found.premises[WEIGHTS].violations
    assert (failure.index, failure.value, failure.count, failure.of) == ((0, 2, 1), -0.25, 1, 12)
    assert "weights of layer 2 (dense 3)[0, 2, 1] = -0.25 (1 of 12 fail)" in str(found)
    assert "1 premise fails" in found.conclusion

    learner = learner_of()
    learner.feedback[0][0, 0, 3] = -2.0
    learner.feedback[0][0, 0, 1] = -1.0
    found = check(learner)
    assert failed(found) == [FEEDBACK]
    (failure,) = found.premises[FEEDBACK].violations
    assert (failure.index, failure.value, failure.count) == ((0, 0, 3), -2.0, 2)
    assert failure.where == "feedback of layer 1 (dense 4)"


def test_the_first_layer_is_free() -> None:
    learner = learner_of()
    learner.parameters.weights[0].neg_()
    assert check(learner).holds


def test_a_weight_that_is_no_number_fails_first() -> None:
    learner = learner_of()
    learner.parameters.weights[1][0, 0, 0] = -1.0
    learner.parameters.weights[1][0, 1, 2] = math.nan
    (failure,) = check(learner).premises[WEIGHTS].violations
    assert failure.index == (0, 1, 2)
    assert math.isnan(failure.value)
    assert failure.count == 2


SINE = Activation(
    title="sine", function=torch.sin, backward=lambda e, a: e * a.cos(), from_output=False, monotone=False
)
BOASTING = Activation(title="sine", function=torch.sin, backward=lambda e, a: e * a.cos(), from_output=False)
MODEST = Activation(
    title="tanh", function=torch.tanh, backward=lambda e, h: e * (1 - h * h), from_output=True, monotone=False
)


@pytest.mark.parametrize("activation", [SINE, BOASTING, MODEST], ids=["sine", "sine declared monotone", "undeclared"])
def test_an_activation_is_looked_at_and_asked(activation: Activation) -> None:
    found = check(learner_of(activation=activation))
    assert failed(found) == [ACTIVATION]
    if activation is not MODEST:
        assert found.premises[ACTIVATION].violations[0].value == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("name", [name for name, activation in ACTIVATIONS.items() if activation.monotone])
def test_what_is_declared_monotone_is(name: str) -> None:
    assert failed(check(learner_of(activation=ACTIVATIONS[name]))) == []


def test_bp_needs_no_theorem() -> None:
    found = check(learner_of(METHODS["bp"], outputs=3))
    assert found.exact
    assert TRANSPORT in failed(found)
    assert "true gradient" in found.conclusion


def test_a_transport_the_theorem_does_not_know_fails() -> None:
    class Targets(Transport):
        feedback = METHODS["dfa"].transport.feedback

        def signals(self, *arguments: object) -> Signals:
            return METHODS["dfa"].transport.signals(*arguments)

    own = Method(title="own", description="its own way", transport=Targets(), constraint=MONO)
    assert failed(check(learner_of(own))) == [TRANSPORT]


def test_premises_that_hold_by_chance_are_told_from_those_that_are_kept() -> None:
    learner = learner_of(METHODS["dfa"])
    for tensor in (*learner.parameters.weights, *learner.feedback):
        tensor.abs_()
    found = check(learner)
    assert found.holds
    assert not found.guarantee.holds
    assert "training may violate its premises" in found.conclusion


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    method=st.sampled_from(["mdfa", "dfa", "fa"]),
    activation=st.sampled_from(["tanh", "relu", "softplus"]),
    mirrored=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_what_passes_agrees_in_every_sign(method: str, activation: str, mirrored: bool, seed: int) -> None:
    learner = learner_of(METHODS[method], activation=ACTIVATIONS[activation], seed=seed)
    if mirrored:
        for tensor in (*learner.parameters.weights, *learner.feedback):
            tensor.abs_()
    found = check(learner)
    inputs = torch.rand(1, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    batch = learner.observe(inputs, torch.tensor([[0, 1, 1, 0, 1]]))
    assert found.holds == (mirrored or method == "mdfa")
    if found.holds:
        assert learner.measure(batch).unit.overall[0] in (1.0, None)


def test_an_experiment_a_run_and_a_learner_are_checked_alike() -> None:
    experiment = Experiment(network="fc:3", epochs=1)
    run = Run(experiment)
    learner = run.learner
    by_hand = check_net(learner.network, learner.parameters, learner.feedback, learner.method)
    assert str(check(experiment)) == str(check(run)) == str(check(learner)) == str(by_hand)
    for _ in run.events():
        pass
    assert check(run).holds


def test_a_premise_reads_as_a_sentence() -> None:
    assert str(Premise(statement="one output", found="the network has 2", holds=False)) == (
        "FAILS: one output: the network has 2"
    )
