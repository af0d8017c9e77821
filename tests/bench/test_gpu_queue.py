"""The queue: what comes first, the end in time, and an export that merges."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_queue
from benchmarks.gpu_queue import Processes, main, queue, serve
from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.runs.notes import CellNote
from mdfa_core.runs.store import Store
from mdfa_core.runs.workers import InProcess, Job
from mdfa_core.studies.paper.published import CELLS, TASKS, Cell
from mdfa_core.studies.paper.released import Part, disagreeing
from mdfa_core.studies.paper.reproduction import Plan, Reproduction
from mdfa_core.training.experiment import Experiment
from tests.studies.reports.made_up import note_of, record_of

ROOT = Path(__file__).resolve().parents[2]
CELL = "table-1/fc/tanh/bp/2"
SMALL = Experiment(data="digits", network="fc:8", epochs=1)
NEVER = ("--published", "no.jsonl.gz")
TOY = ("--device", "cpu", "--profile", "smoke", "--workers", "2", "--cells", CELL)


class Threaded:
    """Stands for a process: a thread that answers jobs."""

    answers: Callable[[Any], None] = staticmethod(serve)

    def __init__(self) -> None:
        self.connection, self._theirs = Pipe()
        threading.Thread(target=self.answers, args=(self._theirs,), daemon=True).start()

    def stop(self) -> None:
        self.connection.close()


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> type[Threaded]:
    monkeypatch.setattr(gpu_queue, "_Process", Threaded)
    return Threaded


def _jobs(*experiments: Experiment) -> Callable[[], Job | None]:
    jobs = [Job(experiments=(experiment,)) for experiment in experiments]
    return lambda: jobs.pop(0) if jobs else None


def _processes(seconds: float = 60, count: int = 1, check: Callable[[Experiment], None] = lambda e: None) -> Processes:
    return Processes(count, time.monotonic() + seconds, check)


def test_the_queue_begins_with_what_is_worth_most(tmp_path: Path) -> None:
    tuned, failed, borrowed = (CELLS[f"table-2/fc/{name}/2"] for name in ("tanh/bp", "hard-tanh/fa", "relu/bp"))
    with Store(tmp_path / "runs.sqlite") as store:
        for profile, cell, train in (("full", tuned, 0.9), ("quick", failed, 0.51), ("quick", borrowed, 0.9)):
            runs = [record_of(cell, task, train, train, checksum=f"{cell.name} {task}") for task in range(TASKS)]
            store.add(runs)
            store.put(note_of(cell, runs, name=f"{profile}/{cell.name}", profile=profile))
        order = [cell.name for cell in queue(store, "full")]

        assert order[0] == failed.name
        assert order[1] == "table-2/fc/hard-tanh/bp/2"  # never run
        assert tuned.name not in order
        assert len(order) == len(set(order)) == len(CELLS) - 1
        kinds = list(dict.fromkeys(name[:7] for name in order[1:]))
        assert kinds[:2] == ["table-2", "table-6"]
        assert kinds[2:5] == ["table-3", "table-5", "table-4"]
        assert order.index("table-4/conv/tanh/mdfa/50") < order.index(borrowed.name) < order.index(CELL)
        assert [cell.table for cell in queue(store, "full", ["table-6/*/bp/*", CELL])] == [6, 6, 6, 1]
        with pytest.raises(InvalidValue, match="no cell is called 'table-7': give names such as"):
            queue(store, "full", ["table-7"])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the queue filled with one cell."""
    folder = tmp_path_factory.mktemp("queue") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_queue, "_Process", Threaded)
        assert main([*TOY, *NEVER, "--out", str(folder)]) == 0
    return folder


def test_the_queue_leaves_an_export_that_needs_no_more_training(out: Path, tmp_path: Path) -> None:
    assert [path.name for path in out.iterdir()] == ["runs.jsonl.gz"]
    with Store(tmp_path / "runs.sqlite") as store:
        assert store.merge(out / "runs.jsonl.gz") == len(store) > 12
        assert list(store.notes(CellNote)) == [f"smoke/{CELL}"]
        plan = Plan(profile="smoke", cells=(CELLS[CELL],))
        assert list(Reproduction(plan, store, device="cpu", workers=InProcess())) == []  # every run is there


