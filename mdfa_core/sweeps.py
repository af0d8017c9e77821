"""Many runs: packs experiments into replica stacks that fit, trains the missing ones, keeps every finished one.

Workers train. A sweep says what is to be trained; `kept_busy` gives several of them to the same workers.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import psutil
import torch

from mdfa_core import devices, kernels
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.data import DATASETS, TaskCache, TaskFacts
from mdfa_core.errors import DataError, InvalidValue
from mdfa_core.experiment import Experiment
from mdfa_core.kernels import precision_named
from mdfa_core.learner import TOGETHER, Sums
from mdfa_core.methods import METHODS
from mdfa_core.networks import ConvLayer, Network, parse_architecture
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.records import Record, Recorder
from mdfa_core.replay import Steps, graphs_of
from mdfa_core.store import Store
from mdfa_core.training import EVALUATION_CHUNK, VARYING, Every, Run

_LOG = logging.getLogger(__name__)
_MOST = 64  # replicas of one stack on a CPU: more make a step no cheaper, and a stopped stack costs more time
_SHARE = 0.8  # of the free memory that a stack may take


@dataclass(frozen=True, kw_only=True)
class Job:
    """One replica stack to train: the unit of work, here or on a cluster's worker.

    Attributes:
        experiments: one a replica, alike but for `VARYING`.
        test: whether the test images are opened at the end.
        probe: how often to measure sign agreement; None never.
        device: as `Run` takes it.
        data_dir: likewise, on the machine that runs the job.
        threads: CPU threads. They can change the last bit of a product, so they are part of the job.
    """

    experiments: tuple[Experiment, ...]
    test: bool = False
    probe: Every | None = None
    device: str = "cpu"
    data_dir: str | None = None
    threads: int = 1

    def run(self) -> tuple[Record, ...]:
        """Train from the beginning to the end: one record a replica."""
        with threads(self.threads):
            run = Run(self.experiments, device=self.device, test=self.test, tasks=_cache(self.device, self.data_dir))
            recorder = Recorder(run)
            for event in run.events(probe=self.probe):
                recorder(event)
        return recorder.records

    def steps(self) -> int:
        """Mini-batches of one replica."""
        first = self.experiments[0]
        train = _facts(first, self.data_dir).train
        return first.epochs * (train // first.batch_size if first.drop_last else -(-train // first.batch_size))


NextJob = Callable[[], Job | None]


class Workers(ABC):
    """Something that runs jobs."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Jobs that run at the same time."""

    def device(self, name: str) -> str:
        """The device that this name means where the jobs run.

        Raises:
            DeviceError: there is no such device.
        """
        return str(devices.resolve(name))

    def memory(self, device: str) -> int:
        """Bytes that one job may take on a device where the jobs run."""
        return free_memory(device)

    @abstractmethod
    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        """Run jobs and yield each with its records as it finishes.

        Args:
            next_job: asked for another job whenever one could begin, and only then. None says that there is none now;
                it is asked again after every job that was yielded. When all have finished and it has none, this ends.
        """


class Here(Workers):
    """This process, one job after the other."""

    @property
    def count(self) -> int:
        return 1

    def run(self, next_job: NextJob) -> Iterator[tuple[Job, tuple[Record, ...]]]:
        while (job := next_job()) is not None:
            yield job, job.run()


@dataclass(frozen=True, kw_only=True)
class Advance:
    """How far a sweep has come.

    Attributes:
        records: what has just been finished and stored.
        done: experiments finished, those found in the store included.
        total: experiments of the sweep.
    """

    records: tuple[Record, ...]
    done: int
    total: int


