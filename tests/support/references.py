"""Reference implementations to test against: a training step in NumPy loops, gradients by autograd, and small networks.

They are slow and obvious on purpose. `Reference` uses nothing of the package: it takes arrays, works on one replica at
a time, and computes in float64. The functions at the end build small networks, learners and batches for tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mdfa_core.compute.kernels import precision_named
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS, Activation
from mdfa_core.nets.layers import ConvLayer
from mdfa_core.nets.networks import Network, Parameters, parse_architecture
from mdfa_core.rules.methods import METHODS, Method

Array = NDArray[np.float64]

# ------------------------------------------------------------------------------------------------------------- rounding


def tensor_float(number: float) -> float:
    """A float32 number rounded to 10 bits of mantissa, to the nearest, ties away from zero, by exact fractions."""
    if not math.isfinite(number) or number == 0:
        return number
    exponent = max(math.frexp(number)[1] - 1, -126)
    unit = Fraction(2) ** (exponent - 10)
    units = math.floor(abs(Fraction(number)) / unit + Fraction(1, 2))
    size = units * unit
    return math.copysign(math.inf if size >= 2**128 else float(size), number)


# ------------------------------------------------------------------------------------------------ convolution, by loops


def convolve(x: Array, w: Array, b: Array, stride: int) -> Array:
    """[N, C, H, W] and [F, C, K, K] to [N, F, H', W']: every output is one window times one filter."""
    kernel = w.shape[2]
    height, width = (x.shape[2] - kernel) // stride + 1, (x.shape[3] - kernel) // stride + 1
    out = np.zeros((len(x), len(w), height, width))
    for i, j in np.ndindex(height, width):
        out[:, :, i, j] = windows(x, i, j, kernel, stride).reshape(len(x), -1) @ w.reshape(len(w), -1).T + b
    return out


def convolve_back(delta: Array, w: Array, stride: int, shape: tuple[int, ...]) -> Array:
    """The transposed convolution: every output's error, added to the input window the output was computed from."""
    kernel = w.shape[2]
    out = np.zeros(shape)
    for i, j in np.ndindex(delta.shape[2:]):
        seen = windows(out, i, j, kernel, stride)
        seen += (delta[:, :, i, j] @ w.reshape(len(w), -1)).reshape(seen.shape)
    return out


def convolve_gradient(delta: Array, x: Array, stride: int, shape: tuple[int, ...]) -> Array:
    """The filters' gradient: every output's error times the input window the output was computed from."""
    out = np.zeros(shape)
    for i, j in np.ndindex(delta.shape[2:]):
        out += (delta[:, :, i, j].T @ windows(x, i, j, shape[2], stride).reshape(len(x), -1)).reshape(shape)
    return out


def windows(x: Array, i: int, j: int, kernel: int, stride: int) -> Array:
    """The input window of the output at row i, column j, in every example: a view [N, C, K, K]."""
    return x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]


# -------------------------------------------------------------------------------------------- one replica, step by step

FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
    "relu": (lambda a: np.where(a > 0, a, 0.0), lambda a: np.where(a >= 0, 1.0, 0.0)),
    "hard-tanh": (lambda a: np.clip(a, -1, 1), lambda a: np.where(np.abs(a) < 1, 1.0, 0.0)),
}
"""f and f'; ReLU'(0) = 1 as in the paper's released code."""

DIRECT = {"bp": False, "fa": False, "dfa": True, "mdfa": True}
"""The paper's four methods: whether the output error is projected directly to every hidden layer. The references of the
other rules are in `tests/rules`."""

PAIRS = [
    (method, optimizer)
    for method in METHODS
    for optimizer in OPTIMIZERS
    if method in ("bp", "mdfa") or optimizer == "sgd"
]
"""Every rule and every optimizer: an optimizer sees updates alone, so a chain and a direct rule stand for all."""
"""The paper's methods with every optimizer, the other rules with plain SGD."""


