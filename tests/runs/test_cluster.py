"""A real Dask scheduler with worker processes on loopback: exact, resumable, and clear about what goes wrong."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mdfa_core.base.errors import ClusterError, DeviceError, InvalidValue
from mdfa_core.runs import cluster
from mdfa_core.runs.capacity import free_memory
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.timing import cost
from mdfa_core.runs.workers import InProcess, Job, NextJob
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.memory import predicted_memory

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]

distributed = pytest.importorskip("distributed", reason="needs Dask: pip install -e '.[distributed]' in the clone")

ROOT = Path(__file__).parents[2]
TINY = Experiment(network="fc:8", epochs=2, batch_size=32)
MIXED = [
    *(TINY.replace(seed=s, learning_rate=r) for s in (0, 1) for r in (0.01, 0.1)),
    TINY.replace(method="bp", optimizer="adam", seed=3),
    TINY.replace(method="dfa", outputs=3, network="conv:4/3/1"),
]
LONG = TINY.replace(network="fc:64,64", epochs=100_000)  # never ends by itself


def numbers(record: Record) -> dict[str, Any]:
    """All of a record but where it was made."""
    return {name: value for name, value in record.to_dict().items() if name != "provenance"}


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def _dask(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`dask ARGUMENTS` as a process; killed at the end."""
    environment = {**os.environ, "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "False"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _cluster(folder: Path, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and its workers: its address, its process."""
    address = f"tcp://127.0.0.1:{_port()}"
    log = folder / "dask.log"
    options = ("--nthreads", "1", "--no-dashboard", "--memory-limit", "0", "--local-directory", str(folder))
    with contextlib.ExitStack() as stack:
        port = address.rpartition(":")[2]
        scheduler = stack.enter_context(
            _dask("scheduler", "--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0", log=log)
        )
        for _ in range(workers):
            stack.enter_context(_dask("worker", address, *options, log=log))
        with cluster.workers(address) as found:
            found.client.wait_for_workers(workers, timeout=60)  # type: ignore[attr-defined]
        yield address, scheduler


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler with two workers."""
    with _cluster(tmp_path_factory.mktemp("dask"), 2) as (where, _):
        yield where


@dataclass(frozen=True, kw_only=True)
class Noted(Job):
    """A job that says in a file when it begins, and in which process."""

    folder: str

    def run(self) -> tuple[Record, ...]:
        with open(Path(self.folder) / self.experiments[0].digest(), "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return super().run()


def _each(jobs: Iterable[Job]) -> NextJob:
    """One after the other, then none."""
    left = iter(jobs)
    return lambda: next(left, None)


def _beginnings(folder: Path, experiment: Experiment) -> list[int]:
    path = folder / experiment.digest()
    return [int(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------- it all works


def test_a_cluster_gives_what_this_process_gives_bit_for_bit(address: str, store: Store, tmp_path: Path) -> None:
    with cluster.workers(address) as workers:
        work = Sweep(MIXED, store=store, workers=workers)
        advances = list(work)
        assert workers.count == 2
    with Store(tmp_path / "here.sqlite") as other:
        here = Sweep(MIXED, store=other, device="cpu")
        list(here)

        assert [numbers(record) for record in work.records()] == [numbers(record) for record in here.records()]
    assert len(store) == len(MIXED) == advances[-1].done
    assert len(advances) >= 3
    assert {record.provenance.threads for record in store.records()} == {1}


def test_processes_of_this_machine_do_too(store: Store) -> None:
    with cluster.workers("local:1") as workers:
        assert (workers.count, workers.device("auto"), workers.device("cpu")) == (1, workers.device("auto"), "cpu")
        work = Sweep(MIXED[:1], store=store, workers=workers, device="cpu")
        list(work)

    assert numbers(work.records()[0]) == numbers(Job(experiments=(MIXED[0],)).run()[0])


def test_memory_is_shared_by_the_workers_of_a_machine(address: str) -> None:
    with cluster.workers(address) as workers:
        assert 0.3 * free_memory("cpu") < workers.memory("cpu") < 0.7 * free_memory("cpu")


def test_a_device_the_workers_lack_is_their_sentence(address: str, store: Store) -> None:
    with cluster.workers(address) as workers, pytest.raises(DeviceError, match="this machine has"):
        Sweep(MIXED, store=store, workers=workers, device="cuda:99")


def test_freed_memory_is_kept_by_a_worker() -> None:
    # What Dask sets makes glibc give every large block back; only the time of a step shows it. Here: it can be undone.
    cluster._keep_freed_memory.cache_clear()
    cluster._keep_freed_memory()


# ------------------------------------------------------------------------------------------------------ what may happen


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_stack(address: str, tmp_path: Path) -> None:
    slow = TINY.replace(network="fc:64,64", epochs=300)
    quick = [TINY.replace(epochs=n) for n in (1, 2, 3)]
    jobs = [Noted(experiments=(e,), folder=str(tmp_path)) for e in (slow, *quick)]

    def kill() -> None:
        _until(lambda: _beginnings(tmp_path, slow))
        os.kill(_beginnings(tmp_path, slow)[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with cluster.workers(address) as workers:
        done = dict(workers.run(_each(jobs)))
    killer.join()

    assert [numbers(done[job][0]) for job in jobs] == [numbers(Job(experiments=j.experiments).run()[0]) for j in jobs]
    assert len(_beginnings(tmp_path, slow)) == 2
    assert [len(_beginnings(tmp_path, e)) for e in quick] == [1, 1, 1]


@pytest.mark.slow
def test_leaving_the_loop_frees_the_workers(address: str, tmp_path: Path) -> None:
    waiting = TINY.replace(epochs=7)
    jobs = [Noted(experiments=(e,), folder=str(tmp_path)) for e in (TINY, LONG, LONG.replace(seed=1), waiting)]
    with cluster.workers(address) as workers:
        for _ in workers.run(_each(jobs)):
            break
        _until(lambda: not any(workers.client.processing().values()))  # type: ignore[attr-defined]
        workers.client.restart(timeout=60)  # type: ignore[attr-defined] # a thread cannot be stopped; its process can


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_a_sentence_and_a_rerun_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 10.0)
    folder = tmp_path / "dask"
    folder.mkdir()
    experiments = [TINY.replace(epochs=n) for n in (1, 2, 200)]
    gone = r"the scheduler of tcp://.* went away .*run again; what was finished is kept"
    with _cluster(folder, 1) as (where, scheduler), cluster.workers(where) as workers:
        work = Sweep(experiments, store=store, workers=workers)
        work.jobs.sort(key=cost)
        advances = iter(work)
        next(advances)
        scheduler.kill()
        with pytest.raises(ClusterError, match=gone):
            list(advances)
    kept = len(store)
    assert 1 <= kept < 3

    work = Sweep(experiments, store=store, workers=InProcess(), device="cpu")
    assert sum(len(job.experiments) for job in work.jobs) == 3 - kept
    list(work)
    assert len(store) == 3


@pytest.mark.slow
def test_a_cluster_that_is_gone_between_two_sweeps_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 10.0)
    again = "run again; what was finished is kept"
    with _cluster(tmp_path, 1) as (where, scheduler), cluster.workers(where) as workers:
        client = workers.client  # type: ignore[attr-defined]
        client.retire_workers(list(client.nthreads()), close_workers=True)
        _until(lambda: not client.nthreads())
        for ask in (workers.device, workers.memory):
            with pytest.raises(ClusterError, match=f"{where} has no workers left: start some .* and {again}"):
                ask("cpu")
        assert workers.count == 1  # more may come while a sweep waits for them

        scheduler.kill()
        scheduler.wait()
        questions = (lambda: workers.device("auto"), lambda: workers.memory("cpu"), lambda: workers.count)
        for question in questions:
            with pytest.raises(ClusterError, match=f"the scheduler of {where} went away .*{again}"):
                question()
        _until(lambda: client.status == "closed")  # it has given up
        for question in questions:
            with pytest.raises(ClusterError, match=f"the scheduler of {where} went away .*{again}"):
                question()


def _fails(*arguments: Any) -> None:
    raise RuntimeError("ConnectionPool is closed")


def test_only_errors_of_a_closed_connection_are_taken_for_a_scheduler_that_went_away() -> None:
    client = SimpleNamespace(nthreads=_fails, run=_fails, status="closing")
    workers = cluster.DaskWorkers(client, "tcp://host:8786")  # type: ignore[arg-type]

    with pytest.raises(ClusterError, match=r"the scheduler of tcp://host:8786 went away \(RuntimeError\)"):
        _ = workers.count
    client.status = "running"
    with pytest.raises(RuntimeError, match="is closed"):  # a worker's own
        workers.memory("cuda:0")


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_a_sentence(address: str) -> None:
    with cluster.workers(address) as workers:
        workers.client.run_on_scheduler(_allow_no_death)  # type: ignore[attr-defined]
        with pytest.raises(ClusterError, match=r"one job killed several workers of .* in a row"):
            list(workers.run(_each([Deadly(experiments=(TINY,))])))
        _until(lambda: workers.count == 2)


@dataclass(frozen=True, kw_only=True)
class Deadly(Job):
    """A job that ends its worker."""

    def run(self) -> tuple[Record, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()


def _allow_no_death(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 0


def test_an_error_of_a_job_is_told_as_it_is(address: str) -> None:
    with cluster.workers(address) as workers:
        job = Job(experiments=(TINY, TINY.replace(method="bp")))
        with pytest.raises(InvalidValue, match="the replicas of one stack differ in method"):
            list(workers.run(_each([job])))


# ---------------------------------------------------------------------------------------------------------- wrong ones


def test_a_worker_of_another_version_is_a_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "NUMERICS", 99)

    with (
        pytest.raises(ClusterError, match=r"the worker tcp://.* has numerics 1, but this program has 99: install the"),
        cluster.workers(address),
    ):
        pass


def _broken_elsewhere(here: int) -> dict[str, Any]:
    if os.getpid() != here:
        raise ModuleNotFoundError("No module named 'mdfa_core'")
    return {}


def test_a_worker_without_this_program_is_a_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_versions", functools.partial(_broken_elsewhere, os.getpid()))

    with (
        pytest.raises(ClusterError, match=r"cannot run this program .*No module named 'mdfa_core'.*: install the same"),
        cluster.workers(address),
    ):
        pass


def test_a_worker_that_dies_during_the_check_is_not_called_of_another_version() -> None:
    from distributed.comm import CommClosedError

    client = SimpleNamespace(
        wait_for_workers=lambda *arguments, **options: None,
        run=lambda function, **options: {"tcp://host:1": CommClosedError("in <TCP>: Stream is closed")},
    )

    with pytest.raises(ClusterError, match=r"the worker tcp://host:1 went away .*CommClosedError.*: see its log, and"):
        cluster._checked(client, "tcp://host:8786")  # type: ignore[arg-type]


def test_workers_with_threads_are_refused() -> None:
    client = SimpleNamespace(
        wait_for_workers=lambda *arguments, **options: None,
        run=lambda function, **options: {"tcp://host:1": function()},
        nthreads=lambda: {"tcp://host:1": 4},
    )

    with pytest.raises(ClusterError, match=r"the worker tcp://host:1 runs 4 jobs at a time in threads.*--nthreads 1"):
        cluster._checked(client, "tcp://host:8786")  # type: ignore[arg-type]


def test_workers_of_unlike_devices_are_refused() -> None:
    client = SimpleNamespace(run=lambda function, name: {"tcp://a:1": "cpu", "tcp://b:1": "cuda:0"})

    with pytest.raises(DeviceError, match="device 'auto' means cpu and cuda:0 to the workers of tcp://host:8786"):
        cluster.DaskWorkers(client, "tcp://host:8786").device("auto")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpus", "least"),
    [(("", "", ""), 45), (("A", "B", "C"), 80), (("A", "A", "C"), 45), (("A", "B", "A"), 80)],
    ids=["none", "one each", "one for two", "as if one for two machines"],
)
def test_what_workers_share_is_divided(gpus: tuple[str, ...], least: int) -> None:
    free = dict(zip(("tcp://a:1", "tcp://a:2", "tcp://b:1"), zip(gpus, (100, 90, 80), strict=True), strict=True))
    client = SimpleNamespace(run=lambda function, device: free, nthreads=lambda: dict.fromkeys(free, 1))
    workers = cluster.DaskWorkers(client, "tcp://host:8786")  # type: ignore[arg-type]

    assert workers.memory("cuda:0") == least


@pytest.mark.parametrize(("gpu", "later"), [("A", 50), ("", 10)])
def test_a_gpus_memory_is_asked_before_its_workers_take_it(gpu: str, later: int) -> None:
    free, joined = {"tcp://a:1": (gpu, 100), "tcp://a:2": (gpu, 100)}, {"tcp://a:1": 1, "tcp://a:2": 1}
    client = SimpleNamespace(run=lambda function, device: free, nthreads=lambda: joined)
    workers = cluster.DaskWorkers(client, "local:2")  # type: ignore[arg-type]

    assert workers.memory("cuda:0") == 50
    free.update({address: (gpu, 20) for address in free})  # both are training
    assert workers.memory("cuda:0") == later
    joined["tcp://a:3"] = 1
    assert workers.memory("cuda:0") == 10


class FakeGpus:
    """The part of a Dask client that packs jobs: two workers that share one card of 40 MiB."""

    def nthreads(self) -> dict[str, int]:
        return {"tcp://a:1": 1, "tcp://a:2": 1}

    def run(self, question: Any, name: str) -> dict[str, Any]:
        answer = {cluster._resolved: "cuda:0", cluster._memory: ("GPU-1", 40 << 20)}[question]
        return dict.fromkeys(self.nthreads(), answer)


def test_jobs_for_a_gpu_carry_the_device_and_fit_into_a_workers_share_of_the_card(store: Store) -> None:
    workers = cluster.DaskWorkers(FakeGpus(), "local:2")  # type: ignore[arg-type]
    experiments = [TINY.replace(network="fc:64,64", seed=seed) for seed in range(40)]
    sweep = Sweep(experiments, store=store, workers=workers, device="cuda")
    jobs = sweep.jobs

    assert sweep.device == "cuda:0"
    assert {job.device for job in jobs} == {"cuda:0"}
    assert sum(len(job.experiments) for job in jobs) == 40
    assert len(jobs) > 2  # a share holds fewer than half of them
    most = max(len(job.experiments) for job in jobs)
    assert most * predicted_memory(experiments[0], "cuda:0") <= 0.8 * (20 << 20)


def test_a_card_that_admits_one_process_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(device: str) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors ...")

    monkeypatch.setattr(cluster.torch.cuda, "get_device_properties", busy)
    with pytest.raises(
        DeviceError, match=r"cannot use cuda:0 \(CUDA error: all [^\n]*unavailable\): if the card"
    ) as caught:
        cluster._memory("cuda:0")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_gives_a_gpus_memory_back_after_every_job(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(cluster.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(cluster.torch.cuda, "empty_cache", lambda: given.append(True))
    with contextlib.suppress(InvalidValue):
        cluster._run(Job(experiments=(TINY, TINY.replace(method="bp")) if fails else (TINY,)))
    assert given == [True]


@pytest.mark.gpu
def test_a_worker_says_which_gpu_it_means() -> None:
    gpu, free = cluster._memory("cuda:0")
    assert gpu
    assert free > 0


@pytest.mark.gpu
def test_processes_of_this_machine_share_a_card(store: Store, tmp_path: Path) -> None:
    with cluster.workers("local:2") as workers:
        assert workers.device("cuda") == "cuda:0"
        assert workers.memory("cuda:0") < 0.6 * free_memory("cuda:0")
        jobs = [Noted(experiments=(run,), device="cuda:0", folder=str(tmp_path)) for run in MIXED]
        done = [record for _, records in workers.run(_each(jobs)) for record in records]
    here = [Job(experiments=(run,), device="cuda:0").run()[0] for run in MIXED]

    assert len({_beginnings(tmp_path, run)[0] for run in MIXED}) == 2  # processes
    assert all(record.provenance.device.startswith("cuda") for record in done)
    found = {record.experiment.digest(): record for record in done}
    for expected in here:
        train = found[expected.experiment.digest()].best_train_accuracy
        assert train == pytest.approx(expected.best_train_accuracy, abs=0.05)


def test_a_scheduler_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    with (
        pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127.0.0.1:\d+ .*start one with 'dask sched"),
        cluster.workers(f"tcp://127.0.0.1:{_port()}"),
    ):
        pass


def test_another_server_is_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bytes of HTTP are a huge number of frames to Dask."""
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)

    class Http(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                while self.request.recv(1000):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Http) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ClusterError, match=f"no scheduler answers at {address} "), cluster.workers(address):
            pass
        server.shutdown()


