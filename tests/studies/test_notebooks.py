"""The notebooks as a batch: their names, their order, what a failing one leaves behind."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import papermill
import pytest

from mdfa_core.base.errors import InvalidValue, MissingPackage, UnknownName
from mdfa_core.studies import notebooks
from mdfa_core.studies.notebooks import NOTEBOOKS, NotebookError, chosen, execute, folder


def test_every_name_is_a_notebook_of_the_project() -> None:
    assert all((folder() / f"{name}.ipynb").is_file() for name in NOTEBOOKS)


def test_notebooks_are_chosen_by_number_or_name_and_kept_in_order() -> None:
    assert chosen([]) == NOTEBOOKS
    assert chosen(["report", "3", "table_1"]) == ("table_1", "table_3", "report")
    with pytest.raises(UnknownName, match="unknown table or notebook '9'"):
        chosen(["9"])


def test_a_copy_without_notebooks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "mdfa_core" / "notebooks.py"))

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


def test_parameters_may_be_paths_and_numbers_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, parameters, **__: seen.update(parameters))
    seeds = np.arange(2)
    execute("table_1", tmp_path / "o.ipynb", {"seeds": seeds, "store": tmp_path, "profile": np.str_("smoke")})
    assert seen == {"seeds": [0, 1], "store": str(tmp_path), "profile": "smoke"}
    assert type(seen["seeds"][0]) is int
    with pytest.raises(InvalidValue, match="the parameter 'seeds' is a set: give a text, a number, or a list"):
        execute("table_1", tmp_path / "o.ipynb", {"seeds": {1, 2}})


def kernel(folder: Path, monkeypatch: pytest.MonkeyPatch, *program: str) -> None:
    """Have Jupyter find this program as its kernel python3."""
    spec = folder / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": program, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")


@pytest.mark.filterwarnings("default")  # papermill's client warns about itself
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (("/no/such/python", "{connection_file}"), "but /no/such/python cannot be started: run python -m ipykernel"),
        (("/bin/false", "{connection_file}"), "the kernel of the notebook table_1 did not start or died"),
    ],
)
def test_a_kernel_that_does_not_start_is_one_sentence(
    program: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel(tmp_path, monkeypatch, *program)
    with pytest.raises(NotebookError, match=message) as refused:
        execute("table_1", tmp_path / "out.ipynb", {}, progress_bar=False)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("default")
def test_a_kernel_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = papermill.execute_notebook
    monkeypatch.setattr(papermill, "execute_notebook", functools.partial(original, kernel_name="gone"))
    with pytest.raises(NotebookError, match="the notebook table_1 needs the Jupyter kernel 'gone': run python -m"):
        execute("table_1", tmp_path / "out.ipynb", {}, progress_bar=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_kernel_that_is_killed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, sys; sys.argv[1:] = ['-f', sys.argv[1]]; from ipykernel import kernelapp; "
    program += "from mdfa_core.studies import paper; paper.__getattr__ = lambda name: os.kill(os.getpid(), 9); "
    kernel(
        tmp_path, monkeypatch, sys.executable, "-c", program + "kernelapp.launch_new_instance()", "{connection_file}"
    )
    with pytest.raises(NotebookError, match="the kernel of the notebook table_1 did not start or died"):
        execute("table_1", tmp_path / "out.ipynb", {"profile": "smoke"}, progress_bar=False)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["nowhere/out.ipynb", "file/out.ipynb", "folder"])
def test_an_output_that_cannot_be_written_is_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotebookError, match=f"cannot write {tmp_path / name}") as refused:
        execute("table_1", tmp_path / name, {}, progress_bar=False)
    assert "\n" not in str(refused.value)
