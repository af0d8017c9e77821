"""The experiment with Triton, in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "triton_convolution.py"
TRITON = importlib.util.find_spec("triton") is not None


def program() -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    return subprocess.run(
        [sys.executable, PROGRAM], capture_output=True, text=True, check=False, timeout=500, env=environment
    )


@pytest.mark.slow
@pytest.mark.skipif(not TRITON, reason="needs Triton, which is not installed")
def test_the_kernel_is_pytorchs_convolution() -> None:
    done = program()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("relative difference") == 6
    assert "WRONG" not in done.stdout


@pytest.mark.skipif(TRITON, reason="Triton is installed")
def test_without_triton_it_says_what_to_install() -> None:
    done = program()
    assert done.returncode == 1
    assert done.stderr.startswith("triton_convolution.py: it needs Triton, not found by ")
    assert done.stderr.endswith(": pip install triton\n")
