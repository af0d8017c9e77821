"""Work on several replicas at once: one Python thread a core, in each of which PyTorch computes with one thread.

Where a replica's step is shared between threads, each product waits for the slowest of them, and what PyTorch does in
one thread keeps the others idle. Whole replicas share nothing and wait for nobody.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Result = TypeVar("Result")


def threads() -> int:
    """How many replicas can be worked on at once: as many as PyTorch has threads where this is called."""
    return torch.get_num_threads()


def each(work: Callable[[int], Result], count: int) -> list[Result]:
    """`work(0)`, …, `work(count − 1)`, each in one of `threads()` threads of its own.

    Returns, or raises what some work raised, only when all of it has ended.
    """
    pool = _pool(threads())
    jobs = [pool.submit(work, number) for number in range(count)]
    try:
        return [job.result() for job in jobs]
    finally:
        wait(jobs)  # a half-made step must not go on behind the back of who catches an interrupt


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    ready = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # at first sight a thread takes what was set last: not after it has set its own
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(count, "replicas", initializer=begin)
    for _ in range(count):  # each starts a thread, since those before it wait
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(count)  # threads that are made later begin with what was set last, wherever
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
