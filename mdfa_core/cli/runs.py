"""`mdfa runs`: list, show, draw, export and merge finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.base.text import spoken
from mdfa_core.cli.options import Group, NamedOption, store_option, store_path
from mdfa_core.cli.output import cell, percent, print_table
from mdfa_core.cli.results import opened, plot, preferred, report

if TYPE_CHECKING:
    from mdfa_core.runs.records import Record

_SHORT = ("data", "method", "network", "activation", "outputs")  # settings with a filter option of their own
_LISTED = {
    "method": "method",
    "data": "data",
    "outputs": "out",
    "network": "network",
    "activation": "activation",
    "forward_init": "init",
    "optimizer": "optimizer",
    "learning_rate": "rate",
    "epochs": "epochs",
    "seed": "seed",
    "task_seed": "task",
    "best_train_accuracy": "train",
    "best_validation_accuracy": "val",
    "test_accuracy": "test",
}
_KEY = 12  # characters of a key that are shown
_TIDY = "tidy"  # the long table of the paper's cells, which needs pandas


@click.group(cls=Group)
def runs() -> None:
    """List, show, draw, export and merge finished runs.

    `mdfa reproduce`, its notebooks and sweeps keep their finished runs in a store, one SQLite file. Every command
    except merge also takes an export (.jsonl.gz) as --store.

    \b
    Examples:
      mdfa runs list --method mdfa
      mdfa runs export runs.csv
    """  # noqa: D301 - click reads the \b


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Options that choose runs by their settings."""
    text = "Only runs with this value of a setting (see mdfa train --help); repeat it for other settings or values"
    command = click.option("--where", multiple=True, metavar="NAME=VALUE", panel="Filter", help=text)(command)
    for name in reversed(_SHORT):
        text = f"Short for --where {name}=VALUE"
        command = click.option(f"--{name}", multiple=True, metavar="VALUE", panel="Filter", help=text)(command)
    return command


@runs.command(name="list")
@_filters
@store_option("Store")
@click.option("--json", "as_json", is_flag=True, panel="Output", help="Print one JSON object per run")
def list_runs(store: Path | None, where: tuple[str, ...], as_json: bool, **short: tuple[str, ...]) -> None:
    """List finished runs with their settings and accuracies.

    Accuracies follow the paper's rules. The test column says "sealed" if the test images were not evaluated.

    \b
    Examples:
      mdfa runs list
      mdfa runs list --method mdfa --method bp --where learning_rate=0.01
    """  # noqa: D301 - click reads the \b
    from mdfa_core.runs.records import OUTCOME

    chosen: dict[str, list[Any]] = {}
    for name, text in [*(_named_value(text) for text in where), *((n, text) for n, v in short.items() for text in v)]:
        chosen.setdefault(name, []).append(_setting_value(name, text))
    with opened(store_path(store)) as finished:
        rows = list(finished.rows(chosen))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    lines = [("key", *_LISTED.values())]
    for row in rows:
        shown = {name: percent(row[name]) if name in OUTCOME else cell(row[name]) for name in _LISTED}
        if row["task_seed"] is None:
            shown["task_seed"] = str(row["seed"])
        if row["sealed"]:
            shown["test_accuracy"] = "sealed"
        lines.append((row["key"][:_KEY], *shown.values()))
    print_table(lines)


@runs.command()
@click.argument("key")
@store_option("Store")
@click.option("--json", "as_json", is_flag=True, panel="Output", help="Print everything as one JSON object")
def show(key: str, store: Path | None, as_json: bool) -> None:
    """Show one run: settings, outcome, learning curve and provenance.

    KEY is the run's key or the first characters of it.

    \b
    Example:
      mdfa runs show 3f2a9c
    """  # noqa: D301 - click reads the \b
    path = store_path(store)
    with opened(path) as finished:
        keys = finished.keys(key)
        if len(keys) > 1:
            some = ", ".join(found[:_KEY] for found in keys[:3]) + (", …" if len(keys) > 3 else "")
            raise InvalidValue(f"the keys of {len(keys)} runs begin with {key!r} ({some}): give more of the key")
        record = finished.named(keys[0]) if keys else None
    if record is None:
        raise InvalidValue(f"no run in {path} has a key that begins with {key!r}: see mdfa runs list")
    click.echo(record.to_json() if as_json else "\n".join(_description(record)))


def _tables() -> list[str]:
    from mdfa_core.runs.export import FLAT

    return [*FLAT, _TIDY]


