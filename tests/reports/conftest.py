"""Stores of made-up runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdfa_core.paper.published import CELLS
from mdfa_core.reports.results import Result, results
from mdfa_core.store import Store
from tests.reports.made_up import fill


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "runs.sqlite") as opened:
        yield opened


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """All of Table 1 and the convolutional nets of Table 6."""
    with Store(tmp_path_factory.mktemp("filled") / "runs.sqlite") as opened:
        fill(opened, [cell for cell in CELLS.values() if cell.table in (1, 6)])
        yield opened


@pytest.fixture(scope="session")
def found(filled: Store) -> tuple[Result, ...]:
    return results(filled)
