"""Contrastive Hebbian learning against two settled states, and against BP as the feedback vanishes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdfa_core.learning import probes
from mdfa_core.rules import ContrastiveHebbian
from tests.support.references import batch_of, learner_of, network_of, relative
from tests.support.rules import NETS, backprop, with_transport


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:", *NETS])
def test_contrastive_hebbian_learning_is_bp_in_the_limit_of_weak_feedback(architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    distances = []
    for gamma in (1e-2, 1e-3):
        learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=gamma)), scale=0.3)
        batch = batch_of(network, 5)
        ours, theirs = (each.updates(each.observe(*batch)).tensors() for each in (learner, backprop(learner)))
        distances.append(max(relative(a, b) for a, b in zip(ours, theirs, strict=True)))
    if architecture == "fc:":
        assert max(distances) < 1e-13
        return
    coarse, fine = distances
    assert fine < 1e-2
    assert 8 < coarse / fine < 12.5  # the difference is of the order of γ


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("gamma", [0.02, 0.1])
def test_contrastive_hebbian_updates_are_the_difference_of_two_phases(gamma: float, outputs: int) -> None:
    network = network_of("fc:5,4", outputs=outputs)
    learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=gamma, sweeps=60)), scale=0.4)
    inputs, labels = batch_of(network, 3)
    ours = learner.updates(learner.observe(inputs, labels))

    (w1, w2, w3), (b1, b2, b3) = (
        [tensor[0].numpy() for tensor in tensors] for tensors in (learner.parameters.weights, learner.parameters.biases)
    )
    expected = [np.zeros_like(w) for w in (w1, w2, w3)]
    biases = [np.zeros_like(b) for b in (b1, b2, b3)]
    for x, label in zip(inputs[0].numpy(), labels[0].tolist(), strict=True):
        phases = []
        for held in (False, True):
            h1, h2, y = np.zeros(5), np.zeros(4), np.zeros(outputs)
            for _ in range(500):
                z = w3 @ h2 + b3
                y = 1 / (1 + np.exp(-z)) if outputs == 1 else np.exp(z) / np.exp(z).sum()
                if held:
                    y = np.array([label]) if outputs == 1 else np.eye(outputs)[label]
                h1, h2 = np.tanh(w1 @ x + b1 + gamma * w2.T @ h2), np.tanh(w2 @ h1 + b2 + gamma * w3.T @ y)
            phases.append([x, h1, h2, y])
        free, clamped = phases
        for k in (1, 2, 3):
            factor = gamma ** (k - 3) / 3
            expected[k - 1] -= factor * (np.outer(clamped[k], clamped[k - 1]) - np.outer(free[k], free[k - 1]))
            biases[k - 1] -= factor * (clamped[k] - free[k])

    for made, wanted in zip((*ours.weights, *ours.biases), (*expected, *biases), strict=True):
        assert relative(made[0], torch.from_numpy(wanted)) < 1e-9


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2,2/2/1"])
def test_single_example_updates_of_two_phases_are_counted_as_they_are(architecture: str) -> None:
    network = network_of(architecture, outputs=3)
    learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=0.3)), scale=0.5)
    inputs, labels = batch_of(network, 5)
    batch = learner.observe(inputs, labels)
    found = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals)

    agree, defined = 0, 0
    for n in range(5):
        one = (inputs[:, n : n + 1], labels[:, n : n + 1])
        ours, theirs = (each.updates(each.observe(*one)) for each in (learner, backprop(learner)))
        for number in range(len(network.hidden)):
            for a, b in ((ours.weights, theirs.weights), (ours.biases, theirs.biases)):
                counts = probes.sign_counts(a[number], b[number])
                agree, defined = agree + int(counts.agree), defined + int(counts.defined)
    assert found.example.overall[0] == pytest.approx(agree / defined)
    assert found.example.overall[0] < 1
