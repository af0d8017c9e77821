"""Workers of this process that behave as many do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from mdfa_core.records import Record
from mdfa_core.sweeps import Job, NextJob, Workers


class InAnyOrder(Workers):
    """They hold as many jobs as they are, and end them in any order.

    Attributes:
        held: what was in their hands whenever a job ended.
    """

    def __init__(self, count: int, seed: int = 0, work: Callable[[Job], tuple[Record, ...]] = Job.run) -> None:
        self._count, self._random, self._work = count, random.Random(seed), work
        self.held: list[tuple[Job, ...]] = []

    @property
    def count(self) -> int:
        return self._count

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        hands: list[Job] = []
        while True:
            while len(hands) < self.count and (job := next_job()) is not None:
                hands.append(job)
            if not hands:
                return
            self.held.append(tuple(hands))
            job = hands.pop(self._random.randrange(len(hands)))
            yield job, self._work(job)
