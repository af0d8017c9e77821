"""Slices of data sets: only the images of the classes that some tasks need, in files that fit through a narrow door.

`write` makes folders `part-1`, `part-2`, … of at most a given size. Each has an archive per class (.tar.xz) and
`slice.json`: the names of all classes, and the checksum of every task. `read` makes a data folder of the parts that are
there. The images are the same bit by bit: photographs of CIFAR are kept as lossless WebP, image folders' files as they
are.
"""

from __future__ import annotations

import io
import json
import lzma
import pickle
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mdfa_core.base.errors import DataError
from mdfa_core.base.rng import class_choice
from mdfa_core.data import DATASETS
from mdfa_core.data.cifar import Cifar
from mdfa_core.data.data_dir import DataDir, find_data_dir
from mdfa_core.data.image_folder import FileImages, ImageFolder
from mdfa_core.data.source import DataSet, Part, Pixels
from mdfa_core.runs.workers import task_summary
from mdfa_core.training.experiment import Experiment

INDEX, SUFFIX = "slice.json", ".tar.xz"
SHEET, POSITIONS = "images.webp", "positions.json"
COLUMNS = 20  # of the sheet that holds a class's images: WebP allows 16,383 pixels a side
IMAGES = "images"  # the image folder in a data folder that `read` makes
PARTS: tuple[Part, Part] = ("train", "test")


def task_name(experiment: Experiment) -> str:
    """The experiment's task in a slice's list of checksums."""
    size = "" if experiment.image_size is None else f" at {experiment.image_size}"
    return f"{experiment.data}{size}, {experiment.classes} classes, task {experiment.effective_task_seed}"


@dataclass(frozen=True)
class Slice:
    """The data folder that was made of a slice.

    Attributes:
        data_dir: the folder.
        classes: names of all classes, by data set.
        present: numbers of the classes that are there, by data set.
        checksums: of the tasks, by `task_name`, where the slice was written.
    """

    data_dir: Path
    classes: dict[str, list[str]]
    present: dict[str, set[int]]
    checksums: dict[str, str]

    def has(self, experiment: Experiment) -> bool:
        """Whether all images of the experiment's task are there."""
        classes = self.classes.get(experiment.data)
        if classes is None or task_name(experiment) not in self.checksums:
            return False
        return set(_class_ids(experiment, len(classes))) <= self.present[experiment.data]

    def check(self, experiment: Experiment) -> None:
        """Check that the task's images are those of the machine that wrote the slice.

        Raises:
            DataError: they are not.
        """
        if task_summary(experiment, str(self.data_dir)).checksum != self.checksums[task_name(experiment)]:
            raise DataError(
                f"the images of {task_name(experiment)} are not those that the slice was made of: use the version of "
                f"Pillow that made it, or write it again"
            )


