"""Every activation of the table: f and ε f′(a) agree with autograd, and its claims about itself hold."""

from __future__ import annotations

import math

import pytest
import torch

from mdfa_core.nets.activations import ACTIVATIONS, Activation

# Both sides of every kink and both saturated ends, but no kink itself: there the derivative is a convention.
POINTS = torch.cat([torch.linspace(-12, 12, 240, dtype=torch.float64), torch.tensor([-1e-9, 1e-9, -0.999, 1.001])])
EVERY = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=list(ACTIVATIONS))


def saved_of(activation: Activation, a: torch.Tensor) -> torch.Tensor:
    return activation.function(a) if activation.from_output else a


@EVERY
def test_backward_is_the_error_times_autograds_derivative(activation: Activation) -> None:
    a = POINTS.clone().requires_grad_()
    error = torch.linspace(-3, 2, len(a), dtype=torch.float64)
    (expected,) = torch.autograd.grad(activation.function(a), a, error)

    ours = activation.backward(error, saved_of(activation, POINTS))

    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@EVERY
def test_derivative_is_the_slope(activation: Activation) -> None:
    h = 1e-6
    points = torch.tensor([-3.1, -1.4, -0.7, -0.2, 0.3, 0.8, 1.7, 2.9], dtype=torch.float64)
    slope = (activation.function(points + h) - activation.function(points - h)) / (2 * h)

    torch.testing.assert_close(activation.derivative(saved_of(activation, points)), slope, rtol=1e-6, atol=1e-9)


@EVERY
def test_monotone_and_largest_derivative_are_true(activation: Activation) -> None:
    derivative = activation.derivative(saved_of(activation, torch.cat([POINTS, torch.zeros(1, dtype=torch.float64)])))

    assert bool((derivative >= 0).all()) == activation.monotone
    assert derivative.max().item() == pytest.approx(activation.largest_derivative, abs=1e-5)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_are_kept_and_arguments_left_alone(activation: Activation, dtype: torch.dtype) -> None:
    a = torch.linspace(-2, 2, 24, dtype=dtype).reshape(2, 3, 4)
    error = torch.full_like(a, 0.5)
    copies = a.clone(), error.clone()

    h = activation.function(a)
    delta = activation.backward(error, h if activation.from_output else a)

    assert (h.shape, h.dtype, delta.shape, delta.dtype) == (a.shape, dtype, a.shape, dtype)
    assert torch.equal(a, copies[0])
    assert torch.equal(error, copies[1])


@pytest.mark.parametrize(
    ("name", "at", "value", "derivative"),
    [
        ("tanh", 0.5, math.tanh(0.5), 1 - math.tanh(0.5) ** 2),
        ("relu", 0.0, 0.0, 1.0),  # the released code's convention; autograd says 0
        ("relu", -0.0, 0.0, 1.0),
        ("relu", -2.0, 0.0, 0.0),
        ("relu", 2.0, 2.0, 1.0),
        ("hard-tanh", 0.25, 0.25, 1.0),
        ("hard-tanh", 1.0, 1.0, 0.0),
        ("hard-tanh", -1.0, -1.0, 0.0),
        ("hard-tanh", 7.0, 1.0, 0.0),
        ("hard-tanh", -7.0, -1.0, 0.0),
        ("sigmoid", 0.0, 0.5, 0.25),
        ("leaky-relu", -2.0, -0.02, 0.01),
        ("leaky-relu", 0.0, 0.0, 1.0),
        ("softplus", 0.0, math.log(2), 0.5),
        ("identity", -3.0, -3.0, 1.0),
    ],
)
def test_values_by_hand(name: str, at: float, value: float, derivative: float) -> None:
    activation = ACTIVATIONS[name]
    a = torch.tensor([at], dtype=torch.float64)

    assert activation.function(a).item() == pytest.approx(value, abs=1e-15)
    assert activation.derivative(saved_of(activation, a)).item() == pytest.approx(derivative, abs=1e-15)


def test_relu_of_autograd_is_the_other_convention_at_zero() -> None:
    # Why the table's ReLU is not torch's: a net of zeros would never learn.
    a = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(torch.relu(a).sum(), a)[0].item() == 0.0
    assert ACTIVATIONS["relu"].derivative(a.detach()).item() == 1.0


@pytest.mark.parametrize("name", ["tanh", "relu", "hard-tanh"])
def test_the_papers_activations_are_there(name: str) -> None:
    assert ACTIVATIONS[name].monotone
