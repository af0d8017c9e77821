"""Backpropagation (BP) and feedback alignment (FA): the error returns layer by layer."""

from __future__ import annotations

from torch import Tensor

from mdfa_core.nets.networks import Network
from mdfa_core.rules.methods import FIXED_FEEDBACK, METHODS, Method, Words
from mdfa_core.rules.transport import Attachment, BackwardCost, FeedbackShape, LayerByLayer, shaped_like_weights


class Chain(LayerByLayer):
    """ε_l = δ_{l+1} M_{l+1}, equations (3) to (5): M = W is backpropagation.

    With `fixed` feedback, M is a random B_{l+1} of the shape of W_{l+1} that never changes (feedback alignment).

    Args:
        fixed: False for BP, True for FA.

    Source: Lillicrap, Cownden, Tweed and Akerman (2016), "Random synaptic feedback weights support error
    backpropagation for deep learning", for fixed feedback.
    """

    def __init__(self, *, fixed: bool) -> None:
        self.fixed = self.keeps_signs = fixed
        self.exact = not fixed

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1) if self.fixed else ()

    def matrix(self, weight: Tensor, own: Tensor | None) -> Tensor:
        return weight if own is None else own

    def backward_cost(self, network: Network) -> BackwardCost:
        """As every rule that goes layer by layer; the path waits for n_{l+1} products and one f′ at every layer."""
        above = [layer.units for layer in network.layers[1:]]
        return BackwardCost(
            work=sum(layer.multiply_adds for layer in network.layers[1:]), path=sum(units + 1 for units in above)
        )

    def attachment(self) -> Attachment:
        return Attachment(matrix=self.matrix)


METHODS.add(
    "bp",
    Method(
        title="BP",
        description="backpropagation: the error returns through the transposed forward weights",
        transport=Chain(fixed=False),
        words=Words(carrier="W{0}ᵀ", path="back through the forward weights themselves"),
    ),
)
METHODS.add(
    "fa",
    Method(
        title="FA",
        description="feedback alignment: the error returns layer by layer through fixed random weights",
        transport=Chain(fixed=True),
        words=Words(path="back through fixed random weights", above_chance=FIXED_FEEDBACK),
    ),
)
