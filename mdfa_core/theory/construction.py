"""Theorem 1 made into a function: a free net as a mono-net that computes the same.

Axes: R replica, O/I units out and in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.errors import InvalidValue
from mdfa_core.networks import Architecture, Dense, Network, Parameters

ODD = ("tanh", "hard-tanh", "identity")
"""Activations with f(−a) = −f(a): a unit of the opposite sign is the unit with the opposite weights and bias."""


def mono_net(network: Network, parameters: Parameters, *, fewest: bool = False) -> tuple[Network, Parameters]:
    """A mono-net (Definition 1) that computes the same function as a fully-connected net with free weights.

    A sigmoid net first becomes a tanh net by σ(a) = ½ (1 + tanh(a/2)): a hidden layer's weights and bias are halved,
    and the layer above it takes W/2 and b + ½ W·1. Then every hidden unit h gets a mirror image −h = f(−a), which is
    the unit with the opposite weights and bias, so that no layer above the first needs a weight below 0: with
    W⁺ = max(W, 0) and W⁻ = max(−W, 0),

        W h = W⁺ h + W⁻ (−h)   and   −W h = W⁻ h + W⁺ (−h).

    For one hidden layer of N sigmoid units and one output this is the paper's construction with 2N tanh units,
    v̂ = ½ max(v, 0) and ½ max(−v, 0), c = ½ Σ v. It holds for any depth and number of outputs as well.

    Args:
        network: fully-connected, with the activation sigmoid or one of `ODD`.
        parameters: its weights and biases, R replicas.
        fewest: leave out what the proof can spare. With one output a unit whose output weight is negative is replaced
            by its mirror image instead of being given one, so the last hidden layer keeps its N units; with one hidden
            layer the mono-net is then no larger than the free net.

    Returns:
        The mono-net, of the same precision (activation tanh for sigmoid, else the same), and its parameters.

    Raises:
        InvalidValue: the net has convolutions, no hidden layer, or another activation; or `fewest` was asked for a net
            of several outputs.

    Source: Theorem 1 and appendix A.1 (Theorem 3). The text's derivation shows no ½ inside the tanh, in spite of
    equation (16); without it the two functions differ.
    """
    if not network.hidden or not all(isinstance(spec, Dense) for spec in network.architecture.hidden):
        raise InvalidValue(
            f"the network {network.architecture} cannot be made a mono-net: give one with hidden layers, all "
            f"fully-connected (fc:N)"
        )
    if fewest and network.outputs > 1:
        raise InvalidValue(
            f"the fewest units were asked for a net of {network.outputs} outputs, where a unit may be needed with both "
            f"signs: leave fewest out, or give a net of one output"
        )
    weights = [weight.double() for weight in parameters.weights]
    biases = [bias.double() for bias in parameters.biases]
    activation = network.activation
    if activation is ACTIVATIONS["sigmoid"]:
        activation = ACTIVATIONS["tanh"]
        _sigmoid_to_tanh(weights, biases)
    elif activation not in [ACTIVATIONS[name] for name in ODD]:
        raise InvalidValue(
            f"the activation {activation.title} has no mirror image: give a net with one of sigmoid, {', '.join(ODD)}"
        )
    if fewest:
        sign = torch.where(weights[-1] < 0, -1.0, 1.0)  # [R, 1, N]
        weights[-2], biases[-2] = sign.mT * weights[-2], sign[:, 0] * biases[-2]
        weights[-1] = weights[-1].abs()
    mirrored = len(network.hidden) - fewest  # hidden layers whose units get mirror images
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
    """The largest |difference| of any logit of two nets on the same inputs [R or 1, N, …]."""
    one, other = (network.forward(parameters, inputs).logits_RNC.double() for network, parameters in (first, second))
    return (one - other).abs().max().item()


def _sigmoid_to_tanh(weights: list[Tensor], biases: list[Tensor]) -> None:
    """Rewrite a sigmoid net's parameters, in these lists, as those of the tanh net that computes the same."""
    for n in range(len(weights) - 1):
        weights[n], biases[n] = weights[n] / 2, biases[n] / 2
        biases[n + 1] = biases[n + 1] + weights[n + 1].sum(2) / 2
        weights[n + 1] = weights[n + 1] / 2


def _mirrored(weight: Tensor, number: int, mirrored: int) -> Tensor:
    """Layer `number`'s weights [R, O, I] when the first `mirrored` layers of units have mirror images beside them."""
    rows = [weight, -weight] if number < mirrored else [weight]
    if not 0 < number <= mirrored:  # its inputs have none
        return torch.cat(rows, 1)
    return torch.cat([torch.cat([row.clamp(min=0), (-row).clamp(min=0)], 2) for row in rows], 1)
