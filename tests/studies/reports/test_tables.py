from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import replace

import pandas as pd
import pytest

from mdfa_core.runs.records import Record
from mdfa_core.studies.paper.measures import REPORTED, TESTED
from mdfa_core.studies.paper.published import CELLS, TABLES
from mdfa_core.studies.reports import document, tables
from mdfa_core.studies.reports.results import CellResult, verdicts

MDFA = CELLS["table-1/fc/tanh/mdfa/2"]


def test_figures_have_all_of_the_paper_in_full(found: tuple[CellResult, ...]) -> None:
    frame = tables.figures(found)
    assert len(frame) == len(REPORTED) * len(CELLS)
    assert frame["paper_mean"].notna().sum() == sum(len(cell.published) for cell in CELLS.values()) == 224
    assert frame["mean"].notna().sum() == len(REPORTED) * 36
    kept = (frame["table"] == 1) & (frame["method"] == "mdfa") & (frame["quantity"] == "test")
    row = frame[kept].iloc[0]
    assert (row["role"], row["paper_mean"], row["seeds"]) == ("chosen", 77.3, 1)
    assert row["difference"] == row["mean"] - 77.3
    assert row["mean"] != round(row["mean"], 1)  # nothing is rounded
    printed = frame[frame["paper_mean"].notna()]
    assert set(zip(printed["role"], printed["quantity"], strict=True)) == {
        ("best fit", "train_best"),
        ("chosen", "test"),
    }


def test_the_papers_figures_stand_beside_five_tasks_though_there_are_more(found: tuple[CellResult, ...]) -> None:
    result = next(result for result in found if result.cell == MDFA)
    more = [
        replace(record, test_accuracy=0.5, experiment=record.experiment.replace(seed=task + 1000, task_seed=task))
        for task, record in enumerate(result.chosen.records)
    ]
    many = replace(result, chosen=replace(result.chosen, records=(*result.chosen.records, *more)))
    assert tables.beside([many], 1).equals(tables.beside([result], 1))
    assert tables.draws([result]).empty
    drawn = tables.draws([many])
    row = drawn[drawn["accuracy"] == "test, chosen"].iloc[0]
    scores = result.scores(TESTED)
    assert scores is not None
    assert row["five tasks"] == str(scores)
    assert row["all"].startswith(f"{(scores.mean + 50) / 2:.1f}")
    assert (row["tasks"], row["seeds within a task"]) == ("5", "2")
    within = [(value - 50) ** 2 / 2 for value in scores.tasks.values()]
    assert row["spread over seeds"] == f"{(sum(within) / 5) ** 0.5:.1f}"
    frame = tables.figures([many])
    assert list(frame["seeds"]) == [1] * len(REPORTED) + [2] * len(REPORTED)
    assert frame["paper_mean"].notna().sum() == 2


def test_cells_with_failed_settings_and_runs_of_lost_code_are_marked(found: tuple[CellResult, ...]) -> None:
    result = next(result for result in found if result.cell == MDFA)
    first, *others = result.chosen.records
    fallen = replace(
        first,
        curve=(*first.curve[:-1], replace(first.curve[-1], train_accuracy=0.51)),
        provenance=replace(first.provenance, commit="0" * 40 + "-dirty"),
    )
    tuned = replace(result, chosen=replace(result.chosen, records=(fallen, *others)))
    borrowed = replace(tuned, tuned_for=CELLS["table-1/fc/relu/mdfa/2"])

    assert (result.code, tuned.code) == ("ok", "dirty")
    assert (tuned.failed, borrowed.failed) == ((), (0,))  # a tuned cell's failures are the method's
    figures = tables.figures([borrowed])
    assert (set(figures["failed"]), set(figures["code"])) == ({1}, {"dirty"})
    row = tables.beside([borrowed], 1).iloc[0]
    assert (row["code"], row["tasks"]) == ("dirty", f"{len(others) + 1}, settings failed on 1")
    marked = [name for name, text in row.items() if str(text).endswith(tables.FAILED)]
    assert marked == [name for name in row.index if "here" in str(name) or "final epoch" in str(name)]
    assert not any(str(text).endswith(tables.FAILED) for text in tables.beside([tuned], 1).iloc[0])
    text = document.markdown([borrowed])
    assert "in 1 of these cells, training ended within two points of chance on some task: " + MDFA.name in text
    assert "Final runs by the state of their code: 1 dirty, " in text


