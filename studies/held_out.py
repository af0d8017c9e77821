"""Train published settings on tasks that chose nothing, and say whether they stay within the published spread.

    python studies/held_out.py table-1/fc/tanh/mdfa/2 table-3/fc/tanh/mdfa/3 --data-dir data
    python studies/held_out.py table-1/fc/tanh/bp/2 --seeds 20-24 --data-dir data

Settings were chosen on tasks 0 and 1 and published with tasks 0 to 4; the default here is tasks 10 to 14. The same
command continues after a stop. `--publish` writes docs/results/held_out.md and the runs, held_out.jsonl.gz. Names of
cells are in the column `cell` of docs/results/results.csv.gz.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

import torch

from mdfa_core.base.errors import InvalidValue, MdfaError
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.from_texts import parse_seeds
from mdfa_core.studies.paper.published import CELLS, TASKS, Cell
from mdfa_core.studies.paper.reproduction import Plan, Reproduction
from mdfa_core.studies.reports import held_out, tables

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"


def train(plan: Plan, store: Store, *, data_dir: str | None, device: str) -> None:
    """Train the missing runs of a plan; prints a line per finished run."""
    for stage in Reproduction(plan, store, data_dir=data_dir, device=device):
        told = f"{stage.cell.name}: {stage.doing}, {stage.advance.done} of {stage.advance.total}"
        print(f"{datetime.now():%H:%M:%S} {told}", flush=True)


def planned(cells: list[str], seeds: str) -> Plan:
    """The runs of cells with the published settings.

    Raises:
        InvalidValue: there is no such cell, or a task is one of those that the published figures are of.
    """
    tasks = parse_seeds(seeds)
    used = [task for task in tasks if task < TASKS]
    if used or not tasks:
        raise InvalidValue(f"seeds is {seeds!r}: give held-out tasks, from {TASKS} on, such as 10-14")
    return Plan(profile="quick", cells=tuple(map(named, cells)), seeds=tasks)


def named(name: str) -> Cell:
    """A cell of the paper.

    Raises:
        InvalidValue: there is no such cell.
    """
    if name not in CELLS:
        raise InvalidValue(f"{name!r} is no cell: give names such as table-1/fc/tanh/mdfa/2")
    return CELLS[name]


def publish(store: Store, folder: Path) -> list[Path]:
    """Write the page and the runs; returns their paths."""
    store.export(folder / "held_out.jsonl.gz")
    (folder / "held_out.md").write_text(held_out.page(held_out.comparisons(store)), encoding="utf-8")
    return [folder / "held_out.jsonl.gz", folder / "held_out.md"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="cells to train; none: only compare stored runs")
    parser.add_argument("--seeds", default="10-14", help="tasks, as 10-14 or 10,12")
    parser.add_argument("--store", default="held_out.sqlite", help="file that keeps the runs")
    parser.add_argument("--data-dir", default=None, help="folder with the data sets")
    parser.add_argument("--device", default="cpu", help="device that trains")
    parser.add_argument("--publish", action="store_true", help="write docs/results/held_out.md and held_out.jsonl.gz")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        plan = planned(given.cells, given.seeds)
        with Store(given.store) as store:
            train(plan, store, data_dir=given.data_dir, device=given.device)
            found = held_out.comparisons(store)
            if not found:
                raise InvalidValue(f"{given.store} has no published cell: name cells to train")
            print(f"{tables.markdown(held_out.frame(found))}\n\n{held_out.sentence(found)}")
            for path in publish(store, RESULTS) if given.publish else ():
                print(f"wrote {path}")
    except MdfaError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
