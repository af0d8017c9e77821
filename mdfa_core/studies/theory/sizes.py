"""Sizes of the theory studies by profile (smoke, quick, full), and changes to them by notebook parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.base.registry import Registry
from mdfa_core.base.text import spoken


@dataclass(frozen=True, kw_only=True)
class StudySizes:
    """The sizes of the studies.

    Attributes:
        seeds: random seeds.
        epochs: training epochs.
        depths: numbers of hidden layers.
        batch_sizes: examples in a mini-batch.
        outputs: numbers of output units.
        rates: learning rates.
        units: units per hidden layer.
        steps: optimizer steps of `units_study`.
        tried: networks tried by `search`.
    """

    seeds: tuple[int, ...]
    epochs: int
    depths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    outputs: tuple[int, ...]
    rates: tuple[float, ...]
    units: tuple[int, ...]
    steps: int
    tried: int


PROFILES: Registry[StudySizes] = Registry("profile")
PROFILES.add(
    "smoke",
    StudySizes(
        seeds=(0, 1),
        epochs=3,
        depths=(1, 2),
        batch_sizes=(1, 64),
        outputs=(1, 2),
        rates=(0.03, 0.3),
        units=(2, 4, 8),
        steps=100,
        tried=500,
    ),
)
PROFILES.add(
    "quick",
    StudySizes(
        seeds=(0, 1, 2),
        epochs=20,
        depths=(1, 2, 3),
        batch_sizes=(1, 8, 64),
        outputs=(1, 2, 10),
        rates=(0.01, 0.1, 1.0),
        units=(2, 4, 8, 16),
        steps=1000,
        tried=2000,
    ),
)
PROFILES.add(
    "full",
    StudySizes(
        seeds=(0, 1, 2, 3, 4),
        epochs=60,
        depths=(1, 2, 3, 4, 6),
        batch_sizes=(1, 4, 16, 64, 128),
        outputs=(1, 2, 3, 5, 10),
        rates=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        units=(2, 4, 8, 16, 32),
        steps=1000,
        tried=20000,
    ),
)


def study_sizes(name: str, **changes: str | int) -> StudySizes:
    """The sizes of a profile, with some fields changed.

    Args:
        name: a name in `PROFILES`.
        changes: new values by field. Several numbers are text with commas: `units="2,4,8"`. Empty text or 0 keeps the
            profile's value.

    Raises:
        UnknownName: there is no such profile or field.
        InvalidValue: a value is no list of numbers in the allowed range.
    """
    own = PROFILES[name]
    fields = {field.name: field for field in dataclasses.fields(StudySizes)}
    made: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in fields:
            raise UnknownName("size of a profile", key, fields)
        if value in ("", 0):
            continue
        current = getattr(own, key)
        several = isinstance(current, tuple)
        number = type(current[0] if several else current)
        numbers = _numbers(key, str(value), number, least=0 if key == "seeds" else 1)
        if not several and len(numbers) > 1:
            raise InvalidValue(f"{key} are {value!r}: give one number")
        made[key] = numbers if several else numbers[0]
    return dataclasses.replace(own, **made)


def parse_names(table: Mapping[str, Any], text: str) -> tuple[str, ...]:
    """The names in a text separated by commas, checked against a registry; empty text means all names.

    Args:
        table: the registry, such as `METHODS`.
        text: names separated by commas.

    Raises:
        UnknownName: a name is not in the registry.
    """
    chosen = tuple(name.strip() for name in text.split(",")) if text.strip() else tuple(table)
    for name in chosen:
        table[name]
    return chosen


def _numbers(name: str, text: str, kind: type[int] | type[float], *, least: int) -> tuple[Any, ...]:
    try:
        values = tuple(kind(item) for item in text.split(","))
    except ValueError:
        values = ()
    allowed = all(value >= least if kind is int else 0 < value < math.inf for value in values)
    if not values or not allowed:
        range_ = f"integers of at least {least}" if kind is int else "numbers above 0"
        raise InvalidValue(f"{spoken(name)} are {text!r}: give {range_}, separated by commas")
    return values
