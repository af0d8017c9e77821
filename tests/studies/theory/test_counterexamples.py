"""Every counterexample is recomputed by hand or by autograd. If a proof rules one out, none is found."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch.nn import functional

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning.probes import true_signals
from mdfa_core.nets.layers import Conv, Dense
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.studies.theory import FAMILIES, Counterexample, search, theorem_5

FUNCTIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}


def by_autograd(example: Counterexample) -> dict[str, np.ndarray]:
    """The true gradient of every hidden h, W and b, from the numbers of a counterexample alone."""
    weights = [torch.tensor(w, requires_grad=True) for w in example.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in example.biases]
    h = torch.tensor(example.inputs)
    hidden = []
    for w, b, layer in zip(
        weights, biases, [*parse_architecture(example.family.architecture).hidden, Dense(1)], strict=True
    ):
        h = functional.conv2d(h, w, b, layer.stride) if isinstance(layer, Conv) else h.flatten(1) @ w.T + b
        if len(hidden) < len(weights) - 1:
            h = FUNCTIONS[example.family.activation](h)
            h.retain_grad()
            hidden.append(h)
    labels = torch.tensor(example.labels)
    loss = (
        functional.binary_cross_entropy_with_logits(h[:, 0], labels.double())
        if example.family.outputs == 1
        else functional.cross_entropy(h, labels)
    )
    loss.backward()
    named = {f"∂L/∂h{n}": t.grad for n, t in enumerate(hidden, 1)}
    named |= {f"∂L/∂W{n}": t.grad for n, t in enumerate(weights, 1)}
    named |= {f"∂L/∂b{n}": t.grad for n, t in enumerate(biases, 1)}
    return {name: gradient.numpy() for name, gradient in named.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_search_finds_what_can_exist_and_nothing_else(name: str) -> None:
    family = FAMILIES[name]
    found = search(family, tried=1500)
    assert found.tried == 1500
    assert (found.found == 0) == bool(family.protected)
    assert (found.simplest is None) == bool(family.protected)
    if found.simplest is None:
        assert "none can exist" in str(found)
        return
    example = found.simplest
    assert np.allclose(by_autograd(example)[example.name], example.true, atol=1e-12)
    true, delivered = example.true[example.index], example.delivered[example.index]
    assert true * delivered < 0
    if METHODS[family.method].constraint.feedback:
        assert all((w >= 0).all() for w in example.weights[1:])
        assert all((b >= 0).all() for b in example.feedback)
    assert example.name in str(found)
    assert example.name in str(example)
    assert str(search(family, tried=1500)) == str(found)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.protected])
def test_no_seed_finds_what_cannot_exist(name: str, seed: int) -> None:
    assert search(FAMILIES[name], tried=1500, seed=seed).found == 0


def test_the_batch_counterexample_by_hand() -> None:
    """Two examples, two hidden layers of one unit: every number written out."""
    example = search(FAMILIES["batch-two-layers"], tried=1500).simplest
    assert example is not None
    (w1, w2, w3), (b1, b2, b3) = ([float(a.squeeze()) for a in arrays] for arrays in (example.weights, example.biases))
    feedback = float(example.feedback[0].squeeze())
    true = delivered = 0.0
    for x, label, e in zip(example.inputs.flatten(), example.labels, example.error.flatten(), strict=True):
        h1 = math.tanh(w1 * x + b1)
        h2 = math.tanh(w2 * h1 + b2)
        assert e == pytest.approx((1 / (1 + math.exp(-(w3 * h2 + b3))) - label) / 2)
        own = (1 - h1 * h1) * (x if example.name == "∂L/∂W1" else 1)
        true += e * w3 * (1 - h2 * h2) * w2 * own
        delivered += e * feedback * own
    assert example.name in ("∂L/∂W1", "∂L/∂b1")
    assert example.true.item() == pytest.approx(true)
    assert example.delivered.item() == pytest.approx(delivered)


def test_theorem_5_is_opposite_and_not_orthogonal() -> None:
    example = theorem_5()
    assert example.error.tolist() == [[0.5, -0.5]]
    assert example.true.tolist() == [[0.5, -0.5]]
    assert example.delivered.tolist() == [[-0.5, 0.5]]
    assert (example.true * example.delivered < 0).all()
    cosine = (example.true * example.delivered).sum() / np.linalg.norm(example.true) / np.linalg.norm(example.delivered)
    assert cosine == pytest.approx(-1)
    assert "true [0.5, -0.5], delivered [-0.5, 0.5]" in str(example)


def test_read_as_a_matrix_of_errors_the_papers_example_is_orthogonal_and_has_no_negative_product() -> None:
    error, exchange = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])
    true, delivered = error @ np.eye(2), error @ exchange
    assert (true * delivered).sum() == 0
    assert not (true * delivered < 0).any()


@hypothesis.settings(max_examples=10)
@hypothesis.given(width=st.integers(1, 8), seed=st.integers(0, 1000), optimizer=st.sampled_from(["sgd", "adam"]))
def test_with_one_hidden_layer_every_update_is_a_positive_multiple_per_unit(
    width: int, seed: int, optimizer: str
) -> None:
    """δ = (B/v) ⊙ δ_true in every unit, so a whole mini-batch's update has the true signs."""
    run = Run(Experiment(network=f"fc:{width}", seed=seed % 5, optimizer=optimizer, precision="float64", epochs=1))
    inputs, labels = run.batch(1)
    batch = run.learner.observe(inputs, labels)
    measured = run.learner.measure(batch)
    assert measured.batch.overall == (1.0,)
    true = true_signals(run.network, run.learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    ratio = run.learner.feedback[0][:, 0] / run.learner.parameters.weights[1][:, 0]
    assert torch.allclose(batch.signals.deltas[0], ratio.unsqueeze(1) * true.deltas[0], rtol=1e-9, atol=1e-15)


def test_a_search_of_no_nets_is_refused() -> None:
    for tried in (0, -1, 2.5, True):
        with pytest.raises(InvalidValue, match="at least 1"):
            search(FAMILIES["two-outputs"], tried=tried)
