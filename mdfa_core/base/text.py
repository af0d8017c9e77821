"""Values and texts of unknown origin as they may appear in a message or on a terminal: short, on one line, harmless."""

from __future__ import annotations

import reprlib

SHOWN = 80
"""Characters of a value that a message shows."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = SHOWN
        self.maxlong = 40
        self.maxlevel = 2

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 1000:  # Python refuses to write out integers of more than 4,300 digits
            return f"an integer of {x.bit_length()} bits"
        return super().repr_int(x, level)


_SHORT = _Short()


def shown(value: object) -> str:
    """`repr` of a value, cut to `SHOWN` characters with `...` in the middle.

    >>> len(shown("x" * 10**6))
    80
    """
    try:
        text = _SHORT.repr(value)
    except Exception:  # an object whose own repr fails must not replace the message
        text = f"a {type(value).__name__}"
    text = printable(" ".join(text.split()))
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2 - 2]}...{text[-(SHOWN // 2 - 1) :]}"


def spoken(name: str) -> str:
    """A name of the code as words: `learning_rate` becomes `learning rate`."""
    return name.replace("_", " ")


def printable(text: str) -> str:
    r"""The text with every control character, lone surrogate and invisible mark written as its escape.

    A terminal obeys control characters: they move the cursor, rename the window or type for the user.

    >>> printable("red \x1b[31m")
    'red \\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
