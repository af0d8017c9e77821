"""CIFAR-10 and CIFAR-100, read from their official Python files by an unpickler that cannot run code."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.download import RemoteFile, download, extract, md5_of, unreadable
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

BASE = "https://www.cs.toronto.edu/~kriz"


@final
@dataclass(frozen=True, kw_only=True)
class Cifar(DataSet):
    """Colour photographs, three channels (RGB) of 32×32, in the official training and test part.

    The files are searched in the folder `folder` of the data folder, and in the data folder itself.

    Attributes:
        classes: number of classes.
        folder: name of the folder in the archive.
        train_files, test_files, meta_file: names of the files in that folder.
        labels_key, names_key: keys of the labels and of the class names in those files.
        archive: the official archive.
        official: MD5 checksum of every file in the archive.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    title: str
    classes: int
    folder: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    meta_file: str
    labels_key: str
    names_key: str
    archive: RemoteFile
    official: dict[str, str] = field(hash=False)
    train_images: int = 50_000
    test_images: int = 10_000
    source: str = f"{BASE}/cifar.html"
    licence: str = "none stated; cite Krizhevsky 2009"
    bundled: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files."""
        return (*self.train_files, *self.test_files, self.meta_file)

    @property
    def counts(self) -> Counts:
        return Counts(classes=self.classes, train=self.train_images, test=self.test_images)

    def find(self, data_dir: DataDir) -> Path | None:
        data_dir.check_readable()
        nested = data_dir.path / self.folder
        if any((nested / name).is_file() for name in self.files):
            return nested
        # Accept the files in the data folder itself only if all are there, since "train" and "test" are common names.
        return data_dir.path if all((data_dir.path / name).is_file() for name in self.files) else None

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        folder = self.find(data_dir) or data_dir.path / self.folder
        missing = [name for name in self.files if not (folder / name).is_file()]
        if data_dir.named:
            if missing:
                data_dir.check_exists()
                raise DataError(
                    f"{self.title} lacks {folder / missing[0]}: unpack {self.archive.address()} into {data_dir.path}, "
                    f"or give no data folder to have it downloaded"
                )
        elif missing or (verify and self._changed(folder)):
            archive = download(self.archive, data_dir.path, mirror=mirror)
            extract(archive, self.folder, self.files, folder)
            archive.unlink(missing_ok=True)

    def shape(self, image_size: int | None) -> Shape:
        return fixed_shape(self.title, (3, 32, 32), image_size)

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        path = self._ready(data_dir) / self.meta_file
        names = read_pickle(path).get(self.names_key)
        if not isinstance(names, list) or [type(name) for name in names] != [str] * self.classes:
            raise DataError(f"{path} does not list {self.classes} class names as {self.names_key!r}: {_REMEDY}")
        return tuple(names)

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> ArrayImages:
        self.shape(image_size)
        return select(*self._part(data_dir, part), class_ids)

    def check(self, data_dir: DataDir) -> list[str]:
        folder = self._ready(data_dir)
        self.list_classes(data_dir)
        train, test = (len(self._part(data_dir, part)[1]) for part in ("train", "test"))
        changed = self._changed(folder)
        counts = f"{train} training and {test} test images of {self.classes} classes"
        findings = [f"{self.title}: readable, {counts} in {folder}"]
        if changed:
            findings.append(checksum_finding(self.title, changed))
        else:
            findings.append(f"{self.title}: all checksums are the official ones")
        return findings

    def _ready(self, data_dir: DataDir) -> Path:
        self.fetch(data_dir)
        return self.find(data_dir) or data_dir.path / self.folder

    def _changed(self, folder: Path) -> list[str]:
        return [name for name in self.files if md5_of(folder / name) != self.official[name]]

    def _part(self, data_dir: DataDir, part: str) -> tuple[Pixels, Integers]:
        """Pixels [N, 3, 32, 32] and class numbers [N] of one part."""
        folder = self._ready(data_dir)
        names = self.test_files if part == "test" else self.train_files
        batches = [self._batch(folder / name) for name in names]
        if len(batches) == 1:
            return batches[0]
        return np.concatenate([pixels for pixels, _ in batches]), np.concatenate([ids for _, ids in batches])

    def _batch(self, path: Path) -> tuple[Pixels, Integers]:
        content = read_pickle(path)
        pixels, labels = content.get("data"), content.get(self.labels_key)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * 32 * 32,):
            raise DataError(f"{path} does not hold rows of {3 * 32 * 32} bytes as 'data': {_REMEDY}")
        if not isinstance(labels, list) or not all(isinstance(label, (int, np.integer)) for label in labels):
            raise DataError(f"{path} does not hold a list of class numbers as {self.labels_key!r}: {_REMEDY}")
        ids = np.asarray(labels, dtype=np.int64)
        return checked_part(path, pixels.reshape(-1, 3, 32, 32), ids, self.classes)


_REMEDY = "delete its folder and fetch the data set again, or unpack the official archive there"


def _allowed() -> dict[tuple[str, str], Any]:
    """The classes and functions that a pickle of byte arrays refers to, by their names in NumPy 1 and 2."""
    reconstruct = np.zeros(1, np.uint8).__reduce__()[0]
    from_buffer = np.zeros(1, np.uint8).__reduce_ex__(5)[0]
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _bytes_dtype,
        ("_codecs", "encode"): _encode,
    }
    for package in ("numpy.core", "numpy._core"):
        allowed[f"{package}.multiarray", "_reconstruct"] = reconstruct
        allowed[f"{package}.numeric", "_frombuffer"] = from_buffer
    return allowed


def _bytes_dtype(name: str, *_: object) -> np.dtype[np.uint8]:
    """NumPy's own uint8 dtype, so that a file cannot set a dtype's state: a forged one could crash NumPy."""
    if name != "u1":
        raise pickle.UnpicklingError(f"it holds an array of {name!r} instead of bytes")
    return np.dtype(np.uint8)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 pickles them for Python 2, in latin1. Other codecs are refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes encoded in {encoding}")
    return text.encode("latin1")


_ALLOWED = _allowed()


class _ArrayUnpickler(pickle.Unpickler):
    """Loads plain containers and arrays of bytes only. A pickle that refers to anything else is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not allowed") from None


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a dictionary from a pickle file of Python 2 or 3 without running code from the file.

    The dictionary may hold plain containers and arrays of bytes.

    Raises:
        DataError: the file is unreadable, truncated or corrupt, is no dictionary, or holds other objects.
    """
    try:
        with path.open("rb") as file:
            # latin1: the official files were pickled by Python 2
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise unreadable(path, error) from None
    except Exception as error:  # a corrupt pickle can raise anything
        raise DataError(f"{path} is truncated or corrupt ({error}): {_REMEDY}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} instead of a dictionary: {_REMEDY}")
    return content


CIFAR10 = Cifar(
    title="CIFAR-10",
    classes=10,
    folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test_files=("test_batch",),
    meta_file="batches.meta",
    labels_key="labels",
    names_key="label_names",
    archive=RemoteFile(BASE, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    official={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)

CIFAR100 = Cifar(
    title="CIFAR-100",
    classes=100,
    folder="cifar-100-python",
    train_files=("train",),
    test_files=("test",),
    meta_file="meta",
    labels_key="fine_labels",
    names_key="fine_label_names",
    archive=RemoteFile(BASE, "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    official={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
)
