"""The command line of this program, as a run's provenance has it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mdfa_core.base.text import printable

LONGEST = 300
"""Characters of a command line that are kept."""

PYTHON = "Python"
"""Stands for a program without a file: a prompt, `python -c`."""

NOTEBOOK = "a notebook"

_ABROAD = re.compile(r"(^|[=,:;])(~|/|\\\\|[A-Za-z]:[\\/]).*", re.DOTALL)


def command_line(argv: Sequence[str] | None = None) -> str:
    """The command of this process, without places of this machine: `mdfa reproduce 1 --data-dir ...`.

    The program's name has no folder. In arguments, `...` replaces absolute paths, paths in a home folder and addresses,
    so that a published run names neither user nor host. Relative paths stay.

    Args:
        argv: program and arguments; the default is `sys.argv`.

    >>> command_line(["/usr/bin/mdfa", "reproduce", "1", "--data-dir", "/data/images"])
    'mdfa reproduce 1 --data-dir ...'
    """
    program, *arguments = (sys.argv if argv is None else argv) or [""]
    name = Path(program).name
    if name == "ipykernel_launcher.py":
        return NOTEBOOK
    if name in ("", "-", "-c"):
        return PYTHON
    if name == "__main__.py":
        name = f"python -m {Path(program).parent.name}"
    text = printable(" ".join([name, *(shlex.quote(_ABROAD.sub(r"\1...", argument)) for argument in arguments)]))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
