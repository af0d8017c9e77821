"""The benchmarks: what each measures, what it is compared with, and its aim."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from mdfa_core.base.errors import UnknownName
from mdfa_core.base.registry import Registry
from mdfa_core.bench import matmul_floor, memory, probe_cost
from mdfa_core.bench.settings import Settings
from mdfa_core.bench.timing import Blocks, Spread, fastest, interleaved, ratios
from mdfa_core.bench.workloads import BATCH, CONV, DIGITS_FC, FC, Workload
from mdfa_core.compute import kernels
from mdfa_core.learning.probes import LIVE, Sample
from mdfa_core.rules.methods import METHODS
from mdfa_core.training.experiment import Experiment


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
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the aim; None without an aim."""
        return None if self.aim is None else self.aim.met(self.compared.median)


class Benchmark(ABC):
    """A comparison of this project with an alternative, measured on this machine."""

    @abstractmethod
    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        """Run the benchmark with the number of PyTorch threads already set."""


@dataclass(frozen=True)
class StepBenchmark(Benchmark):
    """A training step ÷ that of the fastest autograd variant of the same network and optimizer.

    Attributes:
        workload: the training step.
        aims: bounds on machines where oneDNN computes large products, and on others.
    """

    workload: Workload
    aims: tuple[float, float]

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        others = self.workload.autograd_steps()
        blocks = interleaved(
            {"this project": self.workload.our_step(settings.dtypes), **others},
            rounds=settings.rounds,
            seconds=settings.seconds,
        )
        ours = blocks["this project"]
        best = fastest({variant: blocks[variant] for variant in others})
        work = matmul_floor.multiply_adds(self.workload.build_network(), METHODS[self.workload.method], BATCH)
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
            details={
                "variants": {variant: _seconds(taken) for variant, taken in blocks.items()},
                "multiply-adds": work,
                "GFLOP/s": 2 * work / ours.spread.median / 1e9,
            },
        )


@dataclass(frozen=True)
class FloorBenchmark(Benchmark):
    """A training step ÷ its matmul floor: the time of its multiply-adds at the rate of its fastest product."""

    workload: Workload
    bound: float

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        network = self.workload.build_network()
        products = matmul_floor.products(network, BATCH)
        blocks = interleaved(
            {"step": self.workload.our_step(settings.dtypes)} | {f"{p.path} {p.name}": p.run for p in products},
            rounds=settings.rounds,
            seconds=settings.seconds,
        )
        rates = [p.multiply_adds / blocks[f"{p.path} {p.name}"].spread.median for p in products]
        rate, best = max(zip(rates, products, strict=True), key=lambda pair: pair[0])
        work = matmul_floor.multiply_adds(network, METHODS[self.workload.method], BATCH)
        step, product = blocks["step"], blocks[f"{best.path} {best.name}"]
        least = Blocks(tuple(work * seconds / best.multiply_adds for seconds in product.seconds), product.steps)
        return BenchmarkResult(
            name=name,
            measured=f"{self.workload.title}, a step",
            unit="s",
            ours=step.spread,
            other=least.spread,
            other_name="floor",
            kind="ratio",
            compared=ratios(step, least),
            aim=_aim(settings, Aim(self.bound)),
            details={
                "multiply-adds": work,
                "matrix rate": {"GFLOP/s": 2 * rate / 1e9, "path": best.path, "product": best.name},
                "products": [
                    {"path": p.path, "product": p.name, "multiply-adds": p.multiply_adds, "GFLOP/s": 2 * r / 1e9}
                    for p, r in zip(products, rates, strict=True)
                ],
            },
        )


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
        blocks = interleaved({**stacks, **others}, rounds=settings.rounds, seconds=settings.seconds)
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

    title: str
    experiment: Experiment
    sample: Sample | None
    bound: float

    def measure(self, name: str, settings: Settings) -> BenchmarkResult:
        experiment = self.experiment.replace(precision=settings.precision)
        bundled = experiment.data != "imagefolder"
        with nullcontext(None) if bundled else probe_cost.noise_folder() as folder:
            measured = probe_cost.throughput(
                experiment,
                folder,
                self.sample,
                rounds=2 if settings.quick else 5,
                seconds=0.1 if settings.quick else 1.0,
            )
        losses = [1 - a / b for a, b in zip(measured.probed, measured.without, strict=True)]
        return BenchmarkResult(
            name=name,
            measured=f"{self.title}, {'live' if self.sample else 'whole'} probe",
            unit="steps/s",
            ours=Spread.of(measured.probed),
            other=Spread.of(measured.without),
            other_name="the run without",
            kind="loss",
            compared=Spread.of(losses),
            aim=_aim(settings, Aim(self.bound)),
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
BENCHMARKS.add("fc-mdfa-sgd", StepBenchmark(FC, (0.42, 0.70)))
BENCHMARKS.add("fc-bp-sgd", StepBenchmark(dataclasses.replace(FC, method="bp"), (0.50, 0.50)))
BENCHMARKS.add("fc-mdfa-rmsprop", StepBenchmark(dataclasses.replace(FC, optimizer="rmsprop"), (0.60, 0.60)))
BENCHMARKS.add("fc-mdfa-adam", StepBenchmark(dataclasses.replace(FC, optimizer="adam"), (0.62, 0.62)))
BENCHMARKS.add("conv-mdfa-sgd", StepBenchmark(CONV, (0.55, 0.55)))
BENCHMARKS.add("digits-mdfa-sgd", StepBenchmark(DIGITS_FC, (0.45, 0.45)))
BENCHMARKS.add("fc-floor", FloorBenchmark(FC, 1.25))
BENCHMARKS.add("digits-replicas", StackBenchmark(DIGITS_FC, (1, 2, 4, 8, 16, 32), 4.0))
BENCHMARKS.add("fc-replicas", StackBenchmark(FC, (1, 2, 4, 8), 2.4))
BENCHMARKS.add("digits-probe", ProbeBenchmark(DIGITS_FC.title, Experiment(), None, 0.05))
BENCHMARKS.add("fc-probe", ProbeBenchmark(FC.title, _FC_RUN, LIVE, 0.05))
BENCHMARKS.add("fc-probe-whole", ProbeBenchmark(FC.title, _FC_RUN, None, 0.25))
BENCHMARKS.add("memory-rmsprop", MemoryBenchmark("rmsprop", 0.7))
BENCHMARKS.add("memory-sgd", MemoryBenchmark("sgd", 0.7))


def measure(names: Sequence[str], settings: Settings) -> Iterator[BenchmarkResult]:
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


def _measured(name: str, benchmark: Benchmark, settings: Settings) -> BenchmarkResult:
    with settings.in_force():
        return benchmark.measure(name, settings)


def _aim(settings: Settings, aim: Aim) -> Aim | None:
    """`aim`, unless the settings differ from those the aims hold for: float32, two threads, not quick."""
    judged = settings.precision == "float32" and settings.threads == 2 and not settings.quick
    return aim if judged else None


def _divided(blocks: Blocks, replicas: int) -> Blocks:
    return Blocks(tuple(seconds / replicas for seconds in blocks.seconds), blocks.steps)


def _seconds(blocks: Blocks) -> dict[str, float]:
    return {**dataclasses.asdict(blocks.spread), "steps a block": blocks.steps}
