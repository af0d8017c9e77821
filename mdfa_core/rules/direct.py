"""Direct feedback alignment (DFA) and its monotone variant (mDFA): the output error goes straight to every layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules.methods import FIXED_FEEDBACK, METHODS, MONO, Method, Words
from mdfa_core.rules.transport import Attachment, BackwardCost, FeedbackShape, Signals, StepContext, Transport


class Direct(Transport):
    """Straight from the output: ε_l = e B_l with a fixed random B_l of shape [outputs, *units of l], equation (6).

    No layer waits for another layer, and no product with Wᵀ is made. That makes the rule fast.

    Source: Nøkland (2016), "Direct feedback alignment provides learning in deep neural networks"; Lechner (ICLR 2020)
    for the monotone variant, mDFA: the same transport under the constraint `MONO`.
    """

    keeps_signs = True
    route = "direct"

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return tuple(FeedbackShape((network.outputs, *layer.output_shape), network.outputs) for layer in network.hidden)

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        """The signal that goes to every layer, [R or 1, N, C]: e itself."""
        return error

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        sent = self.sent(error, context)
        deltas = [
            kernels.project_error_through(sent, b, saved, network.activation, network.precision)
            for b, saved in zip(feedback, forward_pass.saved, strict=True)
        ]
        return Signals(lambda: [kernels.project_error(sent, b, network.precision) for b in feedback], (*deltas, error))

    def backward_cost(self, network: Network) -> BackwardCost | None:
        """outputs × units for every hidden layer; the path waits for n_L products and one f′, whatever the depth."""
        units = sum(layer.units for layer in network.hidden)
        return BackwardCost(work=network.outputs * units, path=network.outputs + 1 if network.hidden else 0)

    def attachment(self) -> Attachment | None:
        return Attachment()


WORDS = Words(path="straight to every layer", above_chance=FIXED_FEEDBACK)

METHODS.add(
    "dfa",
    Method(
        title="DFA",
        description="direct feedback alignment: the output error reaches every layer through fixed random weights",
        transport=Direct(),
        words=WORDS,
    ),
)
METHODS.add(
    "mdfa",
    Method(
        title="mDFA",
        description="monotone direct feedback alignment: as DFA, with feedback and all weights above the first layer "
        "non-negative",
        transport=Direct(),
        constraint=MONO,
        words=WORDS,
    ),
)
