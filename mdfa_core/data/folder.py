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

from mdfa_core.data.download import unreadable
from mdfa_core.data.images import EXTENSIONS, read_image
from mdfa_core.data.places import Place
from mdfa_core.data.source import DataSet, Facts, Images, Integers, Part, Pixels, Shape
from mdfa_core.errors import DataError

DEFAULT_SIZE = 224
"""Pixels a side, as in the paper's ImageNet networks (appendix B)."""

_FOLDERS = {"train": "train", "test": "val"}
_STRIDE = 10**9
_THREADS = min(8, os.cpu_count() or 1)


@final
@dataclass(frozen=True, eq=False)
class FileImages(Images):
    """Images that are decoded when they are read, by a few threads.

    Attributes:
        root: the folder the names are relative to.
        names: N file names with `/` between folders.
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

        # Threads suffice: Pillow decodes outside the interpreter lock. At the first error, `map` drops what waits.
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(decode, range(len(rows))):
                pass
        return pixels

    def identify(self, rows: Integers, digest: Any) -> None:
        """Names and sizes of the files, and the image size: reading all files could take hours."""
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
    """Any image folder in ImageNet's layout, at any size; ILSVRC-2012 itself is one.

    The folder is the data folder itself if it holds `train/` and `val/`, else the only folder in it that does. The
    classes are the folders in `train/`, sorted by name; `words.txt` (`name<tab>words` a line) may give them readable
    names. Pixels are made as `images.read_image` says.

    The `val/` folder is the **test** part: ImageNet's test labels are not public, so the paper reports the accuracy on
    its validation images (section 4). A task's validation images are taken from `train/`, as everywhere.

    The index of an image is class number · 10⁹ + its position among the sorted file names of its class.
    """

    title: str = "image folder"
    source: str = "https://www.image-net.org/challenges/LSVRC/2012/"
    licence: str = "that of the images (ImageNet: non-commercial research and education)"
    bundled: bool = False
    downloads: ClassVar[bool] = False

    @property
    def facts(self) -> Facts:
        return Facts(classes=None, train=None, test=None)

    def find(self, place: Place) -> Path | None:
        place.look()
        if _is_root(place.folder):
            return place.folder
        found = [folder for folder in _subfolders(place.folder) if _is_root(folder)] if place.folder.is_dir() else []
        if len(found) > 1:
            raise DataError(
                f"{place.folder} holds several image folders ({', '.join(folder.name for folder in found)}): "
                f"name the one to use as the data folder"
            )
        return found[0] if found else None

    def fetch(self, place: Place, *, verify: bool = False, mirror: str | None = None) -> None:
        self._root(place)

    def shape(self, image_size: int | None) -> Shape:
        size = DEFAULT_SIZE if image_size is None else image_size
        return 3, size, size

    def list_classes(self, place: Place) -> tuple[str, ...]:
        root = self._root(place)
        folders = _classes(root)
        words = _words(root / "words.txt")
        names = [words.get(folder, folder) for folder in folders]
        shared = Counter(names)  # ImageNet has two classes "crane": tell such apart
        return tuple(
            f"{name} ({folder})" if shared[name] > 1 else name for folder, name in zip(folders, names, strict=True)
        )

    def images(self, place: Place, part: Part, class_ids: Sequence[int], image_size: int | None) -> FileImages:
        root = self._root(place)
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

    def check(self, place: Place) -> list[str]:
        """Decode every image of both parts; on ImageNet as a whole this takes hours."""
        root = self._root(place)
        everything = range(len(_classes(root)))
        counts = []
        for part in ("train", "test"):
            images = self.images(place, part, everything, DEFAULT_SIZE)
            for start in range(0, len(images), 256):
                images.read(np.arange(start, min(start + 256, len(images))))
            counts.append(len(images))
        return [
            f"{self.title}: readable, {counts[0]} training and {counts[1]} test images (from val/) of "
            f"{len(everything)} classes in {root}; there are no official checksums to compare with"
        ]

    def _root(self, place: Place) -> Path:
        root = self.find(place)
        if root is None:
            place.require()
            raise DataError(
                f"{place.folder} holds no image folder: put train/<class>/*.JPEG and val/<class>/*.JPEG there or into "
                f"one folder in it, or name another data folder (image folders are not downloaded)"
            )
        return root


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _FOLDERS.values())


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted by name; hidden ones are left out."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise unreadable(folder, error) from None


def _classes(root: Path) -> list[str]:
    """Names of the class folders, the same in both parts.

    Raises:
        DataError: there are fewer than two, or a class is in one part only.
    """
    train, test = ([folder.name for folder in _subfolders(root / name)] for name in _FOLDERS.values())
    if train != test:
        name = min(set(train) ^ set(test))
        have, lack = ("train", "val") if name in train else ("val", "train")
        raise DataError(f"{root / have / name} is a class without a folder {root / lack / name}: add or remove one")
    if len(train) < 2:
        raise DataError(f"{root / 'train'} holds {len(train)} class folders: at least two are needed, so add some")
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
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()  # some editors begin with a mark
    except OSError as error:
        raise unreadable(path, error) from None
    pairs = (line.partition("\t") for line in lines)
    return {name.strip(): words.strip() for name, _, words in pairs if words.strip()}
