"""Children of the command do not import the user's files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdfa_core.base.child import safe_children

ROOT = Path(__file__).resolve().parents[2]


def child_imports_own_file() -> bool:
    command = [sys.executable, "-c", "import random; print(random.__file__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith(os.getcwd())


def test_children_do_not_import_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").touch()

    assert child_imports_own_file()
    with safe_children():
        assert not child_imports_own_file()
    assert child_imports_own_file()


def test_in_the_clone_children_may_import_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(ROOT)

    with safe_children():
        assert "PYTHONSAFEPATH" not in os.environ


def test_what_the_user_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "yes")
    monkeypatch.chdir(tmp_path)

    with safe_children():
        pass

    assert os.environ["PYTHONSAFEPATH"] == "yes"
