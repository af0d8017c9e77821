"""Sign-symmetry (uSF, brSF, frSF): the error returns through the signs of the forward weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core.base.registry import Registry
from mdfa_core.nets.networks import Network, Parameters
from mdfa_core.rules.methods import METHODS, Method, Words
from mdfa_core.rules.transport import Attachment, FeedbackShape, LayerByLayer, StepContext, shaped_like_weights

MAGNITUDES: Registry[str] = Registry("kind of magnitudes")
MAGNITUDES.add("uniform", "all 1: V = sign(W)")
MAGNITUDES.add("batch", "drawn from U[0, 1) for every mini-batch")
MAGNITUDES.add("fixed", "the absolute values of fixed random feedback")


class SignSymmetric(LayerByLayer):
    """ε_l = δ_{l+1} V_{l+1} with V = |M| ⊙ sign(W): the signs of the forward weights, with other magnitudes.

    M is 1 (uSF), drawn anew for every mini-batch (brSF), or drawn once from the run's feedback distribution (frSF).
    With |M| = |W| the rule would be BP. A weight that is exactly 0 has no sign and carries no error.

    Args:
        magnitudes: a name in `MAGNITUDES`.

    Source: Liao, Leibo and Poggio (AAAI 2016), "How important is weight symmetry in backpropagation?". Their batch
    normalisation and "batch Manhattan" are not part of the rule; the optimizer `signsgd` is the latter.
    """

    keeps_signs = True

    def __init__(self, magnitudes: str) -> None:
        MAGNITUDES[magnitudes]
        self.magnitudes = magnitudes
        self.draws = magnitudes == "batch"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1) if self.magnitudes == "fixed" else ()

    def workspace(self, network: Network, examples: int) -> int:
        upper = sum(math.prod(layer.weight_shape) for layer in network.layers[1:])
        return upper if self.magnitudes == "uniform" else 3 * upper  # signs; magnitudes, and the two together

    def matrices(
        self, parameters: Parameters, feedback: Sequence[Tensor], context: StepContext | None
    ) -> Sequence[Tensor]:
        if self.magnitudes == "batch":
            assert context is not None
            upper = parameters.weights[1:]
            feedback = [self.drawn(number, weight, context) for number, weight in enumerate(upper)]
        return super().matrices(parameters, feedback, context)

    def drawn(self, number: int, weight: Tensor, context: StepContext) -> Tensor:
        """|M| of one layer for one mini-batch, [R, *the shape of W] (brSF)."""
        return context.draw(torch.rand, "feedback magnitudes", number, weight)

    def matrix(self, weight: Tensor, own: Tensor | None) -> Tensor:
        return weight.sign() if own is None else weight.sign() * own.abs()

    def attachment(self) -> Attachment:
        return Attachment(matrix=self.matrix, drawn=self.drawn if self.draws else None)


_SIGNS = (
    "has the signs of the weights but not their sizes: where a unit receives errors from several units, the sum can "
    "have the wrong sign."
)
_PATH = "back through the signs of the forward weights"

METHODS.add(
    "usf",
    Method(
        title="uSF",
        description="uniform sign-symmetry: layer by layer through the signs of the forward weights",
        transport=SignSymmetric("uniform"),
        words=Words(signs=_SIGNS, path=_PATH, carrier="sgn W{0}ᵀ"),
    ),
)
METHODS.add(
    "brsf",
    Method(
        title="brSF",
        description="batch-random sign-symmetry: the signs of the forward weights, sizes drawn for every mini-batch",
        transport=SignSymmetric("batch"),
        words=Words(signs=_SIGNS, path=_PATH, carrier="M{0} sgn W{0}ᵀ"),
    ),
)
METHODS.add(
    "frsf",
    Method(
        title="frSF",
        description="fixed-random sign-symmetry: the signs of the forward weights, sizes drawn once",
        transport=SignSymmetric("fixed"),
        words=Words(signs=_SIGNS, path=_PATH, carrier="M{0} sgn W{0}ᵀ"),
    ),
)
