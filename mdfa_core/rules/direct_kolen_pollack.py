"""Direct Kolen-Pollack (DKP): direct feedback that learns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules.direct import Direct
from mdfa_core.rules.methods import METHODS, Method, Words
from mdfa_core.rules.transport import Attachment, BackwardCost, Signals, StepContext


class DirectKolenPollack(Direct):
    """ε_l = e B_l as in DFA, and B_l learns from the output error and the activity of its layer.

    The update of B_l is g = eᵀ h_l, summed over the examples, shaped like B_l: [outputs, *units of l]. It takes the
    place of a gradient: with SGD and the run's penalty λ (`l2`), B_l ← B_l − η (g + λ B_l). The output layer learns by
    W_L ← W_L − η (eᵀ h_{L−1} + λ W_L). So the feedback of the last hidden layer obeys
    W_L − B_{L−1} ← (1 − η λ)(W_L − B_{L−1}) and converges to W_L if λ > 0, as in Kolen-Pollack learning. Further down,
    B_l comes to estimate the forward path from layer l to the output. With one hidden layer the rule is `KolenPollack`.

    As in DFA no layer waits for another layer. Other optimizers keep slots for B, too.

    Source: Webster, Choi and Ahn (2021), "Learning the connections in direct feedback alignment". Their later variant,
    which adds a second term zᵀ δ_l to g (z the output's activity), is not used here.
    """

    learns_feedback = True
    wants_penalty = True

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        projected = super().signals(network, parameters, feedback, forward_pass, error, context)

        def updates() -> list[Tensor]:
            activities = forward_pass.inputs[1:]
            return [
                kernels.outer(error, h.flatten(2), network.precision).reshape(b.shape)
                for h, b in zip(activities, feedback, strict=True)
            ]

        return Signals(lambda: projected.errors, projected.deltas, feedback=updates)

    def backward_cost(self, network: Network) -> BackwardCost | None:
        return None  # the updates of B are not counted by any formula here

    def attachment(self) -> Attachment:
        return Attachment()


METHODS.add(
    "dkp",
    Method(
        title="DKP",
        description="direct Kolen-Pollack: DFA with feedback that learns to fit the forward path, given an l2 above 0",
        transport=DirectKolenPollack(),
        words=Words(
            signs="learns its feedback. Signs are right only after the feedback has aligned with the forward path, "
            "which takes time and an l2 above 0.",
            path="straight to every layer, through weights that learn",
            above_chance="50 % is chance; above it, the weights and the feedback have come to fit each other.",
        ),
    ),
)
