"""The simulation of coverage: Student's t covers what it says, bootstraps do not, and its BCa is SciPy's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import bootstrap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("interval_coverage", ROOT / "studies" / "interval_coverage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_student_covers_at_least_94_percent_with_five_tasks_and_bootstraps_below_87(script: ModuleType) -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 5))
    covers = {}
    for name, interval in script.METHODS.items():
        low, high = interval(rows, np.random.default_rng(1))
        covers[name] = float(((low <= 0) & (high >= 0)).mean())
    assert covers["Student's t"] >= 0.94
    assert max(covers["percentile bootstrap"], covers["BCa bootstrap"]) < 0.87


@pytest.mark.parametrize(("name", "method"), [("percentile bootstrap", "percentile"), ("BCa bootstrap", "BCa")])
def test_bootstraps_are_scipys(script: ModuleType, name: str, method: str) -> None:
    sample = np.array([0.3, -1.0, 2.5, 0.1, 0.9, -0.4, 1.7])
    low, high = script.METHODS[name](sample[None], np.random.default_rng(0))
    theirs = bootstrap((sample,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(0))
    assert (low[0], high[0]) == pytest.approx(theirs.confidence_interval, abs=0.06)


def test_our_own_differences_have_mean_0_and_are_those_of_all_pairs(script: ModuleType) -> None:
    points, scaled = script.own(scaled=False), script.own(scaled=True)
    assert len(points) == len(scaled)
    assert len(points) % 5 == 0
    assert float(np.abs(points.reshape(-1, 5).mean(axis=1)).max()) < 1e-9
    assert np.allclose(scaled.reshape(-1, 5).std(axis=1, ddof=1), 1)


def test_the_page_is_of_the_published_cells(script: ModuleType) -> None:
    text = script.OUT.read_text(encoding="utf-8")
    assert len(re.findall(r"^\| (?:normal|our own)", text, re.MULTILINE)) == 3 * len(script.SIZES) * len(script.METHODS)
    assert text.count(f"({len(script.own(scaled=True)):,})") == 2 * len(script.SIZES) * len(script.METHODS)
