"""Learning rules: where a hidden layer's error signal comes from, and what its weights are held to.

All rules share the forward pass, the output error e and the local product ΔW_l = δ_lᵀ h_{l−1} with
δ_l = ε_l ⊙ f′(a_l). A method is an *error transport*, which answers where ε_l comes from, plus a *constraint*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mdfa_core import kernels
from mdfa_core.activations import Activation
from mdfa_core.errors import InvalidValue
from mdfa_core.initializers import Initializer, Zeros
from mdfa_core.neighbours import (
    ContrastiveHebbian,
    DirectSign,
    DirectTarget,
    KolenPollack,
    SignSymmetric,
    TargetPropagation,
)
from mdfa_core.networks import Network, Parameters
from mdfa_core.registry import Table
from mdfa_core.rng import torch_generator
from mdfa_core.transports import Chain, Direct, FeedbackShape, Moment, Signals, Transport

__all__ = [
    "FREE",
    "METHODS",
    "MONO",
    "Chain",
    "Constraint",
    "Direct",
    "FeedbackShape",
    "Guarantee",
    "Method",
    "Moment",
    "Signals",
    "Transport",
    "sign_guarantee",
]


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
            drawn = initializer.draw(
                layer.weight_shape,
                layer.fan_in,
                generator,
                nonnegative=nonnegative,
                convention=convention,
                dtype=network.precision.storage,
            )
            weights.append(kernels.stack([drawn]))  # layer by layer: two copies of all weights would be the run's peak
        biases = tuple(kernels.stack([w.new_zeros(w.shape[1])]) for w in weights)
        parameters = Parameters(tuple(weights), biases)
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
METHODS.add(
    "usf",
    Method(
        title="uSF",
        description="uniform sign-symmetry: layer by layer through the signs of the forward weights",
        transport=SignSymmetric("uniform"),
    ),
)
METHODS.add(
    "brsf",
    Method(
        title="brSF",
        description="batch-random sign-symmetry: the signs of the forward weights, sizes drawn for every mini-batch",
        transport=SignSymmetric("batch"),
    ),
)
METHODS.add(
    "frsf",
    Method(
        title="frSF",
        description="fixed-random sign-symmetry: the signs of the forward weights, sizes drawn once",
        transport=SignSymmetric("fixed"),
    ),
)
METHODS.add(
    "kp",
    Method(
        title="KP",
        description="Kolen-Pollack: feedback that learns with the weights and comes to equal them, given an l2 above 0",
        transport=KolenPollack(),
    ),
)
METHODS.add(
    "sdfa",
    Method(
        title="sDFA",
        description="signed DFA: the sign of the output error reaches every layer through fixed random weights",
        transport=DirectSign(),
    ),
)
METHODS.add(
    "drtp",
    Method(
        title="DRTP",
        description="direct random target projection: the label reaches every layer through fixed random weights",
        transport=DirectTarget(),
    ),
)
METHODS.add(
    "dtp",
    Method(
        title="DTP",
        description="difference target propagation: targets come down through learned inverses",
        transport=TargetPropagation(),
    ),
)
METHODS.add(
    "chl",
    Method(
        title="CHL",
        description="contrastive Hebbian learning: the net settles free and held to the target, with weak feedback",
        transport=ContrastiveHebbian(),
    ),
)


@dataclass(frozen=True)
class Guarantee:
    """Whether every defined unit error signal must have its true sign, and why, in one sentence."""

    holds: bool
    reason: str


def sign_guarantee(method: Method, activation: Activation, outputs: int) -> Guarantee:
    """Theorem 2 applied to a configuration: one output, a mono-net, monotone f, feedback ≥ 0 that keeps signs."""
    if method.transport.exact:
        return Guarantee(True, f"{method.title} computes the true gradient: every sign agrees by definition.")
    held = method.constraint.feedback and method.constraint.first_layer in (0, 1)
    if not (held and method.transport.keeps_signs):
        return Guarantee(False, f"{method.title} {method.transport.doubt}")
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
