"""One kind of table for everything that is chosen by name: methods, activations, optimizers, networks, data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from mdfa_core.errors import InvalidValue, UnknownName

T = TypeVar("T")


class Table(Mapping[str, T], Generic[T]):
    """A mapping from names to things of one kind, in the order they were added.

    The command line, the app's selectors, the notebooks and the test parameters all derive from such tables, so that
    adding an entry is all it takes to add a method, an activation or a data set.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Add `entry` under `name` and return it.

        Raises:
            InvalidValue: the name is taken.
        """
        if name in self._entries:
            raise InvalidValue(f"the {self.kind} {name!r} exists already: choose another name")
        self._entries[name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Take `name` out again."""
        self[name]
        del self._entries[name]

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise UnknownName(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def listed(name: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    """The items of a text, separated by commas, as a command line or a notebook gives several names or numbers.

    Raises:
        InvalidValue: an item is no number although `kind` makes numbers.
    """
    try:
        return tuple(kind(item.strip()) for item in str(text).split(",") if item.strip())
    except ValueError:
        raise InvalidValue(f"{name} is {text!r}: give numbers separated by commas, or nothing") from None
