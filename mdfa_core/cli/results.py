"""`mdfa runs plot` and `mdfa runs report`: the figures and the report of a store's results."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.options import Command, store_option, store_path
from mdfa_core.cli.output import print_table

if TYPE_CHECKING:
    from mdfa_core.runs.store import Store
    from mdfa_core.studies.reports.results import CellResult

_PROFILE = click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME",
    panel="Select cells",
    help="Profile of the cells, also with changes (quick@epochs=20); repeat it to take each cell from the first that "
    "has it  [default: full, quick, smoke; complete cells only]",
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Store]:
    """A store for reading; an export (.jsonl.gz) is merged into a temporary store first."""
    from mdfa_core.runs.store import Store

    if path.name.endswith(".jsonl.gz"):
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "runs.sqlite") as store:
            store.merge(path)
            yield store
    else:
        with Store(path, read_only=True) as store:
            yield store


def preferred(store: Store, profiles: tuple[str, ...] = ()) -> tuple[CellResult, ...]:
    """Every cell from the first profile that has it; without names, complete cells of full, quick and smoke."""
    from mdfa_core.studies.reports.results import results

    if profiles:
        return results(store, *profiles)
    return results(store, "full", "quick", "smoke", whole=True)


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"the folder {out} cannot be made ({error.strerror}): give another with --out") from None
    return out


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[FIGURE]...")
@store_option("Store")
@_PROFILE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("figures"),
    show_default=True,
    panel="Output",
    help="Folder for the figures",
)
@click.option("--list", "listed", is_flag=True, panel="Output", help="List the figures and draw nothing")
def plot(names: tuple[str, ...], store: Path | None, profiles: tuple[str, ...], out: Path, listed: bool) -> None:
    """Draw figures of the results, all or those named, as SVG files.

    Equal results give equal files.

    \b
    Examples:
      mdfa runs plot --list
      mdfa runs plot forest-test coverage --store docs/results/runs.jsonl.gz
    """  # noqa: D301 - click reads the \b
    from mdfa_core.studies.reports import tidy
    from mdfa_core.studies.reports.figures import FIGURES

    if listed:
        print_table([("figure", "content"), *((name, figure.title) for name, figure in FIGURES.items())])
        return
    chosen = {name: FIGURES[name] for name in names or FIGURES}
    with opened(store_path(store)) as runs:
        table = tidy.frame(runs, preferred(runs, profiles))
    folder = _folder(out)
    for name, figure in chosen.items():
        drawing = figure.draw(table)
        drawing.save(folder / f"{name}.svg")
        click.echo(f"wrote {folder / name}.svg: {drawing.finding}")


@click.command(cls=Command)
@store_option("Store")
@_PROFILE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report"),
    show_default=True,
    panel="Output",
    help="Folder for the report and the tables",
)
def report(store: Path | None, profiles: tuple[str, ...], out: Path) -> None:
    """Write the report of the results: report.html with plots, the same as Markdown, and all tables.

    The report needs no data set.

    \b
    Example:
      mdfa runs report --store docs/results/runs.jsonl.gz --out report
    """  # noqa: D301 - click reads the \b
    from mdfa_core.studies.reports import document

    with opened(store_path(store)) as runs:
        for path in document.write_results(preferred(runs, profiles), out):
            click.echo(f"wrote {path}")
