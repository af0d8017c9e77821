"""How many threads of PyTorch a run trains with on a CPU: by the size of its products, and by measuring."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mdfa_core.base.machine import checked_threads
from mdfa_core.compute import kernels, threads
from mdfa_core.learning.learner import Learner

_TRIED_WEIGHTS = 1 << 24  # a trial copies the weights of one network: 64 MiB

Batch = tuple[Tensor, Tensor]


class ThreadCount:
    """Chooses the number of threads, at most the number that PyTorch has in the calling thread.

    Small networks train with one thread: a second one gains nothing on an idle machine and costs a multiple on a busy
    one. For large networks, the run measures whether one thread or all are faster, if a trial shows that their results
    are bit-identical. Otherwise all threads are used, so that the numbers do not depend on other programs.

    Args:
        forced: this number instead, whatever the size; None chooses.

    Raises:
        InvalidValue: `forced` is no integer from 1 to the number of cores.
    """

    def __init__(self, forced: int | None) -> None:
        self.forced = None if forced is None else checked_threads(forced)
        self._faster = threads.FasterCount()
        self._chosen: dict[tuple[Learner, int], int | None] = {}

    def fixed(self, learner: Learner, batches: Callable[[], Iterator[Batch]]) -> int | None:
        """The number of threads; None if it is measured.

        Args:
            learner: the networks.
            batches: makes one mini-batch of every shape.
        """
        most = torch.get_num_threads()
        if self.forced is not None:
            return self.forced
        if most == 1 or learner.parameters.weights[0].device.type != "cpu":
            return most
        kind = (learner, most)
        if kind not in self._chosen:
            self._chosen = {kind: self._by_size(learner, list(batches()), most)}
        return self._chosen[kind]

    @staticmethod
    def _by_size(learner: Learner, batches: Sequence[Batch], most: int) -> int | None:
        product = max(learner.largest_product(inputs) for inputs, _ in batches)
        if product * learner.replicas < kernels.LARGE_PRODUCT:
            return 1
        if learner.network.parameter_count <= _TRIED_WEIGHTS and all(learner.thread_invariant(*b) for b in batches):
            return None
        return most if product >= kernels.LARGE_PRODUCT else 1  # a replica gets the number that it gets alone

    @contextmanager
    def in_force(self, fixed: int | None, steps: Callable[[], int]) -> Iterator[None]:
        """Train with that many threads inside a `with` block; without a number, with the faster one.

        Args:
            fixed: what `fixed` returned.
            steps: the number of mini-batches so far.
        """
        if fixed is not None:
            with threads.limited(fixed):
                yield
            return
        count = self._faster.choose(torch.get_num_threads())
        before, began = steps(), time.monotonic()
        with threads.limited(count):
            yield
        self._faster.took(count, steps() - before, time.monotonic() - began)