@runs.command()
@click.argument("file", type=click.Path(path_type=Path))
@store_option("Store")
@click.option(
    "--table",
    cls=NamedOption,
    names=_tables,
    default="runs",
    show_default=True,
    panel="Output",
    help="Rows of a CSV or Parquet file",
)
def export(file: Path, store: Path | None, table: str) -> None:
    """Write all runs to a file.

    The ending of FILE chooses the format: .jsonl.gz keeps everything and can be merged, .csv and .parquet hold a flat
    table. The table tidy has the cells of the paper, one row per number, and can also be .csv.gz.

    \b
    Examples:
      mdfa runs export runs.jsonl.gz
      mdfa runs export curves.parquet --table curves
      mdfa runs export results.csv.gz --table tidy
    """  # noqa: D301 - click reads the \b
    path = store_path(store)
    with opened(path) as finished:
        if table == _TIDY:
            from mdfa_core.studies.reports import tidy

            tidy.check(file)
            found = tidy.frame(finished, preferred(finished))
            tidy.write(found, file)
            click.echo(f"{len(found)} rows about {found['cell'].nunique()} cells are in {file}")
            return
        finished.export(file, table=table)
        click.echo(f"{len(finished)} runs of {path} are in {file}")


@runs.command()
@click.argument("others", nargs=-1, required=True, metavar="OTHER...", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--skip-damaged", is_flag=True, panel="Runs", help="Leave out damaged runs and notes of a store, and count them."
)
@store_option("Store")
def merge(others: tuple[Path, ...], skip_damaged: bool, store: Path | None) -> None:
    """Add the runs of other stores and exports to the store.

    OTHER is a store or a .jsonl.gz export. A run that the store already has stays as it is, with one exception: a run
    whose test images were not evaluated is replaced by the same run with its test accuracy.

    A damaged store or export is refused as a whole. With --skip-damaged, the sound runs of a damaged store are added.

    \b
    Example:
      mdfa runs merge laptop.sqlite cluster.jsonl.gz
    """  # noqa: D301 - click reads the \b
    from mdfa_core.base.errors import StoreError
    from mdfa_core.runs.store import Store

    path = store_path(store)
    with Store(path) as opened:
        for other in others:
            damaged: list[StoreError] | None = [] if skip_damaged else None
            added = opened.merge(other, damaged=damaged)
            click.echo(f"{added} new runs from {other}" + (f", {len(damaged)} damaged left out" if damaged else ""))
        click.echo(f"{len(opened)} runs are in {path}")


runs.add_command(plot)
runs.add_command(report)


def _named_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidValue(f"--where got {text!r}: give NAME=VALUE, such as --where seed=0")
    return name.strip().replace("-", "_"), value.strip()


def _setting_value(name: str, text: str) -> Any:
    """The value of a setting that a text stands for.

    Raises:
        UnknownName: there is no such setting.
        InvalidValue: the text is not a value of the setting's type.
    """
    from mdfa_core.base.types import field_types
    from mdfa_core.training.experiment import Experiment

    kinds = field_types(Experiment)
    if name not in kinds:
        raise UnknownName("setting", name, kinds)
    try:
        return kinds[name].parse(text)
    except ValueError:
        raise InvalidValue(f"{name} is {text!r} in a filter: give a value of the type {kinds[name]}") from None


def _description(record: Record) -> Iterator[str]:
    """A record as lines for people."""
    from mdfa_core.runs.records import OUTCOME

    outcome: dict[str, Any] = {name: getattr(record, name) for name in OUTCOME}
    outcome = {name: percent(value) if "accuracy" in name else value for name, value in outcome.items()}
    if record.sealed:
        outcome["test_accuracy"] = "sealed"
    parts: dict[str, dict[str, Any]] = {
        "settings": record.experiment.to_dict(),
        "outcome": outcome,
        "curve": _curve(record),
        "provenance": record.provenance.to_dict() | {"data checksum": record.checksum, "numerics": record.numerics},
    }
    yield f"run {record.key}"
    for title, values in parts.items():
        yield f"\n{title}"
        width = max(map(len, values))
        for name, value in values.items():
            yield f"  {spoken(name):{width}}  {cell(value)}"


def _curve(record: Record) -> dict[str, str]:
    """The first and last epoch of the learning curve, and the last probe."""
    if not record.curve:
        return {"epochs": "none was finished"}
    first, last = record.curve[0], record.curve[-1]
    shown = {
        "epochs": f"{first.epoch} to {last.epoch}",
        "train loss": f"{cell(first.train_loss)} to {cell(last.train_loss)}",
        "train accuracy": f"{percent(first.train_accuracy)} to {percent(last.train_accuracy)}",
        "validation loss": f"{cell(first.validation_loss)} to {cell(last.validation_loss)}",
        "validation accuracy": f"{percent(first.validation_accuracy)} to {percent(last.validation_accuracy)}",
    }
    if record.probes:
        probe = record.probes[-1]
        levels = ", ".join(f"{name} {cell(getattr(probe, name))}" for name in ("unit", "example", "batch"))
        shown["sign agreement"] = f"{levels} (step {probe.step}, the last of {len(record.probes)} probes)"
    return shown
