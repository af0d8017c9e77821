"""The notebooks of the paper's tables are those that the script makes of the tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from mdfa_core.studies.paper.published import TABLES, PaperTable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("table_notebooks", ROOT / "studies" / "table_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.notebook)
def test_a_notebook_is_what_the_script_makes_of_its_table(table: PaperTable, script: ModuleType) -> None:
    path = ROOT / "notebooks" / f"{table.notebook}.ipynb"
    made = script.notebook(table)
    assert path.read_text(encoding="utf-8") == made, "run python studies/table_notebooks.py"
    nbformat.validate(nbformat.reads(made, as_version=4))


def test_there_is_no_notebook_without_a_table() -> None:
    found = {path.stem for path in (ROOT / "notebooks").glob("table_*.ipynb")}
    assert found == {table.notebook for table in TABLES.values()}
