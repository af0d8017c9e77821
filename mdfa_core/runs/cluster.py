"""Workers on a Dask cluster: processes on this machine, or the workers of a scheduler."""

from __future__ import annotations

import ctypes
import functools
import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import torch

from mdfa_core.base import devices
from mdfa_core.base.distribution import install
from mdfa_core.base.errors import ClusterError, DeviceError, InvalidValue
from mdfa_core.runs.capacity import free_memory
from mdfa_core.runs.records import Record
from mdfa_core.runs.workers import InProcess, Job, NextJob, Workers
from mdfa_core.training.run import NUMERICS

if TYPE_CHECKING:
    from distributed import Client, Future

_PATIENCE = 20.0  # seconds to wait for a scheduler and for its first worker
_NEWCOMERS = 2.0  # seconds between two counts of the workers
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

T = TypeVar("T")


@contextmanager
def workers(where: str) -> Iterator[Workers]:
    """Workers for the duration of a `with` block.

    Args:
        where: empty for this process, `local:N` for N processes on this machine, or the address of a scheduler, such as
            `tcp://host:8786`. A job uses one CPU thread, so choose N as the number of cores. On a GPU, all N share one
            card.

    Raises:
        InvalidValue: `where` has another form.
        ClusterError: the scheduler cannot be reached, has no workers, or a worker has other versions than this program.
    """
    count = processes(where)
    if not where:
        yield InProcess()
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ClusterError(f"a cluster needs distributed: run {install('distributed')}") from None
    if count is not None:
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its web server: any free port will do
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield _checked(client, where)
    else:
        try:
            client = Client(where, timeout=_PATIENCE)
        except (OSError, TimeoutError, ValueError, MemoryError) as error:  # the last: another server
            raise ClusterError(
                f"no scheduler answers at {where} ({type(error).__name__}): start one with 'dask scheduler', or give "
                f"local:N"
            ) from None
        with client:
            yield _checked(client, where)


def processes(where: str) -> int | None:
    """Number of processes that `workers` would use on this machine; None: the workers of a scheduler.

    The function starts nothing and connects to nothing.

    Raises:
        InvalidValue: `where` has a form that `workers` does not accept.
    """
    kind, _, rest = where.partition(":") if isinstance(where, str) else ("no text", "", "")
    if kind == "local":
        if not rest.isascii() or not rest.isdigit() or int(rest) < 1:
            raise InvalidValue(f"the cluster is {where!r}: give local:N with N of at least 1, as local:2")
        return int(rest)
    if where == "":
        return 1
    if kind not in ("tcp", "tls", "ucx", "ws", "wss"):
        raise InvalidValue(f"the cluster is {where!r}: leave it empty, or give local:N or tcp://host:8786")
    return None


