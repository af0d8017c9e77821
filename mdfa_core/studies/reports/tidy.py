"""All results as one long table, with one row per number: what figures, notebooks and other programs read.

    import pandas as pd
    results = pd.read_csv("docs/results/results.csv.gz")

Columns:

- cell: name of the cell, such as `table-1/fc/tanh/mdfa/2`; then its parts: table, network, activation, classes, method.
- role: `chosen` (settings chosen on validation; evaluated on the test set), `best fit` (other settings that fit the
  training images better), `fit tried` (settings that fitted best in the search, and then not better than the chosen
  ones), `search` (a candidate of the cell's search), `besides` (another evaluation of the same test images), or
  `paper`.
- data, profile, tuned_for: the data set, the profile, and the cell whose search chose the settings. Settings are
  *borrowed* if that is another cell.
- optimizer, learning_rate, forward_init, feedback_init: the tuned settings.
- epochs: length of the run.
- run: the first 12 characters of the run's key, for `mdfa runs show`.
- task, seed: seed of the task's classes and split, and seed of weights, feedback and batch order.
- epoch: of the measurement, from 1.
- quantity, value: see `QUANTITIES`. Shares are in percent, angles in degrees.

A cell without rows of the role `best fit` has its chosen runs as best fit; `select.runs` adds them. A cell that was not
run has only rows of the role `paper`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.notes import SearchNote
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.reports.results import CellResult
from mdfa_core.training.experiment import Experiment

QUANTITIES: Mapping[str, str] = {
    "train": "training accuracy after an epoch; role paper: the best of any epoch",
    "validation": "accuracy after an epoch on images split off the training images",
    "test": "accuracy on test images (ImageNet: the official validation images) at the best validation epoch",
    "diverged": "the step at which the loss became NaN or infinite",
    "agreement_unit": "sign agreement of unit error signals with the true gradient",
    "agreement_example": "sign agreement of single-example updates",
    "agreement_batch": "sign agreement of mini-batch updates",
    "angle": "angle between mini-batch update and true gradient",
    "train_std": "role paper: the printed standard deviation of the training accuracy",
    "test_std": "role paper: the printed standard deviation of the test accuracy",
}
"""The quantities and their meanings."""

SETTINGS = ("optimizer", "learning_rate", "forward_init", "feedback_init")
COLUMNS = (
    *("cell", "table", "network", "activation", "classes", "method", "role", "data", "profile", "tuned_for"),
    *SETTINGS,
    *("epochs", "run", "task", "seed", "epoch", "quantity", "value"),
)
ENDINGS = (".csv", ".csv.gz", ".parquet")


def frame(store: Store, found: Iterable[CellResult], *, searches: bool = True) -> pd.DataFrame:
    """The results of cells as one long table; numbers are not rounded.

    Args:
        store: has the runs.
        found: the cells, as from `results.results`.
        searches: include the runs of searches.
    """
    rows: list[tuple[Any, ...]] = []
    for result in found:
        rows += _paper(result)
        besides = [record for row in result.besides if (record := store.named(row["key"])) is not None]
        roles: list[tuple[str, Iterable[Record]]] = [
            ("chosen", result.chosen.records),
            ("best fit" if result.best_fit is result.fit else "fit tried", result.fit.records if result.fit else ()),
            ("besides", besides),
        ]
        if searches and result.search is not None:
            roles.append(("search", _searched(store, result.search)))
        for role, records in roles:
            for record in records:
                rows += _run(result, role, record)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"epochs": "Int64", "task": "Int64", "seed": "Int64", "epoch": "Int64", "value": "float64"})


def check(path: str | os.PathLike[str]) -> None:
    """Check that `write` knows the ending of a file.

    Raises:
        InvalidValue: it does not.
    """
    if not Path(path).name.endswith(ENDINGS):
        raise InvalidValue(f"{path} has an unknown ending: use {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")


def write(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a long table; the ending chooses the format. Equal tables give equal bytes.

    Raises:
        InvalidValue: the ending is unknown, or the file cannot be written.
    """
    check(path)
    target = Path(path)
    try:
        if target.name.endswith(".parquet"):
            table.to_parquet(target, index=False)
        else:
            packed: Any = {"method": "gzip", "mtime": 0} if target.name.endswith(".gz") else None
            table.to_csv(target, index=False, lineterminator="\n", compression=packed)
    except OSError as error:
        raise InvalidValue(
            f"{target} cannot be written ({error.strerror or error}): free some space or name another file"
        ) from None


def _paper(result: CellResult) -> Iterator[tuple[Any, ...]]:
    own = (*_cell(result), "paper", None, None, None, *(None for _ in SETTINGS), None, None, None, None, None)
    for split, printed in result.cell.published.items():
        quantity = "train" if split == "train" else "test"
        yield (*own, quantity, printed.mean)
        yield (*own, f"{quantity}_std", printed.std)


def _run(result: CellResult, role: str, record: Record) -> Iterator[tuple[Any, ...]]:
    experiment = record.experiment
    tuned_for = None if role == "besides" or result.tuned_for is None else result.tuned_for.name
    own = (
        *_cell(result),
        role,
        _data(experiment),
        result.profile if role in ("chosen", "best fit", "fit tried") else None,
        tuned_for,
        *(getattr(experiment, name) for name in SETTINGS),
        experiment.epochs,
        record.key[:12],
        experiment.effective_task_seed,
        experiment.seed,
    )
    for epoch, quantity, value in _measured(record):
        yield (*own, epoch, quantity, value)


def _measured(record: Record) -> Iterator[tuple[int | None, str, float]]:
    for point in record.curve:
        yield point.epoch, "train", 100 * point.train_accuracy
        if point.validation_accuracy is not None:
            yield point.epoch, "validation", 100 * point.validation_accuracy
    for probe in record.probes:
        for level in ("unit", "example", "batch"):
            share = getattr(probe, level)
            if share is not None:
                yield probe.epoch, f"agreement_{level}", 100 * share
        if probe.angle is not None:
            yield probe.epoch, "angle", probe.angle
    if record.test_accuracy is not None:
        yield record.best_validation_epoch, "test", 100 * record.test_accuracy
    if record.diverged_at is not None:
        yield None, "diverged", record.diverged_at


def _searched(store: Store, search: SearchNote) -> Iterator[Record]:
    """The runs of a search: every candidate of every round, in the order of the rounds."""
    base, seeds = Experiment.from_dict(search.base), _seeds(search)
    for trial in search.trials:
        rung = search.rungs[trial.rung]
        experiments = (base.replace(**trial.settings, epochs=rung.epochs, seed=seed) for seed in seeds[: rung.tasks])
        yield from store.find(experiments)


def _seeds(search: SearchNote) -> Sequence[int]:
    """The seeds of a search's tasks: those in its name (`Plan.changed`), or 0, 1, …"""
    changes = dict(part.partition("=")[::2] for part in search.name.partition("@")[2].split(";"))
    if "seeds" in changes:
        return tuple(map(int, changes["seeds"].split(",")))
    return range(max(rung.tasks for rung in search.rungs))


def _cell(result: CellResult) -> Sequence[Any]:
    parts = asdict(result.cell)
    return (result.cell.name, *(parts[name] for name in COLUMNS[1:6]))


def _data(experiment: Experiment) -> str:
    size = experiment.image_size
    return experiment.data if size is None else f"{experiment.data} at {size}×{size} pixels"
