"""Many runs: packed into stacks that fit, trained once, the same as alone, stopped and gone on with."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from mdfa_core import METHODS, OPTIMIZERS, Every, Experiment, Run, sweeps, train
from mdfa_core.data import load_task
from mdfa_core.errors import DataError, InvalidValue
from mdfa_core.learner import TOGETHER
from mdfa_core.records import Record, Recorder
from mdfa_core.store import Store
from mdfa_core.sweeps import Advance, Here, Job, NextJob, Sweep, kept_busy, packed, predicted_memory
from mdfa_core.training import VARYING
from tests.workers import InAnyOrder

SMALL = Experiment(network="fc:8", epochs=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs.sqlite") as made:
        yield made


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


def test_a_stack_that_does_not_fit_is_split_with_a_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wanted = [SMALL.replace(seed=seed, task_seed=0) for seed in range(9)]
    one = predicted_memory(SMALL)
    with caplog.at_level(logging.INFO, "mdfa_core.sweeps"):
        assert [len(stack) for stack in packed(wanted, memory=100 * one)] == [9]
        assert not caplog.records
        assert [len(stack) for stack in packed(wanted, memory=5 * one)] == [4, 4, 1]
    assert "a stack of 9 replicas needs about" in caplog.text
    assert "split into stacks of 4" in caplog.text
    assert [len(stack) for stack in packed(wanted, memory=1)] == [1] * 9


def test_a_graph_keeps_a_batch_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    large = SMALL.replace(network="fc:300,200", batch_size=600)
    batch = 4 * 600 * 500  # of every hidden unit one number, which is the least
    on_the_cpu = predicted_memory(large)

    assert predicted_memory(large, "cpu") == on_the_cpu
    assert predicted_memory(large, "cuda:1") > on_the_cpu + batch
    drawing = large.replace(method="dtp")
    assert predicted_memory(drawing, "cuda:1") == predicted_memory(drawing)  # is never replayed
    monkeypatch.setenv("MDFA_GRAPH", "off")
    assert predicted_memory(large, "cuda:1") == on_the_cpu


def test_as_many_stacks_as_workers() -> None:
    assert len(packed([SMALL.replace(seed=seed, task_seed=0) for seed in range(8)], at_least=4)) >= 4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["fc:300,200", "conv:8/3/1,16/3/2"])
@pytest.mark.parametrize("method", ["mdfa", "fa"])
def test_predicted_memory_covers_what_a_run_holds(network: str, optimizer: str, method: str) -> None:
    experiment = SMALL.replace(network=network, optimizer=optimizer, method=method)
    run = Run(experiment, device="cpu")
    inputs, labels = run.batch(1)
    batch = run.learner.observe(inputs, labels)
    trace, signals = batch.trace, batch.signals
    held = [*run.learner.parameters.tensors(), *run._best.tensors(), *run.learner.feedback]
    held += [slot for slots in run.learner.descent.slots for slot in slots]
    held += [*trace.inputs, *trace.saved, *signals.deltas]
    distinct = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}

    assert sum(distinct.values()) <= predicted_memory(experiment)


def test_a_sweep_gives_what_each_run_gives_alone(store: Store) -> None:
    wanted = [SMALL.replace(seed=seed, learning_rate=rate) for seed in range(3) for rate in (0.01, 0.1)]
    sweep = Sweep(wanted, store=store, test=True, probe=Every(epochs=1), device="cpu")
    advances = list(sweep)

    assert [a.done for a in advances] == sorted(a.done for a in advances)
    assert advances[-1].done == advances[-1].total == len(wanted)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for record in sweep.records():
            *_, finished = train(record.experiment, device="cpu")
            assert (record.best_train_accuracy,) == finished.best_train_accuracy
            assert (record.test_accuracy,) == finished.test_accuracy
            assert len(record.curve) == len(record.probes) == 2
    finally:
        torch.set_num_threads(before)
    assert not Sweep(wanted, store=store, test=True, device="cpu").jobs


def test_a_sealed_run_counts_as_missing_where_test_images_may_be_opened(store: Store) -> None:
    for _ in Sweep([SMALL], store=store, device="cpu"):
        pass
    (sealed,) = Sweep([SMALL], store=store, device="cpu").records()
    assert sealed.sealed
    assert sealed.test_accuracy is None

    again = Sweep([SMALL], store=store, test=True, device="cpu")
    assert len(again.jobs) == 1
    with pytest.raises(InvalidValue, match="1 of 1 runs are missing"):
        again.records()
    for _ in again:
        pass
    (opened,) = again.records()
    assert opened.test_accuracy is not None
    assert not Sweep([SMALL], store=store, device="cpu").jobs


def test_a_sweep_that_was_left_goes_on(store: Store) -> None:
    wanted = [SMALL.replace(network=f"fc:{width}") for width in (4, 5, 6, 7)]
    first = Sweep(wanted, store=store, device="cpu")
    next(iter(first))
    assert len(store) == 1

    assert len(Sweep(wanted, store=store, device="cpu").jobs) == 3


@pytest.mark.slow
def test_a_killed_sweep_keeps_every_finished_run_and_no_half_one(tmp_path: Path) -> None:
    program = (
        "import sys; from mdfa_core import Experiment\n"
        "from mdfa_core.store import Store; from mdfa_core.sweeps import Sweep\n"
        "wanted = [Experiment(network='fc:32', epochs=40, batch_size=b) for b in range(16, 64)]\n"
        "with Store(sys.argv[1]) as store:\n"
        "    for advance in Sweep(wanted, store=store, device='cpu'): print(advance.records[0].key, flush=True)\n"
    )
    path = tmp_path / "runs.sqlite"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(3)]
        time.sleep(0.05)
        process.kill()
    with Store(path) as store:
        kept = store.keys()
        assert set(told) <= set(kept)
        assert all(len(record.curve) == 40 for record in store.records())


# ------------------------------------------------------------------------------------------- any packing, any machine

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


@hypothesis.settings(max_examples=40)
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
    assert sizes("fc:1024,1024", "cpu")[0] == TOGETHER // (1024 * (64 + 1) + 1024 * (1024 + 1) + 1024 + 1)
    assert sizes("fc:4096,4096", "cpu") == [1] * 100
    assert sizes("fc:8", "cuda") == sizes("fc:4096,4096", "cuda") == [100]


def test_without_a_limit_it_is_what_is_free_here_shared_by_who_works_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiments = [SMALL.replace(learning_rate=0.01 * (n + 1)) for n in range(8)]
    monkeypatch.setattr(sweeps, "free_memory", lambda device: int(4.5 * predicted_memory(SMALL) / 0.8))

    assert [len(stack) for stack in packed(experiments)] == [4, 4]
    assert [len(stack) for stack in packed(experiments, at_least=2)] == [2, 2, 2, 2]


def test_a_stack_of_a_command_that_would_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "free_memory", lambda device: int(4.5 * predicted_memory(SMALL) / 0.8))
    stack = [SMALL.replace(seed=seed) for seed in range(5)]
    sweeps.refuse_too_large(stack[:4], device="cpu")

    with pytest.raises(InvalidValue, match=r"a stack of 5 replicas needs about .*train at most 4 side by side"):
        sweeps.refuse_too_large(stack, device="cpu")
    monkeypatch.setattr(sweeps, "free_memory", lambda device: predicted_memory(SMALL))
    sweeps.refuse_too_large(stack[:1], device="cpu")  # a single net may take all that is free
    with pytest.raises(InvalidValue, match=r"a stack of 2 replicas .*train at most 1 side by side"):
        sweeps.refuse_too_large(stack[:2], device="cpu")
    monkeypatch.setattr(sweeps, "free_memory", lambda device: predicted_memory(SMALL) - 1)
    with pytest.raises(InvalidValue, match=r"a run of .* needs about .*: give a smaller net or a smaller batch"):
        sweeps.refuse_too_large(stack[:1], device="cpu")


@pytest.mark.parametrize("batch_size", [32, 100, 200], ids=["many steps", "two steps", "one step"])
def test_an_epoch_takes_time_however_few_its_mini_batches(batch_size: int) -> None:
    assert sweeps.seconds_an_epoch(Experiment(network="fc:8", batch_size=batch_size, epochs=1), device="cpu") > 0


def _peak(experiment: Experiment) -> int:
    """The most bytes that a run's tensors held at any time, by PyTorch's own count of its allocations."""
    with sweeps.threads(1):
        Run(experiment, device="cpu")  # what is made once a process
        tasks = sweeps._cache("cpu", None)
        tasks.load(experiment.data, **experiment.task_settings)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
            for _ in Run(experiment, device="cpu", tasks=tasks).events():
                pass
    now = most = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("method", ["bp", "mdfa"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", ["fc:256,256", "fc:1024,1024,1024", "conv:32/3/1,32/3/1", "digits-conv"])
def test_predicted_memory_is_enough_and_not_twice_too_much(
    network: str, optimizer: str, method: str, activation: str
) -> None:
    settings = {"method": method, "optimizer": optimizer, "activation": activation}
    experiment = Experiment(network=network, outputs=10, epochs=1, **settings)  # ten: an evaluation's chunks are full

    assert 1.0 <= predicted_memory(experiment) / _peak(experiment) <= 2.0


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "chl", "network": "conv:96/2/1,96/2/1,64/2/1", "batch_size": 64},
        {"method": "chl", "network": "conv:32/3/1,32/3/1", "batch_size": 200},
        {"method": "chl", "network": "fc:256,256", "batch_size": 200},
        *(
            {"optimizer": name, "l2": l2, "network": "fc:3072,1024", "batch_size": 1, "validation": 0.9}
            for name in ("rmsprop", "adam", "signsgd", "rprop")  # of batches this small no update is made in parts
            for l2 in (0.0, 0.01)
        ),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_predicted_memory_is_enough_for_two_phases_and_for_updates_that_are_made_whole(
    settings: dict[str, Any], activation: str
) -> None:
    experiment = Experiment(outputs=10, epochs=1, activation=activation, **settings)

    assert 1.0 <= predicted_memory(experiment) / _peak(experiment) <= 2.0


# ------------------------------------------------------------------------------------------------- any mix of runs

MIXED = [  # two stacks of unequal work, and one whose replicas differ in all that may differ
    *(SMALL.replace(seed=s, learning_rate=r) for s in (0, 1) for r in (0.01, 0.1)),
    SMALL.replace(method="bp", optimizer="adam", seed=3),
    SMALL.replace(method="dfa", outputs=3, l2=0.01, feedback_init="uniform:1", forward_init="zeros"),
    SMALL.replace(method="dfa", outputs=3, convention="released", task_seed=4, learning_rate=0.3),
    SMALL.replace(activation="relu", learning_rate=1e38),  # diverges
    SMALL.replace(method="fa", drop_last=False, seed=2),
]


def _numbers(record: Record) -> dict[str, Any]:
    """All of a record but where it was made."""
    return {name: value for name, value in record.to_dict().items() if name != "provenance"}


def _alone(experiment: Experiment, *, test: bool = False, probe: Every | None = None) -> dict[str, Any]:
    """The slow way: one run, one thread, nothing shared."""
    with sweeps.threads(1):
        run = Run(experiment, device="cpu", test=test)
        recorder = Recorder(run)
        for event in run.events(probe=probe):
            recorder(event)
    return _numbers(recorder.records[0])


class Counting(Here):
    """This process, with a note of what was trained."""

    def __init__(self) -> None:
        self.trained: list[Experiment] = []

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        def noted() -> Job | None:
            job = next_job()
            self.trained += job.experiments if job else ()
            return job

        return super().run(noted)


@pytest.mark.parametrize("test", [False, True])
def test_a_mixed_sweep_gives_what_single_runs_give_bit_for_bit(store: Store, test: bool) -> None:
    probe = Every(epochs=1)
    work = Sweep([*MIXED, MIXED[0]], store=store, test=test, probe=probe, device="cpu")
    before = torch.get_num_threads()
    advances = list(work)

    assert [_numbers(record) for record in work.records()] == [_alone(e, test=test, probe=probe) for e in MIXED]
    assert any(record.diverged_at is not None for record in work.records())
    assert any(record.provenance.replicas > 1 for record in work.records())
    assert {record.provenance.threads for record in work.records()} == {1}
    assert torch.get_num_threads() == before
    assert len(store) == len(MIXED) == len(work.experiments)
    assert list(itertools.accumulate(len(a.records) for a in advances)) == [a.done for a in advances]


@pytest.mark.parametrize("stop", range(4))
def test_a_sweep_left_anywhere_trains_nothing_twice(store: Store, stop: int) -> None:
    counting = Counting()
    work = Sweep(MIXED, store=store, workers=counting, device="cpu")
    for _ in itertools.islice(work, stop):
        pass
    again = Sweep(MIXED, store=store, workers=counting, device="cpu") if stop % 2 else work
    last = list(again)[-1]

    assert last.done == last.total == len(MIXED) == len(store)
    assert len(set(counting.trained)) == len(MIXED)
    # A loop that is left after an advance leaves the next stack unbegun.
    assert len(counting.trained) == len(MIXED)
    assert [_numbers(record) for record in again.records()] == [_alone(experiment) for experiment in MIXED]


def test_the_longest_job_is_first(store: Store) -> None:
    experiments = [SMALL.replace(epochs=e) for e in (2, 9, 4)] + [SMALL.replace(network="fc:64", epochs=3)]
    jobs = Sweep(experiments, store=store, device="cpu").jobs

    assert [job.experiments[0].epochs for job in jobs] == [3, 9, 4, 2]


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_job_knows_its_steps(drop_last: bool) -> None:
    experiment = SMALL.replace(drop_last=drop_last, batch_size=50, epochs=3)

    assert Job(experiments=(experiment,)).steps() == Run(experiment, device="cpu").steps


def test_runs_on_other_data_are_refused_before_they_are_stored(store: Store) -> None:
    class Elsewhere(Here):
        def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
            for job, records in super().run(next_job):
                yield job, tuple(replace(record, checksum="0" * 64) for record in records)

    with pytest.raises(DataError, match="a worker trained on digits images that are not those of this machine"):
        list(Sweep([SMALL], store=store, workers=Elsewhere(), device="cpu"))
    assert len(store) == 0


# -------------------------------------------------------------------------------------------------- several at a time


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

    def program(which: int) -> Iterator[Sweep]:
        begun.append(which)
        for jobs in plan[which]:
            open_jobs[which] = jobs
            yield Planned(list(jobs), ended)  # type: ignore[misc]
            assert set(jobs) <= set(ended)  # asked for the next only when this is trained
        over.append(which)

    workers = InAnyOrder(count, seed, lambda job: ())
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
    for _ in kept_busy(map(program, range(len(plan))), workers):
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
    ((sweep, advance),) = kept_busy([program()], workers)

    assert (advance.done, advance.total, len(sweep.records())) == (1, 1, 1)
    assert workers.trained == [SMALL.replace(seed=1)]
    assert [store.named(found[0]).experiment, found[1:]] == [SMALL, ["over"]]  # type: ignore[union-attr]
