"""The registry of data sets, and the functions behind `mdfa data`: list, fetch and check them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mdfa_core.base.errors import DataError
from mdfa_core.base.registry import Registry
from mdfa_core.data.cifar import CIFAR10, CIFAR100
from mdfa_core.data.data_dir import DataDir, find_data_dir
from mdfa_core.data.digits import Digits
from mdfa_core.data.image_folder import ImageFolder
from mdfa_core.data.mnist import Mnist
from mdfa_core.data.plane import BLOBS, CHECKERBOARD, CIRCLES, CURVE, MOONS, SPIRALS, XOR
from mdfa_core.data.source import DataSet

DATASETS: Registry[DataSet] = Registry("data set")
"""Data sets by name, as `--data`, `Experiment(data=…)` and `load_task` take them."""
DATASETS.add("digits", Digits())
DATASETS.add("mnist", Mnist())
DATASETS.add("cifar10", CIFAR10)
DATASETS.add("cifar100", CIFAR100)
DATASETS.add("imagefolder", ImageFolder())
DATASETS.add("moons", MOONS)
DATASETS.add("circles", CIRCLES)
DATASETS.add("spirals", SPIRALS)
DATASETS.add("xor", XOR)
DATASETS.add("blobs", BLOBS)
DATASETS.add("curve", CURVE)
DATASETS.add("checkerboard", CHECKERBOARD)


@final
@dataclass(frozen=True, kw_only=True)
class Description:
    """A data set as the list of data sets shows it.

    Attributes:
        name: its name in `DATASETS`.
        title: its full name.
        classes, train, test: numbers of classes, training images and test images; None if they depend on the files.
        image_shape: (C, H, W) of an image at the default size.
        where: "bundled", "ready in FOLDER", "not downloaded", "not in FOLDER", or an error message.
        source: address of its home page.
        licence: its terms of use.
    """

    name: str
    title: str
    classes: int | None
    image_shape: tuple[int, int, int]
    train: int | None
    test: int | None
    where: str
    source: str
    licence: str


def describe(data_dir: str | os.PathLike[str] | None = None) -> list[Description]:
    """Describe every data set in `DATASETS`.

    Reads no images and downloads nothing. A broken data set is described by its error message.

    Args:
        data_dir: see `load_task`.
    """
    directory = find_data_dir(data_dir)
    rows = []
    for name, data in DATASETS.items():
        classes = data.counts.classes
        where = "bundled" if data.bundled else f"not in {directory.path}" if directory.named else "not downloaded"
        try:
            folder = data.find(directory)
            if folder is not None:
                data.fetch(DataDir(directory.path, named=True))  # downloads nothing
                classes = len(data.list_classes(directory)) if classes is None else classes
                where = f"ready in {folder}"
        except DataError as error:
            where = str(error)
        rows.append(
            Description(
                name=name,
                title=data.title,
                classes=classes,
                image_shape=data.shape(None),
                train=data.counts.train,
                test=data.counts.test,
                where=where,
                source=data.source,
                licence=data.licence,
            )
        )
    return rows


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None, *, mirror: str | None = None) -> Path | None:
    """Make sure a data set is available, and return its folder (None for a bundled data set).

    Files that are missing from the user's cache folder, or differ from the official checksums, are downloaded. Nothing
    is downloaded into a folder given by `data_dir` or MDFA_DATA_DIR.

    Args:
        name: a name in `DATASETS`.
        data_dir: the folder with the data; default: MDFA_DATA_DIR, else the user's cache folder.
        mirror: address of a folder to download from; default: MDFA_MIRROR, else the official server.

    Raises:
        UnknownName: there is no such data set.
        DataError: the files are missing and cannot be downloaded.
    """
    data, directory = DATASETS[name], find_data_dir(data_dir)
    data.fetch(directory, verify=True, mirror=mirror)
    return data.find(directory)


def check(name: str, data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Read a whole data set and report its counts and whether its files have the official checksums, one line each.

    A missing data set is downloaded, unless the user gave a folder.

    Args:
        name: a name in `DATASETS`.
        data_dir: see `load_task`.

    Raises:
        UnknownName: there is no such data set.
        DataError: files are missing or broken.
    """
    return DATASETS[name].check(find_data_dir(data_dir))
