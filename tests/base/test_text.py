"""Values of unknown origin in messages: short, on one line, and without effect on a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core.base.errors import UnknownName
from mdfa_core.base.text import SHOWN, printable, shown


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "value", ["x" * 10**6, [[[[1]]]] * 999, 10**9000, _Broken(), "a\nb\x1b[2J", "\udc80", {}], ids=range(7)
)
def test_what_is_shown_is_short_and_harmless(value: Any) -> None:
    text = shown(value)
    assert 0 < len(text) <= SHOWN
    assert text.isprintable()


def test_short_values_are_shown_whole() -> None:
    assert [shown(value) for value in ("mdfa", 7, None, [1, 2])] == ["'mdfa'", "7", "None", "[1, 2]"]


@given(st.text(st.characters()))
def test_a_printable_text_moves_no_cursor_and_can_be_encoded(text: str) -> None:
    written = printable(text)
    assert written.isprintable()
    written.encode()
    if text.isprintable():
        assert written == text


def test_an_unknown_name_is_shortened() -> None:
    assert len(str(UnknownName("rule", "\x1b" * 10**6, ["bp"]))) < 200
