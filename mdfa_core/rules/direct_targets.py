"""Signed DFA (sDFA) and direct random target projection (DRTP): less than the error goes straight to every layer."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from mdfa_core.nets import losses
from mdfa_core.nets.networks import Network
from mdfa_core.rules.direct import Direct
from mdfa_core.rules.methods import FIXED_FEEDBACK, METHODS, Method, Words
from mdfa_core.rules.transport import Attachment, BackwardCost, StepContext


class _OtherSignal(Direct):
    """DFA whose hidden layers receive another signal than e."""

    def backward_cost(self, network: Network) -> BackwardCost | None:
        cost = super().backward_cost(network)
        return cost and dataclasses.replace(cost, path=None)  # the signal is known at another time than e


class DirectSign(_OtherSignal):
    """ε_l = sign(e) B_l / N: DFA that knows only whether an output was too high or too low (sDFA).

    Dividing by the N examples keeps the mean that e contains. With one sigmoid output sign(e) = 1 − 2y, which depends
    on the label alone: hidden layers never stop moving, however well the network predicts.

    Source: Frenkel, Lefebvre and Bol (2021), "Learning without feedback: fixed random learning signals allow for
    feedforward training of deep neural networks" (DRTP), where sDFA is the step between DFA and DRTP.
    """

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return error.sign() / error.shape[1]

    def attachment(self) -> Attachment:
        return Attachment(sent=self.sent, ignores_size=True)


class DirectTarget(_OtherSignal):
    """ε_l = −y* B_l / N: the labels are projected, and no error at all (DRTP).

    y* is one-hot for a softmax. For one sigmoid output it is the label 0 or 1, so images of class 0 change no hidden
    layer. Of the error e = p − y* only −y* remains: the sign that e has at the right class. The released code projects
    +y*, which is the same rule for a B that is symmetric about 0.

    Source: Frenkel, Lefebvre and Bol (2021), see `DirectSign`.
    """

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return losses.targets(error, context.labels_RN) / -error.shape[1]

    def attachment(self) -> Attachment:
        return Attachment(sent=self.sent, labels=True, ignores_size=True)


METHODS.add(
    "sdfa",
    Method(
        title="sDFA",
        description="signed DFA: the sign of the output error reaches every layer through fixed random weights",
        transport=DirectSign(),
        words=Words(path="the error's sign, straight to every layer", above_chance=FIXED_FEEDBACK),
    ),
)
METHODS.add(
    "drtp",
    Method(
        title="DRTP",
        description="direct random target projection: the label reaches every layer through fixed random weights",
        transport=DirectTarget(),
        words=Words(path="the label, straight to every layer", above_chance=FIXED_FEEDBACK),
    ),
)
