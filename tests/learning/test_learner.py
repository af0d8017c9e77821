"""The learner: a replica alone is itself in the stack, every shape it is given works, and it checks its arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets import losses
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Parameters
from mdfa_core.rules.methods import METHODS
from tests.support.cases import pairwise
from tests.support.references import ARCHITECTURES, PAIRS, autograd, batch_of, learner_of, network_of, relative

RATES, PENALTIES = (0.1, 0.003, 0.02), (0.0, 0.01, 0.1)


# ------------------------------------------------------------------------------------------------------------ replicas


def alone(stack: Learner, replica: int, parameters: Parameters, optimizer: str) -> Learner:
    """One replica of a stack as a learner of its own."""
    own = parameters.replica(replica).clone()
    return Learner(
        stack.network,
        stack.method,
        OPTIMIZERS[optimizer],
        own,
        [b[replica : replica + 1].clone() for b in stack.feedback],
        learning_rates=RATES[replica : replica + 1],
        l2=PENALTIES[replica : replica + 1],
    )


def assert_alone_equals_stacked(
    method: str,
    optimizer: str,
    architecture: str,
    *,
    activation: str = "tanh",
    outputs: int = 1,
    examples: int = 10,
    shared: bool = False,
    precision: str = "float32",
    image: tuple[int, int, int] = (2, 8, 7),
    steps: int = 5,
) -> None:
    network = network_of(architecture, activation=activation, outputs=outputs, precision=precision, image=image)
    stack = learner_of(network, method, optimizer=optimizer, rates=RATES, l2=PENALTIES, scale=0.3)
    singles = [alone(stack, r, stack.parameters, optimizer) for r in range(3)]
    for step in range(steps):
        inputs, labels = batch_of(network, examples, replicas=1 if shared else 3, seed=step)
        batch = stack.step(inputs, labels)
        score = stack.score(batch, labels)
        for r, single in enumerate(singles):
            own = slice(None) if shared else slice(r, r + 1)
            one = single.step(inputs[own], labels[own])
            assert torch.equal(one.forward_pass.logits_RNC[0], batch.forward_pass.logits_RNC[r])
            assert torch.equal(single.score(one, labels[own]).loss[0], score.loss[r])

    for r, single in enumerate(singles):
        for own_tensor, tensor in zip(single.parameters.tensors(), stack.parameters.tensors(), strict=True):
            assert own_tensor.isfinite().all()
            assert torch.equal(own_tensor[0], tensor[r])


@pytest.mark.parametrize(
    ("pair", "architecture", "shared"),
    pairwise(PAIRS, ["fc:32,16", "conv:16/3/2,16/2/1", "conv:16/3/2+fc:32"], [True, False]),
)
def test_a_replica_alone_equals_itself_in_the_stack(pair: tuple[str, str], architecture: str, shared: bool) -> None:
    method, optimizer = pair
    assert_alone_equals_stacked(method, optimizer, architecture, shared=shared, examples=32)


# Vectorised loops treat the last few numbers of a tensor apart, and where those lie depends on the size of the stack;
# a product of MKL's depends on where in memory its operands begin.
@pytest.mark.parametrize(
    ("architecture", "outputs", "examples"),
    pairwise(["fc:", "fc:1", "fc:19,7", "conv:1/3/1,3/2/2"], [1, 3], [1, 10, 13, 64]),
)
def test_so_it_does_for_every_size(architecture: str, outputs: int, examples: int) -> None:
    assert_alone_equals_stacked("mdfa", "adam", architecture, outputs=outputs, examples=examples, steps=3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_so_it_does_for_every_activation(activation: str) -> None:
    assert_alone_equals_stacked("dfa", "rmsprop", "conv:16/3/1+fc:32", activation=activation, examples=32, steps=3)


@pytest.mark.parametrize("architecture", ["fc:32,16", "conv:16/3/2"])
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float32"])
def test_so_it_does_in_every_precision(architecture: str, precision: str) -> None:
    assert_alone_equals_stacked("mdfa", "adam", architecture, precision=precision, examples=32)


@pytest.mark.parametrize("architecture", ["fc:256,128", "conv:1/3/1", "conv:16/5/2"])
@pytest.mark.parametrize("method", ["bp", "mdfa"])
@pytest.mark.usefixtures("two_threads")
def test_so_it_does_where_the_work_is_spread_over_threads(method: str, architecture: str) -> None:
    # one filter over 64 × 30 × 30 positions: a single sum so long that it may be split
    assert_alone_equals_stacked(method, "sgd", architecture, examples=64, image=(3, 32, 32), steps=2)


def test_replicas_do_not_touch_each_other() -> None:
    network = network_of("conv:3/3/2+fc:4")
    clean, dirty = (learner_of(network, "mdfa", optimizer="adam", rates=RATES) for _ in range(2))
    for tensor in dirty.parameters.tensors():
        tensor[1] = math.nan
    for step in range(3):
        inputs, labels = batch_of(network, 5, seed=step)
        clean.step(inputs, labels)
        dirty.step(inputs, labels)
    for a, b in zip(clean.parameters.tensors(), dirty.parameters.tensors(), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[2], b[2])
        assert not b[1].isfinite().all()


# ------------------------------------------------------------------------------------------------------ what must work


@pytest.mark.parametrize(("method", "architecture", "examples"), pairwise(METHODS, ARCHITECTURES, [1, 3, 10]))
def test_one_output_learns_from_any_number_of_examples(method: str, architecture: str, examples: int) -> None:
    learner = learner_of(network_of(architecture), method, rates=(0.02,))
    inputs, labels = batch_of(learner.network, examples)
    first = losses.cross_entropy(learner.observe(inputs, labels).forward_pass.logits_RNC, labels).item()
    for _ in range(15):
        batch = learner.step(inputs, labels)

    last = losses.cross_entropy(batch.forward_pass.logits_RNC, labels).item()
    assert math.isfinite(last)
    assert method not in ("bp", "mdfa") or last < first


@pytest.mark.parametrize("method", METHODS)
def test_the_bias_of_one_output_is_learned(method: str) -> None:
    learner = learner_of(network_of("fc:3"), method)
    inputs, _ = batch_of(learner.network, 4)
    before = learner.parameters.biases[-1].item()
    batch = learner.step(inputs, torch.ones(1, 4, dtype=torch.int64))

    assert learner.parameters.biases[-1].item() == pytest.approx(
        before - 0.1 * batch.signals.bias_delta(1).sum().item()
    )
    assert learner.parameters.biases[-1].item() > before


def test_a_ragged_batch_is_a_mean_over_its_own_size() -> None:
    network = network_of("fc:4", outputs=3)
    learner = learner_of(network, "bp")
    for examples in (7, 3):
        inputs, labels = batch_of(network, examples)
        expected = autograd(network, learner.parameters, inputs, labels).gradients
        for ours, gradient in zip(learner.updates(learner.observe(inputs, labels)).tensors(), expected, strict=True):
            assert relative(ours, gradient) < 1e-12


@pytest.mark.parametrize(("method", "optimizer"), PAIRS)
def test_without_hidden_layers_all_methods_are_the_same(method: str, optimizer: str) -> None:
    network = network_of("fc:", outputs=3)
    weights = np.abs(np.random.default_rng(0).normal(size=(3, 112)))
    learners = [
        Learner(network, METHODS[name], OPTIMIZERS[optimizer], network.parameters_from([weights]), learning_rates=[0.1])
        for name in ("bp", method)
    ]
    for step in range(5):
        for learner in learners:
            learner.step(*batch_of(network, 4, seed=step))

    for a, b in zip(*(learner.parameters.tensors() for learner in learners), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("method", "outputs", "architecture", "rounded_to"),
    pairwise(
        METHODS,
        [1, 3],
        ["fc:20,15", "conv:4/3/2,6/2/1", "conv:4/3/2+fc:9"],
        [("bfloat16", 2e-2), ("tf32", 2e-3)],
    ),
)
def test_rounded_operands_are_close_to_float32(
    method: str, outputs: int, architecture: str, rounded_to: tuple[str, float]
) -> None:
    batches, updates, learners = [], [], []
    name, within = rounded_to
    for precision in ("float32", name):
        network = network_of(architecture, outputs=outputs, precision=precision)
        learner = learner_of(network, method, scale=0.2)
        batch = learner.observe(*batch_of(network, 16))
        batches.append(batch)
        updates.append(learner.updates(batch).tensors())
        learners.append(learner)

    assert relative(batches[1].forward_pass.logits_RNC, batches[0].forward_pass.logits_RNC) < within
    full, rounded = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in updates)
    assert rounded.dtype == torch.float32
    assert 0 < relative(rounded, full) < within

    for learner, batch in zip(learners, batches, strict=True):
        learner.learn(batch)
    for after, rounded_after in zip(*(learner.parameters.tensors() for learner in learners), strict=True):
        assert relative(rounded_after, after) < within


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_small_updates_are_not_lost_to_rounded_operands(precision: str) -> None:
    # Weights stay float32: 10⁻⁴ of a weight is below these resolutions, and a sum of such steps must not vanish.
    network = network_of("fc:4", precision=precision)
    learner = learner_of(network, "bp", rates=(1e-4,))
    before = learner.parameters.clone()
    learner.step(*batch_of(network, 8))
    for tensor, old in zip(learner.parameters.tensors(), before.tensors(), strict=True):
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, old)


# -------------------------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize(("method", "optimizer"), PAIRS)
def test_a_step_is_observe_and_learn(method: str, optimizer: str) -> None:
    network = network_of("conv:3/3/2+fc:4")
    one, two = (learner_of(network, method, optimizer=optimizer, rates=RATES) for _ in range(2))
    for step in range(3):
        inputs, labels = batch_of(network, 5, seed=step)
        batch = one.step(inputs, labels)
        observed = two.observe(inputs, labels)
        assert torch.equal(batch.forward_pass.logits_RNC, observed.forward_pass.logits_RNC)
        two.learn(observed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters.tensors(), two.parameters.tensors(), strict=True))


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("method", METHODS)
def test_looking_changes_nothing(method: str, architecture: str) -> None:
    learner = learner_of(network_of(architecture), method, rates=RATES, optimizer="adam")
    inputs, labels = batch_of(learner.network, 5)
    held = (*learner.parameters.tensors(), *learner.feedback, inputs, labels)
    before = [tensor.clone() for tensor in held]

    first, second = (learner.updates(learner.observe(inputs, labels)) for _ in range(2))

    assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("method", METHODS)
def test_sgd_moves_by_the_updates_it_reports(method: str, architecture: str) -> None:
    learner = learner_of(network_of(architecture), method, rates=(0.1, 0.2), l2=(0.0, 0.5), floor=0.01)
    inputs, labels = batch_of(learner.network, 5)
    before = learner.parameters.clone()
    batch = learner.observe(inputs, labels)
    updates = learner.updates(batch)
    learner.learn(batch)

    rates, penalties = (torch.tensor(values, dtype=torch.float64) for values in ([0.1, 0.2], [0.0, 0.5]))
    for number, w in enumerate(before.weights):
        shape = (2, *[1] * (w.dim() - 1))
        expected = w - rates.reshape(shape) * (updates.weights[number] + penalties.reshape(shape) * w)
        if learner.method.constraint.covers(number):
            expected = expected.clamp(min=0.01)
        assert relative(learner.parameters.weights[number], expected) < 1e-14
        assert (
            relative(learner.parameters.biases[number], before.biases[number] - rates[:, None] * updates.biases[number])
            < 1e-14
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_parameters_it_was_given_are_the_ones_it_changes(optimizer: str) -> None:
    learner = learner_of(network_of("conv:3/3/2+fc:4"), "mdfa", optimizer=optimizer)
    tensors = learner.parameters.tensors()
    before = [tensor.clone() for tensor in tensors]
    learner.step(*batch_of(learner.network, 5))
    for tensor, same, old in zip(tensors, learner.parameters.tensors(), before, strict=True):
        assert tensor is same
        assert not torch.equal(tensor, old)


def test_nothing_asks_for_autograd() -> None:
    learner = learner_of(network_of("fc:5"), "bp")
    batch = learner.step(*batch_of(learner.network, 5))
    assert not batch.forward_pass.logits_RNC.requires_grad
    assert not any(tensor.requires_grad for tensor in learner.parameters.tensors())


# ------------------------------------------------------------------------------------------------------------ refusals


def construct(**changes: object) -> Learner:
    network = network_of("fc:3", image=(1, 1, 2))
    arguments: dict = {
        "parameters": network.parameters_from(
            [np.ones((2, 3, 2)), np.ones((2, 1, 3))], [np.zeros((2, 3)), np.zeros((2, 1))]
        ),
        "feedback": [torch.ones(2, 1, 3, dtype=torch.float64)],
        "learning_rates": [0.1, 0.2],
        "method": METHODS["dfa"],
    }
    arguments |= changes
    return Learner(network, arguments.pop("method"), OPTIMIZERS["sgd"], **arguments)


def feedback(*shape: int) -> list[Tensor]:
    return [torch.ones(*shape, dtype=torch.float64)]


def test_what_fits_is_taken() -> None:
    assert construct().replicas == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": ()},
        {"feedback": feedback(1, 1, 3)},
        {"feedback": feedback(2, 3, 1)},
        {"feedback": feedback(2, 1, 3) * 2},
        {"method": METHODS["bp"]},
    ],
)
def test_feedback_that_does_not_fit_is_refused(changes: dict) -> None:
    with pytest.raises(GeometryError, match=r"needs feedback of the shapes .* 2 replicas, but got"):
        construct(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": [0.1]}, "1 learning rates were given for 2 replicas"),
        ({"learning_rates": [0.1] * 3}, "3 learning rates"),
        ({"l2": [0.1]}, "1 l2 penalties were given for 2 replicas"),
    ],
)
def test_one_rate_and_one_penalty_per_replica(changes: dict, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        construct(**changes)
