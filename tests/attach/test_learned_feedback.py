"""Feedback that learns in a user's model (direct Kolen-Pollack): mdfa_core's steps, and what goes around them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdfa_core import METHODS
from mdfa_core.attach import attach, measure
from mdfa_core.attach.delivery import direct_error, direct_update
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import MONO, Method
from tests.attach.nets import attached_twin, mlp
from tests.support.references import ARCHITECTURES, batch_of, learner_of, network_of, relative

LEARNED = [name for name in METHODS if METHODS[name].transport.learns_feedback and METHODS[name].transport.attachment()]


def loss_of(output: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(output, labels)


def groups(model: nn.Module, l2: float) -> list[dict[str, object]]:
    """Parameters with the penalty of an experiment: none on biases."""
    return [
        {"params": [parameter], "weight_decay": l2 if parameter.dim() > 1 else 0.0} for parameter in model.parameters()
    ]


def test_a_rule_is_here_to_test() -> None:
    assert {"dkp", "kp"} <= set(LEARNED)


@pytest.mark.parametrize("architecture", [text for text in ARCHITECTURES if text != "fc:"])
@pytest.mark.parametrize("method", LEARNED)
def test_steps_of_weights_and_feedback_are_the_engines(method: str, architecture: str) -> None:
    network = network_of(architecture, outputs=3)
    learner = learner_of(network, method, rates=(0.3,), l2=(0.05,))
    attached = attached_twin(learner, method, "tanh", batch_of(network, 6)[0])
    assert len(attached.feedback) == len(learner.feedback)
    optimizer = torch.optim.SGD(groups(attached, 0.05), 0.3)
    start = [b.detach().clone() for b in attached.feedback]
    for step in range(4):
        inputs, labels = batch_of(network, 6, seed=step)
        learner.step(inputs, labels)
        optimizer.zero_grad()
        loss_of(attached(inputs[0]), labels[0]).backward()
        optimizer.step()

    for tensor, engine in zip(attached.model.parameters(), learner.parameters.tensors(), strict=True):
        assert relative(tensor.detach(), engine[0]) < 1e-12
    for b, engine, before in zip(attached.feedback, learner.feedback, start, strict=True):
        assert relative(b.detach(), engine[0].reshape(b.shape)) < 1e-12
        assert not torch.equal(b, before)


@pytest.mark.parametrize(
    ("error", "hidden", "axis"),
    [
        ((5,), (5, 3, 2), None),
        ((5, 4), (5, 3, 2), None),
        ((5, 7, 4), (5, 7, 3), -1),  # tokens and their predictions
        ((5, 4), (5, 7, 3), -1),  # one prediction for a sequence
        ((5, 4, 6, 7), (5, 3, 2, 2), 1),  # pictures of different sizes
    ],
)
def test_the_update_is_the_gradient_of_what_the_feedback_delivers(
    error: tuple[int, ...], hidden: tuple[int, ...], axis: int | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    e, h = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (error, hidden))
    outputs = 1 if len(error) == 1 else e.shape[1 if axis is None else axis]
    units = hidden[1:] if axis is None else (hidden[axis],)
    b = torch.randn((outputs, *units), generator=generator, dtype=torch.float64, requires_grad=True)

    (expected,) = torch.autograd.grad((direct_error(e, b, hidden, axis) * h).sum(), b)  # ε = e B is linear in B

    assert relative(direct_update(e, h, b.detach(), axis), expected) < 1e-12


@pytest.mark.parametrize("method", LEARNED)
def test_what_overwrites_a_blocks_output_does_not_change_the_update(method: str) -> None:
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    updates = []
    for inplace in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=inplace), nn.Linear(5, 3))
        attached = attach(net, method, blocks=["0"], seed=1, example=x)
        loss_of(attached(x), y).backward()
        updates.append(next(iter(attached.feedback)).grad)
    assert updates[0] is not None
    assert updates[1] is not None
    assert torch.equal(updates[0], updates[1])


@pytest.mark.parametrize("method", LEARNED)
def test_the_feedback_is_saved_loaded_and_copied(method: str) -> None:
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    attached = attach(mlp(3), method, seed=1, example=x)
    loaded = attach(mlp(3), method, seed=2, example=x)
    loaded.load_state_dict(attached.state_dict())
    other = copy.deepcopy(attached)
    assert all(map(torch.equal, loaded.feedback, attached.feedback))

    optimizer = torch.optim.Adam(attached.parameters(), 0.1)
    loss_of(attached(x), y).backward()
    optimizer.step()

    assert not any(map(torch.equal, attached.feedback, other.feedback))


@pytest.mark.parametrize("method", LEARNED)
def test_measuring_changes_no_gradient(method: str) -> None:
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    attached = attach(mlp(3), method, example=x)
    assert measure(attached, (x, y), loss_of).unit.overall[0] is not None
    assert all(b.grad is None for b in attached.feedback)


def test_constrained_feedback_stays_at_or_above_the_floor() -> None:
    rule = Method(title="mDKP", description="", transport=METHODS["dkp"].transport, constraint=MONO)
    x, y = torch.rand(6, 4), torch.arange(6) % 3
    attached = attach(mlp(3), rule, floor=0.01, example=x)
    optimizer = torch.optim.SGD(attached.parameters(), 5.0)
    for _ in range(5):
        optimizer.zero_grad()
        loss_of(attached(x), y).backward()
        optimizer.step()
    assert all((b >= 0.01).all() for b in attached.feedback)
    assert any((b == 0.01).any() for b in attached.feedback)


@pytest.mark.parametrize("method", LEARNED)
def test_an_optimizer_without_the_feedback_is_refused(method: str) -> None:
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    attached = attach(mlp(3), method, example=x)
    optimizer = torch.optim.SGD(attached.model.parameters(), 0.1)
    loss_of(attached(x), y).backward()
    optimizer.step()
    with pytest.raises(
        InvalidValue, match=r"the optimizer has only the model's parameters: give it the parameters\(\)"
    ):
        attached(x)


@pytest.mark.parametrize("method", LEARNED)
def test_the_shapes_have_to_be_known_before_the_optimizer_is_made(method: str) -> None:
    with pytest.raises(InvalidValue, match="give attach an example input"):
        attach(mlp(3), method)
