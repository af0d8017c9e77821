"""The file that stores are exchanged in: `.jsonl.gz`, one line of JSON per run and per note, loss-free."""

from __future__ import annotations

import datetime
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mdfa_core.base.errors import InvalidValue, MdfaError, StoreError
from mdfa_core.base.schema import LONGEST, parse_json
from mdfa_core.base.text import shown
from mdfa_core.runs.notes import NOTES, Note, Runs
from mdfa_core.runs.records import Record, written_key

_FORMAT, _VERSION = "mdfa runs", 1  # in the first line of the file

LARGEST = 1 << 31
"""Bytes of an export when it is unpacked; the published one has 15 million for 3,710 runs."""

Dated = tuple[Note, str]
"""A note, and when it was written (UTC, ISO 8601)."""


def write(path: Path, records: Iterable[Record], notes: Iterable[Dated]) -> None:
    """Write a new file; equal contents in equal order give equal bytes.

    Raises:
        OSError: the file exists or cannot be written.
    """
    with path.open("xb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:

        def line(content: Any) -> None:
            file.write(json.dumps(content, sort_keys=True, allow_nan=False).encode() + b"\n")

        line({"format": _FORMAT, "schema": _VERSION})
        for record in records:
            line({"run": record.to_dict()})
        for note, written in notes:
            line({"note": {"kind": note.kind, "name": note.name, "value": note.to_json(), "written": written}})


def read(path: Path) -> Iterator[Record | Dated]:
    """The runs of a file and then its notes.

    Runs that were written before some setting existed have that setting's default; notes name them by their new keys.

    Raises:
        StoreError: the file cannot be read, is not such a file, is damaged, has a value that no run can have, or is
            larger than `LARGEST` when it is unpacked.
    """
    number = 1
    keys: dict[str, str] = {}
    try:
        with gzip.open(path, "rb") as file:
            lines = _lines(file)
            head = parse_json(next(lines, b""))
            if not isinstance(head, dict) or head.get("format") != _FORMAT:
                raise StoreError(f"{path} is no export of runs: name a store or a .jsonl.gz export")
            if head.get("schema") != _VERSION:
                raise StoreError(
                    f"{path} is of version {shown(head.get('schema'))}, and this program knows {_VERSION}: update mdfa"
                )
            for number, line in enumerate(lines, start=2):  # noqa: B007 - the error messages below need it
                content = parse_json(line)
                if "run" in content:
                    record = Record.from_dict(content["run"])
                    keys[written_key(content["run"])] = record.key
                    yield record
                else:  # all runs come before the first note
                    yield _note(content["note"], keys)
    except StoreError:
        raise
    except MdfaError as error:
        raise StoreError(f"line {number} of {path} cannot be read by this program: {error}") from None
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged at line {number} ({shown(str(error))}): use another copy of it") from None


def _lines(file: gzip.GzipFile) -> Iterator[bytes]:
    """The lines of a file, of which only one is in memory.

    Raises:
        ValueError: a line is longer than `LONGEST`, or all together are longer than `LARGEST`: a small file may say
            that it has terabytes.
    """
    size = 0
    while line := file.readline(LONGEST + 1):
        size += len(line)
        if len(line) > LONGEST:
            raise ValueError(f"a line is longer than {LONGEST:,} bytes")
        if size > LARGEST:
            raise ValueError(f"there are more than {LARGEST:,} bytes")
        yield line


def _note(content: dict[str, str], keys: dict[str, str]) -> Dated:
    if set(content) != {"kind", "name", "value", "written"}:
        raise ValueError("a note has a kind, a name, a value and a date")
    note = NOTES[content["kind"]].from_dict(content["name"], parse_json(content["value"]))
    return note.with_runs(renewed(note.runs, keys)), checked_time(content["written"])


def checked_time(text: Any) -> str:
    """The time of a note, if it is written as a store writes it: UTC, ISO 8601. Such texts sort by time.

    Raises:
        InvalidValue: it is written in another way.
    """
    try:
        time = datetime.datetime.fromisoformat(text)
        exact = text in (time.isoformat(timespec="seconds"), time.isoformat(timespec="microseconds"))
    except (TypeError, ValueError):
        exact = False
    if not exact or time.utcoffset() != datetime.timedelta(0):
        raise InvalidValue(f"a note was written at {shown(text)}: give a time such as 2026-01-31T12:00:00+00:00")
    return str(text)


def renewed(runs: Runs, keys: dict[str, str]) -> Runs:
    """The same runs by new keys; `keys` maps an old key to the new one, and other keys stay."""
    return {role: tuple(keys.get(key, key) for key in found) for role, found in runs.items()}
