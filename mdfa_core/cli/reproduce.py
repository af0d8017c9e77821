"""`mdfa reproduce`: runs the paper's tables and writes notebooks, tables and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.options import Command, NamedOption, data_dir_option, device_option, store_option, store_path


def _profiles() -> list[str]:
    from mdfa_core.studies.paper.recipes import PROFILES

    return list(PROFILES)


def _only(name: str, default: str | int, text: str, metavar: str) -> Any:
    """An option that runs a part of the tables."""
    return click.option(f"--{name}", default=default, metavar=metavar, panel="Select cells", help=text)


@click.command(cls=Command)
@click.argument("what", nargs=-1, metavar="[TABLE|NOTEBOOK]...")
@click.option(
    "--profile",
    cls=NamedOption,
    names=_profiles,
    default="smoke",
    show_default=True,
    panel="Training",
    help="Amount of training",
)
@data_dir_option()
@store_option("Output")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("reproduction"),
    show_default=True,
    panel="Output",
    help="Folder for notebooks, tables and report",
)
@click.option(
    "--cluster",
    "where",
    default="",
    metavar="WHERE",
    panel="Training",
    help="Dask cluster that trains: local:N (processes on this machine) or tcp://host:8786  [default: this process]",
)
@device_option()
@_only("methods", "", "Learning rules, separated by commas", "mdfa,bp")
@_only("activations", "", "Activations", "tanh,relu")
@_only("networks", "", "Kinds of network: fc (fully connected), conv (convolutional)", "fc,conv")
@_only("classes", "", "Numbers of classes", "3,10")
@_only("seeds", "", "Tasks, by their seeds  [default: the profile's]", "0,1 or 0-9")
@_only("draws", 1, "Runs of the chosen settings per task, with different seeds  [default: 1]", "N")
@_only("epochs", 0, "Epochs of the final runs  [default: the profile's]", "N")
@_only("image-size", 0, "Height and width of images from folders  [default: the profile's]", "PIXELS")
def reproduce(
    what: tuple[str, ...],
    profile: str,
    data_dir: str | None,
    store: Path | None,
    out: Path,
    where: str,
    device: str,
    **choices: Any,
) -> None:
    """Reproduce the paper's tables, all or those named, and write notebooks, tables and a report.

    Without arguments, runs every table and writes the tables and the report. With notebook names only, runs just those
    notebooks.

    The profile smoke runs everything at toy size. The profile quick uses real data and the hyperparameters that come
    with the package. The profile full tunes the hyperparameters first. The profile released follows the paper's
    released program. After an interruption, the same command continues.

    \b
    Examples:
      mdfa reproduce
      mdfa reproduce 1 3 --profile quick --data-dir data --cluster local:8
      mdfa reproduce theorem_2
    """  # noqa: D301 - click reads the \b
    from mdfa_core.runs import cluster
    from mdfa_core.runs.store import Store
    from mdfa_core.studies import notebooks
    from mdfa_core.studies.paper import from_texts
    from mdfa_core.studies.paper.published import TABLES

    names = notebooks.chosen(what)
    notebooks.check_installed()  # names the extra that brings everything, before hours of training
    from mdfa_core.studies.reports import document

    cluster.processes(where)  # refuses a wrong address before anything is trained or written
    kept = store_path(store)
    tables = [number for number, table in TABLES.items() if table.notebook in names]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"the folder {out} cannot be made ({error.strerror}): give another with --out") from None
    wanted = from_texts.plan(tables or list(TABLES), profile=profile, **choices)
    parameters = from_texts.notebook_parameters(
        names, wanted, choices, data_dir=data_dir or "", store=str(kept.absolute()), device=device
    )
    for table in tables:
        if TABLES[table].notebook not in parameters:
            click.echo(f"table {table} has no cell with all of these choices: its notebook is not run")
    places: dict[str, Any] = {"data_dir": data_dir, "device": device, "where": where}
    share = 0.0
    if tables:
        if cluster.processes(where) is None:
            click.echo(f"Connecting to {where}")
            with cluster.workers(where):
                pass  # what is wrong with the cluster is known before steps are timed
        click.echo(f"{profile}: {from_texts.estimate(wanted, kept, notebooks=len(parameters), **places)}")
        share = from_texts.training_share(wanted, kept, notebooks=len(parameters), **places)
    with from_texts.progress_bar() as bar:
        if tables:
            from_texts.fill(wanted, kept, bar=bar, share=share, **places)
        for number, name in enumerate(parameters, start=1):
            bar.set_description(f"notebook {name}")
            notebooks.execute(name, out / f"{name}.ipynb", parameters[name], progress_bar=False)
            bar.update(share + (1 - share) * number / len(parameters) - bar.n)
    if tables or "report" in names:  # other notebooks add nothing to the report, and an existing report stays
        with Store(kept) as runs:
            for path in document.write(runs, out, wanted.variant):
                click.echo(f"wrote {path}")
