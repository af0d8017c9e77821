"""Exports and stores of others: impossible values, bombs and wrong clocks are refused in one sentence."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import json
import os
import random
import sqlite3
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdfa_core.base.errors import InvalidValue, MdfaError, StoreError
from mdfa_core.base.schema import LONGEST
from mdfa_core.runs import exchange
from mdfa_core.runs.notes import CellNote, SearchNote
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from tests.support.synthetic_records import cell_note, record, search_note

Change = Callable[[dict[str, Any]], Any]


def _set(*place: Any, to: Any) -> Change:
    """A change of one entry of nested dictionaries and lists."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        inner: Any = content
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = to
        return content

    return change


RUNS: dict[str, Change] = {
    "accuracy of 7": _set("best_train_accuracy", to=7.0),
    "accuracy below 0": _set("test_accuracy", to=-0.1),
    "accuracy as text": _set("best_validation_accuracy", to="0.5"),
    "accuracy true": _set("best_train_accuracy", to=True),
    "accuracy as list": _set("best_train_accuracy", to=[0.5]),
    "sealed with a test": _set("sealed", to=True),
    "sealed by a number": _set("sealed", to=0),
    "sealed by null": _set("sealed", to=None),
    "epoch as real": _set("best_validation_epoch", to=1.0),
    "epoch after the last": _set("best_validation_epoch", to=4),
    "huge epoch": _set("best_validation_epoch", to=2**63),
    "diverged before": _set("diverged_at", to=-1),
    "huge numerics": _set("numerics", to=2**63),
    "numerics as text": _set("numerics", to="1"),
    "numerics of 4,000 digits": _set("numerics", to=10**4000),
    "checksum as number": _set("checksum", to=1),
    "lone surrogate": _set("provenance", "machine", to="\ud800"),
    "threads as text": _set("provenance", "threads", to="1"),
    "negative time": _set("provenance", "seconds", to=-1.0),
    "endless time": _set("provenance", "seconds", to=1e300),
    "command as list": _set("provenance", "command", to=["mdfa"]),
    "provenance of more": _set("provenance", "luck", to=1),
    "no provenance": _set("provenance", to=None),
    "curve as text": _set("curve", "train_loss", to="123"),
    "curve of texts": _set("curve", "train_loss", 0, to="1e3"),
    "curve with null": _set("curve", "train_loss", 0, to=None),
    "curve below 0": _set("curve", "train_loss", 0, to=-1.0),
    "curve accuracy of 2": _set("curve", "train_accuracy", 1, to=2.0),
    "curve accuracy NaN": _set("curve", "train_accuracy", 1, to="nan"),
    "curve too short": _set("curve", "train_loss", to=[1.0]),
    "curve epoch twice": _set("curve", "epoch", 1, to=1),
    "curve epoch after the last": _set("curve", "epoch", 2, to=9),
    "curve of more": _set("curve", "luck", to=[1, 2, 3]),
    "probe angle": _set("probes", "angle", 0, to=200.0),
    "probe agreement": _set("probes", "unit", 0, to=1.5),
    "probe layers nested": _set("probes", "unit_layers", 0, to=[[0.5]]),
    "probe layers of texts": _set("probes", "saturation", 0, to=["x", "y"]),
    "settings as text": _set("experiment", to="mdfa"),
    "setting of another type": _set("experiment", "epochs", to="3"),
    "setting nested": _set("experiment", "floor", to={"a": 1}),
    "huge setting": _set("experiment", "batch_size", to=2**64),
    "rate beyond float32": _set("experiment", "learning_rate", to=1e39),
    "unknown setting": _set("experiment", "\x1b[2J", to=1),
    "another field": _set("luck", to=1),
    "no dictionary": lambda content: [1],
}

NOTES: dict[str, tuple[Callable[[str], Any], Change]] = {
    "trial accuracy": (search_note, _set("trials", 0, "validation", to=7.0)),
    "trial accuracy text": (search_note, _set("trials", 0, "train", to="x")),
    "trial settings nested": (search_note, _set("trials", 0, "settings", to={"a": {"b": 1}})),
    "rung": (search_note, _set("rungs", 0, "epochs", to=-1)),
    "ended": (search_note, _set("ended", to=3)),
    "seconds": (search_note, _set("seconds", to="long")),
    "chosen": (search_note, _set("chosen", to={"a": [1]})),
    "base surrogate": (search_note, _set("base", to={"a": "\udc80"})),
    "cell profile": (cell_note, _set("profile", to=1)),
    "cell data": (cell_note, _set("data", to=None)),
    "cell keys": (cell_note, _set("keys", to=[1])),
    "cell key surrogate": (cell_note, _set("keys", to=["\ud800"])),
    "cell study": (cell_note, _set("study", to=["a"])),
    "huge class": (cell_note, _set("cell", "classes", to=2**70)),
}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "runs.sqlite") as opened:
        opened.add([record(1)])
        yield opened


