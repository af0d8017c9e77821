"""Every notebook runs through papermill at a small size, is committed without outputs, and names its parameters."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALL = {"sign_agreement": {"epochs": 2, "network": "fc:8", "methods": "mdfa, bp"}}


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_stripped_and_has_parameters_with_help(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]

    assert not any(cell.outputs or cell.execution_count for cell in code)
    parameters = papermill.inspect_notebook(path)
    assert parameters
    assert all(item["help"] and item["inferred_type_name"] != "None" for item in parameters.values())


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # the kernel is a process of its own; papermill's client warns about itself
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    done = tmp_path / path.name
    papermill.execute_notebook(path, done, parameters=SMALL[path.stem], progress_bar=False)

    outputs = [output for cell in nbformat.read(done, as_version=4).cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_wrong_parameter_ends_the_notebook_with_the_allowed_values(tmp_path: Path) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "sign_agreement")

    with pytest.raises(PapermillExecutionError, match=r"unknown activation 'tan': choose one of .*tanh"):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", parameters={"activation": "tan"}, progress_bar=False)
