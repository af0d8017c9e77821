"""The oracles: BP is autograd, FA and DFA with B = W are BP, every rule equals a plain reference, Theorem 2 holds."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mdfa_core.learning import probes
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network
from mdfa_core.rules import METHODS, StepContext
from tests.support.cases import pairwise
from tests.support.references import (
    ARCHITECTURES,
    CONVOLUTIONAL,
    DIRECT,
    FULLY_CONNECTED,
    FUNCTIONS,
    MIXED,
    autograd,
    batch_of,
    learner_of,
    network_of,
    reference_of,
    relative,
)

# ----------------------------------------------------------------------------------------------------- BP is autograd


def assert_bp_is_autograd(network: Network, *, replicas: int, shared: bool) -> None:
    learner = learner_of(network, "bp", rates=(0.1,) * replicas)
    inputs, labels = batch_of(network, 6, replicas=1 if shared else replicas)
    batch = learner.observe(inputs, labels)
    expected = autograd(network, learner.parameters, inputs, labels)

    ours = learner.updates(batch).tensors()
    assert len(ours) == len(expected.gradients)
    for tensor, gradient in zip(ours, expected.gradients, strict=True):
        assert tensor.shape == gradient.shape
        assert relative(tensor, gradient) < 1e-12
    assert len(batch.signals.errors) == len(expected.errors)
    for error, gradient in zip(batch.signals.errors, expected.errors, strict=True):
        assert relative(error, gradient) < 1e-12
    for signals in (probes.true_signals(network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1]),):
        assert all(torch.equal(a, b) for a, b in zip(signals.errors, batch.signals.errors, strict=True))


@pytest.mark.parametrize(("activation", "architecture", "outputs"), pairwise(ACTIVATIONS, ARCHITECTURES, [1, 2, 3]))
def test_bp_is_autograd(activation: str, architecture: str, outputs: int) -> None:
    network = network_of(architecture, activation=activation, outputs=outputs)
    assert_bp_is_autograd(network, replicas=1, shared=True)


@pytest.mark.parametrize("shared", [True, False], ids=["one-batch", "own-batches"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bp_of_a_stack_is_autograd_of_each(architecture: str, outputs: int, shared: bool) -> None:
    assert_bp_is_autograd(network_of(architecture, outputs=outputs), replicas=3, shared=shared)


def test_bp_of_a_dead_relu_layer_at_exactly_zero_takes_the_derivative_one() -> None:
    network = network_of("fc:3", activation="relu", image=(1, 1, 2))
    learner = learner_of(network, "bp")
    learner.parameters.weights[0].zero_()
    learner.parameters.biases[0].zero_()
    inputs, labels = batch_of(network, 5)

    batch = learner.observe(inputs, labels)

    assert torch.equal(batch.signals.deltas[0], batch.signals.errors[0])
    assert not autograd(network, learner.parameters, inputs, labels).gradients[0].any()  # autograd's is 0


# --------------------------------------------------------------------------------------------B = W makes FA and DFA BP


def twins(architecture: str, method: str, activation: str, outputs: int) -> tuple[Learner, Learner]:
    """BP, and the method with the forward weights above layer 1 as its feedback."""
    network = network_of(architecture, activation=activation, outputs=outputs)
    bp = learner_of(network, "bp", rates=(0.1, 0.2))
    same = Learner(
        network,
        METHODS[method],
        OPTIMIZERS["sgd"],
        bp.parameters.clone(),
        METHODS[method].feedback_from(network, bp.parameters.weights[1:]),
        learning_rates=(0.1, 0.2),
    )
    return bp, same


@pytest.mark.parametrize(
    ("architecture", "outputs", "activation"), pairwise(ARCHITECTURES, [1, 3], ["tanh", "relu", "hard-tanh"])
)
def test_fa_with_the_forward_weights_is_bp(architecture: str, outputs: int, activation: str) -> None:
    bp, fa = twins(architecture, "fa", activation, outputs)
    batch = batch_of(bp.network, 6)

    ours, theirs = fa.updates(fa.observe(*batch)), bp.updates(bp.observe(*batch))

    assert all(torch.equal(a, b) for a, b in zip(ours.tensors(), theirs.tensors(), strict=True))


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:5", "fc:1", "conv:3/3/2"])
def test_dfa_with_the_forward_weights_is_bp_in_a_net_of_one_hidden_layer(architecture: str, outputs: int) -> None:
    bp, dfa = twins(architecture, "dfa", "tanh", outputs)
    batch = batch_of(bp.network, 6)

    ours, theirs = dfa.updates(dfa.observe(*batch)), bp.updates(bp.observe(*batch))

    for a, b in zip(ours.tensors(), theirs.tensors(), strict=True):
        assert relative(a, b) < 1e-14


@pytest.mark.parametrize("architecture", ["fc:5", "fc:5,4", *CONVOLUTIONAL, *MIXED])
@pytest.mark.parametrize("method", ["fa", "dfa", "mdfa"])
def test_random_feedback_is_not_bp_but_the_output_layer_is(method: str, architecture: str) -> None:
    network = network_of(architecture)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 6)
    expected = autograd(network, learner.parameters, inputs, labels).gradients
    ours = learner.updates(learner.observe(inputs, labels)).tensors()

    for number, (tensor, gradient) in enumerate(zip(ours, expected, strict=True)):
        distance = relative(tensor, gradient)
        if number >= len(expected) - 2:
            assert distance < 1e-12
        else:
            assert distance > 1e-2


# ---------------------------------------------------------------------------------------every rule against a reference


def test_the_papers_methods_and_every_optimizer_have_a_reference() -> None:
    assert set(DIRECT) <= set(METHODS)
    for optimizer in OPTIMIZERS:  # an unknown one raises
        network = network_of("fc:", image=(1, 1, 2))
        inputs, labels = batch_of(network, 2)
        reference_of(learner_of(network, "bp"), "bp", "tanh", optimizer).step(inputs[0].numpy(), labels[0].tolist())


@pytest.mark.parametrize(
    ("method", "activation", "architecture", "outputs"), pairwise(DIRECT, FUNCTIONS, ARCHITECTURES, [1, 3])
)
def test_errors_and_updates_are_the_references(method: str, activation: str, architecture: str, outputs: int) -> None:
    network = network_of(architecture, activation=activation, outputs=outputs)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 3)
    reference = reference_of(learner, method, activation, "sgd")
    expected = reference.updates(inputs[0].numpy(), labels[0].tolist())
    errors, deltas = reference.signals(labels[0].tolist())

    batch = learner.observe(inputs, labels)
    ours = learner.updates(batch)

    for (w, b), our_w, our_b in zip(expected, ours.weights, ours.biases, strict=True):
        assert relative(our_w[0], torch.from_numpy(w)) < 1e-12
        assert relative(our_b[0], torch.from_numpy(b)) < 1e-12
    for signals, references in ((batch.signals.errors, errors), (batch.signals.deltas, deltas)):
        for signal, array in zip(signals, references, strict=True):
            assert signal[0].shape == array.shape
            assert relative(signal[0], torch.from_numpy(array)) < 1e-12


TRAINED = ("fc:5,4", "fc:", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4")
PRECISE = [
    *((name, "float64") for name in OPTIMIZERS),
    # Where only the sign of g counts, float32's rounding of a g near 0 is worth a whole step.
    *((name, "float32") for name in OPTIMIZERS if name not in ("signsgd", "rprop")),
]


@pytest.mark.parametrize(
    ("method", "activation", "precise", "architecture", "outputs"),
    pairwise(DIRECT, FUNCTIONS, PRECISE, TRAINED, [1, 3]),
)
def test_three_steps_are_the_references(
    method: str, activation: str, precise: tuple[str, str], architecture: str, outputs: int
) -> None:
    optimizer, precision = precise
    network = network_of(architecture, activation=activation, outputs=outputs, precision=precision, image=(1, 5, 6))
    # Two replicas, so that their rates are not exchanged. Adam's steps are as large for small g as for large ones:
    # with large rates it would show float32's rounding instead of the code's mistakes.
    rates = (0.03, 0.01) if optimizer == "adam" else (0.3, 0.1)
    penalties = (0.05, 0.02)
    learner = learner_of(network, method, optimizer=optimizer, rates=rates, l2=penalties, floor=0.01)
    references = [
        reference_of(learner, method, activation, optimizer, r, rate=rates[r], l2=penalties[r], floor=0.01)
        for r in range(2)
    ]

    for step in range(3):
        inputs, labels = batch_of(network, 3, seed=step, replicas=2)
        learner.step(inputs, labels)
        for r, reference in enumerate(references):
            reference.step(inputs[r].double().numpy(), labels[r].tolist())

    tolerance = 1e-11 if precision == "float64" else 1e-5
    for r, reference in enumerate(references):
        for tensor, array in zip(learner.parameters.weights, reference.weights, strict=True):
            assert relative(tensor[r], torch.from_numpy(array)) < tolerance
        for tensor, array in zip(learner.parameters.biases, reference.biases, strict=True):
            assert relative(tensor[r], torch.from_numpy(array)) < tolerance


def test_the_training_cases_reach_the_floor() -> None:
    network = network_of("fc:5,4", image=(1, 5, 6))
    learner = learner_of(network, "mdfa", rates=(0.3, 0.1), l2=(0.05, 0.02), floor=0.01)
    for step in range(3):
        learner.step(*batch_of(network, 3, seed=step, replicas=2))
    assert any((w == 0.01).any() for w in learner.parameters.weights[1:])


# ------------------------------------------------------------------------------------------------------------ theorem 2

MONOTONE = [name for name, activation in ACTIVATIONS.items() if activation.monotone]


@st.composite
def dense_nets(draw: st.DrawFn) -> str:
    return "fc:" + ",".join(str(draw(st.integers(1, 5))) for _ in range(draw(st.integers(1, 4))))


@st.composite
def convolutional_nets(draw: st.DrawFn) -> str:
    layers = [f"{draw(st.integers(1, 3))}/{draw(st.integers(1, 2))}/1" for _ in range(draw(st.integers(1, 4)))]
    return "conv:" + ",".join(layers) + draw(st.sampled_from(["", "+fc:3"]))


def mono_measurements(
    architecture: str,
    activation: str,
    *,
    outputs: int = 1,
    seed: int = 0,
    scale: float = 0.5,
    floor: float = 1e-6,
    rate: float = 0.5,
) -> list[probes.Measurement]:
    """What mDFA's probes say before three steps and after, on inputs of both signs."""
    network = network_of(architecture, activation=activation, image=(1, 6, 6), outputs=outputs)
    learner = learner_of(network, "mdfa", rates=(rate,), seed=seed, scale=scale, floor=floor)
    found = []
    for step in range(4):
        batch = learner.observe(*batch_of(network, 4, seed=seed + step))
        found.append(probes.measure(network, learner.parameters, batch.forward_pass, batch.signals))
        learner.learn(batch)
    return found


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    architecture=dense_nets(),
    activation=st.sampled_from(MONOTONE),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 0.5, 2.0]),
    floor=st.sampled_from([0.0, 1e-6, 0.01]),
)
def test_theorem_2_in_fully_connected_nets(
    architecture: str, activation: str, seed: int, scale: float, floor: float
) -> None:
    for found in mono_measurements(architecture, activation, seed=seed, scale=scale, floor=floor):
        for agreement in (found.unit, found.example):
            assert all(value in (1.0, None) for layer in agreement.layers for value in layer)
            assert agreement.overall[0] in (1.0, None)


