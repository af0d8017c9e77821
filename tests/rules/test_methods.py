"""Methods: what they ask for, what they hold, what they refuse, and that their errors really reach hidden layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning import probes
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS, Activation
from mdfa_core.nets.initializers import Initializer, Normal, ScaledUniform, Zeros
from mdfa_core.nets.networks import Network
from mdfa_core.rules import FREE, METHODS, MONO, Chain, Constraint, Direct, Method, StepContext, sign_guarantee
from tests.support.cases import pairwise
from tests.support.references import batch_of, learner_of, network_of

NETS = ["fc:", "fc:1", "fc:5,4", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4"]
ALIGNMENT = ["fa", "dfa", "mdfa"]
NORMAL = Normal(0.5)


def fresh(
    method: str,
    architecture: str = "fc:5,4",
    *,
    forward: Initializer = NORMAL,
    activation: str = "tanh",
    outputs: int = 1,
    floor: float = 1e-6,
    precision: str = "float64",
) -> Learner:
    """A learner as a run starts it, from a seed."""
    network = network_of(architecture, activation=activation, outputs=outputs, precision=precision)
    chosen = METHODS[method]
    return Learner(
        network,
        chosen,
        OPTIMIZERS["sgd"],
        chosen.initial_parameters(network, forward, seed=3, convention="paper", floor=floor),
        chosen.initial_feedback(network, Normal(1.0), seed=3, convention="paper"),
        learning_rates=[0.1],
        floor=floor,
    )


# ----------------------------------------------------------------------------------------------------------- feedback


def test_feedback_shapes_by_hand() -> None:
    network = network_of("conv:3/3/2,4/2/1+fc:5", outputs=2)  # on 2×8×7: 3×3×3, 4×2×2, 5, 2
    shapes = {name: [item.shape for item in METHODS[name].transport.feedback(network)] for name in METHODS}
    flat = {name: [(shape[0], math.prod(shape[1:])) for shape in shapes[name]] for name in METHODS}

    assert shapes["bp"] == []
    assert shapes["fa"] == [(4, 3, 2, 2), (5, 16), (2, 5)]  # as the weights above
    assert flat["dfa"] == flat["mdfa"] == [(2, 27), (2, 16), (2, 5)]  # outputs × units


def test_direct_feedback_of_a_convolution_counts_its_units_by_filter_row_column() -> None:
    network = network_of("conv:2/2/1", image=(1, 3, 4), outputs=1)  # two maps of 2×3
    rows = np.arange(12.0).reshape(1, 12)
    learner = Learner(
        network,
        METHODS["dfa"],
        OPTIMIZERS["sgd"],
        network.parameters_from([np.zeros((2, 1, 2, 2)), np.zeros((1, 12))]),
        METHODS["dfa"].feedback_from(network, [rows]),
        learning_rates=[0.1],
    )
    inputs, _ = batch_of(network, 1)
    error = learner.observe(inputs, torch.tensor([[0]])).signals.errors[0]  # e = 1/2

    assert torch.equal(error, torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 2, 2, 3) / 2)


@pytest.mark.parametrize("method", ALIGNMENT)
def test_feedback_of_another_shape_is_refused(method: str) -> None:
    network = network_of("fc:5,4")
    shapes = [item.shape for item in METHODS[method].transport.feedback(network)]
    with pytest.raises(GeometryError, match=r"feedback 2 .*give"):
        METHODS[method].feedback_from(network, [np.ones(shapes[0]), np.ones((7, 7))])
    with pytest.raises(GeometryError, match="2 are needed"):
        METHODS[method].feedback_from(network, [np.ones(shapes[0])])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", NETS)
def test_feedback_never_changes_unless_it_learns(method: str, architecture: str) -> None:
    learner = learner_of(network_of(architecture, outputs=3), method, rates=(1.0, 3.0), optimizer="adam")
    before = [b.clone() for b in learner.feedback]
    transport = METHODS[method].transport

    for step in range(5):
        learner.step(*batch_of(learner.network, 4, seed=step))

    same = [torch.equal(a, b) for a, b in zip(learner.feedback, before, strict=True)]
    assert not any(same) if transport.learns_feedback else all(same)
    assert len(before) == (len(learner.network.hidden) if transport.needs_feedback else 0) - (
        method == "dtp" and bool(learner.network.hidden)  # a net of one hidden layer has no inverse to learn
    )


# --------------------------------------------------------------------------------------------------------- constraints


def test_which_methods_are_held_to_what() -> None:
    assert [METHODS[name].constraint for name in ("bp", "fa", "dfa", "mdfa")] == [FREE, FREE, FREE, MONO]
    assert [MONO.covers(layer) for layer in range(4)] == [False, True, True, True]  # Definition 1
    assert not any(FREE.covers(layer) for layer in range(4))
    assert Constraint(first_layer=0, feedback=True).covers(0)


@pytest.mark.parametrize(
    ("optimizer", "forward", "floor", "precision"),
    pairwise(
        OPTIMIZERS,
        [Zeros(), ScaledUniform(1.0), Normal(0.1)],
        [0.0, 1e-6, 0.05],
        PRECISIONS,
    ),
    ids=str,
)
def test_constrained_weights_never_leave_their_set(optimizer: str, forward, floor: float, precision: str) -> None:
    network = network_of("conv:2/3/2+fc:4,3", outputs=2, precision=precision)
    method = METHODS["mdfa"]
    learner = Learner(
        network,
        method,
        OPTIMIZERS[optimizer],
        method.initial_parameters(network, forward, seed=1, convention="paper", floor=floor),
        method.initial_feedback(network, Normal(1.0), seed=1, convention="paper"),
        learning_rates=[float(np.random.default_rng(5).uniform(5, 50))],
        l2=[0.01],
        floor=floor,
    )
    least = torch.tensor(floor, dtype=PRECISIONS[precision].storage)

    assert all((b >= 0).all() for b in learner.feedback)
    for step in range(20):
        for w in learner.parameters.weights[1:]:
            assert w.isfinite().all()
            assert (w >= least).all()
        learner.step(*batch_of(network, 6, seed=step))


def test_the_constraint_acts_on_the_weights_above_the_first_layer_and_on_nothing_else() -> None:
    learner = learner_of(network_of("fc:5,4", outputs=2), "mdfa", rates=(1.0,), floor=0.02)
    touched = [False, False, False]
    for step in range(10):
        learner.step(*batch_of(learner.network, 6, seed=step))
        touched = [t or bool((w == 0.02).any()) for t, w in zip(touched, learner.parameters.weights, strict=True)]

    assert touched == [False, True, True]
    assert (learner.parameters.weights[0] < 0).any()
    assert all((b < 0).any() for b in learner.parameters.biases)


@pytest.mark.parametrize("method", ["bp", "fa", "dfa"])
def test_free_methods_are_not_projected(method: str) -> None:
    learner = learner_of(network_of("fc:5,4"), method, floor=10.0)
    learner.step(*batch_of(learner.network, 4))
    assert all((w < 0).any() for w in learner.parameters.weights)


def test_arrays_are_raised_to_the_floor_and_a_learner_projects_what_it_is_given() -> None:
    network = network_of("fc:2", image=(1, 1, 2))
    weights = [np.full((2, 2), -1.0), np.array([[0.0, 0.5]])]
    raised = METHODS["mdfa"].parameters_from(network, weights, floor=0.1)
    assert raised.weights[0].tolist() == [[[-1.0, -1.0], [-1.0, -1.0]]]
    assert raised.weights[1].tolist() == [[[0.1, 0.5]]]

    kept = METHODS["mdfa"].parameters_from(network, weights)
    assert kept.weights[1].tolist() == [[[0.0, 0.5]]]
    Learner(
        network, METHODS["mdfa"], OPTIMIZERS["sgd"], kept, [torch.ones(1, 1, 2).double()], learning_rates=[1], floor=0.2
    )
    assert kept.weights[1].tolist() == [[[0.2, 0.5]]]


@pytest.mark.parametrize("bad", [-0.25, float("nan")])
def test_arrays_that_break_the_constraint_are_refused_in_a_sentence(bad: float) -> None:
    network = network_of("fc:2", image=(1, 1, 2))
    with pytest.raises(InvalidValue, match=r"weights 2 hold the value .*, but mDFA needs them ≥ 0: give"):
        METHODS["mdfa"].parameters_from(network, [np.ones((2, 2)), np.array([[1.0, bad]])])
    with pytest.raises(InvalidValue, match=r"feedback 1 hold the value .*, but mDFA needs them ≥ 0: give"):
        METHODS["mdfa"].feedback_from(network, [np.array([[1.0, bad]])])


@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_free_methods_take_negative_arrays(method: str) -> None:
    network = network_of("fc:2", image=(1, 1, 2))
    METHODS[method].parameters_from(network, [-np.ones((2, 2)), -np.ones((1, 2))])
    assert METHODS[method].feedback_from(network, [-np.ones((1, 2))])[0].tolist() == [[[-1.0, -1.0]]]


@pytest.mark.parametrize("convention", ["paper", "released"])
@pytest.mark.parametrize("forward", [Zeros(), ScaledUniform(1.0), Normal(0.1)], ids=str)
def test_initial_weights_are_in_the_set(forward, convention: str) -> None:
    network = network_of("fc:30,30")
    made = METHODS["mdfa"].initial_parameters(network, forward, seed=0, convention=convention, floor=0.01)
    assert all((w >= 0.01).all() for w in made.weights[1:])
    assert isinstance(forward, Zeros) or (made.weights[0] < 0).any()


@pytest.mark.parametrize("architecture", ["fc:30,50", "conv:4/3/1,6/3/1"])
def test_released_feedback_of_fa_has_the_bound_of_the_weights_it_is_shaped_like(architecture: str) -> None:
    """The released program gives `_backward_weight` the shape of W: its fan-in is that of the forward weights."""
    network = network_of(architecture, image=(1, 5, 5))
    top = {
        convention: METHODS["fa"].initial_feedback(network, ScaledUniform(1.0), seed=0, convention=convention)[-1]
        for convention in ("paper", "released")
    }
    inputs = top["paper"].shape[2]
    assert network.layers[-1].fan_in == inputs
    assert top["paper"].abs().max().item() == pytest.approx(1.0, rel=0.2)  # one error reaches each unit
    assert top["released"].abs().max().item() == pytest.approx(inputs**0.25, rel=0.1)
    assert METHODS["fa"].transport.feedback(network)[-1].fan_in_by("released") == inputs


# -------------------------------------------------------------------------------------------errors reach hidden layers


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", NETS[1:])
@pytest.mark.parametrize("method", METHODS)
def test_hidden_layers_are_updated(method: str, architecture: str, outputs: int) -> None:
    learner = fresh(method, architecture, outputs=outputs)
    updates = learner.updates(learner.observe(*batch_of(learner.network, 6)))
    assert all(update.abs().max() > 1e-9 for update in updates.tensors())


@pytest.mark.parametrize("activation", ["tanh", "hard-tanh", "relu"])
@pytest.mark.parametrize("architecture", NETS[1:])
@pytest.mark.parametrize("method", ["dfa", "mdfa"])
def test_direct_feedback_moves_every_hidden_bias_of_a_net_of_zeros_at_once(
    method: str, architecture: str, activation: str
) -> None:
    # Five examples: the errors of two classes then cannot cancel. With ReLU only because its derivative at 0 is 1.
    learner = fresh(method, architecture, forward=Zeros(), activation=activation, floor=0.0)
    updates = learner.updates(learner.observe(*batch_of(learner.network, 5)))

    assert all(b.any() for b in updates.biases)
    assert updates.weights[0].any()


@pytest.mark.parametrize("method", ["dfa", "mdfa", "fa"])
@pytest.mark.parametrize("architecture", NETS[1:])
def test_a_net_of_zeros_learns_in_every_layer_after_some_steps(method: str, architecture: str) -> None:
    learner = fresh(method, architecture, forward=Zeros())
    start = learner.parameters.clone()
    for _ in range(20):  # on one batch: the units line up with what the constrained weights can use
        learner.step(*batch_of(learner.network, 5))
    for tensor, before in zip(learner.parameters.tensors(), start.tensors(), strict=True):
        assert not torch.equal(tensor, before)


@pytest.mark.parametrize("floor", [0.0, 1e-6])
def test_the_floor_keeps_the_true_gradient_of_a_net_of_zeros_alive(floor: float) -> None:
    learner = fresh("mdfa", "fc:5,4", forward=Zeros(), floor=floor)
    batch = learner.observe(*batch_of(learner.network, 5))
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    assert all(bool(e.any()) == (floor > 0) for e in true.errors)


def test_backpropagation_through_zeros_delivers_nothing() -> None:
    learner = fresh("bp", "fc:5,4", forward=Zeros())
    updates = learner.updates(learner.observe(*batch_of(learner.network, 5)))
    assert not any(update.any() for update in (*updates.weights, *updates.biases[:-1]))
    assert updates.biases[-1].any()


@pytest.mark.parametrize("method", METHODS)
def test_signals_have_one_error_per_hidden_layer_and_one_delta_per_layer(method: str) -> None:
    learner = learner_of(network_of("conv:3/3/2+fc:4", outputs=2), method, rates=(0.1, 0.1))
    batch = learner.observe(*batch_of(learner.network, 5))

    assert [tuple(e.shape) for e in batch.signals.errors] == [(2, 5, 3, 3, 3), (2, 5, 4)]
    assert [tuple(d.shape) for d in batch.signals.deltas] == [(2, 5, 3, 3, 3), (2, 5, 4), (2, 5, 2)]


def test_direct_transport_reads_no_forward_weights() -> None:
    learner = learner_of(network_of("fc:5,4"), "dfa")
    batch = learner.observe(*batch_of(learner.network, 5))
    nonsense = learner.parameters.clone()
    for w in nonsense.weights:
        w.fill_(float("nan"))
    error = batch.signals.deltas[-1]

    context = StepContext(torch.zeros(1, 5, dtype=torch.int64))
    again = METHODS["dfa"].transport.signals(
        learner.network, nonsense, learner.feedback, batch.forward_pass, error, context
    )

    assert all(torch.equal(a, b) for a, b in zip(again.deltas, batch.signals.deltas, strict=True))


# ------------------------------------------------------------------------------------------------------- the guarantee


def guarantee(method: str | Method, activation: str | Activation = "tanh", outputs: int = 1):
    method = METHODS[method] if isinstance(method, str) else method
    activation = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    return sign_guarantee(method, activation, outputs)


def test_the_guarantee_is_theorem_2s() -> None:
    assert guarantee("mdfa").holds
    assert "Theorem 2 holds" in guarantee("mdfa").reason
    assert guarantee("bp", outputs=7).holds

    assert not guarantee("mdfa", outputs=2).holds
    assert "2 outputs" in guarantee("mdfa", outputs=2).reason
    assert not guarantee("fa").holds
    assert not guarantee("dfa").holds


def test_the_guarantee_needs_every_premise() -> None:
    sine = Activation(
        title="sine", function=torch.sin, backward=lambda e, a: e * a.cos(), from_output=False, monotone=False
    )
    assert not guarantee("mdfa", sine).holds
    assert "sine" in guarantee("mdfa", sine).reason
    for constraint in (Constraint(first_layer=2, feedback=True), Constraint(first_layer=1, feedback=False)):
        assert not guarantee(Method(title="X", description="", transport=Direct(), constraint=constraint)).holds
    assert guarantee(
        Method(
            title="X", description="", transport=Chain(fixed=True), constraint=Constraint(first_layer=0, feedback=True)
        )
    ).holds


def test_where_the_guarantee_holds_a_wider_network_agrees() -> None:
    network: Network = network_of("fc:20,20,20")
    learner = learner_of(network, "mdfa")
    batch = learner.observe(*batch_of(network, 16))
    assert probes.measure(network, learner.parameters, batch.forward_pass, batch.signals).unit.overall == (1.0,)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_is(method: str) -> None:
    assert METHODS[method].title
    assert METHODS[method].description
