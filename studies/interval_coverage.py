"""Coverage of 95 % intervals of a mean paired difference: percentile bootstrap, BCa bootstrap and Student's t.

    python studies/interval_coverage.py

writes docs/results/intervals.md. Samples of 5 and of 10 differences are drawn from a normal distribution and, with
replacement, from our own paired differences of methods, less each cell's mean: all in points, and each cell's divided
by its standard deviation. Their true mean is 0, so an interval covers if it includes 0. Samples of equal values have no
interval and are drawn again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from mdfa_core.studies.paper.measures import TESTED, TRAINED
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.paper.reproduced import reproduced
from mdfa_core.studies.paper.statistics import CONFIDENCE, paired
from mdfa_core.studies.reports.tables import PAIRS

OUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "intervals.md"
SIZES = (5, 10)
SAMPLES = 10_000
RESAMPLES = 2_000

Bounds = tuple[np.ndarray, np.ndarray]
"""Lower and upper bounds of the intervals of the samples, one sample per row."""


def t_interval(rows: np.ndarray, _: np.random.Generator) -> Bounds:
    n = rows.shape[1]
    half = student.ppf((1 + CONFIDENCE) / 2, n - 1) * rows.std(axis=1, ddof=1) / np.sqrt(n)
    return rows.mean(axis=1) - half, rows.mean(axis=1) + half


def percentile(rows: np.ndarray, rng: np.random.Generator) -> Bounds:
    low, high = np.quantile(_means(rows, rng), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=1)
    return low, high


def bca(rows: np.ndarray, rng: np.random.Generator) -> Bounds:
    """Bias-corrected and accelerated (Efron 1987); the jackknife gives the acceleration."""
    means, n = np.sort(_means(rows, rng), axis=1), rows.shape[1]
    centre = rows.mean(axis=1, keepdims=True)
    below = (means < centre).mean(axis=1) + (means == centre).mean(axis=1) / 2
    bias = norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    left = (rows - centre) / (n - 1)  # mean without one value, less the mean of these means
    acceleration = (left**3).sum(axis=1) / (6 * (left**2).sum(axis=1) ** 1.5)
    bounds = []
    for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        z = bias + norm.ppf(share)
        at = norm.cdf(bias + z / (1 - acceleration * z))
        index = np.clip((at * RESAMPLES).astype(int), 0, RESAMPLES - 1)
        bounds.append(np.take_along_axis(means, index[:, None], axis=1)[:, 0])
    return bounds[0], bounds[1]


def _means(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = rows.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).T / n  # the same resampling of positions for every sample
    return rows @ counts


METHODS: dict[str, Callable[[np.ndarray, np.random.Generator], Bounds]] = {
    "percentile bootstrap": percentile,
    "BCa bootstrap": bca,
    "Student's t": t_interval,
}


def own(*, scaled: bool) -> np.ndarray:
    """Our paired differences over the paper's five tasks, less each cell's mean; scaled: of standard deviation 1."""
    values: list[float] = []
    for cell in CELLS.values():
        ours = reproduced(cell)
        for method in (b for a, b in PAIRS if a == cell.method):
            theirs = next((reproduced(c) for c in CELLS.values() if _same(cell, c) and c.method == method), None)
            for measure in (TRAINED, TESTED):
                if ours and theirs and measure in ours.scores and measure in theirs.scores:
                    found = np.array(list(paired(ours.scores[measure], theirs.scores[measure]).tasks.values()))
                    if found.std() > 1e-9:
                        values += list((found - found.mean()) / (found.std(ddof=1) if scaled else 1))
    return np.array(values)


def _same(a: object, b: object) -> bool:
    names = ("table", "network", "activation", "classes")
    return all(getattr(a, name) == getattr(b, name) for name in names)


def sources(seed: int) -> Iterator[tuple[str, Callable[[int, int], np.ndarray]]]:
    """Names and samplers: rows and columns give an array of independent differences with mean 0."""
    rng = np.random.default_rng(seed)
    yield "normal", lambda rows, n: rng.normal(size=(rows, n))
    for name, scaled in (("our own, scaled", True), ("our own, in points", False)):
        pool = own(scaled=scaled)
        yield f"{name} ({len(pool):,})", partial(_resampled, rng, pool - pool.mean())


def _resampled(rng: np.random.Generator, pool: np.ndarray, rows: int, n: int) -> np.ndarray:
    drawn = rng.choice(pool, (rows, n))
    while (constant := drawn.std(axis=1) < 1e-9).any():
        drawn[constant] = rng.choice(pool, (int(constant.sum()), n))
    return drawn


def coverage(samples: int = SAMPLES, seed: int = 0) -> Iterator[tuple[str, int, str, float, float]]:
    """Differences, number of tasks, method, coverage, and share of samples whose interval lies above 0."""
    rng = np.random.default_rng(seed + 1)
    for name, draw in sources(seed):
        for n in SIZES:
            rows = draw(samples, n)
            for method, interval in METHODS.items():
                low, high = interval(rows, rng)
                yield name, n, method, float(((low <= 0) & (high >= 0)).mean()), float((low > 0).mean())


def page(samples: int = SAMPLES) -> str:
    error = 100 * (0.95 * 0.05 / samples) ** 0.5
    lines = [
        "# Coverage of intervals",
        "",
        "`python studies/interval_coverage.py` writes this page. Which 95 % interval of a mean difference between two",
        "methods can be trusted with five tasks? A good one covers the true mean in 95 % of samples, and lies above 0",
        "in 2.5 % of samples without any effect.",
        "",
        "**Student's t can; the bootstrap covers too little.** All pages therefore use Student's t. The grades of",
        "propositions are corrected by Holm's procedure for the number of cases. Forest plots and tables of",
        "differences are not.",
        "",
        f"Every row has {samples:,} samples, so a share near 95 % has a standard error of {error:.1f} points. Samples",
        "are drawn from a normal distribution, and from the paired differences of our own published cells, less each",
        "cell's mean: in points, or divided by the cell's standard deviation.",
        "",
        "| differences | tasks | interval | covers | above 0 without effect |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {n} | {method} | {100 * covers:.1f} % | {100 * above:.1f} % |"
        for name, n, method, covers, above in coverage(samples)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("usage: python studies/interval_coverage.py")
    OUT.write_text(page(), encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"), end="")