@hypothesis.settings(max_examples=30)
@hypothesis.given(architecture=convolutional_nets(), activation=st.sampled_from(MONOTONE), seed=st.integers(0, 10**6))
def test_theorem_2_in_convolutional_nets(architecture: str, activation: str, seed: int) -> None:
    for found in mono_measurements(architecture, activation, seed=seed):
        assert all(value in (1.0, None) for layer in found.unit.layers for value in layer)


@pytest.mark.parametrize("architecture", ["fc:4", "fc:5,4,3", "conv:2/2/1,3/2/1", "conv:2/2/1+fc:3"])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "leaky-relu", "identity"])
def test_theorem_2_is_not_met_by_leaving_everything_out(architecture: str, activation: str) -> None:
    for found in mono_measurements(architecture, activation, rate=0.05):
        assert found.unit.overall == (1.0,)
        assert all(share < 0.01 for layer in found.unit.undefined for share in layer)


def test_a_batch_sums_examples_so_its_updates_can_have_the_wrong_sign() -> None:
    found = mono_measurements("fc:5,4", "tanh")
    assert all(f.unit.overall == f.example.overall == (1.0,) for f in found)
    assert min(f.batch.overall[0] for f in found) < 1.0


def test_a_convolution_sums_positions_so_one_examples_update_can_have_the_wrong_sign() -> None:
    found = mono_measurements("conv:3/2/1,2/2/1", "tanh")
    assert all(f.unit.overall == (1.0,) for f in found)
    assert min(f.example.overall[0] for f in found) < 1.0


