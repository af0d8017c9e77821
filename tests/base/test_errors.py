"""Errors survive pickling, as on the way to another process."""

from __future__ import annotations

import pickle

import pytest

from mdfa_core.base import errors
from mdfa_core.base.errors import MdfaError, UnknownName


def _kinds(kind: type[MdfaError]) -> list[type[MdfaError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _kinds(child))]


@pytest.mark.parametrize("kind", [kind for kind in _kinds(MdfaError) if kind.__module__ == errors.__name__])
def test_an_error_comes_back_from_another_process(kind: type[MdfaError]) -> None:
    error = UnknownName("method", "mine", ["bp", "fa"]) if kind is UnknownName else kind("what was got")
    back = pickle.loads(pickle.dumps(error))

    assert type(back) is kind
    assert (str(back), back.args) == (str(error), error.args)


def test_known_names_are_listed_in_order_numbers_first() -> None:
    error = UnknownName("classes", 7, ["figure_1", "50", "all", "3", "10"])
    assert str(error) == "unknown classes 7: choose one of 3, 10, 50, all, figure_1"
