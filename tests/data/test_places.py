from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mdfa_core import data
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


def test_a_name_that_is_too_long_is_a_sentence() -> None:
    with pytest.raises(DataError, match=r"cannot read x+ \(File name too long\)"):
        find_place("x" * 300)


def test_the_home_of_nobody_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFA_DATA_DIR", "~nobody-of-this-name/sets")
    with pytest.raises(DataError, match=r"^the data folder ~nobody-of-this-name/sets is not known .*: name it from /"):
        find_place()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_folder_that_may_not_be_searched_is_a_sentence() -> None:
    code = """
import os, sys
from mdfa_core import cli
if os.geteuid() == 0:  # whom permissions do not bind
    os.setuid(65534)
cli.main(sys.argv[1:])
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder, "closed")
        closed.mkdir(mode=0o444)
        environment = os.environ | {"XDG_CACHE_HOME": str(closed), "HOME": folder}
        answers = [
            subprocess.run(
                [sys.executable, "-c", code, "data", "list", *words],
                capture_output=True,
                text=True,
                env=environment | {"PYTHONPATH": str(Path(data.__file__).parents[2])},
            )
            for words in (["--data-dir", str(closed)], [])
        ]
        closed.chmod(0o755)
    named, cache = answers
    assert (named.returncode, named.stderr.count("\n")) == (2, 1)
    assert f"mdfa: cannot read {closed} (Permission denied)" in named.stderr
    assert (cache.returncode, cache.stderr) == (0, "")  # what needs no folder is there
    assert "bundled" in cache.stdout
    assert f"cannot read {closed / 'mdfa'} (Permission denied)" in cache.stdout
