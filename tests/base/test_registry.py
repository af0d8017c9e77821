"""Registries: order, errors and the mapping protocol; lists of items in text."""

from __future__ import annotations

import pytest

from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS
from mdfa_core.base.errors import InvalidValue, MdfaError, UnknownName
from mdfa_core.base.registry import Registry, parse_list
from mdfa_core.training.events import EVENTS

TABLES = [ACTIVATIONS, DATASETS, EVENTS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS]


@pytest.fixture
def table() -> Registry[int]:
    table: Registry[int] = Registry("fruit")
    table.add("pear", 1)
    table.add("apple", 2)
    return table


def test_a_table_is_a_mapping_in_the_order_of_adding(table: Registry[int]) -> None:
    assert table.add("fig", 3) == 3

    assert list(table) == ["pear", "apple", "fig"]
    assert dict(table) == {"pear": 1, "apple": 2, "fig": 3}
    assert len(table) == 3


def test_a_taken_name_is_refused_and_the_entry_stays(table: Registry[int]) -> None:
    with pytest.raises(InvalidValue, match="fruit 'pear' already exists"):
        table.add("pear", 9)

    assert table["pear"] == 1


def test_removed_names_are_gone_and_can_be_added_again(table: Registry[int]) -> None:
    table.remove("pear")

    assert list(table) == ["apple"]
    table.add("pear", 5)
    assert table["pear"] == 5


def test_removing_what_is_not_there_is_refused(table: Registry[int]) -> None:
    with pytest.raises(UnknownName):
        table.remove("plum")


@pytest.mark.parametrize("name", ["plum", "", None, 3, ["pear"], "Pear"])
def test_an_unknown_name_is_refused_with_the_known_ones(table: Registry[int], name: object) -> None:
    with pytest.raises(UnknownName, match=r"unknown fruit .*: choose one of apple, pear"):
        table[name]  # type: ignore[index]

    assert name not in table


def test_get_returns_the_default_for_an_unknown_name(table: Registry[int]) -> None:
    assert table.get("pear") == 1
    assert table.get("plum") is None
    assert table.get("plum", 7) == 7


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_the_packages_own_tables_refuse_unknown_names_with_a_package_error(table: Registry[object]) -> None:
    assert len(table) > 0
    with pytest.raises(MdfaError, match=f"unknown {table.kind}"):
        table["no such name"]


def test_a_text_is_a_list_of_what_is_between_its_commas() -> None:
    assert parse_list("methods", " bp, ,mdfa,", str) == ("bp", "mdfa")
    assert parse_list("seeds", "3,0", int) == (3, 0)
    assert parse_list("seeds", "", int) == ()
    with pytest.raises(InvalidValue, match="seeds is '1,x': give numbers separated by commas, or nothing"):
        parse_list("seeds", "1,x", int)
