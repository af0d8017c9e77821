"""Facts about the machine and the commit that results record."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from mdfa_core.base import machine


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    machine.commit.cache_clear()
    yield
    machine.commit.cache_clear()


def test_free_memory_is_at_most_the_machines() -> None:
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


CGROUPS = {
    "none": ("9:cpu:/a\n", {}, None),
    "unlimited": ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "7"}, None),
    "container of version 2": (
        "0::/\n",
        {
            "memory.max": "1000",
            "memory.high": "max",
            "memory.current": "700",
            "memory.stat": "anon 600\ninactive_file 50",
        },
        350,
    ),
    "service with a soft limit": (
        "0::/system.slice/mdfa.service\n",
        {
            "system.slice/mdfa.service/memory.max": "1000",
            "system.slice/mdfa.service/memory.high": "800",
            "system.slice/mdfa.service/memory.current": "300",
        },
        500,
    ),
    "a limit further out": (
        "0::/outer/inner\n",
        {
            "outer/inner/memory.max": "1000",
            "outer/inner/memory.current": "300",
            "outer/memory.max": "1200",
            "outer/memory.current": "1190",
        },
        10,
    ),
    "container of version 1": (
        "4:memory:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
        {
            "memory/memory.limit_in_bytes": "1000",
            "memory/memory.usage_in_bytes": "900",
            "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 100",
        },
        200,
    ),
    "over its limit": ("0::/\n", {"memory.max": "1000", "memory.current": "1001"}, 0),
}


@pytest.mark.parametrize(("own", "files", "free"), CGROUPS.values(), ids=CGROUPS)
def test_a_cgroup_limits_free_memory(
    own: str, files: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OWN_CGROUPS", tmp_path / "own")
    found = machine.free_memory()
    assert found == free if free is not None else found > 2**20


def test_the_machine_is_described_without_its_name() -> None:
    line = machine.summary()
    assert machine.processor() in line
    assert f"{machine.cores()} cores" in line
    assert machine.cores() >= 1
    assert machine.device_name(torch.device("cpu")) == "cpu"


def test_the_commit_is_that_of_this_repository() -> None:
    if not (Path(__file__).resolve().parents[2] / ".git").exists():
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
