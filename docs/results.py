"""Publish a store of finished cells: docs/results/, and the settings that come with the package.

    mdfa reproduce --profile full --data-dir data --store results.sqlite
    python docs/results.py results.sqlite

writes docs/results/runs.jsonl.gz (every run and search, loss-free), report.md and figures.csv, and
mdfa_core/paper/tuned.json, which the profile `quick` runs with. No number there is typed by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mdfa_core.paper.published import CELLS, Cell
from mdfa_core.reports import document, tables
from mdfa_core.reports.results import CELL, results
from mdfa_core.store import Store

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
TUNED = ROOT / "mdfa_core" / "paper" / "tuned.json"
PROFILE = "full"


def publish(store: Store) -> list[Path]:
    """Write all of it; returns the files."""
    RESULTS.mkdir(exist_ok=True)
    found = results(store, PROFILE)
    store.export(RESULTS / "runs.jsonl.gz")
    (RESULTS / "report.md").write_text(document.markdown(found), encoding="utf-8")
    (RESULTS / "figures.csv").write_text(tables.csv(tables.figures(found)), encoding="utf-8")
    TUNED.write_text(json.dumps(tuned(store), indent=1) + "\n", encoding="utf-8")
    return [*sorted(RESULTS.iterdir()), TUNED]


def tuned(store: Store) -> dict[str, dict[str, object]]:
    """What was chosen for every cell that was tuned, on validation and by fit, in the paper's order."""
    notes = {
        CELLS[Cell(**note["cell"]).name].name: note
        for note in store.notes(CELL).values()
        if note["profile"] == PROFILE and note["study"] is not None
    }
    return {
        name: {"settings": note["settings"], "fit": (note.get("fit") or note)["settings"]}
        for name in CELLS
        if (note := notes.get(name)) is not None
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/results.py STORE")
    with Store(sys.argv[1], read_only=True) as finished:
        for path in publish(finished):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
