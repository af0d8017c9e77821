"""Write docs/results/disagreements.md, .svg and .csv, ablation.md and .svg, and the runs that they show.

    python studies/released_grid.py --store released.sqlite --data-dir data --networks fc
    python studies/disagreements.py released.sqlite

The runs go to docs/results/released.jsonl.gz. Without a store, the pages are made from that file. No number is typed by
hand.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mdfa_core.runs.store import Store
from mdfa_core.studies.reports import disagreements
from mdfa_core.studies.reports.figures.ablation import ablation as draw_ablation
from mdfa_core.studies.reports.figures.disagreements import disagreements as draw

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
RUNS = RESULTS / "released.jsonl.gz"


def write(store: Store, folder: Path) -> list[Path]:
    """Write the pages, the figure and the table; returns their paths."""
    found = disagreements.explanations(store)
    texts = {
        "disagreements.md": disagreements.page(found),
        "disagreements.csv": disagreements.frame(found).to_csv(index=False, lineterminator="\n"),
        "disagreements.svg": draw(found).svg,
        "ablation.md": disagreements.ablation_page(store),
        "ablation.svg": draw_ablation(disagreements.ablation(store)).svg,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python studies/disagreements.py [STORE]")
    if len(sys.argv) == 2:
        with Store(sys.argv[1], read_only=True) as trained:
            trained.export(RUNS)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "released.sqlite") as runs:
        runs.merge(RUNS)
        for path in [RUNS, *write(runs, RESULTS)]:
            print(f"{path.relative_to(RESULTS.parent.parent)}: {path.stat().st_size:,} bytes")