class DaskWorkers(Workers):
    """The workers of a Dask cluster. If a worker dies, another one runs its job again."""

    def __init__(self, client: Client, where: str) -> None:
        self.client, self.where = client, where
        self._on_gpus: dict[tuple[str, tuple[str, ...]], int] = {}  # memory by device and workers

    @property
    def count(self) -> int:
        with self._reached():
            return max(1, sum(self.client.nthreads().values()))  # a worker that died may be restarting

    def device(self, name: str) -> str:
        found = {str(result) for result in self._answers(_resolved, name).values()}
        if len(found) != 1:
            raise DeviceError(
                f"device {name!r} means {' and '.join(sorted(found))} to the workers of {self.where}: name one that "
                f"all of them have"
            )
        return found.pop()

    def memory(self, device: str) -> int:
        """The smallest memory of a worker; workers on the same machine or GPU share its memory equally.

        A GPU is asked once, before these workers train: later, their own stacks would count as taken.
        """
        with self._reached():
            asked = device, tuple(sorted(self.client.nthreads()))
        if asked in self._on_gpus:
            return self._on_gpus[asked]
        found = self._answers(_memory, device)
        whose = {address: (urlsplit(address).hostname, gpu) for address, (gpu, _) in found.items()}
        sharing = Counter(whose.values())
        least = min(size // sharing[whose[address]] for address, (_, size) in found.items())
        if all(gpu for gpu, _ in found.values()):
            self._on_gpus[asked] = least
        return least

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        from distributed import wait
        from distributed.scheduler import KilledWorker

        futures: dict[Future, Job] = {}

        def fill() -> None:
            while len(futures) < self.count and (job := next_job()) is not None:
                futures[self.client.submit(_run, job, pure=False)] = job

        try:
            with self._reached():
                fill()
                while futures:
                    try:
                        ended = wait(list(futures), timeout=_NEWCOMERS, return_when="FIRST_COMPLETED").done
                    except TimeoutError:
                        ended = ()
                    for future in ended:
                        yield futures.pop(future), future.result()
                    fill()
        except KilledWorker:
            raise ClusterError(
                f"one job killed several workers of {self.where} in a row, probably out of memory: check their logs "
                f"and run again; finished runs are kept"
            ) from None
        finally:
            self.client.cancel(list(futures), force=True)

    def _answers(self, question: Callable[[str], T], argument: str) -> dict[str, T]:
        """The answer of each worker by its address; there is at least one worker."""
        with self._reached():
            answers: dict[str, T] = self.client.run(question, argument)
        if not answers:
            raise ClusterError(
                f"{self.where} has no workers left: start some with 'dask worker' and run again; what was finished is "
                f"kept"
            )
        return answers

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn the errors of a lost scheduler into a `ClusterError`."""
        from distributed.client import FutureCancelledError

        try:
            yield
        except Exception as error:
            gone = isinstance(error, FutureCancelledError | OSError | TimeoutError)
            if not gone and self.client.status == "running":  # a closed client raises errors of any kind
                raise
            raise ClusterError(
                f"the scheduler of {self.where} went away ({type(error).__name__}): start it and run again; what was "
                f"finished is kept"
            ) from None


def _checked(client: Client, where: str) -> DaskWorkers:
    """The client's workers, after at least one has joined and all have the same versions as this program."""
    from distributed.comm import CommClosedError

    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError:
        raise ClusterError(f"the scheduler at {where} has no workers: start some with 'dask worker {where}'") from None
    ours = _versions()
    for address, theirs in client.run(_versions, on_error="return").items():
        if isinstance(theirs, (CommClosedError, ConnectionError, TimeoutError)):
            raise ClusterError(
                f"the worker {address} went away before it told its versions ({type(theirs).__name__}: {theirs}): see "
                f"its log, and start it again"
            )
        if isinstance(theirs, Exception):
            raise ClusterError(
                f"the worker {address} cannot run this program ({type(theirs).__name__}: {theirs}): install the same "
                f"version of mdfa there"
            )
        for name, version in ours.items():
            if theirs.get(name) != version:
                raise ClusterError(
                    f"the worker {address} has {name} {theirs.get(name)}, but this program has {version}: install the "
                    f"same versions on both"
                )
    for address, jobs in client.nthreads().items():
        if jobs != 1:  # threads of a process share PyTorch's number of threads, which can change last bits
            raise ClusterError(
                f"the worker {address} runs {jobs} jobs at a time in threads, which would disturb each other: start it "
                f"with 'dask worker --nthreads 1', and as many workers as there are cores"
            )
    return DaskWorkers(client, where)


def _versions() -> dict[str, Any]:
    """The versions that must be equal for equal numbers."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"numerics": NUMERICS, "PyTorch": torch.__version__, "Python": python}


def _run(job: Job) -> tuple[Record, ...]:
    """Run a job on a worker."""
    _keep_freed_memory()
    try:
        return job.run()
    finally:
        _give_back()


def _resolved(name: str) -> str:
    return str(devices.resolve(name))


def _memory(device: str) -> tuple[str, int]:
    """The identity of a GPU (empty for a CPU), and the bytes that are free on the device.

    The name `cuda:0` can mean different GPUs to different workers, for example with dask-cuda.
    """
    if torch.device(device).type != "cuda":
        return "", free_memory(device)
    _give_back()
    try:
        return str(torch.cuda.get_device_properties(device).uuid), free_memory(device)
    except RuntimeError as error:  # from CUDA, which is first used here
        reason = str(error).partition("\n")[0]
        raise DeviceError(
            f"a worker cannot use {device} ({reason}): if the card admits only one process, use one worker a card, or "
            f"'nvidia-smi -c DEFAULT'"
        ) from None


def _give_back() -> None:
    """Give the GPU memory that PyTorch keeps for later back to the other processes on the card."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@functools.cache
def _keep_freed_memory() -> None:
    """Let this process reuse large blocks of memory that it has freed, as it does without Dask.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_ set. Then glibc does not adapt to the freed blocks (see `kernels`),
    every step requests new pages, and takes twice the time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest value that glibc adapts to by itself
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
