"""Target propagation against its equations, and against BP and Gauss-Newton in their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdfa_core.learning import probes
from mdfa_core.learning.learner import Learner
from mdfa_core.rules import StepContext
from tests.support.references import batch_of, learner_of, network_of, relative
from tests.support.rules import assert_same_updates, backprop


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:", "fc:5", "conv:3/3/2"])
def test_with_one_hidden_layer_target_propagation_is_bp(architecture: str, outputs: int) -> None:
    learner = learner_of(network_of(architecture, outputs=outputs), "dtp")
    assert_same_updates(learner, backprop(learner), batch_of(learner.network, 6), 1e-13)


def square_net(*, orthogonal: bool) -> Learner:
    """A linear net of square layers whose inverses are exact."""
    network = network_of("fc:6,6,6", activation="identity", outputs=3)
    learner = learner_of(network, "dtp")
    for number, v in enumerate(learner.feedback):
        w = learner.parameters.weights[number + 1]
        if orthogonal:
            w.copy_(torch.linalg.qr(w[0])[0])
        v.copy_(torch.linalg.inv(w[0]).mT)  # h V = h W⁻ᵀ undoes h Wᵀ
    return learner


def test_with_orthogonal_weights_and_exact_inverses_target_propagation_is_bp() -> None:
    learner = square_net(orthogonal=True)
    assert_same_updates(learner, backprop(learner), batch_of(learner.network, 6), 1e-11)


def test_with_exact_inverses_a_target_below_reaches_the_target_above() -> None:
    """The Gauss-Newton direction: h − ε below moves what is above by exactly −ε there, whatever W is."""
    learner = square_net(orthogonal=False)
    batch = learner.observe(*batch_of(learner.network, 6))
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    for below in (0, 1):
        w = learner.parameters.weights[below + 1]
        assert relative(batch.signals.errors[below] @ w.mT, batch.signals.errors[below + 1]) < 1e-11
        assert relative(batch.signals.errors[below], true.errors[below]) > 0.1
    assert relative(batch.signals.errors[2], true.errors[2]) < 1e-13


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("architecture", ["fc:5,4,3", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4"])
def test_the_inverses_follow_the_gradient_of_their_reconstruction(architecture: str, activation: str) -> None:
    network = network_of(architecture, activation=activation)
    learner = learner_of(network, "dtp")
    inputs, labels = batch_of(network, 4)
    batch = learner.observe(inputs, labels)
    updates = batch.signals.feedback
    assert len(updates) == len(network.hidden) - 1
    for number, update in enumerate(updates):
        v = learner.feedback[number].clone().requires_grad_()
        h = batch.forward_pass.inputs[number + 1].reshape(1, 4, *network.hidden[number].output_shape)
        noisy = h + 0.1 * StepContext(labels).draw(torch.randn, "noise of targets", number, h)
        layer, f = network.layers[number + 1], network.activation.function
        up = f(
            layer.activations(
                noisy.reshape(1, 4, *layer.input_shape),
                learner.parameters.weights[number + 1],
                learner.parameters.biases[number + 1],
                None,
            )
        )
        if len(layer.weight_shape) == 4:
            back = torch.nn.functional.conv_transpose2d(
                up[0],
                v[0],
                stride=layer.stride,
                output_padding=[
                    size - ((out - 1) * layer.stride + layer.kernel)
                    for size, out in zip(layer.input_shape[1:], layer.output_shape[1:], strict=True)
                ],
            )
        else:
            back = (up[0] @ v[0]).reshape(4, *network.hidden[number].output_shape)
        loss = (f(back) - noisy[0]).square().sum() / 2 / 4
        (expected,) = torch.autograd.grad(loss, v)
        assert relative(update, expected) < 1e-12


def test_the_inverses_get_better() -> None:
    network = network_of("fc:8,8", activation="tanh")
    learner = learner_of(network, "dtp", rates=(0.1,), scale=0.3)
    missed = []
    for step in range(300):
        batch = learner.observe(*batch_of(network, 8, seed=step % 5))
        h, up = batch.forward_pass.inputs[1], batch.forward_pass.inputs[2]
        missed.append((torch.tanh(up @ learner.feedback[0]) - h).square().mean().item())
        learner.learn(batch)
    assert np.mean(missed[-5:]) < 0.3 * np.mean(missed[:5])