def on_digits(result: CellResult) -> CellResult:
    toys = (
        replace(record, experiment=record.experiment.replace(data="digits", network="fc:8", image_size=None))
        for record in result.chosen.records
    )
    return replace(result, chosen=replace(result.chosen, records=tuple(toys)))


def test_toy_data_is_named_in_every_form(found: tuple[CellResult, ...]) -> None:
    toy = [on_digits(result) for result in found]
    for number, form in itertools.product((1, 6), tables.FORMS.values()):
        assert "toy data" in form(tables.beside(toy, number)).lower()
        assert "toy data" not in form(tables.beside(found, number)).lower()
        text = form(tables.beside(toy, number))
        if form is not tables.csv:
            assert f"Table {number}: " in text
            assert "TOY DATA (digits)" in text
    shown = tables.captioned(tables.beside(toy, 1)).to_html()
    assert "TOY DATA (digits): no figure here is about the paper" in shown


def test_csv_read_again_is_the_same(found: tuple[CellResult, ...]) -> None:
    frame = tables.figures(found)
    again = list(csv.DictReader(io.StringIO(tables.csv(frame))))
    assert len(again) == len(frame)
    for read, written in zip(again, frame.to_dict("records"), strict=True):
        for name, value in written.items():
            if pd.isna(value):
                assert read[name] == ""
            else:
                assert type(value)(read[name]) == value  # every digit is there


@pytest.mark.parametrize("number", TABLES)
def test_a_table_has_the_papers_figures_beside_ours(number: int, found: tuple[CellResult, ...]) -> None:
    frame = tables.beside(found, number)
    split = TABLES[number].held_out
    for row, cell in zip(frame.to_dict("records"), [c for c in CELLS.values() if c.table == number], strict=True):
        assert row["training, paper"] == str(cell.published["train"])
        assert row[f"{split}, paper"] == str(cell.published[split])
        here = f"{split} of chosen, here"
        if number in (1, 6):
            ours, paper = (float(str(row[name]).partition(" ")[0]) for name in (here, f"{split}, paper"))
            assert float(row[f"{split} − paper"]) == pytest.approx(ours - paper, abs=0.1001)
            assert row["best fit, here"] == row["chosen, here"] == row["best fit, final epoch"]
            assert (row["tasks"], row["profile"], row["tuned for"]) == ("5", "quick", "itself")
        else:
            assert (row["tasks"], row["profile"], row["tuned for"]) == ("", "", "")
            assert {row["best fit, here"], row["chosen, here"], row[here]} == {"not run"}
            assert row["− paper"] == ""


def test_what_was_not_tuned_is_told_in_every_form(found: tuple[CellResult, ...]) -> None:
    source, cell = CELLS["table-1/fc/relu/mdfa/2"], CELLS["table-1/fc/tanh/mdfa/2"]
    lent = [replace(result, tuned_for=source) if result.cell == cell else result for result in found]
    frame = tables.figures(lent)
    assert set(frame[frame["tuned_for"] == source.name]["activation"]) == {"relu", "tanh"}
    beside = tables.beside(lent, 1)
    assert list(beside["tuned for"]).count("itself") == 23
    for form in tables.FORMS.values():
        assert form(beside).count(source.name) == 1
    pairs = tables.differences(lent, 1)
    said = pairs[pairs["not tuned"] != ""]
    assert set(said["Activation"]) == {"tanh"}
    assert set(said["not tuned"]) == {"mDFA"}
    assert len(said) == 3 * 3  # against BP, DFA and FA


def test_differences_are_shown_where_both_methods_were_run(found: tuple[CellResult, ...]) -> None:
    assert len(tables.differences(found, 1)) == 6 * len(tables.PAIRS) * 3
    assert tables.differences(found, 3).empty
    without_fa = [result for result in found if result.cell.method != "fa"]
    assert len(tables.differences(without_fa, 6)) == 3 * 3 * 3
    first = tables.differences(found, 1).iloc[0]
    assert (first["Difference"], first["accuracy"]) == ("mDFA − BP", "training, best fit")
    assert re.fullmatch(r"\[[+-]\d+\.\d, [+-]\d+\.\d\]", first["95 % interval"])
    assert re.fullmatch(r"[0-5] of 5", first["ahead in"])


