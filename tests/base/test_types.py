"""The resolved types of fields, and values parsed from texts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from mdfa_core import Experiment
from mdfa_core.base.types import FieldType, field_types
from mdfa_core.runs.records import Point, Probe, Provenance, Record
from mdfa_core.training import EVENTS


@dataclass
class Example:
    shared: ClassVar[str] = "no field"
    on: bool
    seed: int | None
    rate: float
    name: str
    classes: tuple[tuple[str, ...], ...]
    shares: tuple[float | None, ...]


def test_every_field_has_its_type() -> None:
    assert field_types(Example) == {
        "on": FieldType(bool),
        "seed": FieldType(int, optional=True),
        "rate": FieldType(float),
        "name": FieldType(str),
        "classes": FieldType(str),
        "shares": FieldType(float, optional=True),
    }


@pytest.mark.parametrize("kind", [Experiment, Record, Point, Probe, Provenance, *EVENTS.values()])
def test_the_fields_of_every_dataclass_that_is_read_or_written_have_types(kind: type[Any]) -> None:
    assert list(field_types(kind)) == [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("hint", [int | str, dict[str, int], tuple[int, str], list[int]])
def test_a_field_of_another_type_is_refused(hint: Any) -> None:
    kind = dataclasses.make_dataclass("Other", [("value", hint)])

    with pytest.raises(TypeError, match="the field value has the type"):
        field_types(kind)


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("on", "true", True),
        ("on", "False", False),
        ("seed", "3", 3),
        ("seed", "none", None),
        ("seed", "None", None),
        ("rate", "1e-3", 0.001),
        ("name", "none", "none"),
        ("name", "3", "3"),
    ],
)
def test_a_text_is_read_as_a_value(field: str, text: str, value: Any) -> None:
    parsed = field_types(Example)[field].parse(text)

    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("field", "text"), [("on", "1"), ("on", "none"), ("seed", "1.5"), ("seed", ""), ("rate", "none")]
)
def test_a_text_that_is_no_value_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        field_types(Example)[field].parse(text)


@pytest.mark.parametrize("name", field_types(Experiment))
def test_every_setting_is_parsed_from_its_own_text(name: str) -> None:
    value = getattr(Experiment(), name)

    assert field_types(Experiment)[name].parse(str(value)) == value
