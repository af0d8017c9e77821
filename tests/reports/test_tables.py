from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from mdfa_core.paper.published import CELLS, TABLES
from mdfa_core.reports import tables
from mdfa_core.reports.results import Result


def test_figures_have_all_224_in_full(found: tuple[Result, ...]) -> None:
    frame = tables.figures(found)
    assert len(frame) == 224
    assert frame["mean"].notna().sum() == 72
    row = frame[(frame["table"] == 1) & (frame["method"] == "mdfa") & (frame["split"] == "test")].iloc[0]
    assert row["paper_mean"] == 77.3
    assert row["difference"] == row["mean"] - 77.3
    assert row["mean"] != round(row["mean"], 1)  # nothing is rounded


def test_csv_read_again_is_the_same(found: tuple[Result, ...]) -> None:
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
def test_a_table_has_the_papers_figures_beside_ours(number: int, found: tuple[Result, ...]) -> None:
    frame = tables.beside(found, number)
    split = TABLES[number].held_out
    for row, cell in zip(frame.to_dict("records"), [c for c in CELLS.values() if c.table == number], strict=True):
        assert row["training, paper"] == str(cell.published["train"])
        assert row[f"{split}, paper"] == str(cell.published[split])
        if number in (1, 6):
            ours, paper = (float(str(row[f"{split}, {who}"]).partition(" ")[0]) for who in ("here", "paper"))
            assert float(row[f"{split}, difference"]) == pytest.approx(ours - paper, abs=0.1001)
            assert (row["tasks"], row["profile"], row["tuned for"]) == ("5", "quick", "itself")
        else:
            assert (row["tasks"], row["profile"], row["tuned for"]) == ("", "", "")
            assert (row["training, here"], row[f"{split}, here"]) == ("not run", "not run")
            assert row["training, difference"] == ""


def test_what_was_not_tuned_is_told_in_every_form(found: tuple[Result, ...]) -> None:
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
    assert len(said) == 3 * 2  # against BP, DFA and FA


def test_differences_are_shown_where_both_methods_were_run(found: tuple[Result, ...]) -> None:
    assert len(tables.differences(found, 1)) == 6 * len(tables.PAIRS) * 2
    assert tables.differences(found, 3).empty
    without_fa = [result for result in found if result.cell.method != "fa"]
    assert len(tables.differences(without_fa, 6)) == 3 * 3 * 2
    first = tables.differences(found, 1).iloc[0]
    assert (first["Difference"], first["accuracy"]) == ("mDFA − BP", "training")
    assert re.fullmatch(r"\[[+-]\d+\.\d, [+-]\d+\.\d\]", first["bootstrap"])
    assert re.fullmatch(r"[0-5] of 5", first["ahead in"])


def test_signs_are_told_at_the_end_and_where_they_are_lowest(found: tuple[Result, ...]) -> None:
    result = next(result for result in found if result.cell == CELLS["table-1/fc/tanh/mdfa/2"])
    first, last = result.records[0].probes
    shares = (1.0, 0.9, 0.95, 1.0, None)  # of the last measurement; one where no sign is defined
    records = tuple(
        replace(record, probes=(replace(first, unit=0.125), replace(last, unit=share, angle=30.0)))
        for record, share in zip(result.records, shares, strict=True)
    )
    silent = replace(next(r for r in found if r.cell == CELLS["table-1/fc/tanh/bp/2"]))
    silent = replace(silent, records=tuple(replace(record, probes=()) for record in silent.records))

    (row,) = tables.signs([replace(result, records=records), silent], 1).to_dict("records")
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
    }
    assert tables.signs(found, 3).empty


@pytest.mark.parametrize("number", TABLES)
def test_latex_is_balanced_and_escaped(number: int, found: tuple[Result, ...]) -> None:
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


def test_every_form_takes_a_table(found: tuple[Result, ...]) -> None:
    for form in tables.FORMS.values():
        assert "mDFA" in form(tables.beside(found, 4))
