"""Experiments are packed into stacks whose replicas can share their steps and fit into memory."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core import METHODS, OPTIMIZERS, Experiment, Run
from mdfa_core.data import load_task
from mdfa_core.learning.learner import BATCHED_WEIGHTS
from mdfa_core.runs import packing
from mdfa_core.runs.packing import packed
from mdfa_core.training.assembly import VARYING
from mdfa_core.training.memory import predicted_memory, probe_memory

SMALL = Experiment(network="fc:8", epochs=2)


def test_a_stack_shares_all_settings_but_the_varying_ones_and_its_steps() -> None:
    wanted = [
        SMALL.replace(seed=seed, learning_rate=rate, method=method, task_seed=seed % 3)
        for seed in range(6)
        for rate in (0.01, 0.1)
        for method in ("mdfa", "bp")
    ]
    stacks = packed(wanted)

    assert sorted(e.digest() for stack in stacks for e in stack) == sorted(e.digest() for e in wanted)
    for stack in stacks:
        shared = [{n: v for n, v in e.to_dict().items() if n not in VARYING} for e in stack]
        assert all(settings == shared[0] for settings in shared)
        Run(stack, device="cpu")  # raises if the replicas' mini-batches are unequal
    assert max(map(len, stacks)) > 1


def test_a_stack_that_does_not_fit_is_split_with_a_message_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wanted = [SMALL.replace(seed=seed, task_seed=0) for seed in range(9)]
    one = predicted_memory(SMALL)
    with caplog.at_level(logging.INFO, "mdfa_core.runs.packing"):
        assert [len(stack) for stack in packed(wanted, memory=100 * one)] == [9]
        assert not caplog.records
        assert [len(stack) for stack in packed(wanted, memory=5 * one)] == [4, 4, 1]
    assert "a stack of 9 replicas needs about" in caplog.text
    assert "split into stacks of 4" in caplog.text
    assert [len(stack) for stack in packed(wanted, memory=1)] == [1] * 9


def test_the_memory_of_measurements_is_counted() -> None:
    wanted = [SMALL.replace(seed=seed, task_seed=0) for seed in range(9)]
    one, measured = predicted_memory(SMALL), probe_memory(SMALL)
    assert [len(stack) for stack in packed(wanted, memory=5 * (one + measured), probed=True)] == [4, 4, 1]
    assert len(packed(wanted, memory=5 * one, probed=True)[0]) == 4 * one // (one + measured)


def test_as_many_stacks_as_workers() -> None:
    assert len(packed([SMALL.replace(seed=seed, task_seed=0) for seed in range(8)], at_least=4)) >= 4


SETTINGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 4),
        "learning_rate": st.sampled_from([0.01, 0.1]),
        "forward_init": st.sampled_from(["zeros", "normal:0.1"]),
        "validation": st.sampled_from([0.15, 0.2]),
        "method": st.sampled_from(sorted(METHODS)),
        "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
        "outputs": st.sampled_from([1, 2, 3]),
        "drop_last": st.booleans(),
    }
)


@hypothesis.settings(max_examples=20)
@given(settings=st.lists(SETTINGS, max_size=30), fits=st.integers(1, 9), at_least=st.integers(1, 4))
def test_stacks_are_of_runs_that_can_share_steps_and_fit(
    settings: list[dict[str, Any]], fits: int, at_least: int
) -> None:
    experiments = [SMALL.replace(**values) for values in settings]
    memory = int((fits + 0.5) * max(map(predicted_memory, experiments), default=1) / 0.8)
    stacks = packed(experiments, memory=memory, at_least=at_least)

    assert sorted(map(Experiment.to_json, itertools.chain(*stacks))) == sorted(map(Experiment.to_json, experiments))
    for stack in stacks:
        shared = [{n: v for n, v in e.to_dict().items() if n not in VARYING} for e in stack]
        assert all(values == shared[0] for values in shared)
        assert len({len(load_task(e.data, **e.task_settings).train) for e in stack}) == 1
        assert len(stack) == 1 or sum(map(predicted_memory, stack)) <= memory * 0.8
    assert len(stacks) >= min(at_least, len(experiments))
    assert packed(experiments, memory=memory, at_least=at_least) == stacks


def test_many_workers_get_many_stacks_on_any_device() -> None:
    experiments = [SMALL.replace(learning_rate=0.01 * (n + 1)) for n in range(12)]

    for device in ("cpu", "cuda"):
        stacks = [packed(experiments, device=device, memory=1 << 40, at_least=n) for n in (1, 2, 5, 12, 50)]
        assert list(map(len, stacks)) == [1, 2, 4, 12, 12]


def test_a_stack_on_a_cpu_is_no_larger_than_what_common_calls_advance() -> None:
    def sizes(network: str, device: str) -> list[int]:
        experiments = [Experiment(network=network, learning_rate=0.001 * (n + 1)) for n in range(100)]
        return [len(stack) for stack in packed(experiments, device=device, memory=1 << 40)]

    assert sizes("fc:8", "cpu") == [64, 36]
    assert sizes("fc:1024,1024", "cpu")[0] == BATCHED_WEIGHTS // (1024 * (64 + 1) + 1024 * (1024 + 1) + 1024 + 1)
    assert sizes("fc:4096,4096", "cpu") == [1] * 100
    assert sizes("fc:8", "cuda") == sizes("fc:4096,4096", "cuda") == [100]


def test_without_a_limit_it_is_what_is_free_here_shared_by_who_works_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiments = [SMALL.replace(learning_rate=0.01 * (n + 1)) for n in range(8)]
    monkeypatch.setattr(packing, "free_memory", lambda device: int(4.5 * predicted_memory(SMALL) / 0.8))

    assert [len(stack) for stack in packed(experiments)] == [4, 4]
    assert [len(stack) for stack in packed(experiments, at_least=2)] == [2, 2, 2, 2]