def _run() -> dict[str, Any]:
    content = json.loads(record(7, probes=1).to_json())
    content["best_validation_epoch"], content["test_accuracy"] = 2, 0.5
    assert Record.from_dict(content)  # without a change it is taken
    return dict(content)


def _exported(path: Path, *lines: Any) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for line in ({"format": "mdfa runs", "schema": 1}, *lines):
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return path


def _note(note: Any, value: Any = None, written: Any = "2026-01-02T03:04:05+00:00") -> dict[str, Any]:
    text = note.to_json() if value is None else json.dumps(value)
    return {"note": {"kind": note.kind, "name": note.name, "value": text, "written": written}}


def _assert_nothing_is_taken(store: Store, path: Path) -> str:
    before = [*store.records(), *store.notes(CellNote).items(), *store.notes(SearchNote).items()]
    with pytest.raises(StoreError) as caught:
        store.merge(path)
    assert [*store.records(), *store.notes(CellNote).items(), *store.notes(SearchNote).items()] == before
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("change", RUNS.values(), ids=RUNS)
def test_an_impossible_run_is_refused_with_all_of_its_export(change: Change, store: Store, tmp_path: Path) -> None:
    changed = change(_run())
    with pytest.raises(MdfaError):
        Record.from_dict(changed)
    good = {"run": record(2).to_dict()}

    path = _exported(tmp_path / "other.jsonl.gz", good, {"run": changed}, good)

    assert "line 3" in _assert_nothing_is_taken(store, path)


@pytest.mark.parametrize(("make", "change"), NOTES.values(), ids=NOTES)
def test_an_impossible_note_is_refused_with_all_of_its_export(
    make: Callable[[str], Any], change: Change, store: Store, tmp_path: Path
) -> None:
    note, good = make("n"), {"run": record(2).to_dict()}
    assert store.merge(_exported(tmp_path / "good.jsonl.gz", _note(note))) == 0
    changed = change(json.loads(note.to_json()))
    with pytest.raises(InvalidValue):
        type(note).from_dict("n", changed)

    assert "line 3" in _assert_nothing_is_taken(
        store, _exported(tmp_path / "other.jsonl.gz", good, _note(note, changed))
    )


@pytest.mark.parametrize(
    "line",
    [
        *("3", "null", '"run"', "[]", "{}", '{"run": null}', '{"note": 1}', '{"run": NaN}'),
        "[" * 10**6,
        '{"run":' * 10**5,
        '{"note": {"kind": [], "name": 1, "value": 2, "written": 3}}',
        '{"note": {"kind": "cell", "name": "n", "value": {}, "written": "2026-01-02T03:04:05+00:00"}}',
        json.dumps(_note(cell_note("n"), written="9999")),
        json.dumps(_note(cell_note("n"), written="2026-01-02")),
        json.dumps(_note(cell_note("n"), written="2026-01-02T03:04:05+02:00")),
        json.dumps(_note(cell_note("n"), written=2026)),
        json.dumps(_note(cell_note("\ud800"))),
    ],
    ids=range(17),
)
def test_lines_of_something_else_are_refused(line: str, store: Store, tmp_path: Path) -> None:
    assert "line 2" in _assert_nothing_is_taken(store, _exported(tmp_path / "other.jsonl.gz", line))


