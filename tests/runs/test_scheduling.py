"""Several sweeps share workers: none is idle while there is a job, and earlier sweeps come first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core import Experiment
from mdfa_core.runs.records import Record
from mdfa_core.runs.scheduling import Advance, schedule
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.workers import Job, NextJob
from tests.support.workers import Counting, ShuffledWorkers

SMALL = Experiment(network="fc:8", epochs=2)


class Planned:
    """A sweep of made-up jobs, which notes when each ends."""

    def __init__(self, jobs: list[Job], ended: list[Job]) -> None:
        self.jobs, self._ended = jobs, ended

    def finished(self, job: Job, records: tuple[Record, ...]) -> Advance:
        self.jobs = [waiting for waiting in self.jobs if waiting is not job]
        self._ended.append(job)
        return Advance(records=records, done=0, total=0)


PROGRAMS = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=6)  # jobs of each sweep of each program


@hypothesis.settings(max_examples=300)
@given(sizes=PROGRAMS, count=st.integers(1, 7), seed=st.integers(0, 9))
def test_workers_are_kept_busy_and_earlier_programs_go_first(sizes: list[list[int]], count: int, seed: int) -> None:
    number = itertools.count(1)
    plan = [[[Job(experiments=(SMALL.replace(seed=next(number)),)) for _ in range(n)] for n in p] for p in sizes]
    ended: list[Job] = []
    begun: list[int] = []
    over: list[int] = []
    open_jobs: dict[int, list[Job]] = {}  # of every program: of the sweep it waits for

    def program(which: int) -> Iterator[Planned]:
        begun.append(which)
        for jobs in plan[which]:
            open_jobs[which] = jobs
            yield Planned(list(jobs), ended)
            assert set(jobs) <= set(ended)  # asked for the next only when this is trained
        over.append(which)

    workers = ShuffledWorkers(count, seed, lambda job: ())
    given_out: list[Job] = []
    original = workers.run

    def watched(next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        def asked() -> Job | None:
            before = list(begun)
            job = next_job()
            waiting = [j for which in before if which not in over for j in open_jobs[which] if j not in given_out]
            if begun != before:
                assert not waiting, "a further program was begun, though there was work"
            if job is None:
                assert not waiting
                assert len(begun) == len(plan), "there was none, though a program was not begun"
            elif waiting:
                assert job is waiting[0], "not the first job of the earliest program"
            if job is not None:
                given_out.append(job)
            return job

        return original(asked)

    workers.run = watched  # type: ignore[method-assign]
    for _ in schedule(map(program, range(len(plan))), workers):
        pass

    assert begun == list(range(len(plan)))
    assert sorted(over) == begun
    everything = [job for sweeps_of in plan for jobs in sweeps_of for job in jobs]
    assert len(ended) == len(everything)
    assert set(ended) == set(everything)


def test_a_sweep_in_the_store_takes_no_worker_and_its_program_goes_on(store: Store) -> None:
    list(Sweep([SMALL], store=store, device="cpu"))
    found: list[str] = []

    def program() -> Iterator[Sweep]:
        first = Sweep([SMALL], store=store, device="cpu")
        yield first
        found.extend(record.key for record in first.records())
        yield Sweep([SMALL.replace(seed=1)], store=store, device="cpu")
        found.append("over")

    workers = Counting()
    ((sweep, advance),) = schedule([program()], workers)

    assert (advance.done, advance.total, len(sweep.records())) == (1, 1, 1)
    assert workers.trained == [SMALL.replace(seed=1)]
    assert [store.named(found[0]).experiment, found[1:]] == [SMALL, ["over"]]  # type: ignore[union-attr]
