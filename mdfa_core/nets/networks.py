"""Architectures and their presets, and networks bound to an image shape: parameters and the forward pass.

Axes: R replica, N example, C channels, H W space. Every parameter has a leading replica axis; see `nets.layers` for the
shapes of one layer's weights.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdfa_core.base.errors import GeometryError, InvalidValue, UnknownName
from mdfa_core.base.registry import Registry
from mdfa_core.compute import kernels
from mdfa_core.compute.kernels import Precision
from mdfa_core.nets.activations import Activation
from mdfa_core.nets.layers import Conv, Dense, DenseLayer, Layer, LayerSpec

# ------------------------------------------------------------------------------------------------------- architectures


@dataclass(frozen=True)
class Architecture:
    """The hidden layers of a network, convolutions first. Every network ends in a dense output layer.

    Raises:
        InvalidValue: a size is not a positive integer, or a convolution follows a dense layer.
    """

    hidden: tuple[LayerSpec, ...]

    def __post_init__(self) -> None:
        for number, layer in enumerate(self.hidden, 1):
            if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in layer.sizes):
                raise InvalidValue(f"hidden layer {number} is {layer!r}: every size must be an integer of at least 1")
            if number > 1 and layer.takes_images and not self.hidden[number - 2].takes_images:
                raise InvalidValue(
                    f"hidden layer {number} is a convolution after a dense layer: put convolutions first"
                )

    def __str__(self) -> str:
        families = itertools.groupby(self.hidden, lambda layer: layer.family)
        return "+".join(f"{family}:{','.join(map(str, layers))}" for family, layers in families) or "fc:"


NETWORKS: Registry[Architecture] = Registry("network")
"""Presets of hidden layers by name, as `--network` and `Experiment(network=…)` take them."""
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

    `fc:` lists widths and may be empty (no hidden layer). `conv:` lists filters/kernel/stride (stride 1 by default),
    and `conv:16/3/1+fc:64` adds dense layers after the convolutions.

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


# -------------------------------------------------------------------------------------- parameters and forward pass


@dataclass(frozen=True)
class Parameters:
    """Weights and biases of every layer, first to last, each with a leading replica axis.

    Attributes:
        weights: W_l, [R, O, I] of a dense layer and [R, F, C, K, K] of a convolution.
        biases: b_l, [R, O] or [R, F].
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def replica(self, replica: int) -> Parameters:
        """One replica as a stack of one; the tensors are views."""
        one = slice(replica, replica + 1)
        return Parameters(tuple(w[one] for w in self.weights), tuple(b[one] for b in self.biases))

    def tensors(self) -> tuple[Tensor, ...]:
        """Weights and biases in a fixed order: W1, b1, W2, b2, …"""
        return tuple(tensor for pair in zip(self.weights, self.biases, strict=True) for tensor in pair)

    def clone(self) -> Parameters:
        """A copy that shares no memory."""
        return Parameters(
            tuple(kernels.stack(list(w)) for w in self.weights), tuple(kernels.stack(list(b)) for b in self.biases)
        )

    @staticmethod
    def stack(replicas: Sequence[Parameters], device: torch.device | str = "cpu") -> Parameters:
        """Stack single networks as replicas; a single network that is already on the device is returned as it is."""
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
class ForwardPass:
    """The results of one forward pass that learning and measuring need.

    Attributes:
        inputs: h_{l−1}, the input of every layer in the layer's shape; R of the first may be 1 to serve every replica.
        saved: for every hidden layer, a_l or h_l, whichever the activation's `backward` reads, [R, N, *output_shape].
        logits_RNC: pre-activations of the output layer.
    """

    inputs: tuple[Tensor, ...]
    saved: tuple[Tensor, ...]
    logits_RNC: Tensor


