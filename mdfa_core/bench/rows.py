"""The rows of the benchmark: what each measures, what it is compared with, and the aim."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from mdfa_core import kernels
from mdfa_core.bench import floor, memory, probing
from mdfa_core.bench.cases import BATCH, CONV, DIGITS_FC, FC, Case
from mdfa_core.bench.settings import Settings
from mdfa_core.bench.timing import Blocks, Spread, fastest, interleaved, ratios
from mdfa_core.errors import UnknownName
from mdfa_core.experiment import Experiment
from mdfa_core.methods import METHODS
from mdfa_core.probes import LIVE, Sample
from mdfa_core.registry import Table


@dataclass(frozen=True)
class Aim:
    """What a comparison should come to: at most (or at least) `bound`."""

    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value does."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row, measured.

    Attributes:
        name: the row's.
        measured: of what, in words.
        unit: of `ours` and `other`: `s`, `bytes` or `steps/s`.
        ours: this project.
        other: what it is compared with.
        other_name: that in words.
        kind: what `compared` is: `ratio` (ours ÷ other), `gain` (other ÷ ours), or `loss` (1 − ours ÷ other).
        compared: the comparison, of values measured in the same round.
        aim: None where none is stated, as for other precisions.
        details: everything else, as JSON has it.
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
        """Whether the median meets the aim."""
        return None if self.aim is None else self.aim.met(self.compared.median)


class Row(ABC):
    """One row of the table."""

    @abstractmethod
    def measure(self, name: str, settings: Settings) -> Result:
        """Measure it; the threads are set already."""


@dataclass(frozen=True)
class StepRow(Row):
    """A step of one net: ÷ the best autograd variant of the same net with the same optimizer.

    `aims` are for machines where oneDNN serves, and for others.
    """

    case: Case
    aims: tuple[float, float]

    def measure(self, name: str, settings: Settings) -> Result:
        others = self.case.autograd()
        blocks = interleaved(
            {"this project": self.case.ours(settings.numbers), **others},
            rounds=settings.rounds,
            seconds=settings.seconds,
        )
        ours = blocks["this project"]
        best = fastest({variant: blocks[variant] for variant in others})
        work = floor.multiply_adds(self.case.net(), METHODS[self.case.method], BATCH)
        return Result(
            name=name,
            measured=f"{self.case.title}, a step",
            unit="s",
            ours=ours.spread,
            other=blocks[best].spread,
            other_name=f"autograd {best}",
            kind="ratio",
            compared=ratios(ours, blocks[best]),
            aim=_aim(settings, Aim(self.aims[0] if kernels.onednn_serves() else self.aims[1])),
            details={
                "variants": {variant: _seconds(taken) for variant, taken in blocks.items()},
                "multiply-adds": work,
                "GFLOP/s": 2 * work / ours.spread.median / 1e9,
            },
        )


@dataclass(frozen=True)
class FloorRow(Row):
    """A step ÷ its multiply-adds at the best rate of its own products."""

    case: Case
    bound: float

    def measure(self, name: str, settings: Settings) -> Result:
        network = self.case.net()
        products = floor.products(network, BATCH)
        blocks = interleaved(
            {"step": self.case.ours(settings.numbers)} | {f"{p.path} {p.name}": p.run for p in products},
            rounds=settings.rounds,
            seconds=settings.seconds,
        )
        rates = [p.multiply_adds / blocks[f"{p.path} {p.name}"].spread.median for p in products]
        rate, best = max(zip(rates, products, strict=True), key=lambda pair: pair[0])
        work = floor.multiply_adds(network, METHODS[self.case.method], BATCH)
        step, product = blocks["step"], blocks[f"{best.path} {best.name}"]
        least = Blocks(tuple(work * seconds / best.multiply_adds for seconds in product.seconds), product.steps)
        return Result(
            name=name,
            measured=f"{self.case.title}, a step",
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
class StackRow(Row):
    """Stacks of replicas, each on batches of its own, beside as many autograd runs one after the other."""

    case: Case
    sizes: tuple[int, ...]
    bound: float

    def measure(self, name: str, settings: Settings) -> Result:
        most = self.sizes[-1]
        others = self.case.autograd()
        stacks = {f"R = {size}": self.case.ours(settings.numbers, size) for size in self.sizes}
        blocks = interleaved({**stacks, **others}, rounds=settings.rounds, seconds=settings.seconds)
        best = fastest({variant: blocks[variant] for variant in others})
        apiece = {size: _divided(blocks[f"R = {size}"], size) for size in self.sizes}
        return Result(
            name=name,
            measured=f"{self.case.title}, a step ÷ R",
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
class ProbeRow(Row):
    """What a probe at 10 Hz takes of a whole run's throughput: of a sample of the net, or of all of it."""

    title: str
    experiment: Experiment
    sample: Sample | None
    bound: float | None

    def measure(self, name: str, settings: Settings) -> Result:
        experiment = self.experiment.replace(precision=settings.precision)
        bundled = experiment.data != "imagefolder"
        with nullcontext(None) if bundled else probing.noise_folder() as folder:
            measured = probing.throughput(
                experiment,
                folder,
                self.sample,
                rounds=2 if settings.quick else 5,
                seconds=0.1 if settings.quick else 1.0,
            )
        losses = [1 - a / b for a, b in zip(measured.probed, measured.without, strict=True)]
        return Result(
            name=name,
            measured=f"{self.title}, {'live' if self.sample else 'whole'} probe",
            unit="steps/s",
            ours=Spread.of(measured.probed),
            other=Spread.of(measured.without),
            other_name="the run without",
            kind="loss",
            compared=Spread.of(losses),
            aim=None if self.bound is None else _aim(settings, Aim(self.bound)),
            details={"probes a second": measured.probes, "experiment": experiment.to_dict()},
        )


