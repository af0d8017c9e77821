"""Made-up runs in a real store: what reports are made from, and nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_origin, get_type_hints

import numpy as np

from mdfa_core.runs.notes import CellNote, Round, SearchNote, Selection, Trial
from mdfa_core.runs.records import Point, Probe, Provenance, Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.published import TASKS, Cell
from mdfa_core.training.experiment import Experiment

PROVENANCE = Provenance(
    seconds=12.5,
    replicas=4,
    device="cpu",
    machine="an invented processor, 2 cores, Linux x86_64",
    threads=1,
    python="3.11.7",
    torch="2.13.0",
    mdfa="0.1.0",
    commit="0123456789abcdef0123456789abcdef01234567",
    command="mdfa reproduce 1 <&> %_$#",
    finished="2026-11-24T08:00:00+00:00",
)
EPOCHS = 8


def experiment_of(cell: Cell, task: int) -> Experiment:
    return Experiment(
        data="cifar100" if cell.table in (1, 3, 4) else "imagefolder",
        image_size=None if cell.table in (1, 3, 4) else 64,
        network={"fc": "cifar-fc", "conv": "cifar-conv"}[cell.network],
        method=cell.method,
        activation=cell.activation,
        outputs=1 if cell.classes == 2 else cell.classes,
        seed=task,
        epochs=EPOCHS,
    )


def probe(epoch: int, unit: float, batch: float) -> Probe:
    measured: dict[str, Any] = {
        name: (0.0,) if get_origin(hint) is tuple else None for name, hint in get_type_hints(Probe).items()
    }
    return Probe(**measured | {"step": epoch * 10, "epoch": epoch, "unit": unit, "example": 0.9, "batch": batch})


def record_of(
    cell: Cell, task: int, train: float | None, test: float | None, *, probes: tuple[Probe, ...] = (), **changes: Any
) -> Record:
    """A run with these accuracies (shares), whose curve rises to them."""
    rising = [0.5 + (e + 1) / EPOCHS * ((train or 0.5) - 0.5) for e in range(EPOCHS)]
    curve = tuple(
        Point(
            epoch=e + 1,
            step=(e + 1) * 10,
            train_loss=1 / (e + 1),
            train_accuracy=value,
            validation_loss=1 / (e + 1),
            validation_accuracy=value * 0.9,
        )
        for e, value in enumerate(rising)
    )
    record = Record(
        experiment=experiment_of(cell, task),
        checksum=f"{task:02d}" * 32,
        numerics=1,
        sealed=False,
        curve=curve if train is not None else (),
        probes=probes,
        best_train_accuracy=train,
        best_validation_accuracy=None if train is None else rising[-1] * 0.9,
        best_validation_epoch=None if train is None else EPOCHS,
        test_accuracy=test,
        diverged_at=None if train is not None else 3,
        provenance=PROVENANCE,
    )
    return replace(record, **changes)


def search_of(cell: Cell, profile: str = "full") -> SearchNote:
    """A search of two rounds over four candidates."""
    candidates = tuple(
        {"forward_init": forward, "feedback_init": feedback, "learning_rate": 0.01}
        for forward in ("zeros", "normal:0.1")
        for feedback in ("normal:1", "uniform:1")
    )
    reached = [0.8, 0.7, 0.75, 0.6]
    trials = [
        Trial(settings=settings, rung=0, validation=value, train=value, diverged=0)
        for settings, value in zip(candidates, reached, strict=True)
    ]
    trials += [Trial(settings=candidates[0], rung=1, validation=0.82, train=0.9, diverged=0)]
    return SearchNote(
        name=f"{profile}/{cell.name}",
        base=experiment_of(cell, 0).to_dict(),
        candidates=candidates,
        rungs=(Round(candidates=None, epochs=2, tasks=1), Round(candidates=1, epochs=4, tasks=2)),
        trials=tuple(trials),
        epochs_trained=16,
        seconds=3.5,
        ended="2026-11-24T08:00:00Z",
        chosen=candidates[0],
    )


def note_of(cell: Cell, records: Iterable[Record], variant: str = "quick", **changes: Any) -> CellNote:
    """A note of a cell that these runs fill.

    Args:
        cell: the cell.
        records: its runs.
        variant: the profile, with its changes behind an @.
        changes: other values of the note's fields.
    """
    profile, at, changed = variant.partition("@")
    note = CellNote(
        name=f"{profile}/{cell.name}{at}{changed}",
        cell=dataclasses.asdict(cell),
        profile=profile,
        data=experiment_of(cell, 0).data,
        chosen=Selection(
            settings={"optimizer": "sgd", "learning_rate": 0.01, "forward_init": "zeros"},
            keys=tuple(record.key for record in records),
        ),
        tuned_for=cell.name,
        search=None,
        fit=None,
    )
    return replace(note, **changes)


def fill(store: Store, cells: Iterable[Cell], *, searches: bool = True, tasks: int = TASKS) -> None:
    """Runs near the published figures, with a spread over tasks that all methods share."""
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 3, TASKS)
    for cell in cells:
        records = []
        for task in range(tasks):
            train, test = (
                float(np.clip(cell.published[split].mean + shift[task] + rng.normal(0, 1), 0, 100)) / 100
                for split in cell.splits
            )
            unit = 1.0 if (cell.method, cell.classes) == ("mdfa", 2) else 0.6
            measured = tuple(probe(epoch, unit, 0.7) for epoch in (1, EPOCHS))
            records.append(record_of(cell, task, train, test, probes=measured))
        store.add(records)
        store.put(note_of(cell, records))
        if searches:
            store.put(search_of(cell))