@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_without_the_constraint_signs_are_a_matter_of_chance(method: str) -> None:
    network = network_of("fc:30,30")
    learner = learner_of(network, method)
    batch = learner.observe(*batch_of(network, 8))
    agreement = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals).unit.overall[0]
    assert 0.3 < agreement < 0.7


# ------------------------------------------------------------------------------------------------------------ theorem 5


def test_theorem_5_two_outputs_with_swapped_feedback_disagree() -> None:
    """Two hidden units, W2 = I, B2 = the exchange, e = (1, −1): eI = (1, −1), eB2 = (−1, 1), opposite everywhere."""
    network = network_of("fc:2", activation="identity", outputs=2, image=(1, 1, 1))
    method = METHODS["mdfa"]
    parameters = method.parameters_from(network, [np.ones((2, 1)), np.eye(2)])
    feedback = method.feedback_from(network, [np.array([[0.0, 1.0], [1.0, 0.0]])])
    inputs = network.inputs_from(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64))
    forward_pass = network.forward(parameters, inputs)
    error = torch.tensor([[[1.0, -1.0]]], dtype=torch.float64)

    delivered = method.transport.signals(
        network, parameters, feedback, forward_pass, error, StepContext(torch.tensor([[1]]))
    )
    true = probes.true_signals(network, parameters, forward_pass, error)

    assert true.errors[0].flatten().tolist() == [1.0, -1.0]
    assert delivered.errors[0].flatten().tolist() == [-1.0, 1.0]
    found = probes.measure(network, parameters, forward_pass, delivered)
    assert found.unit.overall == found.example.overall == found.batch.overall == (0.0,)
    assert found.angle_overall == pytest.approx((180.0,))