@dataclass(frozen=True)
class MemoryRow(Row):
    """Peak resident memory of a run ÷ that of autograd with RMSprop, in processes of their own."""

    optimizer: str
    bound: float

    def measure(self, name: str, settings: Settings) -> Result:
        steps = 3 if settings.quick else 20
        compared = (("ours", self.optimizer), ("autograd", "rmsprop"))
        with ThreadPoolExecutor() as pool:  # side by side: nothing is timed here
            ours, other = pool.map(
                lambda of: memory.run_apart(*of, threads=settings.threads, precision=settings.precision, steps=steps),
                compared,
            )
        weights = 4 * FC.net().parameter_count
        return Result(
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

ROWS: Table[Row] = Table("row")
ROWS.add("fc-mdfa-sgd", StepRow(FC, (0.42, 0.70)))
ROWS.add("fc-bp-sgd", StepRow(dataclasses.replace(FC, method="bp"), (0.50, 0.50)))
ROWS.add("fc-mdfa-rmsprop", StepRow(dataclasses.replace(FC, optimizer="rmsprop"), (0.60, 0.60)))
ROWS.add("fc-mdfa-adam", StepRow(dataclasses.replace(FC, optimizer="adam"), (0.62, 0.62)))
ROWS.add("conv-mdfa-sgd", StepRow(CONV, (0.55, 0.55)))
ROWS.add("digits-mdfa-sgd", StepRow(DIGITS_FC, (0.45, 0.45)))
ROWS.add("fc-floor", FloorRow(FC, 1.25))
ROWS.add("digits-replicas", StackRow(DIGITS_FC, (1, 2, 4, 8, 16, 32), 4.0))
ROWS.add("fc-replicas", StackRow(FC, (1, 2, 4, 8), 2.4))
ROWS.add("digits-probe", ProbeRow(DIGITS_FC.title, Experiment(), None, 0.05))
ROWS.add("fc-probe", ProbeRow(FC.title, _FC_RUN, LIVE, 0.05))
ROWS.add("fc-probe-whole", ProbeRow(FC.title, _FC_RUN, None, None))
ROWS.add("memory-rmsprop", MemoryRow("rmsprop", 0.7))
ROWS.add("memory-sgd", MemoryRow("sgd", 0.7))


def measure(names: Sequence[str], settings: Settings) -> Iterator[Result]:
    """Measure rows in the given order, one at a time.

    Raises:
        UnknownName: a name is in no row; before anything is measured.
    """
    rows = [(name, ROWS[name]) for name in names]
    return (_measured(name, row, settings) for name, row in rows)


def profiled(name: str) -> Case:
    """The training step a row is about.

    Raises:
        UnknownName: it is about something else, or there is no such row.
    """
    steps = {key: row.case for key, row in ROWS.items() if isinstance(row, StepRow)}
    if name not in steps:
        raise UnknownName("row with a step to profile", name, steps)
    return steps[name]


def _measured(name: str, row: Row, settings: Settings) -> Result:
    with settings.in_force():
        return row.measure(name, settings)


def _aim(settings: Settings, aim: Aim) -> Aim | None:
    """The aims are for float32 and two threads, and a few steps say nothing of them."""
    judged = settings.precision == "float32" and settings.threads == 2 and not settings.quick
    return aim if judged else None


def _divided(blocks: Blocks, replicas: int) -> Blocks:
    return Blocks(tuple(seconds / replicas for seconds in blocks.seconds), blocks.steps)


def _seconds(blocks: Blocks) -> dict[str, float]:
    return {**dataclasses.asdict(blocks.spread), "steps a block": blocks.steps}