class Network:
    """The layers of a network with all their shapes. It has no weights: the `Parameters` of R replicas are given to it.

    Args:
        architecture: the hidden layers, see `parse_architecture`.
        input_shape: of one example: (channels, height, width) of an image, or (numbers,).
        outputs: size of the output layer: 1 (a sigmoid, two classes), or one per class (a softmax).
        activation: f of every hidden layer; the output layer has none.
        precision: number format of weights and products.

    Attributes:
        layers: all layers, each with `weight_shape`, `input_shape` and `output_shape`.
        hidden: all layers but the last.

    Example:
        >>> from mdfa_core import ACTIVATIONS, Network
        >>> from mdfa_core.nets.networks import parse_architecture
        >>> network = Network(parse_architecture("fc:3"), (4,), outputs=1, activation=ACTIVATIONS["tanh"])
        >>> [layer.weight_shape for layer in network.layers]
        [(3, 4), (1, 3)]

    Raises:
        GeometryError: a layer does not fit its input; the message names it and the sizes.
        InvalidValue: `outputs` is below 1.
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
            raise InvalidValue(f"outputs is {outputs}: give an integer of at least 1")
        self.architecture = architecture
        self.input_shape = tuple(int(size) for size in input_shape)
        self.outputs = outputs
        self.activation = activation
        self.precision = precision
        layers: list[Layer] = []
        shape = self.input_shape
        for number, spec in enumerate(architecture.hidden, 1):
            layers.append(spec.bound(number, shape, precision))
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
        """Feedback from arrays of the `shapes` that a transport needs, with or without a leading replica axis.

        The units of a convolution may be flattened to one axis, in the order (filter, row, column).

        Raises:
            GeometryError: an array has another shape.
        """
        return self._stacks("feedback", feedback, shapes, device)

    def _stacks(
        self, what: str, arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]], device: torch.device | str
    ) -> tuple[Tensor, ...]:
        if len(arrays) != len(shapes):
            raise GeometryError(f"{what}: {len(arrays)} arrays were given, but {len(shapes)} are needed")
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
        """Images as the input of the first layer, in the network's precision and memory order.

        Args:
            images: [R or 1, N, C, H, W], or [R or 1, N, numbers]; uint8 is divided by 255, floats stay as they are.

        Returns:
            [R or 1, N, *input shape of the first layer].
        """
        if images.dtype == torch.uint8:
            images = images.to(self.precision.storage).div_(255)
        else:
            images = images.to(self.precision.storage)
        return self._as_input(0, images)

    def _as_input(self, layer: int, h: Tensor) -> Tensor:
        """Images or activations [R, N, …] in the shape and memory order that layer number `layer` reads."""
        shape = self.layers[layer].input_shape
        x = h if h.shape[2:] == shape else h.reshape(*h.shape[:2], *shape)
        return kernels.to_kernel_layout(x) if x.dim() == 5 else x

    def forward(self, parameters: Parameters, inputs: Tensor) -> ForwardPass:
        """The forward pass: a_l = W_l h_{l−1} + b_l and h_l = f(a_l); the last a_l are the logits (equation 1).

        Args:
            parameters: of R replicas.
            inputs: h_0 as `inputs_from` makes it, [R, N, *shape of the first layer's input], or [1, N, …] for a batch
                that all replicas share.
        """
        layer_inputs, saved = [inputs], []
        fused = self.activation if self.activation.from_output else None
        for number, layer in enumerate(self.hidden):
            kept = layer.activations(layer_inputs[-1], parameters.weights[number], parameters.biases[number], fused)
            saved.append(kept)
            h = kept if fused else self.activation.function(kept)
            layer_inputs.append(self._as_input(number + 1, h))
        logits = self.layers[-1].activations(layer_inputs[-1], parameters.weights[-1], parameters.biases[-1], None)
        return ForwardPass(tuple(layer_inputs), tuple(saved), logits)

    def updates(self, forward_pass: ForwardPass, deltas: Sequence[Tensor]) -> Parameters:
        """ΔW_l = δ_lᵀ h_{l−1} and Δb_l = Σ δ_l, summed over the examples: what replaces the gradient (equation 2).

        Args:
            forward_pass: of R replicas.
            deltas: δ_l of every layer, [R, N, *output_shape]; with the 1/N of the output error, sums are means.
        """
        pairs = [
            layer.update(x, delta.reshape(*delta.shape[:2], *layer.output_shape))
            for layer, x, delta in zip(self.layers, forward_pass.inputs, deltas, strict=True)
        ]
        return Parameters(tuple(w for w, _ in pairs), tuple(b for _, b in pairs))
