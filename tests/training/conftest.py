"""Fixtures of the tests of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from mdfa_core import DATASETS
from mdfa_core.data import DataSet


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    """A test that sets another number of threads changes no other test."""
    yield
    torch.set_num_threads(1)


@pytest.fixture
def data_set() -> Iterator[Callable[[DataSet], str]]:
    """Adds a data set to the table for the time of one test and returns its name."""
    added: list[str] = []

    def add(entry: DataSet) -> str:
        name = f"test-{len(added)}"
        DATASETS.add(name, entry)
        added.append(name)
        return name

    yield add
    for name in added:
        DATASETS.remove(name)
