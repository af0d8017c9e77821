"""The neighbouring rules of the paper's sections 2 and 3: other answers to where a hidden layer's error comes from.

Axes: R replica, N example, T term of a sum, C output; a layer's units keep the layer's own shape. Layers count from 0
in the code and from 1 in formulas; L is the output layer, f the activation of the hidden layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core import kernels, losses
from mdfa_core.networks import Network, Parameters, Trace
from mdfa_core.registry import Table
from mdfa_core.transports import (
    Direct,
    FeedbackShape,
    LayerByLayer,
    Moment,
    Products,
    Signals,
    Transport,
    brought_back,
    shaped_like_weights,
)

# ------------------------------------------------------------------------------------------------------- sign-symmetry

MAGNITUDES: Table[str] = Table("kind of magnitudes")
MAGNITUDES.add("uniform", "all 1: V = sign(W)")
MAGNITUDES.add("batch", "drawn from U[0, 1) for every mini-batch")
MAGNITUDES.add("fixed", "the absolute values of fixed random feedback")


class SignSymmetric(LayerByLayer):
    """ε_l = δ_{l+1} V_{l+1} with V = |M| ⊙ sign(W): the signs of the forward weights, other sizes.

    M is 1 (uSF), drawn anew for every mini-batch (brSF), or drawn once (frSF, from the run's feedback distribution).
    With |M| = |W| it would be BP. A weight that is exactly 0 has no sign and carries nothing.

    Args:
        magnitudes: a name in `MAGNITUDES`.

    Source: Liao, Leibo and Poggio (AAAI 2016), "How important is weight symmetry in backpropagation?", uSF, brSF, frSF.
    Their batch normalisation and "batch Manhattan" are not part of the rule; the optimizer `signsgd` is the latter.
    """

    keeps_signs = True
    doubt = (
        "has the signs of the weights but not their sizes: where a unit hears from several others, the sum can come "
        "out with the other sign."
    )
    told = "back through the signs of the forward weights"

    def __init__(self, magnitudes: str) -> None:
        MAGNITUDES[magnitudes]
        self.magnitudes = magnitudes
        self.carrier = "sgn W{0}ᵀ" if magnitudes == "uniform" else "M{0} sgn W{0}ᵀ"
        self.needs_feedback = magnitudes == "fixed"
        self.draws = magnitudes == "batch"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1) if self.needs_feedback else ()

    def workspace(self, network: Network, examples: int) -> int:
        upper = sum(math.prod(layer.weight_shape) for layer in network.layers[1:])
        return upper if self.magnitudes == "uniform" else 3 * upper  # signs; sizes, and the two together

    def matrices(self, parameters: Parameters, feedback: Sequence[Tensor], moment: Moment | None) -> Sequence[Tensor]:
        upper = parameters.weights[1:]
        if self.magnitudes == "batch":
            assert moment is not None
            feedback = [moment.drawn(torch.rand, "feedback magnitudes", number, w) for number, w in enumerate(upper)]
        if not feedback:
            return [self.matrix(weight, None) for weight in upper]
        return [self.matrix(weight, size) for weight, size in zip(upper, feedback, strict=True)]

    def matrix(self, weight: Tensor, size: Tensor | None) -> Tensor:
        """V for one W and one M of its shape, None for 1."""
        return weight.sign() if size is None else weight.sign() * size.abs()


# -------------------------------------------------------------------------------------------------------------- direct


class DirectSign(Direct):
    """ε_l = sign(e) B_l / N: DFA that is told only whether an output was too high or too low (sDFA).

    The mean over the N examples is kept, as in e. With one sigmoid output sign(e) = 1 − 2y: the label alone, whatever
    the net says, so that hidden layers never stop moving.

    Source: Frenkel, Lefebvre and Bol (2021), "Learning without feedback: fixed random learning signals allow for
    feedforward training of deep neural networks" (DRTP), where sDFA is the step between DFA and DRTP.
    """

    told = "the error's sign, straight to every layer"

    def sent(self, error: Tensor, moment: Moment) -> Tensor:
        return error.sign() / error.shape[1]


class DirectTarget(Direct):
    """ε_l = −y* B_l / N: the labels projected, no error at all (DRTP).

    y* is one-hot for a softmax and the label 0 or 1 for one sigmoid output: then images of class 0 move no hidden
    layer. Of the error e = p − y* only −y* is left: the sign e has at the right class. The released code projects +y*,
    the same rule for a B that is symmetric about 0.

    Source: Frenkel, Lefebvre and Bol (2021), as `DirectSign`.
    """

    told = "the label, straight to every layer"

    def sent(self, error: Tensor, moment: Moment) -> Tensor:
        return losses.targets(error, moment.labels_RN) / -error.shape[1]


# ----------------------------------------------------------------------------------------------------- learned feedback


class KolenPollack(LayerByLayer):
    """ε_l = δ_{l+1} B_{l+1}, and B learns as W does: both get the same ΔW, and both decay.

    With SGD, W ← W − η (g + λ W) and B ← B − η (g + λ B), hence W − B ← (1 − η λ)(W − B): B comes to equal W, and the
    rule BP, if the run's penalty λ (`l2`) is positive. Without it W − B stays what it was at the start. Other
    optimizers keep slots for B, too; their steps shrink W − B in direction only.

    Source: Kolen and Pollack (1994); Akrout et al. (NeurIPS 2019), "Deep learning without weight transport".
    """

    learns_feedback = True
    keeps_signs = True
    doubt = (
        "learns its feedback: errors have the true signs only where it has come to equal the forward weights, which "
        "takes time and a penalty (l2) above 0."
    )
    told = "back through weights that learn as the forward ones do"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1)

    def matrices(self, parameters: Parameters, feedback: Sequence[Tensor], moment: Moment | None) -> Sequence[Tensor]:
        return feedback

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment | None = None,
    ) -> Signals:
        carried = super().signals(network, parameters, feedback, trace, error, moment)

        def updates() -> list[Tensor]:
            upper = range(1, len(network.layers))
            return [network.layers[n].update(trace.inputs[n], carried.deltas[n])[0] for n in upper]

        return Signals(carried.errors, carried.deltas, feedback=updates)


class TargetPropagation(Transport):
    """Targets ĥ in place of errors, brought down by learned inverses g_l, with the difference correction (DTP).

    The last hidden layer's target is a step of the true gradient, ĥ_{L−1} = h_{L−1} − s N e W_L (its e has the 1/N of
    the mean in it). Below, ĥ_{l−1} = h_{l−1} + g_l(ĥ_l) − g_l(h_l) with g_l(h) = f(h V_l), V_l shaped like W_l; of a
    convolution, f of the transposed convolution. A layer learns to come closer to its target, which is the shared
    product with ε_l = (h_l − ĥ_l)/(s N): so scaled, ε is BP's in the last hidden layer, and below it W_l⁻¹ stands where
    BP has W_lᵀ if f is the identity and g_l exact: a Gauss-Newton direction, BP's own if W_l is orthogonal.

    V_l learns, at the run's rate by the run's optimizer, to undo its layer at h̃ = h_{l−1} + σ ξ, ξ ~ N(0, 1) drawn for
    every mini-batch: ½ ‖g_l(f(h̃ W_lᵀ + b_l)) − h̃‖², mean over the examples. V has no bias. A net of one hidden layer
    has no inverse to learn: there the rule is BP.

    Args:
        step: s, how far the topmost target is from what is.
        noise: σ.

    Source: Lee, Zhang, Fischer and Bengio (2015), "Difference target propagation", algorithm 1; Meulemans et al. (2020)
    for Gauss-Newton.
    """

    learns_feedback = True
    draws = True
    doubt = "brings targets down through learned inverses: below the last hidden layer no sign is sure."
    way = "chain"
    carrier, carrier_on_top = "V{0}", "W{0}ᵀ"
    told = "targets, down through learned inverses"

    def __init__(self, *, step: float = 0.1, noise: float = 0.1) -> None:
        self.step, self.noise = step, noise

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1)[:-1]

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment,
    ) -> Signals:
        hidden, f = network.hidden, network.activation
        scale = self.step * error.shape[1]
        errors: list[Tensor] = []
        for number in reversed(range(len(hidden))):
            if not errors:
                errors.append(brought_back(network, number, error, parameters.weights[-1]))
                continue
            # g before f is linear: what ĥ lies below h is brought down for itself, and loses nothing to rounding.
            a, change = (
                brought_back(network, number, at, feedback[number])
                for at in (_units(network, trace, number + 1), errors[-1])
            )
            errors.append((f.function(a) - f.function(a - scale * change)) / scale)
        deltas = [f.backward(epsilon, saved) for epsilon, saved in zip(errors[::-1], trace.saved, strict=True)]

        def updates() -> list[Tensor]:
            return [
                self._inverse_update(network, parameters, feedback[number], trace, number, moment)
                for number in range(len(feedback))
            ]

        return Signals(errors[::-1], (*deltas, error), feedback=updates)

    def _inverse_update(
        self, network: Network, parameters: Parameters, v: Tensor, trace: Trace, below: int, moment: Moment
    ) -> Tensor:
        """∂/∂V of how far g misses the noisy activity of hidden layer `below`."""
        layer, f = network.layers[below + 1], network.activation
        h = _units(network, trace, below)
        noisy = h + self.noise * moment.drawn(torch.randn, "noise of targets", below, h)
        up = f.function(
            layer.activations(
                noisy.reshape(*noisy.shape[:2], *layer.input_shape),
                parameters.weights[below + 1],
                parameters.biases[below + 1],
                None,
            )
        )
        a = brought_back(network, below, up, v)
        back = f.function(a)
        delta = f.backward((back - noisy) / h.shape[1], back if f.from_output else a)
        return layer.update(delta.reshape(*delta.shape[:2], *layer.input_shape), up)[0]


def _units(network: Network, trace: Trace, number: int) -> Tensor:
    """h of hidden layer `number` in its own shape."""
    h = trace.inputs[number + 1]
    return h.reshape(*h.shape[:2], *network.hidden[number].output_shape)


# ---------------------------------------------------------------------------------------------------------- two phases


class ContrastiveHebbian(Transport):
    """The net settles twice with weak feedback, once free and once with its output held to the target (CHL).

    A state is an equilibrium of x_k = f(W_k x_{k−1} + b_k + γ W_{k+1}ᵀ x_{k+1}) with x_0 the image; x_L is σ(z), or
    softmax(z), in the free phase x̂ and the target y* in the held phase x̌. The update is Hebbian in the held phase and
    anti-Hebbian in the free one,

        ΔW_k ∝ γ^{k−L} (x̌_k x̌_{k−1}ᵀ − x̂_k x̂_{k−1}ᵀ),    Δb_k ∝ γ^{k−L} (x̌_k − x̂_k),

    and as γ → 0 it is BP's: that the units of x_L are not linear, as in the paper, is made up for by the cross-entropy,
    whose e = x_L − y* has no derivative in it. It is delivered as the two products of the midpoint form,
    x̌ x̌ᵀ − x̂ x̂ᵀ = Δx x̄ᵀ + x̄ Δxᵀ, so that nothing large is subtracted. δ_k = −γ^{k−L} Δx_k / N, and ε_k = δ_{k+1} W_{k+1}
    is what the feedback of the two phases differs by. Predictions are made by the forward pass alone (γ = 0).

    Both phases take a fixed number of sweeps, down and up, in float64: Δx_k is of the size γ^{L−k}. A sweep shrinks
    what is missing by about γ ‖W‖²: where that is not below 1 nothing settles and the rule fails.

    Args:
        gamma: γ.
        sweeps: sweeps of each phase.

    Source: Xie and Seung (2003), "Equivalence of backpropagation and contrastive Hebbian learning in a layered
    network"; Movellan (1991).
    """

    needs_feedback = False
    doubt = "is backpropagation only in the limit of weak feedback: small errors can come out with the other sign."
    way = "chain"
    carrier = "γW{0}ᵀ"
    told = "weak feedback, the output once free and once held to the label"

    def __init__(self, *, gamma: float = 0.01, sweeps: int = 6) -> None:
        self.gamma, self.sweeps = gamma, sweeps

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return ()

    def workspace(self, network: Network, examples: int) -> int:
        # In float64: weights, while they are converted twice; the image; of every unit the forward pass, what presses
        # on it, its state in both phases, what these differ by and their mean, ε and δ, and the four terms of two
        # products; and these once more as the net's own numbers, of half the size.
        units = sum(layer.units for layer in network.layers)
        return 2 * (2 * network.parameter_count + examples * (math.prod(network.input_shape) + 14 * units))

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment,
    ) -> Signals:
        if not network.hidden:
            return Signals((), (error,))
        name = "float32" if kernels.summing_dtype(error.device) is torch.float32 else "float64"
        wide = Network(
            network.architecture, network.input_shape, network.outputs, network.activation, kernels.PRECISIONS[name]
        )
        settled = _Settled(wide, _widened(wide, parameters), trace.inputs[0].to(wide.precision.storage), self)
        target = losses.targets(error.to(wide.precision.storage), moment.labels_RN).expand_as(error)
        free = settled.phase(None)
        held = settled.phase(target)
        changes = [b - a for a, b in zip(free, held, strict=True)]
        middles = [(a + b) / 2 for a, b in zip(free, held, strict=True)]

        last, storage = len(wide.hidden), network.precision.storage
        factors = [-(self.gamma ** (number - last)) / error.shape[1] for number in range(last + 1)]
        deltas = [factor * change for factor, change in zip(factors, changes, strict=True)]
        products: list[tuple[Tensor, Tensor]] = [(deltas[0].unsqueeze(2), trace.inputs[0].unsqueeze(2))]
        for number in range(1, last + 1):
            shape = (*error.shape[:2], *wide.layers[number].input_shape)
            products.append(
                (
                    torch.stack([deltas[number], factors[number] * middles[number]], 2),
                    torch.stack([middles[number - 1].reshape(shape), changes[number - 1].reshape(shape)], 2),
                )
            )
        errors = [
            brought_back(wide, number, deltas[number + 1], settled.parameters.weights[number + 1])
            for number in range(last)
        ]
        return Signals(
            [epsilon.to(storage) for epsilon in errors],
            (*(delta.to(storage) for delta in deltas[:-1]), error),
            products=_narrowed(products, storage),
        )


class _Settled:
    """A net whose states settle between its image and its output."""

    def __init__(self, network: Network, parameters: Parameters, inputs: Tensor, rule: ContrastiveHebbian) -> None:
        self.network, self.parameters, self.rule = network, parameters, rule
        trace = network.forward(parameters, inputs)
        self._start = [_units(network, trace, number) for number in range(len(network.hidden))]
        first = network.layers[0].activations(inputs, parameters.weights[0], parameters.biases[0], None)
        self._driven = first  # what the image adds to the first layer never changes
        self._free: list[Tensor] | None = None

    def phase(self, target: Tensor | None) -> list[Tensor]:
        """x_1 … x_L [R, N, *units] with the output free, or held to the target; the held phase starts where it was."""
        hidden = len(self.network.hidden)
        states = list(self._free[:-1] if self._free is not None else self._start)
        output = self._output(states) if target is None else target
        order = [*reversed(range(hidden)), *range(1, hidden)]  # down and up again
        for _ in range(self.rule.sweeps):
            for number in order:
                above = states[number + 1] if number + 1 < hidden else output
                heard = brought_back(self.network, number, above, self.parameters.weights[number + 1])
                a = self._driven if number == 0 else self._pressed(number, states[number - 1])
                states[number] = self.network.activation.function(a + self.rule.gamma * heard)
            if target is None:
                output = self._output(states)
        if target is None:
            self._free = [*states, output]
        return [*states, output]

    def _output(self, states: Sequence[Tensor]) -> Tensor:
        z = self._pressed(len(states), states[-1])
        return torch.sigmoid(z) if z.shape[2] == 1 else torch.softmax(z, 2)

    def _pressed(self, number: int, below: Tensor) -> Tensor:
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
