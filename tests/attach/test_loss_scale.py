"""sDFA and DRTP send signals that do not depend on the size of the loss, so a factor of the loss must be told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mdfa_core import METHODS
from mdfa_core.attach import Attached, attach, measure
from tests.attach.nets import EVERY_RULE, mlp, output_of

X = torch.linspace(-1, 1, 24).reshape(6, 4)
Y = torch.arange(6) % 3
IGNORES_SIZE = [name for name in EVERY_RULE if METHODS[name].transport.attachment().ignores_size]
OTHERS = [name for name in EVERY_RULE if name not in IGNORES_SIZE]


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def backward(attached: Attached, factor: float, part: slice = slice(None)) -> None:
    (factor * functional.cross_entropy(output_of(attached, X[part], Y[part]), Y[part])).backward()


def gradients(attached: Attached) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in attached.model.parameters()]
    attached.zero_grad()
    return found


def test_the_rules_that_ignore_the_size_are_those_of_frenkel() -> None:
    assert IGNORES_SIZE == ["sdfa", "drtp"]


@pytest.mark.parametrize("method", EVERY_RULE)
def test_with_the_factor_told_gradients_scale_with_the_loss(method: str) -> None:
    if METHODS[method].transport.attachment().drawn is not None:
        pytest.skip("draws anew in every pass")
    attached = attach(mlp(3), method, example=X)
    backward(attached, 1.0)
    expected = gradients(attached)
    attached.loss_scale = 1024.0
    backward(attached, 1024.0)
    for ours, plain in zip(gradients(attached), expected, strict=True):
        assert torch.allclose(ours, 1024 * plain, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", IGNORES_SIZE)
def test_gradients_of_parts_add_up_to_those_of_the_batch(method: str) -> None:
    attached = attach(mlp(3), method, example=X)
    backward(attached, 1.0)
    expected = gradients(attached)
    attached.loss_scale = 1 / 2
    for part in (slice(0, 3), slice(3, 6)):
        backward(attached, 1 / 2, part)
    for ours, whole in zip(gradients(attached), expected, strict=True):
        assert torch.allclose(ours, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", IGNORES_SIZE)
def test_a_factor_that_is_not_told_is_noticed_once(method: str) -> None:
    attached = attach(mlp(3), method, example=X)
    with pytest.warns(UserWarning, match="large errors, as with a GradScaler, .*: set attached.loss_scale to the"):
        backward(attached, 65536.0)
    backward(attached, 65536.0)
    attached = attach(mlp(3), method, example=X)
    backward(attached, 1 / 2)
    with pytest.warns(UserWarning, match="the gradients of several batches are added, .*: set attached.loss_scale"):
        backward(attached, 1 / 2)
    backward(attached, 1 / 2)


@pytest.mark.parametrize("method", EVERY_RULE)
def test_an_ordinary_loop_hears_nothing(method: str) -> None:
    attached = attach(mlp(3), method, example=X)
    optimizer = torch.optim.SGD(attached.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        outputs = [output_of(attached, X[part], Y[part]) for part in (slice(0, 3), slice(3, 6))]
        functional.cross_entropy(torch.cat(outputs), Y).backward()
        measure(attached, (X, Y), functional.cross_entropy)
        optimizer.step()


@pytest.mark.parametrize("method", OTHERS)
def test_other_rules_need_no_factor(method: str) -> None:
    attached = attach(mlp(3), method, example=X)
    for _ in range(2):
        backward(attached, 65536.0)


@pytest.mark.parametrize("method", IGNORES_SIZE)
def test_measurements_are_of_the_plain_loss(method: str) -> None:
    attached = attach(mlp(3), method, example=X)
    plain = measure(attached, (X, Y), functional.cross_entropy)
    attached.loss_scale = 8.0
    assert measure(attached, (X, Y), functional.cross_entropy) == plain
