"""A store keeps every finished run once and whole, whatever happens to the process, the disk or the neighbours."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mdfa_core import Experiment
from mdfa_core.base.errors import InvalidValue, StoreError, UnknownName
from mdfa_core.runs.export import FLAT, run_row
from mdfa_core.runs.notes import CellNote, SearchNote, Selection
from mdfa_core.runs.records import Record, written_key
from mdfa_core.runs.store import SCHEMA, STORE_VARIABLE, Store, default_path
from tests.support.synthetic_records import CHECKSUM, cell_note, record, search_note

ROOT = Path(__file__).resolve().parents[2]


def started(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs some code with the package and the made-up records at hand."""
    lines = [
        "import resource, sys",
        "from mdfa_core.runs.store import Store",
        "from tests.support.synthetic_records import record",
        code,
    ]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "\n".join(lines), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ------------------------------------------------------------------------------------------------------- one process


def test_settings_added_later_have_their_defaults_in_rows_and_conditions(store: Store) -> None:
    old = record(0)
    new = dataclasses.replace(record(1), experiment=record(1).experiment.replace(loss_scale="sum"))
    store.add([old, new])

    assert [row["loss_scale"] for row in store.rows()] == ["mean", "sum"]
    assert [r.key for r in store.records({"loss_scale": "mean"})] == [old.key]
    assert [r.key for r in store.records({"loss_scale": "sum", "evaluation": "paper"})] == [new.key]
    assert not store._stale()


def test_what_was_added_is_there_to_the_last_bit(store: Store, path: Path) -> None:
    records = [record(seed, probes=2) for seed in range(3)]
    assert store.add(records) == 3
    assert tuple(store.records()) == tuple(records)
    assert len(store) == 3
    assert store.keys() == tuple(r.key for r in records)
    assert records[1].key in store
    assert store.named(records[1].key) == records[1]
    assert store.get(records[1].experiment, CHECKSUM) == records[1]
    with Store(path) as again:
        assert tuple(again.records()) == tuple(records)


def test_what_was_not_added_is_not_there(store: Store) -> None:
    store.add([record()])
    assert store.get(record(1).experiment, CHECKSUM) is None
    assert store.get(record().experiment, "d" * 64) is None
    assert store.get(record().experiment, CHECKSUM, 2) is None
    assert "nothing" not in store
    assert store.keys("nothing") == ()


def test_a_run_is_kept_once_and_stays_as_it_was(store: Store) -> None:
    first = record()
    other = dataclasses.replace(first, best_train_accuracy=0.5)
    assert store.add([first, first]) == 1
    assert store.add([other]) == 0
    assert store.named(first.key) == first


def test_an_opened_run_replaces_a_sealed_one_and_never_the_other_way(store: Store) -> None:
    sealed, opened = record(sealed=True), record()
    assert store.add([sealed, record(1)]) == 2
    assert store.keys(sealed=True) == (sealed.key,)
    assert store.add([opened]) == 1
    assert store.named(opened.key) == opened
    assert store.add([sealed]) == 0
    assert store.named(opened.key) == opened
    assert store.keys(sealed=True) == ()
    assert store.keys(sealed=False) == store.keys() == (opened.key, record(1).key)


