"""Optimizers: TensorFlow's semantics by hand, where torch's differ and where not, rates, penalties, many replicas."""

from __future__ import annotations

import math

import pytest
import torch

from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from tests.support.references import batch_of, learner_of, network_of, relative


def one_weight(optimizer: str, *, x: float, rate: float, l2: float = 0.0) -> tuple[Learner, torch.Tensor, torch.Tensor]:
    """A net of one weight and one bias, both 0, that sees x with label 0: g = σ(wx + b) · (x, 1)."""
    network = network_of("fc:", image=(1, 1, 1))
    learner = Learner(
        network,
        learner_of(network, "bp").method,
        OPTIMIZERS[optimizer],
        network.parameters_from([[[0.0]]]),
        learning_rates=[rate],
        l2=[l2],
    )
    inputs = network.inputs_from(torch.full((1, 1, 1, 1, 1), x, dtype=torch.float64))
    return learner, inputs, torch.zeros(1, 1, dtype=torch.int64)


def state(learner: Learner) -> tuple[float, float]:
    return learner.parameters.weights[0].item(), learner.parameters.biases[0].item()


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


# -------------------------------------------------------------------------------------------------------------- by hand


def test_sgd_two_steps_by_hand() -> None:
    learner, inputs, labels = one_weight("sgd", x=2.0, rate=0.1)
    learner.step(inputs, labels)
    assert state(learner) == pytest.approx((-0.1, -0.05), rel=1e-14)  # e = 1/2

    learner.step(inputs, labels)
    e = sigmoid(2 * -0.1 - 0.05)
    assert state(learner) == pytest.approx((-0.1 - 0.1 * e * 2, -0.05 - 0.1 * e), rel=1e-14)


def test_rmsprop_two_steps_by_hand() -> None:
    learner, inputs, labels = one_weight("rmsprop", x=2.0, rate=0.1)
    learner.step(inputs, labels)
    # g = (1, 1/2), s = 0.9 · 1 + 0.1 g²
    w = -0.1 * 1.0 / math.sqrt(0.9 + 0.1 * 1.0 + 1e-10)
    b = -0.1 * 0.5 / math.sqrt(0.9 + 0.1 * 0.25 + 1e-10)
    assert state(learner) == pytest.approx((w, b), rel=1e-14)

    learner.step(inputs, labels)
    e = sigmoid(2 * w + b)
    w -= 0.1 * 2 * e / math.sqrt(0.9 * 1.0 + 0.1 * 4 * e * e + 1e-10)
    b -= 0.1 * e / math.sqrt(0.9 * 0.925 + 0.1 * e * e + 1e-10)
    assert state(learner) == pytest.approx((w, b), rel=1e-14)


def test_rmsprops_epsilon_is_inside_the_root() -> None:
    # g = 5·10⁻⁷ for so long that s forgets its start at one: s → g², and ε = 10⁻¹⁰ is 400 times that.
    learner, inputs, labels = one_weight("rmsprop", x=1e-6, rate=1e-9)
    for _ in range(600):
        before = learner.parameters.weights[0].item()
        learner.step(inputs, labels)
    moved = before - learner.parameters.weights[0].item()

    g = 5e-7
    assert moved == pytest.approx(1e-9 * g / math.sqrt(g * g + 1e-10), rel=1e-5)
    assert moved < 0.1 * 1e-9 * g / (g + 1e-10)  # outside the root it would hardly count


def test_adam_two_steps_by_hand() -> None:
    learner, inputs, labels = one_weight("adam", x=2.0, rate=0.1)
    learner.step(inputs, labels)
    rate = 0.1 * math.sqrt(1 - 0.999) / (1 - 0.9)
    w = -rate * 0.1 * 1.0 / (math.sqrt(0.001) + 1e-8)
    b = -rate * 0.1 * 0.5 / (math.sqrt(0.001 * 0.25) + 1e-8)
    assert state(learner) == pytest.approx((w, b), rel=1e-12)

    learner.step(inputs, labels)
    e = sigmoid(2 * w + b)
    rate = 0.1 * math.sqrt(1 - 0.999**2) / (1 - 0.9**2)
    w -= rate * (0.9 * 0.1 + 0.1 * 2 * e) / (math.sqrt(0.999 * 0.001 + 0.001 * 4 * e * e) + 1e-8)
    b -= rate * (0.9 * 0.05 + 0.1 * e) / (math.sqrt(0.999 * 0.00025 + 0.001 * e * e) + 1e-8)
    assert state(learner) == pytest.approx((w, b), rel=1e-12)


