"""The results database: finished runs in one SQLite file, each kept once, whole or not at all.

A store is for the processes of one machine (SQLite's write-ahead log needs shared memory, which network file systems
lack); to join what several machines did, `merge` their stores or exports.

Measured once with 4,000 made-up runs of 100 epochs (one core of an AMD EPYC, Python 3.11, SQLite 3.40): 4.8 kB a run in
the file and 2.5 kB in an export; added 40 at a time in 2.0 s, listed in 0.05 s, read whole in 2.0 s, exported in 5.5 s,
merged in 3.8 s.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import json
import os
import re
import sqlite3
import time
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from mdfa_core import flat
from mdfa_core.errors import InvalidValue, MdfaError, StoreError
from mdfa_core.experiment import Experiment
from mdfa_core.flat import FLAT
from mdfa_core.records import OUTCOME, Record, checked_outcome, run_key, written_key
from mdfa_core.training import NUMERICS

STORE_VARIABLE = "MDFA_STORE"
SCHEMA = 1
"""Version of the tables below; a store of another one is refused."""

_APPLICATION = 0x6D646661  # "mdfa", in the file's header: what tells a store from another database
_PATIENCE = 60.0  # seconds to wait for another process's transaction
_FORMAT = {"format": "mdfa runs", "schema": SCHEMA}  # first line of an export

_TABLES = (
    """CREATE TABLE runs (
        key TEXT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        checksum TEXT NOT NULL,
        numerics INTEGER NOT NULL,
        sealed INTEGER NOT NULL,
        settings TEXT NOT NULL,
        outcome TEXT NOT NULL,
        provenance TEXT NOT NULL,
        trace BLOB NOT NULL
    )""",  # settings, outcome, provenance: JSON; trace: curve and probes, JSON in zlib
    "CREATE INDEX runs_digest ON runs (digest)",
    """CREATE TABLE notes (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        written TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    )""",
)
_COLUMNS = "key, digest, checksum, numerics, sealed, settings, outcome, provenance, trace"
_ADD_RUN = (
    f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", "))
    + " WHERE runs.sealed AND NOT excluded.sealed"
)
_ADD_NOTE = (
    "INSERT INTO notes (kind, name, value, written) VALUES (?, ?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET "
    "value = excluded.value, written = excluded.written"
)
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space and do it again",
    sqlite3.SQLITE_IOERR: "free some space or see to the disk, and do it again",
    sqlite3.SQLITE_BUSY: "another process has been writing for long: wait for it and do it again",
    sqlite3.SQLITE_READONLY: "it may only be read here: name another store",
    sqlite3.SQLITE_CANTOPEN: "name a file in a folder that can be written",
    sqlite3.SQLITE_NOTADB: "name a store, or a file that is yet to be made",
    sqlite3.SQLITE_CORRUPT: "it is damaged: merge what exports you have into a new one",
}


@dataclass(frozen=True, kw_only=True)
class _Note:
    """A named document."""

    kind: str
    name: str
    value: str
    written: str

    def __post_init__(self) -> None:
        json.loads(self.value)  # a text that is no JSON would be found only when the note is looked at


class Store:
    """Finished runs, by key, in one file; an empty or missing file becomes a store.

    What `add` returned from is on the disk: a process killed at any moment loses no run that was added and leaves no
    part of one. Any number of processes of one machine may use a store at once. Close it, or use it as a context.

    Runs written before a setting existed are taken to have had the setting's default; their keys, also where notes name
    them, become what they are now.

    Args:
        path: the file.
        read_only: never write; the file must be there then, and its folder may be one that cannot be written.

    Raises:
        InvalidValue: it is no path.
        StoreError: the file is something else, is of another version, is missing or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        if not isinstance(path, str | os.PathLike):
            raise InvalidValue(f"the store is {path!r}: give the path of a file, such as 'runs.sqlite'")
        self.path = Path(path)
        self.read_only = read_only
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
        """Keep records, all or none; returns how many were new.

        A key that is there already stays as it is, except that a run whose test images were opened replaces a sealed
        one, whose probes it keeps if it has none: it is the same run.

        Raises:
            StoreError: they cannot be written; the message names the runs, and what was stored before is intact.
        """
        kept = tuple(records)
        with self._writing(lambda: _named(kept)):
            return sum(map(self._insert, kept))

    def put(self, kind: str, name: str, value: Any) -> None:
        """Keep a small document that JSON can say, under a kind and a name; one that was there is replaced.

        Raises:
            InvalidValue: JSON cannot say it (NaN and infinities included).
            StoreError: it cannot be written; what was stored before is intact.
        """
        try:
            text = json.dumps(value, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"the {kind} {name!r} is nothing that JSON can say ({error}): make it plain") from None
        with self._writing(lambda: f"the {kind} {name!r}"):
            self._connection.execute(_ADD_NOTE, (kind, name, text, _now()))

    def merge(self, path: str | os.PathLike[str]) -> int:
        """Take in the runs and notes of another store or of a .jsonl.gz export, all or none; returns the new runs.

        Runs are kept as `add` keeps them; of two notes of one name the later one is kept.

        Raises:
            StoreError: the file cannot be read, is neither, or is damaged; or this store cannot be written.
        """
        added = 0
        with contextlib.closing(_contents(Path(path))) as contents, self._writing(lambda: f"what is in {path}"):
            for item in contents:
                if isinstance(item, Record):
                    added += self._insert(item)
                else:
                    self._connection.execute(
                        f"{_ADD_NOTE} WHERE excluded.written > notes.written",
                        (item.kind, item.name, item.value, item.written),
                    )
        return added

    # ------------------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """How many runs there are."""
        return int(self._rows("SELECT count(*) FROM runs")[0][0])

    def __contains__(self, key: object) -> bool:
        return bool(self._rows("SELECT 1 FROM runs WHERE key = ?", key))

    def keys(self, prefix: str = "", *, sealed: bool | None = None) -> tuple[str, ...]:
        """Keys in the order in which they were added: those that begin with `prefix`, and are sealed or not."""
        rows = self._rows(
            "SELECT key FROM runs WHERE substr(key, 1, ?) = ? AND (? IS NULL OR sealed = ?) ORDER BY rowid",
            *(len(prefix), prefix, sealed, sealed),
        )
        return tuple(key for (key,) in rows)

    def get(self, experiment: Experiment, checksum: str, numerics: int = NUMERICS) -> Record | None:
        """The run of an experiment on data with this checksum; None if there is none."""
        return self.named(run_key(experiment, checksum, numerics))

    def named(self, key: str) -> Record | None:
        """The run with this key; None if there is none."""
        return next(self._select("key = ?", key), None)

    def find(self, experiments: Iterable[Experiment], *, numerics: int = NUMERICS) -> Iterator[Record]:
        """The runs of these experiments, in their order, on whatever data they were done."""
        for experiment in experiments:
            yield from self._select("digest = ? AND numerics = ?", experiment.digest(), numerics)

    def records(self, where: Mapping[str, Any] | None = None) -> Iterator[Record]:
        """The runs whose settings have these values, in the order in which they were added.

        Args:
            where: value by name of a setting; a list or tuple stands for any of its values. None for all runs.

        Raises:
            UnknownName: there is no such setting, or a value is a name in no table.
            InvalidValue: a value is not allowed.
        """
        return self._select(*_condition(where or {}))

    def rows(self, where: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The same as flat rows (see `flat.run_row`), without decoding curves and probes."""
        condition, *values = _condition(where or {})
        found = self._rows(
            "SELECT key, settings, outcome, sealed, checksum, numerics, provenance FROM runs "
            f"WHERE {condition} ORDER BY rowid",
            *values,
        )
        for key, settings, outcome, sealed, checksum, numerics, provenance in found:
            own = {"key": key, "sealed": bool(sealed), "checksum": checksum, "numerics": numerics}
            with self._decoding(f"the run {key[:12]}"):
                reached = checked_outcome(json.loads(outcome))
                everything = json.loads(settings) | reached | own | json.loads(provenance)
                row = {name: everything[name] for name in FLAT["runs"].columns}
            yield row

    def look(self, kind: str, name: str) -> Any:
        """The document `put` under this kind and name; None if there is none."""
        rows = self._rows("SELECT value FROM notes WHERE kind = ? AND name = ?", kind, name)
        return self._document(kind, name, rows[0][0]) if rows else None

    def notes(self, kind: str) -> dict[str, Any]:
        """All documents of a kind by name, sorted."""
        rows = self._rows("SELECT name, value FROM notes WHERE kind = ? ORDER BY name", kind)
        return {name: self._document(kind, name, value) for name, value in rows}

    def export(self, path: str | os.PathLike[str], *, table: str = "runs") -> None:
        """Write the store's content to a file, in a form that its ending says; a file that was there is replaced whole.

        `.jsonl.gz` is everything, notes included, exact, in the order of keys: what `merge` reads, and the same bytes
        for the same content. `.csv` and `.parquet` are one flat table of `flat.FLAT`; Parquet needs pyarrow.

        Args:
            path: the file.
            table: which flat table; of no meaning for `.jsonl.gz`.

        Raises:
            UnknownName: there is no such table.
            InvalidValue: the ending is another one.
            StoreError: the file cannot be written, or pyarrow is missing.
        """
        target, flattened = Path(path), FLAT[table]
        if target.name.endswith(".jsonl.gz"):
            write: Callable[[Path], None] = self._write_lines
        elif target.suffix == ".csv":
            write = lambda file: flat.write_csv(file, flattened, self.records())  # noqa: E731
        elif target.suffix == ".parquet":
            write = lambda file: flat.write_parquet(file, flattened, self.records())  # noqa: E731
        else:
            raise InvalidValue(f"{target} has an ending that says no form: end it in .jsonl.gz, .csv or .parquet")
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
        """Let go of the file."""
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
            return self._connection_as("mode=rw")  # cleans up behind itself, as mode=ro cannot
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
        """Make the tables where there are none, refuse what is no store or of another version, and renew old keys."""
        if not self._rows("SELECT 1 FROM sqlite_master LIMIT 1"):
            self._create()
        if self._pragma("application_id") != _APPLICATION:  # which is written together with the tables
            raise StoreError(f"{self.path} is a database of something else: name a store of runs")
        version = self._pragma("user_version")
        if version != SCHEMA:
            remedy = "update mdfa" if version > SCHEMA else "merge an export of it into a new one"
            raise StoreError(
                f"the store {self.path} is of version {version}, and this program knows {SCHEMA}: {remedy}, or name "
                f"another store"
            )
        if self.read_only:
            self._connection.execute("PRAGMA query_only = ON")
        else:
            self._write_ahead()
            self._connection.execute("BEGIN IMMEDIATE")  # where it cannot be written, say so before work is done
            self._connection.execute("ROLLBACK")
            self._connection.execute("PRAGMA synchronous = FULL")  # a finished run outlives a power cut, too
        self._renew_keys()

    def _write_ahead(self) -> None:
        """Switch to a write-ahead log; SQLite does not wait by itself for others who are opening a new store."""
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

    def _renew_keys(self) -> None:
        """Give runs that were stored before some setting existed the keys they have now."""
        names = ",".join(sorted(Experiment().to_dict()))
        stale = "(SELECT group_concat(key) FROM json_each(settings)) <> ?"
        if not self._rows(f"SELECT 1 FROM runs WHERE {stale} LIMIT 1", names):
            return
        if self.read_only:
            raise StoreError(
                f"the store {self.path} is of a program with other settings: open it once where it can be written, or "
                f"merge it into another store"
            )
        with self._writing(lambda: "the runs' new keys"):
            rows = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE {stale} ORDER BY rowid", names)
            try:
                records = {row[0]: self._record(row) for row in rows}
            except MdfaError as error:
                raise StoreError(f"the store {self.path} is of a program with other settings ({error})") from None
            self._connection.execute(f"DELETE FROM runs WHERE {stale}", (names,))
            for record in records.values():
                self._insert(record)
            keys = {old: record.key for old, record in records.items()}
            for note in list(self._notes()):
                renewed = _renewed(note.value, keys)
                if renewed != note.value:
                    self._connection.execute(
                        "UPDATE notes SET value = ? WHERE kind = ? AND name = ?", (renewed, note.kind, note.name)
                    )

    def _pragma(self, name: str) -> int:
        return int(self._rows(f"PRAGMA {name}")[0][0])

    # ----------------------------------------------------------------------------------------------------- the rest

    def _insert(self, record: Record) -> int:
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
        identity = (record.key, record.experiment.digest(), record.checksum, record.numerics, record.sealed)
        values = (*identity, settings, outcome, provenance, zlib.compress(trace.encode(), 9))
        return self._connection.execute(_ADD_RUN, values).rowcount

    def _select(self, condition: str, *values: Any) -> Iterator[Record]:
        """Records by a condition; all rows are read at once, so that no transaction stays open between two of them."""
        rows = self._rows(f"SELECT {_COLUMNS} FROM runs WHERE {condition} ORDER BY rowid", *values)
        return (self._record(row) for row in rows)

    def _record(self, row: tuple[Any, ...]) -> Record:
        key, _, checksum, numerics, sealed, settings, outcome, provenance, trace = row
        with self._decoding(f"the run {key[:12]}"):
            parts = json.loads(outcome) | json.loads(zlib.decompress(trace))
            own = {"checksum": checksum, "numerics": numerics, "sealed": bool(sealed)}
            more = {"experiment": json.loads(settings), "provenance": json.loads(provenance)}
            return Record.from_dict({**parts, **own, **more})

    def _document(self, kind: str, name: str, value: str) -> Any:
        with self._decoding(f"the {kind} {name!r}"):
            return json.loads(value)

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """Name what cannot be read because its text in the file is damaged or not known here."""
        try:
            yield
        except MdfaError as error:
            raise StoreError(f"{what} in {self.path} cannot be read here: {error}") from None
        except (zlib.error, KeyError, ValueError, TypeError) as error:
            raise StoreError(f"{what} in {self.path} is damaged ({error}): take it from an export") from None

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._explained("read"):
            return self._connection.execute(statement, values).fetchall()

    def _write_lines(self, path: Path) -> None:
        with path.open("xb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:

            def line(content: Any) -> None:
                file.write(json.dumps(content, sort_keys=True, allow_nan=False).encode() + b"\n")

            line(_FORMAT)
            for (key,) in self._rows("SELECT key FROM runs ORDER BY key"):
                record = self.named(key)
                if record is not None:
                    line({"run": record.to_dict()})
            for note in self._notes():
                line({"note": vars(note)})

    def _notes(self) -> Iterator[_Note]:
        for row in self._rows("SELECT kind, name, value, written FROM notes ORDER BY kind, name"):
            with self._decoding(f"the {row[0]} {row[1]!r}"):
                note = _Note(**dict(zip(("kind", "name", "value", "written"), row, strict=True)))
            yield note

    @contextlib.contextmanager
    def _writing(self, what: Callable[[], str]) -> Iterator[None]:
        """A transaction: everything inside it is kept, or nothing."""
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


def default_path() -> Path:
    """The store to use where none is named: MDFA_STORE, else runs.sqlite in the working folder."""
    try:
        return Path(os.environ.get(STORE_VARIABLE) or "runs.sqlite").expanduser()
    except RuntimeError as error:  # whose home folder?
        raise StoreError(f"{STORE_VARIABLE} names a file that is not known ({error}): name it from / on") from None


def _condition(where: Mapping[str, Any]) -> tuple[Any, ...]:
    """SQL, and the values it needs, that hold for runs with these settings."""
    parts, values = ["TRUE"], []
    for name, wanted in where.items():
        allowed = wanted if isinstance(wanted, list | tuple) else (wanted,)
        # An experiment writes a value as the stored ones are written; and both sides go through SQLite's JSON reader,
        # whose last bit of a number is not always Python's.
        texts = [json.dumps(getattr(Experiment().replace(**{name: value}), name)) for value in allowed]
        same = " OR ".join([f"json_extract(settings, '$.{name}') IS json_extract(?, '$')"] * len(texts))
        parts.append(f"({same or 'FALSE'})")
        values += texts
    return " AND ".join(parts), *values


def _contents(path: Path) -> Generator[Record | _Note, None, None]:
    """What another store or an export holds."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): name a store or a .jsonl.gz export") from None
    if zipped:
        yield from _lines(path)
        return
    with Store(path, read_only=True) as other:
        yield from other.records()
        yield from other._notes()


