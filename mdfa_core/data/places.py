"""Where data sets lie: the folder the user names, or the user's cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from mdfa_core.data.download import unreadable
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

    def look(self) -> None:
        """Do nothing, unless the system does not let anybody look into the folder; one that is missing may come.

        Raises:
            DataError: that is the case.
        """
        try:
            os.stat(os.path.join(self.folder, "."))  # through the folder, so that the right to search it is asked for
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise unreadable(self.folder, error) from None


def find_place(data_dir: str | os.PathLike[str] | None = None) -> Place:
    """The place to use: `data_dir`, else the environment variable MDFA_DATA_DIR, else the user's cache folder.

    Raises:
        DataError: the user named a folder that no system could open.
    """
    name = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not name:
        return Place(Path(platformdirs.user_cache_dir("mdfa")), named=False)
    try:
        place = Place(Path(name).expanduser(), named=True)
    except RuntimeError as error:  # whose home folder?
        raise DataError(f"the data folder {name} is not known ({error}): name it from / on") from None
    place.look()
    return place
