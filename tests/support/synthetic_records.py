"""Made-up records and notes for tests of stores and reports: nothing is trained."""

from __future__ import annotations

import random
from typing import Any

from mdfa_core.runs.notes import CellNote, Round, SearchNote, Selection, Trial
from mdfa_core.runs.records import Point, Probe, Provenance, Record
from mdfa_core.training.experiment import Experiment

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
    """A record whose numbers depend on the seed only."""
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


def search_note(name: str, *, seconds: float = 3.5, **changes: Any) -> SearchNote:
    """A search of one round over two candidates."""
    candidates = ({"learning_rate": 0.1}, {"learning_rate": 1 / 3})
    return SearchNote(
        name=name,
        base=Experiment().to_dict(),
        candidates=candidates,
        rungs=(Round(candidates=None, epochs=2, tasks=1),),
        trials=tuple(
            Trial(settings=settings, rung=0, validation=0.7 + n / 10, train=0.9, diverged=0)
            for n, settings in enumerate(candidates)
        ),
        epochs_trained=4,
        seconds=seconds,
        ended="2026-11-24T08:00:00Z",
        chosen=candidates[1],
        **changes,
    )


def cell_note(name: str, *keys: str, **changes: Any) -> CellNote:
    """A cell whose chosen settings were run under these keys."""
    values: dict[str, Any] = {
        "name": name,
        "cell": {"table": 1, "network": "fc", "activation": "tanh", "method": "mdfa", "classes": 2},
        "profile": "quick",
        "data": "digits",
        "chosen": Selection(settings={"learning_rate": 1 / 3}, keys=keys),
        "tuned_for": "table-1/fc/tanh/mdfa/2",
        "search": None,
        "fit": None,
    }
    return CellNote(**values | changes)
