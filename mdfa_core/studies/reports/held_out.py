"""Published settings on tasks that chose nothing: do the accuracies fall within the published spread?

Everything is computed from a store with the runs of `studies/held_out.py` and from the published figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.cases import CEILING
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN, Measure
from mdfa_core.studies.paper.published import Cell
from mdfa_core.studies.paper.reproduced import reproduced
from mdfa_core.studies.paper.statistics import CONFIDENCE, Interval, Scores, t_quantile
from mdfa_core.studies.paper.words import place, title
from mdfa_core.studies.reports import tables
from mdfa_core.studies.reports.results import results


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One accuracy of a cell: on the published tasks and on held-out tasks, in percent."""

    cell: Cell
    measure: Measure
    published: Scores
    held_out: Scores

    @property
    def difference(self) -> float:
        """Held-out mean − published mean, in points."""
        return self.held_out.mean - self.published.mean

    @property
    def expected(self) -> Interval:
        """The prediction interval of the difference, in points: 0 ± t · s · √(1/n + 1/m).

        s is the standard deviation over the n published tasks, m the number of held-out tasks, and t the quantile of
        Student's distribution with n − 1 degrees of freedom. For normal accuracies, the interval has the difference in
        95 % of repetitions.
        """
        n, m = len(self.published.tasks), len(self.held_out.tasks)
        quantile = t_quantile(CONFIDENCE, n - 1)
        half = quantile * (self.published.std or 0.0) * math.sqrt(1 / n + 1 / m)
        return Interval(-half, half)

    @property
    def agrees(self) -> bool:
        """Whether the difference is within `expected`, or both means are at the ceiling."""
        at_ceiling = min(self.published.mean, self.held_out.mean) >= CEILING
        return at_ceiling or self.expected.low <= self.difference <= self.expected.high


def comparisons(store: Store) -> tuple[Comparison, ...]:
    """Every accuracy of the store's cells that is also published; if best fit and chosen are one network, once."""
    found = []
    for result in results(store, "quick"):
        known = reproduced(result.cell)
        if known is None:
            continue
        fit, chosen = ((known.scores.get(one), result.scores(one)) for one in (TRAINED, TRAINED_CHOSEN))
        for measure in (TRAINED, TESTED) if fit == chosen else (TRAINED, TRAINED_CHOSEN, TESTED):
            scores = result.scores(measure)
            if scores is not None and measure in known.scores:
                found.append(
                    Comparison(cell=result.cell, measure=measure, published=known.scores[measure], held_out=scores)
                )
    return tuple(found)


def frame(found: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons as a table of texts."""
    return pd.DataFrame(
        [
            {
                "cell": f"{place(one.cell)}, {title(one.cell)}",
                "accuracy": one.measure.title(one.cell),
                "published": str(one.published),
                "held out": str(one.held_out),
                "difference": f"{one.difference:+.1f}",
                "expected": str(one.expected),
                "within": "yes" if one.agrees else "no",
                "by task": ", ".join(f"{value:.1f}" for value in one.held_out.tasks.values()),
            }
            for one in found
        ]
    )


def sentence(found: Sequence[Comparison]) -> str:
    """How many accuracies are as expected, or that there are none."""
    if not found:
        return "No accuracy of a published cell was measured on held-out tasks."
    count = len({one.cell for one in found})
    widths = [one.expected.high for one in found]
    tasks = sorted({task for one in found for task in one.held_out.tasks})
    return (
        f"{sum(one.agrees for one in found)} of {len(found)} accuracies of {count} cell{'s' * (count > 1)} on tasks "
        f"{tasks[0]} to {tasks[-1]} lie in the 95 % prediction interval of the published tasks "
        f"(±{min(widths):.1f} to ±{max(widths):.1f} points)."
    )


def page(found: Sequence[Comparison]) -> str:
    """`docs/results/held_out.md`."""
    names = " ".join(dict.fromkeys(one.cell.name for one in found))
    return f"""# Held-out tasks

<!-- written by studies/held_out.py -->

Settings were chosen on tasks 0 and 1, and the figures are of tasks 0 to 4. Do they hold on tasks that chose nothing? We
train the published settings on further tasks, with other classes, weights and batches.

**{sentence(found)}**

{tables.markdown(frame(found))}

Accuracies in percent, mean ± standard deviation over tasks; differences in points, held out − published. *Expected* is
the 95 % prediction interval of the difference: t · s · √(1/n + 1/m), for n published tasks with standard deviation s
and m held-out tasks. Two accuracies of at least {CEILING:g} % count as within.

<!-- not run: it trains for minutes and needs CIFAR-100 -->
```console
python studies/held_out.py {names} --data-dir data --publish
```
"""
