"""A method, an activation or an initializer added from outside is one entry in a table; everything works with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mdfa_core import ACTIVATIONS, INITIALIZERS, METHODS, Experiment, Run
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.learning import probes
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import Activation
from mdfa_core.nets.initializers import Initializer, Normal, parse
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules import MONO, Chain, Direct, FeedbackShape, Method, Signals, StepContext, Transport, sign_guarantee
from tests.support.references import autograd, batch_of, learner_of, network_of, relative


class Flipped(Transport):
    """DFA that learns away from the target: every hidden error with the other sign."""

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return Direct().feedback(network)

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        plain = Direct().signals(network, parameters, feedback, forward_pass, error, context)
        return Signals(tuple(-e for e in plain.errors), (*(-d for d in plain.deltas[:-1]), error))


class SignSymmetric(Transport):
    """ε_l = δ_{l+1} sign(W_{l+1}): needs no feedback and is no part of the package."""

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return ()

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        signs = Parameters(tuple(w.sign() for w in parameters.weights), parameters.biases)
        return Chain(fixed=False).signals(network, signs, (), forward_pass, error)


@pytest.fixture
def added() -> Iterator[None]:
    METHODS.add("mono-fa", Method(title="mono FA", description="FA, ≥ 0", transport=Chain(fixed=True), constraint=MONO))
    METHODS.add("flipped", Method(title="flipped DFA", description="DFA the wrong way", transport=Flipped()))
    METHODS.add("sign", Method(title="sign", description="sign-symmetry", transport=SignSymmetric()))
    ACTIVATIONS.add(
        "cubic",  # monotone, unbounded, its derivative not a function of its value alone
        Activation(
            title="cubic",
            function=lambda a: a + a**3 / 3,
            backward=lambda error, a: error * (1 + a * a),
            from_output=False,
            largest_derivative=float("inf"),
        ),
    )
    yield
    for name in ("mono-fa", "flipped", "sign"):
        METHODS.remove(name)
    ACTIVATIONS.remove("cubic")


NEW_METHODS = ["mono-fa", "flipped", "sign"]


def started(method: str, architecture: str, optimizer: str, *, activation: str = "tanh", outputs: int = 1) -> Learner:
    """As a run starts it: everything drawn by the method from a seed."""
    network = network_of(architecture, activation=activation, outputs=outputs)
    chosen = METHODS[method]
    return Learner(
        network,
        chosen,
        OPTIMIZERS[optimizer],
        chosen.initial_parameters(network, Normal(0.5), seed=0, convention="paper", floor=1e-6),
        chosen.initial_feedback(network, Normal(1.0), seed=0, convention="paper"),
        learning_rates=[0.05],
    )


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", NEW_METHODS)
def test_a_new_method_learns(method: str, optimizer: str, architecture: str) -> None:
    learner = started(method, architecture, optimizer)
    before = learner.parameters.clone()
    for step in range(3):
        batch = learner.step(*batch_of(learner.network, 5, seed=step))

    for tensor, old in zip(learner.parameters.tensors(), before.tensors(), strict=True):
        assert tensor.isfinite().all()
        assert not torch.equal(tensor, old)
    found = probes.measure(learner.network, learner.parameters, batch.forward_pass, batch.signals)
    assert found.angle_overall[0] is not None


@pytest.mark.usefixtures("added")
def test_flipped_feedback_is_what_it_says() -> None:
    flipped, plain = (started(method, "fc:5,4", "sgd") for method in ("flipped", "dfa"))
    batch = batch_of(plain.network, 5)
    ours, theirs = (learner.updates(learner.observe(*batch)) for learner in (flipped, plain))

    for number in range(2):
        assert torch.equal(ours.weights[number], -theirs.weights[number])
    assert torch.equal(ours.weights[2], theirs.weights[2])


@pytest.mark.usefixtures("added")
def test_whether_a_new_rule_needs_feedback_follows_from_its_feedback() -> None:
    assert {name: METHODS[name].transport.needs_feedback for name in NEW_METHODS} == {
        "mono-fa": True,
        "flipped": True,
        "sign": False,
    }
    assert METHODS["sign"].carrier == "W{0}ᵀ"


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
def test_a_new_methods_constraint_is_kept_and_carries_the_theorem(architecture: str) -> None:
    learner = started("mono-fa", architecture, "sgd")
    assert sign_guarantee(learner.method, learner.network.activation, 1).holds
    assert all((b >= 0).all() for b in learner.feedback)
    for step in range(5):
        batch = learner.observe(*batch_of(learner.network, 5, seed=step))
        found = probes.measure(learner.network, learner.parameters, batch.forward_pass, batch.signals)
        assert found.unit.overall == (1.0,)
        learner.learn(batch)
        assert all((w >= 1e-6).all() for w in learner.parameters.weights[1:])


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_new_activation_backpropagates_as_autograd_does(architecture: str, outputs: int) -> None:
    network = network_of(architecture, activation="cubic", outputs=outputs)
    learner = learner_of(network, "bp", scale=0.2)
    inputs, labels = batch_of(network, 5)
    expected = autograd(network, learner.parameters, inputs, labels)

    ours = learner.updates(learner.observe(inputs, labels))

    for tensor, gradient in zip(ours.tensors(), expected.gradients, strict=True):
        assert relative(tensor, gradient) < 1e-12


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("method", ["mdfa", "flipped"])
def test_a_new_activation_learns_and_is_measured(method: str) -> None:
    learner = started(method, "fc:5,4", "sgd", activation="cubic")
    batch = learner.step(*batch_of(learner.network, 5))
    found = probes.measure(learner.network, learner.parameters, batch.forward_pass, batch.signals)
    assert all(tensor.isfinite().all() for tensor in learner.parameters.tensors())
    assert method != "mdfa" or found.unit.overall == (1.0,)


@pytest.mark.usefixtures("added")
def test_experiments_know_new_names_at_once() -> None:
    experiment = Experiment(method="mono-fa", activation="cubic")
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_and_forget_removed_ones() -> None:
    with pytest.raises(UnknownName, match="unknown method"):
        Experiment(method="mono-fa")


@pytest.mark.parametrize("name", METHODS)
def test_built_in_names_are_taken(name: str) -> None:
    with pytest.raises(InvalidValue, match="already exists"):
        METHODS.add(name, METHODS[name])


@dataclass(frozen=True)
class Constant(Initializer):
    """Every weight the same."""

    value: float = 0.5

    def draw(
        self,
        shape: Sequence[int],
        fan_in: int,
        generator: torch.Generator,
        *,
        nonnegative: bool,
        convention: str,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        return torch.full(tuple(shape), self.value, dtype=dtype)

    def __str__(self) -> str:
        return f"constant:{self.value}"


def test_a_new_initializer_is_parsed_listed_and_used() -> None:
    INITIALIZERS.add("constant", Constant)
    try:
        assert parse("constant:0.25") == Constant(0.25)
        assert parse("constant") == Constant(0.5)
        experiment = Experiment(forward_init="constant:0.25", network="fc:3")
        assert experiment.forward_init == "constant:0.25"
        run = Run(experiment, device="cpu")
        assert all(torch.equal(w, torch.full_like(w, 0.25)) for w in run.learner.parameters.weights)
        with pytest.raises(UnknownName, match="constant:VALUE"):
            parse("bogus")
    finally:
        INITIALIZERS.remove("constant")
