"""Options that several commands share, an option that lists its names, and the look of the help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.shell_completion import CompletionItem
from rich_click.rich_parameter import RichOption

if TYPE_CHECKING:
    from rich.text import Text

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C stopped."""

HELP = {
    "theme": "default-slim",
    "max_width": 110,
    "style_helptext": "",  # as readable as the first line; the theme dims it
    "padding_helptext_first_line": (0, 0, 1, 0),
    "text_paragraph_linebreaks": "\n\n",
    "default_string": r"\[default: {}]",
    "commands_before_options": True,
}
"""Settings of rich-click: no boxes, so that help reads alike on a screen and in a pipe."""


class _Formatter(click.RichHelpFormatter):
    """Keeps the indentation of examples, and ends no line in spaces."""

    def rich_text(self, text: Any, style: Any = "") -> Text:
        from rich.text import Text

        return text if isinstance(text, Text) else self.highlighter(Text(text.rstrip(), style))

    def getvalue(self) -> str:
        return re.sub(" +$", "", super().getvalue(), flags=re.MULTILINE)


class _Context(click.RichContext):
    formatter_class = _Formatter


class Command(click.RichCommand):
    """A command with this project's help."""

    context_class = _Context


class Group(click.RichGroup):
    """A group of commands with this project's help."""

    context_class = _Context
    command_class = Command


class NamedOption(RichOption):
    """An option whose allowed names are looked up when help or shell completion asks for them.

    Args:
        names: the names, or a mapping from names to words for people. It may import PyTorch: parsing does not call it.
        ending: text after the names.
    """

    def __init__(self, *args: Any, names: Callable[[], Iterable[str]], ending: str = "", **kwargs: Any) -> None:
        self.names, self._ending = names, ending
        super().__init__(*args, **{"metavar": "NAME", **kwargs})

    @property
    def help(self) -> str | None:
        """The text of the option, then its names."""
        names = self.names()
        listed = [f"{name} ({names[name]})" if isinstance(names, dict) else name for name in names]
        return f"{self._text}; one of {', '.join(listed)}{self._ending}"

    @help.setter
    def help(self, text: str | None) -> None:
        self._text = text

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin with what was typed."""
        return [CompletionItem(name) for name in self.names() if name.startswith(incomplete)]


def data_dir_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--data-dir`."""
    text = "Folder with the data sets, instead of the user's cache; nothing is downloaded"
    return click.option("--data-dir", type=click.Path(), panel="Data", help=text)


def device_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--device`."""
    text = "Where to train: auto, cpu, cuda, cuda:1, … or mps (Apple's GPU)"
    return click.option("--device", default="auto", show_default=True, panel="Training", metavar="NAME", help=text)


def store_option(panel: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--store`; None where it is left out, see `store_path`."""
    text = "File with the finished runs  [default: the file that MDFA_STORE names, else runs.sqlite here]"
    return click.option("--store", type=click.Path(path_type=Path), panel=panel, help=text)


def store_path(given: Path | None) -> Path:
    """The store that was given, else the default one."""
    from mdfa_core.runs.store import default_path

    return given or default_path()