def test_the_queue_goes_on_where_it_was(
    out: Path, threaded: type[Threaded], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = (out / "runs.jsonl.gz").read_bytes()

    main([*TOY, *NEVER, "--out", str(out)])

    said = capsys.readouterr().out
    assert "0 cells in the queue, 2 processes on cpu" in said
    assert "0 stacks stopped, 0 not begun, 0 failed" in said
    assert (out / "runs.jsonl.gz").read_bytes() == written

    main([*TOY, "--published", str(out / "runs.jsonl.gz"), "--out", str(tmp_path / "second")])

    assert "0 new runs, 0 finished cells" in capsys.readouterr().out
    with Store(tmp_path / "runs.sqlite") as store:
        assert store.merge(tmp_path / "second" / "runs.jsonl.gz") == 0
        assert store.notes(CellNote) == {}


def test_the_released_programs_settings_are_run_instead(
    threaded: type[Threaded], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, seen = disagreeing()[0], []

    def toy(cells: tuple[Cell, ...]) -> list[Part]:
        seen.append(cells)
        runs = [SMALL.replace(seed=seed) for seed in range(3)]
        return [Part(cell=cell, name=str(rate), experiments=tuple(run.replace(learning_rate=rate) for run in runs))
                for rate in (0.1, 0.2)]  # fmt: skip

    monkeypatch.setattr(gpu_queue, "parts", toy)
    options = ["--released", "--device", "cpu", "--workers", "2", "--cells", cell.name, *NEVER, "--out", str(tmp_path)]
    for expected in (2, 0):
        assert main(options) == 0
        said = capsys.readouterr().out
        assert said.count(f"{cell.name}: 0.") == expected
        assert "6 new runs, 0 finished cells" in said
    assert seen == [(cell,)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["released.jsonl.gz"]
    with Store(tmp_path / "other.sqlite") as store:
        assert store.merge(tmp_path / "released.jsonl.gz") == 6
        assert not any(row["sealed"] for row in store.rows())  # held-out figures are compared with the paper's, too


def test_the_time_is_kept_and_what_is_running_is_stopped(
    threaded: type[Threaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded, "answers", staticmethod(lambda connection: None))
    workers, began = _processes(seconds=0.3), time.monotonic()

    assert list(workers.run(_jobs(SMALL, SMALL))) == []
    assert 0.3 <= time.monotonic() - began < 5
    assert workers.stopped == 1


def test_a_job_that_would_not_end_in_time_is_not_begun(threaded: type[Threaded]) -> None:
    workers = _processes(seconds=30)
    long = SMALL.replace(epochs=10**6)

    done = [job.experiments[0] for job, _ in workers.run(_jobs(SMALL, long, SMALL.replace(seed=1)))]

    assert done == [SMALL, SMALL.replace(seed=1)]
    assert workers.unbegun == 1


def test_threads_give_the_bits_of_jobs_one_after_the_other() -> None:
    experiments = [SMALL.replace(network=network, seed=s) for s in (0, 1) for network in ("fc:8", "conv:2/3/2")]
    alone = {job.experiments: records for job, records in InProcess().run(_jobs(*experiments))}
    workers = Processes(2, time.monotonic() + 300, lambda experiment: None, threads_on="cpu")

    beside = {job.experiments: records for job, records in workers.run(_jobs(*experiments))}

    assert workers.failures == []
    assert beside.keys() == alone.keys()
    for key, records in beside.items():
        assert [replace(r, provenance=alone[key][0].provenance) for r in records] == list(alone[key])


def test_workers_share_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_queue.Workers, "memory", lambda self, device: 100)
    assert _processes(count=3).memory("cpu") == 33


def test_threads_train_only_if_they_are_asked_for(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads_on: list[str | None] = []

    class Noted(Processes):
        def __init__(self, *of: Any) -> None:
            threads_on.append(of[3])
            super().__init__(*of)

    monkeypatch.setattr(gpu_queue, "Processes", Noted)
    for options in ((), ("--threads",)):
        assert main([*TOY, *NEVER, "--out", str(out), *options]) == 0
    assert threads_on == [None, "cpu"]


def test_a_job_that_fails_costs_only_itself(threaded: type[Threaded], capsys: pytest.CaptureFixture[str]) -> None:
    def check(experiment: Experiment) -> None:
        if experiment.seed == 3:
            raise DataError("these are other images")

    workers = _processes(check=check)
    absent = SMALL.replace(data="imagefolder", image_size=8)

    done = [job.experiments[0] for job, _ in workers.run(_jobs(absent, SMALL.replace(seed=3), SMALL))]

    assert done == [SMALL]
    assert len(workers.failures) == 2
    assert workers.failures[1] == "1 runs of fc:8: these are other images"
    assert "failed: 1 runs of fc:8: DataError: " in capsys.readouterr().out


def test_a_process_that_dies_is_replaced(threaded: type[Threaded], monkeypatch: pytest.MonkeyPatch) -> None:
    def dies_once(connection: Any) -> None:
        connection.recv()
        monkeypatch.setattr(threaded, "answers", staticmethod(serve))  # of the next one, which is made at once
        connection.close()

    monkeypatch.setattr(threaded, "answers", staticmethod(dies_once))
    workers = _processes()

    assert [job.experiments[0].seed for job, _ in workers.run(_jobs(SMALL, SMALL.replace(seed=1)))] == [1]
    assert workers.failures == ["1 runs of fc:8: its process ended, perhaps for lack of memory"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "quick"], "the profile quick has no search: give full or smoke"),
        (["--minutes", "0"], "--minutes is 0.0: give a positive number"),
        (["--workers", "0"], "--workers is 0: give a positive number"),
        (["--cells", "table-9/*"], "no cell is called 'table-9/*'"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--device", "cpu", "--out", str(tmp_path), *NEVER, *options])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("gpu_queue.py: ")
    assert error.count("\n") == 1
    assert said in error


@pytest.mark.slow
def test_it_needs_few_packages() -> None:
    """No package of the command line, of reports, of downloads or of clusters."""
    absent = ("click", "dask", "jinja2", "pandas", "platformdirs", "pooch", "requests", "scipy", "sklearn")
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.gpu_queue"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--threads",)])
def test_the_program_runs_through_with_workers_of_its_own(tmp_path: Path, how: tuple[str, ...]) -> None:
    program = [sys.executable, str(ROOT / "benchmarks" / "gpu_queue.py")]
    options = [*TOY, *NEVER, "--minutes", "3", *how]
    done = subprocess.run(
        [*program, *options], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 finished cells" in done.stdout
    with Store(tmp_path / "runs.sqlite") as store:
        assert store.merge(tmp_path / "out" / "runs.jsonl.gz") > 12
