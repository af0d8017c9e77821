"""What a result says about where it was made."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mdfa_core import machine


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    machine.commit.cache_clear()
    yield
    machine.commit.cache_clear()


def test_the_machine_is_described_without_its_name() -> None:
    line = machine.described()
    assert machine.processor() in line
    assert f"{machine.cores()} cores" in line
    assert machine.cores() >= 1
    assert machine.device_described(torch.device("cpu")) == "cpu"


def test_the_commit_is_that_of_this_repository() -> None:
    if not (Path(__file__).resolve().parents[1] / ".git").exists():
        pytest.skip("needs the project's repository")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout
    commit = machine.commit()
    assert commit is not None
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
    assert commit.startswith(head.strip())


@pytest.mark.parametrize("repository", [True, False])
def test_a_copy_that_no_repository_tracks_has_no_commit(
    repository: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if repository:  # somebody's own, with the package installed inside it
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        commit = ["git", *author, "commit", "-q", "--allow-empty", "-m", "theirs"]
        subprocess.run(commit, cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    (tmp_path / "__init__.py").touch()
    assert machine.commit() is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert machine.commit() is None
