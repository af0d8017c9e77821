"""Official files from the network: checked before they take their place, so that a half download never does."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests  # what pooch downloads with: its errors are met here
from tqdm import tqdm

from mdfa_core.errors import DataError

MIRROR_VARIABLE = "MDFA_MIRROR"


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server: its folder's address, its name there, and the MD5 checksum (hexadecimal) it must have."""

    base: str
    name: str
    md5: str

    def address(self, mirror: str | None = None) -> str:
        """The address in the folder `mirror`, else in the folder MDFA_MIRROR names, else in the official one."""
        return f"{(mirror or os.environ.get(MIRROR_VARIABLE) or self.base).rstrip('/')}/{self.name}"


def md5_of(path: Path) -> str:
    """Hexadecimal MD5 checksum of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Not for security: MD5 is what the publishers of these files give.
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file the operating system does not give."""
    return DataError(f"cannot read {path} ({error.strerror or error}): put the file there and make it readable")


def download(file: RemoteFile, folder: Path, *, mirror: str | None = None) -> Path:
    """Download `file` into `folder` unless it is there with the right checksum already.

    The download goes to a temporary file beside the final one and is renamed only once its checksum is right; a
    failure leaves what was there before.

    Raises:
        DataError: no connection, not on the server, broken off, or not the official file; nothing is kept of it.
    """
    address = file.address(mirror)
    remedy = f"try again, set {MIRROR_VARIABLE} to another copy's address, or put {file.name} into {folder} by hand"
    try:
        path = pooch.retrieve(address, f"md5:{file.md5}", fname=file.name, path=folder, downloader=_stream)
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
        raise DataError(
            f"cannot download {address}: give an http(s) address in {MIRROR_VARIABLE}, or put {file.name} into "
            f"{folder} by hand"
        ) from None
    except requests.RequestException as error:
        raise DataError(f"cannot download {address} ({_reason(error)}): {remedy}") from None
    except ValueError:  # pooch's word for a wrong checksum
        raise DataError(
            f"what {address} sent is not the official file (its MD5 is not {file.md5}), nothing was kept of it: "
            f"{remedy}"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot write {folder / file.name} ({error.strerror or error}): make room, or make {folder} writable"
        ) from None
    return Path(path)


def _stream(address: str, target: str, _: object) -> None:
    """A downloader for pooch: write what `address` sends to the file `target`, and close the connection in any case."""
    # Not compressed once more on the way: the checksum is that of the file.
    with requests.get(address, stream=True, timeout=30, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        total = int(response.headers.get("Content-Length", 0)) or None
        name = address.rpartition("/")[2]
        with (
            open(target, "wb") as file,
            tqdm(desc=name, total=total, unit="B", unit_scale=True, disable=None) as bar,  # None: on terminals only
        ):
            for piece in response.iter_content(2**16):
                file.write(piece)
                bar.update(len(piece))


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off in the middle"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate cannot be verified"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def extract(archive: Path, folder: str, names: Iterable[str], into: Path) -> None:
    """Take the files `names` of the top folder `folder` out of a .tar.gz `archive` and put them into `into`.

    Only the named regular files are taken, each is written beside its place and renamed, so that no path or link in the
    archive matters and no half-written file remains.

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
                    raise DataError(f"{archive} has no file in place of {folder}/{name}: {remedy}")
                with content, open(Path(temporary, name), "wb") as file:
                    shutil.copyfileobj(content, file)
            for name in names:  # only when everything is out: a set is replaced as a whole
                os.replace(Path(temporary, name), into / name)
    except KeyError:
        raise DataError(f"{archive} does not hold {folder}/{name}: {remedy}") from None
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is not a readable archive ({error}): {remedy}") from None
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {into} ({error.strerror or error}): make room there") from None
