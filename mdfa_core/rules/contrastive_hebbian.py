"""Contrastive Hebbian learning (CHL): two settled states of the network, one free and one clamped to the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.nets import losses
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules.methods import METHODS, Method, Words
from mdfa_core.rules.transport import (
    FeedbackShape,
    Products,
    Signals,
    StepContext,
    Transport,
    backproject,
    hidden_activity,
)


class ContrastiveHebbian(Transport):
    """The network settles twice with weak feedback: once free, once with its output clamped to the target (CHL).

    A state is an equilibrium of x_k = f(W_k x_{k−1} + b_k + γ W_{k+1}ᵀ x_{k+1}) with x_0 the image. The output x_L is
    σ(z), or softmax(z), in the free phase x̂, and the target y* in the clamped phase x̌. The update is Hebbian in the
    clamped phase and anti-Hebbian in the free one,

        ΔW_k ∝ γ^{k−L} (x̌_k x̌_{k−1}ᵀ − x̂_k x̂_{k−1}ᵀ),    Δb_k ∝ γ^{k−L} (x̌_k − x̂_k),

    and as γ → 0 it becomes BP's. The paper's output units are linear; here the cross-entropy makes up for the
    nonlinear ones, since its e = x_L − y* contains no derivative. The update is delivered as the two products of the
    midpoint form, x̌ x̌ᵀ − x̂ x̂ᵀ = Δx x̄ᵀ + x̄ Δxᵀ, so no large numbers are subtracted. δ_k = −γ^{k−L} Δx_k / N, and
    ε_k = δ_{k+1} W_{k+1} is the difference between the feedback of the two phases. Predictions use the forward pass
    alone (γ = 0).

    Both phases take a fixed number of sweeps, down and up, in float64 because Δx_k has the size γ^{L−k}. A sweep
    shrinks the remaining distance by about γ ‖W‖². If that is not below 1, nothing settles and the rule fails.

    Args:
        gamma: γ.
        sweeps: sweeps of each phase.

    Source: Xie and Seung (2003), "Equivalence of backpropagation and contrastive Hebbian learning in a layered
    network"; Movellan (1991).
    """

    unattachable = (
        "lets a network settle with feedback between its layers, which is defined for the nets of mdfa_core only"
    )
    route = "chain"

    def __init__(self, *, gamma: float = 0.01, sweeps: int = 6) -> None:
        self.gamma, self.sweeps = gamma, sweeps

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return ()

    def workspace(self, network: Network, examples: int) -> int:
        # In float64: the weights, twice while they are converted; the image; and 14 numbers a unit: its forward pass,
        # its input, its state in both phases, their difference and mean, ε, δ, and the four terms of two products,
        # the last ones once more in the network's own precision, at half the size.
        units = sum(layer.units for layer in network.layers)
        return 2 * (2 * network.parameter_count + examples * (math.prod(network.input_shape) + 14 * units))

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        if not network.hidden:
            return Signals((), (error,))
        name = "float32" if kernels.accumulation_dtype(error.device) is torch.float32 else "float64"
        wide = Network(
            network.architecture, network.input_shape, network.outputs, network.activation, kernels.PRECISIONS[name]
        )
        settled = _Settled(wide, _widened(wide, parameters), forward_pass.inputs[0].to(wide.precision.storage), self)
        target = losses.targets(error.to(wide.precision.storage), context.labels_RN).expand_as(error)
        free = settled.phase(None)
        clamped = settled.phase(target)
        changes = [b - a for a, b in zip(free, clamped, strict=True)]
        middles = [(a + b) / 2 for a, b in zip(free, clamped, strict=True)]

        last, storage = len(wide.hidden), network.precision.storage
        factors = [-(self.gamma ** (number - last)) / error.shape[1] for number in range(last + 1)]
        deltas = [factor * change for factor, change in zip(factors, changes, strict=True)]
        products: list[tuple[Tensor, Tensor]] = [(deltas[0].unsqueeze(2), forward_pass.inputs[0].unsqueeze(2))]
        for number in range(1, last + 1):
            shape = (*error.shape[:2], *wide.layers[number].input_shape)
            products.append(
                (
                    torch.stack([deltas[number], factors[number] * middles[number]], 2),
                    torch.stack([middles[number - 1].reshape(shape), changes[number - 1].reshape(shape)], 2),
                )
            )
        errors = [
            backproject(wide, number, deltas[number + 1], settled.parameters.weights[number + 1])
            for number in range(last)
        ]
        return Signals(
            [epsilon.to(storage) for epsilon in errors],
            (*(delta.to(storage) for delta in deltas[:-1]), error),
            products=_narrowed(products, storage),
        )


class _Settled:
    """A network whose states settle between its image and its output."""

    def __init__(self, network: Network, parameters: Parameters, inputs: Tensor, rule: ContrastiveHebbian) -> None:
        self.network, self.parameters, self.rule = network, parameters, rule
        forward_pass = network.forward(parameters, inputs)
        self._start = [hidden_activity(network, forward_pass, number) for number in range(len(network.hidden))]
        first = network.layers[0].activations(inputs, parameters.weights[0], parameters.biases[0], None)
        self._first_input = first  # the image's part never changes
        self._free: list[Tensor] | None = None

    def phase(self, target: Tensor | None) -> list[Tensor]:
        """x_1 … x_L [R, N, *units], the output free or clamped to `target`; a clamped phase follows the free one."""
        hidden = len(self.network.hidden)
        states = list(self._free[:-1] if self._free is not None else self._start)
        output = self._output(states) if target is None else target
        order = [*reversed(range(hidden)), *range(1, hidden)]  # down and up again
        for _ in range(self.rule.sweeps):
            for number in order:
                above = states[number + 1] if number + 1 < hidden else output
                received = backproject(self.network, number, above, self.parameters.weights[number + 1])
                a = self._first_input if number == 0 else self._preactivation(number, states[number - 1])
                states[number] = self.network.activation.function(a + self.rule.gamma * received)
            if target is None:
                output = self._output(states)
        if target is None:
            self._free = [*states, output]
        return [*states, output]

    def _output(self, states: Sequence[Tensor]) -> Tensor:
        z = self._preactivation(len(states), states[-1])
        return torch.sigmoid(z) if z.shape[2] == 1 else torch.softmax(z, 2)

    def _preactivation(self, number: int, below: Tensor) -> Tensor:
        """W x + b of layer `number`."""
        layer = self.network.layers[number]
        x = below.reshape(*below.shape[:2], *layer.input_shape)
        return layer.activations(x, self.parameters.weights[number], self.parameters.biases[number], None)


def _widened(network: Network, parameters: Parameters) -> Parameters:
    def wide(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(kernels.stack(list(tensor.to(network.precision.storage))) for tensor in tensors)

    return Parameters(wide(parameters.weights), wide(parameters.biases))


def _narrowed(products: Products, dtype: torch.dtype) -> Products:
    return [(delta.to(dtype), h.to(dtype)) for delta, h in products]


METHODS.add(
    "chl",
    Method(
        title="CHL",
        description="contrastive Hebbian learning: the network settles free and held to the target, with weak feedback",
        transport=ContrastiveHebbian(),
        words=Words(
            signs="is backpropagation only in the limit of weak feedback: small errors can have the wrong sign.",
            path="weak feedback, the output once free and once held to the label",
            carrier="γW{0}ᵀ",
        ),
    ),
)
