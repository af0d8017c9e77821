"""Values of unknown origin, checked against the types that dataclasses declare, and JSON with bounds.

A field says in its type which values are possible: `Share | None` is a number from 0 to 1, or None. `check` reads that
type, so the classes that a program writes are also the schema of what it reads.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.text import shown

LONGEST = 1 << 23
"""Characters of one JSON text. Parsed, a text of this length takes at most about 200 MB."""

_LARGEST = 2**63  # SQLite, Parquet and PyTorch have 64-bit integers


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included; `nan` says whether NaN is possible, too."""

    low: float
    high: float
    nan: bool = False

    def has(self, value: Any) -> bool:
        """Whether a number is in the range."""
        return self.low <= value <= self.high or (self.nan and value != value)


Share = Annotated[float, Range(0, 1)]
"""A part of a whole."""
MeasuredShare = Annotated[float, Range(0, 1, nan=True)]
"""A part of a whole; NaN if it was measured on a network that has diverged."""
Measured = Annotated[float, Range(0, math.inf, nan=True)]
"""A loss or a ratio of norms; NaN or infinite if the network has diverged."""
Degrees = Annotated[float, Range(0, 180, nan=True)]
"""An angle between two vectors."""
Duration = Annotated[float, Range(0, 1e15)]
"""Seconds."""
Count = Annotated[int, Range(0, _LARGEST - 1)]
"""A whole number of at least 0."""


def parse_json(text: str | bytes) -> Any:
    """The value of a strict JSON text.

    Raises:
        ValueError: the text is no JSON, longer than `LONGEST`, nested too deeply, or has NaN or infinities as numbers.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a JSON text of {len(text):,} characters, where {LONGEST:,} are allowed")
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def check(value: object, hint: Any, name: str) -> None:
    """Refuse a value that is not of a type.

    Understands bool, int, float, str, None, unions, `tuple[X, ...]`, `Annotated` with a `Range`, `Mapping` (of
    settings: texts to scalars) and dataclasses. An int is a float, too; a bool is no int. An integer has at most 64
    bits, and a text can be written as UTF-8.

    Raises:
        InvalidValue: the value is of another type, or outside its range.
    """
    if dataclasses.is_dataclass(hint):
        if type(value) is not hint:
            raise InvalidValue(f"{name} is {shown(value)}: give {_spoken(hint)}")
        for field, kind in field_hints(hint).items():
            check(getattr(value, field), kind, field.replace("_", " "))
    elif not fits(value, hint):
        raise InvalidValue(f"{name} is {shown(value)}: give {_spoken(hint)}")


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type, see `check`."""
    return _test(hint)(value)


@functools.cache
def _test(hint: Any) -> Callable[[Any], bool]:
    """The function that says whether a value is of a type; a store has millions of values of a few types."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        of_kind, limits = _test(arguments[0]), tuple(a for a in arguments[1:] if isinstance(a, Range))
        return lambda value: of_kind(value) and all(limit.has(value) for limit in limits)
    if origin in (types.UnionType, typing.Union):
        tests = tuple(_test(argument) for argument in arguments)
        return lambda value: any(test(value) for test in tests)
    if origin is tuple:
        of_item = _test(arguments[0])
        return lambda value: type(value) is tuple and all(map(of_item, value))
    if hint is None or hint is types.NoneType:
        return lambda value: value is None
    if hint is bool:
        return lambda value: type(value) is bool
    if hint is int:
        return lambda value: type(value) is int and -_LARGEST <= value < _LARGEST
    if hint is float:
        return lambda value: type(value) is float or (type(value) is int and -_LARGEST <= value < _LARGEST)
    if hint is str:
        return lambda value: isinstance(value, str) and _writable(value)
    if origin is not None and issubclass(origin, Mapping):
        of_text, of_scalar = _test(str), _test(_SCALAR)
        return lambda value: isinstance(value, Mapping) and all(of_text(k) and of_scalar(v) for k, v in value.items())
    if dataclasses.is_dataclass(hint):
        return lambda value: (
            type(value) is hint and all(fits(getattr(value, name), kind) for name, kind in field_hints(hint).items())
        )
    raise TypeError(f"no check is known for the type {hint}")


_SCALAR = str | bool | int | Annotated[float, Range(-1.7976931348623157e308, 1.7976931348623157e308)] | None


def check_column(values: Collection[Any], hint: Any, name: str) -> None:
    """`check` for many values of one type.

    Raises:
        InvalidValue: a value is of another type, or outside its range.
    """
    if not all(map(_test(hint), values)):
        for value in values:
            check(value, hint, name)


def field_hints(kind: Any) -> dict[str, Any]:
    """The type of every field of a dataclass, with its range."""
    return _field_hints(kind)


@functools.cache
def _field_hints(kind: Any) -> dict[str, Any]:
    resolved = typing.get_type_hints(kind, include_extras=True)
    return {field.name: resolved[field.name] for field in dataclasses.fields(kind)}


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _spoken(hint: Any) -> str:
    """A type for people."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        (limits,) = (argument for argument in arguments[1:] if isinstance(argument, Range))
        kind = "a whole number" if arguments[0] is int else "a number"
        return f"{kind} of {limits.low:g} to {limits.high:g}" if limits.high < 1e15 else f"{kind} of at least 0"
    if origin in (types.UnionType, typing.Union):
        return ", or ".join(map(_spoken, arguments))
    if origin is tuple:
        return f"several times {_spoken(arguments[0])}"
    names: dict[Any, str] = {None: "null", types.NoneType: "null", bool: "true or false", str: "a text"}
    names |= {int: "a whole number", float: "a number"}
    if hint in names:
        return names[hint]
    return "settings by name" if origin is not None else f"a {hint.__name__}"
