"""Methods: an error transport plus a constraint, and the table of all of them.

All methods share the forward pass, the output error e and the local product ΔW_l = δ_lᵀ h_{l−1} with
δ_l = ε_l ⊙ f′(a_l). The error transport says where ε_l comes from; the constraint bounds weights and feedback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.base.rng import torch_generator
from mdfa_core.compute import kernels
from mdfa_core.nets.activations import Activation
from mdfa_core.nets.initializers import Initializer, Zeros
from mdfa_core.nets.networks import Network, Parameters
from mdfa_core.rules.transport import Transport


@dataclass(frozen=True)
class Constraint:
    """Bounds on weights and feedback, enforced at initialisation and after every update.

    Attributes:
        first_layer: the weights of this layer (from 0) and of all layers above are ≥ the floor; None bounds no weights.
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
class Words:
    """What the page and the drawings say about a method.

    Attributes:
        signs: why no theorem guarantees its signs; follows the method's title.
        path: the way of the error, in a few words.
        carrier: the label of the weights an error travels through; {0} becomes the layer's number as a subscript. ""
            stands for B{0}, or for W{0}ᵀ if the rule has no feedback.
        top_carrier: the same for the output layer, if it is another.
        above_chance: what a sign agreement well above 50 % means.
    """

    signs: str = "has unconstrained signs: nothing guarantees that an error has the right one."
    path: str = ""
    carrier: str = ""
    top_carrier: str = ""
    above_chance: str = "50 % is chance; at 100 %, every sign is right."


FIXED_FEEDBACK = "50 % is chance; above it, the weights have come to fit the feedback."
"""`Words.above_chance` of rules with fixed random feedback."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A complete learning rule: `METHODS.add("mine", Method(…))` makes it available everywhere.

    Attributes:
        title: its short name for people.
        description: one line for lists and help texts.
        transport: where the error signals come from.
        constraint: the bounds on weights and feedback.
        words: what the page and the drawings say about it.
    """

    title: str
    description: str
    transport: Transport
    constraint: Constraint = FREE
    words: Words = Words()

    @property
    def carrier(self) -> str:
        """The label of the weights an error travels through; {0} stands for the layer's number as a subscript."""
        return self.words.carrier or ("B{0}" if self.transport.needs_feedback else "W{0}ᵀ")

    def initial_parameters(
        self, network: Network, initializer: Initializer, *, seed: int, convention: str, floor: float
    ) -> Parameters:
        """Initial weights of one replica, non-negative if the constraint covers them; biases are 0."""
        weights = []
        for number, layer in enumerate(network.layers):
            generator = torch_generator(seed, "forward weights", number)
            nonnegative = self.constraint.covers(number)
            drawn = initializer.draw(
                layer.weight_shape,
                layer.fan_in,
                generator,
                nonnegative=nonnegative,
                convention=convention,
                dtype=network.precision.storage,
            )
            weights.append(
                kernels.stack([drawn])
            )  # layer by layer: two copies of all weights would be the peak of memory
        biases = tuple(kernels.stack([w.new_zeros(w.shape[1])]) for w in weights)
        parameters = Parameters(tuple(weights), biases)
        self.constraint.project_(parameters, floor)
        return parameters

    def initial_feedback(
        self, network: Network, initializer: Initializer, *, seed: int, convention: str
    ) -> tuple[Tensor, ...]:
        """Initial feedback of one replica.

        Raises:
            InvalidValue: the initializer is zeros, so no error would ever reach a hidden layer.
        """
        shapes = self.transport.feedback(network)
        if shapes and isinstance(initializer, Zeros):
            raise InvalidValue(
                "feedback weights of zeros would deliver no error to any hidden layer: use normal:1 or uniform:1"
            )
        arrays = [
            initializer.draw(
                item.shape,
                item.fan_in_by(convention),
                torch_generator(seed, "feedback weights", number),
                nonnegative=self.constraint.feedback,
                convention=convention,
                dtype=network.precision.storage,
            )
            for number, item in enumerate(shapes)
        ]
        return self.feedback_from(network, arrays)

    def parameters_from(
        self, network: Network, weights: Sequence[Any], biases: Sequence[Any] | None = None, *, floor: float = 0.0
    ) -> Parameters:
        """Parameters from arrays (see `Network.parameters_from`); constrained weights below the floor are raised to it.

        Raises:
            InvalidValue: a constrained weight is negative or NaN.
        """
        parameters = network.parameters_from(weights, biases)
        for number, weight in enumerate(parameters.weights):
            if self.constraint.covers(number):
                _refuse_negative(f"weights {number + 1}", weight, self.title)
        self.constraint.project_(parameters, floor)
        return parameters

    def feedback_from(self, network: Network, feedback: Sequence[Any]) -> tuple[Tensor, ...]:
        """Feedback from arrays of the shapes in `transport.feedback(network)`.

        Raises:
            GeometryError: an array has another shape.
            InvalidValue: the constraint covers feedback and a value is negative or NaN.
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


METHODS: Registry[Method] = Registry("method")
"""Learning rules by name, as `--method`, `Experiment(method=…)` and `attach` take them."""


@dataclass(frozen=True)
class Guarantee:
    """Whether every defined unit error signal has its true sign by a theorem, and the reason in one sentence."""

    holds: bool
    reason: str


def sign_guarantee(method: Method, activation: Activation, outputs: int) -> Guarantee:
    """Apply Theorem 2 to a configuration: one output, a mono-net, monotone f, and feedback ≥ 0 that keeps signs."""
    if method.transport.exact:
        return Guarantee(True, f"{method.title} computes the true gradient: every sign agrees by definition.")
    held = method.constraint.feedback and method.constraint.first_layer in (0, 1)
    if not (held and method.transport.keeps_signs):
        return Guarantee(False, f"{method.title} {method.words.signs}")
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
