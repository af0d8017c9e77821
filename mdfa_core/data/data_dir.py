"""The folder that data sets are read from: a folder given by the user, or the user's cache folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mdfa_core.base.errors import DataError
from mdfa_core.data.download import unreadable

DATA_DIR_VARIABLE = "MDFA_DATA_DIR"


@dataclass(frozen=True)
class DataDir:
    """A folder that holds data sets.

    Attributes:
        path: the folder.
        named: whether the user gave the folder. Nothing is ever downloaded into a folder given by the user.
    """

    path: Path
    named: bool

    def check_exists(self) -> None:
        """Check that the folder exists, if the user gave it.

        Raises:
            DataError: the user gave a folder that does not exist.
        """
        if self.named and not self.path.is_dir():
            raise DataError(f"the data folder {self.path} does not exist: give the folder that holds the data sets")

    def check_readable(self) -> None:
        """Check that the folder can be read; a folder that does not exist passes, since a download may create it.

        Raises:
            DataError: the operating system refuses access to the folder.
        """
        try:
            os.stat(os.path.join(self.path, "."))  # "." asks for the right to search the folder itself
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise unreadable(self.path, error) from None


def find_data_dir(data_dir: str | os.PathLike[str] | None = None) -> DataDir:
    """The data folder: `data_dir`, else the environment variable MDFA_DATA_DIR, else the user's cache folder.

    Raises:
        DataError: the user gave a folder that cannot be resolved or read.
    """
    name = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    if not name:
        import platformdirs  # imported late: a machine without a cache folder needs no such package

        return DataDir(Path(platformdirs.user_cache_dir("mdfa")), named=False)
    try:
        directory = DataDir(Path(name).expanduser(), named=True)
    except RuntimeError as error:  # a home folder (~name) that does not exist
        raise DataError(f"the data folder {name} cannot be resolved ({error}): give an absolute path") from None
    directory.check_readable()
    return directory
