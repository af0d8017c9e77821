"""The exceptions of the package: each message is one sentence saying what was got, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class MdfaError(Exception):
    """Base of every error a user can cause or meet; the command line prints its message and exits with 2."""


class InvalidValue(MdfaError, ValueError):
    """A setting has a value outside what is allowed."""


class UnknownName(MdfaError, KeyError):
    """A name that is in no table; the message lists the known ones."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}: choose one of {', '.join(sorted(known, key=_place))}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args)  # an exception is made again from its args, which __init__ does not take

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show it quoted


def _place(name: str) -> tuple[bool, int, str]:
    """Numbers come first, in their order."""
    return (False, int(name), "") if name.isdecimal() else (True, 0, name)


def _again(kind: type[UnknownName], args: tuple[object, ...]) -> UnknownName:
    error = kind.__new__(kind)
    error.args = args
    return error


class GeometryError(InvalidValue):
    """A network that does not fit its images, or arrays that do not fit their network."""


class DataError(MdfaError):
    """Data that is missing, truncated, corrupt, or not what its checksum says."""


class DeviceError(MdfaError):
    """A device this machine does not have."""


class CheckpointError(MdfaError):
    """A checkpoint that cannot be written or read; what was saved before is untouched."""


class ClusterError(MdfaError):
    """A cluster that cannot be reached or used; what was finished is kept."""


class StoreError(MdfaError):
    """A store of runs that cannot be opened, read or written; what was stored before is untouched."""


class MissingPackage(MdfaError):
    """An optional package that is not installed; the message says how to get it."""
