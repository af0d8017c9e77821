"""Records made up for tests of what keeps and shows them: no training behind them."""

from __future__ import annotations

import random
from typing import Any

from mdfa_core.experiment import Experiment
from mdfa_core.records import Point, Probe, Provenance, Record

CHECKSUM = "c" * 64
PROVENANCE = Provenance(
    seconds=1.5,
    replicas=8,
    device="cpu",
    machine="a processor, 2 cores, Linux x86_64",
    threads=1,
    python="3.11.7",
    torch="2.13.0",
    mdfa="0.1.0",
    commit=None,
    command=None,
    finished="2026-01-02T03:04:05+00:00",
)


def point(epoch: int, numbers: random.Random) -> Point:
    return Point(
        epoch=epoch,
        step=13 * epoch,
        train_loss=numbers.random(),
        train_accuracy=numbers.randrange(850) / 850,
        validation_loss=numbers.random(),
        validation_accuracy=numbers.randrange(150) / 150,
    )


def probe(step: int, layers: int = 2) -> Probe:
    return Probe(
        step=step,
        epoch=1,
        units=None,
        unit=1.0,
        example=None,
        batch=0.75,
        angle=53.5,
        unit_layers=(1.0,) * layers,
        example_layers=(None,) * layers,
        batch_layers=(0.5,) * layers,
        angle_layers=(47.25,) * layers,
        unit_undefined=(0.0,) * layers,
        example_undefined=(1.0,) * layers,
        batch_undefined=(0.125,) * layers,
        norm_ratio=(float("inf"),) * layers,
        saturation=(0.25,) * layers,
    )


def record(seed: int = 0, *, epochs: int = 3, sealed: bool = False, probes: int = 0, **settings: Any) -> Record:
    """A record whose numbers are a function of the seed."""
    numbers = random.Random(seed)
    return Record(
        experiment=Experiment(seed=seed, epochs=epochs, **settings),
        checksum=CHECKSUM,
        numerics=1,
        sealed=sealed,
        curve=tuple(point(epoch, numbers) for epoch in range(1, epochs + 1)),
        probes=tuple(probe(step) for step in range(1, probes + 1)),
        best_train_accuracy=0.9375,
        best_validation_accuracy=0.875,
        best_validation_epoch=2,
        test_accuracy=None if sealed else 0.84375,
        diverged_at=None,
        provenance=PROVENANCE,
    )
