"""Several replicas at once: every work is done once, by threads that compute alone, and only where no bit changes."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest
import torch
from torch import Tensor

from mdfa_core import losses, side_by_side
from tests.references import batch_of, learner_of, network_of


def test_results_come_in_order_from_threads_of_one_thread_each() -> None:
    def work(number: int) -> tuple[int, str, int]:
        time.sleep(0.01)
        return number, threading.current_thread().name, torch.get_num_threads()

    numbers, names, threads = zip(*side_by_side.each(work, 7), strict=True)

    assert numbers == tuple(range(7))
    assert set(threads) == {1}
    assert len(set(names)) == side_by_side.threads() == 2
    assert threading.current_thread().name not in names


def test_other_threads_keep_as_many_as_there_were() -> None:
    side_by_side.each(abs, 2)
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
        side_by_side.each(work, 5)
    assert sorted(ended) == [1, 2, 3, 4]


def _in_a_child() -> None:
    assert side_by_side.each(abs, 3) == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side.each(abs, 2)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child)
    child.start()
    child.join(60)

    assert child.exitcode == 0


def test_dense_nets_too_large_for_common_calls_take_turns_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfa_core.learner.TOGETHER", 0)
    network = network_of("fc:256,128")
    learner = learner_of(network, "mdfa", rates=(0.1, 0.1, 0.1), l2=(0.0, 0.0, 0.0))
    inputs, labels = batch_of(network, 16, replicas=3)
    before = learner.parameters.clone()

    assert not learner.together(inputs, labels)
    assert learner.side_by_side(inputs, labels)
    assert all(map(torch.equal, learner.parameters.tensors(), before.tensors()))  # the trial was made on copies
    threads = set()
    observe = learner._observed_alone

    def noted(*arguments: object) -> object:
        threads.add(threading.current_thread().name)
        return observe(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(learner, "_observed_alone", noted)
    learner.step(inputs, labels)
    assert threads <= {"replicas_0", "replicas_1"}


def test_where_the_number_of_threads_shows_in_a_bit_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = losses.output_error

    def error(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
        return exact(logits_RNC, labels_RN) * (1 + 1e-6 * torch.get_num_threads())

    monkeypatch.setattr("mdfa_core.learner.TOGETHER", 0)
    monkeypatch.setattr(losses, "output_error", error)
    network = network_of("fc:256,128")
    learner = learner_of(network, "mdfa", rates=(0.1, 0.1), l2=(0.0, 0.0))

    assert not learner.side_by_side(*batch_of(network, 16, replicas=2))


def test_one_thread_or_one_replica_has_nobody_beside_it() -> None:
    network = network_of("fc:256,128")
    batch = batch_of(network, 16, replicas=1)

    assert not learner_of(network, "mdfa", rates=(0.1,), l2=(0.0,)).side_by_side(*batch)
    torch.set_num_threads(1)
    try:
        assert not learner_of(network, "mdfa", rates=(0.1, 0.1), l2=(0.0, 0.0)).side_by_side(*batch)
    finally:
        torch.set_num_threads(2)
