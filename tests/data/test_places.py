from __future__ import annotations

from pathlib import Path

import pytest

from mdfa_core.data.places import find_place
from mdfa_core.errors import DataError


def test_argument_wins_over_variable_wins_over_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (find_place().folder, find_place().named) == (cache, False)
    monkeypatch.setenv("MDFA_DATA_DIR", str(tmp_path / "variable"))
    assert (find_place().folder, find_place().named) == (tmp_path / "variable", True)
    assert (find_place(tmp_path).folder, find_place(str(tmp_path)).named) == (tmp_path, True)
    monkeypatch.setenv("MDFA_DATA_DIR", "")
    assert find_place().folder == cache


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_place("~/sets").folder == tmp_path / "sets"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    find_place(tmp_path).require()
    with pytest.raises(DataError, match="nowhere does not exist: name the folder"):
        find_place(tmp_path / "nowhere").require()
