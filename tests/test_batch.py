"""The notebooks as a batch: their names, their order, what a failing one leaves behind."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from mdfa_core import batch
from mdfa_core.batch import NOTEBOOKS, NotebookError, chosen, execute, folder
from mdfa_core.errors import MissingPackage, UnknownName


def test_every_name_is_a_notebook_of_the_project() -> None:
    assert all((folder() / f"{name}.ipynb").is_file() for name in NOTEBOOKS)


def test_notebooks_are_chosen_by_number_or_name_and_kept_in_order() -> None:
    assert chosen([]) == NOTEBOOKS
    assert chosen(["report", "3", "table_1"]) == ("table_1", "table_3", "report")
    with pytest.raises(UnknownName, match="unknown table or notebook 'table_9'"):
        chosen(["9"])


def test_a_copy_without_notebooks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "__file__", str(tmp_path / "mdfa_core" / "batch.py"))

    with pytest.raises(MissingPackage, match="the notebooks are not here"):
        folder()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # papermill's client warns about itself
def test_a_failing_notebook_is_kept_and_named(tmp_path: Path) -> None:
    output = tmp_path / "out.ipynb"
    with pytest.raises(NotebookError, match=r"table_1 ended with UnknownName: .*'huge'.*; see .*out.ipynb"):
        execute("table_1", output, {"profile": "huge", "no such parameter": 1}, progress_bar=False)

    cells = nbformat.read(output, as_version=4).cells
    assert any(item.output_type == "error" for cell in cells for item in cell.get("outputs", []))


def test_an_unknown_notebook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown notebook 'table_7'"):
        execute("table_7", tmp_path / "out.ipynb", {})
