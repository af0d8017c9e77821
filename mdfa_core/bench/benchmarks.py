"""The benchmarks: what each measures, what it is compared with, and its aim."""

from __future__ import annotations

import dataclasses
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdfa_core.base.errors import MissingPackage, UnknownName
from mdfa_core.base.registry import Registry
from mdfa_core.bench import memory, probe_cost
from mdfa_core.bench.floor import Work
from mdfa_core.bench.jax_steps import jax_step
from mdfa_core.bench.settings import Settings
from mdfa_core.bench.timing import Blocks, Spread, Step, fastest, interleaved, ratios
from mdfa_core.bench.workloads import CONV, DIGITS_FC, FC, Workload
from mdfa_core.compute import kernels, threads
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning.compiled import CompiledSteps
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.probes import LIVE, Sample
from mdfa_core.rules.methods import METHODS
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.online import OnlineLearner


@dataclass(frozen=True)
class Aim:
    """The bound a comparison should meet.

    Attributes:
        bound: the largest value allowed, or the smallest if `at_least`.
        at_least: whether `bound` is a lower bound.
    """

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether `value` meets the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """The result of one benchmark.

    Attributes:
        name: name of the benchmark.
        measured: the measured quantity in words.
        unit: of `ours` and `other`: `s`, `bytes` or `steps/s`.
        ours: this project.
        other: the alternative.
        other_name: the alternative in words.
        kind: of `compared`: `ratio` (ours ÷ other), `gain` (other ÷ ours), or `loss` (1 − ours ÷ other).
        compared: the comparison, computed from values of the same round.
        aim: None if there is no aim, as for other precisions.
        work: the work of what `ours` measured; None if it is no time.
        threads: CPU threads, for the floor of `work`.
        floor_aim: the bound of `ours` ÷ its floor; None without one.
        details: further numbers, as JSON values.
    """

    name: str
    measured: str
    unit: str
    ours: Spread
    other: Spread
    other_name: str
    kind: str
    compared: Spread
    aim: Aim | None
    work: Work | None = None
    threads: int = 1
    floor_aim: Aim | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the aim; None without an aim."""
        return None if self.aim is None else self.aim.met(self.compared.median)

    @property
    def step_seconds(self) -> float:
        """Seconds of the work that `ours` measured."""
        return 1 / self.ours.median if self.unit == "steps/s" else self.ours.median


@dataclass(frozen=True)
class Skipped:
    """A benchmark that cannot run here.

    Attributes:
        name: name of the benchmark.
        measured: what it would measure.
        reason: why it did not run, and what to do.
    """

    name: str
    measured: str
    reason: str


class Benchmark(ABC):
    """A comparison of this project with an alternative, measured on this machine."""

    @abstractmethod
    def measure(self, name: str, settings: Settings) -> BenchmarkResult | Skipped:
        """Run the benchmark with the number of PyTorch threads already set."""


@dataclass(frozen=True)
class StepBenchmark(Benchmark):
    """A training step ÷ that of the fastest autograd variant of the same network and optimizer.

    Attributes:
        workload: the training step.
        aims: bounds on machines where oneDNN computes large products, and on others.
        floor_aim: the bound of the step ÷ its floor; None without one.
    """

    workload: Workload
    aims: tuple[float, float]
    floor_aim: float | None = None

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        others = self.workload.autograd_steps()
        peer, why = _jax(self.workload, settings.threads)
        blocks = interleaved(
            {"this project": self.workload.our_step(settings.dtypes), **others, **peer},
            rounds=settings.rounds,
            seconds=settings.seconds,
            clock=settings.clock,
        )
        ours = blocks["this project"]
        best = fastest({variant: blocks[variant] for variant in others})
        work = Work.of(self.workload)
        return BenchmarkResult(
            name=name,
            measured=f"{self.workload.title}, a step",
            unit="s",
            ours=ours.spread,
            other=blocks[best].spread,
            other_name=f"autograd {best}",
            kind="ratio",
            compared=ratios(ours, blocks[best]),
            aim=_aim(settings, Aim(self.aims[0] if kernels.uses_onednn() else self.aims[1])),
            work=work,
            threads=settings.threads,
            floor_aim=None if self.floor_aim is None else _aim(settings, Aim(self.floor_aim)),
            details={
                "variants": {variant: _seconds(taken) for variant, taken in blocks.items()},
                "GFLOP/s": 2 * work.multiply_adds / ours.spread.median / 1e9,
                **_beside_jax(ours, blocks, why),
            },
        )


@dataclass(frozen=True)
class CompiledBenchmark(Benchmark):
    """The compiled step on one thread ÷ JAX's jitted step of the same rule or, without JAX, ÷ autograd's step.

    A workload with a batch of one is an `OnlineLearner`, which predicts and then learns every example of a stream.

    Attributes:
        workload: the training step.
        bound: on the ratio to JAX.
    """

    workload: Workload
    bound: float

    STREAM = 2000
    """Examples of a stream in one call."""

    def measure(self, name: str, settings: Settings) -> BenchmarkResult | Skipped:
        rule = METHODS[self.workload.method].title
        of = f"{self.workload.title}, {rule}"
        learner = self.workload.learner(PRECISIONS["float32"])
        try:
            compiled = self._stream(learner) if self.workload.batch == 1 else self._steps(learner)
        except MissingPackage as error:
            return Skipped(name, of, str(error))
        peer, why = _jax(self.workload, settings.threads)
        others = {f"autograd {variant}": step for variant, step in self.workload.autograd_steps().items()}
        with threads.limited(1):
            blocks = interleaved(
                {"compiled": compiled, "PyTorch": self.workload.our_step(PRECISIONS["float32"]), **others, **peer},
                rounds=settings.rounds,
                seconds=settings.seconds,
                clock=time.process_time,
            )
        if self.workload.batch == 1:
            blocks["compiled"] = _divided(blocks["compiled"], self.STREAM)
        ours = blocks["compiled"]
        other = "JAX" if peer else fastest({variant: blocks[variant] for variant in others})
        work = Work.of(self.workload)
        return BenchmarkResult(
            name=name,
            measured=of,
            unit="s",
            ours=ours.spread,
            other=blocks[other].spread,
            other_name=other,
            kind="ratio",
            compared=ratios(ours, blocks[other]),
            aim=Aim(self.bound) if peer and not settings.quick else None,
            work=work,
            details={
                "variants": {variant: _seconds(taken) for variant, taken in blocks.items()},
                **_beside_jax(ours, blocks, why),
            },
        )

    def _steps(self, learner: Learner) -> Step:
        steps = CompiledSteps(learner)
        batches = itertools.cycle([(learner.network.inputs_from(x), y) for x, y in self.workload.batches(1, "cpu")])
        return lambda: steps.step(*next(batches))

    def _stream(self, learner: Learner) -> Step:
        online = OnlineLearner(learner)
        xs = np.random.default_rng(0).random((self.STREAM, online.inputs), np.float32)
        labels = (xs[:, 0] > xs[:, 3]).astype(np.int64)
        return lambda: online.run(xs, labels)


@dataclass(frozen=True)
class StackBenchmark(Benchmark):
    """Autograd runs one after the other ÷ a stack of as many replicas, each on batches of its own."""

    workload: Workload
    sizes: tuple[int, ...]
    bound: float

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        most = self.sizes[-1]
        others = self.workload.autograd_steps()
        stacks = {f"R = {size}": self.workload.our_step(settings.dtypes, size) for size in self.sizes}
        blocks = interleaved(
            {**stacks, **others}, rounds=settings.rounds, seconds=settings.seconds, clock=settings.clock
        )
        best = fastest({variant: blocks[variant] for variant in others})
        apiece = {size: _divided(blocks[f"R = {size}"], size) for size in self.sizes}
        return BenchmarkResult(
            name=name,
            measured=f"{self.workload.title}, a step ÷ R",
            unit="s",
            ours=apiece[most].spread,
            other=blocks[best].spread,
            other_name=f"autograd {best}",
            kind="gain",
            compared=ratios(blocks[best], apiece[most]),
            aim=_aim(settings, Aim(self.bound, at_least=True)),
            work=Work.of(self.workload),
            threads=settings.threads,
            details={
                "replicas": most,
                "replica-steps a second": 1 / apiece[most].spread.median,
                "cost per replica": [{"replicas": size, **_seconds(apiece[size])} for size in self.sizes],
                "variants": {variant: _seconds(blocks[variant]) for variant in others},
            },
        )


@dataclass(frozen=True)
class ProbeBenchmark(Benchmark):
    """The share of a run's throughput that a probe at 10 Hz costs, on a sample of the units or on all units."""

    workload: Workload
    experiment: Experiment
    sample: Sample | None
    bound: float
    turn: float = 1.0  # seconds: several times as long as a probe and the pause after it

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        experiment = self.experiment.replace(precision=settings.precision)
        bundled = experiment.data != "imagefolder"
        with nullcontext(None) if bundled else probe_cost.noise_folder() as folder:
            measured = probe_cost.throughput(
                experiment,
                folder,
                self.sample,
                rounds=2 if settings.quick else 5,
                seconds=0.1 if settings.quick else self.turn,
                clock=settings.clock,
            )
        losses = [1 - a / b for a, b in zip(measured.probed, measured.without, strict=True)]
        return BenchmarkResult(
            name=name,
            measured=f"{self.workload.title}, {'live' if self.sample else 'whole'} probe",
            unit="steps/s",
            ours=Spread.of(measured.probed),
            other=Spread.of(measured.without),
            other_name="the run without",
            kind="loss",
            compared=Spread.of(losses),
            aim=_aim(settings, Aim(self.bound)),
            work=Work.of(self.workload),
            threads=settings.threads,
            details={"probes a second": measured.probes, "experiment": experiment.to_dict()},
        )


