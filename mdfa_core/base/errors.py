"""The exceptions of the package. A message is one sentence: what was found, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mdfa_core.base.text import shown


class MdfaError(Exception):
    """Base of all errors that a user can cause or fix. The command line prints the message and exits with status 2."""


class InvalidValue(MdfaError, ValueError):
    """A setting has a value that is not allowed."""


class UnknownName(MdfaError, KeyError):
    """A name is not in its registry; the message lists the known names.

    Args:
        kind: what the name should name, such as "data set".
        name: the unknown name.
        known: the known names.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {shown(name)}: choose one of {', '.join(sorted(known, key=_sort_key))}")

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, unpickling would call __init__ with the message instead of kind, name and known.
        return _unpickled, (type(self), self.args)

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the message in quotes


def _sort_key(name: str) -> tuple[bool, int, str]:
    """Sort numbers first, by value."""
    return (False, int(name), "") if name.isdecimal() else (True, 0, name)


def _unpickled(kind: type[UnknownName], args: tuple[object, ...]) -> UnknownName:
    error = kind.__new__(kind)
    error.args = args
    return error


class GeometryError(InvalidValue):
    """A network does not fit its images, or arrays do not fit their network."""


class DataError(MdfaError):
    """Data is missing, truncated or corrupt, or its checksum is wrong."""


class DeviceError(MdfaError):
    """This machine does not have the device."""


class CheckpointError(MdfaError):
    """A checkpoint cannot be written or read. Earlier checkpoints are unchanged."""


class ClusterError(MdfaError):
    """A cluster cannot be reached or used. Finished runs are kept."""


class StoreError(MdfaError):
    """A store of runs cannot be opened, read or written. Stored runs are unchanged."""


class MissingPackage(MdfaError):
    """An optional package is not installed; the message tells how to install it."""
