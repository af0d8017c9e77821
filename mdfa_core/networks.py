"""Layer specs, presets, and networks bound to their images: parameters [R, …] and the forward pass to a `Trace`.

Axes: R replica, N example, I/O units in and out, C channels, F filters, K kernel, H W space. Weights have torch's
layout, W ∈ [R, O, I] as in the paper's equation (1), convolutions [R, F, C, K, K].
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdfa_core import kernels
from mdfa_core.activations import Activation
from mdfa_core.errors import GeometryError, InvalidValue, UnknownName
from mdfa_core.kernels import Precision
from mdfa_core.registry import Table

# ---------------------------------------------------------------------------------------------- what a net is made of


@dataclass(frozen=True)
class Dense:
    """A fully-connected hidden layer."""

    units: int

    def __str__(self) -> str:
        return str(self.units)


@dataclass(frozen=True)
class Conv:
    """A convolutional hidden layer: square kernel, valid padding."""

    filters: int
    kernel: int
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.filters}/{self.kernel}/{self.stride}"


@dataclass(frozen=True)
class Architecture:
    """The hidden layers of a net, convolutions first; a dense output layer follows whatever they are.

    Raises:
        InvalidValue: a size is not a positive integer, or a convolution follows a dense layer.
    """

    hidden: tuple[Dense | Conv, ...]

    def __post_init__(self) -> None:
        for number, layer in enumerate(self.hidden, 1):
            sizes = (layer.units,) if isinstance(layer, Dense) else (layer.filters, layer.kernel, layer.stride)
            if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
                raise InvalidValue(f"hidden layer {number} is {layer!r}: every size must be an integer of at least 1")
            if number > 1 and isinstance(layer, Conv) and isinstance(self.hidden[number - 2], Dense):
                raise InvalidValue(
                    f"hidden layer {number} is a convolution after a dense layer: put convolutions first"
                )

    def __str__(self) -> str:
        convolutions = ",".join(str(layer) for layer in self.hidden if isinstance(layer, Conv))
        dense = ",".join(str(layer) for layer in self.hidden if isinstance(layer, Dense))
        if not convolutions:
            return f"fc:{dense}"
        return f"conv:{convolutions}" + (f"+fc:{dense}" if dense else "")


NETWORKS: Table[Architecture] = Table("network")
NETWORKS.add("plane-fc", Architecture((Dense(32), Dense(32))))
NETWORKS.add("digits-fc", Architecture((Dense(128), Dense(128))))
NETWORKS.add("digits-conv", Architecture((Conv(16, 3, 1), Conv(32, 3, 2))))
NETWORKS.add("cifar-fc", Architecture((Dense(1024), Dense(1024))))
NETWORKS.add("cifar-conv", Architecture((Conv(96, 5, 2), Conv(96, 3, 2), Conv(96, 3, 1))))
NETWORKS.add("imagenet-fc", Architecture((Dense(1024),) * 4))
NETWORKS.add(
    "imagenet-conv",  # as printed in appendix B.1
    Architecture((Conv(96, 3, 2), Conv(96, 5, 1), Conv(128, 3, 2), Conv(192, 3, 1), Conv(192, 3, 2), Conv(384, 3, 1))),
)
NETWORKS.add(
    "imagenet-conv-released",  # as in the released code
    Architecture(
        (
            Conv(96, 9, 4),
            Conv(96, 3, 2),
            Conv(128, 5, 1),
            Conv(128, 3, 2),
            Conv(192, 3, 1),
            Conv(192, 3, 2),
            Conv(384, 3, 1),
        )
    ),
)


def parse_architecture(text: str | Architecture) -> Architecture:
    """The architecture a preset's name or a text such as `fc:128,128`, `fc:`, `conv:96/5/2,96/3/1` describes.

    `fc:` lists widths and may be empty (no hidden layer); `conv:` lists filters/kernel/stride (stride 1 if left out),
    and `conv:16/3/1+fc:64` puts dense layers after them.

    Raises:
        UnknownName: neither a preset nor such a text.
        InvalidValue: a size in it is not a positive integer.
    """
    if isinstance(text, Architecture):
        return text
    if text in NETWORKS:
        return NETWORKS[text]
    match = (
        re.fullmatch(r"fc:(?P<only>[^+]*)|conv:(?P<conv>[^+]+)(?:\+fc:(?P<fc>[^+]+))?", text)
        if isinstance(text, str)
        else None
    )
    if not match:
        raise UnknownName("network", text, [*NETWORKS, "fc:WIDTH,…", "conv:FILTERS/KERNEL/STRIDE,…"])
    convolutions_text, dense_text = match["conv"], match["fc"] or match["only"]
    try:
        convolutions = [Conv(*(int(size) for size in item.split("/"))) for item in _items(convolutions_text)]
        dense = [Dense(int(item)) for item in _items(dense_text)]
    except (TypeError, ValueError):
        raise InvalidValue(
            f"the network {text!r} has a size that is missing or no integer: write fc:128,128 or conv:96/5/2,96/3/1"
        ) from None
    return Architecture((*convolutions, *dense))


def _items(text: str | None) -> list[str]:
    return text.split(",") if text else []


# ------------------------------------------------------------------------------------------ layers bound to a geometry


class Layer(ABC):
    """One weight layer with its geometry; it holds no numbers.

    Attributes:
        weight_shape: shape of W without the replica axis.
        fan_in: incoming connections of one unit.
        input_shape: what one example looks like to this layer.
        output_shape: what one example's pre-activations look like.
    """

    name: str
    weight_shape: tuple[int, ...]
    fan_in: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    precision: Precision

    @property
    def units(self) -> int:
        """Number of pre-activations of one example."""
        return math.prod(self.output_shape)

    @abstractmethod
    def activations(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        """f(W x + b) (equation 1), [R, N, *output_shape]; f is the identity if left out."""

    @abstractmethod
    def transported(self, delta: Tensor, matrix: Tensor) -> Tensor:
        """δ brought back to this layer's input by `matrix`, shaped like W: [R, N, *input_shape]; BP takes W itself."""

    @abstractmethod
    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The one shared product: (Σₙ δₙᵀ xₙ, Σₙ δₙ), shaped like (W, b); with BP's δ the mean gradient."""

    @abstractmethod
    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        """The weight update in parts, each with its place in W, to be applied one after the other.

        Where the size of the parts is free, they are `share` times smaller than usual.
        """

    @abstractmethod
    def bias_update(self, delta: Tensor) -> Tensor:
        """Σₙ δₙ, shaped like b."""