@dataclass(frozen=True)
class MemoryBenchmark(Benchmark):
    """Peak resident memory of a run ÷ that of autograd with RMSprop, each in its own process."""

    optimizer: str
    bound: float

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        steps = 3 if settings.quick else 20
        compared = (("ours", self.optimizer), ("autograd", "rmsprop"))
        with ThreadPoolExecutor() as pool:  # in parallel: memory is measured, not time
            ours, other = pool.map(
                lambda of: memory.run_apart(*of, threads=settings.threads, precision=settings.precision, steps=steps),
                compared,
            )
        weights = 4 * FC.build_network().parameter_count
        return BenchmarkResult(
            name=name,
            measured=f"{FC.title}, peak memory",
            unit="bytes",
            ours=Spread.of([ours.run]),
            other=Spread.of([other.run]),
            other_name="autograd RMSprop",
            kind="ratio",
            compared=Spread.of([ours.run / other.run]),
            aim=_aim(settings, Aim(self.bound)),
            details={
                "bytes of one copy of the parameters": weights,
                "from the first step on": {"ours": ours.training, "other": other.training},
                "steps": steps,
            },
        )


_FC_RUN = Experiment(data="imagefolder", image_size=32, network="cifar-fc")

BENCHMARKS: Registry[Benchmark] = Registry("benchmark")
BENCHMARKS.add("fc-mdfa-sgd", StepBenchmark(FC, (0.42, 0.70), 1.25))
BENCHMARKS.add("fc-bp-sgd", StepBenchmark(dataclasses.replace(FC, method="bp"), (0.50, 0.50)))
BENCHMARKS.add("fc-mdfa-rmsprop", StepBenchmark(dataclasses.replace(FC, optimizer="rmsprop"), (0.60, 0.60)))
BENCHMARKS.add("fc-mdfa-adam", StepBenchmark(dataclasses.replace(FC, optimizer="adam"), (0.62, 0.62)))
BENCHMARKS.add("conv-mdfa-sgd", StepBenchmark(CONV, (0.55, 0.55)))
BENCHMARKS.add("digits-mdfa-sgd", StepBenchmark(DIGITS_FC, (0.45, 0.45)))
for _name, _work in (
    ("compiled", DIGITS_FC),
    ("online-64", Workload("80-64-64-1", "fc:64,64", (1, 1, 80), batch=1)),
    ("online-16", Workload("80-16-16-1", "fc:16,16", (1, 1, 80), batch=1)),
):
    for _rule in ("mdfa", "bp"):
        BENCHMARKS.add(f"{_name}-{_rule}", CompiledBenchmark(dataclasses.replace(_work, method=_rule), 0.7))
