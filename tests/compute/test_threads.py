"""Replicas on threads: each is computed once, by single-threaded workers, and only if no bit changes."""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from mdfa_core.compute import threads
from mdfa_core.nets import losses
from tests.support.references import batch_of, learner_of, network_of

pytestmark = pytest.mark.usefixtures("two_threads")


def test_results_come_in_order_from_threads_of_one_thread_each() -> None:
    def work(number: int) -> tuple[int, str, int]:
        time.sleep(0.01)
        return number, threading.current_thread().name, torch.get_num_threads()

    numbers, names, counts = zip(*threads.parallel_map(work, 7), strict=True)

    assert numbers == tuple(range(7))
    assert set(counts) == {1}
    assert len(set(names)) == threads.worker_count() == 2
    assert threading.current_thread().name not in names


def test_other_threads_keep_as_many_as_there_were() -> None:
    threads.parallel_map(abs, 2)
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()

    assert [torch.get_num_threads(), *seen] == [2, 2]


def test_what_fails_is_raised_when_all_has_ended() -> None:
    ended = []

    def work(number: int) -> None:
        if number == 0:
            raise ZeroDivisionError
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ZeroDivisionError):
        threads.parallel_map(work, 5)
    assert sorted(ended) == [1, 2, 3, 4]


def _in_a_child() -> None:
    assert threads.parallel_map(abs, 3) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    threads.parallel_map(abs, 2)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child)
    child.start()
    child.join(60)

    assert child.exitcode == 0


def test_dense_nets_too_large_for_common_calls_take_turns_threaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfa_core.learning.learner.BATCHED_WEIGHTS", 0)
    network = network_of("fc:16,8")  # products so small that MKL computes them alike for any number of threads
    learner = learner_of(network, "mdfa", rates=(0.1, 0.1, 0.1), l2=(0.0, 0.0, 0.0))
    inputs, labels = batch_of(network, 16, replicas=3)
    before = learner.parameters.clone()

    assert not learner.batched(inputs, labels)
    assert learner.threaded(inputs, labels)
    assert all(map(torch.equal, learner.parameters.tensors(), before.tensors()))  # the trial was made on copies
    names = []
    output_error = losses.output_error

    def noted(*arguments: Any) -> Tensor:
        names.append(threading.current_thread().name)
        return output_error(*arguments)

    monkeypatch.setattr(losses, "output_error", noted)
    learner.step(inputs, labels)
    assert len(names) == 3  # one for each replica
    assert set(names) <= {"replicas_0", "replicas_1"}


def test_where_the_number_of_threads_shows_in_a_bit_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = losses.output_error

    def error(*arguments: Any) -> Tensor:
        return exact(*arguments) * (1 + 1e-6 * torch.get_num_threads())

    monkeypatch.setattr("mdfa_core.learning.learner.BATCHED_WEIGHTS", 0)
    monkeypatch.setattr(losses, "output_error", error)
    network = network_of("fc:16,8")
    learner = learner_of(network, "mdfa", rates=(0.1, 0.1), l2=(0.0, 0.0))

    assert not learner.threaded(*batch_of(network, 16, replicas=2))


def test_one_thread_or_one_replica_has_nobody_beside_it() -> None:
    network = network_of("fc:256,128")
    batch = batch_of(network, 16, replicas=1)

    assert not learner_of(network, "mdfa", rates=(0.1,), l2=(0.0,)).threaded(*batch)
    torch.set_num_threads(1)
    assert not learner_of(network, "mdfa", rates=(0.1, 0.1), l2=(0.0, 0.0)).threaded(*batch)


@pytest.mark.parametrize(("two", "best"), [(1.7, 2), (0.1, 1)])
def test_as_many_threads_as_train_fastest(two: float, best: int) -> None:
    faster = threads.FasterCount()
    assert faster.choose(1) == 1
    chosen = []
    for _ in range(200):
        chosen.append(faster.choose(2))
        faster.took(chosen[-1], 1, 0.05 / (two if chosen[-1] == 2 else 1.0))
    assert set(chosen[:12]) == {1, 2}
    assert chosen[-1] == best
    assert chosen.count(best) > 150
    assert faster.choose(1) == 1
    assert faster.choose(2) in (1, 2)
