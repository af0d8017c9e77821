"""The command line in a run's provenance: what was typed, and nothing about the machine."""

from __future__ import annotations

import pytest

from mdfa_core.base.command import LONGEST, command_line


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["/srv/ada/.venv/bin/mdfa", "reproduce", "1", "--profile", "full"], "mdfa reproduce 1 --profile full"),
        (["mdfa", "reproduce", "--data-dir", "/srv/ada"], "mdfa reproduce --data-dir ..."),
        (["mdfa", "reproduce", "--data-dir=/srv/ada/my data"], "mdfa reproduce --data-dir=..."),
        (["mdfa", "reproduce", "--store", "~/runs.sqlite"], "mdfa reproduce --store ..."),
        (["mdfa", "reproduce", "--store", r"D:\runs\ada\runs.sqlite"], "mdfa reproduce --store ..."),
        (["mdfa", "reproduce", "--cluster", "tcp://ada-laptop:8786"], "mdfa reproduce --cluster tcp:..."),
        (["mdfa", "reproduce", "--cluster", "local:8"], "mdfa reproduce --cluster local:8"),
        (["mdfa", "reproduce", "--data-dir", "data", "--seeds", "0,1"], "mdfa reproduce --data-dir data --seeds 0,1"),
        (["study.py", "two words", "\x1b[31m"], r"study.py 'two words' '\x1b[31m'"),
        (["/srv/ada/mdfa_core/__main__.py", "reproduce"], "python -m mdfa_core reproduce"),
        (["/usr/lib/ipykernel_launcher.py", "-f", "/srv/ada/kernel.json"], "a notebook"),
        ([""], "Python"),
        (["-c"], "Python"),
        ([], "Python"),
    ],
)
def test_a_command_names_neither_user_nor_host(argv: list[str], said: str) -> None:
    assert command_line(argv) == said


def test_a_long_command_is_cut() -> None:
    said = command_line(["mdfa", "x" * 10_000])

    assert len(said) == LONGEST
    assert said.endswith("xxx...")
