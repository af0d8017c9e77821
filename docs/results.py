"""Publish a store of finished cells: docs/results/, and the settings that come with the package.

    mdfa reproduce 1 --profile full --data-dir data --store results.sqlite
    mdfa reproduce 2 --profile quick --data-dir data --store results.sqlite
    python docs/results.py results.sqlite

writes docs/results/runs.jsonl.gz (every run and search, loss-free), report.md and figures.csv, and into
mdfa_core/paper/ tuned.json, which the profile `quick` runs with, and reproduced.json, which the app shows beside the
paper's figures. A cell's `full` result is published or, where it has none, its `quick` one; each says which it is and
which cell its settings were tuned for. What was run with changes or lacks a task stays out. No number is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from mdfa_core.reports import document, tables
from mdfa_core.reports.results import Result, results
from mdfa_core.store import Store

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
TUNED = ROOT / "mdfa_core" / "paper" / "tuned.json"
REPRODUCED = TUNED.with_name("reproduced.json")


def publish(store: Store) -> list[Path]:
    """Write all of it; returns the files."""
    RESULTS.mkdir(exist_ok=True)
    found = published(store)
    store.export(RESULTS / "runs.jsonl.gz")
    (RESULTS / "report.md").write_text(document.markdown(found), encoding="utf-8")
    (RESULTS / "figures.csv").write_text(tables.csv(tables.figures(found)), encoding="utf-8")
    TUNED.write_text(json.dumps(tuned(store), indent=1) + "\n", encoding="utf-8")
    REPRODUCED.write_text(_lines(reproduced(found)), encoding="utf-8")
    return [*sorted(RESULTS.iterdir()), TUNED, REPRODUCED]


def published(store: Store) -> tuple[Result, ...]:
    """Every cell as it was tuned or, where it was not, as it was run with the settings that come with the package."""
    return results(store, "full", "quick", whole=True)


def tuned(store: Store) -> dict[str, dict[str, object]]:
    """What was chosen for every cell that was tuned, on validation and by fit, in the paper's order."""
    return {
        result.cell.name: {"settings": result.settings, "fit": result.fit_settings or result.settings}
        for result in results(store, "full", whole=True)
        if result.records
    }


def reproduced(found: Iterable[Result]) -> dict[str, dict[str, object]]:
    """What every cell that was run was run as, and its accuracies in percent: by split, then by task."""
    return {
        result.cell.name: {
            "data": result.data,
            "profile": result.profile,
            "tuned for": result.tuned_for.name,
            **{
                split: {str(task): accuracy for task, accuracy in scores.tasks.items()}
                for split in result.cell.splits
                if (scores := result.scores(split)) is not None
            },
        }
        for result in found
        if result.tuned_for is not None
    }


def _lines(entries: dict[str, dict[str, object]]) -> str:
    """JSON with a line for every entry."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()) + "\n}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/results.py STORE")
    with Store(sys.argv[1], read_only=True) as finished:
        for path in publish(finished):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
