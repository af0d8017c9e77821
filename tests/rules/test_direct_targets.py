"""sDFA and DRTP: the vectors that the source sends to every layer."""

from __future__ import annotations

import pytest
import torch

from tests.support.references import batch_of, learner_of, network_of, relative
from tests.support.rules import NETS


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("method", ["sdfa", "drtp"])
def test_direct_rules_send_the_published_vector(method: str, architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 5)
    batch = learner.observe(inputs, labels)

    p = (
        torch.sigmoid(batch.forward_pass.logits_RNC)
        if outputs == 1
        else torch.softmax(batch.forward_pass.logits_RNC, 2)
    )
    y = torch.zeros_like(p)
    for n, label in enumerate(labels[0].tolist()):
        if outputs == 1:
            y[0, n, 0] = label
        else:
            y[0, n, label] = 1
    sent = torch.sign(p - y) if method == "sdfa" else -y
    for epsilon, b in zip(batch.signals.errors, learner.feedback, strict=True):
        expected = torch.einsum("rnc,rcu->rnu", sent / 5, b.flatten(2))
        assert relative(epsilon.flatten(2), expected) < 1e-14
    assert relative(batch.signals.deltas[-1], (p - y) / 5) < 1e-14  # the output layer learns by its error


def test_with_one_output_sdfa_is_told_the_label_and_drtp_nothing_of_class_0() -> None:
    network = network_of("fc:5,4")
    labels = torch.tensor([[0, 1, 1, 0, 1]])
    for seed in (0, 1):  # whatever the weights are
        signed, targets = (learner_of(network, name, seed=seed) for name in ("sdfa", "drtp"))
        inputs, _ = batch_of(network, 5)
        for number in range(2):
            coded = (1 - 2 * labels).double().unsqueeze(2) / 5 * signed.feedback[number]
            assert relative(signed.observe(inputs, labels).signals.errors[number], coded) < 1e-14
            delivered = targets.observe(inputs, labels).signals.errors[number]
            assert not delivered[labels == 0].any()
            assert delivered[labels == 1].all()