def test_a_scheduler_without_workers_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def wait_for_workers(self, count: int, timeout: float) -> None:
            raise TimeoutError

    with pytest.raises(
        ClusterError, match="the scheduler at tcp://host:8786 has no workers: start some with 'dask wor"
    ):
        cluster._checked(Nobody(), "tcp://host:8786")  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["local", "local:", "local:0", "local:-1", "local:two", "local:1.5", "local:²"])
def test_a_wrong_number_of_processes_is_a_sentence(where: str) -> None:
    with pytest.raises(InvalidValue, match="give local:N with N of at least 1, as local:2"), cluster.workers(where):
        pass


@pytest.mark.parametrize("where", ["dask", "host:8786", "http://host:8786", " ", 4, 0, None])
def test_what_is_no_cluster_is_a_sentence(where: str) -> None:
    with (
        pytest.raises(InvalidValue, match=r"leave it empty, or give local:N or tcp://host:8786"),
        cluster.workers(where),
    ):
        pass


@pytest.mark.parametrize(
    ("where", "count"), [("", 1), ("local:3", 3), ("tcp://no.such.host:8786", None), ("tls://no.such.host:1", None)]
)
def test_processes_are_counted_without_a_connection(where: str, count: int | None) -> None:
    assert cluster.processes(where) == count


def test_no_cluster_is_this_process() -> None:
    with cluster.workers("") as workers:
        assert isinstance(workers, InProcess)


def test_without_dask_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with (
        pytest.raises(ClusterError, match=r"run pip install 'mdfa-lab\[distributed\]'"),
        cluster.workers("local:2"),
    ):
        pass


def test_records_of_a_cluster_are_records(address: str) -> None:
    with cluster.workers(address) as workers:
        ((_, (record,)),) = workers.run(_each([Job(experiments=(TINY,))]))

    assert replace(record, provenance=record.provenance) == Record.from_json(record.to_json())
