"""The options of commands that take the settings of an experiment: one for each setting, and a file with several."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich_click.rich_parameter import RichOption

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.schema import LONGEST
from mdfa_core.cli.options import Command, NamedOption

if TYPE_CHECKING:
    from mdfa_core.training import Experiment

SETTINGS = {
    "Data": ("data", "outputs", "task_seed", "validation", "image_size"),
    "Net": ("network", "activation", "forward_init", "convention", "precision"),
    "Rule": ("method", "feedback_init", "floor"),
    "Training": (
        "optimizer",
        "learning_rate",
        "l2",
        "batch_size",
        "epochs",
        "seed",
        "drop_last",
        "loss_scale",
        "evaluation",
        "engine",
    ),
}
"""The settings of `Experiment`, by the panel of the help that shows them."""


class SettingsCommand(Command):
    """A command with an option for every setting of `Experiment`, made when they are first asked for.

    Experiment imports PyTorch, which `mdfa --help` does not wait for.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, help_option = super().get_params(ctx)
        return [*_setting_options(), *own, help_option]


@functools.cache
def _setting_options() -> tuple[click.Option, ...]:
    """An option for every setting, with its help and default; None tells that it was not given."""
    from mdfa_core.base.types import field_types
    from mdfa_core.training import Experiment

    fields, types = {setting.name: setting for setting in dataclasses.fields(Experiment)}, field_types(Experiment)
    return tuple(
        _setting_option(fields[name], types[name].kind, panel) for panel, names in SETTINGS.items() for name in names
    )


def _setting_option(setting: dataclasses.Field[Any], kind: type, panel: str) -> click.Option:
    flag = "--" + setting.name.replace("_", "-")
    text = setting.metadata["help"]
    text = text[0].upper() + text[1:]
    switch = isinstance(setting.default, bool)
    default = ("on" if setting.default else "off") if switch else setting.default
    ending = "" if default is None else f"  [default: {default}]"
    if switch:
        return RichOption([f"{flag}/--no-{flag[2:]}"], default=None, panel=panel, help=text + ending)
    if setting.metadata["choices"] is not None:
        names = functools.partial(_names, setting)
        return NamedOption([flag], names=names, default=None, panel=panel, help=text, ending=ending)
    return RichOption([flag], type=kind, default=None, panel=panel, help=text + ending)


def _names(setting: dataclasses.Field[Any]) -> dict[str, str] | list[str]:
    """The names that a setting may have; those of learning rules with their acronyms spelled out."""
    names = list(setting.metadata["choices"]())
    if setting.name != "method":
        return names
    from mdfa_core.rules.methods import METHODS

    return {name: METHODS[name].description.partition(":")[0] for name in names}


def config_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--config`."""
    text = "JSON file with settings; command-line options override it"
    return click.option("--config", type=click.Path(path_type=Path), panel="Training", help=text)


def configured(config: Path | None) -> Experiment:
    """The experiment of a file of settings; the default one without a file.

    Raises:
        InvalidValue: the file cannot be read, or it holds no settings.
        UnknownName: there is no such setting, or a name is not in its table.
    """
    from mdfa_core.training import Experiment

    if config is None:
        return Experiment()
    try:
        with config.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)  # a device could have text without end
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InvalidValue(f"the configuration {config} cannot be read ({reason}): give a JSON file") from None
    try:
        return Experiment.from_json(text)
    except InvalidValue as error:
        raise InvalidValue(f"in the configuration {config}, {error}") from None
