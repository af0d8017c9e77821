"""Write the notebooks of the paper's tables: notebooks/table_1.ipynb to table_6.ipynb, alike but for their table.

    python studies/table_notebooks.py

Titles, claims, parameters and conclusions come from `mdfa_core.studies.paper.published`. A test compares the notebooks
in the repository with this script's output, so edit the script or the tables, and run it.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from mdfa_core.studies.paper.published import TABLES, PaperTable, cells

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
WIDTH = 120


def notebook(table: PaperTable) -> str:
    """The text of a table's notebook, without outputs."""
    sized = table.data == "ImageNet"  # a folder of images, whose size can be chosen
    parts: list[tuple[str, str]] = [
        ("text", f"# Table {table.number}: {table.caption}\n\n{_wrapped(table.claimed)}\n\n{_PROTOCOL}"),
        ("parameters", _parameters(table, sized=sized)),
        ("code", _PLAN.format(number=table.number, size="    image_size=image_size,\n" if sized else "")),
        ("text", _RUN),
        ("code", "from_texts.fill(plan, store, data_dir=data_dir, device=device, where=cluster)"),
        ("text", _TABLE),
        ("code", _READ),
        ("code", _DRAW),
        ("text", "## Differences between methods, paired by task"),
        ("code", "tables.captioned(tables.differences(found, table.number))"),
        ("text", "## Chosen settings"),
        ("code", "document.settings(cells)"),
        ("text", f"## What to conclude\n\n{_wrapped(table.reading)}\n\n{_SMOKE}"),
    ]
    content = {
        "cells": [_cell(number, kind, source) for number, (kind, source) in enumerate(parts)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


_PROTOCOL = (
    "Every cell is five tasks. Each method is tuned with the same number of candidates, on validation images only."
)
_SMOKE = (
    "With `profile=smoke`, nets and data are toys: the notebook shows that everything runs, and supports no conclusion."
)
_PLAN = """\
from mdfa_core.studies.paper import from_texts
from mdfa_core.studies.paper.published import TABLES

table = TABLES[{number}]
# Every value is checked here: a wrong one stops the notebook with a message that names the allowed ones.
plan = from_texts.plan(
    table.number,
    profile=profile,
    seeds=seeds,
    draws=draws,
    methods=methods,
    activations=activations,
    networks=networks,
    classes=classes,
    epochs=epochs,
{size})
print(from_texts.estimate(plan, store, data_dir=data_dir, device=device, where=cluster))"""
_RUN = """\
## Train the missing runs

You can stop at any moment: finished runs are kept, and running the notebook again continues."""
_TABLE = """\
## Results beside the paper's

Accuracies in percent, mean ± sample standard deviation over tasks. *Chosen* are the settings with the best validation
accuracy. Held-out accuracy is theirs, at the epoch chosen on validation images. *Best fit* are the settings with the
highest training accuracy, which the paper's training column reports."""
_READ = """\
from mdfa_core.runs.store import Store
from mdfa_core.studies.reports import document, plots, results, tables

with Store(store, read_only=True) as runs:
    found = results.results(runs, plan.variant)
tables.captioned(tables.beside(found, table.number))"""
_DRAW = """\
from bokeh.io import output_notebook, show
from bokeh.layouts import gridplot
from bokeh.resources import INLINE

output_notebook(INLINE, hide_banner=True)

cells = results.of_table(found, table.number)
networks = dict.fromkeys(result.cell.network for result in cells)
drawn = [plots.accuracies(cells, network, split) for network in networks for split in table.splits]
show(gridplot(drawn, ncols=2, sizing_mode="stretch_width"))"""


def _parameters(table: PaperTable, *, sized: bool) -> str:
    lines = [
        f"# papermill_description=table-{table.number}",
        'profile: str = "smoke"  # smoke: digits at toy size; quick: real data, packaged settings; full: tunes first',
        'data_dir: str = ""  # folder of the data sets; empty: the user\'s cache, where missing ones are downloaded',
        'device: str = "auto"  # auto, cpu, cuda, cuda:1, mps',
        'store: str = "runs.sqlite"  # file of finished runs, which are not trained again',
        'seeds: str = ""  # seeds of the tasks, as 0,1,2 or 0-9; empty: the profile\'s',
        "draws: int = 1  # runs of the chosen settings per task, with different seeds",
        f'methods: str = ""  # {_choice(table, "method")}',
        f'activations: str = ""  # {_choice(table, "activation")}',
        f'networks: str = ""  # {_choice(table, "network")}',
        f'classes: str = ""  # {_choice(table, "classes")}',
        "epochs: int = 0  # of the final runs; 0: the profile's",
        'cluster: str = ""  # workers: empty for this process, local:4 for four processes, tcp://host:8786 for Dask',
    ]
    if sized:
        lines.insert(-1, "image_size: int = 0  # pixels per side of the images; 0: the profile's")
    return "\n".join(lines)


def _choice(table: PaperTable, setting: str) -> str:
    """Help for a parameter that selects rows of a table."""
    values = list(dict.fromkeys(str(getattr(cell, setting)) for cell in cells(table.number)))
    if len(values) == 1:
        return f"{values[0]} (the table has no other); empty: all"
    return f"some of {', '.join(values)}, separated by commas; empty: all"


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": "markdown" if kind == "text" else "code", "id": f"cell-{number}"}
    if kind != "text":
        cell |= {"execution_count": None, "outputs": []}
    cell |= {"metadata": {"tags": ["parameters"]} if kind == "parameters" else {}}
    cell |= {"source": source.splitlines(keepends=True)}
    return dict(sorted(cell.items()))


if __name__ == "__main__":
    for paper_table in TABLES.values():
        path = FOLDER / f"{paper_table.notebook}.ipynb"
        path.write_text(notebook(paper_table), encoding="utf-8")
        print(path.relative_to(FOLDER.parent))