@dataclass
class Reference:
    """One network, one method, one optimizer. `strides` has one number per layer, 0 for a dense layer."""

    method: str
    activation: str
    strides: Sequence[int]
    weights: list[Array]
    biases: list[Array]
    feedback: list[Array]
    optimizer: str = "sgd"
    rate: float = 0.1
    l2: float = 0.0
    floor: float = 1e-6
    inputs: list[Array] = field(default_factory=list)
    preactivations: list[Array] = field(default_factory=list)
    memory: dict[tuple[str, int], tuple[Array, ...]] = field(default_factory=dict)
    steps: int = 0

    def forward(self, x: Array) -> Array:
        f = FUNCTIONS[self.activation][0]
        self.inputs, self.preactivations = [], []
        h = x
        for layer, stride in enumerate(self.strides):
            h = h if stride else h.reshape(len(h), -1)
            self.inputs.append(h)
            w, b = self.weights[layer], self.biases[layer]
            a = convolve(h, w, b, stride) if stride else h @ w.T + b
            self.preactivations.append(a)
            h = f(a)
        return self.preactivations[-1]

    def output_error(self, labels: Sequence[int]) -> Array:
        z = self.preactivations[-1]
        error = np.zeros(z.shape)
        for n, label in enumerate(labels):
            if z.shape[1] == 1:
                error[n, 0] = 1 / (1 + math.exp(-z[n, 0])) - label
            else:
                total = sum(math.exp(value) for value in z[n])
                error[n] = [math.exp(value) / total - (c == label) for c, value in enumerate(z[n])]
        return error / len(labels)

    def signals(self, labels: Sequence[int]) -> tuple[list[Array], list[Array]]:
        """Error signals of the hidden layers, and δ of all layers."""
        derivative = FUNCTIONS[self.activation][1]
        e = self.output_error(labels)
        errors, deltas = [], [e]
        for layer in reversed(range(len(self.strides) - 1)):
            shape = self.preactivations[layer].shape
            if DIRECT[self.method]:
                epsilon = e @ self.feedback[layer].reshape(e.shape[1], -1)  # outputs × units
            else:
                back = self.weights[layer + 1] if self.method == "bp" else self.feedback[layer]
                stride = self.strides[layer + 1]
                above = deltas[0]
                epsilon = convolve_back(above, back, stride, shape) if stride else above @ back
            errors.insert(0, epsilon.reshape(shape))
            deltas.insert(0, errors[0] * derivative(self.preactivations[layer]))
        return errors, deltas

    def updates(self, x: Array, labels: Sequence[int]) -> list[tuple[Array, Array]]:
        """(ΔW, Δb) of every layer, before the optimizer."""
        self.forward(x)
        pairs = []
        for layer, delta in enumerate(self.signals(labels)[1]):
            if self.strides[layer]:
                w = convolve_gradient(delta, self.inputs[layer], self.strides[layer], self.weights[layer].shape)
                pairs.append((w, delta.sum((0, 2, 3))))
            else:
                pairs.append(
                    (sum(np.outer(d, h) for d, h in zip(delta, self.inputs[layer], strict=True)), delta.sum(0))
                )
        return pairs

    def step(self, x: Array, labels: Sequence[int]) -> None:
        self.steps += 1
        for layer, (w, b) in enumerate(self.updates(x, labels)):
            self.weights[layer] = self._moved("w", layer, self.weights[layer], w + self.l2 * self.weights[layer])
            self.biases[layer] = self._moved("b", layer, self.biases[layer], b)
            if self.method == "mdfa" and layer > 0:
                self.weights[layer] = np.maximum(self.weights[layer], self.floor)

    def _moved(self, kind: str, layer: int, parameter: Array, g: Array) -> Array:
        if self.optimizer == "sgd":
            return parameter - self.rate * g
        if self.optimizer == "rmsprop":  # TensorFlow: from one, ε inside the root
            (s,) = self.memory.get((kind, layer), (np.ones_like(g),))
            s = 0.9 * s + 0.1 * g * g
            self.memory[kind, layer] = (s,)
            return parameter - self.rate * g / np.sqrt(s + 1e-10)
        if self.optimizer == "adam":  # TensorFlow: the rate is corrected, ε is not
            m, v = self.memory.get((kind, layer), (np.zeros_like(g), np.zeros_like(g)))
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            self.memory[kind, layer] = (m, v)
            rate = self.rate * math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            return parameter - rate * m / (np.sqrt(v) + 1e-8)
        if self.optimizer == "signsgd":
            return parameter - self.rate * np.sign(g)
        if self.optimizer == "rprop":  # one number after the other
            last, size = self.memory.get((kind, layer), (np.zeros_like(g), np.full_like(g, self.rate)))
            moved = parameter.copy()
            for place in np.ndindex(g.shape):
                if last[place] * g[place] > 0:
                    size[place] = min(1.2 * size[place], 50)
                elif last[place] * g[place] < 0:
                    size[place] = max(0.5 * size[place], 1e-6)
                last[place] = 0.0 if last[place] * g[place] < 0 else g[place]
                moved[place] -= size[place] * np.sign(last[place])
            self.memory[kind, layer] = (last, size)
            return moved
        raise KeyError(f"no reference for the optimizer {self.optimizer!r}: write one")


def reference_of(
    learner: Learner,
    method: str,
    activation: str,
    optimizer: str = "sgd",
    replica: int = 0,
    *,
    rate: float = 0.1,
    l2: float = 0.0,
    floor: float = 1e-6,
) -> Reference:
    """A reference with the parameters and feedback weights of one replica of a learner."""

    def arrays(tensors: Sequence[Tensor]) -> list[Array]:
        return [tensor[replica].double().numpy().copy() for tensor in tensors]

    return Reference(
        method,
        activation,
        [layer.stride if isinstance(layer, ConvLayer) else 0 for layer in learner.network.layers],
        arrays(learner.parameters.weights),
        arrays(learner.parameters.biases),
        arrays(learner.feedback),
        optimizer,
        rate,
        l2,
        floor,
    )


# ---------------------------------------------------------------------------------------------------------- by autograd


