"""Checkpoint files: everything a run needs to continue bit for bit, written atomically, and checked when read.

A file is what `torch.save` writes, followed by one line with the SHA-256 of all bytes before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from mdfa_core.base.errors import CheckpointError, InvalidValue, UnknownName
from mdfa_core.base.schema import check
from mdfa_core.training.experiment import Experiment

FORMAT = 3
"""Number of the file format. Format 2, without the line of the checksum, is read, too; other formats are refused."""

_LINE = re.compile(rb"\nsha256 ([0-9a-f]{64})\n\Z")
_LINE_LENGTH = 73
_LOCKED_WITHIN = 60.0  # seconds; an empty file that is younger may be about to be locked by its process


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        experiments: one per replica.
        checksums: of each replica's task, to detect other data.
        test: whether the run evaluates the test set at its end.
        state: the entries of `Run.state`: numbers, tensors, and events as lines of JSON.
    """

    experiments: tuple[Experiment, ...]
    checksums: tuple[str, ...]
    test: bool
    state: dict[str, Any]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file. A file already at this path is replaced only once the new one is complete.

        Raises:
            CheckpointError: the file cannot be written; a file that was there before is unchanged.
        """
        content = {
            "format": FORMAT,
            "experiments": [experiment.to_json() for experiment in self.experiments],
            "data checksums": list(self.checksums),
            "test": self.test,
            **self.state,
        }
        target = Path(os.path.realpath(path))  # a link goes on pointing to the file
        refuse_special(target)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("xb") as file, _held(file):
                write_content(content, file)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(target)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            kept = "the previous checkpoint is untouched" if target.exists() else "nothing was written"
            raise CheckpointError(
                f"the checkpoint {target} cannot be written ({reason}): {kept}; free some space or choose another path"
            ) from error
        finally:  # the temporary file still exists only after an error or an interrupt
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        _remove_leftovers(target)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a file that `write` wrote.

        Raises:
            CheckpointError: there is no such file, or the file is damaged or no checkpoint of this format.
        """
        content = _content(path)
        try:
            texts, checksums, test = content["experiments"], content["data checksums"], content["test"]
            for value in (texts, checksums):
                check(tuple(value) if isinstance(value, list) else value, tuple[str, ...], "the list of replicas")
            check(test, bool, "test")
            experiments = tuple(map(Experiment.from_json, texts))
        except (InvalidValue, UnknownName, KeyError) as error:
            raise damaged(path, str(error)) from error
        if not experiments or len(checksums) != len(experiments):
            raise damaged(path, f"{len(experiments)} experiments and {len(checksums)} checksums")
        return cls(experiments=experiments, checksums=tuple(checksums), test=test, state=content)


def refuse_special(target: Path) -> None:
    """Refuse to replace anything but a file.

    Raises:
        CheckpointError: there is a folder, a device or a pipe at the path.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise CheckpointError(f"{target} is no file, and a checkpoint would replace it: give the path of a file")


def write_content(content: dict[str, Any], file: BinaryIO) -> None:
    """Write the entries of a checkpoint and the line with their checksum."""
    hashing = _Hashing(file)
    torch.save(content, cast("IO[bytes]", hashing))
    file.write(b"\nsha256 " + hashing.digest.hexdigest().encode() + b"\n")


class _Hashing:
    """A file that is written to, and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        return self.file.write(part)

    def flush(self) -> None:
        self.file.flush()


def _content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The entries of a checkpoint file; nothing in them is checked but the format."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for ever
            raise CheckpointError(f"{path} is no file: give the path of a checkpoint that was saved")
        with open(path, "rb") as file:
            stored = _stored_checksum(file)
            if stored is not None and stored != _checksum(file):
                raise damaged(path, "its checksum is wrong")
            # What torch.save writes is not compressed: an archive never takes more memory than its file has bytes.
            if any(member.compress_type != zipfile.ZIP_STORED for member in zipfile.ZipFile(file).infolist()):
                raise damaged(path, "a part is compressed")
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}: give the path of one that was saved") from None
    except Exception as error:  # torch.load raises many kinds of errors, for example of zip and pickle
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): give an undamaged file of `Run.save` or "
            "`mdfa train --save`"
        ) from error
    number = content.get("format") if isinstance(content, dict) else None
    if type(number) is not int or number not in (2, FORMAT):
        raise CheckpointError(f"{path} is no checkpoint of format {FORMAT}: save the run again with this version")
    if number == FORMAT and stored is None:
        raise damaged(path, "its checksum is missing")
    return content


def _stored_checksum(file: BinaryIO) -> str | None:
    """The checksum at the end of a file, if there is one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LINE_LENGTH))
    line = _LINE.match(file.read())
    return None if line is None else line[1].decode()


def _checksum(file: BinaryIO) -> str:
    """SHA-256 of a file without its last line."""
    rest, digest = file.seek(0, os.SEEK_END) - _LINE_LENGTH, hashlib.sha256()
    file.seek(0)
    while rest > 0 and (part := file.read(min(rest, 1 << 20))):
        digest.update(part)
        rest -= len(part)
    return digest.hexdigest()


@contextlib.contextmanager
def _held(file: BinaryIO) -> Iterator[None]:
    """Lock a temporary file until it has its final name, so that no other save takes it for a leftover."""
    with contextlib.suppress(ImportError, OSError):  # not on Windows, nor on every network file system
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _remove_leftovers(target: Path) -> None:
    """Remove temporary files that saves to this path left when they were killed.

    The lock on such a file ended with its process. A file that another process is writing is locked, and stays.
    """
    try:
        import fcntl
    except ImportError:
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}")
    with contextlib.suppress(OSError):  # a leftover that cannot be removed does no harm
        for name in filter(ours.fullmatch, os.listdir(target.parent)):
            with contextlib.suppress(OSError), (target.parent / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = os.fstat(file.fileno())
                if found.st_size or found.st_mtime < time.time() - _LOCKED_WITHIN:
                    (target.parent / name).unlink(missing_ok=True)


def damaged(path: str | os.PathLike[str], reason: str) -> CheckpointError:
    """The error for a checkpoint whose entries are missing or do not fit each other."""
    reason = " ".join(reason.split())
    return CheckpointError(
        f"the checkpoint {path} lacks a part, or a part is damaged ({reason}): take an earlier checkpoint"
    )
