from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bokeh.models import HoverTool
from bokeh.models.annotations.legends import Legend
from bokeh.plotting import figure

from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.studies.paper.measures import TESTED, TRAINED
from mdfa_core.studies.reports import plots
from mdfa_core.studies.reports.results import CellResult, compared, of_table
from tests.studies.reports.made_up import EPOCHS


def sources(plot: figure) -> dict[str, list[dict[str, list[object]]]]:
    """The data of all marks or lines by the role that they name."""
    found: dict[str, list[dict[str, list[object]]]] = {}
    for renderer in plot.renderers:
        data = {name: list(values) for name, values in renderer.data_source.data.items()}
        found.setdefault(str(data["role"][0]) if data["role"] else "", []).append(data)
    return found


def labels(plot: figure) -> dict[str, object]:
    """The lines or marks in the legend, by their labels."""
    return {item.label.value: item.renderers[0] for legend in plot.select(Legend) for item in legend.items}


def test_accuracies_beside_the_papers(found: tuple[CellResult, ...]) -> None:
    rows = of_table(found, 1)
    plot = plots.accuracies(rows, "fc", "test")
    assert list(labels(plot)) == ["paper", "chosen, here"]
    shown = [result for result in rows if result.cell.network == "fc"]
    drawn = sources(plot)
    assert drawn["paper"][-1]["value"] == [result.cell.published["test"].mean for result in shown]
    scores = [result.scores(TESTED) for result in shown]
    means = drawn["chosen, here"][-1]
    assert means["value"] == [one.mean for one in scores if one]
    assert means["high"] == [one.mean + (one.std or 0) for one in scores if one]


def test_every_task_is_a_point_whose_hover_names_cell_role_and_task(found: tuple[CellResult, ...]) -> None:
    rows = of_table(found, 1)
    plot = plots.accuracies(rows, "conv", "train")
    assert list(labels(plot)) == ["paper", "best fit, here", "chosen, here"]
    (hover,) = plot.select(HoverTool)
    points = next(data for data in sources(plot)["best fit, here"] if "low" not in data)
    first = next(result for result in rows if result.cell.network == "conv")
    scores = first.scores(TRAINED)
    assert scores is not None
    own = [at for at, cell in enumerate(points["cell"]) if cell == first.cell.name]
    assert [points["task"][at] for at in own] == ["0", "1", "2", "3", "4"]
    assert [points["value"][at] for at in own] == list(scores.tasks.values())
    assert len({points["x"][at] for at in own}) == 5  # no point hides another
    assert [name for name, _ in hover.tooltips] == ["cell", "role", "task", "value"]
    roles = {role for renderer in hover.renderers for role in renderer.data_source.data["role"]}
    assert roles == {"paper", "best fit, here", "chosen, here"}


def test_cells_that_were_not_tuned_have_a_star(found: tuple[CellResult, ...]) -> None:
    rows = of_table(found, 1)
    lent = [replace(rows[0], tuned_for=rows[1].cell), *rows[1:]]
    for given, stars in ((rows, 0), (lent, 1)):
        axis = plots.accuracies(given, "fc", "test").xaxis[0]
        assert sum(label.endswith(" *") for label in axis.major_label_overrides.values()) == stars
        assert ("not tuned" in (axis.axis_label or "")) == bool(stars)


def test_cells_that_were_not_run_show_the_paper_alone(found: tuple[CellResult, ...]) -> None:
    drawn = sources(plots.accuracies(of_table(found, 3), "fc", "train"))
    assert set(drawn) == {"paper", ""}
    assert not any(data["x"] for data in drawn[""])


def test_curves_have_a_line_per_task_and_their_mean(found: tuple[CellResult, ...]) -> None:
    group = compared(of_table(found, 1))[0]
    plot = plots.curves(group)
    assert plot is not None
    lines = labels(plot)
    assert set(lines) == {f"{m} {part}" for m in ("BP", "DFA", "FA", "mDFA") for part in ("training", "validation")}
    mean = lines["BP training"].data_source.data  # type: ignore[attr-defined]
    assert list(mean["xs"][0]) == list(range(1, EPOCHS + 1))
    reached = [100 * record.curve[-1].train_accuracy for record in group[0].chosen.records]
    assert mean["ys"][0][-1] == pytest.approx(sum(reached) / 5)
    tasks = next(
        renderer.data_source.data for renderer in plot.renderers if len(renderer.data_source.data["task"]) == 5
    )
    assert tasks["task"] == ["0", "1", "2", "3", "4"]
    assert [line[-1] for line in tasks["ys"]] == pytest.approx(reached)


def test_sign_agreement(found: tuple[CellResult, ...]) -> None:
    plot = plots.agreement(compared(of_table(found, 1))[0], "unit")
    assert plot is not None
    line = labels(plot)["mDFA"].data_source.data  # type: ignore[attr-defined]
    assert list(line["ys"][0]) == [100.0, 100.0]


def test_every_mark_has_a_colour_of_both_themes(found: tuple[CellResult, ...]) -> None:
    """BP is near black in the light theme and must not stay so on a dark page."""
    rows = of_table(found, 1)
    drawn = [plots.accuracies(rows, "fc", "train"), plots.curves(compared(rows)[0])]
    embedded = plots.embed([plot for plot in drawn if plot is not None])
    tags = {renderer.glyph.tags[0] for plot in drawn if plot is not None for renderer in plot.renderers}
    assert tags <= set(embedded.light)
    assert set(embedded.light) == set(embedded.dark)
    assert (embedded.light["--rule0"], embedded.dark["--rule0"]) == (LIGHT.rule(0), DARK.rule(0))
    assert all(json.dumps(tag) in embedded.script.replace("\\", "") for tag in tags)


def test_nothing_to_draw(found: tuple[CellResult, ...]) -> None:
    group = compared(of_table(found, 3))[0]
    assert plots.curves(group) is None
    assert plots.agreement(group, "batch") is None
    assert plots.embed([]).library == ""
