"""Difference target propagation (DTP): targets come down through learned inverses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules.methods import METHODS, Method, Words
from mdfa_core.rules.transport import (
    FeedbackShape,
    Signals,
    StepContext,
    Transport,
    backproject,
    hidden_activity,
    shaped_like_weights,
)


class TargetPropagation(Transport):
    """Targets ĥ_l instead of errors, brought down by learned inverses g_l with the difference correction (DTP).

    The target of the last hidden layer is a step along the true gradient, ĥ_{L−1} = h_{L−1} − s N e W_L (e contains the
    1/N of the mean). Below it, ĥ_{l−1} = h_{l−1} + g_l(ĥ_l) − g_l(h_l) with g_l(h) = f(h V_l) and V_l shaped like W_l;
    in a convolution, f of the transposed convolution. A layer learns to come closer to its target: the local product
    with ε_l = (h_l − ĥ_l)/(s N). With this scale ε is BP's in the last hidden layer. Below it, if f is the identity and
    g_l exact, W_l⁻¹ takes the place of BP's W_lᵀ: a Gauss-Newton direction, and BP's own if W_l is orthogonal.

    V_l learns, with the run's optimizer and rate, to invert its layer at h̃ = h_{l−1} + σ ξ, where ξ ~ N(0, 1) is drawn
    for every mini-batch. Its loss is ½ ‖g_l(f(h̃ W_lᵀ + b_l)) − h̃‖², averaged over the examples. V has no bias. A
    network with one hidden layer has no inverse to learn, and the rule is BP.

    Args:
        step: s, the distance of the topmost target in units of the gradient.
        noise: σ.

    Source: Lee, Zhang, Fischer and Bengio (2015), "Difference target propagation", algorithm 1; Meulemans et al. (2020)
    for Gauss-Newton.
    """

    learns_feedback = True
    draws = True
    unattachable = "needs an inverse of every layer, which is defined for the nets of mdfa_core only"
    route = "chain"

    def __init__(self, *, step: float = 0.1, noise: float = 0.1) -> None:
        self.step, self.noise = step, noise

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1)[:-1]

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        hidden, f = network.hidden, network.activation
        scale = self.step * error.shape[1]
        errors: list[Tensor] = []
        for number in reversed(range(len(hidden))):
            if not errors:
                errors.append(backproject(network, number, error, parameters.weights[-1]))
                continue
            # g without f is linear: bringing down the difference h − ĥ by itself loses nothing to rounding.
            a, change = (
                backproject(network, number, at, feedback[number])
                for at in (hidden_activity(network, forward_pass, number + 1), errors[-1])
            )
            errors.append((f.function(a) - f.function(a - scale * change)) / scale)
        deltas = [f.backward(epsilon, saved) for epsilon, saved in zip(errors[::-1], forward_pass.saved, strict=True)]

        def updates() -> list[Tensor]:
            return [
                self._inverse_update(network, parameters, feedback[number], forward_pass, number, context)
                for number in range(len(feedback))
            ]

        return Signals(errors[::-1], (*deltas, error), feedback=updates)

    def _inverse_update(
        self,
        network: Network,
        parameters: Parameters,
        v: Tensor,
        forward_pass: ForwardPass,
        below: int,
        context: StepContext,
    ) -> Tensor:
        """∂/∂V of the loss of g at the noisy activity of hidden layer `below`."""
        layer, f = network.layers[below + 1], network.activation
        h = hidden_activity(network, forward_pass, below)
        noisy = h + self.noise * context.draw(torch.randn, "noise of targets", below, h)
        up = f.function(
            layer.activations(
                noisy.reshape(*noisy.shape[:2], *layer.input_shape),
                parameters.weights[below + 1],
                parameters.biases[below + 1],
                None,
            )
        )
        a = backproject(network, below, up, v)
        back = f.function(a)
        delta = f.backward((back - noisy) / h.shape[1], back if f.from_output else a)
        return layer.update(delta.reshape(*delta.shape[:2], *layer.input_shape), up)[0]


METHODS.add(
    "dtp",
    Method(
        title="DTP",
        description="difference target propagation: targets come down through learned inverses",
        transport=TargetPropagation(),
        words=Words(
            signs="brings targets down through learned inverses: below the last hidden layer no sign is guaranteed.",
            path="targets, down through learned inverses",
            carrier="V{0}",
            top_carrier="W{0}ᵀ",
        ),
    ),
)
