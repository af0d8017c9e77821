"""Layers: each kind against `torch.nn` and against its own update, made whole."""

from __future__ import annotations

import math

import pytest
import torch

from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.nets.layers import Conv, Dense, Layer, LayerSpec

IMAGE = (3, 9, 8)
SPECS: list[LayerSpec] = [Dense(5), Conv(4, 3, 2), Conv(2, 1)]


def layer_of(spec: LayerSpec, precision: str = "float64") -> Layer:
    return spec.bound(1, IMAGE, PRECISIONS[precision])


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)), dtype=dtype)


def example(layer: Layer, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and δ of two replicas and six examples."""
    return numbers(2, 6, *layer.input_shape, dtype=dtype), numbers(2, 6, *layer.output_shape, dtype=dtype)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_torch_module_computes_the_same_activations(spec: LayerSpec) -> None:
    layer = layer_of(spec)
    module = layer.torch_module().double()
    weight, bias = (parameter.detach() for parameter in module.parameters())
    x, _ = example(layer)

    ours = layer.activations(x[:1], weight.unsqueeze(0), bias.unsqueeze(0), None)[0]

    assert tuple(weight.shape) == layer.weight_shape
    assert tuple(ours.shape[1:]) == layer.output_shape
    assert torch.allclose(ours, module(x[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_multiply_adds_count_every_product_of_one_example(spec: LayerSpec) -> None:
    layer = layer_of(spec)
    assert layer.multiply_adds == layer.units * layer.fan_in


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("spec", [*SPECS, Dense(4096)], ids=str)
def test_tiles_make_up_the_whole_update(spec: LayerSpec, precision: str) -> None:
    layer = layer_of(spec, precision)
    x, delta = example(layer, PRECISIONS[precision].storage)
    whole, _ = layer.update(x, delta)
    made, largest = torch.full_like(whole, float("nan")), 0
    for index, part in layer.tiles(x, delta):
        made[index] = part
        largest = max(largest, part.numel() if isinstance(index[0], int) else part[0].numel())

    assert torch.allclose(made, whole, rtol=1e-4, atol=1e-5)
    assert layer.tiled(6) or largest == math.prod(layer.weight_shape)


def test_a_large_dense_layer_is_updated_in_tiles_and_a_convolution_never_is() -> None:
    large = Dense(65536)
    assert layer_of(large, "float32").tiled(100)
    assert not layer_of(large, "bfloat16").tiled(100)
    assert not layer_of(Dense(5), "float32").tiled(100)
    assert not layer_of(Conv(4096, 3), "float32").tiled(10**6)


def test_a_dense_layer_adds_its_update_without_making_it() -> None:
    layer = layer_of(Dense(5))
    x, delta = example(layer)
    weight = numbers(2, *layer.weight_shape)
    expected = weight + torch.tensor([0.5, -2.0]).reshape(2, 1, 1) * layer.update(x, delta)[0]

    add_ = layer.adder(x, delta)
    assert add_ is not None
    add_(weight, factors=[0.5, -2.0], equal=False)

    assert torch.allclose(weight, expected, rtol=1e-12, atol=1e-12)
    assert layer_of(Conv(4, 3)).adder(x, delta) is None


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_first_layer_weights_are_pictures(spec: LayerSpec) -> None:
    layer = layer_of(spec)
    pictures = layer.as_images(numbers(*layer.weight_shape), IMAGE)
    assert pictures.shape[:2] == (layer.weight_shape[0], IMAGE[0])
    assert pictures.dim() == 4


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_specification_says_what_its_layer_is(spec: LayerSpec) -> None:
    layer = layer_of(spec)
    assert layer.shares_weights == spec.shares_weights
    assert str(spec.sizes[0]) in spec.summary
    assert layer.weight_shape[0] == spec.sizes[0]
