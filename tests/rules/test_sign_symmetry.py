"""Sign-symmetry against its equations, and against BP where the magnitudes are those of the weights."""

from __future__ import annotations

import itertools

import pytest
import torch

from mdfa_core.base.errors import UnknownName
from mdfa_core.rules import SignSymmetric, StepContext
from mdfa_core.rules.methods import METHODS
from tests.support.references import batch_of, learner_of, network_of, reference_of, relative
from tests.support.rules import NETS, assert_same_updates, backprop


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", NETS)
def test_with_the_sizes_of_the_weights_sign_symmetry_is_bp(architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, "frsf")
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        b.copy_(-w)  # only its size counts
    assert_same_updates(learner, backprop(learner), batch_of(network, 6), 1e-13)


@pytest.mark.parametrize("method", ["usf", "brsf", "frsf"])
@pytest.mark.parametrize("architecture", NETS)
def test_sign_symmetry_is_feedback_alignment_through_sign_w_times_m(method: str, architecture: str) -> None:
    network = network_of(architecture, outputs=2)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 4)
    batch = learner.observe(inputs, labels)
    sizes = {
        "usf": [torch.ones_like(w) for w in learner.parameters.weights[1:]],
        "frsf": [b.abs() for b in learner.feedback],
        "brsf": [
            StepContext(labels).draw(torch.rand, "feedback magnitudes", n, w)
            for n, w in enumerate(learner.parameters.weights[1:])
        ],
    }[method]
    reference = reference_of(learner, "fa", "tanh")
    reference.feedback = [
        (torch.where(w > 0, m, -m))[0].numpy() for w, m in zip(learner.parameters.weights[1:], sizes, strict=True)
    ]
    reference.forward(inputs[0].numpy())
    errors, deltas = reference.signals(labels[0].tolist())

    for ours, theirs in zip((*batch.signals.errors, *batch.signals.deltas), (*errors, *deltas), strict=True):
        assert relative(ours[0], torch.from_numpy(theirs)) < 1e-13


def test_batch_random_sizes_are_new_at_every_step_and_in_every_replica() -> None:
    network = network_of("fc:5,4")
    learner = learner_of(network, "brsf", rates=(0.0, 0.0))
    learner.seeds = (3, 4)
    rule = METHODS["brsf"].transport
    assert isinstance(rule, SignSymmetric)
    seen = []
    for _ in range(2):
        context = StepContext(torch.zeros(1, 1), learner.optimizer_state.step, learner.seeds)
        matrices = rule.matrices(learner.parameters, (), context)
        assert all(
            torch.equal(m.sign(), w.sign()) for m, w in zip(matrices, learner.parameters.weights[1:], strict=True)
        )
        assert all(m.abs().min() > 0 and m.abs().max() < 1 for m in matrices)
        assert all(map(torch.equal, matrices, rule.matrices(learner.parameters, (), context)))
        seen.append(matrices[0])
        learner.step(*batch_of(network, 4))
    sizes = [m[r].abs() for m in seen for r in range(2)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(sizes, 2))


def test_a_weight_of_zero_carries_nothing() -> None:
    network = network_of("fc:3", image=(1, 1, 2))
    learner = learner_of(network, "usf")
    learner.parameters.weights[1].copy_(torch.tensor([[[0.0, -2.0, 0.1]]]))
    batch = learner.observe(*batch_of(network, 1))
    e = batch.signals.deltas[-1].item()
    assert batch.signals.errors[0].flatten().tolist() == pytest.approx([0.0, -e, e])


def test_unknown_magnitudes_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown kind of magnitudes 'huge': choose one of batch, fixed, uniform"):
        SignSymmetric("huge")