def test_adams_epsilon_is_not_corrected() -> None:
    learner, inputs, labels = one_weight("adam", x=2e-8, rate=1.0)  # g = 10⁻⁸, as large as ε
    learner.step(inputs, labels)

    assert learner.parameters.weights[0].item() == pytest.approx(-1 / (1 + 1 / math.sqrt(0.001)), rel=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_l2_adds_to_weights_and_not_to_biases(optimizer: str) -> None:
    learner, inputs, labels = one_weight(optimizer, x=0.0, rate=0.1, l2=0.5)  # the loss is blind to w
    twin, _, _ = one_weight(optimizer, x=0.0, rate=0.1)
    for each in (learner, twin):
        each.parameters.weights[0].fill_(2.0)
        each.parameters.biases[0].fill_(1.5)
        each.step(inputs, labels)

    g = 0.5 * 2.0
    expected = {
        "sgd": 2 - 0.1 * g,
        "rmsprop": 2 - 0.1 * g / math.sqrt(0.9 + 0.1 * g * g + 1e-10),
        "adam": 2 - 0.1 * math.sqrt(0.001) / 0.1 * 0.1 * g / (math.sqrt(0.001) * g + 1e-8),
        "signsgd": 2 - 0.1,
        "rprop": 2 - 0.1,
    }
    assert learner.parameters.weights[0].item() == pytest.approx(expected[optimizer], rel=1e-12)
    assert twin.parameters.weights[0].item() == 2.0
    assert torch.equal(learner.parameters.biases[0], twin.parameters.biases[0])


# -------------------------------------------------------------------------------------------------------------- torch's


class Torch:
    """torch's optimizer on a copy of a learner's parameters, fed with that copy's own updates."""

    def __init__(self, learner: Learner, make, l2: float) -> None:
        self.learner = learner
        self.parameters = learner.parameters.clone()
        weights, biases = list(self.parameters.weights), list(self.parameters.biases)
        self.optimizer = make([{"params": weights, "weight_decay": l2}, {"params": biases}])

    def step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        trainee = self.learner
        twin = Learner(trainee.network, trainee.method, OPTIMIZERS["sgd"], self.parameters, learning_rates=[0.0])
        updates = twin.updates(twin.observe(inputs, labels))
        for parameter, g in zip(self.parameters.tensors(), updates.tensors(), strict=True):
            parameter.grad = g
        self.optimizer.step()


def distance_from_torch(optimizer: str, make, *, l2: float = 0.0, steps: int = 5, prepare=lambda torch_one, step: None):
    learner = learner_of(network_of("fc:5,4", outputs=3), "bp", optimizer=optimizer, rates=(0.05,), l2=(l2,))
    other = Torch(learner, make, l2)
    for step in range(steps):
        batch = batch_of(learner.network, 4, seed=step)
        prepare(other, step)
        other.step(*batch)
        learner.step(*batch)
    pairs = zip(learner.parameters.tensors(), other.parameters.tensors(), strict=True)
    return max(relative(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_sgd_is_torchs(l2: float) -> None:
    assert distance_from_torch("sgd", lambda p: torch.optim.SGD(p, lr=0.05), l2=l2) < 1e-14


def test_rmsprop_differs_from_torchs_in_decay_start_and_epsilon_only() -> None:
    def start_at_one(other: Torch, step: int) -> None:
        if step == 0:
            for parameter in other.parameters.tensors():
                other.optimizer.state[parameter] = {
                    "step": torch.zeros(()),
                    "square_avg": torch.ones_like(parameter),
                }

    def ours_in_torch(parameters):
        return torch.optim.RMSprop(parameters, lr=0.05, alpha=0.9, eps=0.0)

    assert distance_from_torch("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.05)) > 0.1
    assert distance_from_torch("rmsprop", ours_in_torch) > 0.1  # without the start at one
    assert distance_from_torch("rmsprop", ours_in_torch, l2=0.1, prepare=start_at_one) < 1e-8


def test_adam_is_torchs_with_its_epsilon_divided_by_the_root_of_the_correction() -> None:
    def epsilon_hat(other: Torch, step: int) -> None:
        for group in other.optimizer.param_groups:
            group["eps"] = 1e-8 / math.sqrt(1 - 0.999 ** (step + 1))

    assert distance_from_torch("adam", lambda p: torch.optim.Adam(p, lr=0.05), l2=0.1, prepare=epsilon_hat) < 1e-12
    assert distance_from_torch("adam", lambda p: torch.optim.Adam(p, lr=0.05)) > 1e-6


# ----------------------------------------------------------------------------------------------------- signs of updates


def test_signsgd_moves_everything_by_its_rate_and_what_is_0_not_at_all() -> None:
    learner, inputs, labels = one_weight("signsgd", x=0.0, rate=0.1)  # the loss is blind to w
    learner.step(inputs, labels)
    assert state(learner) == (0.0, -0.1)


def test_rprop_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(6, generator=generator, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    slots = [torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)]
    twin = torch.optim.Rprop([theirs], lr=0.05)
    for step in range(1, 60):  # a bowl of unequal slopes, whole-batch: steps grow, turn and shrink
        slopes = torch.linspace(0.1, 9, 6, dtype=torch.float64)
        OPTIMIZERS["rprop"].update_(ours, slopes * ours, slots, 0.05, step)
        theirs.grad = (slopes * theirs).detach()
        twin.step()
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-14)
    assert ours.abs().max() < 0.05


def test_rprop_falls_where_mini_batches_disagree() -> None:
    """Nine slopes of 0.1 and one of -0.9 cancel: SGD ends where it was, RPROP far away."""
    x = torch.zeros(1)
    slots = [torch.zeros(1), torch.ones(1)]
    for step in range(1, 31):
        OPTIMIZERS["rprop"].update_(x, torch.tensor([-0.9 if step % 10 == 0 else 0.1]), slots, 0.01, step)
    assert x.item() < -0.2


# ------------------------------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_replica_has_its_own_rate_and_penalty(optimizer: str) -> None:
    network = network_of("fc:5")
    rates, l2 = (0.1, 0.01, 0.0), (0.0, 0.3, 0.3)
    learner = learner_of(network, "bp", optimizer=optimizer, rates=rates, l2=l2)
    start = learner.parameters.clone()
    for step in range(3):
        learner.step(*batch_of(network, 4, seed=step))

    for tensor, before in zip(learner.parameters.tensors(), start.tensors(), strict=True):
        assert not torch.equal(tensor[0], before[0])
        assert not torch.equal(tensor[1], before[1])
        assert torch.equal(tensor[2], before[2])  # rate 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_slots_are_named_and_start_where_they_say(optimizer: str) -> None:
    expected = {
        "sgd": {},
        "rmsprop": {"mean square": 1.0},
        "adam": {"mean": 0.0, "mean square": 0.0},
        "signsgd": {},
        "rprop": {"last g": 0.0, "step size": 1.0},
    }
    assert dict(OPTIMIZERS[optimizer].slots) == expected[optimizer]
    assert OPTIMIZERS[optimizer].title


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_learners_do_not_share_what_they_remember(optimizer: str) -> None:
    network = network_of("fc:5")
    first, second, fresh = (learner_of(network, "bp", optimizer=optimizer) for _ in range(3))
    for step in range(4):
        first.step(*batch_of(network, 4, seed=step))
    batch = batch_of(network, 4, seed=9)
    second.step(*batch)
    fresh.step(*batch)
    assert all(torch.equal(a, b) for a, b in zip(second.parameters.tensors(), fresh.parameters.tensors(), strict=True))
