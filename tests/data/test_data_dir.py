from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mdfa_core import data
from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import find_data_dir


def test_argument_wins_over_variable_wins_over_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (find_data_dir().path, find_data_dir().named) == (cache, False)
    monkeypatch.setenv("MDFA_DATA_DIR", str(tmp_path / "variable"))
    assert (find_data_dir().path, find_data_dir().named) == (tmp_path / "variable", True)
    assert (find_data_dir(tmp_path).path, find_data_dir(str(tmp_path)).named) == (tmp_path, True)
    monkeypatch.setenv("MDFA_DATA_DIR", "")
    assert find_data_dir().path == cache


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_data_dir("~/sets").path == tmp_path / "sets"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    find_data_dir(tmp_path).check_exists()
    with pytest.raises(DataError, match="nowhere does not exist: give the folder"):
        find_data_dir(tmp_path / "nowhere").check_exists()


def test_a_name_that_is_too_long_is_a_sentence() -> None:
    with pytest.raises(DataError, match=r"cannot read x+ \(File name too long\)"):
        find_data_dir("x" * 300)


def test_the_home_of_nobody_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFA_DATA_DIR", "~nobody-of-this-name/sets")
    with pytest.raises(DataError, match=r"^the data folder ~nobody-of-this-name/sets cannot be resolved"):
        find_data_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_folder_that_may_not_be_searched_is_a_sentence() -> None:
    code = """
import os, sys
from mdfa_core import cli, data  # data: while it can still be read
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
