"""The results database: finished runs in one SQLite file. Each run is stored once, completely or not at all.

Only processes of one machine can share a store, because SQLite's write-ahead log needs shared memory, which network
file systems lack. To join the results of several machines, `merge` their stores or exports.

Measured once with 4,000 made-up runs of 100 epochs (one core of an AMD EPYC, Python 3.11, SQLite 3.40): 4.8 kB a run in
the file and 2.5 kB in an export; added 40 at a time in 2.0 s, listed in 0.05 s, read whole in 2.0 s, exported in 5.5 s,
merged in 3.8 s.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from mdfa_core.base.errors import InvalidValue, MdfaError, StoreError
from mdfa_core.base.schema import LONGEST, parse_json
from mdfa_core.base.text import shown
from mdfa_core.runs import exchange, export
from mdfa_core.runs.export import FLAT
from mdfa_core.runs.notes import NOTES, Note
from mdfa_core.runs.records import OUTCOME, Record, checked_outcome, run_key
from mdfa_core.training.experiment import ADDED_LATER, Experiment
from mdfa_core.training.run import NUMERICS

N = TypeVar("N", bound=Note)

STORE_VARIABLE = "MDFA_STORE"
SCHEMA = 3
"""Version of the tables below. A store of version 1 or 2 is converted when it is opened; others are refused."""

_APPLICATION = 0x6D646661  # "mdfa", in the file's header: what tells a store from another database
_PATIENCE = 60.0  # seconds to wait for another process's transaction

_NOTE_RUNS = """CREATE TABLE note_runs (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        position INTEGER NOT NULL,
        key TEXT NOT NULL,
        PRIMARY KEY (kind, name, role, position)
    )"""  # the runs that a note names; new with version 2
_SHA256 = "sha256 TEXT"  # of the rest of the row, see `_sha256`; new with version 3
_TABLES = (
    f"""CREATE TABLE runs (
        key TEXT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        checksum TEXT NOT NULL,
        numerics INTEGER NOT NULL,
        sealed INTEGER NOT NULL,
        settings TEXT NOT NULL,
        outcome TEXT NOT NULL,
        provenance TEXT NOT NULL,
        trace BLOB NOT NULL,
        {_SHA256}
    )""",  # settings, outcome, provenance: JSON; trace: curve and probes, JSON in zlib
    "CREATE INDEX runs_digest ON runs (digest)",
    f"""CREATE TABLE notes (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        written TEXT NOT NULL,
        {_SHA256},
        PRIMARY KEY (kind, name)
    )""",  # value: JSON without keys of runs
    _NOTE_RUNS,
)
_STALE = (  # its values: `_setting_names()`
    "json_valid(settings) AND "
    "(SELECT group_concat(key) FROM json_each(settings) WHERE NOT instr(?, ',' || key || ',')) <> ?"
)
_COLUMNS = "key, digest, checksum, numerics, sealed, settings, outcome, provenance, trace, sha256"
_ADD_RUN = (
    f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", "))
    + " WHERE runs.sealed AND NOT excluded.sealed"
)
_NOTE_COLUMNS = "kind, name, value, written"  # and sha256, which a store of version 1 or 2 lacks
_ADD_NOTE = (
    f"INSERT INTO notes ({_NOTE_COLUMNS}, sha256) VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET "
    "value = excluded.value, written = excluded.written, sha256 = excluded.sha256"
)
_IF_LATER = " WHERE excluded.written > notes.written OR notes.written > ?"  # its value: now; such a clock was wrong
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some disk space and try again",
    sqlite3.SQLITE_IOERR: "free some disk space or check the disk, and try again",
    sqlite3.SQLITE_BUSY: "another process has held the store for too long: wait, then try again",
    sqlite3.SQLITE_READONLY: "it is read-only: choose another store",
    sqlite3.SQLITE_CANTOPEN: "choose a file in a writable folder",
    sqlite3.SQLITE_NOTADB: "choose a store, or a path that does not exist yet",
    sqlite3.SQLITE_CORRUPT: "it is damaged: merge your exports into a new store",
}


class Store:
    """Finished runs by key, and notes, in one file. An empty or missing file becomes a store.

    When `add` returns, the runs are on the disk: a process that is killed loses no added run and leaves no partial one.
    Any number of processes of one machine may use a store at once. Close the store, or use it in a `with` block.

    A run that was stored before some setting existed has that setting's default. Opening the store replaces the key of
    such a run by its present key, also in notes.

    Every run and note has a SHA-256 of its row, which is compared whenever it is read. A damaged one raises StoreError;
    the others can be read.

    Args:
        path: the file.
        read_only: never write. The file must exist; its folder need not be writable.

    Raises:
        InvalidValue: `path` is not a path.
        StoreError: the file is not a store, has an unknown version, is missing or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InvalidValue(f"the store is {path!r}: give the path of a file, such as 'runs.sqlite'")
        self.path = Path(path)
        self.read_only = read_only
        _check_name(self.path)
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder: name a file, such as {self.path / 'runs.sqlite'}")
        if read_only and not self.path.is_file():
            raise StoreError(f"there is no store {self.path}: name one that is there, or make one with mdfa reproduce")
        if not self.path.absolute().parent.is_dir():
            raise StoreError(f"the folder {self.path.parent} does not exist: make it first, or name another store")
        with self._explained("opened"):
            self._connection = self._connect()
        try:
            with self._explained("opened"):
                self._prepare()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------------------------------------------ writing

    def add(self, records: Iterable[Record]) -> int:
        """Store records, all or none; returns the number of new ones.

        A run that is stored already stays unchanged, with two exceptions. A run that was evaluated on the test set
        replaces a sealed run with the same key, and takes over its probes if it has none. A run whose stored SHA-256
        is wrong is replaced.

        Raises:
            StoreError: the records cannot be written. The message names the runs; what was stored before is intact.
        """
        kept = tuple(records)
        with self._writing(lambda: _named(kept)):
            return sum(map(self._insert, kept))

    def put(self, note: Note) -> None:
        """Store a note; it replaces the note of the same kind and name.

        Raises:
            InvalidValue: the note cannot be written as JSON.
            StoreError: the note cannot be stored; what was stored before is intact.
        """
        with self._writing(lambda: f"the {note.kind} {note.name!r}"):
            self._keep(note, _now())

    def merge(self, path: str | os.PathLike[str], *, damaged: list[StoreError] | None = None) -> int:
        """Add the runs and notes of another store or a .jsonl.gz export, all or none; returns the number of new runs.

        Runs are stored as by `add`. Of two notes with the same kind and name, the later one is stored; a note from the
        future counts as written now.

        Args:
            path: the other store or the export.
            damaged: if given, damaged runs and notes of a store are left out, and their errors are added to this list.
                The lines of an export have one checksum for all, so a damaged export is always refused as a whole.

        Raises:
            StoreError: the file cannot be read, is neither a store nor an export, or is damaged; or this store cannot
                be written.
        """
        added = 0
        with (
            contextlib.closing(_contents(Path(path), damaged)) as contents,
            self._writing(lambda: f"what is in {path}"),
        ):
            for item in contents:
                if isinstance(item, Record):
                    added += self._insert(item)
                else:
                    self._keep(*item, only_if_later=True)
        return added

    # ------------------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Number of runs."""
        return int(self._rows("SELECT count(*) FROM runs")[0][0])

    def __contains__(self, key: object) -> bool:
        return bool(self._rows("SELECT 1 FROM runs WHERE key = ?", key))

    def keys(self, prefix: str = "", *, sealed: bool | None = None) -> tuple[str, ...]:
        """Keys that begin with `prefix`, in the order they were added; `sealed` selects sealed or opened runs only."""
        rows = self._rows(
            "SELECT key FROM runs WHERE substr(key, 1, ?) = ? AND (? IS NULL OR sealed = ?) ORDER BY rowid",
            *(len(prefix), prefix, sealed, sealed),
        )
        return tuple(key for (key,) in rows)

    def get(self, experiment: Experiment, checksum: str, numerics: int = NUMERICS) -> Record | None:
        """The run of an experiment on data with this checksum, or None."""
        return self.named(run_key(experiment, checksum, numerics))

    def named(self, key: str) -> Record | None:
        """The run with this key, or None."""
        return next(self._select("key = ?", key), None)

    def find(self, experiments: Iterable[Experiment], *, numerics: int = NUMERICS) -> Iterator[Record]:
        """The runs of these experiments, in their order, on any data."""
        for experiment in experiments:
            yield from self._select("digest = ? AND numerics = ?", experiment.digest(), numerics)

    def records(self, where: Mapping[str, Any] | None = None) -> Iterator[Record]:
        """The runs whose settings have these values, in the order they were added.

        Args:
            where: values by name of a setting; a list or tuple matches any of its items. None: all runs.

        Raises:
            UnknownName: a setting does not exist, or a value is an unknown name.
            InvalidValue: a value is not allowed.
        """
        return self._select(*_condition(where or {}))

    def rows(self, where: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The same as flat rows (see `export.run_row`). Curves and probes are not decoded."""
        condition, *values = _condition(where or {})
        found = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE {condition} ORDER BY rowid", *values)
        kinds = {
            name: {column.kind, *([int] if column.kind is float else []), *([type(None)] if column.optional else [])}
            for name, column in FLAT["runs"].columns.items()
        }
        for stored in found:
            key, _, checksum, numerics, sealed, settings, outcome, provenance, *_ = stored
            own = {"key": key, "sealed": bool(sealed), "checksum": checksum, "numerics": numerics}
            with self._decoding(_run_name(key)):
                _check_sum(stored)
                reached = checked_outcome(parse_json(outcome) | own)
                provenance = {"convolutions": None, **parse_json(provenance)}
                everything = {**ADDED_LATER, **parse_json(settings)} | reached | own | provenance
                row = {name: everything[name] for name in kinds}
                wrong = [name for name, value in row.items() if type(value) not in kinds[name]]
                if wrong:
                    raise InvalidValue(f"{wrong[0]} is {shown(row[wrong[0]])}")
            yield row

    def note(self, kind: type[N], name: str) -> N | None:
        """The note with this name, such as `note(CellNote, "quick/table-1/fc/tanh/bp/2")`; None if there is none."""
        rows = self._rows(f"SELECT {_NOTE_COLUMNS}, sha256 FROM notes WHERE kind = ? AND name = ?", kind.kind, name)
        return cast(N, self._note(rows[0])) if rows else None

    def notes(self, kind: type[N]) -> dict[str, N]:
        """All notes of a kind by name, sorted."""
        rows = self._rows(f"SELECT {_NOTE_COLUMNS}, sha256 FROM notes WHERE kind = ? ORDER BY name", kind.kind)
        return {row[1]: cast(N, self._note(row)) for row in rows}

    def export(self, path: str | os.PathLike[str], *, table: str = "runs") -> None:
        """Write the store's content to a file; the ending says in which form. An existing file is replaced.

        `.jsonl.gz` has everything, notes included, without loss and in the order of keys. `merge` reads it; equal
        contents give equal bytes. `.csv` and `.parquet` have one flat table of `export.FLAT`; Parquet needs pyarrow.

        Args:
            path: the file.
            table: the flat table; ignored for `.jsonl.gz`.

        Raises:
            UnknownName: the table does not exist.
            InvalidValue: the file name has another ending.
            StoreError: the file cannot be written, or pyarrow is missing.
        """
        target, flattened = Path(path), FLAT[table]
        if target.name.endswith(".jsonl.gz"):
            write: Callable[[Path], None] = lambda file: exchange.write(file, self._by_key(), self._notes())  # noqa: E731
        elif target.suffix == ".csv":
            write = lambda file: export.write_csv(file, flattened, self.records())  # noqa: E731
        elif target.suffix == ".parquet":
            write = lambda file: export.write_parquet(file, flattened, self.records())  # noqa: E731
        else:
            raise InvalidValue(f"{target} has an unknown ending: use .jsonl.gz, .csv or .parquet")
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            write(temporary)
            temporary.replace(target)
        except OSError as error:
            raise StoreError(
                f"{target} cannot be written ({error.strerror or error}): free some space or name another file"
            ) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------------ opening

    def _connect(self) -> sqlite3.Connection:
        """A connection that has read the file's header."""
        if not self.read_only:
            return self._connection_as("mode=rwc")
        if os.access(self.path, os.W_OK) and os.access(self.path.absolute().parent, os.W_OK):
            return self._connection_as("mode=rw")  # removes its log afterwards, which mode=ro cannot
        try:
            return self._connection_as("mode=ro")
        except sqlite3.OperationalError:  # no write-ahead log can be made beside it, so nobody is writing
            log = Path(f"{self.path}-wal")
            if log.exists() and log.stat().st_size > 0:
                raise
            return self._connection_as("immutable=1")

    def _connection_as(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?{mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        """Create missing tables, refuse other files and versions, and convert old contents."""
        if not self._rows("SELECT 1 FROM sqlite_master LIMIT 1"):
            self._create()
        if self._pragma("application_id") != _APPLICATION:  # which is written together with the tables
            raise StoreError(f"{self.path} is a database, but not a store of runs: name a store, or a new file")
        if self._rows("SELECT 1 FROM sqlite_master WHERE type IN ('view', 'trigger') LIMIT 1"):
            raise StoreError(f"{self.path} has views or triggers, which no store of runs has: name a store of runs")
        version = self._pragma("user_version")
        if not 1 <= version <= SCHEMA:
            remedy = "update mdfa" if version > SCHEMA else "merge an export of it into a new one"
            raise StoreError(
                f"the store {self.path} is of version {version}, and this program knows {SCHEMA}: {remedy}, or name "
                f"another store"
            )
        if not self.read_only:
            self._write_ahead()
            self._connection.execute("BEGIN IMMEDIATE")  # if the file cannot be written, say so before work is done
            self._connection.execute("ROLLBACK")
            self._connection.execute("PRAGMA synchronous = FULL")  # a finished run survives a power cut, too
        elif version < SCHEMA or not self._is_whole() or self._stale():
            self._copy_to_memory()
        if not self._is_whole():
            self._connection.execute("REINDEX")  # a damaged index hides runs; it is made again from its table
            if not self._is_whole():
                raise StoreError(f"the store {self.path} is damaged: merge your exports into a new store")
        if version < SCHEMA:
            self._convert()
        if self._stale():
            self._renew_keys()
        if self.read_only:
            self._connection.execute("PRAGMA query_only = ON")

    def _write_ahead(self) -> None:
        """Switch to a write-ahead log; SQLite itself does not wait for other processes that are opening a new store."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _create(self) -> None:
        if self.read_only:  # an empty file: an empty store in its place
            self._connection.close()
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
        with self._writing(lambda: "a new store"):
            if self._rows("SELECT 1 FROM sqlite_master LIMIT 1"):
                return  # another process was faster
            for statement in _TABLES:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _is_whole(self) -> bool:
        """Whether SQLite finds all rows and indexes in order; this takes some 15 ms for 4,000 runs."""
        return self._rows("PRAGMA integrity_check(1)") == [("ok",)]

    def _copy_to_memory(self) -> None:
        """Replace the connection by one to a copy in memory, which can be changed although the file cannot."""
        with contextlib.closing(self._connection) as file:
            self._connection = sqlite3.connect(":memory:", isolation_level=None)
            file.backup(self._connection)

    def _convert(self) -> None:
        """Convert a store of version 1 or 2: the keys in its notes' JSON move to `note_runs`; rows get a SHA-256."""
        with self._writing(lambda: "the store's new form"):
            version = self._pragma("user_version")
            if version == SCHEMA:
                return  # another process was faster
            for table in ("runs", "notes"):
                self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {_SHA256}")
            if version == 1:
                self._connection.execute(_NOTE_RUNS)
                for kind, name, value, written in self._rows(f"SELECT {_NOTE_COLUMNS} FROM notes"):
                    with self._decoding(_note_name(kind, name)):
                        note = NOTES[kind].from_dict(name, parse_json(value))
                    self._keep(note, written)
            for key, *rest, _ in self._rows(f"SELECT {_COLUMNS} FROM runs"):
                with self._decoding(_run_name(key)):
                    self._connection.execute("UPDATE runs SET sha256 = ? WHERE key = ?", (_sha256((key, *rest)), key))
            self._sum_notes()
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _stale(self) -> bool:
        """Whether some run was stored before some setting existed."""
        return bool(self._rows(f"SELECT 1 FROM runs WHERE {_STALE} LIMIT 1", *_setting_names()))

    def _renew_keys(self) -> None:
        """Give runs that were stored before some setting existed the keys they have now, also in notes.

        Damaged rows stay: they are named when they are read, and the others can be read.
        """
        with self._writing(lambda: "the runs' new keys"):
            rows = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE {_STALE} ORDER BY rowid", *_setting_names())
            try:
                records = {row[0]: self._record(row, stale=True) for row in rows if _is_sound(row)}
            except MdfaError as error:
                raise StoreError(f"the store {self.path} is of a program with other settings ({error})") from None
            if not records:
                return
            for _ in self._notes():  # whose SHA-256 must be right before it is replaced
                pass
            self._connection.executemany("DELETE FROM runs WHERE key = ?", [(old,) for old in records])
            for record in records.values():
                self._insert(record)
            self._connection.executemany(
                "UPDATE note_runs SET key = ? WHERE key = ?", [(record.key, old) for old, record in records.items()]
            )
            self._sum_notes()

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    # ----------------------------------------------------------------------------------------------------- the rest

    def _insert(self, record: Record) -> int:
        for row in self._rows(f"SELECT {_COLUMNS} FROM runs WHERE key = ?", record.key):
            if not _is_sound(row):
                self._connection.execute("DELETE FROM runs WHERE key = ?", (record.key,))
        if not record.sealed and not record.probes and (sealed := self.named(record.key)) is not None:
            record = replace(record, probes=sealed.probes)
        content = record.to_dict()
        settings, outcome, provenance, trace = (
            json.dumps(part, sort_keys=True, allow_nan=False)
            for part in (
                content["experiment"],
                {name: content[name] for name in OUTCOME},
                content["provenance"],
                {name: content[name] for name in ("curve", "probes")},
            )
        )
        identity = (record.key, record.experiment.digest(), record.checksum, record.numerics, int(record.sealed))
        values = (*identity, settings, outcome, provenance, zlib.compress(trace.encode(), 9))
        return self._connection.execute(_ADD_RUN, (*values, _sha256(values))).rowcount

    def _by_key(self) -> Iterator[Record]:
        """All runs in the order of their keys, one at a time."""
        for (row,) in self._rows("SELECT rowid FROM runs ORDER BY key"):
            yield from self._select("rowid = ?", row)

    def _select(self, condition: str, *values: Any) -> Iterator[Record]:
        """Records by a condition. All rows are read at once, so that no transaction stays open between two records."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE {condition} ORDER BY rowid", *values)
        return (self._record(row) for row in rows)

    def _record(self, row: tuple[Any, ...], *, stale: bool = False) -> Record:
        """The run of a row; only one that was stored before some setting existed may have another key."""
        key, _, checksum, numerics, sealed, settings, outcome, provenance, trace, _ = row
        with self._decoding(_run_name(key)):
            _check_sum(row)
            parts = parse_json(outcome) | parse_json(_unpacked(trace))
            own = {"checksum": checksum, "numerics": numerics, "sealed": bool(sealed)}
            more = {"experiment": parse_json(settings), "provenance": parse_json(provenance)}
            record = Record.from_dict({**parts, **own, **more})
            if record.key != key and not stale:
                raise ValueError("its settings have another key")
            return record

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """Name the part of the store that is damaged or unknown to this program."""
        try:
            yield
        except MdfaError as error:
            raise StoreError(f"{what} in {self.path} cannot be read by this program: {error}") from None
        except (zlib.error, AttributeError, KeyError, ValueError, TypeError) as error:
            raise StoreError(
                f"{what} in {self.path} is damaged ({shown(str(error))}): merge an export that has it"
            ) from None

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._explained("read"):
            return self._connection.execute(statement, values).fetchall()

    def _contents(self, damaged: list[StoreError] | None) -> Iterator[Record | tuple[Note, str]]:
        """All runs in the order they were added, and then all notes; `damaged` is that of `merge`."""
        runs = self._rows(f"SELECT {_COLUMNS} FROM runs ORDER BY rowid")
        notes = self._rows(f"SELECT {_NOTE_COLUMNS}, sha256 FROM notes ORDER BY kind, name")
        read: Callable[[Any], Record | tuple[Note, str]]
        for rows, read in ((runs, self._record), (notes, self._dated_note)):
            for row in rows:
                try:
                    item = read(row)
                except StoreError as error:
                    if damaged is None:
                        raise
                    damaged.append(error)
                else:
                    yield item

    def _notes(self) -> Iterator[tuple[Note, str]]:
        """All notes, and when each was written."""
        for row in self._rows(f"SELECT {_NOTE_COLUMNS}, sha256 FROM notes ORDER BY kind, name"):
            yield self._dated_note(row)

    def _dated_note(self, row: tuple[Any, ...]) -> tuple[Note, str]:
        kind, name, _, written, _ = row
        with self._decoding(_note_name(kind, name)):
            time = exchange.checked_time(written)
        return self._note(row), time

    def _note(self, row: tuple[Any, ...]) -> Note:
        kind, name, value, written, sha256 = row
        with self._decoding(_note_name(kind, name)):
            runs = self._note_runs(kind, name)
            _check_sum((kind, name, value, written, runs, sha256))
            note = NOTES[kind].from_dict(name, parse_json(value))
            keys: dict[str, list[str]] = {}
            for role, _, key in runs:
                keys.setdefault(role, []).append(key)
            return note.with_runs({role: tuple(found) for role, found in keys.items()})

    def _note_runs(self, kind: str, name: str) -> list[tuple[Any, ...]]:
        """The runs that a note names: role, position and key."""
        return self._rows(
            "SELECT role, position, key FROM note_runs WHERE kind = ? AND name = ? ORDER BY role, position", kind, name
        )

    def _sum_notes(self) -> None:
        """Write the SHA-256 of all notes."""
        for kind, name, *rest in self._rows(f"SELECT {_NOTE_COLUMNS} FROM notes"):
            with self._decoding(_note_name(kind, name)):
                sha256 = _sha256((kind, name, *rest, self._note_runs(kind, name)))
            self._connection.execute("UPDATE notes SET sha256 = ? WHERE kind = ? AND name = ?", (sha256, kind, name))

    def _keep(self, note: Note, written: str, *, only_if_later: bool = False) -> None:
        """Insert or replace a note inside a transaction: its keys in `note_runs`, the rest in `notes`."""
        now = _now()
        runs = sorted((role, n, key) for role, keys in note.runs.items() for n, key in enumerate(keys))
        content = (note.kind, note.name, note.with_runs({}).to_json(), min(written, now))
        values = (*content, _sha256((*content, runs)))
        if only_if_later and self._sound(note.kind, note.name):
            added = self._connection.execute(_ADD_NOTE + _IF_LATER, (*values, now))
        else:
            added = self._connection.execute(_ADD_NOTE, values)
        if not added.rowcount:
            return
        self._connection.execute("DELETE FROM note_runs WHERE kind = ? AND name = ?", values[:2])
        self._connection.executemany(
            "INSERT INTO note_runs (kind, name, role, position, key) VALUES (?, ?, ?, ?, ?)",
            [(*values[:2], *run) for run in runs],
        )

    def _sound(self, kind: str, name: str) -> bool:
        """Whether the stored note with this name, if there is one, has its SHA-256."""
        rows = self._rows(f"SELECT {_NOTE_COLUMNS}, sha256 FROM notes WHERE kind = ? AND name = ?", kind, name)
        return all(_is_sound((*row[:-1], self._note_runs(kind, name), row[-1])) for row in rows)

    @contextlib.contextmanager
    def _writing(self, what: Callable[[], str]) -> Iterator[None]:
        """A transaction: everything inside is stored, or nothing."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have done it already
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreError(
                    f"{what()} cannot be kept in {self.path} ({error}): {_advice(error)}; what was stored before is "
                    f"intact"
                ) from error
            raise

    @contextlib.contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} cannot be {done} ({error}): {_advice(error)}") from error


def _sha256(row: Sequence[Any]) -> str:
    """SHA-256 of a row's other columns as a list in JSON; bytes are written in hexadecimal."""
    text = json.dumps([value.hex() if isinstance(value, bytes) else value for value in row])
    return hashlib.sha256(text.encode()).hexdigest()


def _is_sound(row: Sequence[Any]) -> bool:
    """Whether a row ends with the SHA-256 of the rest, or with None, as in rows that older programs write."""
    *rest, sha256 = row
    return sha256 is None or sha256 == _sha256(rest)


def _check_sum(row: Sequence[Any]) -> None:
    if not _is_sound(row):
        raise ValueError("its SHA-256 is wrong")


def _run_name(key: Any) -> str:
    """A run, for a message; the key of a damaged one can be anything."""
    return f"the run {shown(str(key)[:12])[1:-1]}"


def _note_name(kind: Any, name: Any) -> str:
    return f"the {shown(str(kind))[1:-1]} {shown(str(name))}"


def _unpacked(trace: bytes) -> bytes:
    """The text of curve and probes; never more than `LONGEST` bytes."""
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(trace, LONGEST + 1)  # `parse_json` refuses a text of this length
    if not unpacking.eof and len(text) <= LONGEST:
        raise ValueError("curve and probes are cut off")
    return text


def _check_name(path: Path) -> None:
    """Refuse names that no file can have. SQLite would cut a name at a NUL byte, and so open another file."""
    try:
        os.stat(path)  # a name with a NUL byte or a lone surrogate raises ValueError
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise StoreError(f"the store {shown(str(path))} cannot be opened ({reason}): name another file") from None


def default_path() -> Path:
    """The default store: MDFA_STORE, or else runs.sqlite in the working folder."""
    try:
        return Path(os.environ.get(STORE_VARIABLE) or "runs.sqlite").expanduser()
    except RuntimeError as error:  # whose home folder?
        raise StoreError(f"{STORE_VARIABLE} names a file that is not known ({error}): name it from / on") from None


def _setting_names() -> tuple[str, str]:
    """The settings that a run may lack, and those that it has."""
    return f",{','.join(ADDED_LATER)},", ",".join(sorted(Experiment().written()))


def _condition(where: Mapping[str, Any]) -> tuple[Any, ...]:
    """An SQL condition for runs with these settings, and its values."""
    parts, values = ["TRUE"], []
    for name, wanted in where.items():
        allowed = wanted if isinstance(wanted, list | tuple) else (wanted,)
        # An experiment writes a value as the stored ones are written; and both sides go through SQLite's JSON reader,
        # whose last bit of a number is not always Python's.
        texts = [json.dumps(getattr(Experiment().replace(**{name: value}), name)) for value in allowed]
        stored = f"json_extract(settings, '$.{name}')"
        if name in ADDED_LATER:
            stored = f"ifnull({stored}, '{ADDED_LATER[name]}')"
        same = " OR ".join([f"{stored} IS json_extract(?, '$')"] * len(texts))
        parts.append(f"({same or 'FALSE'})")
        values += texts
    return " AND ".join(parts), *values


def _contents(path: Path, damaged: list[StoreError] | None) -> Generator[Record | tuple[Note, str], None, None]:
    """The runs and notes of another store or of an export; `damaged` is that of `merge`."""
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would wait for ever
        raise StoreError(f"{path} is no file: name a store or a .jsonl.gz export")
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): name a store or a .jsonl.gz export") from None
    if zipped:
        yield from exchange.read(path)
        return
    with Store(path, read_only=True) as other:
        yield from other._contents(damaged)


def _named(records: tuple[Record, ...]) -> str:
    """The runs, for a message."""
    shown = ", ".join(map(str, records[:3])) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
    return f"the run{'s' * (len(records) > 1)} {shown or 'list'}"


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says the cause in more detail
    return _ADVICE.get(code, "name another store, or see what is wrong with its file")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