def test_signs_are_told_at_the_end_and_where_they_are_lowest(found: tuple[CellResult, ...]) -> None:
    result = next(result for result in found if result.cell == CELLS["table-1/fc/tanh/mdfa/2"])
    first, last = result.chosen.records[0].probes
    shares = (1.0, 0.9, 0.95, 1.0, None)  # of the last measurement; one where no sign is defined
    records = tuple(
        replace(record, probes=(replace(first, unit=0.125), replace(last, unit=share, angle=30.0)))
        for record, share in zip(result.chosen.records, shares, strict=True)
    )
    silent = replace(next(r for r in found if r.cell == CELLS["table-1/fc/tanh/bp/2"]))
    quiet = tuple(replace(record, probes=()) for record in silent.chosen.records)
    silent = replace(silent, chosen=replace(silent.chosen, records=quiet))

    (row,) = tables.signs([replace(result, chosen=replace(result.chosen, records=records)), silent], 1).to_dict(
        "records"
    )
    assert row == {
        "Network": "FC",
        "Activation": "tanh",
        "Method": "mDFA",
        "unit errors": "96.2 ± 4.8",
        "lowest": "12.5",
        "single examples": "90.0 ± 0.0",
        "mini-batch": "70.0 ± 0.0",
        "angle": "30.0 ± 0.0",
        "tasks": "5",
        "runs": "5",
    }
    assert tables.signs(found, 3).empty


def test_signs_of_several_seeds_are_one_value_for_each_task(found: tuple[CellResult, ...]) -> None:
    result = next(result for result in found if result.cell == CELLS["table-1/fc/tanh/mdfa/2"])
    one, other = result.chosen.records[:2]

    def run(record: Record, unit: float, **changes: int) -> Record:
        probes = tuple(replace(probe, unit=unit) for probe in record.probes)
        return replace(record, probes=probes, experiment=record.experiment.replace(**changes))

    # the three seeds of task 0 count as much as the one seed of task 1
    runs = (run(one, 1.0), *(run(one, 0.7, seed=seed, task_seed=0) for seed in (1000, 2000)), run(other, 0.6))
    (row,) = tables.signs([replace(result, chosen=replace(result.chosen, records=runs))], 1).to_dict("records")
    assert (row["unit errors"], row["tasks"], row["runs"]) == ("70.0 ± 14.1", "2", "4")


@pytest.mark.parametrize("number", TABLES)
def test_latex_is_balanced_and_escaped(number: int, found: tuple[CellResult, ...]) -> None:
    frame = tables.beside(found, number)
    frame["note"] = "100 % of a_b & {c} #1 $"
    text = tables.latex(frame)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    bare = re.sub(r"\\[%&_#${}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for sign in "%#_":
        assert sign not in bare
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(frame)
    for line in body:
        assert line.endswith(r"\\")
        assert re.sub(r"\\&", "", line).count("&") == len(frame.columns) - 1
    assert text.isascii()


def test_markdown_has_a_row_a_cell_and_escapes_bars() -> None:
    text = tables.markdown(pd.DataFrame([{"a": "x|y", "b": "007"}, {"a": "z", "b": "1.50"}]))
    lines = text.splitlines()
    assert len(lines) == 4
    assert r"x\|y" in lines[2]
    assert "007" in lines[2]
    assert "1.50" in lines[3]


def test_html_is_escaped() -> None:
    assert "&lt;b&gt;&amp;" in tables.html(pd.DataFrame([{"a": "<b>&"}]))


def test_every_form_takes_a_table(found: tuple[CellResult, ...]) -> None:
    for form in tables.FORMS.values():
        assert "mDFA" in form(tables.beside(found, 4))


def test_propositions_and_their_cases_as_tables(found: tuple[CellResult, ...]) -> None:
    judged = verdicts(found)
    frame = tables.propositions(judged)
    assert list(frame["proposition"]) == [verdict.proposition.says for verdict in judged]
    assert frame.iloc[0]["holds"].startswith("holds in ")
    assert list(frame["name"]) == [verdict.name for verdict in judged]
    assert (frame.iloc[0]["by part"], frame.iloc[1]["by part"].partition(": ")[0]) == ("", "training, best fit")
    for verdict in judged:
        shown = tables.cases(verdict)
        assert len(shown) == verdict.tally.measured
        if not shown.empty:
            assert list(shown["grade"]) == [one.symbol for one in verdict.cells if one.effect is not None]