def test_all_of_a_call_is_added_or_nothing(store: Store) -> None:
    broken = dataclasses.replace(record(1), best_train_accuracy=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        store.add([record(), broken])
    assert len(store) == 0
    assert store.add([record()]) == 1


def test_runs_are_found_by_their_experiments_on_whatever_data(store: Store) -> None:
    first, second = record(0), record(1)
    elsewhere = dataclasses.replace(first, checksum="d" * 64)
    older = dataclasses.replace(first, numerics=0)
    store.add([second, first, elsewhere, older])
    experiments = [first.experiment, record(7).experiment, second.experiment]
    assert list(store.find(experiments)) == [first, elsewhere, second]
    assert list(store.find(experiments, numerics=0)) == [older]


def test_runs_are_found_by_their_settings(store: Store) -> None:
    rates = (0.1, 1 / 3, 1e-7 / 3, 123.456e-9)
    records = [record(seed, learning_rate=rate) for seed in (0, 1) for rate in rates]
    records.append(record(2, method="bp", drop_last=False, task_seed=0, network="fc:3"))
    store.add(records)
    for rate in rates:
        assert [r.experiment.seed for r in store.records({"learning_rate": rate})] == [0, 1]
    assert list(store.records({"learning_rate": rates[1], "seed": 1})) == [records[5]]
    assert list(store.records({"method": ["bp", "fa"]})) == records[8:]
    for where in ({"drop_last": False}, {"task_seed": 0}, {"network": "fc:3"}, {"method": ("bp",), "seed": 2}):
        assert list(store.records(where)) == records[8:], where
    assert list(store.records({"task_seed": None, "forward_init": "normal:0.10"})) == records[:8]
    assert list(store.records({"method": "bp", "seed": 1})) == list(store.records({"seed": []})) == []
    assert [row["key"] for row in store.rows({"seed": 1})] == [r.key for r in records[4:8]]


def test_filters_are_checked(store: Store) -> None:
    with pytest.raises(UnknownName, match="unknown setting 'colour'"):
        store.records({"colour": "red"})
    with pytest.raises(UnknownName, match="unknown method 'x'"):
        store.records({"method": "x"})
    with pytest.raises(InvalidValue, match="batch size"):
        store.records({"batch_size": 0})


def test_rows_are_the_records_flat(store: Store) -> None:
    records = [record(0), record(1, sealed=True)]
    store.add(records)
    assert list(store.rows()) == [run_row(r) for r in records]
    assert list(run_row(records[0])) == list(FLAT["runs"].columns)


def test_a_key_can_be_named_by_its_beginning(store: Store) -> None:
    store.add([record(0), record(1)])
    (key, _) = store.keys()
    assert store.keys(key[:10]) == (key,)
    assert store.keys("%") == store.keys("_") == ()


def test_runs_can_be_added_while_others_are_read(store: Store) -> None:
    store.add([record(0), record(1)])
    for found in store.records():
        store.add([record(found.experiment.seed + 10)])
    assert len(store) == 4


def test_notes_are_kept_by_kind_and_name(store: Store, path: Path) -> None:
    first, second, cell = search_note("b"), search_note("a", seconds=1.5), cell_note("a", "k", "l")
    for note in (first, search_note("a"), cell, second):
        store.put(note)
    with Store(path) as again:
        assert again.notes(SearchNote) == {"a": second, "b": first}
        assert list(again.notes(SearchNote)) == ["a", "b"]
        assert again.note(SearchNote, "a") == second
        assert again.note(SearchNote, "c") is None
        assert again.notes(CellNote) == {"a": cell}
        assert len(again) == 0


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_a_note_that_cannot_be_json_is_refused(value: object, store: Store) -> None:
    store.put(search_note("x"))
    with pytest.raises(InvalidValue, match="the study 'x' cannot be written as JSON"):
        store.put(dataclasses.replace(search_note("x"), chosen={"learning_rate": value}))
    assert store.notes(SearchNote) == {"x": search_note("x")}


@pytest.mark.parametrize("path", [3, None, 1.5])
def test_a_store_is_named_by_a_path(path: object) -> None:
    with pytest.raises(InvalidValue, match=r"the store is .*: give the path of a file, such as 'runs.sqlite'"):
        Store(path)  # type: ignore[arg-type]


def test_the_store_to_use_is_that_of_the_environment_or_in_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    assert default_path() == Path("runs.sqlite")
    monkeypatch.setenv(STORE_VARIABLE, "elsewhere/mine.sqlite")
    assert default_path() == Path("elsewhere/mine.sqlite")
    monkeypatch.setenv(STORE_VARIABLE, "~nobody-of-this-name/mine.sqlite")
    with pytest.raises(StoreError, match=r"MDFA_STORE names a file that is not known .*: name it from / on$"):
        default_path()


# -------------------------------------------------------------------------------------------------- what a file may be


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with Store(path, read_only=True) as empty:
        assert len(empty) == 0
    assert path.stat().st_size == 0
    with Store(path) as made:
        assert made.add([record()]) == 1


def _text(path: Path) -> None:
    path.write_text("key,method\n" * 100)


def _database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (key TEXT)")
    connection.close()


def _newer(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()


def _older(path: Path) -> None:
    Store(path).close()
    _damaged(path, "PRAGMA user_version = 0")


def _damaged(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_text, "cannot be opened .file is not a database.: choose a store, or a path that does not exist yet$"),
        (_database, "is a database, but not a store of runs: name a store, or a new file$"),
        (_newer, f"is of version {SCHEMA + 1}, and this program knows {SCHEMA}: update mdfa, or name another store$"),
        (_older, f"is of version 0, and this program knows {SCHEMA}: merge an export of it into a new one, or name"),
        (Path.mkdir, "is a folder: name a file, such as .*runs.sqlite$"),
    ],
)
def test_what_is_no_store_of_this_version_is_refused_and_left_as_it_is(
    make: Callable[[Path], None], said: str, read_only: bool, path: Path
) -> None:
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=said) as caught:
        Store(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_missing_store_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Store(path, read_only=True)
    assert not path.exists()
    with pytest.raises(StoreError, match="does not exist: make it first"):
        Store(path / "no" / "folder.sqlite")


@pytest.mark.parametrize("name", ["runs\0.sqlite", "a" * 5000, "\ud800"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_name_that_no_file_can_have_is_one_sentence(name: str, read_only: bool, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be opened \(.*\): name another file") as caught:
        Store(tmp_path / name, read_only=read_only)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())  # SQLite would cut the name at a NUL byte, and make another file


def test_a_damaged_run_is_named(store: Store, path: Path) -> None:
    store.add([record()])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET trace = X'00', sha256 = NULL")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=f"the run {record().key[:12]} in .* is damaged"):
        list(store.records())
    assert [row["key"] for row in store.rows()] == [record().key]  # what does not need it still works


def test_a_merge_may_leave_out_what_is_damaged(store: Store, path: Path, tmp_path: Path) -> None:
    sound, *_ = records = [record(seed) for seed in range(3)]
    store.add(records)
    for name in ("x", "y"):
        store.put(search_note(name))
    for broken in records[1:]:
        _damaged(path, f"UPDATE runs SET outcome = '{{' WHERE key = '{broken.key}'")
    _damaged(path, "UPDATE notes SET value = '{' WHERE name = 'x'")
    with Store(tmp_path / "other.sqlite") as other:
        with pytest.raises(StoreError, match=f"the run {records[1].key[:12]} in .* is damaged"):
            other.merge(path)
        assert len(other) == 0
        damaged: list[StoreError] = []
        assert other.merge(path, damaged=damaged) == 1
        assert tuple(other.records()) == (sound,)
        assert list(other.notes(SearchNote)) == ["y"]
        assert len(damaged) == 3
        export = tmp_path / "export.jsonl.gz"
        other.export(export)
        export.write_bytes(export.read_bytes()[:-20])
        with Store(tmp_path / "third.sqlite") as third, pytest.raises(StoreError, match="is damaged at line"):
            third.merge(export, damaged=damaged)


@pytest.mark.parametrize("column", ["outcome", "provenance"])
@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_run_whose_text_is_damaged_is_named(column: str, text: str, store: Store, path: Path) -> None:
    store.add([record()])
    _damaged(path, f"UPDATE runs SET {column} = '{text}', sha256 = NULL")
    for read in (store.records, store.rows):
        with pytest.raises(
            StoreError, match=f"the run {record().key[:12]} in .* (is damaged|cannot be read by this program)"
        ):
            list(read())


def test_a_damaged_note_is_named(store: Store, path: Path, tmp_path: Path) -> None:
    store.put(search_note("x"))
    _damaged(path, "UPDATE notes SET value = '{'")
    said = r"the study 'x' in .* is damaged \(.*\): merge an export that has it$"
    with pytest.raises(StoreError, match=said):
        store.notes(SearchNote)
    with pytest.raises(StoreError, match=said):
        store.note(SearchNote, "x")
    with Store(tmp_path / "other.sqlite") as other:
        with pytest.raises(StoreError, match=said):
            other.merge(path)
        assert other.note(SearchNote, "x") is None


def _forget(path: Path, setting: str) -> None:
    """As if the runs had been stored before a setting existed: it is not in them, nor was it in their keys."""
    connection = sqlite3.connect(path)
    connection.execute(
        f"UPDATE runs SET settings = json_remove(settings, '$.{setting}'), key = 'old' || key, digest = '', "
        "sha256 = NULL"
    )
    connection.commit()
    connection.close()


def test_runs_from_before_a_setting_existed_are_found_as_having_its_default(path: Path) -> None:
    records = [record(0, sealed=True), record(1), record(2)]
    with Store(path) as store:
        store.add(records)
    _forget(path, "precision")
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        assert tuple(store.records()) == tuple(records)
    assert path.read_bytes() == before
    with Store(path) as store:
        assert tuple(store.records()) == tuple(records)
        assert store.get(records[1].experiment, CHECKSUM) == records[1]
        assert store.keys() == tuple(r.key for r in records)
    with Store(path, read_only=True) as store:
        assert list(store.find([records[2].experiment])) == [records[2]]


def _cell_of(keys: list[str]) -> CellNote:
    """A note that names runs in every role, among them a run that is in no store."""
    return cell_note(
        "one",
        *keys,
        fit=Selection(settings={}, keys=tuple(keys[:1])),
        opened_before=tuple(Selection(settings={"l2": n}, keys=(keys[-1], "gone")) for n in range(2)),
    )


def test_notes_in_an_export_name_runs_from_before_a_setting_existed_by_their_new_keys(
    path: Path, tmp_path: Path
) -> None:
    records = [record(0), record(1)]
    contents = [json.loads(json.dumps(r.to_dict())) for r in records]
    for content in contents:
        del content["experiment"]["precision"]
    old, new = _cell_of([written_key(content) for content in contents]), _cell_of([r.key for r in records])
    assert not set(old.chosen.keys) & set(new.chosen.keys)

    export = tmp_path / "old.jsonl.gz"
    with Store(tmp_path / "new.sqlite") as store:
        store.add(records)
        store.put(old)
        store.export(export)
    head, *_, last = gzip.decompress(export.read_bytes()).decode().splitlines()
    export.write_bytes(gzip.compress("\n".join([head, *(json.dumps({"run": c}) for c in contents), last]).encode()))
    with Store(path) as store:
        store.merge(export)
        assert store.notes(CellNote) == {"one": new}


@pytest.mark.parametrize("read_only", [False, True])
def test_notes_in_a_store_name_runs_from_before_a_setting_existed_by_their_new_keys(
    read_only: bool, path: Path
) -> None:
    records = [record(0), record(1)]
    with Store(path) as store:
        store.add(records)
        store.put(_cell_of([f"old{r.key}" for r in records]))
        store.put(cell_note("another", "old"))
    _forget(path, "precision")
    with Store(path, read_only=read_only) as store:
        assert store.notes(CellNote) == {
            "one": _cell_of([r.key for r in records]),
            "another": cell_note("another", "old"),
        }


# store_version_1.sql is a store with one tuned cell as the program wrote it before version 2; .jsonl.gz is its export.
VERSION_1 = Path(__file__).with_name("store_version_1.sql")


@pytest.fixture
def old(path: Path) -> Path:
    """A store of version 1."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    return path


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_version_1_is_converted_without_loss(read_only: bool, old: Path, tmp_path: Path) -> None:
    before = old.read_bytes()
    with Store(old, read_only=read_only) as store:
        (cell,), (search,) = store.notes(CellNote).values(), store.notes(SearchNote).values()
        assert {role: len(keys) for role, keys in cell.runs.items()} == {"chosen": 2, "fit": 2, "opened before 1": 2}
        assert all(key in store for keys in cell.runs.values() for key in keys)
        assert cell.chosen.settings == search.chosen
        store.export(tmp_path / "now.jsonl.gz")
    assert (tmp_path / "now.jsonl.gz").read_bytes() == VERSION_1.with_suffix(".jsonl.gz").read_bytes()
    assert (old.read_bytes() == before) == read_only
    with contextlib.closing(sqlite3.connect(old)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        notes = " ".join(value for (value,) in connection.execute("SELECT value FROM notes"))
    assert version == (1 if read_only else SCHEMA)
    assert (cell.chosen.keys[0] in notes) == read_only


def test_a_store_of_version_1_can_be_merged(old: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "other.sqlite") as other:
        assert other.merge(old) == 8
        other.export(tmp_path / "now.jsonl.gz")
    assert (tmp_path / "now.jsonl.gz").read_bytes() == VERSION_1.with_suffix(".jsonl.gz").read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE notes SET value = '{' WHERE kind = 'study'", "the study '.*' in .* is damaged"),
        ("UPDATE notes SET value = '{}' WHERE kind = 'cell'", "the cell '.*' in .* cannot be read by this program"),
        ("UPDATE notes SET kind = 'colour' WHERE kind = 'study'", "unknown kind of note 'colour'"),
    ],
)
def test_a_store_of_version_1_that_cannot_be_converted_stays_as_it_is(damage: str, said: str, old: Path) -> None:
    _damaged(old, damage)
    with contextlib.closing(sqlite3.connect(old)) as connection:
        before = list(connection.iterdump())
    with pytest.raises(StoreError, match=said):
        Store(old)
    with contextlib.closing(sqlite3.connect(old)) as connection:
        assert list(connection.iterdump()) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_processes_that_convert_one_store_at_a_time_convert_it_once(old: Path) -> None:
    code = "print('ready', flush=True); sys.stdin.readline(); Store(sys.argv[1]).close()"
    processes = [started(code, old) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert [process.communicate("\n")[1] for process in processes] == [""] * 2
    with Store(old) as store:
        assert len(store.notes(CellNote)) == len(store.notes(SearchNote)) == 1


def test_a_run_that_is_opened_keeps_its_probes(store: Store) -> None:
    sealed, opened = record(0, sealed=True, probes=2), record(0)
    store.add([sealed])
    store.add([opened])

    (kept,) = store.records()
    assert not kept.sealed
    assert kept == dataclasses.replace(opened, probes=sealed.probes)


def test_runs_with_a_setting_that_is_not_known_are_refused(path: Path) -> None:
    with Store(path) as store:
        store.add([record()])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET settings = json_set(settings, '$.colour', 'red'), sha256 = NULL")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"other settings .*unknown setting 'colour'"):
        Store(path)


# ---------------------------------------------------------------------------------------------------- export and merge


def test_an_export_holds_everything_and_depends_on_nothing_but_the_content(store: Store, tmp_path: Path) -> None:
    records = [record(seed, probes=seed, sealed=seed == 1) for seed in range(4)]
    store.add(records)
    store.put(search_note("s"))
    store.put(cell_note("c", records[2].key, records[0].key))
    store.export(tmp_path / "one.jsonl.gz")
    with Store(tmp_path / "other.sqlite") as other:
        other.add(reversed(records))
        assert other.merge(tmp_path / "one.jsonl.gz") == 0
        other.export(tmp_path / "two.jsonl.gz")
        assert {r.key: r for r in other.records()} == {r.key: r for r in records}
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()
    assert (tmp_path / "one.jsonl.gz").read_bytes()[3:8] == bytes(5)  # no name and no time in gzip's header
    with Store(tmp_path / "third.sqlite") as third:
        assert third.merge(tmp_path / "two.jsonl.gz") == 4
        assert sorted(third.records(), key=str) == sorted(records, key=str)
        assert third.notes(SearchNote) == {"s": search_note("s")}
        assert third.notes(CellNote) == {"c": cell_note("c", records[2].key, records[0].key)}
    assert not list(tmp_path.glob(".*gz*"))


@pytest.mark.parametrize("form", ["store", "export"])
def test_merging_keeps_each_run_once_and_the_later_note(form: str, store: Store, tmp_path: Path) -> None:
    older, later, latest = (search_note("both", seconds=seconds) for seconds in (1.0, 2.0, 3.0))
    store.put(older)
    store.put(cell_note("cell", "a", "b", "c"))
    store.add([record(0, sealed=True), record(1)])
    with Store(tmp_path / "other.sqlite") as other:
        other.add([record(0), record(1, sealed=True), record(2)])
        other.put(later)
        other.put(cell_note("cell", "d"))
        other.put(cell_note("new"))
        other.export(tmp_path / "other.jsonl.gz")
    file = tmp_path / ("other.sqlite" if form == "store" else "other.jsonl.gz")
    store.put(search_note("ours"))
    assert store.merge(file) == 2
    assert store.merge(file) == 0
    assert tuple(store.records()) == (record(0), record(1), record(2))
    assert store.notes(SearchNote) == {"both": later, "ours": search_note("ours")}
    assert store.notes(CellNote) == {"cell": cell_note("cell", "d"), "new": cell_note("new")}
    store.put(latest)
    store.merge(file)
    assert store.note(SearchNote, "both") == latest
    assert store.merge(store.path) == 0


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _rewritten(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with gzip.open(path, "rt") as file:
            lines = file.read().splitlines()
        with gzip.open(path, "wt") as file:
            file.write("\n".join(change(lines)) + "\n")

    return rewrite


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "is damaged at line"),
        (lambda path: path.write_bytes(gzip.compress(b"hello\n")), "is damaged at line 1"),
        (lambda path: path.write_bytes(gzip.compress(b"{}\n")), "is no export of runs"),
        (lambda path: path.write_bytes(b"hello"), "is not a database"),
        (Path.unlink, "cannot be read"),
        (_rewritten(lambda lines: [lines[0].replace('"schema": 1', '"schema": 7'), *lines[1:]]), "is of version 7"),
        (_rewritten(lambda lines: [*lines[:2], lines[2].replace("curve", "wave"), *lines[3:]]), "line 3 of"),
        (
            _rewritten(lambda lines: [*lines[:3], lines[3].replace('"mdfa"', '"xyz"', 1)]),
            "line 4 of .*unknown method 'xyz'",
        ),
        (_rewritten(lambda lines: [*lines, '{"note": {"kind": 1}}']), "is damaged at line 5"),
        (
            _rewritten(lambda lines: [*lines, '{"note": {"kind": "a", "name": "b", "value": "{}", "written": "c"}}']),
            "line 5 of .*unknown kind of note 'a'",
        ),
        (
            _rewritten(lambda lines: [*lines, '{"note": {"kind": "cell", "name": "b", "value": "{", "written": "c"}}']),
            "is damaged at line 5",
        ),
        (
            _rewritten(
                lambda lines: [*lines, '{"note": {"kind": "cell", "name": "b", "value": "{}", "written": "c"}}']
            ),
            "line 5 of .*not a note of the kind cell",
        ),
        (
            _rewritten(
                lambda lines: [*lines[:3], lines[3].replace('_train_accuracy": 0.9375', '_train_accuracy": 7.5')]
            ),
            "line 4 of .* cannot be read by .*: best_train_accuracy is 7.5: give a number of 0 to 1, or null$",
        ),
        (
            _rewritten(lambda lines: [*lines[:3], lines[3].replace('_accuracy": 0.9375', '_accuracy": "abc"')]),
            "best_train_accuracy is 'abc': give",
        ),
    ],
)
def test_of_a_damaged_export_nothing_is_taken(
    damage: Callable[[Path], None], said: str, store: Store, tmp_path: Path
) -> None:
    export = tmp_path / "other.jsonl.gz"
    with Store(tmp_path / "other.sqlite") as other:
        other.add(record(seed) for seed in range(3))
        other.export(export)
    damage(export)
    with pytest.raises(StoreError, match=said):
        store.merge(export)
    assert len(store) == 0
    assert store.add([record()]) == 1


def test_an_export_that_cannot_be_written_leaves_what_was_there(store: Store, tmp_path: Path) -> None:
    store.add([record()])
    with pytest.raises(InvalidValue, match=r"use \.jsonl\.gz, \.csv or \.parquet"):
        store.export(tmp_path / "runs.txt")
    with pytest.raises(UnknownName, match="unknown table 'colours'"):
        store.export(tmp_path / "runs.csv", table="colours")
    with pytest.raises(StoreError, match="cannot be written"):
        store.export(tmp_path / "none" / "runs.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        store.export(tmp_path / "folder.csv")
    assert sorted(p.name for p in tmp_path.iterdir() if "csv" in p.name) == ["folder.csv"]


# ------------------------------------------------------------------------------------- other processes, a dying machine


def test_a_process_that_is_killed_loses_no_finished_run_and_leaves_no_half_one(path: Path) -> None:
    code = """
with Store(sys.argv[1]) as store:
    for i in range(10_000):
        store.add([record(4 * i + k, epochs=40) for k in range(4)])
        print(i, flush=True)
"""
    for attempt in range(2):  # the second goes on where the first was killed
        process = started(code, path)
        assert process.stdout is not None
        told = -1
        for line in process.stdout:
            told = int(line)
            if told >= 10 * (attempt + 1):
                break
        process.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in process.communicate()[0].splitlines())])
        with Store(path) as store:
            seeds = sorted(found.experiment.seed for found in store.records())
            assert seeds == list(range(len(seeds)))
            assert len(seeds) % 4 == 0  # a call was kept whole or not at all
            assert len(seeds) >= 4 * (told + 1)  # and kept, once it had returned
            assert all(found == record(found.experiment.seed, epochs=40) for found in store.records())


def test_processes_that_write_one_store_lose_and_double_nothing(path: Path) -> None:
    code = """
me = int(sys.argv[2])
records = [record(seed, epochs=5) for seed in range(60)]
print("ready", flush=True)
sys.stdin.readline()
new = 0
with Store(sys.argv[1]) as store:
    for i in range(40):  # 0 to 39, and 20 to 59 in the other direction
        new += store.add([records[i if me == 0 else 59 - i]])
print(new)
"""
    processes = [started(code, path, me) for me in (0, 1)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert [error for _, error in answers] == ["", ""]
    with Store(path) as store:
        assert sum(int(out) for out, _ in answers) == len(store) == 60
        assert sorted(found.experiment.seed for found in store.records()) == list(range(60))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits of a process")
def test_a_full_disk_stops_with_the_run_named_and_what_was_there_is_intact(path: Path) -> None:
    code = """
from mdfa_core.base.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with Store(sys.argv[1]) as store:
    try:
        for i in range(10_000):
            store.add([record(i, epochs=40)])
    except StoreError as error:
        print(i, len(store))
        print(error)
"""
    counts, message = started(code, path).communicate()[0].splitlines()
    kept, counted = map(int, counts.split())
    assert message.startswith(
        f"the run {record(kept, epochs=40).key[:12]} (mdfa on digits, seed {kept}) cannot be kept in"
    )
    assert "free some disk space" in message
    assert message.endswith("what was stored before is intact")
    with Store(path) as store:
        assert kept == counted == len(store) > 5
        assert [found == record(i, epochs=40) for i, found in enumerate(store.records())] == [True] * kept
        assert store.add([record(kept, epochs=40)]) == 1


def test_a_store_that_may_grow_no_more_names_all_runs_of_the_call(path: Path) -> None:
    with Store(path) as store:
        store.add([record(0)])
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            StoreError, match=r"the runs \w{12} .*seed 10.*seed 11.*seed 12\) and 37 more cannot be kept"
        ):
            store.add(record(seed, epochs=40) for seed in range(10, 50))
        assert len(store) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_store_where_nothing_can_be_written_can_be_read() -> None:
    code = """
import os
if os.geteuid() == 0:  # whom permissions do not bind
    os.setuid(65534)
with Store(sys.argv[1], read_only=True) as store:
    print(list(store.records()) == [record()])
try:
    Store(sys.argv[1])
except Exception as error:
    print(error)
"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.sqlite"
        with Store(path) as store:
            store.add([record()])
        path.chmod(0o444)
        path.parent.chmod(0o555)
        out, error = started(code, path).communicate()
        path.parent.chmod(0o755)
    assert error == ""
    read, refused = out.splitlines()
    assert read == "True"
    assert "cannot be opened" in refused


def test_a_read_only_store_writes_nothing(path: Path) -> None:
    with Store(path) as store:
        store.add([record()])
        with Store(path, read_only=True) as reader:  # beside one that writes
            assert list(reader.records()) == [record()]
            with pytest.raises(StoreError, match=r"cannot be kept in .*read"):
                reader.add([record(1)])
            store.add([record(2)])
            assert len(reader) == 2
    assert [p.name for p in path.parent.iterdir() if p.name.startswith("runs")] == ["runs.sqlite"]


def test_settings_are_stored_so_that_any_reader_of_sqlite_can_use_them(path: Path) -> None:
    made: Record = record(3)
    with Store(path) as store:
        store.add([made])
    connection = sqlite3.connect(path)
    ((settings, outcome),) = connection.execute("SELECT settings, outcome FROM runs").fetchall()
    connection.close()
    assert Experiment.from_json(settings) == made.experiment
    assert json.loads(outcome)["test_accuracy"] == made.test_accuracy
