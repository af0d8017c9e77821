"""Learning rules: where a hidden layer's error signal comes from, and what its weights are held to.

All rules share the forward pass, the output error e and the local product ΔW_l = δ_lᵀ h_{l−1} with
δ_l = ε_l ⊙ f′(a_l). A method is an *error transport*, which answers where ε_l comes from, plus a *constraint*.

Axes: R replica, N example; a layer's units keep the layer's own shape. Feedback has one tensor per hidden layer.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mdfa_core import kernels
from mdfa_core.activations import Activation
from mdfa_core.errors import InvalidValue
from mdfa_core.initializers import Initializer, Zeros
from mdfa_core.networks import Network, Parameters, Trace
from mdfa_core.registry import Table
from mdfa_core.rng import torch_generator


class Signals:
    """The error of every layer as one method delivers it.

    Args:
        errors: per hidden layer ε_l (for BP: ∂L/∂h_l), [R, N, *output_shape], or a function that makes them: learning
            needs only δ, so a transport may leave ε to those who ask for it.
        deltas: per layer δ_l = ε_l ⊙ f′(a_l) (for BP: ∂L/∂a_l); the last one is the output error e.
    """

    def __init__(self, errors: Sequence[Tensor] | Callable[[], Sequence[Tensor]], deltas: Sequence[Tensor]) -> None:
        self._errors = errors
        self.deltas = tuple(deltas)

    @functools.cached_property
    def errors(self) -> tuple[Tensor, ...]:
        """ε_l of every hidden layer."""
        return tuple(self._errors() if callable(self._errors) else self._errors)


@dataclass(frozen=True)
class FeedbackShape:
    """One feedback tensor: its shape without the replica axis, and how many errors come into each unit it feeds."""

    shape: tuple[int, ...]
    fan_in: int


class Transport(ABC):
    """Answers where the error signal ε_l of hidden layer l comes from.

    Attributes:
        needs_feedback: whether it carries errors through feedback weights of its own.
    """

    needs_feedback: bool = True

    @abstractmethod
    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        """The fixed random feedback this transport needs, one entry per hidden layer, or none at all."""

    @abstractmethod
    def signals(
        self, network: Network, parameters: Parameters, feedback: Sequence[Tensor], trace: Trace, error: Tensor
    ) -> Signals:
        """ε and δ of every layer, from the output error e [R, N, C]."""


class Chain(Transport):
    """Layer by layer from the output: ε_l = δ_{l+1} M_{l+1}, as equations (3) to (5) with M = W for BP.

    With `fixed` feedback, B_{l+1} stands where BP has W_{l+1} and has its shape (Lillicrap et al. 2016).
    """

    def __init__(self, *, fixed: bool) -> None:
        self.fixed = self.needs_feedback = fixed

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        if not self.fixed:
            return ()
        # A unit of layer l hears from every unit (for a convolution: every filter and offset) of layer l + 1.
        return tuple(
            FeedbackShape(layer.weight_shape, math.prod(layer.weight_shape) // layer.weight_shape[1])
            for layer in network.layers[1:]
        )

    def signals(
        self, network: Network, parameters: Parameters, feedback: Sequence[Tensor], trace: Trace, error: Tensor
    ) -> Signals:
        matrices = feedback if self.fixed else parameters.weights[1:]
        errors: list[Tensor] = []
        deltas = [error]
        for below in reversed(range(len(network.hidden))):
            epsilon = network.layers[below + 1].transported(deltas[-1], matrices[below])
            epsilon = epsilon.reshape(*epsilon.shape[:2], *network.hidden[below].output_shape)
            errors.append(epsilon)
            deltas.append(network.activation.backward(epsilon, trace.saved[below]))
        return Signals(errors[::-1], deltas[::-1])


class Direct(Transport):
    """Straight from the output: ε_l = e B_l with B_l ∈ [R, outputs, *units of l], equation (6) (Nøkland 2016).

    No layer waits for another and no product with Wᵀ is made: that is its speed.
    """

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return tuple(FeedbackShape((network.outputs, *layer.output_shape), network.outputs) for layer in network.hidden)

    def signals(
        self, network: Network, parameters: Parameters, feedback: Sequence[Tensor], trace: Trace, error: Tensor
    ) -> Signals:
        deltas = [
            kernels.spread_through(error, b, saved, network.activation, network.precision)
            for b, saved in zip(feedback, trace.saved, strict=True)
        ]
        return Signals(lambda: [kernels.spread(error, b, network.precision) for b in feedback], (*deltas, error))


@dataclass(frozen=True)
class Constraint:
    """What weights and feedback are held to, at initialisation and after every update.

    Attributes:
        first_layer: weights of this layer (counted from 0) and above are ≥ the floor; None constrains nothing.
        feedback: whether feedback is ≥ 0.
    """

    first_layer: int | None
    feedback: bool

    def covers(self, layer: int) -> bool:
        """Whether the weights of `layer` (from 0) are constrained."""
        return self.first_layer is not None and layer >= self.first_layer

    def project_(self, parameters: Parameters, floor: float) -> None:
        """Clip constrained weights to ≥ floor, in place."""
        for number, weight in enumerate(parameters.weights):
            if self.covers(number):
                weight.clamp_(min=floor)


FREE = Constraint(first_layer=None, feedback=False)
MONO = Constraint(first_layer=1, feedback=True)  # Definition 1: every layer but the first


@dataclass(frozen=True, kw_only=True)
class Method:
    """A learning rule, complete: `METHODS.add("mine", Method(…))` makes it available everywhere."""

    title: str
    description: str
    transport: Transport
    constraint: Constraint = FREE

    def initial_parameters(
        self, network: Network, initializer: Initializer, *, seed: int, convention: str, floor: float
    ) -> Parameters:
        """Weights of one replica, drawn as the constraint asks and projected; biases are 0."""
        weights = []
        for number, layer in enumerate(network.layers):
            generator = torch_generator(seed, "forward weights", number)
            nonnegative = self.constraint.covers(number)
            weights.append(
                initializer.draw(
                    layer.weight_shape,
                    layer.fan_in,
                    generator,
                    nonnegative=nonnegative,
                    convention=convention,
                    dtype=network.precision.storage,
                )
            )
        parameters = network.parameters_from(weights)
        self.constraint.project_(parameters, floor)
        return parameters

    def initial_feedback(
        self, network: Network, initializer: Initializer, *, seed: int, convention: str
    ) -> tuple[Tensor, ...]:
        """Feedback of one replica.

        Raises:
            InvalidValue: zeros were asked for; no error would ever reach a hidden layer.
        """
        needed = self.transport.feedback(network)
        if needed and isinstance(initializer, Zeros):
            raise InvalidValue(
                "feedback weights of zeros would deliver no error to any hidden layer: use normal:1 or uniform:1"
            )
        arrays = [
            initializer.draw(
                item.shape,
                item.fan_in,
                torch_generator(seed, "feedback weights", number),
                nonnegative=self.constraint.feedback,
                convention=convention,
                dtype=network.precision.storage,
            )
            for number, item in enumerate(needed)
        ]
        return self.feedback_from(network, arrays)

    def parameters_from(
        self, network: Network, weights: Sequence[Any], biases: Sequence[Any] | None = None, *, floor: float = 0.0
    ) -> Parameters:
        """Parameters from arrays (see `Network.parameters_from`); values of [0, floor) are raised to the floor.

        Raises:
            InvalidValue: a weight the constraint holds to ≥ 0 is negative or no number.
        """
        parameters = network.parameters_from(weights, biases)
        for number, weight in enumerate(parameters.weights):
            if self.constraint.covers(number):
                _refuse_negative(f"weights {number + 1}", weight, self.title)
        self.constraint.project_(parameters, floor)
        return parameters

    def feedback_from(self, network: Network, feedback: Sequence[Any]) -> tuple[Tensor, ...]:
        """Feedback from arrays of the shapes `transport.feedback(network)` names.

        Raises:
            GeometryError: a shape is another.
            InvalidValue: the method holds feedback to ≥ 0 and a value is not.
        """
        shapes = [item.shape for item in self.transport.feedback(network)]
        made = network.feedback_from(feedback, shapes)
        if self.constraint.feedback:
            for number, b in enumerate(made, 1):
                _refuse_negative(f"feedback {number}", b, self.title)
        return made


def _refuse_negative(what: str, tensor: Tensor, title: str) -> None:
    if not bool((tensor >= 0).all()):
        worst = tensor.min().item()
        raise InvalidValue(f"{what} hold the value {worst:.3g}, but {title} needs them ≥ 0: give their absolute values")


METHODS: Table[Method] = Table("method")
METHODS.add(
    "bp",
    Method(
        title="BP",
        description="backpropagation: the error returns through the transposed forward weights",
        transport=Chain(fixed=False),
    ),
)
METHODS.add(
    "fa",
    Method(
        title="FA",
        description="feedback alignment: the error returns layer by layer through fixed random weights",
        transport=Chain(fixed=True),
    ),
)
METHODS.add(
    "dfa",
    Method(
        title="DFA",
        description="direct feedback alignment: the output error reaches every layer through fixed random weights",
        transport=Direct(),
    ),
)
METHODS.add(
    "mdfa",
    Method(
        title="mDFA",
        description="monotone DFA: as DFA, with feedback and all weights above the first layer non-negative",
        transport=Direct(),
        constraint=MONO,
    ),
)


@dataclass(frozen=True)
class Guarantee:
    """Whether every defined unit error signal must have its true sign, and why, in one sentence."""

    holds: bool
    reason: str


def sign_guarantee(method: Method, activation: Activation, outputs: int) -> Guarantee:
    """Theorem 2 applied to a configuration: one output, a mono-net, monotone f, direct non-negative feedback."""
    if isinstance(method.transport, Chain) and not method.transport.fixed:
        return Guarantee(True, f"{method.title} computes the true gradient: every sign agrees by definition.")
    if not method.constraint.feedback or method.constraint.first_layer not in (0, 1):
        return Guarantee(
            False, f"{method.title} has unconstrained signs: nothing guarantees that an error has the right one."
        )
    if not activation.monotone:
        return Guarantee(False, f"Theorem 2 does not hold: {activation.title} is not monotone.")
    if outputs > 1:
        return Guarantee(
            False,
            f"{method.title}, {outputs} outputs: outside Theorem 2, which needs a single output; signs may disagree "
            f"(Theorem 5).",
        )
    return Guarantee(
        True, f"{method.title}, one output: Theorem 2 holds: every unit's error signal has the sign of the true one."
    )
