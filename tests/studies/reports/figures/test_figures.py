from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from mdfa_core.base.colours import DARK, LIGHT
from mdfa_core.rules.methods import METHODS
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import TESTED
from mdfa_core.studies.paper.statistics import paired
from mdfa_core.studies.reports import select, tidy
from mdfa_core.studies.reports.figures import FIGURES, style
from mdfa_core.studies.reports.figures.coverage import effects
from mdfa_core.studies.reports.figures.curves import _highest
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.results import CellResult

_CELL = "table-1/fc/tanh/mdfa/2"


@pytest.fixture(scope="module")
def table(filled: Store, found: tuple[CellResult, ...]) -> pd.DataFrame:
    return tidy.frame(filled, found, searches=False)


@pytest.fixture(scope="module")
def drawn(table: pd.DataFrame) -> dict[str, Drawing]:
    return {name: figure.draw(table) for name, figure in FIGURES.items()}


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_is_an_accessible_svg_for_light_and_dark_pages(name: str, drawn: dict[str, Drawing]) -> None:
    text = drawn[name].svg
    root = ElementTree.fromstring(text)
    space = root.tag.removesuffix("svg")
    labels = {root.find(f"{space}{tag}").get("id"): root.find(f"{space}{tag}").text for tag in ("title", "desc")}  # type: ignore[union-attr]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(labels)  # type: ignore[arg-type]
    assert list(labels.values()) == [drawn[name].finding, drawn[name].reading]
    assert len(drawn[name].finding.split()) <= 32
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text.partition("</style>")[2]))
    assert used <= set(re.findall(r'style\*="(?:fill|stroke): (#[0-9a-f]{6})', text)), "a colour without a dark one"
    assert DARK.surface in text
    assert "dc:date" not in text


def test_equal_results_give_equal_bytes(table: pd.DataFrame, drawn: dict[str, Drawing]) -> None:
    assert FIGURES["coverage"].draw(table.copy()).svg == drawn["coverage"].svg


def test_a_figure_does_not_depend_on_the_programs_own_style(table: pd.DataFrame, drawn: dict[str, Drawing]) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert FIGURES["coverage"].draw(table).svg == drawn["coverage"].svg


def test_methods_look_as_in_the_app() -> None:
    for number, method in enumerate(METHODS):
        assert style.colour(method) == LIGHT.rule(number)
    assert style.dash("mdfa") == "solid"
    assert len({style.marker(method) for method in select.PAPER_METHODS}) == 4


def test_a_page_without_results_draws_every_figure(table: pd.DataFrame) -> None:
    nothing = table[table["role"] == "paper"]
    for figure in FIGURES.values():
        assert figure.draw(nothing).finding
    assert "112 were not run" in FIGURES["coverage"].draw(nothing).finding


def test_the_forest_counts_intervals_that_exclude_0(found: tuple[CellResult, ...], drawn: dict[str, Drawing]) -> None:
    by = {result.cell.name: result.scores(TESTED) for result in found}
    names = [name for name in by if "/mdfa/" in name and by[name] is not None]
    bounds = [paired(by[name], by[name.replace("mdfa", "bp")]).interval() for name in names]  # type: ignore[arg-type]
    held = drawn["forest-test"].finding
    below = sum(bound.high < 0 for bound in bounds if bound)
    assert f"below BP's in {below} of" in held


def test_differences_are_paired_by_task(table: pd.DataFrame, found: tuple[CellResult, ...]) -> None:
    by = {result.cell.name: result.scores(TESTED) for result in found}
    rows = select.differences(select.tested(table), "mdfa", "fa")
    rows = rows[(rows["network"] == "fc") & (rows["activation"] == "relu") & (rows["table"] == 1)]
    expected = paired(by["table-1/fc/relu/mdfa/2"], by["table-1/fc/relu/fa/2"])  # type: ignore[arg-type]
    assert rows.set_index("task")["difference"].to_dict() == pytest.approx(dict(expected.tasks))
    assert select.contrast(rows) == expected


def test_effects_are_in_points(table: pd.DataFrame) -> None:
    table = table[table["table"] == 1]
    later = table.copy()
    last = later["epoch"] == later["epoch"].max()
    later.loc[last & (later["quantity"] == "train"), "value"] -= 10
    values = effects(later)["best − final epoch\n(training, best fit)"]
    assert len(values) == 24
    assert all(3 < value <= 10 for value in values)
    assert effects(table)["best − final epoch\n(training, best fit)"] == pytest.approx([0] * len(values))