@pytest.mark.parametrize("filler", ["0", " ", "[", '"', "\n"])
def test_a_bomb_takes_no_memory(filler: str, store: Store, tmp_path: Path) -> None:
    """200 MB in a file of some 200 kB."""
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"format": "mdfa runs", "schema": 1}\n')
        for _ in range(200):
            file.write(filler.encode() * 10**6)
    assert path.stat().st_size < 2_000_000

    tracemalloc.start()
    try:
        _assert_nothing_is_taken(store, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 6 * LONGEST


def test_an_export_that_is_larger_than_allowed_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _exported(tmp_path / "other.jsonl.gz", *[{"run": record(seed).to_dict()} for seed in range(9)])
    monkeypatch.setattr(exchange, "LARGEST", 5000)

    assert "more than 5,000 bytes" in _assert_nothing_is_taken(store, path)


def test_a_bomb_in_a_store_takes_no_memory(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with Store(path) as other:
        other.add([record(2)])
    packing = zlib.compressobj(9)
    trace = b"".join([*(packing.compress(b" " * 10**6) for _ in range(200)), packing.flush()])
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE runs SET trace = ?, sha256 = NULL", (trace,))

    tracemalloc.start()
    try:
        _assert_nothing_is_taken(store, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * LONGEST


STORED: dict[str, tuple[str, Any]] = {
    "accuracy": ("outcome = json_set(outcome, '$.best_train_accuracy', ?)", 7.0),
    "sealed": ("outcome = json_set(outcome, '$.test_accuracy', 0.5), sealed = ?", 1),
    "machine": ("provenance = json_set(provenance, '$.machine', ?)", 5),
    "nested outcome": ("outcome = ?", "[" * 10**5),
    "outcome of a list": ("outcome = ?", "[1]"),
    "no packed curve": ("trace = ?", b"nothing"),
    "curve cut off": ("trace = substr(trace, 1, length(trace) - ?)", 8),
    "another seed": ("settings = json_set(settings, '$.seed', ?)", 99),
    "another checksum": ("checksum = ?", "d" * 64),
}


@pytest.mark.parametrize(("change", "value"), STORED.values(), ids=STORED)
def test_impossible_values_in_a_store_are_refused_when_it_is_read_or_merged(
    change: str, value: Any, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "other.sqlite"
    with Store(path) as other:
        other.add([record(2)])
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE runs SET {change}, sha256 = NULL", (value,))

    _assert_nothing_is_taken(store, path)

    with Store(path, read_only=True) as other, pytest.raises(StoreError):
        list(other.records())


@pytest.mark.parametrize("name", ["accuracy", "sealed", "machine", "nested outcome", "outcome of a list"])
def test_rows_are_checked_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with Store(path) as other:
        other.add([record(2)])
    change, value = STORED[name]
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE runs SET {change}, sha256 = NULL", (value,))

    with Store(path, read_only=True) as other, pytest.raises(StoreError):
        list(other.rows())


def _filled(path: Path) -> Store:
    """A store with two runs, a search and a cell."""
    store = Store(path)
    store.add([record(1, probes=1), record(2)])
    store.put(search_note("n"))
    store.put(cell_note("c", record(1).key, record(2).key))
    return store


def test_a_flipped_bit_in_a_store_never_passes_as_a_result(tmp_path: Path) -> None:
    path, export = tmp_path / "other.sqlite", tmp_path / "now.jsonl.gz"
    with _filled(path) as other:
        records, rows = list(other.records()), list(other.rows())
        other.export(tmp_path / "right.jsonl.gz")
    reads: list[Callable[[Store], bool]] = [
        lambda store: list(store.records()) == records,
        lambda store: list(store.rows()) == rows,
        lambda store: [store.named(made.key) for made in records] == records,
        lambda store: store.export(export) is None and export.read_bytes() == right,
    ]
    right, whole, draw = (tmp_path / "right.jsonl.gz").read_bytes(), path.read_bytes(), random.Random(3)
    used = [place for place, byte in enumerate(whole) if byte]
    sentences = []
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[draw.choice(used)] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        for read in reads:
            try:
                with Store(path, read_only=True) as other:
                    assert read(other)
            except StoreError as error:
                sentences.append(str(error))
    assert len(sentences) > 60
    assert not [sentence for sentence in sentences if "\n" in sentence]


@pytest.mark.parametrize("change", ["outcome = replace(outcome, '0.9375', '0.9376')", "sealed = 1", "trace = X'00'"])
def test_a_run_that_was_changed_is_named_the_others_are_read_and_a_merge_repairs_it(
    change: str, tmp_path: Path
) -> None:
    path, key = tmp_path / "other.sqlite", record(1).key
    with _filled(path) as other:
        other.export(tmp_path / "right.jsonl.gz")
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE runs SET {change} WHERE key = ?", (key,))

    with Store(path) as other:
        for read in (lambda: list(other.records()), lambda: list(other.rows()), lambda: other.named(key)):
            with pytest.raises(StoreError, match=rf"the run {key[:12]} in .*SHA-256 is wrong.*: merge an export"):
                read()
        assert other.named(record(2).key) == record(2)
        assert other.merge(tmp_path / "right.jsonl.gz") == 1
        assert other.named(key) == record(1, probes=1)


@pytest.mark.parametrize(
    "change",
    [
        "notes SET value = replace(value, '2', '3') WHERE kind = 'study'",
        "notes SET written = '2026-01-02T03:04:05+00:00' WHERE kind = 'study'",
        "note_runs SET key = 'd' || substr(key, 2)",
        "note_runs SET position = 7 - position",
    ],
)
def test_a_note_that_was_changed_is_named_and_a_merge_repairs_it(change: str, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with _filled(path) as other:
        other.export(tmp_path / "right.jsonl.gz")
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE {change}")

    kind = SearchNote if "study" in change else CellNote
    with Store(path) as other:
        with pytest.raises(StoreError, match="SHA-256 is wrong"):
            other.notes(kind)  # type: ignore[type-abstract]
        assert other.merge(tmp_path / "right.jsonl.gz") == 0
        other.export(tmp_path / "now.jsonl.gz")
    assert (tmp_path / "now.jsonl.gz").read_bytes() == (tmp_path / "right.jsonl.gz").read_bytes()


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_version_2_gets_a_sha_256_for_every_row(read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with _filled(path) as other:
        other.export(tmp_path / "right.jsonl.gz")
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        sums = [file.execute(f"SELECT sha256 FROM {table}").fetchall() for table in ("runs", "notes")]
        for table in ("runs", "notes"):
            file.execute(f"ALTER TABLE {table} DROP COLUMN sha256")
        file.execute("PRAGMA user_version = 2")

    with Store(path, read_only=read_only) as other:
        assert [other._rows(f"SELECT sha256 FROM {table}") for table in ("runs", "notes")] == sums
        other.export(tmp_path / "now.jsonl.gz")
    assert (tmp_path / "now.jsonl.gz").read_bytes() == (tmp_path / "right.jsonl.gz").read_bytes()


def test_a_store_that_computes_its_rows_is_refused(store: Store, tmp_path: Path) -> None:
    """A view may have rows without end."""
    path = tmp_path / "other.sqlite"
    with Store(path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE VIEW more AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x FROM n")

    assert "views" in _assert_nothing_is_taken(store, path)


def test_a_pipe_is_refused(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert "is no file" in _assert_nothing_is_taken(store, tmp_path / "pipe")


@pytest.mark.parametrize("form", ["jsonl.gz", "sqlite"])
def test_a_note_from_the_future_does_not_win_over_later_ones(form: str, store: Store, tmp_path: Path) -> None:
    old, new = search_note("n"), SearchNote.from_dict("n", search_note("n").to_dict() | {"seconds": 99.0})
    assert old != new
    path = tmp_path / f"other.{form}"
    if form == "sqlite":
        with Store(path) as other:
            other.put(old)
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE notes SET written = '2999-01-01T00:00:00+00:00', sha256 = NULL")
    else:
        _exported(path, _note(old, written="2999-01-01T00:00:00+00:00"))
    store.merge(path)
    assert store.note(SearchNote, "n") == old

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    store.merge(_exported(tmp_path / "later.jsonl.gz", _note(new, written=now)))

    assert store.note(SearchNote, "n") == new


def test_a_note_from_the_future_is_stored_as_written_now(store: Store, tmp_path: Path) -> None:
    """An older note does not replace it, and no export passes its date on."""
    future, old = search_note("n"), SearchNote.from_dict("n", search_note("n").to_dict() | {"seconds": 99.0})
    store.merge(_exported(tmp_path / "future.jsonl.gz", _note(future, written="2999-01-01T00:00:00+00:00")))

    store.merge(_exported(tmp_path / "old.jsonl.gz", _note(old, written="2026-01-02T03:04:05+00:00")))

    assert store.note(SearchNote, "n") == future
    store.export(tmp_path / "all.jsonl.gz")
    assert "2999" not in gzip.decompress((tmp_path / "all.jsonl.gz").read_bytes()).decode()


def test_a_note_from_the_future_that_is_stored_already_does_not_win_either(store: Store, tmp_path: Path) -> None:
    old, new = search_note("n"), SearchNote.from_dict("n", search_note("n").to_dict() | {"seconds": 99.0})
    store.put(old)
    with contextlib.closing(sqlite3.connect(store.path)) as file, file:
        file.execute("UPDATE notes SET written = '2999-01-01T00:00:00+00:00', sha256 = NULL")

    store.merge(_exported(tmp_path / "later.jsonl.gz", _note(new, written="2026-01-02T03:04:05+00:00")))

    assert store.note(SearchNote, "n") == new


def test_a_damaged_export_is_a_right_value_or_one_sentence(store: Store, tmp_path: Path) -> None:
    """200 copies with a byte changed, at places that a seed chooses: gzip has a checksum of its own."""
    with Store(tmp_path / "other.sqlite") as other:
        other.add([record(seed, probes=1) for seed in (2, 3)])
        other.put(cell_note("n"))
        other.export(tmp_path / "right.jsonl.gz")
        records = {found.key: found for found in [*other.records(), *store.records()]}
    right, rng, refused = (tmp_path / "right.jsonl.gz").read_bytes(), random.Random(7), 0
    for _ in range(200):
        data = bytearray(right)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path = tmp_path / "damaged.jsonl.gz"
        path.write_bytes(data)
        try:
            store.merge(path)
        except StoreError:  # no other error
            refused += 1
        for found in store.records():
            assert found == records[found.key]
    assert refused > 150
