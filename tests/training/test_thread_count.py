"""The number of threads of a run: by size, measured only where no bit depends on it, and never left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning.learner import Learner
from mdfa_core.training import Started

SMALL = Experiment(network="fc:8", epochs=1)
LARGE = Experiment(network="fc:1100", epochs=1)  # 4.5 million multiply-adds a product

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads at every step."""
    counts: list[int] = []
    step: Callable[..., object] = Learner.step

    def counted(self: Learner, *batch: torch.Tensor) -> object:
        counts.append(torch.get_num_threads())
        return step(self, *batch)

    monkeypatch.setattr(Learner, "step", counted)
    return counts


def _started(run: Run) -> Started:
    (first,) = [event for event in run.events(steps=6) if isinstance(event, Started)]
    return first


def test_a_small_network_trains_with_one_thread_and_a_forced_number_is_kept(used: list[int]) -> None:
    assert _started(Run(SMALL)).threads == 1
    assert set(used) == {1}
    used.clear()
    assert _started(Run(SMALL, threads=2)).threads == 2
    assert set(used) == {2}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("invariant", "threads", "tried"), [(True, None, {1, 2}), (False, 2, {2})])
def test_a_large_network_measures_only_if_no_bit_depends_on_it(
    invariant: bool, threads: int | None, tried: set[int], used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "thread_invariant", lambda *_: invariant)
    monkeypatch.setattr("mdfa_core.training.run._ROUND_SECONDS", 0.0)
    assert _started(Run(LARGE)).threads == threads
    assert set(used) == tried
    assert torch.get_num_threads() == 2


def test_a_stack_trains_a_replica_with_the_threads_it_gets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "thread_invariant", lambda *_: False)
    stack = [SMALL.replace(network="fc:128", seed=seed) for seed in range(10)]
    assert Run(stack[0]).fixed_threads == Run(stack).fixed_threads == 1


def test_a_limit_of_pytorch_is_kept_and_too_many_are_refused(used: list[int]) -> None:
    torch.set_num_threads(1)
    assert _started(Run(LARGE)).threads == 1
    assert set(used) == {1}
    with pytest.raises(InvalidValue, match="threads is 0"):
        Run(SMALL, threads=0)