BENCHMARKS.add("digits-replicas", StackBenchmark(DIGITS_FC, (1, 2, 4, 8, 16, 32), 4.0))
BENCHMARKS.add("fc-replicas", StackBenchmark(FC, (1, 2, 4, 8), 2.4))
BENCHMARKS.add("digits-probe", ProbeBenchmark(DIGITS_FC, Experiment(), None, 0.05))
BENCHMARKS.add("fc-probe", ProbeBenchmark(FC, _FC_RUN, LIVE, 0.05))
BENCHMARKS.add("fc-probe-whole", ProbeBenchmark(FC, _FC_RUN, None, 0.25, turn=4.0))
BENCHMARKS.add("memory-rmsprop", MemoryBenchmark("rmsprop", 0.7))
BENCHMARKS.add("memory-sgd", MemoryBenchmark("sgd", 0.7))


def measure(names: Sequence[str], settings: Settings) -> Iterator[BenchmarkResult | Skipped]:
    """Run benchmarks one after the other, in the given order.

    Args:
        names: names in `BENCHMARKS`.
        settings: how to measure.

    Raises:
        UnknownName: there is no benchmark of this name; raised before anything is measured.
    """
    chosen = [(name, BENCHMARKS[name]) for name in names]
    return (_measured(name, benchmark, settings) for name, benchmark in chosen)


