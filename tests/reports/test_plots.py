from __future__ import annotations

from dataclasses import replace

import holoviews as hv
import pytest

from mdfa_core.reports import plots
from mdfa_core.reports.results import Result, compared, of_table
from tests.reports.made_up import EPOCHS


def test_accuracies_beside_the_papers(found: tuple[Result, ...]) -> None:
    rows = of_table(found, 1)
    plot = plots.accuracies(rows, "fc", "test")
    paper, here = [part for part in plot if isinstance(part, hv.Scatter)]
    assert (paper.label, here.label) == ("paper", "here")
    shown = [result for result in rows if result.cell.network == "fc"]
    assert list(paper["accuracy"]) == [result.cell.published["test"].mean for result in shown]
    assert list(here["accuracy"]) == [result.scores("test").mean for result in shown]  # type: ignore[union-attr]
    spread = [part for part in plot if isinstance(part, hv.ErrorBars)][1]
    assert list(spread["spread"]) == [result.scores("test").std for result in shown]  # type: ignore[union-attr]


def test_cells_that_were_not_tuned_have_a_star(found: tuple[Result, ...]) -> None:
    rows = of_table(found, 1)
    lent = [replace(rows[0], tuned_for=rows[1].cell), *rows[1:]]
    for given, stars in ((rows, 0), (lent, 1)):
        options = plots.accuracies(given, "fc", "test").opts.get("plot").kwargs
        assert sum(label.endswith(" *") for _, label in options["xticks"]) == stars
        assert ("not tuned" in options["xlabel"]) == bool(stars)


def test_cells_that_were_not_run_show_the_paper_alone(found: tuple[Result, ...]) -> None:
    _, here = [part for part in plots.accuracies(of_table(found, 3), "fc", "train") if isinstance(part, hv.Scatter)]
    assert len(here) == 0


def test_curves_are_means_over_tasks(found: tuple[Result, ...]) -> None:
    group = compared(of_table(found, 1))[0]
    plot = plots.curves(group)
    assert plot is not None
    lines = {line.label: line for line in plot}
    assert set(lines) == {f"{m} {part}" for m in ("BP", "DFA", "FA", "mDFA") for part in ("training", "validation")}
    bp = lines["BP training"]
    assert list(bp["epoch"]) == list(range(1, EPOCHS + 1))
    mean = sum(record.curve[-1].train_accuracy for record in group[0].records) / 5
    assert bp["accuracy"][-1] == pytest.approx(100 * mean)


def test_sign_agreement(found: tuple[Result, ...]) -> None:
    plot = plots.agreement(compared(of_table(found, 1))[0], "unit")
    assert plot is not None
    assert [(line.label, list(line["agreement"])) for line in plot][-1] == ("mDFA", [1.0, 1.0])


def test_nothing_to_draw(found: tuple[Result, ...]) -> None:
    group = compared(of_table(found, 3))[0]
    assert plots.curves(group) is None
    assert plots.agreement(group, "batch") is None
    assert plots.embed([]).library == ""