class Sweep:
    """Experiments to be trained unless the store has them; iterating does the work and may be left at any moment.

    Args:
        experiments: any; equal ones are trained once.
        store: where finished runs are and go; only this process writes it.
        test: whether test images may be opened. A run in the store that was sealed counts as missing then.
        probe: how often what is trained measures sign agreement; a run that the store has counts without it, too.
        device: as `Run` takes it.
        data_dir: likewise.
        workers: who trains; this process if left out.

    Raises:
        DataError: data is missing or broken, or a worker's data is not this machine's.
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
        self.workers = workers or Here()
        self.device = self.workers.device(device)
        self.data_dir = None if data_dir is None else os.fspath(data_dir)
        missing = [e for e in self.experiments if self._found(e) is None]
        stacks = packed(
            missing,
            device=self.device,
            data_dir=self.data_dir,
            memory=self.workers.memory(self.device) if missing else None,
            at_least=self.workers.count,
        )
        self.jobs = [
            Job(experiments=stack, test=test, probe=probe, device=self.device, data_dir=self.data_dir)
            for stack in stacks
        ]
        self.jobs.sort(key=cost, reverse=True)  # the longest first, so that no worker is left with it at the end

    def __iter__(self) -> Iterator[Advance]:
        """Train what is missing; every finished stack is stored before it is told.

        Raises:
            DataError: as above.
            ClusterError: the workers are gone.
            StoreError: a stack cannot be stored.
        """
        for _, advance in kept_busy([iter((self,))], self.workers):
            yield advance

    def finished(self, job: Job, records: tuple[Record, ...]) -> Advance:
        """Store what one of its jobs has given.

        Raises:
            DataError: as above.
            StoreError: it cannot be stored.
        """
        self._check(records)
        self.store.add(records)
        self.jobs = [waiting for waiting in self.jobs if waiting is not job]
        total, left = len(self.experiments), sum(len(waiting.experiments) for waiting in self.jobs)
        return Advance(records=records, done=total - left, total=total)

    def records(self) -> tuple[Record, ...]:
        """The finished runs, in the order of the experiments.

        Raises:
            InvalidValue: one is missing; iterate over the sweep first.
        """
        found = [self._found(experiment) for experiment in self.experiments]
        if None in found:
            raise InvalidValue(f"{found.count(None)} of {len(found)} runs are missing: iterate over the sweep first")
        return tuple(record for record in found if record is not None)

    def _found(self, experiment: Experiment) -> Record | None:
        record = self.store.get(experiment, _facts(experiment, self.data_dir).checksum)
        return None if record is None or (self.test and record.sealed) else record

    def _check(self, records: Sequence[Record]) -> None:
        """Refuse runs on other data than this machine's, which nothing here would ever find again."""
        for record in records:
            if record.checksum != _facts(record.experiment, self.data_dir).checksum:
                raise DataError(
                    f"a worker trained on {record.experiment.data} images that are not those of this machine (other "
                    f"checksum): give a data folder that is the same for all"
                )


def kept_busy(programs: Iterable[Iterator[Sweep]], workers: Workers) -> Iterator[tuple[Sweep, Advance]]:
    """Several programs of sweeps by the same workers, none of which is idle while one of the programs has work.

    A program makes sweeps one after the other: it is asked for the next when the last is trained, so that what it makes
    may depend on its records. Earlier programs go first: a further one is begun only when a worker would have nothing
    to do. All of it may be left at any moment.

    Raises:
        DataError, ClusterError, StoreError: as iterating over a sweep does.
    """
    unbegun = enumerate(programs)
    order = itertools.count()
    waiting: list[tuple[int, int, Job]] = []  # a heap: by the program's number, then as they came
    whose: dict[int, tuple[int, Iterator[Sweep], Sweep]] = {}  # by the job's id: its sweep keeps it until it has ended

    def go_on(number: int, program: Iterator[Sweep]) -> None:
        for sweep in program:
            for job in sweep.jobs:
                heapq.heappush(waiting, (number, next(order), job))
                whose[id(job)] = number, program, sweep
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
        number, program, sweep = whose.pop(id(job))
        yield sweep, sweep.finished(job, records)
        if not sweep.jobs:
            go_on(number, program)


