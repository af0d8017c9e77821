"""Sweep workers that run in this process but finish their jobs out of order, as a cluster's workers do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from mdfa_core.runs.records import Record
from mdfa_core.runs.workers import InProcess, Job, NextJob, Workers
from mdfa_core.training.experiment import Experiment


class ShuffledWorkers(Workers):
    """Takes up to `count` jobs at a time and finishes them in random order.

    Attributes:
        held: the jobs in progress each time a job finished.
    """

    def __init__(self, count: int, seed: int = 0, work: Callable[[Job], tuple[Record, ...]] = Job.run) -> None:
        self._count, self._random, self._work = count, random.Random(seed), work
        self.held: list[tuple[Job, ...]] = []

    @property
    def count(self) -> int:
        return self._count

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        jobs: list[Job] = []
        while True:
            while len(jobs) < self.count and (job := next_job()) is not None:
                jobs.append(job)
            if not jobs:
                return
            self.held.append(tuple(jobs))
            job = jobs.pop(self._random.randrange(len(jobs)))
            yield job, self._work(job)


class Counting(InProcess):
    """Runs jobs in this process and notes the experiments in `trained`."""

    def __init__(self) -> None:
        self.trained: list[Experiment] = []

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        def noted() -> Job | None:
            job = next_job()
            self.trained += job.experiments if job else ()
            return job

        return super().run(noted)
