"""Error transports: where a hidden layer's error signal ε_l comes from.

A transport reads one forward pass, the output error e and the `Moment`, and delivers `Signals`: ε and δ of every layer
and, where the rule has such, products of its own and updates of its feedback. It keeps nothing between two batches.

Axes: R replica, N example, T term of a sum; a layer's units keep the layer's own shape. C output.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mdfa_core import kernels
from mdfa_core.networks import Network, Parameters, Trace
from mdfa_core.rng import torch_generator

Products = Sequence[tuple[Tensor, Tensor]]


class Signals:
    """What one method delivers for one mini-batch.

    Args:
        errors: per hidden layer ε_l (for BP: ∂L/∂h_l), [R, N, *output_shape], or a function that makes them: learning
            needs only δ, so a transport may leave ε to those who ask for it.
        deltas: per layer δ_l = ε_l ⊙ f′(a_l) (for BP: ∂L/∂a_l); the last one is the output error e.
        products: per layer (δ [R, N, T, *output_shape], h [R or 1, N, T, *input_shape]), if its update is not
            δ_lᵀ h_{l−1} but Σ_t δ_tᵀ h_t; a bias learns by the first term.
        feedback: makes what the rule puts in place of a gradient of its feedback, one tensor each, if that learns.
    """

    def __init__(
        self,
        errors: Sequence[Tensor] | Callable[[], Sequence[Tensor]],
        deltas: Sequence[Tensor],
        *,
        products: Products | None = None,
        feedback: Callable[[], Sequence[Tensor]] | None = None,
    ) -> None:
        self._errors = errors
        self._feedback = feedback
        self.deltas = tuple(deltas)
        self.products = None if products is None else tuple(products)

    @functools.cached_property
    def errors(self) -> tuple[Tensor, ...]:
        """ε_l of every hidden layer."""
        return tuple(self._errors() if callable(self._errors) else self._errors)

    @functools.cached_property
    def feedback(self) -> tuple[Tensor, ...]:
        """The updates of the feedback, before the optimizer; none where it is fixed."""
        return () if self._feedback is None else tuple(self._feedback())

    def factors(self, number: int, trace: Trace) -> tuple[Tensor, Tensor]:
        """(δ, h) of layer `number`, [R, N T, …]: the weights' update is Σ δᵀ h over the second axis."""
        if self.products is None:
            return self.deltas[number], trace.inputs[number]
        delta, h = self.products[number]
        return delta.flatten(1, 2), h.flatten(1, 2)

    def bias_delta(self, number: int) -> Tensor:
        """δ [R, N, …] of layer `number`, whose sum over the examples is its bias's update."""
        return self.deltas[number] if self.products is None else self.products[number][0][:, :, 0]

    def updates(self, network: Network, trace: Trace) -> Parameters:
        """What the method puts in place of the mean gradient ∂L/∂θ, shaped like the parameters (BP: the gradient)."""
        if self.products is None:
            return network.updates(trace, self.deltas)
        weights, biases = [], []
        for number, layer in enumerate(network.layers):
            delta, h = self.factors(number, trace)
            weights.append(layer.update(h, delta)[0])
            biases.append(layer.bias_update(self.bias_delta(number)))
        return Parameters(tuple(weights), tuple(biases))


@dataclass(frozen=True)
class Moment:
    """What a transport may read besides a forward pass and its error: the labels, and chance.

    Nothing drawn here depends on anything but a replica's seed and the number of the mini-batch, so that a run can be
    resumed bit for bit, and a replica draws the same numbers alone and in a stack.

    Attributes:
        labels_RN: int64 labels of the mini-batch; R may be 1 to serve every replica.
        step: updates made before this mini-batch.
        seeds: one per replica.
    """

    labels_RN: Tensor
    step: int = 0
    seeds: tuple[int, ...] = (0,)

    def replica(self, r: int) -> Moment:
        """The same for one replica."""
        return Moment(kernels.replica(self.labels_RN, r), self.step, self.seeds[r : r + 1])

    def drawn(self, draw: Callable[..., Tensor], purpose: str, number: int, like: Tensor) -> Tensor:
        """Numbers that are new at every step, [R, …] of a replica's shape in `like`; the same in every precision.

        Args:
            draw: takes a shape and a `generator`, as `torch.rand` and `torch.randn` do.
            purpose: what they are for.
            number: tells apart several of one purpose.
            like: a tensor [R or 1, …] of that shape, type and device.
        """
        made = [
            draw(tuple(like.shape[1:]), generator=torch_generator(seed, f"{purpose} {number}", self.step))
            for seed in self.seeds
        ]
        return kernels.stack([numbers.to(like.device, like.dtype) for numbers in made])


@dataclass(frozen=True)
class FeedbackShape:
    """One feedback tensor: its shape without the replica axis, and how many errors come into each unit it feeds."""

    shape: tuple[int, ...]
    fan_in: int


