"""The room's public names are listed, and importing it imports no package that only a part of it needs."""

from __future__ import annotations

import subprocess
import sys

from mdfa_core import runs


def test_the_public_names_are_described() -> None:
    assert runs.__doc__ is not None
    for name in runs.__all__:
        assert hasattr(runs, name)
        assert name in runs.__doc__


def test_importing_the_room_imports_neither_dask_nor_pandas() -> None:
    program = (
        "import sys, mdfa_core.runs, mdfa_core.runs.cluster\n"
        "print(*sorted({'dask', 'distributed', 'pandas', 'pyarrow', 'scipy', 'bokeh'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
