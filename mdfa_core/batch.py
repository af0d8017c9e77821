"""Runs the project's notebooks through papermill, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdfa_core.errors import MdfaError, MissingPackage, UnknownName

NOTEBOOKS = ("figure_1", "theorem_1", "theorem_2", *(f"table_{number}" for number in range(1, 7)), "report")
"""The notebooks that reproduce the paper, in the order they are run."""


class NotebookError(MdfaError):
    """A notebook that ended with an error; what it had written is kept."""


def folder() -> Path:
    """Where the notebooks are: beside the package in a clone, inside it where it was installed.

    Raises:
        MissingPackage: in neither place.
    """
    package = Path(__file__).resolve().parent
    for place in (package / "_notebooks", package.parent / "notebooks"):
        if (place / "report.ipynb").is_file():
            return place
    raise MissingPackage("the notebooks are not here: install the wheel, or work in a clone of the repository")


def execute(name: str, output: Path, parameters: Mapping[str, Any], *, progress_bar: bool = True) -> None:
    """Run one notebook with those of the parameters it has, and write it with its outputs to `output`.

    Raises:
        MissingPackage: papermill is not installed.
        UnknownName: there is no such notebook.
        NotebookError: a cell failed; the notebook as far as it came is at `output`.
    """
    try:
        import papermill
        from papermill.exceptions import PapermillExecutionError
    except ImportError:
        raise MissingPackage("notebooks need papermill: run pip install -e '.[notebooks]' in the clone") from None
    if name not in NOTEBOOKS:
        raise UnknownName("notebook", name, NOTEBOOKS)
    source = folder() / f"{name}.ipynb"
    known = papermill.inspect_notebook(source)
    given = {key: value for key, value in parameters.items() if key in known}
    try:
        papermill.execute_notebook(source, output, parameters=given, progress_bar=progress_bar)
    except PapermillExecutionError as error:
        raise NotebookError(f"the notebook {name} ended with {error.ename}: {error.evalue}; see {output}") from None


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Notebooks by the names people give: `1` and `table_1` are the first table; nothing is all of them.

    Raises:
        UnknownName: there is no such notebook.
    """
    wanted = [f"table_{name}" if name.isdigit() else name for name in names]
    for name in wanted:
        if name not in NOTEBOOKS:
            raise UnknownName("table or notebook", name, [*map(str, range(1, 7)), *NOTEBOOKS])
    return tuple(name for name in NOTEBOOKS if not wanted or name in wanted)
