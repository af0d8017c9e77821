"""MNIST, read from its four official idx files, compressed (.gz) or not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.download import RemoteFile, download, md5_of, unreadable
from mdfa_core.data.source import (
    ArrayImages,
    Counts,
    DataSet,
    Integers,
    Part,
    Pixels,
    Shape,
    checked_part,
    checksum_finding,
    fixed_shape,
    select,
)

BASE = "https://ossci-datasets.s3.amazonaws.com/mnist"
"""A long-standing mirror. The original server (yann.lecun.com) no longer offers the files."""

_PREFIX = {"train": "train", "test": "t10k"}
_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
OFFICIAL = tuple(RemoteFile(BASE, f"{name}.gz", md5) for name, md5 in _MD5.items())


@final
@dataclass(frozen=True)
class Mnist(DataSet):
    """70,000 handwritten digits, one channel of 28×28, in the official training and test part.

    The files are searched in `mnist/`, `MNIST/raw/` and the data folder itself.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998.
    """

    title: str = "MNIST"
    source: str = "https://yann.lecun.com/exdb/mnist/"
    licence: str = "CC BY-SA 3.0"
    bundled: bool = False
    files: tuple[RemoteFile, ...] = OFFICIAL

    @property
    def counts(self) -> Counts:
        return Counts(classes=10, train=60_000, test=10_000)

    def find(self, data_dir: DataDir) -> Path | None:
        data_dir.check_readable()
        folders = (data_dir.path / "mnist", data_dir.path / "MNIST" / "raw", data_dir.path)
        return next((folder for folder in folders if any(_existing(folder, name) for name in _MD5)), None)

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        folder = self.find(data_dir) or data_dir.path / "mnist"
        for file in self.files:
            name = file.name.removesuffix(".gz")
            existing = _existing(folder, name)
            if data_dir.named:
                if existing is None:
                    data_dir.check_exists()
                    raise DataError(
                        f"{self.title} lacks {folder / file.name}: put the official file there, from {file.base}, "
                        f"or give no data folder to have it downloaded"
                    )
            elif existing is None or (verify and existing.suffix == ".gz" and md5_of(existing) != file.md5):
                download(file, folder, mirror=mirror)

    def shape(self, image_size: int | None) -> Shape:
        return fixed_shape(self.title, (1, 28, 28), image_size)

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        return tuple(str(digit) for digit in range(10))

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        return select(*self._part(data_dir, part), class_ids)

    def check(self, data_dir: DataDir) -> list[str]:
        train, test = (len(self._part(data_dir, part)[1]) for part in ("train", "test"))
        folder = self.find(data_dir)
        found = [_existing(folder, name) for name in _MD5] if folder else []
        official = {file.name: file.md5 for file in self.files}
        unpacked = [path.name for path in found if path and path.suffix != ".gz"]
        changed = [path.name for path in found if path and path.suffix == ".gz" and md5_of(path) != official[path.name]]
        findings = [f"{self.title}: readable, {train} training and {test} test images of 10 classes in {folder}"]
        if changed:
            findings.append(checksum_finding(self.title, changed))
        if unpacked:
            findings.append(f"{self.title}: official checksums exist for .gz files only, not for {', '.join(unpacked)}")
        if not changed and not unpacked:
            findings.append(f"{self.title}: all checksums are the official ones")
        return findings

    def _part(self, data_dir: DataDir, part: str) -> tuple[Pixels, Integers]:
        """Pixels [N, 1, 28, 28] and digits [N] of one part."""
        self.fetch(data_dir)
        folder = self.find(data_dir) or data_dir.path
        path = _path(folder, f"{_PREFIX[part]}-images-idx3-ubyte")
        pixels = read_idx(path, dimensions=3)
        digits = read_idx(_path(folder, f"{_PREFIX[part]}-labels-idx1-ubyte"), dimensions=1).astype(np.int64)
        if pixels.shape[1:] != (28, 28):
            raise DataError(f"{path} has images of {pixels.shape[1]}×{pixels.shape[2]} instead of 28×28: replace it")
        return checked_part(path, pixels[:, None], digits, classes=10)


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _path(folder: Path, name: str) -> Path:
    return _existing(folder, name) or folder / f"{name}.gz"


def read_idx(path: Path, *, dimensions: int) -> Pixels:
    """Read an idx file of unsigned bytes.

    The format: the bytes 0, 0, 8, `dimensions`; each extent as a big-endian 32-bit integer; the array's bytes.

    Args:
        path: the file; decompressed if its name ends in .gz.
        dimensions: number of axes expected.

    Raises:
        DataError: the file is no idx file of bytes, is truncated, or is longer than its header says.
    """
    remedy = "delete it and fetch MNIST again, or put the official file there"
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or corrupt ({error}): {remedy}") from None
    except OSError as error:
        raise unreadable(path, error) from None
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an idx file of bytes in {dimensions} dimensions: {remedy}")
    extents = tuple(int(extent) for extent in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    if len(content) - head != math.prod(extents):
        raise DataError(f"{path} holds {len(content) - head} bytes, but its header says {math.prod(extents)}: {remedy}")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(extents)