def packed(
    experiments: Iterable[Experiment],
    *,
    device: str = "cpu",
    data_dir: str | None = None,
    memory: int | None = None,
    at_least: int = 1,
) -> list[tuple[Experiment, ...]]:
    """Experiments as stacks whose replicas share everything but `VARYING` and have equally many training images.

    On a CPU a stack is no larger than what a step can advance in common calls; everywhere it is no larger than fits the
    memory (a word in the log says when it was split); a single replica is a stack even if it is too large.

    Args:
        experiments: any.
        device: where they will run.
        data_dir: as `load_task` takes it.
        memory: bytes that are free for a stack, of which it takes four fifths at most; by default those on this
            machine's device, shared by `at_least` stacks.
        at_least: give at least so many stacks where there are as many experiments, to keep as many workers busy.
    """
    budget = free_memory(device) // at_least if memory is None else memory
    groups: dict[tuple[Any, ...], list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        facts = _facts(experiment, data_dir)
        shared = tuple(item for item in experiment.to_dict().items() if item[0] not in VARYING)
        groups[(*shared, facts.train)].append(experiment)
    most_each = max(1, -(-sum(map(len, groups.values())) // at_least))
    stacks: list[tuple[Experiment, ...]] = []
    for group in groups.values():
        needed = predicted_memory(group[0], device)
        fits = max(1, int(budget * _SHARE) // needed)
        useful = min(len(group), most_each)
        if device == "cpu":
            useful = min(useful, _MOST, max(1, TOGETHER // _network(group[0]).parameter_count))
        size = min(fits, useful)
        if size < useful:
            _LOG.info(
                "a stack of %d replicas needs about %s of memory and %s may be taken: it is split into stacks of %d",
                useful,
                spoken(useful * needed),
                spoken(int(budget * _SHARE)),
                size,
            )
        stacks += [tuple(group[start : start + size]) for start in range(0, len(group), size)]
    return stacks


def predicted_memory(experiment: Experiment, device: str = "cpu") -> int:
    """Bytes that one replica of an experiment takes on a device while it trains, its images aside.

    Weights, the best weights so far, the optimizer's slots, the copy they are drawn into and the feedback; of a batch
    every unit's output, ε and δ, or of an evaluation the outputs, whichever is more; with the pre-activations, where
    the activation's derivative needs them, the inputs (as pixels, as numbers and in the layer's memory order) and a
    copy of the largest of these that is being made; and the largest update that is made whole. Where steps are
    replayed as a graph, which keeps its memory for itself, what a batch takes comes on top.
    """
    network = _network(experiment)
    itemsize = network.precision.storage.itemsize
    slots = len(OPTIMIZERS[experiment.optimizer].slots)
    transport = METHODS[experiment.method].transport
    feedback = sum(math.prod(item.shape) for item in transport.feedback(network))
    learned = network.parameter_count + (feedback if transport.learns_feedback else 0)
    inputs = math.prod(network.input_shape)
    units = sum(layer.units for layer in network.layers)
    kept = 1 if network.activation.from_output else 2
    passing = kept * max(layer.units for layer in network.layers) + 3 * inputs
    batch = experiment.batch_size * ((kept + 2) * units + passing)
    batch += transport.workspace(network, experiment.batch_size) + _largest_update(experiment, network)
    evaluation = EVALUATION_CHUNK * (kept * units + passing)
    recorded = 0 if graphs_of(torch.device(device)) is None or transport.draws else batch
    passing_by = recorded + max(batch, evaluation)
    return itemsize * (network.parameter_count * 3 + learned * slots + 2 * feedback + passing_by)


def _largest_update(experiment: Experiment, network: Network) -> int:
    """Numbers in the largest g that is not made in parts, and beside it: what is made of it."""
    rule = OPTIMIZERS[experiment.optimizer]
    if rule.linear:  # g is seldom made
        return 0
    whole = [
        math.prod(layer.weight_shape)
        for layer in network.layers
        if isinstance(layer, ConvLayer)
        or network.precision.mixed
        or experiment.batch_size * math.prod(layer.weight_shape) < kernels.LARGE
    ]
    return max(whole, default=0) * (1 + rule.room + (experiment.l2 > 0))


def free_memory(device: str) -> int:
    """Bytes a new stack could take on a device now."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return int(psutil.virtual_memory().available)


def refuse_too_large(experiments: Sequence[Experiment], *, device: str = "auto") -> None:
    """Refuse a stack that would not fit the memory that is free, before any of it is taken.

    Raises:
        InvalidValue: it does not fit; the message says how many replicas do, if one does.
        DeviceError: there is no such device.
    """
    where = str(devices.resolve(device))
    needed, free = predicted_memory(experiments[0], where), free_memory(where)
    if needed > free:
        raise InvalidValue(
            f"a run of {experiments[0].network} needs about {spoken(needed)} of memory and {spoken(free)} are free on "
            f"{where}: give a smaller net or a smaller batch"
        )
    most = int(free * _SHARE) // needed
    if len(experiments) > max(1, most):
        raise InvalidValue(
            f"a stack of {len(experiments)} replicas needs about {spoken(len(experiments) * needed)} of memory and "
            f"{spoken(int(free * _SHARE))} may be taken on {where}: train at most {max(1, most)} side by side"
        )


def seconds_an_epoch(
    experiment: Experiment, *, device: str = "auto", data_dir: str | os.PathLike[str] | None = None
) -> float:
    """About how long an epoch of one run takes, evaluations included: a few steps of its kind are timed."""
    folder = None if data_dir is None else os.fspath(data_dir)
    job = Job(experiments=(experiment,), device=str(devices.resolve(device)), data_dir=folder)
    return job.steps() / experiment.epochs * _seconds_a_step(job)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch computes with this many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cost(job: Job) -> float:
    """Relative time of a job: weights times images shown, with a convolution's weights at every position."""
    network = _network(job.experiments[0])
    work = sum(layer.units // layer.weight_shape[0] * math.prod(layer.weight_shape) for layer in network.layers)
    return float(len(job.experiments) * job.steps() * job.experiments[0].batch_size * work)


def _network(experiment: Experiment) -> Network:
    return Network(
        parse_architecture(experiment.network),
        DATASETS[experiment.data].shape(experiment.image_size),
        experiment.outputs,
        ACTIVATIONS[experiment.activation],
        precision_named(experiment.precision),
    )


@functools.cache
def _cache(device: str, data_dir: str | None) -> TaskCache:
    """The tasks this process has read; a worker keeps them from one job to the next."""
    return TaskCache(data_dir, devices.resolve(device))


def _facts(experiment: Experiment, data_dir: str | None) -> TaskFacts:
    """Facts of an experiment's task; from the CPU's memory, since the device may be another machine's."""
    return _cache("cpu", data_dir).facts(experiment.data, **experiment.task_settings)


_TIMED = 6  # steps of which the last half count
_rates: dict[tuple[Any, ...], float] = {}


def _seconds_a_step(job: Job) -> float:
    """Time of one replica's step with its share of the evaluations, measured once for every kind of job."""
    first = job.experiments[0]
    kind = (first.network, first.method, first.optimizer, first.data, first.image_size, first.batch_size, job.device)
    if kind not in _rates:
        with threads(job.threads):
            cache = _cache(job.device, job.data_dir)
            run = Run(first.replace(epochs=max(first.epochs, _TIMED)), device=job.device, test=False, tasks=cache)
            sums = Sums.zeros(1, run.device)
            steps = Steps(run.learner, sums)
            taken = []
            for number in range(1, _TIMED + 1):
                began = time.perf_counter()
                steps.take(*run.batch(number))
                sums.loss.tolist()  # waits for the device
                taken.append(time.perf_counter() - began)
            step = fmean(taken[_TIMED // 2 :])
            # An evaluation is a forward pass, two fifths of a step, over training and validation images.
            _rates[kind] = step * (1 + 0.4 / max(1 - first.validation, 0.1))
    return _rates[kind]


def spoken(size: int) -> str:
    """An amount of memory in words."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
