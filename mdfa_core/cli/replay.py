"""`mdfa replay`: trains some rules on one task and writes a page that replays them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.options import data_dir_option, device_option
from mdfa_core.cli.output import refuse_unwritable
from mdfa_core.cli.settings import SettingsCommand, config_option, configured

if TYPE_CHECKING:
    from mdfa_core.training import Experiment


@click.command(cls=SettingsCommand)
@click.argument("checkpoint", type=click.Path(path_type=Path), required=False)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("replay.html"),
    show_default=True,
    panel="Output",
    help="File to write",
)
@click.option(
    "--methods",
    metavar="NAME,…",
    panel="Rule",
    help="Learning rules to show one below the other, instead of --method",
)
@click.option("--frames", type=int, default=100, show_default=True, panel="Output", help="Moments of each rule")
@config_option()
@device_option()
@data_dir_option()
def replay(
    checkpoint: Path | None,
    output: Path,
    methods: str | None,
    frames: int,
    config: Path | None,
    device: str,
    data_dir: str | None,
    **settings: Any,
) -> None:
    """Train networks from their first mini-batch and write a page that replays them: every unit, weights, and result.

    The page is one file that opens from disk, without Python and without a network.

    A checkpoint gives its settings. It does not contain past moments, so its run is trained again, with the same seed.

    \b
    Examples:
      mdfa replay --methods mdfa,dfa,fa
      mdfa replay run.pt -o run.html
      mdfa replay --data moons --network fc:32,32 --methods mdfa,bp --epochs 40
    """  # noqa: D301 - click reads the \b
    from tqdm import tqdm

    from mdfa_core.rules.methods import METHODS
    from mdfa_core.runs.capacity import refuse_too_large
    from mdfa_core.stage import record, replay_page
    from mdfa_core.training import Run

    given = {name: value for name, value in settings.items() if value is not None}
    refuse_unwritable(output, "replay.html")
    if checkpoint is not None and config is not None:
        raise InvalidValue("both a checkpoint and --config give settings: leave one of them out")
    first = (configured(config) if checkpoint is None else _settings_of(checkpoint)).replace(**given)
    names = list(dict.fromkeys((first.method if methods is None else methods).split(",")))
    runs = {}
    for name in names:
        experiment = first.replace(method=name)
        refuse_too_large([experiment], device=device)
        runs[name] = Run(experiment, device=device, data_dir=data_dir, test=False)
    with tqdm(unit="frame", dynamic_ncols=True, leave=False, disable=None) as bar:
        recording = record(runs, frames=frames, on_frame=bar.update)
    titles = ", ".join(METHODS[name].title for name in names)
    page = replay_page(
        recording.to_dict(),
        title=f"{titles} on {first.data}",
        lead="Is each hidden unit told the right direction to change?",
        source=_command(first, names, frames, output),
    )
    output.write_text(page, encoding="utf-8")
    click.echo(f"{output}: {len(recording.frames[0])} moments of {titles}, {len(page.encode()) / 1e6:.2f} MB")


def _settings_of(checkpoint: Path) -> Experiment:
    """The settings of a checkpoint's first replica."""
    from mdfa_core.training.checkpoint import Checkpoint

    return Checkpoint.read(checkpoint).experiments[0]


def _command(experiment: Experiment, names: list[str], frames: int, output: Path) -> str:
    """The command that makes the page again."""
    default = type(experiment)().to_dict()
    words = ["mdfa", "replay"]
    for name, value in experiment.to_dict().items():
        if name == "method" or value == default[name]:
            continue
        flag = "--" + name.replace("_", "-")
        words += [flag if value else f"--no-{flag[2:]}"] if isinstance(value, bool) else [flag, str(value)]
    words += ["--methods", ",".join(names), "--frames", str(frames), "-o", output.name]
    return shlex.join(words)
