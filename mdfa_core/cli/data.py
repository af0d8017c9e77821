"""`mdfa data`: list, download and check data sets."""

from __future__ import annotations

import dataclasses
import json

import rich_click as click

from mdfa_core.cli.options import Group, data_dir_option
from mdfa_core.cli.output import print_table


@click.group(cls=Group)
def data() -> None:
    """List, download and check data sets.

    \b
    Examples:
      mdfa data list
      mdfa data fetch cifar100
    """  # noqa: D301 - click reads the \b


@data.command(name="list")
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, panel="Output", help="Print one JSON object per data set")
def list_data(data_dir: str | None, as_json: bool) -> None:
    """List the data sets, their sizes and their folders.

    \b
    Examples:
      mdfa data list
      mdfa data list --data-dir ~/images --json
    """  # noqa: D301 - click reads the \b
    from mdfa_core.data import describe

    rows = describe(data_dir)
    if as_json:
        for row in rows:
            click.echo(json.dumps(dataclasses.asdict(row)))
        return
    lines: list[tuple[str, ...]] = [("name", "classes", "train", "test", "image", "where")]
    for row in rows:
        counts = ["" if n is None else str(n) for n in (row.classes, row.train, row.test)]
        lines.append((row.name, *counts, "×".join(map(str, row.image_shape)), row.where))
    print_table(lines)


@data.command()
@click.argument("name")
@data_dir_option()
def fetch(name: str, data_dir: str | None) -> None:
    """Download the data set NAME once and verify its checksums.

    \b
    Example:
      mdfa data fetch mnist
    """  # noqa: D301 - click reads the \b
    from mdfa_core.data import fetch

    folder = fetch(name, data_dir)
    click.echo(f"{name} is bundled: nothing to fetch" if folder is None else f"{name} is ready in {folder}")


@data.command()
@click.argument("name")
@data_dir_option()
def check(name: str, data_dir: str | None) -> None:
    """Read the whole data set NAME and report what it contains.

    \b
    Example:
      mdfa data check digits
    """  # noqa: D301 - click reads the \b
    from mdfa_core.data import check

    for line in check(name, data_dir):
        click.echo(line)
