"""Run the paper's cells within a time limit, on a GPU if there is one: first the cells that are worth most.

    python benchmarks/gpu_queue.py --prepare images --data-dir data          # where the data sets are
    python benchmarks/gpu_queue.py --minutes 9 --data-dir images --out out   # where the GPU is
    mdfa runs merge out/runs.jsonl.gz --store results.sqlite                 # back home

It runs from a clone and needs PyTorch, NumPy, Pillow and psutil: no installation, no network. It starts from the
published runs, so no finished run is trained again. Each cell is tuned (profile `full`). Several processes train a
stack each; on a GPU they share the card under CUDA's multi-process service, if that can be started. Before the time is
over, the program stops its processes and writes one file of new runs and notes. What a stopped process was training is
lost, never what was finished. The same `--out` again continues.

With `--released`, the program runs something else: the cells that differ from the paper, with the settings of the
paper's released program. `studies/disagreements.py` makes the pages from these runs.

`--prepare` writes only the images of the classes that the queue's cells need, in parts of `--megabytes`. A queue that
has only some of the parts runs the cells whose classes it has.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import importlib.util
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

BEGAN = time.monotonic()  # before PyTorch is imported, which takes seconds of the time
ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("torch", "numpy", "PIL", "psutil")
_missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(f"gpu_queue.py: it needs {', '.join(_missing)}, not found by {sys.executable}: use a Python that has them")
sys.path.insert(0, str(ROOT))  # works without an installation

import torch  # noqa: E402 - found by the path above, as what follows

from benchmarks import slices  # noqa: E402
from mdfa_core.base import devices, machine  # noqa: E402
from mdfa_core.base.errors import InvalidValue, MdfaError  # noqa: E402
from mdfa_core.runs.notes import NOTES, CellNote  # noqa: E402
from mdfa_core.runs.records import Record  # noqa: E402
from mdfa_core.runs.scheduling import Advance, schedule  # noqa: E402
from mdfa_core.runs.store import Store  # noqa: E402
from mdfa_core.runs.sweep import Sweep  # noqa: E402
from mdfa_core.runs.timing import cost  # noqa: E402
from mdfa_core.runs.workers import Job, NextJob, Workers  # noqa: E402
from mdfa_core.studies.paper.failures import failed_tasks  # noqa: E402
from mdfa_core.studies.paper.published import CELLS, Cell  # noqa: E402
from mdfa_core.studies.paper.recipes import PROFILES  # noqa: E402
from mdfa_core.studies.paper.released import disagreeing, parts  # noqa: E402
from mdfa_core.studies.paper.reproduction import Plan, Reproduction  # noqa: E402
from mdfa_core.training.experiment import Experiment  # noqa: E402

PUBLISHED = ROOT / "docs" / "results" / "runs.jsonl.gz"
PUBLISHED_RELEASED = PUBLISHED.with_name("released.jsonl.gz")
NEW = "new.sqlite"  # in --out, while the program runs
EXPORT, EXPORT_RELEASED = "runs.jsonl.gz", "released.jsonl.gz"  # in --out, at the end
ENDING = 20.0  # seconds for stopping the processes and writing the export; less of a short time
MOST = 16  # processes
MPS = "nvidia-cuda-mps-control"


# --------------------------------------------------------------------------------------------------------------- order


def worth(cell: Cell, note: CellNote | None, failed: bool) -> int:
    """The cell's place among the kinds of cells: a smaller number is worth more.

    Args:
        cell: a cell that was not tuned.
        note: of its runs with the settings of another cell; None: it was never run.
        failed: whether these settings failed.
    """
    if failed:
        return 0
    if cell.table == 6 or (note is None and cell.table == 2):
        return 1
    return {3: 2, 5: 2, 4: 3, 2: 4}.get(cell.table, 5)


def named(patterns: Iterable[str]) -> list[Cell]:
    """The cells whose names fit one of these patterns.

    Raises:
        InvalidValue: a pattern fits no cell.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(CELLS, pattern):
            raise InvalidValue(f"no cell is called {pattern!r}: give names such as 'table-6/*', separated by commas")
    return [cell for name, cell in CELLS.items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def queue(store: Store, profile: str, patterns: Iterable[str] = ("*",)) -> tuple[Cell, ...]:
    """The cells that were not tuned, by worth, then in the paper's order.

    Args:
        store: has the runs so far.
        profile: with a search; cells that have a note of this profile are left out.
        patterns: of names of cells, such as `table-6/*`.

    Raises:
        InvalidValue: a pattern fits no cell.
    """
    notes = store.notes(CellNote)
    ranked = []
    for cell in named(patterns):
        name = cell.name
        if f"{profile}/{name}" in notes:
            continue
        borrowed = notes.get(f"quick/{name}")
        runs = () if borrowed is None else map(store.named, borrowed.chosen.keys)
        ranked.append((worth(cell, borrowed, bool(failed_tasks(run for run in runs if run is not None))), cell))
    return tuple(cell for _, cell in sorted(ranked, key=lambda pair: pair[0]))


def tasks(cells: Iterable[Cell], plan: Plan) -> Iterator[Experiment]:
    """One experiment for every task of these cells; its other settings are the default ones."""
    for cell in cells:
        base = plan.base(cell)
        for seed in plan.tasks:
            yield Experiment(data=base.data, outputs=base.outputs, image_size=base.image_size, task_seed=seed)


# ------------------------------------------------------------------------------------------------------------- workers


class Processes(Workers):
    """Processes of this machine, or threads of this process, each with one job at a time, until a deadline.

    A job that would not end in time, by the time of jobs of the same kind of network, is not begun. When the deadline
    comes, the processes are stopped; threads stop when the program ends. A job that fails is told and left out: its
    cell stays unfinished.

    Args:
        count: number of processes.
        deadline: of `time.monotonic`.
        check: called with every experiment before its job begins.
        threads_on: train in threads of this process, each with a CUDA stream of its own on this device; None: train in
            processes.
    """

    def __init__(
        self, count: int, deadline: float, check: Callable[[Experiment], None], threads_on: str | None = None
    ) -> None:
        self._count, self.deadline, self.check, self._threads_on = count, deadline, check, threads_on
        self.failures: list[str] = []
        self.unbegun = 0
        """Jobs that would not have ended in time."""
        self.stopped = 0
        """Jobs that were stopped at the deadline."""
        self._rates: dict[str, list[float]] = defaultdict(list)  # seconds ÷ cost, by network

    @property
    def count(self) -> int:
        return self._count

    @functools.cache  # noqa: B019 - there is one object; later, the processes' own memory would count as taken
    def memory(self, device: str) -> int:
        return super().memory(device) // self._count

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        idle = [self._worker() for _ in range(self._count)]
        busy: dict[Any, tuple[_Process | _Thread, Job]] = {}  # by connection
        try:
            while True:
                while idle and (job := self._next(next_job)) is not None:
                    process = idle.pop()
                    process.connection.send(job)
                    busy[process.connection] = process, job
                ready = wait(list(busy), timeout=max(0.0, self.deadline - time.monotonic())) if busy else []
                if not ready:
                    return
                for connection in ready:
                    process, job = busy.pop(connection)
                    try:
                        answer = process.connection.recv()
                    except EOFError:
                        answer, process = "its process ended, perhaps for lack of memory", self._worker()
                    idle.append(process)
                    if isinstance(answer, str):
                        self._fail(job, answer)
                        continue
                    seconds = sum(record.provenance.seconds for record in answer)  # without the process's start
                    self._rates[job.experiments[0].network].append(seconds / cost(job))
                    yield job, answer
        finally:
            self.stopped = len(busy)
            for process in (*idle, *(process for process, _ in busy.values())):
                process.stop()

    def _worker(self) -> _Process | _Thread:
        return _Process() if self._threads_on is None else _Thread(self._threads_on)

    def _next(self, next_job: NextJob) -> Job | None:
        """The next job that ends in time."""
        while time.monotonic() < self.deadline and (job := next_job()) is not None:
            try:
                for experiment in job.experiments:
                    self.check(experiment)
            except MdfaError as error:
                self._fail(job, str(error))
                continue
            rates = self._rates[job.experiments[0].network]
            if not rates or time.monotonic() + statistics.median(rates) * cost(job) < self.deadline:
                return job
            self.unbegun += 1
        return None

    def _fail(self, job: Job, why: str) -> None:
        self.failures.append(f"{len(job.experiments)} runs of {job.experiments[0].network}: {why}")
        tell(f"failed: {self.failures[-1]}")


class _Process:
    """A process that runs the jobs it is sent."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve_alone, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(5)
        self.connection.close()


class _Thread:
    """A thread that runs the jobs it is sent, on a CUDA stream of its own. It cannot be stopped within a job."""

    def __init__(self, device: str) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        threading.Thread(target=_serve_beside_others, args=(theirs, torch.device(device)), daemon=True).start()

    def stop(self) -> None:
        self.connection.close()


def _serve_beside_others(connection: Connection, device: torch.device) -> None:
    own = torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else contextlib.nullcontext()
    with own, contextlib.suppress(OSError):  # an answer that nobody waits for any more
        serve(connection, alone=False)


def _serve_alone(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program ends its processes itself
    serve(connection)


def serve(connection: Connection, *, alone: bool = True) -> None:
    """Run jobs until the other end closes; an answer is the records, or a text that says what went wrong.

    Args:
        connection: jobs come and answers go here.
        alone: whether this process trains nothing else; if so, it gives its spare GPU memory back after each job.
    """
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        answer: Any
        try:
            answer = job.run()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        connection.send(answer)
        if alone and torch.cuda.is_available():
            torch.cuda.empty_cache()  # for the other processes


@contextlib.contextmanager
def shared_card(device: str) -> Iterator[str]:
    """CUDA's multi-process service for a `with` block, so that kernels of several processes run at once.

    Yields a sentence about it. Without the service, the processes take turns on the card.
    """
    if not device.startswith("cuda"):
        yield f"on {device}"
        return
    if shutil.which(MPS) is None:
        yield f"on {device}, in turns: {MPS} is not installed"
        return
    with tempfile.TemporaryDirectory() as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        os.environ.update(places)
        started = subprocess.run([MPS, "-d"], capture_output=True, check=False, timeout=20).returncode == 0
        try:
            trial = [sys.executable, "-c", "import torch; torch.zeros(1, device='cuda')"]
            works = started and subprocess.run(trial, capture_output=True, check=False, timeout=60).returncode == 0
            if not works:
                for name in places:
                    del os.environ[name]
            yield f"on {device}, " + ("shared by CUDA's multi-process service" if works else f"in turns: {MPS} fails")
        finally:
            if started:
                environment = {**os.environ, **places}
                subprocess.run([MPS], input=b"quit\n", capture_output=True, check=False, timeout=20, env=environment)


# ----------------------------------------------------------------------------------------------------------------- run


def tell(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", flush=True)


def chosen(store: Store, arguments: argparse.Namespace) -> tuple[Cell, ...]:
    """The cells that the arguments ask for."""
    if arguments.released:
        wanted = named(arguments.cells)
        return tuple(cell for cell in disagreeing() if cell in wanted)
    return queue(store, arguments.profile, arguments.cells)


def released_runs(
    cells: Iterable[Cell], store: Store, workers: Workers, device: str, data_dir: str | None
) -> Iterator[tuple[str, Advance]]:
    """Train cells with the settings of the released program; yields what was trained and how far its part has come."""
    todo = parts(cells)
    titles = {run: f"{part.cell.name}: {part.name}" for part in todo for run in part.experiments}
    sweeps = (
        Sweep(part.experiments, store=store, test=True, device=device, data_dir=data_dir, workers=workers)
        for part in todo
    )
    for _, advance in schedule((iter((sweep,)) for sweep in sweeps), workers):
        yield titles[advance.records[0].experiment], advance


def paper_runs(
    plan: Plan, store: Store, workers: Workers, device: str, data_dir: str | None
) -> Iterator[tuple[str, Advance]]:
    """Tune cells; yields what was trained and how far its part has come."""
    for progress in Reproduction(plan, store, device=device, data_dir=data_dir, workers=workers):
        yield f"{progress.cell.name}: {progress.doing}", progress.advance


def prepare(arguments: argparse.Namespace) -> None:
    """Write the slice of the data sets that the queue needs."""
    with seeded(arguments.published, []) as (store, _):
        plan = Plan(profile=arguments.profile, cells=chosen(store, arguments))
    limit = arguments.megabytes * 10**6
    for part, size in slices.write(
        tasks(plan.cells, plan), arguments.prepare, data_dir=arguments.data_dir, limit=limit
    ):
        tell(f"{part}: {size / 1e6:.1f} MB")


@contextlib.contextmanager
def seeded(published: Path, earlier: Iterable[Path]) -> Iterator[tuple[Store, dict[str, Any]]]:
    """A store for the length of a `with` block, with the published and earlier runs; and its notes by kind."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "runs.sqlite") as store:
        if published.is_file():
            store.merge(published)
        for path in earlier:
            store.merge(path)
        yield store, {kind: store.notes(NOTES[kind]) for kind in NOTES}


def run(arguments: argparse.Namespace, began: float) -> None:
    """Run the queue and write `EXPORT`, or `EXPORT_RELEASED`."""
    out, budget = arguments.out, 60 * arguments.minutes
    export = out / (EXPORT_RELEASED if arguments.released else EXPORT)
    deadline = began + budget - min(ENDING, budget / 4)
    out.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in (export, out / NEW) if path.is_file()]
    device = str(devices.resolve(arguments.device))
    with contextlib.ExitStack() as stack:
        how = f"on {device}, in this process" if arguments.threads else stack.enter_context(shared_card(device))
        published = [PUBLISHED_RELEASED] if arguments.released else []
        store, before = stack.enter_context(seeded(arguments.published, [*published, *earlier]))
        data_dir, check = arguments.data_dir, None
        cells = chosen(store, arguments)
        if data_dir is not None and slices.is_slice(Path(data_dir)):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            images = slices.read(Path(data_dir), Path(folder))
            data_dir, check = folder, images.check
            whole = Plan(profile=arguments.profile, cells=cells)
            there = tuple(cell for cell in cells if all(map(images.has, tasks([cell], whole))))
            tell(f"{len(cells) - len(there)} of {len(cells)} cells are left out: the slice lacks some of their images")
            cells = there
        threads_on = device if arguments.threads else None
        workers = Processes(arguments.workers, deadline, check or (lambda experiment: None), threads_on)
        plan = Plan(profile=arguments.profile, cells=cells)
        tell(
            f"{len(cells)} cells in the queue, {workers.count} {'threads' if arguments.threads else 'processes'} {how}"
        )
        new = stack.enter_context(Store(out / NEW))
        for path in earlier:
            if path == export:
                new.merge(path)
        with contextlib.suppress(KeyboardInterrupt):  # what was finished is kept, as at the deadline
            where = (store, workers, device, data_dir)
            for doing, advance in released_runs(cells, *where) if arguments.released else paper_runs(plan, *where):
                new.add(advance.records)
                if advance.done == advance.total:
                    tell(f"{doing}, {advance.total} runs")
        finished = 0
        for kind, known in before.items():
            for name, note in store.notes(NOTES[kind]).items():
                if known.get(name) != note:
                    new.put(note)
                    finished += kind == CellNote.kind
        runs = len(new)
        new.export(export)
    for suffix in ("", "-wal", "-shm"):
        (out / f"{NEW}{suffix}").unlink(missing_ok=True)
    size = export.stat().st_size
    tell(f"{runs} new runs, {finished} finished cells: {export} ({size / 1e6:.1f} MB)")
    tell(f"{workers.stopped} stacks stopped, {workers.unbegun} not begun, {len(workers.failures)} failed")


