"""`mdfa runs plot`, `mdfa runs report` and the tidy export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.reports.figures import FIGURES
from tests.studies.reports.made_up import fill
from tests.support.commands import Done

Call = Callable[..., Done]


@pytest.fixture(autouse=True)
def store(folder: Path) -> Path:
    """A store with the fully-connected nets of Table 1."""
    path = folder / "runs.sqlite"
    with Store(path) as opened:
        fill(opened, [cell for cell in CELLS.values() if (cell.table, cell.network) == (1, "fc")], searches=False)
        opened.export(folder / "runs.jsonl.gz")
    return path


def test_figures_are_drawn_from_a_store_and_from_an_export(mdfa: Call, folder: Path) -> None:
    first = mdfa("runs", "plot", "coverage", "--out", "a")
    second = mdfa("runs", "plot", "coverage", "--out", "b/c", "--store", "runs.jsonl.gz")
    assert (first.code, second.code) == (0, 0)
    assert "12 ran" not in first.out
    assert "100 were not run" in first.out
    assert [path.name for path in (folder / "a").iterdir()] == ["coverage.svg"]
    assert (folder / "a/coverage.svg").read_bytes() == (folder / "b/c/coverage.svg").read_bytes()


@pytest.mark.slow
def test_a_report_is_built_from_an_export_alone(mdfa: Call, folder: Path) -> None:
    done = mdfa("runs", "report", "--store", "runs.jsonl.gz", "--out", "report")
    assert done.code == 0
    assert "wrote report/report.html" in done.out
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "12 of 112 cells were run" in " ".join(page.split())
    for shown in ("table-1/fc/tanh/mdfa/2", "best fit, here", "@cell", "@role", "@task", "@value"):
        assert shown in page.rpartition("</main>")[2]  # the plots


def test_the_list_names_every_figure(mdfa: Call, folder: Path) -> None:
    done = mdfa("runs", "plot", "--list")
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == list(FIGURES)
    assert not (folder / "figures").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plot", "froest"], "unknown figure 'froest': choose one of"),
        (["plot", "--profile", "fast"], "unknown profile 'fast': choose one of"),
        (["plot", "coverage", "--out", "runs.sqlite"], "the folder runs.sqlite cannot be made"),
        (["report", "--out", "runs.sqlite/x"], "cannot be written"),
        (["export", "x.tsv", "--table", "tidy"], "x.tsv has an unknown ending: use .csv, .csv.gz or .parquet"),
    ],
)
def test_mistakes_are_one_sentence(mdfa: Call, arguments: list[str], said: str) -> None:
    done = mdfa("runs", *arguments)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_the_tidy_export(mdfa: Call, folder: Path) -> None:
    done = mdfa("runs", "export", "results.csv.gz", "--table", "tidy")
    table = pd.read_csv(folder / "results.csv.gz")
    assert done.code == 0
    assert f"{len(table)} rows about 112 cells are in results.csv.gz" in done.out
    assert table[table["role"] == "chosen"]["cell"].nunique() == 12
