"""Run the cells that differ from the paper with settings of the paper's released program; a store keeps the runs.

    python studies/released_grid.py --store released.sqlite --data-dir data --networks fc --minutes 60
    python studies/released_grid.py --store released.sqlite --data-dir data --first 'table-4/*/10,table-5/*'

The command stops after so many minutes, or when everything is run. The same command continues: it trains no run that
the store or the published file, docs/results/released.jsonl.gz, has. Without `--first`, the most valuable cells come
first: Table 3, Table 1 with ReLU, Table 4 from ten classes on, Table 5. `studies/disagreements.py` writes the pages.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean

import torch

from mdfa_core.base.errors import MdfaError
from mdfa_core.base.registry import parse_list
from mdfa_core.runs import exchange
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.studies.paper.published import Cell
from mdfa_core.studies.paper.released import FIRST, Part, disagreeing, parts

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
PUBLISHED = (RESULTS / "released.jsonl.gz", RESULTS / "runs.jsonl.gz")


def chosen(table: str, classes: str, networks: str) -> list[Cell]:
    """The disagreeing cells of some tables, numbers of classes and kinds of network; empty texts mean all."""
    wanted = {
        "table": parse_list("tables", table, int),
        "classes": parse_list("classes", classes, int),
        "network": parse_list("networks", networks, str),
    }
    return [cell for cell in disagreeing() if all(not v or getattr(cell, n) in v for n, v in wanted.items())]


def adopt(todo: Iterable[Part], store: Store) -> int:
    """Copy the runs that this project has published already; returns their number."""
    wanted = {experiment for part in todo for experiment in part.experiments}
    wanted -= {record.experiment for record in store.find(wanted)}
    if not wanted:
        return 0
    runs = (record for path in PUBLISHED for record in exchange.read(path) if isinstance(record, Record))
    return store.add([run for run in runs if run.experiment in wanted and not run.sealed])


def run(part: Part, store: Store, data_dir: str | None, device: str, deadline: float) -> bool:
    """Train the missing runs of a part; False: the time is over."""
    sweep = Sweep(part.experiments, store=store, test=True, device=device, data_dir=data_dir)
    for advance in sweep if sweep.jobs and time.monotonic() < deadline else ():
        figures = [record.reported_train_accuracy for record in advance.records]
        known = [100 * figure for figure in figures if figure is not None]
        shown = f"training {fmean(known):.1f} %" if known else "diverged"
        seconds = sum(record.provenance.seconds for record in advance.records)
        print(
            f"{datetime.now():%H:%M:%S} {part.cell.name}: {part.name}: {advance.done} of {advance.total}, {shown}, "
            f"{seconds:.0f} s",
            flush=True,
        )
        if time.monotonic() > deadline:
            break
    return time.monotonic() < deadline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="released.sqlite", help="file that keeps the runs")
    parser.add_argument("--data-dir", default=None, help="folder with the data sets")
    parser.add_argument("--device", default="cpu", help="device that trains")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many minutes")
    parser.add_argument("--table", default="", help="tables, separated by commas; all if left out")
    parser.add_argument("--classes", default="", help="numbers of classes, separated by commas; all if left out")
    parser.add_argument("--networks", default="", help="fc, conv or both; both if left out")
    parser.add_argument("--first", default="", help="cells to run first: patterns of names, separated by commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        first = parse_list("first", given.first, str) or FIRST
        train(parts(chosen(given.table, given.classes, given.networks), first), given)
    except MdfaError as error:
        sys.exit(f"error: {error}")


def train(todo: Sequence[Part], given: argparse.Namespace) -> None:
    """Train the missing runs until the time is over."""
    deadline = time.monotonic() + 60 * given.minutes
    with Store(given.store) as store:
        copied = adopt(todo, store)
        wanted = {experiment for part in todo for experiment in part.experiments}
        stored = len({record.experiment for record in store.find(wanted)})
        print(f"{stored} of {len(wanted)} runs are stored; {copied} were copied from docs/results", flush=True)
        for number, part in enumerate(todo):
            if not run(part, store, given.data_dir, given.device, deadline):
                print(f"stopped at part {number + 1} of {len(todo)}: the same command continues")
                return
    print(f"all {len(todo)} parts are run")


if __name__ == "__main__":
    main()
