"""What the tests of several rules share: nets, a twin that learns by BP, and a comparison of updates."""

from __future__ import annotations

from torch import Tensor

from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.rules import METHODS, Method, Transport
from tests.support.references import relative

NETS = ["fc:5", "fc:5,4,3", "conv:3/3/2,2/2/1", "conv:3/3/2+fc:4"]


def assert_same_updates(ours: Learner, theirs: Learner, batch: tuple[Tensor, Tensor], within: float) -> None:
    """Both learners' updates of a batch differ by less than a relative error."""
    made, expected = (learner.updates(learner.observe(*batch)).tensors() for learner in (ours, theirs))
    for a, b in zip(made, expected, strict=True):
        assert relative(a, b) < within


def backprop(of: Learner) -> Learner:
    """BP with the same weights."""
    rates = of.optimizer_state.rates
    return Learner(of.network, METHODS["bp"], OPTIMIZERS["sgd"], of.parameters.clone(), learning_rates=rates)


def with_transport(transport: Transport) -> Method:
    """A method of a transport, without a constraint."""
    return Method(title="T", description="", transport=transport)