def test_such_an_error_occurs_in_training_on_two_outputs() -> None:
    # Equal logits and label 1: e = (1/2, −1/2), the theorem's error up to its size.
    network = network_of("fc:2", outputs=2, image=(1, 1, 1))
    method = METHODS["mdfa"]
    learner = Learner(
        network,
        method,
        OPTIMIZERS["sgd"],
        method.parameters_from(network, [np.ones((2, 1)), np.eye(2)]),
        method.feedback_from(network, [np.array([[0.0, 1.0], [1.0, 0.0]])]),
        learning_rates=[0.1],
        floor=0.0,
    )
    inputs = network.inputs_from(torch.ones(1, 1, 1, 1, 1, dtype=torch.float64))
    batch = learner.observe(inputs, torch.tensor([[1]]))
    found = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals)

    assert batch.signals.deltas[-1].flatten().tolist() == pytest.approx([0.5, -0.5])
    assert found.unit.overall == (0.0,)


@pytest.mark.parametrize("architecture", ["fc:4", "fc:5,4", "conv:2/2/1"])
@pytest.mark.parametrize("outputs", [2, 3])
def test_a_search_finds_disagreement_with_more_than_one_output(architecture: str, outputs: int) -> None:
    found = [
        mono_measurements(architecture, "tanh", outputs=outputs, seed=seed)[0].unit.overall[0] for seed in range(5)
    ]
    assert min(found) < 1.0


def test_the_architectures_cover_every_kind() -> None:
    assert {*FULLY_CONNECTED, *CONVOLUTIONAL, *MIXED} == set(ARCHITECTURES)
    assert "fc:" in FULLY_CONNECTED  # no hidden layer
    assert "fc:1" in FULLY_CONNECTED  # one unit wide