def workload_of(name: str) -> Workload:
    """The training step that a `StepBenchmark` measures.

    Raises:
        UnknownName: there is no such benchmark, or it measures no training step.
    """
    steps = {key: benchmark.workload for key, benchmark in BENCHMARKS.items() if isinstance(benchmark, StepBenchmark)}
    if name not in steps:
        raise UnknownName("benchmark with a step to profile", name, steps)
    return steps[name]


def _measured(name: str, benchmark: Benchmark, settings: Settings) -> BenchmarkResult | Skipped:
    with settings.in_force():
        return benchmark.measure(name, settings)


def _aim(settings: Settings, aim: Aim) -> Aim | None:
    """`aim`, unless the settings differ from those the aims hold for: float32, two threads, not quick."""
    judged = settings.precision == "float32" and settings.threads == 2 and not settings.quick
    return aim if judged else None


def _jax(workload: Workload, count: int) -> tuple[dict[str, Step], str | None]:
    """The step in JAX by its name, or none and the reason."""
    try:
        step = jax_step(workload, count)
    except MissingPackage as error:
        return {}, str(error)
    return ({}, None) if step is None else ({"JAX": step}, None)


def _beside_jax(ours: Blocks, blocks: Mapping[str, Blocks], why: str | None) -> dict[str, Any]:
    if "JAX" in blocks:
        return {"÷ JAX": dataclasses.asdict(ratios(ours, blocks["JAX"]))}
    return {} if why is None else {"JAX skipped": why}


def _divided(blocks: Blocks, replicas: int) -> Blocks:
    return Blocks(tuple(seconds / replicas for seconds in blocks.seconds), blocks.steps)


def _seconds(blocks: Blocks) -> dict[str, float]:
    return {**dataclasses.asdict(blocks.spread), "fastest": min(blocks.seconds), "steps a block": blocks.steps}