class DenseLayer(Layer):
    """A fully-connected layer: W ∈ [R, O, I]."""

    def __init__(self, name: str, inputs: int, outputs: int, precision: Precision) -> None:
        self.name = name
        self.weight_shape = (outputs, inputs)
        self.fan_in = inputs
        self.input_shape = (inputs,)
        self.output_shape = (outputs,)
        self.precision = precision

    def activations(self, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        return kernels.affine(x, weight, bias, self.precision, activation)

    def transported(self, delta: Tensor, matrix: Tensor) -> Tensor:
        return kernels.product(delta, matrix, self.precision)

    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        return kernels.outer(delta, x, self.precision), self.bias_update(delta)

    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        return kernels.outer_tiles(delta, x, self.precision, share)

    def bias_update(self, delta: Tensor) -> Tensor:
        return delta.sum(1)


class ConvLayer(Layer):
    """A convolution with valid padding: W ∈ [R, F, C, K, K].

    Raises:
        GeometryError: the kernel is larger than the image it would slide over.
    """

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

    def transported(self, delta: Tensor, matrix: Tensor) -> Tensor:
        _, height, width = self.input_shape
        return kernels.convolve_error(delta, matrix, self.stride, height, width, self.precision)

    def update(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        weight = kernels.convolve_outer(delta, x, self.kernel, self.stride, self.precision)
        return weight, self.bias_update(delta)

    def tiles(self, x: Tensor, delta: Tensor, share: int = 1) -> Iterator[tuple[kernels.Index, Tensor]]:
        if not kernels.in_turn(delta.device):
            yield (slice(None),), kernels.convolve_outer(delta, x, self.kernel, self.stride, self.precision)
            return
        for r in range(delta.shape[0]):
            one = slice(r, r + 1)
            update = kernels.convolve_outer(
                delta[one], x[one] if x.shape[0] > 1 else x, self.kernel, self.stride, self.precision
            )
            yield (r,), update[0]

    def bias_update(self, delta: Tensor) -> Tensor:
        # In two steps: PyTorch splits a sum to one number between threads, and would do so for one replica only.
        return delta.sum((3, 4)).sum(1)


# ------------------------------------------------------------------------------------------- numbers and forward pass


@dataclass(frozen=True)
class Parameters:
    """Weights and biases of every layer, first to last, each with a leading replica axis."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def replica(self, replica: int) -> Parameters:
        """One replica as a stack of one: views, not copies."""
        one = slice(replica, replica + 1)
        return Parameters(tuple(w[one] for w in self.weights), tuple(b[one] for b in self.biases))

    def tensors(self) -> tuple[Tensor, ...]:
        """Weights and biases in a fixed order: W1, b1, W2, b2, …"""
        return tuple(tensor for pair in zip(self.weights, self.biases, strict=True) for tensor in pair)

    def clone(self) -> Parameters:
        """A copy that shares nothing."""
        return Parameters(
            tuple(kernels.stack(list(w)) for w in self.weights), tuple(kernels.stack(list(b)) for b in self.biases)
        )

    @staticmethod
    def stack(replicas: Sequence[Parameters], device: torch.device | str = "cpu") -> Parameters:
        """Single nets as the replicas of one stack; a single one that is where it should be is taken as it is."""
        if len(replicas) == 1 and replicas[0].weights[0].device == torch.device(device):
            return replicas[0]
        return Parameters(
            tuple(
                kernels.stack([w[0].to(device) for w in column])
                for column in zip(*(p.weights for p in replicas), strict=True)
            ),
            tuple(
                kernels.stack([b[0].to(device) for b in column])
                for column in zip(*(p.biases for p in replicas), strict=True)
            ),
        )


@dataclass(frozen=True)
class Trace:
    """What one forward pass leaves for learning and measurement.

    Attributes:
        inputs: h_{l−1}, the input of every layer in that layer's shape; the first may have one replica for all.
        saved: per hidden layer what its activation's `backward` reads (a_l or h_l), [R, N, *output_shape].
        logits_RNC: pre-activations of the output layer.
    """

    inputs: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]
    logits_RNC: Tensor


class Network:
    """An architecture bound to an image shape, an output count, an activation and a precision; it holds no weights.

    Raises:
        GeometryError: a layer does not fit its input; the message names it and the sizes.
    """

    def __init__(
        self,
        architecture: Architecture,
        input_shape: Sequence[int],
        outputs: int,
        activation: Activation,
        precision: Precision = kernels.PRECISIONS["float32"],
    ) -> None:
        if outputs < 1:
            raise InvalidValue(f"a net of {outputs} outputs was asked for: have at least 1")
        self.architecture = architecture
        self.input_shape = tuple(int(size) for size in input_shape)
        self.outputs = outputs
        self.activation = activation
        self.precision = precision
        layers: list[Layer] = []
        shape = self.input_shape
        for number, spec in enumerate(architecture.hidden, 1):
            if isinstance(spec, Conv):
                if len(shape) != 3:
                    raise GeometryError(
                        f"layer {number} is a convolution, but its input has the shape {shape}: give images of "
                        f"(channels, height, width)"
                    )
                name = f"layer {number} (conv {spec.filters}, {spec.kernel}×{spec.kernel}, stride {spec.stride})"
                layers.append(ConvLayer(name, (shape[0], shape[1], shape[2]), spec, precision))
            else:
                layers.append(
                    DenseLayer(f"layer {number} (dense {spec.units})", math.prod(shape), spec.units, precision)
                )
            shape = layers[-1].output_shape
        layers.append(DenseLayer(f"layer {len(layers) + 1} (output {outputs})", math.prod(shape), outputs, precision))
        self.layers = tuple(layers)
        self.hidden = self.layers[:-1]

    @property
    def parameter_count(self) -> int:
        """Weights and biases of one replica."""
        return sum(math.prod(layer.weight_shape) + layer.weight_shape[0] for layer in self.layers)

    def parameters_from(
        self, weights: Sequence[Any], biases: Sequence[Any] | None = None, device: torch.device | str = "cpu"
    ) -> Parameters:
        """Parameters from arrays, one per layer, with or without a leading replica axis; biases default to 0.

        Raises:
            GeometryError: an array's shape is not its layer's.
        """
        shapes = [layer.weight_shape for layer in self.layers]
        made = self._stacks("weights", weights, shapes, device)
        replicas = made[0].shape[0]
        bias_shapes = [(shape[0],) for shape in shapes]
        if biases is None:
            biases = [np.zeros((replicas, *shape)) for shape in bias_shapes]
        made_biases = self._stacks("biases", biases, bias_shapes, device)
        if any(tensor.shape[0] != replicas for tensor in (*made, *made_biases)):
            raise GeometryError("the arrays have different numbers of replicas: give each the same leading axis")
        return Parameters(made, made_biases)

    def feedback_from(
        self, feedback: Sequence[Any], shapes: Sequence[tuple[int, ...]], device: torch.device | str = "cpu"
    ) -> tuple[Tensor, ...]:
        """Feedback from arrays of the `shapes` a transport asks for, with or without a leading replica axis.

        The units of a convolution may be flattened to one axis, in the order (filter, row, column).

        Raises:
            GeometryError: an array's shape is another.
        """
        return self._stacks("feedback", feedback, shapes, device)

    def _stacks(
        self, what: str, arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]], device: torch.device | str
    ) -> tuple[Tensor, ...]:
        if len(arrays) != len(shapes):
            raise GeometryError(f"{what} of {len(arrays)} arrays were given, but {len(shapes)} are needed")
        tensors = []
        for number, (array, shape) in enumerate(zip(arrays, shapes, strict=True), 1):
            tensor = torch.as_tensor(array).detach().to(device, self.precision.storage)
            flat = (shape[0], math.prod(shape[1:])) if what == "feedback" else shape
            if tensor.shape in (shape, flat):
                tensor = tensor.unsqueeze(0)
            if tensor.shape[1:] == flat:
                tensor = tensor.reshape(-1, *shape)
            if tensor.shape[1:] != shape:
                raise GeometryError(
                    f"{what} {number} have the shape {tuple(tensor.shape)}: give {shape}, or the same with a leading "
                    f"replica axis"
                )
            tensors.append(kernels.stack(list(tensor)))
        return tuple(tensors)

    def inputs_from(self, images: Tensor) -> Tensor:
        """uint8 images [R, N, C, H, W] (or floats in [0, 1]) as the first layer takes them, scaled to [0, 1]."""
        if images.dtype == torch.uint8:
            images = images.to(self.precision.storage).div_(255)
        else:
            images = images.to(self.precision.storage)
        return self._as_input(0, images)

    def _as_input(self, layer: int, h: Tensor) -> Tensor:
        """Images or a layer's activations [R, N, …] in the shape and memory order that `layer` reads."""
        shape = self.layers[layer].input_shape
        x = h if h.shape[2:] == shape else h.reshape(*h.shape[:2], *shape)
        return kernels.laid_out(x) if x.dim() == 5 else x

    def forward(self, parameters: Parameters, inputs: Tensor) -> Trace:
        """The forward pass, equation (1).

        Args:
            parameters: of R replicas.
            inputs: [R, N, *shape of the first layer's input], or [1, N, …] for a batch all replicas share.
        """
        layer_inputs, saved = [inputs], []
        fused = self.activation if self.activation.from_output else None
        for number, layer in enumerate(self.hidden):
            kept = layer.activations(layer_inputs[-1], parameters.weights[number], parameters.biases[number], fused)
            saved.append(kept)
            h = kept if fused else self.activation.function(kept)
            layer_inputs.append(self._as_input(number + 1, h))
        logits = self.layers[-1].activations(layer_inputs[-1], parameters.weights[-1], parameters.biases[-1], None)
        return Trace(tuple(layer_inputs), tuple(saved), logits)

    def updates(self, trace: Trace, deltas: Sequence[Tensor]) -> Parameters:
        """The local products of every layer, δ times input: the gradient's stand-in, shaped like the parameters."""
        pairs = [
            layer.update(x, delta.reshape(*delta.shape[:2], *layer.output_shape))
            for layer, x, delta in zip(self.layers, trace.inputs, deltas, strict=True)
        ]
        return Parameters(tuple(w for w, _ in pairs), tuple(b for _, b in pairs))
