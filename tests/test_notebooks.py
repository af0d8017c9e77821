"""Every notebook runs through papermill at a small size, is committed without outputs, and names its parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from mdfa_core import MdfaError
from mdfa_core.studies.paper import from_texts
from mdfa_core.studies.paper.published import TABLES, PaperTable, cells

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def two_cells(table: int) -> dict[str, Any]:
    """Parameters that choose the first two methods of a table's last network, at the fewest classes."""
    first, second, *_ = [cell for cell in cells(table, network=cells(table)[-1].network)]
    return {
        "methods": f"{first.method},{second.method}",
        "activations": first.activation,
        "networks": first.network,
        "classes": str(first.classes),
        "epochs": 2,
    }


SMALL = {
    "attach": {"epochs": 1, "methods": "mdfa, fa"},
    "branch_prediction": {"programs": "sort", "limit": 300, "methods": "bp, mdfa", "layers": "0, 2", "width": 4},
    "explore": {"epochs": 2, "network": "fc:8", "methods": "mdfa, bp", "learning_rate": 1e-6},
    "figure_1": {"methods": "bp, mdfa"},
    "neighbours": {"profile": "smoke", "methods": "bp, drtp", "outputs": "1", "seeds": "0,1", "epochs": 2},
    "report": {},
    "results": {
        "rows": str(Path(__file__).parent.parent / "docs" / "results" / "results.csv.gz"),
        "figures": "coverage, forest-test",
    },
    "sign_agreement": {"epochs": 2, "network": "fc:8", "methods": "mdfa, bp"},
    **{table.notebook: two_cells(table.number) for table in TABLES.values()},
    "theorem_1": {"profile": "smoke", "width": 4, "activations": "tanh"},
    "theorem_2": {"profile": "smoke", "width": 6, "methods": "mdfa", "seeds": "0"},
}


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_stripped_and_has_parameters_with_help(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]

    assert not any(cell.outputs or cell.execution_count for cell in code)
    parameters = papermill.inspect_notebook(path)
    source = next(cell.source for cell in code if "parameters" in cell.metadata.get("tags", ()))
    assert list(parameters) == re.findall(r"^(\w+): ", source, re.MULTILINE)  # papermill understands all of them
    assert all(item["help"] and item["inferred_type_name"] != "None" for item in parameters.values())


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.notebook)
def test_a_table_checks_every_parameter_in_its_first_cell(table: PaperTable) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == table.notebook)
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    first = next(source for source in sources if "# Every value is checked here" in source)

    for name in papermill.inspect_notebook(path):
        assert re.search(rf"[(=, ]{name}[,)]", first), name


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("default")  # the kernel is a process of its own; papermill's client warns about itself
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    done, parameters = tmp_path / path.name, dict(SMALL[path.stem])
    if "store" in papermill.inspect_notebook(path):
        parameters["store"] = str(tmp_path / "runs.sqlite")
    if path.stem == "report":  # it reads what others have run
        from_texts.fill(from_texts.plan(1, profile="smoke", methods="mdfa", activations="tanh"), parameters["store"])
    papermill.execute_notebook(path, done, parameters=parameters, progress_bar=False)

    outputs = [output for cell in nbformat.read(done, as_version=4).cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)


WRONG = [
    ("sign_agreement", {"activation": "tan"}, r"unknown activation 'tan': choose one of .*tanh"),
    ("table_1", {"profile": "huge"}, r"unknown profile 'huge': choose one of full, quick, released, smoke"),
    ("table_1", {"cluster": "local:none", "methods": "bp"}, r"the cluster is 'local:none': give local:N"),
    ("table_2", {"store": 3, "methods": "bp"}, r"the store is 3: give the path of a file"),
    ("table_3", {"classes": "4"}, r"unknown classes 4: choose one of .*10"),
    ("theorem_1", {"profile": "smoke", "target": ""}, r"unknown target '': choose one of ring, stripes"),
    (
        "theorem_2",
        {"profile": "smoke", "data": "moons", "outputs": "1,10"},
        r"classes is 10, but two moons has 2 classes",
    ),
    ("attach", {"data": "moons"}, r"moons has 1×1 pixels"),
    ("attach", {"epochs": 0}, r"epochs is 0: give at least 1"),
]


@pytest.mark.parametrize(
    ("name", "parameters", "message"), WRONG, ids=[f"{name} {next(iter(more))}" for name, more, _ in WRONG]
)
def test_a_wrong_parameter_ends_the_notebook_with_the_allowed_values(
    name: str, parameters: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The cells run in this process, with papermill's cell of parameters: a kernel for each takes ten times as long."""
    path = next(path for path in NOTEBOOKS if path.stem == name)
    notebook = parameterize_notebook(load_notebook_node(str(path)), parameters)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(MdfaError, match=message):
        run_cells(notebook)


def run_cells(notebook: nbformat.NotebookNode) -> None:
    """Run the cells of code, and nothing else that a kernel does."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "a cell", "exec"), names)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_kernel_ends_with_the_error_of_a_cell(tmp_path: Path) -> None:
    name, parameters, message = WRONG[0]
    path = next(path for path in NOTEBOOKS if path.stem == name)

    with pytest.raises(PapermillExecutionError, match=message):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", parameters=parameters, progress_bar=False)
