"""Theorem 1's construction computes the same function with weights ≥ 0 above the first layer."""

from __future__ import annotations

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from mdfa_core import ACTIVATIONS, METHODS, Experiment, Network, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.rng import numpy_generator
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.nets.networks import Parameters, parse_architecture
from mdfa_core.studies.theory import check_net, largest_difference, mono_net
from mdfa_core.studies.theory.construction import ODD


def random_net(
    architecture: str, *, activation: str = "sigmoid", outputs: int = 1, precision: str = "float64", seed: int = 0
) -> tuple[Network, Parameters]:
    network = Network(parse_architecture(architecture), (4,), outputs, ACTIVATIONS[activation], PRECISIONS[precision])
    generator = numpy_generator(seed, "test net")
    shapes = [layer.weight_shape for layer in network.layers]
    weights = [generator.normal(size=(2, *shape)) for shape in shapes]
    biases = [generator.normal(size=(2, shape[0])) for shape in shapes]
    return network, network.parameters_from(weights, biases)


def inputs_of(network: Network) -> torch.Tensor:
    values = numpy_generator(1, "test inputs").normal(size=(1, 40, *network.input_shape))
    return torch.as_tensor(values).to(network.precision.storage)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    activation=st.sampled_from(["sigmoid", *ODD]),
    outputs=st.integers(1, 3),
    fewest=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_net_becomes_a_mono_net_that_computes_the_same(
    widths: list[int], activation: str, outputs: int, fewest: bool, seed: int
) -> None:
    fewest = fewest and outputs == 1
    architecture = "fc:" + ",".join(map(str, widths))
    free = random_net(architecture, activation=activation, outputs=outputs, seed=seed)
    made = mono_net(*free, fewest=fewest)

    size = 1 + free[1].weights[-1].abs().sum().item()
    assert largest_difference(free, made, inputs_of(free[0])) < 1e-12 * size
    assert all(bool((weight >= 0).all()) for weight in made[1].weights[1:])
    doubled = [2 * width for width in widths]
    if fewest:
        doubled[-1] = widths[-1]
    assert str(made[0].architecture) == "fc:" + ",".join(map(str, doubled))
    assert made[0].activation is ACTIVATIONS["tanh" if activation == "sigmoid" else activation]


def test_a_trained_sigmoid_net_of_one_hidden_layer_keeps_its_function_to_1e_6() -> None:
    run = Run(Experiment(method="bp", network="fc:12", activation="sigmoid", learning_rate=0.5, epochs=10))
    for _ in run.events():
        pass
    free = (run.network, run.learner.parameters)
    images, _ = run.batch(1)
    for fewest, units in ((False, 24), (True, 12)):
        made = mono_net(*free, fewest=fewest)
        assert largest_difference(free, made, images) < 1e-6
        assert made[0].hidden[0].units == units
        assert made[0].precision is free[0].precision
        feedback = [torch.ones(1, 1, units)]
        assert check_net(*made, feedback, METHODS["mdfa"]).holds


def test_the_numbers_are_the_papers() -> None:
    """v̂ = ½ max(v, 0) and ½ max(−v, 0), c = d + ½ Σ v, and a ½ inside the tanh, as equation (16) has it."""
    network, parameters = random_net("fc:3")
    made = mono_net(network, parameters)[1]
    (w, v), (b, d) = parameters.weights, parameters.biases

    assert torch.equal(made.weights[0], torch.cat([w / 2, -w / 2], 1))
    assert torch.equal(made.biases[0], torch.cat([b / 2, -b / 2], 1))
    assert torch.equal(made.weights[1], torch.cat([(v / 2).clamp(min=0), (-v / 2).clamp(min=0)], 2))
    assert torch.allclose(made.biases[1], d + v.sum(2) / 2)


def test_the_sigmoid_is_a_tanh_of_half_its_argument() -> None:
    for x in np.linspace(-5, 5, 11):
        assert 1 / (1 + math.exp(-x)) == pytest.approx((1 + math.tanh(x / 2)) / 2)


def test_without_the_half_inside_the_tanh_it_is_another_function() -> None:
    free = random_net("fc:3")
    network, parameters = mono_net(*free)
    doubled = Parameters((2 * parameters.weights[0], parameters.weights[1]), parameters.biases)
    assert largest_difference(free, (network, doubled), inputs_of(free[0])) > 0.01


def test_half_of_the_proofs_units_are_idle() -> None:
    made = mono_net(*random_net("fc:7"))[1]
    assert ((made.weights[1] == 0).sum(2) == 7).all()


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "softplus"])
def test_an_activation_without_mirror_image_is_refused(activation: str) -> None:
    with pytest.raises(InvalidValue, match="no mirror image: give a network with one of sigmoid, tanh"):
        mono_net(*random_net("fc:2", activation=activation))


def test_what_cannot_be_a_mono_net_is_refused() -> None:
    network = Network(parse_architecture("conv:2/1/1"), (1, 2, 2), 1, ACTIVATIONS["tanh"])
    parameters = network.parameters_from([np.ones(layer.weight_shape) for layer in network.layers])
    with pytest.raises(InvalidValue, match="fully-connected"):
        mono_net(network, parameters)
    with pytest.raises(InvalidValue, match="fc: cannot be made a mono-net"):
        mono_net(*random_net("fc:"))
    with pytest.raises(InvalidValue, match="this one has 2: omit fewest"):
        mono_net(*random_net("fc:2", outputs=2), fewest=True)


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "softplus"])
@pytest.mark.parametrize("architecture", ["fc:6", "fc:5,4"])
def test_a_mono_net_of_convex_units_computes_a_convex_function(architecture: str, activation: str) -> None:
    network, parameters = random_net(architecture, activation=activation)
    METHODS["mdfa"].constraint.project_(parameters, 0.0)
    x, y = inputs_of(network).unbind(0)[0].chunk(2)

    def f(points: torch.Tensor) -> torch.Tensor:
        return network.forward(parameters, points.unsqueeze(0)).logits_RNC

    assert bool((f((x + y) / 2) <= (f(x) + f(y)) / 2 + 1e-12).all())


def test_a_mono_net_of_tanh_units_need_not_be_convex() -> None:
    network, parameters = mono_net(*random_net("fc:6"))
    x, y = inputs_of(network).unbind(0)[0].chunk(2)
    middle, first, second = (
        network.forward(parameters, points.unsqueeze(0)).logits_RNC for points in ((x + y) / 2, x, y)
    )
    above = middle > (first + second) / 2
    assert 0 < int(above.sum()) < above.numel()
