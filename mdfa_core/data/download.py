"""Download official files and check them before they are used, so that a partial download is never read."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mdfa_core.base.errors import DataError

if TYPE_CHECKING:
    from requests import RequestException

MIRROR_VARIABLE = "MDFA_MIRROR"

PAUSES = (1, 2, 4, 8)
"""Seconds to wait before the next tries of a download that broke off. New bytes start the row anew."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Attributes:
        base: address of the folder that holds it.
        name: its name in that folder.
        md5: the hexadecimal MD5 checksum it must have.
    """

    base: str
    name: str
    md5: str

    def address(self, mirror: str | None = None) -> str:
        """Its address: in the folder `mirror`, else in the folder given by MDFA_MIRROR, else in `base`."""
        return f"{(mirror or os.environ.get(MIRROR_VARIABLE) or self.base).rstrip('/')}/{self.name}"


def md5_of(path: Path) -> str:
    """The hexadecimal MD5 checksum of a file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Not for security: the publishers of these files give MD5 checksums.
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that the operating system cannot read."""
    return DataError(f"cannot read {path} ({error.strerror or error}): put the file there and make it readable")


def download(file: RemoteFile, folder: Path, *, mirror: str | None = None) -> Path:
    """Download `file` into `folder`, unless a copy with the right checksum is there, and return its path.

    The download goes to a temporary file, which is renamed after its checksum was found right. A failed download
    changes nothing. If the connection breaks off, the download goes on from there, after a pause, a few times.

    Args:
        file: the file.
        folder: where to put it.
        mirror: see `RemoteFile.address`.

    Raises:
        DataError: there is no connection, the server does not have the file, the connection broke off, the checksum is
            wrong, or the file cannot be written.
    """
    import pooch  # imported late: only downloads need it
    import requests  # pooch downloads with requests, whose errors are handled here

    address = file.address(mirror)
    shown = without_password(address)
    pooch.get_logger().setLevel("WARNING")  # it would print the address with its password
    remedy = f"try again, set {MIRROR_VARIABLE} to the address of a mirror, or put {file.name} into {folder} by hand"
    try:
        path = pooch.retrieve(address, f"md5:{file.md5}", fname=file.name, path=folder, downloader=_stream)
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
        raise DataError(
            f"cannot download {shown}: give an http(s) address in {MIRROR_VARIABLE}, or put {file.name} into "
            f"{folder} by hand"
        ) from None
    except requests.RequestException as error:
        raise DataError(f"cannot download {shown} ({_reason(error)}): {remedy}") from None
    except ValueError:  # how pooch reports a wrong checksum
        raise DataError(
            f"{shown} did not send the official file (its MD5 is not {file.md5}), so the download was discarded: "
            f"{remedy}"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot write {folder / file.name} ({error.strerror or error}): free some space, or make {folder} writable"
        ) from None
    return Path(path)


def _stream(address: str, target: str, _: object) -> None:
    """A downloader for pooch: save `address` to the file `target`, and go on if the connection breaks off."""
    import requests
    from tqdm import tqdm

    name, pauses = address.rpartition("/")[2], iter(PAUSES)
    with (
        open(target, "wb") as file,
        tqdm(desc=name, unit="B", unit_scale=True, disable=None) as bar,  # None: on terminals only
    ):
        while True:
            before = file.tell()
            try:
                _append(address, file, bar)
                return
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError, requests.Timeout):
                pause = next(pauses, None)
                if pause is None or file.tell() == 0:  # a server that never sent anything
                    raise
                if file.tell() > before:
                    pauses = iter(PAUSES)
                time.sleep(pause)


def _append(address: str, file: BinaryIO, bar: Any) -> None:
    """Request what a file lacks, and append it; start anew if the server sends whole files only."""
    import requests

    # Ask for no extra compression on the way: the checksum belongs to the file itself.
    headers = {"Accept-Encoding": "identity"}
    if file.tell():
        headers["Range"] = f"bytes={file.tell()}-"
    with requests.get(address, stream=True, timeout=30, headers=headers) as response:
        response.raise_for_status()
        if file.tell() and response.status_code != requests.codes.partial_content:
            file.seek(0)
            file.truncate()
            bar.reset()
        bar.total = file.tell() + int(response.headers.get("Content-Length", 0)) or None
        for piece in response.iter_content(2**16):
            file.write(piece)
            bar.update(len(piece))


def without_password(address: str) -> str:
    """An address without a user's name, password and query, for messages.

    The address may be wrong in any way, so it is not parsed: everything between its scheme and its last @ goes.
    """
    scheme, _, rest = address.partition("://")
    if not scheme.isalpha():
        scheme, rest = "", address
    shown, _, query = rest.rpartition("@")[2].partition("?")
    return f"{scheme}://{shown}"[0 if scheme else 3 :] + ("?…" if query else "")


def _reason(error: RequestException) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate cannot be verified"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def extract(archive: Path, folder: str, names: Iterable[str], into: Path) -> None:
    """Extract files from a .tar.gz archive.

    Only regular files with the given names are extracted, to a temporary folder first. So paths and links in the
    archive have no effect, and no half-written file remains.

    Args:
        archive: the archive.
        folder: the top folder of the archive.
        names: names of files in that folder.
        into: folder to put the files into.

    Raises:
        DataError: the archive is broken or lacks a file, or the files cannot be written.
    """
    remedy = "delete it and fetch the data set again"
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".unpacking-") as temporary, tarfile.open(archive) as tar:
            for name in names:
                content = tar.extractfile(f"{folder}/{name}")
                if content is None:
                    raise DataError(f"{folder}/{name} in {archive} is not a regular file: {remedy}")
                with content, open(Path(temporary, name), "wb") as file:
                    shutil.copyfileobj(content, file)
            for name in names:  # after all are extracted, so that the files are replaced together
                os.replace(Path(temporary, name), into / name)
    except KeyError:
        raise DataError(f"{archive} does not hold {folder}/{name}: {remedy}") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is not a readable archive ({error}): {remedy}") from None
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {into} ({error.strerror or error}): free some space") from None
