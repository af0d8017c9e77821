"""The program itself: its list of commands, its exit codes, its log. Every error is one line and exit code 2.

Command modules import PyTorch inside their functions, so that `mdfa --help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rich_click as click
from click.exceptions import Abort, Exit

from mdfa_core.base.child import safe_children
from mdfa_core.base.distribution import NAME, VERSION
from mdfa_core.base.errors import MdfaError
from mdfa_core.base.text import printable, shown
from mdfa_core.cli.app import app
from mdfa_core.cli.bench import bench
from mdfa_core.cli.branches import branches
from mdfa_core.cli.data import data
from mdfa_core.cli.options import HELP, INTERRUPTED, Group
from mdfa_core.cli.replay import replay
from mdfa_core.cli.reproduce import reproduce
from mdfa_core.cli.runs import runs
from mdfa_core.cli.train import train

TRACEBACK_VARIABLE = "MDFA_TRACEBACK"
"""Environment variable that lets errors of the program itself through, with their traceback."""

_LONGEST_WORD = 300  # characters of an argument that an error message repeats


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 after an error, 130 after Ctrl-C."""
    with contextlib.suppress(AttributeError):  # a name that is not text is printed with escapes
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with _log_shown(), safe_children():
        try:
            code = cli.main(None if arguments is None else list(arguments), prog_name="mdfa", standalone_mode=False)
            sys.stdout.flush()  # a full disk is noticed here, not when Python ends
        except Abort:
            code = INTERRUPTED
        except click.ClickException as error:
            code = _complain(error.format_message())
        except MdfaError as error:
            code = _complain(str(error))
        except KeyboardInterrupt:
            code = INTERRUPTED
        except OSError as error:
            _discard_output()
            place = f"{error.filename}: " if error.filename is not None else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "free some space, or name another place" if full else "name a place that can be read and written"
            code = _complain(f"{place}{error.strerror or error}: {advice}")
        except MemoryError:
            code = _complain("the memory is not enough: make the network, the batch or the number of replicas smaller")
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            reason = f"{type(error).__name__}: {shown(str(error))}"
            code = _complain(f"the program itself has an error ({reason}): report it with {TRACEBACK_VARIABLE}=1 set")
    sys.exit(code or 0)


def _discard_output() -> None:
    """Let output that cannot be written go nowhere; Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Lines(logging.Handler):
    """Shows the log as plain lines on standard error, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            with tqdm.external_write_mode(file=sys.stderr):
                click.echo("mdfa: " + printable(self.format(record)), err=True)
        except Exception:  # as in every logging handler: a lost line must not end the run
            self.handleError(record)


@contextmanager
def _log_shown() -> Iterator[None]:
    """Show the package's log while a command runs; a program that imports the package keeps its own logging."""
    log, lines = logging.getLogger("mdfa_core"), _Lines()
    before = log.level
    log.addHandler(lines)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(lines)
        log.setLevel(before)


def _complain(message: str) -> int:
    """Print an error as one line, whatever the arguments are that it repeats; returns the exit code."""
    words = [w if len(w) <= _LONGEST_WORD else f"{w[:100]}...{w[-100:]}" for w in message.split()]
    with contextlib.suppress(OSError):  # standard error may be a full disk, too
        click.echo("mdfa: " + printable(" ".join(words)), err=True)
    return 2


class _Commands(Group):
    """A group of commands that ends quietly if its reader goes away, as `head` does; click would exit with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for output that is still to be flushed
            raise Exit(0) from None


@click.group(
    cls=_Commands,
    # Not @rich_config: it imports rich.console, which draws from Python's global random generator.
    context_settings={"help_option_names": ["-h", "--help"], "rich_help_config": HELP},
    epilog="""
    mdfa COMMAND --help explains a command and its options.

    Completion: eval "$(_MDFA_COMPLETE=bash_source mdfa)" in bash; zsh_source and fish_source for other shells.
    """,
)
@click.version_option(VERSION, package_name=NAME, prog_name="mdfa")
@click.command_panel("Experiments", commands=["train", "replay", "reproduce", "runs", "branches"])
@click.command_panel("Page, data sets and speed", commands=["app", "data", "bench"])
def cli() -> None:
    """Learning without backpropagation: train networks by monotone direct feedback alignment or by another rule.

    \b
    Examples:
      mdfa train --method dfa --epochs 30
      mdfa app --show
    """  # noqa: D301 - click reads the \b


for _command in (train, replay, reproduce, runs, branches, app, data, bench):
    cli.add_command(_command)
