"""Direct Kolen-Pollack against a step in NumPy loops, against Kolen-Pollack, and against its fixed point."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdfa_core import METHODS
from mdfa_core.learning import probes
from mdfa_core.learning.optimizers import OPTIMIZERS
from tests.support.references import batch_of, learner_of, network_of, relative


def softmax(z: np.ndarray) -> np.ndarray:
    raised = np.exp(z - z.max())
    return raised / raised.sum()


def step_by_loops(  # one example after the other, with the paper's formulas and plain SGD
    weights: list[np.ndarray],
    biases: list[np.ndarray],
    feedback: list[np.ndarray],
    inputs: np.ndarray,
    labels: np.ndarray,
    rate: float,
    l2: float,
) -> None:
    """One step of a fully-connected tanh net with a softmax, in place; feedback B_l is [outputs, units]."""
    changes = [np.zeros_like(array) for array in (*weights, *biases, *feedback)]
    layers = len(weights)
    for x, label in zip(inputs, labels, strict=True):
        h = [x.reshape(-1)]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            h.append(np.tanh(w @ h[-1] + b))
        e = softmax(weights[-1] @ h[-1] + biases[-1])
        e[label] -= 1
        for number in range(layers):
            delta = e if number == layers - 1 else (e @ feedback[number]) * (1 - h[number + 1] ** 2)
            changes[number] += np.outer(delta, h[number]) / len(inputs)
            changes[layers + number] += delta / len(inputs)
        for number in range(layers - 1):
            changes[2 * layers + number] += np.outer(e, h[number + 1]) / len(inputs)
    for array, change in zip((*weights, *biases, *feedback), changes, strict=True):
        decay = l2 * array if array.ndim == 2 else 0.0  # biases do not decay
        array -= rate * (change + decay)


def test_steps_are_those_of_loops() -> None:
    rates, penalties = (0.3, 0.1), (0.05, 0.0)
    network = network_of("fc:5,4,3", outputs=3)
    learner = learner_of(network, "dkp", rates=rates, l2=penalties)
    nets = [[[t[r].numpy().copy() for t in group] for group in (*_groups(learner), learner.feedback)] for r in range(2)]
    for step in range(5):
        inputs, labels = batch_of(network, 6, replicas=2, seed=step)
        learner.step(inputs, labels)
        for r, (weights, biases, feedback) in enumerate(nets):
            step_by_loops(weights, biases, feedback, inputs[r].numpy(), labels[r].numpy(), rates[r], penalties[r])

    for r, expected in enumerate(nets):
        for ours, theirs in zip((*_groups(learner), learner.feedback), expected, strict=True):
            for tensor, array in zip(ours, theirs, strict=True):
                assert relative(tensor[r], torch.from_numpy(array)) < 1e-12


def _groups(learner) -> tuple:  # type: ignore[no-untyped-def, type-arg]
    return learner.parameters.weights, learner.parameters.biases


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2,2/2/1", "conv:3/3/2+fc:4"])
def test_feedback_learns_by_the_sum_over_examples_of_error_times_activity(architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, "dkp", rates=(0.1, 0.1))
    batch = learner.observe(*batch_of(network, 6))
    error = batch.signals.deltas[-1]

    for number, update in enumerate(batch.signals.feedback):
        h = batch.forward_pass.inputs[number + 1].reshape(2, 6, *network.hidden[number].output_shape)
        expected = torch.zeros_like(learner.feedback[number])
        for r, n, c in np.ndindex(2, 6, outputs):
            expected[r, c] += error[r, n, c] * h[r, n]
        assert relative(update, expected) < 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_one_hidden_layer_it_is_kolen_pollack(optimizer: str) -> None:
    network = network_of("fc:5", outputs=3)
    direct, layered = (
        learner_of(network, name, optimizer=optimizer, rates=(0.05,), l2=(0.1,)) for name in ("dkp", "kp")
    )
    layered.feedback[0].copy_(direct.feedback[0])
    for step in range(5):
        for learner in (direct, layered):
            learner.step(*batch_of(network, 6, seed=step))

    for ours, theirs in zip(direct.parameters.tensors(), layered.parameters.tensors(), strict=True):
        assert relative(ours, theirs) < 1e-10
    assert relative(direct.feedback[0], layered.feedback[0]) < 1e-10


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_the_top_feedback_approaches_the_output_weights_by_the_published_factor(penalty: float) -> None:
    learner = learner_of(network_of("fc:6,5", outputs=3), "dkp", rates=(0.1,), l2=(penalty,))
    start = learner.parameters.weights[-1] - learner.feedback[-1]
    for step in range(20):
        learner.step(*batch_of(learner.network, 6, seed=step))

    left = learner.parameters.weights[-1] - learner.feedback[-1]
    assert relative(left, (1 - 0.1 * penalty) ** 20 * start) < 1e-12


def test_learned_feedback_delivers_errors_closer_to_the_true_ones_than_fixed_feedback() -> None:
    angles = {}
    for method in ("dfa", "dkp"):
        learner = learner_of(network_of("fc:12,10", outputs=3), method, rates=(0.2,), l2=(0.02,))
        for step in range(300):
            learner.step(*batch_of(learner.network, 16, seed=step % 4))
        batch = learner.observe(*batch_of(learner.network, 16))
        found = probes.measure(learner.network, learner.parameters, batch.forward_pass, batch.signals)
        angles[method] = found.angle_overall[0]
    assert angles["dkp"] is not None
    assert angles["dfa"] is not None
    assert angles["dkp"] < angles["dfa"] - 5


def test_it_reads_no_forward_weights() -> None:
    learner = learner_of(network_of("fc:5,4"), "dkp")
    batch = learner.observe(*batch_of(learner.network, 5))
    nonsense = learner.parameters.clone()
    for w in nonsense.weights:
        w.fill_(float("nan"))
    again = METHODS["dkp"].transport.signals(
        learner.network,
        nonsense,
        learner.feedback,
        batch.forward_pass,
        batch.signals.deltas[-1],
        learner.context(torch.zeros(1, 5, dtype=torch.int64)),
    )
    for ours, theirs in zip(
        (*again.deltas, *again.feedback), (*batch.signals.deltas, *batch.signals.feedback), strict=True
    ):
        assert torch.equal(ours, theirs)
