"""Losses against torch's own: values, errors, extreme logits, ties, and one single mean over the batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mdfa_core.nets import losses


def case(outputs: int, *, replicas: int = 3, examples: int = 7, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(outputs)
    logits = scale * torch.randn(replicas, examples, outputs, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, max(2, outputs), (replicas, examples), generator=generator)


def torch_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """One replica's, by torch."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype))
    return functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("outputs", [1, 2, 3, 10])
@pytest.mark.parametrize("shared", [False, True])
def test_loss_and_error_are_torchs(outputs: int, shared: bool) -> None:
    logits, labels = case(outputs)
    labels = labels[:1] if shared else labels
    for r in range(3):
        leaf = logits[r].clone().requires_grad_()
        expected = torch_loss(leaf, labels[0 if shared else r])
        (gradient,) = torch.autograd.grad(expected, leaf)

        assert losses.cross_entropy(logits, labels)[r].item() == pytest.approx(expected.item(), rel=1e-13)
        torch.testing.assert_close(losses.output_error(logits, labels)[r], gradient, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_error_of_a_summed_loss_is_the_number_of_examples_times_that_of_the_mean(outputs: int) -> None:
    logits, labels = case(outputs, examples=64)  # a power of two, by which floating-point numbers scale exactly

    assert torch.equal(losses.output_error(logits, labels, "sum"), 64 * losses.output_error(logits, labels))


@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_the_error_is_a_mean_and_the_loss_too(outputs: int) -> None:
    logits, labels = case(outputs, examples=4)
    twice = torch.cat([logits, logits], 1), torch.cat([labels, labels], 1)

    torch.testing.assert_close(losses.cross_entropy(*twice), losses.cross_entropy(logits, labels))
    torch.testing.assert_close(losses.output_error(*twice)[:, :4] * 2, losses.output_error(logits, labels))
    one = losses.output_error(logits[:, :1], labels[:, :1])
    torch.testing.assert_close(losses.output_error(logits, labels)[:, :1] * 4, one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_extreme_logits_stay_finite(outputs: int, dtype: torch.dtype) -> None:
    logits = torch.full((2, 3, outputs), -1e4, dtype=dtype)
    logits[0] = 1e4
    logits[:, 1, 0] = 1e4
    labels = torch.tensor([[0, 1, 0], [1, 0, 1]])

    loss, error = losses.cross_entropy(logits, labels), losses.output_error(logits, labels)

    assert loss.isfinite().all()
    assert error.isfinite().all()
    for r in range(2):
        assert loss[r].item() == pytest.approx(torch_loss(logits[r], labels[r]).item(), rel=1e-6)


def test_values_by_hand() -> None:
    logits = torch.tensor([[[0.0], [math.log(3)]]], dtype=torch.float64)  # probabilities 1/2 and 3/4
    labels = torch.tensor([[1, 0]])

    assert losses.cross_entropy(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert losses.output_error(logits, labels).flatten().tolist() == pytest.approx([-0.25, 0.375])


def test_two_outputs_equal_one_output_of_their_difference() -> None:
    two, labels = case(2)
    one = (two[..., 1] - two[..., 0]).unsqueeze(2)

    torch.testing.assert_close(losses.cross_entropy(two, labels), losses.cross_entropy(one, labels))
    torch.testing.assert_close(losses.output_error(two, labels)[..., 1:], losses.output_error(one, labels))
    assert torch.equal(losses.correct(two, labels), losses.correct(one, labels))


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[0.1], [-0.1], [0.1], [-0.1]], [1, 0, 0, 1], 2),
        ([[0.0]], [0], 1),  # a tie is class 0
        ([[0.0]], [1], 0),
        ([[1.0, 1.0]], [0], 1),  # and the lower class
        ([[1.0, 1.0]], [1], 0),
        ([[0.0, 2.0, 2.0]], [1], 1),
        ([[0.0, 2.0, 2.0]], [2], 0),
        ([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], [0, 2, 0], 2),
        ([[math.nan], [math.nan]], [0, 1], 0),  # NaN predicts nothing
        ([[math.nan, 1.0], [1.0, math.nan], [math.nan, math.nan]], [0, 1, 1], 0),
        ([[math.inf], [-math.inf]], [1, 0], 2),
    ],
)
def test_correct_counts_by_hand(logits: list[list[float]], labels: list[int], expected: int) -> None:
    hits = losses.correct(torch.tensor([logits]), torch.tensor([labels]))

    assert hits.tolist() == [expected]
    assert hits.dtype == torch.int64


def test_correct_counts_every_replica_for_itself() -> None:
    logits = torch.tensor([[[1.0], [1.0]], [[-1.0], [1.0]], [[-1.0], [-1.0]]])
    assert losses.correct(logits, torch.tensor([[1, 1]])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("outputs", [1, 3])
def test_nothing_is_changed_in_place(outputs: int) -> None:
    logits, labels = case(outputs)
    copies = logits.clone(), labels.clone()

    for function in (losses.cross_entropy, losses.output_error, losses.correct):
        function(logits, labels)

    assert torch.equal(logits, copies[0])
    assert torch.equal(labels, copies[1])


@pytest.mark.parametrize("outputs", [1, 3])
def test_types_are_kept(outputs: int) -> None:
    logits, labels = case(outputs)
    assert losses.output_error(logits.float(), labels).dtype == torch.float32
    assert losses.cross_entropy(logits.float(), labels).dtype == torch.float32
