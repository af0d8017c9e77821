"""Kolen-Pollack (KP): feedback that learns as the forward weights do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules.methods import METHODS, Method, Words
from mdfa_core.rules.transport import (
    Attachment,
    FeedbackShape,
    LayerByLayer,
    Signals,
    StepContext,
    shaped_like_weights,
)


class KolenPollack(LayerByLayer):
    """ε_l = δ_{l+1} B_{l+1}, and B learns as W does: both get the same update, and both decay.

    With SGD, W ← W − η (g + λ W) and B ← B − η (g + λ B), hence W − B ← (1 − η λ)(W − B). If the run's penalty λ (`l2`)
    is positive, B converges to W and the rule to BP. Without a penalty, W − B never changes. Other optimizers keep
    slots for B, too; under them only the decay shrinks W − B.

    B_l has the shape of W_l. Its update is g = δ_lᵀ h_{l−1}, the update of W_l.

    Source: Kolen and Pollack (1994), "Backpropagation without weight transport"; Akrout, Wilson, Humphreys, Lillicrap
    and Tweed (NeurIPS 2019), "Deep learning without weight transport".
    """

    learns_feedback = True
    wants_penalty = True
    keeps_signs = True

    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        return shaped_like_weights(network, 1)

    def matrix(self, weight: Tensor, own: Tensor | None) -> Tensor:
        assert own is not None
        return own

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext | None = None,
    ) -> Signals:
        carried = super().signals(network, parameters, feedback, forward_pass, error, context)

        def updates() -> list[Tensor]:
            upper = range(1, len(network.layers))
            return [network.layers[n].update(forward_pass.inputs[n], carried.deltas[n])[0] for n in upper]

        return Signals(carried.errors, carried.deltas, feedback=updates)

    def attachment(self) -> Attachment:
        return Attachment(matrix=self.matrix)


METHODS.add(
    "kp",
    Method(
        title="KP",
        description="Kolen-Pollack: feedback that learns with the weights and comes to equal them, given an l2 above 0",
        transport=KolenPollack(),
        words=Words(
            signs="learns its feedback. Signs are right only after the feedback has aligned with the forward path, "
            "which takes time and an l2 above 0.",
            path="back through weights that learn as the forward ones do",
            above_chance="50 % is chance; above it, the weights and the feedback have come to fit each other.",
        ),
    ),
)
