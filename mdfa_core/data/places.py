"""Where data sets lie: the folder the user names, or the user's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mdfa_core.errors import DataError

DATA_DIR_VARIABLE = "MDFA_DATA_DIR"


@dataclass(frozen=True)
class Place:
    """A folder to look for data sets in.

    Attributes:
        folder: the folder.
        named: True if the user named it; such a folder is only ever read, nothing is downloaded into it.
    """

    folder: Path
    named: bool

    def require(self) -> None:
        """Do nothing, unless the user named a folder that does not exist.

        Raises:
            DataError: that is the case.
        """
        if self.named and not self.folder.is_dir():
            raise DataError(f"the data folder {self.folder} does not exist: name the folder that holds the data sets")


def find_place(data_dir: str | os.PathLike[str] | None = None) -> Place:
    """The place to use: `data_dir`, else the environment variable MDFA_DATA_DIR, else the user's cache folder."""
    name = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if name:
        return Place(Path(name).expanduser(), named=True)
    return Place(Path(platformdirs.user_cache_dir("mdfa")), named=False)
