"""Running the command `mdfa` in tests: through its main function, or as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("mdfa")
SMALL = ["--network", "fc:8", "--epochs", "3", "--device", "cpu"]
"""Options of a run that takes a moment."""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """This environment, with this tree's package, one thread and warnings as errors."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", **more}


def run_program(*arguments: str, **more: str) -> Done:
    """Run the installed program as a user would, with more environment variables."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120, env=environment(**more)
    )
    return Done(done.returncode, done.stdout, done.stderr)


def assert_refused(done: Done, *said: str) -> None:
    """One line on standard error, nothing else, exit code 2."""
    assert done.out == ""
    assert re.fullmatch(r"mdfa: [^\n]+\n", done.err), done.err
    assert "Traceback" not in done.err
    assert done.code == 2
    for text in said:
        assert text in done.err