class Transport(ABC):
    """Answers where the error signal ε_l of hidden layer l comes from.

    Attributes:
        needs_feedback: whether it carries errors through feedback weights of its own.
        learns_feedback: whether these learn; the optimizer then remembers about them what it does about weights.
        draws: whether it asks its `Moment` for numbers that are new at every step.
        exact: whether ε_l is the true ∂L/∂h_l.
        keeps_signs: whether an error of one output reaches every unit with its sign if f is monotone and all weights
            above the first layer and the feedback are ≥ 0: what Theorem 2 asks of a transport.
        doubt: what is to be said of the signs where no constraint makes them sure; follows the method's title.
        way: how it is drawn, "chain" (from layer to layer) or "direct" (from the output); "" leaves it to the shapes of
            the feedback.
        carrier: what carries an error, for drawings; {0} is the layer's number as a subscript.
        carrier_on_top: the same for the output layer, where it is another.
        told: the way in words.
    """

    needs_feedback: bool = True
    learns_feedback: bool = False
    draws: bool = False
    exact: bool = False
    keeps_signs: bool = False
    doubt: str = "has unconstrained signs: nothing guarantees that an error has the right one."
    way: str = ""
    carrier: str = "B{0}"
    carrier_on_top: str | None = None
    told: str = ""

    @abstractmethod
    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        """The random feedback this transport starts from, one entry per tensor, or none at all."""

    def workspace(self, network: Network, examples: int) -> int:
        """Numbers one replica holds while signals are made, besides weights, feedback, forward pass and ε and δ."""
        return 0

    @abstractmethod
    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment,
    ) -> Signals:
        """ε and δ of every layer, from the output error e [R, N, C]; nothing is changed."""


def shaped_like_weights(network: Network, first: int) -> tuple[FeedbackShape, ...]:
    """Feedback shaped like the weights of layer `first` (from 0) and every layer above that has a place in it.

    A unit below hears from every unit (for a convolution: every filter and offset) of the layer.
    """
    return tuple(
        FeedbackShape(layer.weight_shape, math.prod(layer.weight_shape) // layer.weight_shape[1])
        for layer in network.layers[first:]
    )


class LayerByLayer(Transport):
    """Layer by layer from the output: ε_l = δ_{l+1} M_{l+1}; what M is, a subclass says."""

    way = "chain"

    @abstractmethod
    def matrices(self, parameters: Parameters, feedback: Sequence[Tensor], moment: Moment | None) -> Sequence[Tensor]:
        """M_{l+1} of every hidden layer l, shaped like W_{l+1}."""

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment | None = None,
    ) -> Signals:
        matrices = self.matrices(parameters, feedback, moment)
        errors: list[Tensor] = []
        deltas = [error]
        for below in reversed(range(len(network.hidden))):
            epsilon = brought_back(network, below, deltas[-1], matrices[below])
            errors.append(epsilon)
            deltas.append(network.activation.backward(epsilon, trace.saved[below]))
        return Signals(errors[::-1], deltas[::-1])


def brought_back(network: Network, below: int, delta: Tensor, matrix: Tensor) -> Tensor:
    """δ of the layer above hidden layer `below` (from 0), at that layer's units: [R, N, *output_shape]."""
    epsilon = network.layers[below + 1].transported(delta, matrix)
    return epsilon.reshape(*epsilon.shape[:2], *network.hidden[below].output_shape)


class Chain(LayerByLayer):
    """ε_l = δ_{l+1} M_{l+1}, as equations (3) to (5) with M = W for BP.

    With `fixed` feedback, B_{l+1} stands where BP has W_{l+1} and has its shape (Lillicrap et al. 2016).
    """

    def __init__(self, *, fixed: bool) -> None:
        self.fixed = self.needs_feedback = self.keeps_signs = fixed
        self.exact = not fixed
        self.carrier = "B{0}" if fixed else "W{0}ᵀ"
        self.told = f"back through {'fixed random weights' if fixed else 'the forward weights themselves'}"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1) if self.fixed else ()

    def matrices(self, parameters: Parameters, feedback: Sequence[Tensor], moment: Moment | None) -> Sequence[Tensor]:
        return feedback if self.fixed else parameters.weights[1:]


class Direct(Transport):
    """Straight from the output: ε_l = e B_l with B_l ∈ [R, outputs, *units of l], equation (6) (Nøkland 2016).

    No layer waits for another and no product with Wᵀ is made: that is its speed.
    """

    keeps_signs = True
    way = "direct"
    told = "straight to every layer"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return tuple(FeedbackShape((network.outputs, *layer.output_shape), network.outputs) for layer in network.hidden)

    def sent(self, error: Tensor, moment: Moment) -> Tensor:
        """What goes to every layer, [R or 1, N, C]: e itself."""
        return error

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        trace: Trace,
        error: Tensor,
        moment: Moment,
    ) -> Signals:
        sent = self.sent(error, moment)
        deltas = [
            kernels.spread_through(sent, b, saved, network.activation, network.precision)
            for b, saved in zip(feedback, trace.saved, strict=True)
        ]
        return Signals(lambda: [kernels.spread(sent, b, network.precision) for b in feedback], (*deltas, error))
