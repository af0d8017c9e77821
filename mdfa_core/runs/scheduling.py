"""Several sweeps that share the same workers."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mdfa_core.runs.records import Record
from mdfa_core.runs.workers import Job, Workers


@dataclass(frozen=True, kw_only=True)
class Advance:
    """How far a sweep has come.

    Attributes:
        records: the runs that have just been finished and stored.
        done: number of experiments finished, including those found in the store.
        total: number of experiments of the sweep.
    """

    records: tuple[Record, ...]
    done: int
    total: int


class Schedulable(Protocol):
    """A list of jobs, such as a `Sweep`."""

    @property
    def jobs(self) -> Sequence[Job]:
        """The jobs that are not finished."""

    def finished(self, job: Job, records: tuple[Record, ...]) -> Advance:
        """Accept the records of one of the jobs, which is no longer in `jobs` afterwards."""


S = TypeVar("S", bound=Schedulable)


def schedule(programs: Iterable[Iterator[S]], workers: Workers) -> Iterator[tuple[S, Advance]]:
    """Train several programs of sweeps on the same workers; no worker is idle while any program has a job.

    A program yields sweeps one after the other. The scheduler asks for the next sweep when the last one is trained, so
    a sweep may depend on the records of the one before. Earlier programs come first: the scheduler starts another
    program only when a worker would otherwise be idle. The caller may stop iterating at any moment.

    Raises:
        DataError, ClusterError, StoreError: as for iterating over a sweep.
    """
    unbegun = enumerate(programs)
    order = itertools.count()
    waiting: list[tuple[int, int, Job]] = []  # a heap: by the program's number, then in order of arrival
    origin: dict[int, tuple[int, Iterator[S], S]] = {}  # by the job's id, which is unique while its sweep keeps the job

    def go_on(number: int, program: Iterator[S]) -> None:
        for sweep in program:
            for job in sweep.jobs:
                heapq.heappush(waiting, (number, next(order), job))
                origin[id(job)] = number, program, sweep
            if sweep.jobs:
                return

    def next_job() -> Job | None:
        while not waiting:
            begun = next(unbegun, None)
            if begun is None:
                return None
            go_on(*begun)
        return heapq.heappop(waiting)[2]

    for job, records in workers.run(next_job):
        number, program, sweep = origin.pop(id(job))
        yield sweep, sweep.finished(job, records)
        if not sweep.jobs:
            go_on(number, program)
