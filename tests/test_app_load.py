"""benchmarks/app_load.py runs with one visitor. No test judges its times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import app_load

PROGRAM = Path(app_load.__file__)
ROOT = PROGRAM.parents[1]


def test_the_percentile_is_what_it_says() -> None:
    values = list(range(1, 101))
    assert app_load.percentile(values, 0.95) == 95
    assert app_load.percentile(values, 0.5) == 50
    assert app_load.percentile([3.0], 0.95) == 3
    assert app_load.percentile([1.0, 2.0], 0.95) == 2


def test_made_up_images_are_read_as_cifar(tmp_path: Path) -> None:
    from mdfa_core import Experiment, Run

    app_load.made_up_cifar(tmp_path, 100)
    run = Run(Experiment(data="cifar10", network="fc:2", epochs=1), data_dir=tmp_path)
    assert len(run.tasks[0].train) == 85  # of two classes, 50 images each, less the validation's 15 %


@pytest.mark.slow
@pytest.mark.browser
def test_a_quick_run_reports_every_row(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(PROGRAM),
        "--quick",
        "--only",
        "visible,eight",
        "--slowdown",
        "2",
        "--json",
        str(tmp_path / "rows.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["visible"] * 4 + ["eight"] * 4
    assert all(row["values"] for row in rows)
    assert all(f"| {row['name']} | {row['what']} |" in done.stdout for row in rows)


def test_an_unknown_row_is_refused() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "--only", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown row nothing: choose some of visible, click" in done.stderr
