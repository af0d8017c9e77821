"""Stores of made-up runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.reports import plots
from mdfa_core.studies.reports.results import CellResult, results
from tests.studies.reports.made_up import fill


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """All of Table 1 and the convolutional nets of Table 6."""
    with Store(tmp_path_factory.mktemp("filled") / "runs.sqlite") as opened:
        fill(opened, [cell for cell in CELLS.values() if cell.table in (1, 6)])
        yield opened


@pytest.fixture(scope="session")
def found(filled: Store) -> tuple[CellResult, ...]:
    return results(filled)


@pytest.fixture
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have gaps for plots: drawing them takes seconds, and a test of words needs none."""
    empty = plots.embed([])
    for name in ("accuracies", "curves", "agreement"):
        monkeypatch.setattr(plots, name, lambda *of: None)
    monkeypatch.setattr(plots, "embed", lambda drawn: replace(empty, divs=("",) * len(drawn)))
