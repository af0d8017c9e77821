"""A sweep: trains those of its experiments that the store does not have, and stores every finished run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.runs.packing import packed
from mdfa_core.runs.records import Record
from mdfa_core.runs.scheduling import Advance, schedule
from mdfa_core.runs.store import Store
from mdfa_core.runs.timing import cost
from mdfa_core.runs.workers import InProcess, Job, Workers, task_summary
from mdfa_core.training.clock import Every
from mdfa_core.training.experiment import Experiment


class Sweep:
    """A list of experiments. Iterating trains those that the store does not have; the caller may stop at any moment.

    Args:
        experiments: in any order; equal ones are trained once.
        store: holds the finished runs and receives new ones. Workers never write to it.
        test: whether to evaluate the test set. If so, a sealed run in the store counts as missing.
        probe: how often new runs measure sign agreement. A run in the store counts as finished without it.
        device: as for `Run`.
        data_dir: as for `Run`.
        workers: train the runs; the default is this process.

    Raises:
        DataError: data is missing or damaged, or a worker has other data than this machine.
        DeviceError: the workers lack the device.
    """

    def __init__(
        self,
        experiments: Iterable[Experiment],
        *,
        store: Store,
        test: bool = False,
        probe: Every | None = None,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.experiments = tuple(dict.fromkeys(experiments))
        self.store, self.test = store, test
        self.workers = workers or InProcess()
        self.device = self.workers.device(device)
        self.data_dir = None if data_dir is None else os.fspath(data_dir)
        missing = [e for e in self.experiments if self._found(e) is None]
        stacks = packed(
            missing,
            device=self.device,
            data_dir=self.data_dir,
            memory=self.workers.memory(self.device) if missing else None,
            at_least=self.workers.count,
            probed=probe is not None,
        )
        self.jobs = [
            Job(experiments=stack, test=test, probe=probe, device=self.device, data_dir=self.data_dir)
            for stack in stacks
        ]
        self.jobs.sort(key=cost, reverse=True)  # the longest first, so that no worker begins it last

    def __iter__(self) -> Iterator[Advance]:
        """Train the missing runs. Every finished stack is stored before it is yielded.

        Raises:
            DataError: see the class.
            ClusterError: the workers cannot be reached.
            StoreError: a stack cannot be stored.
        """
        for _, advance in schedule([iter((self,))], self.workers):
            yield advance

    def finished(self, job: Job, records: tuple[Record, ...]) -> Advance:
        """Store the records of one of the sweep's jobs.

        Raises:
            DataError: see the class.
            StoreError: the records cannot be stored.
        """
        self._check(records)
        self.store.add(records)
        self.jobs = [waiting for waiting in self.jobs if waiting is not job]
        total, left = len(self.experiments), sum(len(waiting.experiments) for waiting in self.jobs)
        return Advance(records=records, done=total - left, total=total)

    def records(self) -> tuple[Record, ...]:
        """The finished runs, in the order of the experiments.

        Raises:
            InvalidValue: a run is missing; iterate over the sweep first.
        """
        found = [self._found(experiment) for experiment in self.experiments]
        if None in found:
            raise InvalidValue(f"{found.count(None)} of {len(found)} runs are missing: iterate over the sweep first")
        return tuple(record for record in found if record is not None)

    def _found(self, experiment: Experiment) -> Record | None:
        record = self.store.get(experiment, task_summary(experiment, self.data_dir).checksum)
        return None if record is None or (self.test and record.sealed) else record

    def _check(self, records: Sequence[Record]) -> None:
        """Refuse runs on other data than this machine's: a sweep on this machine would never find them in the store."""
        for record in records:
            if record.checksum != task_summary(record.experiment, self.data_dir).checksum:
                raise DataError(
                    f"a worker trained on {record.experiment.data} images that differ from this machine's (other "
                    f"checksum): give a data folder with the same files on all machines"
                )