def write(tasks: Iterable[Experiment], folder: Path, *, data_dir: str, limit: int) -> list[tuple[Path, int]]:
    """Write the classes of some tasks, those of earlier tasks first; returns the parts and their sizes in bytes.

    Args:
        tasks: one experiment per task.
        folder: is made, or is empty.
        data_dir: the folder with the data sets.
        limit: bytes of a part.

    Raises:
        DataError: the folder has files already, or a class is larger than a part.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"the folder {folder} has files already: name another")
    source = find_data_dir(data_dir)
    wanted = list(dict.fromkeys(tasks))
    classes = {name: _class_names(name, source) for name in dict.fromkeys(task.data for task in wanted)}
    index = {
        "classes": classes,
        "checksums": {task_name(task): task_summary(task, data_dir).checksum for task in wanted},
    }
    text = json.dumps(index)
    done: set[tuple[str, int]] = set()
    parts: list[tuple[Path, int]] = []
    for task in wanted:
        for number in _class_ids(task, len(classes[task.data])):
            if (task.data, number) in done:
                continue
            done.add((task.data, number))
            content = _archived(task.data, number, source)
            if len(content) + len(text) > limit:
                raise DataError(f"a class has {len(content):,} bytes, and a part {limit:,}: allow larger parts")
            if not parts or parts[-1][1] + len(content) > limit:
                part = folder / f"part-{len(parts) + 1}"
                part.mkdir(parents=True)
                (part / INDEX).write_text(text, encoding="utf-8")
                parts.append((part, len(text.encode())))
            part, size = parts[-1]
            (part / f"{task.data}-{number}{SUFFIX}").write_bytes(content)
            parts[-1] = part, size + len(content)
    return parts


def is_slice(folder: Path) -> bool:
    """Whether a folder has at least one part of a slice."""
    return any(folder.glob(f"**/{INDEX}"))


def read(folder: Path, to: Path) -> Slice:
    """Make a data folder of the parts in a folder.

    Raises:
        DataError: a file is damaged.
    """
    indexes = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"**/{INDEX}"))]
    classes = {name: names for index in indexes for name, names in index["classes"].items()}
    checksums = {name: value for index in indexes for name, value in index["checksums"].items()}
    present: dict[str, set[int]] = {name: set() for name in classes}
    rows: dict[str, list[_Row]] = {}
    try:
        for name, names in classes.items():
            if isinstance(DATASETS[name], ImageFolder):
                for part in ("train", "val"):
                    for class_name in names:
                        (to / IMAGES / part / class_name).mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"**/*{SUFFIX}")):
            name, _, number = path.name.removesuffix(SUFFIX).rpartition("-")
            present[name].add(int(number))
            with tarfile.open(path) as archive:
                if isinstance(DATASETS[name], ImageFolder):
                    archive.extractall(to / IMAGES, filter="data")
                else:
                    rows.setdefault(name, []).extend(_rows(archive, int(number), DATASETS[name]))
        for name, found in rows.items():
            _write_cifar(DATASETS[name], classes[name], found, to)
    except (OSError, EOFError, KeyError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        raise DataError(f"the slice in {folder} is damaged ({error}): write it again") from None
    return Slice(data_dir=to, classes=classes, present=present, checksums=checksums)


def _class_ids(experiment: Experiment, of: int) -> tuple[int, ...]:
    return class_choice(experiment.effective_task_seed, experiment.classes, of)


def _class_names(name: str, source: DataDir) -> list[str]:
    data = DATASETS[name]
    if isinstance(data, ImageFolder):  # its folders, which decide the order of classes
        root = data.find(source)
        return sorted(path.name for path in (root / "train").iterdir() if path.is_dir()) if root else []
    return list(data.list_classes(source))


def _archived(name: str, number: int, source: DataDir) -> bytes:
    """A class's images of both parts as an archive. Headers that files have in common are compressed once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)  # without owner and time
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        found = {part: DATASETS[name].images(source, part, [number], None) for part in PARTS}
        if isinstance(DATASETS[name], ImageFolder):
            for images in found.values():
                assert isinstance(images, FileImages)
                for file in images.names:
                    add(file, (images.root / file).read_bytes())
        else:
            sheet = io.BytesIO()
            everything = np.concatenate([images.read(np.arange(len(images))) for images in found.values()])
            Image.fromarray(_sheet(everything)).save(sheet, "WEBP", lossless=True, method=4)
            add(SHEET, sheet.getvalue())
            add(POSITIONS, json.dumps({part: images.indices.tolist() for part, images in found.items()}).encode())
    return buffer.getvalue()


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    with file:
        return file.read()


def _sheet(pixels: Pixels) -> Pixels:
    """Images [N, 3, H, W] side by side in rows of `COLUMNS`: [rows · H, COLUMNS · W, 3]."""
    _, channels, height, width = pixels.shape
    rows = -(-len(pixels) // COLUMNS)
    padded = np.zeros((rows * COLUMNS, channels, height, width), np.uint8)
    padded[: len(pixels)] = pixels
    grid = padded.reshape(rows, COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(grid.reshape(rows * height, COLUMNS * width, channels))


def _cut(sheet: Pixels, count: int, height: int, width: int) -> Pixels:
    """The images that `_sheet` put side by side."""
    rows = sheet.shape[0] // height
    grid = sheet.reshape(rows, height, COLUMNS, width, 3).transpose(0, 2, 4, 1, 3)
    return grid.reshape(rows * COLUMNS, 3, height, width)[:count]


class _Row(NamedTuple):
    """An image of CIFAR: its part, its position there, its class and its pixels [C, H, W]."""

    part: str
    position: int
    number: int
    pixels: Pixels


def _rows(archive: tarfile.TarFile, number: int, data: DataSet) -> list[_Row]:
    _, height, width = data.shape(None)
    places = [
        (part, position) for part, there in json.loads(_content(archive, POSITIONS)).items() for position in there
    ]
    sheet = np.asarray(Image.open(io.BytesIO(_content(archive, SHEET))).convert("RGB"))
    images = _cut(sheet, len(places), height, width)
    return [_Row(part, position, number, image) for (part, position), image in zip(places, images, strict=True)]


def _write_cifar(data: DataSet, names: list[str], rows: list[_Row], to: Path) -> None:
    """Images in the official layout of CIFAR, each part in its order."""
    if not isinstance(data, Cifar) or len(data.train_files) != 1:
        raise DataError("a slice has classes of CIFAR-100 and of image folders only: write it again")
    folder = to / data.folder
    folder.mkdir(parents=True)
    for part, file in (("train", data.train_files[0]), ("test", data.test_files[0])):
        there = sorted((row for row in rows if row.part == part), key=lambda row: row.position)
        pixels = np.stack([row.pixels.ravel() for row in there])
        (folder / file).write_bytes(pickle.dumps({"data": pixels, data.labels_key: [row.number for row in there]}))
    (folder / data.meta_file).write_bytes(pickle.dumps({data.names_key: names}))
