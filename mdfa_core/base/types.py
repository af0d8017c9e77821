"""The types of a dataclass's fields, resolved, for code that reads values from texts or writes typed columns."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldType:
    """The type of a dataclass field.

    Attributes:
        kind: the type of the field, or of the values inside its tuples: `tuple[tuple[str, ...], ...]` has the kind str.
        optional: whether None is allowed beside that type.
    """

    kind: type[Any]
    optional: bool = False

    def parse(self, text: str) -> Any:
        """The value that a text writes out: `none`, `true` and `false` in any case, numbers, or the text itself.

        Raises:
            ValueError: the text is no value of this type.
        """
        word = text.lower()
        if self.optional and word == "none":
            return None
        if self.kind is bool:
            if word not in ("true", "false"):
                raise ValueError(f"{text!r} is neither true nor false")
            return word == "true"
        return self.kind(text)

    def __str__(self) -> str:
        return f"{self.kind.__name__} or none" if self.optional else self.kind.__name__


def field_types(kind: type[Any]) -> dict[str, FieldType]:
    """The type of every field of a dataclass, in the order of the fields.

    >>> @dataclass
    ... class Example:
    ...     seed: int | None
    ...     names: tuple[str, ...]
    >>> [(name, str(field)) for name, field in field_types(Example).items()]
    [('seed', 'int or none'), ('names', 'str')]

    Raises:
        TypeError: a field has several types, or a container other than a tuple.
    """
    hints = typing.get_type_hints(kind)
    return {field.name: _resolved(hints[field.name], field.name) for field in dataclasses.fields(kind)}


def _resolved(hint: Any, name: str) -> FieldType:
    origin, arguments = typing.get_origin(hint), set(typing.get_args(hint))
    if origin in (types.UnionType, typing.Union):
        optional = types.NoneType in arguments
        arguments -= {types.NoneType}
        if len(arguments) == 1:
            inner = _resolved(arguments.pop(), name)
            return FieldType(inner.kind, optional or inner.optional)
    elif origin is tuple:
        arguments -= {Ellipsis}
        if len(arguments) == 1:
            return _resolved(arguments.pop(), name)
    elif isinstance(hint, type):
        return FieldType(hint)
    raise TypeError(f"the field {name} has the type {hint}: give one type, a tuple of one type, or such a type or None")
