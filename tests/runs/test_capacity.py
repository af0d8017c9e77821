"""A stack that does not fit is refused."""

from __future__ import annotations

import pytest

from mdfa_core import Experiment
from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs import capacity
from mdfa_core.runs.capacity import refuse_too_large
from mdfa_core.training.memory import predicted_memory

SMALL = Experiment(network="fc:8", epochs=2)


def test_a_stack_of_a_command_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "free_memory", lambda device: int(4.5 * predicted_memory(SMALL) / 0.8))
    stack = [SMALL.replace(seed=seed) for seed in range(5)]
    refuse_too_large(stack[:4], device="cpu")

    with pytest.raises(InvalidValue, match=r"a stack of 5 replicas needs about .*train at most 4 replicas at a time"):
        refuse_too_large(stack, device="cpu")
    monkeypatch.setattr(capacity, "free_memory", lambda device: predicted_memory(SMALL))
    refuse_too_large(stack[:1], device="cpu")  # a single net may take all that is free
    with pytest.raises(InvalidValue, match=r"a stack of 2 replicas .*train at most 1 replicas at a time"):
        refuse_too_large(stack[:2], device="cpu")
    monkeypatch.setattr(capacity, "free_memory", lambda device: predicted_memory(SMALL) - 1)
    with pytest.raises(InvalidValue, match=r"a run of .* needs about .*: give a smaller network or a smaller batch"):
        refuse_too_large(stack[:1], device="cpu")
