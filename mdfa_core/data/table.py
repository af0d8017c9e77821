"""The table of data sets, and what the command line says about them and does with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mdfa_core.data.cifar import CIFAR10, CIFAR100
from mdfa_core.data.digits import Digits
from mdfa_core.data.folder import ImageFolder
from mdfa_core.data.mnist import Mnist
from mdfa_core.data.places import Place, find_place
from mdfa_core.data.plane import CIRCLES, MOONS, SPIRALS, XOR
from mdfa_core.data.source import DataSet
from mdfa_core.errors import DataError
from mdfa_core.registry import Table

DATASETS: Table[DataSet] = Table("data set")
DATASETS.add("digits", Digits())
DATASETS.add("mnist", Mnist())
DATASETS.add("cifar10", CIFAR10)
DATASETS.add("cifar100", CIFAR100)
DATASETS.add("imagefolder", ImageFolder())
DATASETS.add("moons", MOONS)
DATASETS.add("circles", CIRCLES)
DATASETS.add("spirals", SPIRALS)
DATASETS.add("xor", XOR)


@final
@dataclass(frozen=True, kw_only=True)
class Description:
    """One row of the list of data sets; counts are None where they depend on files that are not there or not counted.

    Attributes:
        name: its name in `DATASETS`.
        title: its name in words.
        classes, train, test: how many classes, training and test images.
        image_shape: (C, H, W) of an image at the usual size.
        where: "bundled", "ready in FOLDER", "not downloaded", "not in FOLDER", or what is wrong.
        source, licence: where it comes from and on what terms.
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
    """A row for every data set in `DATASETS`; reads no images, downloads nothing, and says in the row what is wrong."""
    place = find_place(data_dir)
    rows = []
    for name, data in DATASETS.items():
        classes = data.facts.classes
        where = "bundled" if data.bundled else f"not in {place.folder}" if place.named else "not downloaded"
        try:
            folder = data.find(place)
            if folder is not None:
                data.fetch(Place(place.folder, named=True))  # says what is missing, and downloads nothing
                classes = len(data.list_classes(place)) if classes is None else classes
                where = f"ready in {folder}"
        except DataError as error:
            where = str(error)
        rows.append(
            Description(
                name=name,
                title=data.title,
                classes=classes,
                image_shape=data.shape(None),
                train=data.facts.train,
                test=data.facts.test,
                where=where,
                source=data.source,
                licence=data.licence,
            )
        )
    return rows


def fetch(name: str, data_dir: str | os.PathLike[str] | None = None, *, mirror: str | None = None) -> Path | None:
    """See to it that a data set is there, and return its folder (None: it is bundled and needs none).

    Without a named folder, what is missing from the user's cache or differs from the official checksums is downloaded.
    A named folder (`data_dir` or MDFA_DATA_DIR) is only looked into.

    Args:
        name: a name in `DATASETS`.
        data_dir: the folder to look into.
        mirror: address of a folder to download from; default: MDFA_MIRROR in the environment, else the official one.

    Raises:
        UnknownName: there is no such data set.
        DataError: it is not there and cannot be downloaded.
    """
    data, place = DATASETS[name], find_place(data_dir)
    data.fetch(place, verify=True, mirror=mirror)
    return data.find(place)


def check(name: str, data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Read a whole data set and say in sentences what it is: counts, and whether its files are the official ones.

    Downloads it if it is missing and no folder is named.

    Raises:
        UnknownName: there is no such data set.
        DataError: files are missing or broken.
    """
    return DATASETS[name].check(find_place(data_dir))
