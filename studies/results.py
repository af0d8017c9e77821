"""Publish a store of finished cells: docs/results/, and the settings that come with the package.

    mdfa reproduce 1 --profile full --data-dir data --store results.sqlite
    mdfa reproduce 2 --profile quick --data-dir data --store results.sqlite
    python studies/results.py results.sqlite

writes into docs/results/: verdict.md, runs.jsonl.gz (every run and search, loss-free), results.csv.gz (one row per
number), figures.csv, code.csv (runs and hours by commit and state of the code), the figures, one page per table, and
sentences.md. Into mdfa_core/studies/paper/ it writes tuned.json, the settings of the profile `quick`,
reproduced.json, which the app shows beside the paper's figures, and lost_commits.json, the commits that this repository
no longer has.

Run `studies/disagreements.py` and `studies/held_out.py` before: verdict.md has their findings. After a change of words,
`python studies/results.py docs/results/runs.jsonl.gz` writes the pages anew.

Published is a cell's `full` result or, if there is none, its `quick` result. Each entry names its profile and the cell
its settings were tuned for. Cells with a changed profile or a missing task are left out. No number is typed by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mdfa_core.cli.results import opened
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper import origins
from mdfa_core.studies.paper.measures import REPORTED
from mdfa_core.studies.paper.published import TABLES
from mdfa_core.studies.reports import disagreements, held_out, pages, tables, tidy
from mdfa_core.studies.reports.figures import FIGURES
from mdfa_core.studies.reports.results import CellResult, results

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = RESULTS / "verdict.md"
TUNED = ROOT / "mdfa_core" / "studies" / "paper" / "tuned.json"
REPRODUCED = TUNED.with_name("reproduced.json")
LOST_COMMITS = TUNED.with_name(origins.LOST)


def publish(store: Store) -> list[Path]:
    """Write all files and return their paths."""
    RESULTS.mkdir(exist_ok=True)
    lost = lost_commits(store)
    if lost is not None:
        LOST_COMMITS.write_text(json.dumps(lost, indent=1) + "\n", encoding="utf-8")
        origins._lost.cache_clear()
    found = published(store)
    store.export(RESULTS / "runs.jsonl.gz")
    table = tidy.frame(store, found)
    tidy.write(table, RESULTS / "results.csv.gz")
    table = pd.read_csv(
        RESULTS / "results.csv.gz"
    )  # figures and pages are those of the published rows, to the last digit
    (RESULTS / "figures.csv").write_text(tables.csv(tables.figures(found)), encoding="utf-8")
    TUNED.write_text(_lines(tuned(store)), encoding="utf-8")
    REPRODUCED.write_text(_lines(reproduced(found)), encoding="utf-8")
    (RESULTS / "code.csv").write_text(tables.csv(code(store)), encoding="utf-8")
    return [*sorted(RESULTS.iterdir()), *publish_pages(store, found, table), TUNED, REPRODUCED, LOST_COMMITS]


def publish_pages(store: Store, found: Sequence[CellResult], table: pd.DataFrame) -> list[Path]:
    """Write the page of results, its figures and the pages of the tables; returns their paths."""
    figures = RESULTS / "figures"
    figures.mkdir(exist_ok=True)
    drawn = {name: figure.draw(table) for name, figure in FIGURES.items()}
    for name, drawing in drawn.items():
        drawing.save(figures / f"{name}.svg")
    texts = {PAGE: pages.results_page(facts(store, found), drawn)}
    texts |= {RESULTS / "sentences.md": pages.sentences_page(found)}
    texts |= {RESULTS / f"table-{number}.md": pages.table_page(found, number) for number in TABLES}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts, *(figures / f"{name}.svg" for name in drawn)]


def facts(store: Store, found: Sequence[CellResult]) -> pages.Facts:
    """The numbers of the page of results; those of other studies come from their published runs."""
    with opened(RESULTS / "released.jsonl.gz") as released, opened(RESULTS / "held_out.jsonl.gz") as further:
        runs = {row["key"]: row for one in (store, released, further) for row in one.rows()}
        return pages.facts(
            found,
            runs.values(),
            explained=disagreements.explanations(released),
            step=disagreements.largest_step(disagreements.ablation(released)),
            held_out=held_out.comparisons(further),
        )


def published(store: Store) -> tuple[CellResult, ...]:
    """Every cell's tuned result or, if it was not tuned, its result with the settings that come with the package."""
    return results(store, "full", "quick", whole=True)


def lost_commits(store: Store) -> list[str] | None:
    """The commits that runs name and that this branch does not have; None without its whole history."""
    shallow = _git("rev-parse", "--is-shallow-repository")
    if shallow.returncode or shallow.stdout.strip() != "false":
        return None
    named = {commit.removesuffix("-dirty") for row in store.rows() if (commit := row["commit"]) is not None}
    return sorted(commit for commit in named if _git("merge-base", "--is-ancestor", commit, "HEAD").returncode)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def code(store: Store) -> pd.DataFrame:
    """One row per commit that runs name: the state of the code, runs, runs with test images, hours of one device."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in store.rows():
        groups.setdefault((origins.code_state(row["commit"]), row["commit"] or ""), []).append(row)
    return pd.DataFrame(
        {
            "code": state,
            "commit": commit,
            "runs": len(rows),
            "with_test_images": sum(not row["sealed"] for row in rows),
            "hours": round(sum(row["seconds"] for row in rows) / 3600, 3),
        }
        for (state, commit), rows in sorted(groups.items())
    )


def tuned(store: Store) -> dict[str, dict[str, object]]:
    """The settings of every published cell, by validation and by fit, in the paper's order.

    A cell that was run with the settings of another cell has that cell's name as `source`, so that it keeps these
    settings when a nearer cell is tuned later.
    """
    entries: dict[str, dict[str, object]] = {}
    for result in published(store):
        if result.tuned_for is None:
            continue
        fit = result.fit or result.chosen  # without a best fit, the chosen settings fitted every image
        entries[result.cell.name] = {"settings": result.chosen.settings, "fit": fit.settings}
        if result.borrowed is not None:
            entries[result.cell.name]["source"] = result.borrowed.name
    return entries


def reproduced(found: Iterable[CellResult]) -> dict[str, dict[str, object]]:
    """Data, profile and accuracies in percent (by role, quantity and task) of every cell that was run."""
    return {
        result.cell.name: {
            "data": result.data,
            "profile": result.profile,
            "tuned for": result.tuned_for.name,
            **{role: _accuracies(result.comparable, role) for role in ("best fit", "chosen")},
        }
        for result in found
        if result.tuned_for is not None
    }


def _accuracies(result: CellResult, role: str) -> dict[str, dict[str, float]]:
    return {
        measure.quantity: {str(task): accuracy for task, accuracy in scores.tasks.items()}
        for measure in REPORTED
        if measure.role == role and (scores := result.scores(measure)) is not None
    }


def _lines(entries: dict[str, dict[str, object]]) -> str:
    """JSON with one line per entry."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()) + "\n}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python studies/results.py STORE")
    with opened(Path(sys.argv[1])) as finished:
        for path in publish(finished):
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
