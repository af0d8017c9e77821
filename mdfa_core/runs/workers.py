"""Jobs and the workers that run them: one job trains one replica stack, here or in another process."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mdfa_core.base import devices
from mdfa_core.base.command import command_line
from mdfa_core.compute import threads
from mdfa_core.data import TaskCache, TaskSummary
from mdfa_core.runs.capacity import free_memory
from mdfa_core.runs.records import Record, Recorder
from mdfa_core.training.clock import Every
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Job:
    """One replica stack to train.

    Attributes:
        experiments: one per replica; they differ only in the settings listed in `VARYING`.
        test: whether the run evaluates the test set at its end.
        probe: how often the run measures sign agreement; None: never.
        device: as for `Run`.
        data_dir: as for `Run`, on the machine that runs the job.
        threads: CPU threads. The number can change the last bit of a product, so it is part of the job.
        command: the command line of the program that made the job, for the records.
    """

    experiments: tuple[Experiment, ...]
    test: bool = False
    probe: Every | None = None
    device: str = "cpu"
    data_dir: str | None = None
    threads: int = 1
    command: str = field(default_factory=command_line)

    def run(self) -> tuple[Record, ...]:
        """Train the stack from beginning to end; returns one record per replica."""
        with threads.limited(self.threads):
            tasks = task_cache(self.device, self.data_dir)
            run = Run(self.experiments, device=self.device, test=self.test, tasks=tasks)
            recorder = Recorder(run, command=self.command)
            for event in run.events(probe=self.probe):
                recorder(event)
        return recorder.records

    def steps(self) -> int:
        """Number of mini-batches that each replica trains on."""
        first = self.experiments[0]
        return first.epochs * first.steps_per_epoch(task_summary(first, self.data_dir).train)


NextJob = Callable[[], Job | None]


class Workers(ABC):
    """One or more workers that run jobs."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of jobs that run at the same time."""

    def device(self, name: str) -> str:
        """Resolve a device name on the machine where the jobs run.

        Raises:
            DeviceError: the machine has no such device.
        """
        return str(devices.resolve(name))

    def memory(self, device: str) -> int:
        """Bytes that one job may use on a device of the machine where it runs."""
        return free_memory(device)

    @abstractmethod
    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        """Run jobs; yields each finished job with its records.

        Args:
            next_job: called once whenever a worker is free. It returns None if no job is ready now; it is called again
                after the next job has been yielded. The iteration ends when no job is running and it returns None.
        """


class InProcess(Workers):
    """Runs jobs in this process, one after the other."""

    @property
    def count(self) -> int:
        return 1

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        while (job := next_job()) is not None:
            yield job, job.run()


_caches = threading.local()  # threads may train on CUDA streams of their own, which share no memory without waiting


def task_cache(device: str, data_dir: str | None) -> TaskCache:
    """The tasks that this thread has loaded; a worker keeps them from one job to the next."""
    caches: dict[tuple[str, str | None], TaskCache] = _caches.__dict__.setdefault("by_place", {})
    if (device, data_dir) not in caches:
        caches[device, data_dir] = TaskCache(data_dir, devices.resolve(device))
    return caches[device, data_dir]


def task_summary(experiment: Experiment, data_dir: str | None) -> TaskSummary:
    """Facts of an experiment's task, loaded on the CPU because the device may belong to another machine."""
    return task_cache("cpu", data_dir).summary(experiment.data, **experiment.task_settings)
