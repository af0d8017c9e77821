"""Values are checked against the types of dataclass fields, and JSON of unknown origin has bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.schema import LONGEST, Count, Degrees, MeasuredShare, Share, check, check_column, fits, parse_json


@dataclass(frozen=True)
class Inner:
    share: Share | None


@dataclass(frozen=True)
class Outer:
    count: Count
    inner: Inner
    names: tuple[str, ...] = ()


NAN = math.nan
GOOD: list[tuple[Any, Any]] = [
    (0, Count), (2**63 - 1, Count), (-(2**63), int), (1, float), (NAN, float), (0.0, Share), (1, Share),
    (NAN, MeasuredShare), (180.0, Degrees), (None, Share | None), ("é", str), ((1, None), tuple[int | None, ...]),
    ({"a": 1, "b": "x", "c": None}, Mapping[str, Any]), (Inner(0.5), Inner), (True, bool),
]  # fmt: skip
BAD: list[tuple[Any, Any]] = [
    (-1, Count), (2**63, Count), (True, Count), (1.0, Count), ("1", int), (2**63, float), (True, float), (7.0, Share),
    (NAN, Share), (math.inf, Share), (-0.1, MeasuredShare), (181.0, Degrees), (None, Share), ("\ud800", str),
    (b"", str), ([1], tuple[int, ...]), ((1, "x"), tuple[int, ...]), ({"a": [1]}, Mapping[str, Any]),
    ({1: 1}, Mapping[str, Any]),
    ({"a": NAN}, Mapping[str, Any]), (Inner(2.0), Inner), ({"share": 0.5}, Inner), (1, bool),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), GOOD, ids=range(len(GOOD)))
def test_possible_values_are_taken(value: Any, hint: Any) -> None:
    assert fits(value, hint)
    check(value, hint, "it")
    check_column([value, value], hint, "it")


@pytest.mark.parametrize(("value", "hint"), BAD, ids=range(len(BAD)))
def test_impossible_values_are_refused_in_one_sentence(value: Any, hint: Any) -> None:
    assert not fits(value, hint)
    with pytest.raises(InvalidValue, match=r" is .*: give ") as caught:
        check(value, hint, "it")
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidValue):
        check_column([value], hint, "it")


def test_the_wrong_field_is_named() -> None:
    check(Outer(1, Inner(0.5), ("a",)), Outer, "it")
    with pytest.raises(InvalidValue, match=r"share is 7\.0: give a number of 0 to 1, or null"):
        check(Outer(1, Inner(7.0)), Outer, "it")
    with pytest.raises(InvalidValue, match="count is -1: give a whole number of at least 0"):
        check(Outer(-1, Inner(None)), Outer, "it")


def test_a_type_without_a_check_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="no check is known"):
        fits(1, set[int])


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a":' * 10**5, "NaN", "[Infinity]", "1" * 5000, "", "[1", b"\xff", " " * (LONGEST + 1)],
    ids=range(9),
)
def test_json_without_bounds_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_plain_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}
