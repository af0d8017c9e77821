"""Runs the project's notebooks through papermill, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MdfaError, MissingPackage, UnknownName
from mdfa_core.studies.paper.published import TABLES

NOTEBOOKS = ("figure_1", "theorem_1", "theorem_2", *(table.notebook for table in TABLES.values()), "report")
"""The notebooks that reproduce the paper, in the order they are run."""


SECONDS = 20
"""Approximate time of one core for a notebook whose runs are stored: a kernel, imports and plots (`figure_1`: 22)."""


class NotebookError(MdfaError):
    """A notebook stopped with an error; its output so far is kept."""


def folder() -> Path:
    """The folder of the notebooks: beside the package in a clone, inside it in an installation.

    Raises:
        MissingPackage: neither place has them.
    """
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_notebooks", package.parent / "notebooks"):
        if (place / "report.ipynb").is_file():
            return place
    raise MissingPackage("the notebooks are not here: install the wheel, or work in a clone of the repository")


def check_installed() -> None:
    """Check that notebooks can be run.

    Raises:
        MissingPackage: papermill is not installed.
    """
    if find_spec("papermill") is None:
        raise MissingPackage(f"notebooks need papermill: run {install('notebooks')}")


def execute(name: str, output: Path, parameters: Mapping[str, Any], *, progress_bar: bool = True) -> None:
    """Run a notebook and write it with its outputs to `output`. Parameters that it does not have are ignored.

    Args:
        name: in `NOTEBOOKS`.
        output: the file to write.
        parameters: texts, paths, numbers (also of NumPy), or lists and dictionaries of these.
        progress_bar: whether papermill shows one.

    Raises:
        MissingPackage: papermill is not installed.
        UnknownName: there is no such notebook.
        InvalidValue: a notebook cannot take a parameter's value.
        NotebookError: a cell failed, and the notebook up to that cell is at `output`; or its kernel did not start or
            died; or `output` cannot be written.
    """
    check_installed()
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from papermill.exceptions import PapermillExecutionError

    if name not in NOTEBOOKS:
        raise UnknownName("notebook", name, NOTEBOOKS)
    source = folder() / f"{name}.ipynb"
    known = papermill.inspect_notebook(source)
    given = {key: _plain(key, value) for key, value in parameters.items() if key in known}
    try:
        papermill.execute_notebook(
            source, output, parameters=given, progress_bar=progress_bar, extra_arguments=["--log-level=ERROR"]
        )  # the kernel's warnings, for example about loopback without encryption, say nothing to a reader
    except PapermillExecutionError as error:
        raise NotebookError(f"the notebook {name} ended with {error.ename}: {error.evalue}; see {output}") from None
    except NoSuchKernel as error:
        raise NotebookError(f"the notebook {name} needs the Jupyter kernel {error.name!r}: {_NEW_KERNEL}") from None
    except RuntimeError as error:  # of the kernel's client
        raise NotebookError(
            f"the kernel of the notebook {name} did not start or died, perhaps for lack of memory ({error}): try "
            f"again, or {_NEW_KERNEL}"
        ) from None
    except OSError as error:
        if error.filename is None or Path(error.filename) == output:
            reason = error.strerror or error
            raise NotebookError(f"cannot write {output} ({reason}): free space, or name a folder to write to") from None
        raise NotebookError(
            f"the notebook {name} needs a Jupyter kernel, but {error.filename} cannot be started: {_NEW_KERNEL}"
        ) from None


_NEW_KERNEL = "run python -m ipykernel install --sys-prefix"


def _plain(name: str, value: Any) -> Any:
    """A parameter as Python's own texts, numbers, lists and dictionaries, which are all that papermill can write.

    Raises:
        InvalidValue: it is something else.
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(name, value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise InvalidValue(f"the parameter {name!r} is a {type(value).__name__}: give a text, a number, or a list of these")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The notebooks with these names, in the order they are run; the number of a table stands for its notebook.

    Without names, all of them.

    Raises:
        UnknownName: there is no such table or notebook.
    """
    numbers = {str(number): table.notebook for number, table in TABLES.items()}
    wanted = [numbers.get(name, name) for name in names]
    for name in wanted:
        if name not in NOTEBOOKS:
            raise UnknownName("table or notebook", name, [*numbers, *NOTEBOOKS])
    return tuple(name for name in NOTEBOOKS if not wanted or name in wanted)
