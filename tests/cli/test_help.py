"""The help of every command: whole sentences, groups, names and defaults, readable in a pipe and in a terminal."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator

import click
import pytest

from mdfa_core import METHODS, Experiment
from mdfa_core.cli import cli
from mdfa_core.cli.settings import SETTINGS
from tests.support.commands import PROGRAM, Done, environment, run_program


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that lead to the program and to each of its commands."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


EVERY = [pytest.param(path, id=" ".join(("mdfa", *path))) for path in commands()]


def words(text: str) -> str:
    """A text without white space: lines break anywhere."""
    return re.sub(r"\s", "", text)


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("COLUMNS", "TERMINAL_WIDTH", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "RICH_CLICK_THEME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("path", EVERY)
def test_help_is_plain_text_of_eighty_columns_in_a_pipe(path: tuple[str, ...], mdfa: Callable[..., Done]) -> None:
    done = mdfa(*path, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(('mdfa', *path))} ")
    assert "\x1b" not in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert not re.search(r"[ \t]$", done.out, re.MULTILINE)
    assert not re.search("[\u2500-\u257f]", done.out), "boxes cannot be searched or copied"


@pytest.mark.parametrize("path", EVERY)
def test_nothing_is_cut_off_and_every_command_has_an_example(path: tuple[str, ...], mdfa: Callable[..., Done]) -> None:
    done = mdfa(*path, "--help")

    assert "..." not in re.sub(r"\[?\b[A-Z|]+\]?\.\.\.|\[ARGS\]\.\.\.", "", done.out)
    assert re.search(rf"^Examples?:\n  (\w+=\S+ )?{' '.join(('mdfa', *path))}", done.out, re.MULTILINE)


@pytest.mark.parametrize("path", EVERY)
def test_every_option_is_in_one_group_and_says_what_it_does(path: tuple[str, ...]) -> None:
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    for option in command.get_params(click.Context(command)):
        if isinstance(option, click.Option) and option.name not in {"help", "version"}:
            assert isinstance(getattr(option, "panel", None), str), option.name
            assert option.help, option.name


def test_the_help_of_train_shows_every_setting_with_its_default(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", "--help")
    joined = words(done.out)

    for setting in dataclasses.fields(Experiment):
        flag = "--" + setting.name.replace("_", "-")
        assert re.search(rf"^  {flag}\b", done.out, re.MULTILINE), flag
        switch = isinstance(setting.default, bool)
        default = ("on" if setting.default else "off") if switch else setting.default
        assert words(setting.metadata["help"])[1:] in joined, flag
        if setting.default is not None:
            assert f"[default:{default}]" in joined, flag
    for flag in ("--config", "--replicas", "--device", "--threads", "--data-dir", "--probe", "--save", "--resume"):
        assert re.search(rf"^  {flag}\b", done.out, re.MULTILINE), flag


def test_the_help_of_train_is_grouped(mdfa: Callable[..., Done]) -> None:
    titles = re.findall(r"^(\w+):$", mdfa("train", "--help").out, re.MULTILINE)

    assert titles == ["Examples", "Data", "Net", "Rule", "Training", "Output", "Options"]
    names = [name for group in SETTINGS.values() for name in group]
    assert sorted(names) == sorted(setting.name for setting in dataclasses.fields(Experiment))


def test_the_help_of_train_spells_the_rules_out(mdfa: Callable[..., Done]) -> None:
    joined = words(mdfa("train", "--help").out)

    for name, method in METHODS.items():
        assert words(f"{name} ({method.description.partition(':')[0]})") in joined


def test_a_terminal_shows_colours_and_no_color_takes_them_away() -> None:
    def on_a_terminal(**variables: str) -> str:
        mine, its = pty.openpty()
        try:
            with subprocess.Popen(
                [PROGRAM, "--help"], stdout=its, env=environment(TERM="xterm", **variables)
            ) as process:
                os.close(its)
                shown = b""
                while True:
                    try:
                        more = os.read(mine, 65536)
                    except OSError:  # how Linux says that the other side is closed
                        break
                    if not more:
                        break
                    shown += more
            assert process.returncode == 0
        finally:
            os.close(mine)
        return shown.decode()

    coloured = on_a_terminal()
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == run_program("--help").out.split()
    assert not re.search(r"\x1b\[[\d;]*3\dm", on_a_terminal(NO_COLOR="1"))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mdfa re", {"replay", "reproduce"}),
        ("mdfa data ", {"check", "fetch", "list"}),
        ("mdfa train --learning", {"--learning-rate"}),
        ("mdfa train --method md", {"mdfa"}),
        ("mdfa reproduce --profile ", {"full", "quick", "released", "smoke"}),
    ],
)
def test_a_shell_completes_commands_options_and_names(
    line: str, offered: set[str], mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, last = line.split(" ")
    asked = {"_MDFA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    for variable, value in asked.items():
        monkeypatch.setenv(variable, value)
    done = mdfa()

    found = {entry.partition(",")[2] for entry in done.out.splitlines()}
    assert {name for name in found if name.startswith(last)} == offered
