"""Threads: how many PyTorch computes with, and replicas on Python threads, each with a single thread of PyTorch.

If PyTorch shares each product of a replica between its threads, every product waits for the slowest thread, and
single-threaded work leaves the other cores idle. Whole replicas share nothing, so they never wait for each other.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def limited(count: int) -> Iterator[None]:
    """Let PyTorch use this many CPU threads inside a `with` block, in the calling thread."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class FasterCount:
    """Chooses the faster number of threads: one, or all there are.

    On an idle machine a second thread nearly doubles the speed of a large net. On a busy machine it makes training
    many times slower, because each product waits for the slower half. So both are tried from time to time.
    """

    TRIED, KEPT = 0.4, 20.0  # seconds

    def __init__(self) -> None:
        self._most = 1
        self._steps: dict[int, int] = {}
        self._seconds: dict[int, float] = {}
        self._best: int | None = None
        self._kept = 0.0

    def choose(self, most: int) -> int:
        """The number of threads to compute with now, at most this many."""
        if most != self._most:
            self._most = most
            self._begin()
        if most == 1:
            return 1
        if self._best is not None:
            return self._best
        return min((1, most), key=lambda count: self._seconds.get(count, 0.0))

    def took(self, count: int, steps: int, seconds: float) -> None:
        """So many mini-batches took this long with this many threads."""
        if self._best is not None:
            self._kept += seconds
            if self._kept > self.KEPT:
                self._begin()
            return
        self._steps[count] = self._steps.get(count, 0) + steps
        self._seconds[count] = self._seconds.get(count, 0.0) + seconds
        if all(self._seconds.get(tried, 0.0) > self.TRIED for tried in (1, self._most)):
            self._best = max((1, self._most), key=lambda tried: self._steps[tried] / self._seconds[tried])

    def _begin(self) -> None:
        self._steps, self._seconds, self._best, self._kept = {}, {}, None, 0.0


def worker_count() -> int:
    """Number of replicas computed in parallel: the number of PyTorch threads of the calling thread."""
    return torch.get_num_threads()


def parallel_map(work: Callable[[int], Result], number: int) -> list[Result]:
    """[work(0), …, work(number − 1)], computed by `worker_count()` threads.

    The function returns, or raises the first exception of `work`, after all calls have ended.

    Args:
        work: takes an index from 0 to number − 1.
        number: number of calls.
    """
    pool = _pool(worker_count())
    jobs = [pool.submit(work, index) for index in range(number)]
    try:
        return [job.result() for job in jobs]
    finally:
        wait(jobs)  # if the caller catches an interrupt, no half-made step may go on in the background


@functools.cache
def _pool(size: int) -> ThreadPoolExecutor:
    ready = threading.Barrier(size + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first call in a thread adopts the process's last setting; then we set our own
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(size, "replicas", initializer=begin)
    for _ in range(size):  # every submission starts a thread, because the threads before it wait at the barrier
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(size)  # restore the process's setting, which new threads adopt
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of its parent's threads