def main(argv: list[str] | None = None, began: float | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--prepare", type=Path, metavar="FOLDER", help="write the images that the queue needs, and stop"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="time from start to end (default: 9)")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder for the export of new runs (default: out)"
    )
    parser.add_argument("--data-dir", help="folder with the data sets, or with parts that --prepare wrote")
    parser.add_argument("--megabytes", type=int, default=48, help="size of a part, of 10^6 bytes (default: 48)")
    parser.add_argument("--cells", default="*", help="names of cells, such as 'table-6/*,table-2/conv/*' (default: *)")
    parser.add_argument("--profile", default="full", help="a profile with a search (default: full)")
    parser.add_argument(
        "--released", action="store_true", help="run the settings of the paper's released program instead"
    )
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="export of the runs so far")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, … or cpu (default: auto)")
    parser.add_argument("--workers", type=int, default=min(MOST, machine.cores()), help="processes that train")
    parser.add_argument(
        "--threads", action="store_true", help="train in threads of one process instead (never run on a GPU)"
    )
    arguments = parser.parse_args(argv)
    arguments.cells = arguments.cells.split(",")
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        if not PROFILES[arguments.profile].rungs:
            raise InvalidValue(f"the profile {arguments.profile} has no search: give full or smoke")
        for name in ("minutes", "megabytes", "workers"):
            if not getattr(arguments, name) > 0:
                raise InvalidValue(f"--{name} is {getattr(arguments, name)}: give a positive number")
        if arguments.prepare is not None:
            prepare(arguments)
        else:
            run(arguments, time.monotonic() if began is None else began)
    except MdfaError as error:
        parser.exit(2, f"gpu_queue.py: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(began=BEGAN))
