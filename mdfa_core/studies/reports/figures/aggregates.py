"""Aggregates over all binary cells that were run with every method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mdfa_core.base.colours import LIGHT
from mdfa_core.studies.paper import aggregates as statistics
from mdfa_core.studies.reports import select
from mdfa_core.studies.reports.figures import style
from mdfa_core.studies.reports.figures.style import Drawing


@style.styled
def aggregates(table: pd.DataFrame) -> Drawing:
    """Interquartile means, performance profiles and probabilities of improvement, with bootstrap intervals."""
    binary = table[(table["classes"] == 2) & ~table["cell"].isin(select.failed(table))]
    splits = {split: select.score_arrays(select.accuracy(binary, split)) for split in ("train", "test")}
    scores, positions = splits["test"]
    figure, grid = style.panels(1, 4, 2.9, width_ratios=[1, 1, 1.5, 1.2])
    first, second, third, fourth = grid[0]
    finding = "Aggregates over binary cells."
    if positions:
        for axes, split, words in ((first, "train", "training"), (second, "test", "test")):
            for y, method in enumerate(select.PAPER_METHODS):
                _bar(axes, y, method, splits[split][0][method])
            axes.set_title(f"IQM, {words}")
            axes.set_xlabel("%")
            axes.set_yticks(range(4), [select.title(method) for method in select.PAPER_METHODS])
            axes.set_ylim(3.5, -0.5)
            axes.grid(visible=False, axis="y")
        thresholds = np.linspace(50, 100, 101)
        for method in select.PAPER_METHODS:
            share = 100 * statistics.profile(scores[method], thresholds)
            low, high = statistics.band(lambda x: statistics.profile(x, thresholds), scores[method])
            third.fill_between(thresholds, 100 * low, 100 * high, color=style.colour(method), alpha=0.1, linewidth=0)
            third.plot(thresholds, share, color=style.colour(method), linestyle=style.dash(method), linewidth=1.5)
        third.set_title("profile, test")
        third.set_xlabel("test accuracy above τ, %")
        third.set_ylabel("share of runs, %")
        chances, undecided = {}, 0
        for y, other in enumerate(("bp", "dfa", "fa")):
            pair = scores["mdfa"], scores[other]
            chances[other] = 100 * float(statistics.probability_of_improvement(*pair))
            interval = statistics.interval(statistics.probability_of_improvement, *pair)
            undecided += interval.low <= 0.5 <= interval.high
            fourth.plot(
                [100 * interval.low, 100 * interval.high], [y, y], color=style.colour(other), linewidth=4, alpha=0.5
            )
            fourth.plot(chances[other], y, marker=style.marker(other), color=style.colour(other), markersize=6)
        fourth.axvline(50, color=LIGHT.muted, linewidth=0.8)
        fourth.set_title("P(mDFA better), test")
        fourth.set_xlabel("%")
        fourth.set_xlim(20, 80)
        fourth.set_yticks(range(3), ["BP", "DFA", "FA"])
        fourth.set_ylim(2.5, -0.5)
        fourth.grid(visible=False, axis="y")
        figure.legend(handles=[style.key(m) for m in select.PAPER_METHODS], loc="outside upper center", ncols=4)
        finding = (
            f"In {len(positions)} binary comparisons, mDFA's test accuracy beats BP's with a probability of "
            f"{chances['bp']:.0f} %, DFA's with {chances['dfa']:.0f} % and FA's with {chances['fa']:.0f} %; "
            f"{undecided} of 3 intervals include 50 %."
        )
    return Drawing(
        figure=figure,
        finding=finding + select.toy(binary),
        reading="Interquartile mean, performance profile and probability of improvement (Agarwal et al., 2021) over "
        "the binary cells that were run with all four methods, without borrowed settings that failed; bars and bands "
        "are 95 % stratified bootstrap intervals over tasks. The probability draws the two methods' tasks "
        "independently; the spread of tasks pulls it to 50 %.",
    )


def _bar(axes: object, y: int, method: str, scores: statistics.Scores) -> None:
    interval = statistics.interval(statistics.interquartile_mean, scores)
    shade = style.colour(method)
    axes.plot([interval.low, interval.high], [y, y], color=shade, linewidth=4, alpha=0.5)  # type: ignore[attr-defined]
    middle = float(statistics.interquartile_mean(scores))
    axes.plot(middle, y, marker=style.marker(method), color=shade, markersize=6)  # type: ignore[attr-defined]
