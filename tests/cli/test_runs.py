"""`mdfa runs`: what it lists, shows, writes and joins, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mdfa_core.runs.export import run_row
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import STORE_VARIABLE, Store
from tests.support.commands import Done
from tests.support.synthetic_records import record

RECORDS = [record(0, probes=2), record(1, method="bp", learning_rate=0.03, sealed=True), record(2, task_seed=7)]

Call = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(name="mdfa")
def _mdfa(mdfa: Callable[..., Done]) -> Call:
    """Calls `mdfa runs` in a folder with a store: exit code, lines of output, errors."""
    with Store("runs.sqlite") as store:
        store.add(RECORDS)

    def call(*arguments: str) -> tuple[int, list[str], str]:
        done = mdfa("runs", *arguments)
        return done.code, done.out.splitlines(), done.err

    return call


def test_runs_are_listed_in_columns(mdfa: Call) -> None:
    code, (heading, *lines), _ = mdfa("list")
    assert code == 0
    names = heading.split()
    rows = [dict(zip(names, line.split(), strict=True)) for line in lines]
    assert [row["key"] for row in rows] == [r.key[:12] for r in RECORDS]
    assert [row["method"] for row in rows] == ["mdfa", "bp", "mdfa"]
    assert [row["rate"] for row in rows] == ["0.01", "0.03", "0.01"]
    assert [row["task"] for row in rows] == ["0", "1", "7"]
    assert [row["train"] for row in rows] == ["93.8%"] * 3
    assert [row["test"] for row in rows] == ["84.4%", "sealed", "84.4%"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], RECORDS),
        (["--method", "bp"], [RECORDS[1]]),
        (["--method", "bp", "--method", "mdfa"], RECORDS),
        (["--method", "fa"], []),
        (["--where", "seed=0", "--where", "seed=2", "--data", "digits", "--outputs", "1"], [RECORDS[0], RECORDS[2]]),
        (["--where", "learning-rate=3e-2"], [RECORDS[1]]),
        (["--where", "task_seed=none"], RECORDS[:2]),
        (["--where", "drop_last=false"], []),
        (["--where", "drop_last=True", "--where", "task_seed=7"], [RECORDS[2]]),
        (["--network", "digits-fc", "--activation", "tanh", "--where", "forward_init=normal:0.1"], RECORDS),
    ],
)
def test_runs_are_listed_for_programs_by_their_settings(arguments: list[str], found: list[Record], mdfa: Call) -> None:
    code, lines, _ = mdfa("list", "--json", *arguments)
    assert code == 0
    assert [json.loads(line) for line in lines] == [run_row(r) for r in found]


def test_a_run_is_shown_by_the_beginning_of_its_key(mdfa: Call) -> None:
    code, lines, _ = mdfa("show", RECORDS[0].key[:8])
    assert code == 0
    shown = {line[:27].strip(): line for line in lines}
    assert lines[0] == f"run {RECORDS[0].key}"
    text = "\n".join(lines)
    for title in ("settings", "outcome", "curve", "provenance"):
        assert title in shown
    assert [line.split()[-1] for line in lines if "learning rate" in line or "test accuracy" in line] == [
        "0.01",
        "84.4%",
    ]
    assert "unit 1, example -, batch 0.75 (step 2, the last of 2 probes)" in text
    assert "1 to 3" in text
    assert "a processor, 2 cores" in text
    sealed = "\n".join(mdfa("show", RECORDS[1].key)[1])
    assert "sealed" in sealed
    assert "probe" not in sealed


def test_a_run_is_shown_for_programs(mdfa: Call) -> None:
    _, (line,), _ = mdfa("show", RECORDS[0].key, "--json")
    assert Record.from_json(line) == RECORDS[0]


def test_runs_are_exported_and_merged(mdfa: Call, folder: Path) -> None:
    assert mdfa("export", "all.jsonl.gz")[1] == ["3 runs of runs.sqlite are in all.jsonl.gz"]
    assert mdfa("export", "curves.csv", "--table", "curves")[0] == 0
    with (folder / "curves.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 9
    with Store("more.sqlite") as store:
        store.add([record(9)])
    code, lines, _ = mdfa("merge", "all.jsonl.gz", "more.sqlite", "runs.sqlite", "--store", "new.sqlite")
    assert code == 0
    assert lines == [
        "3 new runs from all.jsonl.gz",
        "1 new runs from more.sqlite",
        "0 new runs from runs.sqlite",
        "4 runs are in new.sqlite",
    ]
    with Store("new.sqlite", read_only=True) as store:
        assert len(store) == 4


def test_an_export_is_read_like_a_store(mdfa: Call) -> None:
    mdfa("export", "all.jsonl.gz")
    listed = mdfa("list")
    assert mdfa("list", "--store", "all.jsonl.gz") == listed
    key = listed[1][1].split()[0]
    assert mdfa("show", key, "--store", "all.jsonl.gz") == mdfa("show", key)
    mdfa("export", "one.csv")
    assert mdfa("export", "two.csv", "--store", "all.jsonl.gz")[0] == 0
    assert Path("two.csv").read_text() == Path("one.csv").read_text()


def test_a_merge_counts_the_damaged_runs_that_it_left_out(mdfa: Call) -> None:
    connection = sqlite3.connect("runs.sqlite")
    connection.execute("UPDATE runs SET outcome = '{' WHERE rowid = 2")
    connection.commit()
    connection.close()
    code, _, errors = mdfa("merge", "runs.sqlite", "--store", "new.sqlite")
    assert code == 2
    assert "is damaged" in errors
    code, lines, _ = mdfa("merge", "--skip-damaged", "runs.sqlite", "--store", "new.sqlite")
    assert code == 0
    assert lines == ["2 new runs from runs.sqlite, 1 damaged left out", "2 runs are in new.sqlite"]


def test_the_store_is_the_one_the_environment_names(mdfa: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store("other.sqlite") as store:
        store.add([record(5)])
    monkeypatch.setenv(STORE_VARIABLE, "other.sqlite")
    assert len(mdfa("list", "--json")[1]) == 1
    assert len(mdfa("list", "--json", "--store", "runs.sqlite")[1]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--store", "none.sqlite"], "there is no store none.sqlite"),
        (["list", "--where", "seed"], "--where got 'seed': give NAME=VALUE"),
        (["list", "--where", "colour=red"], "unknown setting 'colour'"),
        (["list", "--where", "seed=x"], "seed is 'x' in a filter: give a value of the type int"),
        (["list", "--where", "drop_last=x"], "drop_last is 'x' in a filter: give a value of the type bool"),
        (["list", "--method", "x"], "unknown method 'x'"),
        (["show", "x"], "no run in runs.sqlite has a key that begins with 'x'"),
        (["show", ""], "the keys of 3 runs begin with ''"),
        (["export", "runs.txt"], "use .jsonl.gz, .csv or .parquet"),
        (["export", "runs.csv", "--table", "x"], "unknown table 'x'"),
        (["merge", "none.sqlite"], "'none.sqlite' does not exist"),
        (["merge"], "Missing argument"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], said: str, mdfa: Call, folder: Path) -> None:
    code, lines, err = mdfa(*arguments)
    assert code == 2
    assert lines == []
    assert said in err
    assert err.count("\n") == 1
    assert [file.name for file in folder.iterdir() if not file.name.startswith(".")] == ["runs.sqlite"]
