"""Theorem 1 as a function: rewrite a network with free weights as a mono-net that computes the same.

Axes: R replica, O/I units out and in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture, Network, Parameters

ODD = ("tanh", "hard-tanh", "identity")
"""Odd activations, f(−a) = −f(a): negating a unit's weights and bias negates its output."""


def mono_net(network: Network, parameters: Parameters, *, fewest: bool = False) -> tuple[Network, Parameters]:
    """A mono-net (Definition 1) that computes the same function as a fully-connected network with free weights.

    A sigmoid network first becomes a tanh network, by σ(a) = ½ (1 + tanh(a/2)). Each hidden layer's weights and biases
    are halved, and the layer above gets W/2 and b + ½ W·1. Then every hidden unit h gets a mirror unit −h = f(−a), with
    negated weights and bias. So no layer above the first needs a negative weight: with W⁺ = max(W, 0) and
    W⁻ = max(−W, 0),

        W h = W⁺ h + W⁻ (−h)   and   −W h = W⁻ h + W⁺ (−h).

    For one hidden layer of N sigmoid units and one output, this is the paper's construction with 2N tanh units:
    v̂ = ½ max(v, 0) and ½ max(−v, 0), c = ½ Σ v. The construction here works for any depth and number of outputs.

    Args:
        network: fully-connected, with activation sigmoid or one of `ODD`.
        parameters: weights and biases of R replicas.
        fewest: omit mirror units that one output does not need. A unit of the last hidden layer with a negative output
            weight is replaced by its mirror unit, so this layer keeps its N units. With one hidden layer, the mono-net
            then has as many units as the free network.

    Returns:
        The mono-net and its parameters. Its precision is that of `network`, and its activation too, except that sigmoid
        becomes tanh.

    Raises:
        InvalidValue: the network has convolutions, no hidden layer or another activation, or `fewest` is set and there
            are several outputs.

    Source: M. Lechner, ICLR 2020, Theorem 1 and appendix A.1 (Theorem 3). The derivation in the text lacks the ½ inside
    the tanh, unlike equation (16). Without it, the two functions differ.
    """
    if not network.hidden or any(spec.shares_weights for spec in network.architecture.hidden):
        raise InvalidValue(
            f"the network {network.architecture} cannot be made a mono-net: give one with hidden layers, all "
            f"fully-connected (fc:N)"
        )
    if fewest and network.outputs > 1:
        raise InvalidValue(f"fewest needs a network with one output, but this one has {network.outputs}: omit fewest")
    weights = [weight.double() for weight in parameters.weights]
    biases = [bias.double() for bias in parameters.biases]
    activation = network.activation
    if activation is ACTIVATIONS["sigmoid"]:
        activation = ACTIVATIONS["tanh"]
        _sigmoid_to_tanh(weights, biases)
    elif activation not in [ACTIVATIONS[name] for name in ODD]:
        raise InvalidValue(
            f"the activation {activation.title} has no mirror image: give a network with one of sigmoid, "
            f"{', '.join(ODD)}"
        )
    if fewest:
        sign = torch.where(weights[-1] < 0, -1.0, 1.0)  # [R, 1, N]
        weights[-2], biases[-2] = sign.mT * weights[-2], sign[:, 0] * biases[-2]
        weights[-1] = weights[-1].abs()
    mirrored = len(network.hidden) - fewest  # hidden layers whose units get mirror units
    made = [_mirrored(weight, n, mirrored) for n, weight in enumerate(weights)]
    made_biases = [torch.cat([b, -b], 1) if n < mirrored else b for n, b in enumerate(biases)]
    mono = Network(
        Architecture(tuple(Dense(bias.shape[1]) for bias in made_biases[:-1])),
        network.input_shape,
        network.outputs,
        activation,
        network.precision,
    )
    return mono, mono.parameters_from(made, made_biases, device=parameters.weights[0].device)


def largest_difference(first: tuple[Network, Parameters], second: tuple[Network, Parameters], inputs: Tensor) -> float:
    """The largest absolute difference between the logits of two networks on the same inputs [R or 1, N, …]."""
    one, other = (network.forward(parameters, inputs).logits_RNC.double() for network, parameters in (first, second))
    return (one - other).abs().max().item()


def _sigmoid_to_tanh(weights: list[Tensor], biases: list[Tensor]) -> None:
    """Replace a sigmoid network's parameters in these lists by those of a tanh network that computes the same."""
    for n in range(len(weights) - 1):
        weights[n], biases[n] = weights[n] / 2, biases[n] / 2
        biases[n + 1] = biases[n + 1] + weights[n + 1].sum(2) / 2
        weights[n + 1] = weights[n + 1] / 2


def _mirrored(weight: Tensor, number: int, mirrored: int) -> Tensor:
    """The weights [R, O, I] of layer `number`, if the first `mirrored` hidden layers have mirror units."""
    rows = [weight, -weight] if number < mirrored else [weight]
    if not 0 < number <= mirrored:  # its inputs have no mirror units
        return torch.cat(rows, 1)
    return torch.cat([torch.cat([row.clamp(min=0), (-row).clamp(min=0)], 2) for row in rows], 1)
