"""Image folders in the layout of ILSVRC-2012 (ImageNet): `train/<class>/*.JPEG`, `val/<class>/*.JPEG`, `words.txt`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import DataDir
from mdfa_core.data.download import unreadable
from mdfa_core.data.images import EXTENSIONS, read_image
from mdfa_core.data.source import Counts, DataSet, Images, Integers, Part, Pixels, Shape

DEFAULT_SIZE = 224
"""Pixels a side; the size of the paper's ImageNet networks (appendix B)."""

_FOLDERS = {"train": "train", "test": "val"}
_STRIDE = 10**9
_THREADS = min(8, os.cpu_count() or 1)


@final
@dataclass(frozen=True, eq=False)
class FileImages(Images):
    """Image files that are decoded, by several threads, when they are read.

    Attributes:
        root: the folder that `names` are relative to.
        names: N file names, with `/` between folders.
        size: pixels a side.
    """

    root: Path
    names: tuple[str, ...]
    class_ids: Integers
    indices: Integers
    size: int

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """(3, size, size)."""
        return 3, self.size, self.size

    def read(self, rows: Integers) -> Pixels:
        pixels = np.empty((len(rows), *self.shape), dtype=np.uint8)

        def decode(position: int) -> None:
            pixels[position] = read_image(self.root / self.names[rows[position]], self.size)

        # Pillow decodes outside the interpreter lock, so threads suffice. At the first error, `map` cancels the rest.
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(decode, range(len(rows))):
                pass
        return pixels

    def identify(self, rows: Integers, digest: Any) -> None:
        """Feeds file names, file sizes and the image size to `digest`: reading all files could take hours."""
        for row in rows:
            path = self.root / self.names[row]
            try:
                length = path.stat().st_size
            except OSError as error:
                raise unreadable(path, error) from None
            digest.update(f"{self.names[row]}\0{length}\0{self.size}\n".encode())


@final
@dataclass(frozen=True)
class ImageFolder(DataSet):
    """An image folder in ImageNet's layout, such as ILSVRC-2012 itself, at any image size.

    The image folder is the data folder if that holds `train/` and `val/`, else the only subfolder that does. Classes
    are the folders in `train/`, sorted by name. The optional file `words.txt` gives them readable names, one
    `name<tab>words` per line. `images.read_image` describes how pixels are computed.

    The `val/` folder is the **test** part: ImageNet's test labels are not public, so the paper reports the accuracy on
    the validation images (section 4). The validation split of a task is drawn from `train/`, as for all data sets.

    The index of an image is its class number · 10⁹ + its position among the sorted file names of its class.
    """

    title: str = "image folder"
    source: str = "https://www.image-net.org/challenges/LSVRC/2012/"
    licence: str = "that of the images (ImageNet: non-commercial research and education)"
    bundled: bool = False
    downloads: ClassVar[bool] = False

    @property
    def counts(self) -> Counts:
        return Counts(classes=None, train=None, test=None)

    def find(self, data_dir: DataDir) -> Path | None:
        data_dir.check_readable()
        if _is_root(data_dir.path):
            return data_dir.path
        found = [folder for folder in _subfolders(data_dir.path) if _is_root(folder)] if data_dir.path.is_dir() else []
        if len(found) > 1:
            raise DataError(
                f"{data_dir.path} holds several image folders ({', '.join(folder.name for folder in found)}): "
                f"give the one to use as the data folder"
            )
        return found[0] if found else None

    def fetch(self, data_dir: DataDir, *, verify: bool = False, mirror: str | None = None) -> None:
        self._root(data_dir)

    def shape(self, image_size: int | None) -> Shape:
        size = DEFAULT_SIZE if image_size is None else image_size
        return 3, size, size

    def list_classes(self, data_dir: DataDir) -> tuple[str, ...]:
        root = self._root(data_dir)
        folders = _classes(root)
        words = _words(root / "words.txt")
        names = [words.get(folder, folder) for folder in folders]
        shared = Counter(names)  # ImageNet has two classes called "crane"
        return tuple(
            f"{name} ({folder})" if shared[name] > 1 else name for folder, name in zip(folders, names, strict=True)
        )

    def images(self, data_dir: DataDir, part: Part, class_ids: Sequence[int], image_size: int | None) -> FileImages:
        root = self._root(data_dir)
        folders = _classes(root)
        names: list[str] = []
        ids: list[int] = []
        indices: list[int] = []
        for class_id in sorted(class_ids):
            folder = f"{_FOLDERS[part]}/{folders[class_id]}"
            files = _image_names(root / folder)
            names.extend(f"{folder}/{file}" for file in files)
            ids.extend([class_id] * len(files))
            indices.extend(class_id * _STRIDE + position for position in range(len(files)))
        size = self.shape(image_size)[1]
        return FileImages(root, tuple(names), np.array(ids, np.int64), np.array(indices, np.int64), size)

    def check(self, data_dir: DataDir) -> list[str]:
        """Decodes every image of both parts. The whole of ImageNet takes hours."""
        root = self._root(data_dir)
        everything = range(len(_classes(root)))
        counts = []
        for part in ("train", "test"):
            images = self.images(data_dir, part, everything, DEFAULT_SIZE)
            for start in range(0, len(images), 256):
                images.read(np.arange(start, min(start + 256, len(images))))
            counts.append(len(images))
        return [
            f"{self.title}: readable, {counts[0]} training and {counts[1]} test images (from val/) of "
            f"{len(everything)} classes in {root}; there are no official checksums to compare with"
        ]

    def _root(self, data_dir: DataDir) -> Path:
        root = self.find(data_dir)
        if root is None:
            data_dir.check_exists()
            raise DataError(
                f"{data_dir.path} holds no image folder: put train/<class>/*.JPEG and val/<class>/*.JPEG there or into "
                f"one subfolder, or give another data folder (image folders are not downloaded)"
            )
        return root


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _FOLDERS.values())


def _subfolders(folder: Path) -> list[Path]:
    """The subfolders of a folder except hidden ones, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None


def _classes(root: Path) -> list[str]:
    """Names of the class folders, which must be the same in both parts.

    Raises:
        DataError: there are fewer than two classes, or a class is in one part only.
    """
    train, test = ([folder.name for folder in _subfolders(root / name)] for name in _FOLDERS.values())
    if train != test:
        name = min(set(train) ^ set(test))
        have, lack = ("train", "val") if name in train else ("val", "train")
        raise DataError(f"the class {root / have / name} has no folder {root / lack / name}: add it, or remove one")
    if len(train) < 2:
        raise DataError(f"{root / 'train'} holds {len(train)} class folders: give at least two")
    return train


def _image_names(folder: Path) -> list[str]:
    try:
        entries = os.listdir(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    names = sorted(
        name for name in entries if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
    )
    if not names:
        raise DataError(f"{folder} holds no image: put images there, or remove the class from train/ and val/")
    return names


def _words(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise unreadable(path, error) from None
    pairs = (line.partition("\t") for line in lines)
    return {name.strip(): words.strip() for name, _, words in pairs if words.strip()}