def _lines(path: Path) -> Iterator[Record | _Note]:
    """What an export holds."""
    number = 1
    keys: dict[str, str] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            head = json.loads(file.readline())
            if not isinstance(head, dict) or head.get("format") != _FORMAT["format"]:
                raise StoreError(f"{path} is no export of runs: name a store or a .jsonl.gz export")
            if head.get("schema") != SCHEMA:
                raise StoreError(
                    f"{path} is of version {head.get('schema')}, and this program knows {SCHEMA}: update mdfa"
                )
            for number, line in enumerate(file, start=2):  # noqa: B007 - named below when something is wrong
                content = json.loads(line)
                if "run" in content:
                    record = Record.from_dict(content["run"])
                    keys[written_key(content["run"])] = record.key
                    yield record
                else:  # after all runs
                    note = _Note(**content["note"])
                    yield replace(note, value=_renewed(note.value, keys))
    except StoreError:
        raise
    except MdfaError as error:
        raise StoreError(f"line {number} of {path} cannot be read here: {error}") from None
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged at line {number} ({error}): take another copy of it") from None


def _renewed(value: str, keys: Mapping[str, str]) -> str:
    """A note's text that names runs by the keys they have now."""
    return re.sub(r'"([^"\\]*)"', lambda text: f'"{keys.get(text[1], text[1])}"', value)


def _named(records: tuple[Record, ...]) -> str:
    """The runs, for a message."""
    shown = ", ".join(map(str, records[:3])) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
    return f"the run{'s' * (len(records) > 1)} {shown or 'list'}"


def _advice(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says the cause in more detail
    return _ADVICE.get(code, "name another store, or see what is wrong with its file")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
