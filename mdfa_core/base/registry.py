"""Registries: mappings for everything that users choose by name, such as methods, optimizers and data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from mdfa_core.base.errors import InvalidValue, UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to entries of one kind, in the order in which they were added.

    Command line, app, notebooks and tests read their choices from registries. So adding an entry is enough to make a
    method, an activation or a data set available everywhere.

    An entry can be unlisted: whoever knows its name finds it, but no list, message or iteration shows it.

    Args:
        kind: what an entry is, for messages: "data set".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._unlisted: dict[str, T] = {}

    def add(self, name: str, entry: T, *, listed: bool = True) -> T:
        """Add `entry` under `name` and return it.

        Raises:
            InvalidValue: there is an entry of this name.
        """
        if name in self:
            raise InvalidValue(f"the {self.kind} {name!r} already exists: choose another name")
        (self._entries if listed else self._unlisted)[name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Remove the entry called `name`.

        Raises:
            UnknownName: there is no such entry.
        """
        self[name]
        del (self._entries if self.listed(name) else self._unlisted)[name]

    def listed(self, name: object) -> bool:
        """Whether there is an entry of this name that lists show."""
        return isinstance(name, str) and name in self._entries

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name] if name in self._entries else self._unlisted[name]
        except (KeyError, TypeError):
            raise UnknownName(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._entries or name in self._unlisted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def parse_list(name: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    """Parse items separated by commas, as in "1, 2,3"; empty items are ignored.

    Args:
        name: name of the setting, for messages.
        text: the items.
        kind: converts an item: `str`, `int` or `float`.

    Raises:
        InvalidValue: an item cannot be converted.
    """
    try:
        return tuple(kind(item.strip()) for item in str(text).split(",") if item.strip())
    except ValueError:
        raise InvalidValue(f"{name} is {text!r}: give numbers separated by commas, or nothing") from None
