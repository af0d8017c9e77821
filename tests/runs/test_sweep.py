"""A sweep trains what the store lacks, gives what each run gives alone, and goes on after a stop."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mdfa_core import Every, Experiment, Run, train
from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.compute import threads
from mdfa_core.runs.records import Record, Recorder
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.workers import InProcess, Job, NextJob
from mdfa_core.training.memory import predicted_memory
from tests.support.workers import Counting

SMALL = Experiment(network="fc:8", epochs=2)


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


def test_a_sweep_that_measures_leaves_room_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [SMALL.replace(seed=seed, task_seed=0) for seed in range(9)]
    monkeypatch.setattr(InProcess, "memory", lambda self, device: 5 * predicted_memory(SMALL))
    most = [
        max(len(job.experiments) for job in Sweep(wanted, store=store, probe=p).jobs) for p in (None, Every(epochs=1))
    ]
    assert most == [4, 3]


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
        "from mdfa_core.runs.store import Store; from mdfa_core.runs.sweep import Sweep\n"
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
    with threads.limited(1):
        run = Run(experiment, device="cpu", test=test)
        recorder = Recorder(run)
        for event in run.events(probe=probe):
            recorder(event)
    return _numbers(recorder.records[0])


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


def test_runs_have_the_command_that_made_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/srv/ada/bin/mdfa", "reproduce", "1", "--data-dir", "/srv/ada/data"])
    work = Sweep([SMALL], store=store, device="cpu")
    monkeypatch.setattr("sys.argv", ["a worker"])
    list(work)

    assert [record.provenance.command for record in work.records()] == ["mdfa reproduce 1 --data-dir ..."]
    assert [row["command"] for row in store.rows()] == ["mdfa reproduce 1 --data-dir ..."]


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


def test_runs_on_other_data_are_refused_before_they_are_stored(store: Store) -> None:
    class Elsewhere(InProcess):
        def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
            for job, records in super().run(next_job):
                yield job, tuple(replace(record, checksum="0" * 64) for record in records)

    with pytest.raises(DataError, match="a worker trained on digits images that differ from this machine's"):
        list(Sweep([SMALL], store=store, workers=Elsewhere(), device="cpu"))
    assert len(store) == 0