@dataclass(frozen=True)
class Autograd:
    """Loss per replica, ∂L/∂h of every hidden layer (stacked over replicas) and ∂L/∂θ in the order W1, b1, W2, …"""

    loss: Tensor
    errors: list[Tensor]
    gradients: list[Tensor]


def autograd(network: Network, parameters: Parameters, inputs: Tensor, labels_RN: Tensor) -> Autograd:
    """Gradients of the mean cross-entropy by torch.nn.functional and autograd, one replica after the other."""
    losses, errors, gradients = [], [], []
    for r in range(parameters.weights[0].shape[0]):
        leaves = [tensor[r].clone().requires_grad_() for tensor in parameters.tensors()]
        h = inputs[r if inputs.shape[0] > 1 else 0]
        labels = labels_RN[r if labels_RN.shape[0] > 1 else 0]
        hidden = []
        for number, layer in enumerate(network.layers):
            w, b = leaves[2 * number], leaves[2 * number + 1]
            if isinstance(layer, ConvLayer):
                a = functional.conv2d(h, w, b, layer.stride)
            else:
                a = functional.linear(h.flatten(1), w, b)
            if number < len(network.hidden):
                h = network.activation.function(a)
                hidden.append(h)
        if network.outputs == 1:
            loss = functional.binary_cross_entropy_with_logits(a.squeeze(1), labels.to(a.dtype))
        else:
            loss = functional.cross_entropy(a, labels)
        found = torch.autograd.grad(loss, [*hidden, *leaves])
        losses.append(loss.detach())
        errors.append(found[: len(hidden)])
        gradients.append(found[len(hidden) :])
    return Autograd(
        torch.stack(losses),
        [torch.stack(layer) for layer in zip(*errors, strict=True)],
        [torch.stack(tensor) for tensor in zip(*gradients, strict=True)],
    )


# ------------------------------------------------------------------------------------------------------ cases to run on

FULLY_CONNECTED = ("fc:", "fc:1", "fc:5", "fc:5,4", "fc:4,1,3")
CONVOLUTIONAL = ("conv:3/3/2", "conv:3/3/1,2/2/2", "conv:1/2/1,3/3/2")  # strides that leave a remainder, one filter
MIXED = ("conv:3/3/2+fc:4", "conv:2/2/1,3/3/2+fc:5,3")
ARCHITECTURES = FULLY_CONNECTED + CONVOLUTIONAL + MIXED
IMAGE = (2, 8, 7)
"""Channels, height, width: not square, so that swapped axes are noticed."""


def network_of(
    architecture: str,
    *,
    activation: str | Activation = "tanh",
    outputs: int = 1,
    image: Sequence[int] = IMAGE,
    precision: str = "float64",
) -> Network:
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    return Network(parse_architecture(architecture), image, outputs, function, precision_named(precision))


def learner_of(
    network: Network,
    method: str | Method,
    *,
    optimizer: str = "sgd",
    rates: Sequence[float] = (0.1,),
    l2: Sequence[float] | None = None,
    floor: float = 1e-6,
    seed: int = 0,
    scale: float = 0.5,
) -> Learner:
    """A learner with random weights, biases and feedback, one replica per rate. Constrained weights are positive."""
    method = METHODS[method] if isinstance(method, str) else method
    rng = np.random.default_rng(seed)
    r = len(rates)
    weights = [rng.normal(0, scale, (r, *layer.weight_shape)) for layer in network.layers]
    weights = [np.abs(w) if method.constraint.covers(number) else w for number, w in enumerate(weights)]
    biases = [rng.normal(0, scale, (r, layer.weight_shape[0])) for layer in network.layers]
    feedback = [rng.normal(0, 1, (r, *item.shape)) for item in method.transport.feedback(network)]
    feedback = [np.abs(b) if method.constraint.feedback else b for b in feedback]
    return Learner(
        network,
        method,
        OPTIMIZERS[optimizer],
        method.parameters_from(network, weights, biases),
        method.feedback_from(network, feedback),
        learning_rates=rates,
        l2=l2,
        floor=floor,
    )


def batch_of(
    network: Network, examples: int, *, replicas: int = 1, seed: int = 0, signed: bool = True
) -> tuple[Tensor, Tensor]:
    """Random inputs and labels for `replicas` batches (1: a shared batch). Inputs are non-negative if not `signed`."""
    rng = np.random.default_rng((seed, 1))
    shape = (replicas, examples, *network.input_shape)
    images = rng.normal(0, 1, shape) if signed else rng.uniform(0, 1, shape)
    labels = rng.integers(0, max(2, network.outputs), (replicas, examples))
    return network.inputs_from(torch.from_numpy(images)), torch.from_numpy(labels)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ ÷ ‖theirs‖: 0 if both are 0, infinite if a number is not finite."""
    difference, size = (ours.double() - theirs.double()).norm().item(), theirs.double().norm().item()
    if not math.isfinite(difference):
        return math.inf
    return difference / size if size else (math.inf if difference else 0.0)
