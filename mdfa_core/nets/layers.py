"""A layer of a network, one class a kind: its specification, its shapes, its products, and all that is asked of it.

A specification (`Dense`, `Conv`) is what a user writes; bound to the shape of its input it is a `Layer`. A new kind of
layer is one of each here, and one entry in `networks.parse_architecture`.

Axes: R replica, N example, I/O units in and out, C channels, F filters, K kernel, H W space. Weights have torch's
layout: W ∈ [R, O, I] as in the paper's equation (1), convolutions [R, F, C, K, K].
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mdfa_core.base.errors import GeometryError
from mdfa_core.compute import kernels
from mdfa_core.compute.kernels import Precision
from mdfa_core.nets.activations import Activation

# ------------------------------------------------------------------------------------------------------ specifications


class LayerSpec(ABC):
    """One hidden layer as a user writes it, before the shape of its input is known.

    Attributes:
        family: what starts a list of such layers in the text of an architecture, as in `fc:128,128`.
        takes_images: whether its input must be [channels, height, width].
        shares_weights: whether a unit's weights act at several positions of one example.
    """

    family: ClassVar[str]
    takes_images: ClassVar[bool]
    shares_weights: ClassVar[bool]

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """The numbers that describe it, all of which must be at least 1."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """Its size in two or three words, for people."""

    @abstractmethod
    def __str__(self) -> str:
        """Its entry in the text of an architecture."""

    @abstractmethod
    def bound(self, number: int, input_shape: tuple[int, ...], precision: Precision) -> Layer:
        """The layer for an input of one example's shape; `number` counts layers from 1.

        Raises:
            GeometryError: the layer does not fit such an input.
        """


@dataclass(frozen=True)
class Dense(LayerSpec):
    """A fully-connected hidden layer."""

    units: int

    family = "fc"
    takes_images = False
    shares_weights = False

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.units,)

    @property
    def summary(self) -> str:
        return f"{self.units} units"

    def __str__(self) -> str:
        return str(self.units)

    def bound(self, number: int, input_shape: tuple[int, ...], precision: Precision) -> DenseLayer:
        return DenseLayer(f"layer {number} (dense {self.units})", math.prod(input_shape), self.units, precision)


@dataclass(frozen=True)
class Conv(LayerSpec):
    """A convolutional hidden layer: square kernel, valid padding."""

    filters: int
    kernel: int
    stride: int = 1

    family = "conv"
    takes_images = True
    shares_weights = True

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.filters, self.kernel, self.stride)

    @property
    def summary(self) -> str:
        return f"{self.filters} of {self.kernel}×{self.kernel}"

    def __str__(self) -> str:
        return f"{self.filters}/{self.kernel}/{self.stride}"

    def bound(self, number: int, input_shape: tuple[int, ...], precision: Precision) -> ConvLayer:
        if len(input_shape) != 3:
            raise GeometryError(
                f"layer {number} is a convolution, but its input has the shape {input_shape}: give images of "
                f"(channels, height, width)"
            )
        name = f"layer {number} (conv {self.filters}, {self.kernel}×{self.kernel}, stride {self.stride})"
        return ConvLayer(name, (input_shape[0], input_shape[1], input_shape[2]), self, precision)


# ------------------------------------------------------------------------------------------ layers bound to a geometry


class Layer(ABC):
    """One weight layer with its geometry; it stores no weights.

    Attributes:
        name: its number and size, for messages.
        weight_shape: shape of W without the replica axis; the first axis counts units (of a convolution: filters).
        fan_in: incoming connections of one unit.
        input_shape: shape of one example's input.
        output_shape: shape of one example's pre-activations.
        precision: of its weights and products.
        shares_weights: whether a unit's weights act at several positions of one example. Then one example's update of
            a weight is a sum over positions; otherwise it is the product of one δ and one input.
    """

    name: str
    weight_shape: tuple[int, ...]
    fan_in: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    precision: Precision
    shares_weights: bool

    @property
    def units(self) -> int:
        """Number of pre-activations of one example."""
        return math.prod(self.output_shape)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of W x for one example; δ W and δᵀ x cost as many."""
        return self.units // self.weight_shape[0] * math.prod(self.weight_shape)

    @abstractmethod
    def activations(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        """f(W x + b) (equation 1), [R, N, *output_shape]; without `activation`, f is the identity."""

    @abstractmethod
    def input_error(self, delta: Tensor, matrix: Tensor) -> Tensor:
        """δ sent back to the layer's input through `matrix`, shaped like W: [R, N, *input_shape]; BP takes W itself."""

    @abstractmethod
    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The local product (Σₙ δₙᵀ xₙ, Σₙ δₙ), shaped like (W, b); with BP's δ it is the mean gradient."""

    @abstractmethod
    def bias_update(self, delta: Tensor) -> Tensor:
        """Σₙ δₙ, shaped like b."""

    @abstractmethod
    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        """The weight update in parts, each with its place in W, to be applied one after the other.

        If the layer chooses the size of the parts, they are `share` times smaller than usual.
        """

    @abstractmethod
    def tiled(self, examples: int) -> bool:
        """Whether `tiles` makes the update of so many examples in several parts on a CPU, never as a whole."""

    def adder(self, x: Tensor, delta: Tensor) -> Callable[..., None] | None:
        """A function that adds multiples of the update to W, in place, without making the update.

        It is called as `kernels.add_outer_` is: (W, factors, equal=…, folded=…). None if making the update and adding
        it is faster, or the only way.
        """
        return None

    @abstractmethod
    def as_images(self, weight: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        """Weights [units, …] of a first layer as pictures [units, C, H, W] of what each unit looks for."""

    @abstractmethod
    def torch_module(self) -> nn.Module:
        """The same layer in `torch.nn`, with torch's own initial weights."""


class DenseLayer(Layer):
    """A fully-connected layer: W ∈ [R, O, I]."""

    shares_weights = False

    def __init__(self, name: str, inputs: int, outputs: int, precision: Precision) -> None:
        self.name = name
        self.weight_shape = (outputs, inputs)
        self.fan_in = inputs
        self.input_shape = (inputs,)
        self.output_shape = (outputs,)
        self.precision = precision

    def activations(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        return kernels.affine(x, weight, bias, self.precision, activation)

    def input_error(self, delta: Tensor, matrix: Tensor) -> Tensor:
        return kernels.product(delta, matrix, self.precision)

    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return kernels.outer(delta, x, self.precision), self.bias_update(delta)

    def bias_update(self, delta: Tensor) -> Tensor:
        return delta.sum(1)

    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        return kernels.outer_tiles(delta, x, self.precision, share)

    def tiled(self, examples: int) -> bool:
        return not self.precision.mixed and examples * self.multiply_adds >= kernels.LARGE_PRODUCT

    def adder(self, x: Tensor, delta: Tensor) -> Callable[..., None] | None:
        if not kernels.prefers_add_outer(delta, x, self.precision):
            return None
        return functools.partial(kernels.add_outer_, delta_RNO=delta, x_RNI=x, precision=self.precision)

    def as_images(self, weight: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        return weight.reshape(-1, *image_shape)

    def torch_module(self) -> nn.Module:
        return nn.Linear(self.fan_in, self.units)


class ConvLayer(Layer):
    """A convolution with valid padding: W ∈ [R, F, C, K, K].

    Raises:
        GeometryError: the kernel is larger than the image it would slide over.
    """

    shares_weights = True

    def __init__(self, name: str, image: tuple[int, int, int], spec: Conv, precision: Precision) -> None:
        channels, height, width = image
        if spec.kernel > min(height, width):
            raise GeometryError(
                f"{name} has a kernel of {spec.kernel}×{spec.kernel}, but its input is only {height}×{width}: use a "
                f"smaller kernel, smaller strides or fewer layers before it, or larger images"
            )
        self.name = name
        self.kernel, self.stride = spec.kernel, spec.stride
        self.weight_shape = (spec.filters, channels, spec.kernel, spec.kernel)
        self.fan_in = channels * spec.kernel**2
        self.input_shape = image
        self.output_shape = (
            spec.filters,
            (height - spec.kernel) // spec.stride + 1,
            (width - spec.kernel) // spec.stride + 1,
        )
        self.precision = precision

    def activations(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        return kernels.convolve(x, weight, bias, self.stride, self.precision, activation)

    def input_error(self, delta: Tensor, matrix: Tensor) -> Tensor:
        _, height, width = self.input_shape
        return kernels.convolve_error(delta, matrix, self.stride, height, width, self.precision)

    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        weight = kernels.convolve_outer(delta, x, self.kernel, self.stride, self.precision)
        return weight, self.bias_update(delta)

    def bias_update(self, delta: Tensor) -> Tensor:
        # In two steps: PyTorch splits a sum to one number between threads, and would do so for one replica only.
        return delta.sum((3, 4)).sum(1)

    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        if not kernels.per_replica(delta.device):
            yield (slice(None),), kernels.convolve_outer(delta, x, self.kernel, self.stride, self.precision)
            return
        for r in range(delta.shape[0]):
            one = slice(r, r + 1)
            update = kernels.convolve_outer(
                delta[one], x[one] if x.shape[0] > 1 else x, self.kernel, self.stride, self.precision
            )
            yield (r,), update[0]

    def tiled(self, examples: int) -> bool:
        return False

    def as_images(self, weight: Tensor, image_shape: tuple[int, ...]) -> Tensor:
        return weight

    def torch_module(self) -> nn.Module:
        return nn.Conv2d(self.input_shape[0], self.weight_shape[0], self.kernel, self.stride)
