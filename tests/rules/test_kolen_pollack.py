"""Kolen-Pollack against its published convergence, and against BP at its fixed point."""

from __future__ import annotations

import pytest

from mdfa_core.learning import probes
from mdfa_core.learning.optimizers import OPTIMIZERS
from tests.support.references import batch_of, learner_of, network_of, relative
from tests.support.rules import NETS


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_kolen_pollack_feedback_approaches_the_weights_by_the_published_factor(
    penalty: float, architecture: str
) -> None:
    network = network_of(architecture, outputs=3)
    learner = learner_of(network, "kp", rates=(0.1, 0.05), l2=(penalty, penalty))
    pairs = list(zip(learner.parameters.weights[1:], learner.feedback, strict=True))
    start = [w - b for w, b in pairs]
    for step in range(20):
        learner.step(*batch_of(network, 6, seed=step))
    for r, rate in enumerate((0.1, 0.05)):
        for (w, b), difference in zip(pairs, start, strict=True):
            assert relative((w - b)[r], (1 - rate * penalty) ** 20 * difference[r]) < 1e-12


def test_kolen_pollack_becomes_bp() -> None:
    network = network_of("fc:6,5", outputs=2)
    learner = learner_of(network, "kp", rates=(0.1,), l2=(0.5,))
    angles = []
    for step in range(400):
        batch = learner.observe(*batch_of(network, 8, seed=step))
        if step in (0, 399):
            found = probes.measure(network, learner.parameters, batch.forward_pass, batch.signals)
            angles.append(found.angle_overall[0])
        learner.learn(batch)
    assert angles[0] > 10
    assert angles[1] < 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_once_equal_kolen_pollack_stays_bp(optimizer: str) -> None:
    network = network_of("conv:3/3/2+fc:4", outputs=3)
    learner = learner_of(network, "kp", optimizer=optimizer, rates=(0.01,), l2=(0.1,))
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        b.copy_(w)
    twin = learner_of(network, "bp", optimizer=optimizer, rates=(0.01,), l2=(0.1,))
    for step in range(5):
        for each in (learner, twin):
            each.step(*batch_of(network, 6, seed=step))
    for ours, theirs in zip(learner.parameters.tensors(), twin.parameters.tensors(), strict=True):
        assert relative(ours, theirs) < 1e-12
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        assert relative(b, w) < 1e-12