def test_other_settings_are_compared_on_the_same_tasks(table: pd.DataFrame) -> None:
    chosen = table[(table["role"] == "chosen") & (table["quantity"] == "test") & (table["cell"] == _CELL)]
    earlier = chosen[chosen["task"].isin((1, 3))].assign(role="besides", learning_rate=0.5)
    earlier["value"] -= [10, 20]
    further = chosen.assign(role="besides", task=chosen["task"] + 5, value=0.0)  # the published settings: no doubt
    name = next(name for name in effects(table) if name.startswith("tuned"))
    assert effects(pd.concat([table, further]))[name] == []
    assert effects(pd.concat([table, further, earlier]))[name] == pytest.approx([15])


def test_a_run_that_diverged_in_its_first_epoch_ended_at_chance(table: pd.DataFrame) -> None:
    assert _CELL not in select.at_chance(table)
    of_run = (table["role"] == "chosen") & (table["cell"] == _CELL) & (table["task"] == 2)
    diverged = table[of_run].head(1).assign(epoch=pd.NA, quantity="diverged", value=3.0)
    assert _CELL in select.at_chance(pd.concat([table[~of_run], diverged]))


def test_aggregates_leave_out_borrowed_settings_that_failed(table: pd.DataFrame) -> None:
    of_cell = (table["role"] == "chosen") & (table["cell"] == _CELL)
    at_chance = table.assign(value=table["value"].mask(of_cell & (table["quantity"] == "train"), 50.0))
    borrowed = at_chance.assign(tuned_for=table["tuned_for"].mask(of_cell, "table-1/fc/relu/mdfa/2"))
    assert select.failed(at_chance) == set()  # its own settings failed: a figure of the method
    assert select.failed(borrowed) == {_CELL}
    counts = [int(FIGURES["aggregates"].draw(one).finding.split()[1]) for one in (at_chance, borrowed)]
    assert counts[1] == counts[0] - 1


def test_a_number_beside_learning_curves_is_a_mean_over_tasks(table: pd.DataFrame) -> None:
    chosen = table[(table["role"] == "chosen") & (table["quantity"] == "train") & (table["cell"] == _CELL)]
    part, seeds = chosen[chosen["task"] < 2], chosen[chosen["task"] == 0].assign(run="another seed", value=0.0)
    first, second = (rows["value"].max() for _, rows in part.groupby("task"))
    assert _highest(pd.concat([part, seeds])) == pytest.approx((first / 2 + second) / 2)


def test_arrays_of_scores_have_only_tasks_that_all_methods_have(table: pd.DataFrame) -> None:
    """A cell without task 0 takes it from all, and keeps its place; a cell that is left out takes nothing."""
    values = select.tested(table)
    values = values[(values["table"] == 1) & ~((values["cell"] == _CELL) & (values["task"] == 0))]
    alone = values["cell"].str.startswith("table-1/conv/tanh/")
    values = values[~alone | ((values["method"] == "bp") & (values["task"] == 4))]
    scores, positions = select.score_arrays(values)
    assert len(positions) == 5
    assert {array.shape for array in scores.values()} == {(5, 4)}
    row = positions.index((1, "fc", "tanh", 2))
    kept = values[values["cell"] == _CELL].sort_values("task")["value"]
    assert np.array_equal(scores["mdfa"][row], kept.to_numpy(dtype=float))


def test_arrays_of_scores_have_only_positions_that_all_methods_have(table: pd.DataFrame) -> None:
    values = select.tested(table)
    scores, positions = select.score_arrays(values[values["table"] == 1])
    assert len(positions) == 6
    assert {array.shape for array in scores.values()} == {(6, 5)}
    without = values[(values["table"] == 1) & ~((values["method"] == "fa") & (values["network"] == "conv"))]
    assert len(select.score_arrays(without)[1]) == 3
    one = values[(values["cell"] == "table-1/fc/tanh/dfa/2")].sort_values("task")["value"]
    row = positions.index((1, "fc", "tanh", 2))
    assert np.array_equal(scores["dfa"][row], one.to_numpy(dtype=float))


def test_figures_of_toy_data_say_so(table: pd.DataFrame) -> None:
    toy = table.assign(data=table["data"].where(table["data"].isna(), "digits"))
    assert "Toy data (digits)" in FIGURES["coverage"].draw(toy).finding
    assert "Toy data" not in FIGURES["coverage"].draw(table).finding
