"""The `mdfa` command: reads options, calls the package, prints; every error is one line and exit code 2."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
import torch
from tqdm import tqdm

from mdfa_core import batch, bench, cluster, data, events
from mdfa_core.errors import InvalidValue, MdfaError, UnknownName
from mdfa_core.events import Diverged, Evaluated, Event, Finished, Probed, Progress, Started
from mdfa_core.experiment import Experiment
from mdfa_core.flat import FLAT
from mdfa_core.kernels import GEMM_VARIABLE, PRECISIONS
from mdfa_core.machine import checked_threads
from mdfa_core.paper import running
from mdfa_core.paper.published import TABLES
from mdfa_core.paper.recipes import PROFILES
from mdfa_core.records import OUTCOME, Record
from mdfa_core.store import Store, default_path
from mdfa_core.sweeps import refuse_too_large
from mdfa_core.training import Every, Run

_SAVE_SECONDS = 30.0  # between two savings of a running run
_INTERRUPTED = 130  # exit code of a program stopped by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 well, 2 after an error, 130 after Ctrl-C."""
    with _log_shown():
        try:
            code = cli.main(None if arguments is None else list(arguments), prog_name="mdfa", standalone_mode=False)
        except click.exceptions.Abort:
            code = _INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            code = 2
        except click.ClickException as error:
            code = _complain(error.format_message())
        except MdfaError as error:
            code = _complain(str(error))
        except KeyboardInterrupt:
            code = _INTERRUPTED
    sys.exit(code or 0)


class _Lines(logging.Handler):
    """Shows the log as plain lines on standard error, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            with tqdm.external_write_mode(file=sys.stderr):
                click.echo("mdfa: " + self.format(record), err=True)
        except Exception:  # as every handler does: a word less is better than a run less
            self.handleError(record)


@contextmanager
def _log_shown() -> Iterator[None]:
    """Show what the package has to say while a command runs; another program shows its log as that program likes."""
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
    click.echo("mdfa: " + " ".join(message.split()), err=True)
    return 2


class _Commands(click.Group):
    """A group of commands whose reader may go away, as `head` does; click would make that exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            raise click.exceptions.Exit(0) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="mdfa", prog_name="mdfa")
def cli() -> None:
    """Learning without backpropagation: monotone direct feedback alignment, beside BP, FA and DFA."""


# ---------------------------------------------------------------------------------------------------------- mdfa train


def _experiment_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every setting of `Experiment`, with its help and default; given ones arrive, others do not."""
    for setting in reversed(dataclasses.fields(Experiment)):
        flag = "--" + setting.name.replace("_", "-")
        choices = setting.metadata["choices"]
        text = setting.metadata["help"]
        if isinstance(setting.default, bool):
            shown = f"{text}  [default: {'on' if setting.default else 'off'}]"
            command = click.option(f"{flag}/--no-{flag[2:]}", default=None, help=shown)(command)
            continue
        shown = text if setting.default is None else f"{text}  [default: {setting.default}]"
        kind: type = int if "int" in str(setting.type) else float if "float" in str(setting.type) else str
        metavar = "|".join(choices()) if choices else None
        command = click.option(flag, type=kind, default=None, metavar=metavar, help=shown)(command)
    return command


@cli.command()
@_experiment_options
@click.option(
    "--config", type=click.Path(path_type=Path), help="JSON file of settings; options given here go before it"
)
@click.option("--replicas", type=int, default=1, show_default=True, help="nets trained side by side, seeds counted up")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, … or mps")
@click.option("--threads", type=int, help="CPU threads  [default: PyTorch's choice]")
@click.option("--data-dir", type=click.Path(), help="folder with the data sets; nothing is downloaded then")
@click.option("--probe", type=float, metavar="SECONDS", help="measure sign agreement this often, in seconds")
@click.option("--save", type=click.Path(path_type=Path), help="checkpoint: written now and then, on Ctrl-C, at the end")
@click.option("--resume", type=click.Path(path_type=Path), help="go on from this checkpoint (settings are in it)")
@click.option("--json", "as_json", is_flag=True, help="print events as JSON lines instead of a progress bar")
def train(
    config: Path | None,
    replicas: int,
    device: str,
    threads: int | None,
    data_dir: str | None,
    probe: float | None,
    save: Path | None,
    resume: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a net (or a stack of them) and report the outcome by the paper's rules.

    \b
    Examples:
      mdfa train
      mdfa train --method fa --outputs 10 --probe 0.5
      mdfa train --data cifar100 --network cifar-fc --epochs 200 --save run.pt
    """  # noqa: D301 - click reads the \b
    given = {name: value for name, value in settings.items() if value is not None}
    if threads is not None:
        torch.set_num_threads(checked_threads(threads))
    for path in (save, resume):
        if path is not None and path.is_dir():
            raise InvalidValue(f"{path} is a folder: give the name of a checkpoint file, such as {path / 'run.pt'}")
    if save is not None and not save.absolute().parent.is_dir():
        raise InvalidValue(f"the folder {save.parent} does not exist: make it first, or save elsewhere")
    if resume is not None:
        if given or config is not None or replicas != 1:
            raise InvalidValue("--resume takes every setting from the checkpoint: leave the others out")
        run = Run.load(resume, device=device, data_dir=data_dir)
        save = save or resume
    else:
        experiments = _experiments(config, given, replicas)
        refuse_too_large(experiments, device=device)
        run = Run(experiments, device=device, data_dir=data_dir)
    if run.finished:
        click.echo(f"mdfa: the run in {resume} has ended at step {run.step}: there is nothing left to train", err=True)
    # Events often enough to notice Ctrl-C; seconds only move the reports, never the numbers learnt.
    stream = run.events(progress=Every(seconds=0.2), probe=None if probe is None else Every(seconds=probe))
    show = _JsonLines() if as_json else _Terminal(run)
    saved = time.monotonic()
    with _interruptible() as interrupted:
        for event in stream:
            show(event)
            if interrupted():
                break
            if save is not None and time.monotonic() - saved > _SAVE_SECONDS:
                run.save(save)
                saved = time.monotonic()
        if save is not None:
            run.save(save)
    show.close()
    if interrupted():
        where = f"stopped at step {run.step} of {run.steps}"
        same = {"--device": device if device != "auto" else None, "--threads": threads, "--data-dir": data_dir}
        words = ["--resume", save, *(word for option in same.items() if option[1] for word in option)]
        again = shlex.join(["mdfa", "train", *map(str, words)])
        hint = f"go on with: {again}" if save else "give --save FILE to be able to go on later"
        click.echo(f"mdfa: {where}; {hint}", err=True)
        raise click.exceptions.Exit(_INTERRUPTED)


def _experiments(config: Path | None, given: dict[str, Any], replicas: int) -> list[Experiment]:
    if replicas < 1:
        raise InvalidValue(f"{replicas} replicas were asked for: give at least 1")
    first = Experiment()
    if config is not None:
        try:
            first = Experiment.from_json(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise InvalidValue(f"the configuration {config} cannot be read ({reason}): give a JSON file") from None
    first = first.replace(**given)
    return [first.replace(seed=first.seed + r) for r in range(replicas)]


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C be noticed between two events, so that nothing is left half done; the second one kills."""
    stopped = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: stopped
    finally:
        signal.signal(signal.SIGINT, before)


class _JsonLines:
    """Prints every event as one line of JSON."""

    def __call__(self, event: Event) -> None:
        click.echo(events.to_json(event))

    def close(self) -> None:
        """Nothing is left to close."""


class _Terminal:
    """A progress bar on standard error while it runs, a summary on standard output at the end."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.bar = tqdm(total=run.steps, initial=run.step, unit="step", dynamic_ncols=True, leave=False, disable=None)
        self.shown: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        self.bar.update(event.step - self.bar.n)
        if isinstance(event, Started):
            self._say(_heading(self.run, event))
        elif isinstance(event, Progress):
            self.shown["loss"], self.shown["acc"] = _mean(event.loss, "{:.3f}"), _mean(event.accuracy, "{:.1%}")
        elif isinstance(event, Evaluated):
            self.shown["val"] = _mean(event.validation_accuracy, "{:.1%}")
        elif isinstance(event, Probed):
            self.shown["signs"] = _mean(event.unit.overall, "{:.3f}")
        elif isinstance(event, Diverged):
            self._say(
                f"seed {event.seed} diverged at step {event.step} (loss {event.loss}): try a smaller learning rate"
            )
        elif isinstance(event, Finished):
            self.bar.close()
            for r, experiment in enumerate(self.run.experiments):
                click.echo(_outcome(experiment, event, r))
        self.bar.set_postfix(self.shown, refresh=False)

    def _say(self, line: str) -> None:
        with tqdm.external_write_mode():
            click.echo(line)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


def _heading(run: Run, event: Started) -> str:
    first = run.experiments[0]
    classes = " / ".join(event.tasks[0][:3]) + (" / …" if len(event.tasks[0]) > 3 else "")
    return (
        f"{run.learner.method.title} on {first.data} ({classes}; {event.train_examples[0]} training images), "
        f"{first.network}, {first.activation}, {event.parameters:,} parameters, {first.optimizer} at "
        f"{first.learning_rate:g}, {event.replicas} replica{'s' * (event.replicas > 1)} on {event.device}"
    )


def _outcome(experiment: Experiment, event: Finished, r: int) -> str:
    if event.diverged_at[r] is not None and event.best_train_accuracy[r] is None:
        return f"seed {experiment.seed}: diverged at step {event.diverged_at[r]}, before the end of an epoch"
    parts = [f"best training accuracy {_percent(event.best_train_accuracy[r])}"]
    if event.best_validation_accuracy[r] is not None:
        best = _percent(event.best_validation_accuracy[r])
        parts.append(f"best validation accuracy {best} (epoch {event.best_validation_epoch[r]})")
    if event.test_accuracy[r] is not None:
        parts.append(f"test accuracy there {_percent(event.test_accuracy[r])}")
    if event.diverged_at[r] is not None:
        parts.append(f"diverged at step {event.diverged_at[r]}")
    return f"seed {experiment.seed}: " + ", ".join(parts)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None and value == value]
    return form.format(sum(known) / len(known)) if known else "-"


# ----------------------------------------------------------------------------------------------------------- mdfa data


@cli.group(name="data")
def data_group() -> None:
    """See, fetch and check data sets."""


_data_dir = click.option("--data-dir", type=click.Path(), help="folder with the data sets, instead of the user's cache")


@data_group.command(name="list")
@_data_dir
@click.option("--json", "as_json", is_flag=True, help="print one JSON object a line")
def data_list(data_dir: str | None, as_json: bool) -> None:
    """List the data sets and where they are."""
    rows = data.describe(data_dir)
    if as_json:
        for row in rows:
            click.echo(json.dumps(dataclasses.asdict(row)))
        return
    table: list[tuple[str, ...]] = [("name", "classes", "train", "test", "image", "where")]
    for row in rows:
        counts = ["" if n is None else str(n) for n in (row.classes, row.train, row.test)]
        table.append((row.name, *counts, "×".join(map(str, row.image_shape)), row.where))
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[5]]))


@data_group.command(name="fetch")
@click.argument("name")
@_data_dir
def data_fetch(name: str, data_dir: str | None) -> None:
    """Download data set NAME once, with its checksums verified."""
    folder = data.fetch(name, data_dir)
    click.echo(f"{name} is bundled: nothing to fetch" if folder is None else f"{name} is ready in {folder}")


@data_group.command(name="check")
@click.argument("name")
@_data_dir
def data_check(name: str, data_dir: str | None) -> None:
    """Read data set NAME whole and say what was found."""
    for line in data.check(name, data_dir):
        click.echo(line)


# ----------------------------------------------------------------------------------------------------------- mdfa runs


@cli.group(name="runs")
def runs_group() -> None:
    """See, export and join finished runs."""


_store = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=default_path,
    show_default="the file MDFA_STORE names, else runs.sqlite here",
    help="file with the finished runs",
)
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


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Options that choose runs by their settings."""
    text = "only runs with this value of a setting (mdfa train --help names them); again for another setting or value"
    command = click.option("--where", multiple=True, metavar="NAME=VALUE", help=text)(command)
    for name in reversed(_SHORT):
        command = click.option(f"--{name}", multiple=True, metavar="VALUE", help=f"short for --where {name}=VALUE")(
            command
        )
    return command


@runs_group.command(name="list")
@_store
@_filters
@click.option("--json", "as_json", is_flag=True, help="print one JSON object a line")
def runs_list(store: Path, where: tuple[str, ...], as_json: bool, **short: tuple[str, ...]) -> None:
    """List finished runs.

    Accuracies are the outcome by the paper's rules; test is "sealed" where the test images were never opened.

    \b
    Examples:
      mdfa runs list
      mdfa runs list --method mdfa --method bp --where learning_rate=0.01
    """  # noqa: D301 - click reads the \b
    chosen: dict[str, list[Any]] = {}
    for name, text in [*(_named_value(text) for text in where), *((n, text) for n, v in short.items() for text in v)]:
        chosen.setdefault(name, []).append(_setting_value(name, text))
    with Store(store, read_only=True) as opened:
        rows = list(opened.rows(chosen))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [("key", *_LISTED.values())]
    for row in rows:
        shown = {name: _percent(row[name]) if name in OUTCOME else _cell(row[name]) for name in _LISTED}
        if row["task_seed"] is None:
            shown["task_seed"] = str(row["seed"])
        if row["sealed"]:
            shown["test_accuracy"] = "sealed"
        table.append((row["key"][:_KEY], *shown.values()))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@runs_group.command(name="show")
@click.argument("key")
@_store
@click.option("--json", "as_json", is_flag=True, help="print everything as one JSON object")
def runs_show(key: str, store: Path, as_json: bool) -> None:
    """Show one run.

    KEY is the beginning of its key; shown are settings, outcome, curve and provenance.
    """
    with Store(store, read_only=True) as opened:
        keys = opened.keys(key)
        if len(keys) > 1:
            some = ", ".join(found[:_KEY] for found in keys[:3]) + (", …" if len(keys) > 3 else "")
            raise InvalidValue(f"the keys of {len(keys)} runs begin with {key!r} ({some}): give more of the key")
        record = opened.named(keys[0]) if keys else None
    if record is None:
        raise InvalidValue(f"no run in {store} has a key that begins with {key!r}: see mdfa runs list")
    click.echo(record.to_json() if as_json else "\n".join(_description(record)))


@runs_group.command(name="export")
@click.argument("file", type=click.Path(path_type=Path))
@_store
@click.option(
    "--table", metavar="|".join(FLAT), default="runs", show_default=True, help="what a row is, in CSV and Parquet"
)
def runs_export(file: Path, store: Path, table: str) -> None:
    """Write all runs to a file.

    FILE's ending says how: .jsonl.gz holds everything and can be merged, .csv and .parquet hold a flat table.

    \b
    Examples:
      mdfa runs export runs.jsonl.gz
      mdfa runs export curves.parquet --table curves
    """  # noqa: D301 - click reads the \b
    with Store(store, read_only=True) as opened:
        opened.export(file, table=table)
        click.echo(f"{len(opened)} runs of {store} are in {file}")


@runs_group.command(name="merge")
@click.argument("others", nargs=-1, required=True, metavar="OTHER...", type=click.Path(exists=True, path_type=Path))
@_store
def runs_merge(others: tuple[Path, ...], store: Path) -> None:
    """Take in other stores and exports.

    OTHER is a store or a .jsonl.gz export. A run that is there already stays as it is, unless it was sealed and the
    other one's test images were opened.
    """
    with Store(store) as opened:
        for other in others:
            click.echo(f"{opened.merge(other)} new runs from {other}")
        click.echo(f"{len(opened)} runs are in {store}")


def _named_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidValue(f"--where got {text!r}: give NAME=VALUE, such as --where seed=0")
    return name.strip().replace("-", "_"), value.strip()


def _setting_value(name: str, text: str) -> Any:
    """What a text says for a setting."""
    kinds = {setting.name: str(setting.type) for setting in dataclasses.fields(Experiment)}
    if name not in kinds:
        raise UnknownName("setting", name, kinds)
    words = {"true": True, "false": False} if kinds[name] == "bool" else {"none": None}
    if text.lower() in words and (kinds[name] == "bool" or "None" in kinds[name]):
        return words[text.lower()]
    try:
        return int(text) if "int" in kinds[name] else float(text) if "float" in kinds[name] else text
    except ValueError:
        raise InvalidValue(f"{name} is {text!r} in a filter: give a value of the type {kinds[name]}") from None


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _description(record: Record) -> Iterator[str]:
    """A record as lines for people."""
    outcome: dict[str, Any] = {name: getattr(record, name) for name in OUTCOME}
    outcome = {name: _percent(value) if "accuracy" in name else value for name, value in outcome.items()}
    if record.sealed:
        outcome["test_accuracy"] = "sealed"
    parts: dict[str, dict[str, Any]] = {
        "settings": record.experiment.to_dict(),
        "outcome": outcome,
        "curve": _curve(record),
        "provenance": dataclasses.asdict(record.provenance)
        | {"data checksum": record.checksum, "numerics": record.numerics},
    }
    yield f"run {record.key}"
    for title, values in parts.items():
        yield f"\n{title}"
        width = max(map(len, values))
        for name, value in values.items():
            yield f"  {name.replace('_', ' '):{width}}  {_cell(value)}"


def _curve(record: Record) -> dict[str, str]:
    """The curve's ends, and the last probe."""
    if not record.curve:
        return {"epochs": "none was finished"}
    first, last = record.curve[0], record.curve[-1]
    shown = {
        "epochs": f"{first.epoch} to {last.epoch}",
        "train loss": f"{_cell(first.train_loss)} to {_cell(last.train_loss)}",
        "train accuracy": f"{_percent(first.train_accuracy)} to {_percent(last.train_accuracy)}",
        "validation loss": f"{_cell(first.validation_loss)} to {_cell(last.validation_loss)}",
        "validation accuracy": f"{_percent(first.validation_accuracy)} to {_percent(last.validation_accuracy)}",
    }
    if record.probes:
        probe = record.probes[-1]
        levels = ", ".join(f"{name} {_cell(getattr(probe, name))}" for name in ("unit", "example", "batch"))
        shown["signs agree"] = f"{levels} (step {probe.step}, the last of {len(record.probes)} probes)"
    return shown


# ---------------------------------------------------------------------------------------------------------- mdfa bench


@cli.command(name="bench")
@click.option("--only", multiple=True, metavar="ROW", help="measure this row; several: ROW,ROW,… or --only again")
@click.option("--threads", type=int, help="CPU threads  [default: two, for which the aims are stated]")
@click.option("--precision", default="float32", show_default=True, metavar="|".join(PRECISIONS), help="of this project")
@click.option("--device", default="cpu", show_default=True, help="only cpu: benchmarks/gpu.py measures GPUs")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write everything that was measured here")
@click.option("--quick", is_flag=True, help="a few steps each, to see that everything runs")
@click.option("--profile", is_flag=True, help="show where the time of a step goes instead (fc-mdfa-sgd, or --only)")
def run_bench(
    only: tuple[str, ...],
    threads: int | None,
    precision: str,
    device: str,
    json_file: Path | None,
    quick: bool,
    profile: bool,
) -> None:
    """Measure this project beside torch.nn with torch.optim, in about two minutes (docs/performance.md explains).

    \b
    Examples:
      mdfa bench --json bench.json
      mdfa bench --only fc-mdfa-sgd,fc-floor
      MDFA_GEMM=addmm mdfa bench --only fc-mdfa-sgd
      mdfa bench --profile --only conv-mdfa-sgd
    """  # noqa: D301 - click reads the \b
    settings = bench.Settings(
        precision=precision, device=device, quick=quick, **({} if threads is None else {"threads": threads})
    )
    names = list(dict.fromkeys(name.strip() for text in only for name in text.split(",")))
    names = list(filter(None, names)) or names  # a comma may end a list
    if profile:
        if json_file is not None:
            raise InvalidValue("--profile prints a table and writes no file: leave --json out")
        cases = [(name, bench.profiled(name)) for name in names or ["fc-mdfa-sgd"]]
        click.echo("\n\n".join(bench.profile_table(name, bench.profile(case, settings)) for name, case in cases))
        return
    if json_file is not None:
        bench.refuse_unwritable(json_file)
    results = []
    names = names or list(bench.ROWS)
    stream = bench.measure(names, settings)
    try:
        with tqdm(total=len(names), unit="row", dynamic_ncols=True, leave=False, disable=None) as bar:
            for name in names:
                bar.set_postfix_str(name)
                results.append(next(stream))
                bar.update()
    finally:
        if results:  # also where a later row failed, or Ctrl-C came
            measured = bench.document(results, settings, _bench_command(only, settings))
            click.echo(bench.table(measured))
            if json_file is not None:
                bench.write(json_file, measured)


def _bench_command(only: Sequence[str], settings: bench.Settings) -> str:
    """What would repeat it."""
    words = ["mdfa", "bench"]
    for text in only:
        words += ["--only", text]
    words += ["--threads", str(settings.threads)]
    if settings.precision != "float32":
        words += ["--precision", settings.precision]
    if settings.quick:
        words.append("--quick")
    variable = os.environ.get(GEMM_VARIABLE)
    return (f"{GEMM_VARIABLE}={variable} " if variable else "") + shlex.join(words)


# ------------------------------------------------------------------------------------------------------ mdfa reproduce


@cli.command()
@click.argument("what", nargs=-1, metavar="[TABLE|NOTEBOOK]...")
@click.option("--profile", default="smoke", show_default=True, metavar="|".join(PROFILES), help="how much is run")
@click.option("--data-dir", type=click.Path(), help="folder with the data sets; nothing is downloaded then")
@click.option(
    "--store", type=click.Path(path_type=Path), help="where runs are kept  [default: MDFA_STORE or runs.sqlite]"
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("reproduction"), show_default=True, help="results")
@click.option("--cluster", "where", default="", help="who trains: local:N or tcp://host:8786  [default: this process]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, … or mps")
@click.option("--methods", default="", help="only these, as mdfa,bp")
@click.option("--activations", default="", help="only these, as tanh,relu")
@click.option("--networks", default="", help="only these: fc, conv")
@click.option("--classes", default="", help="only these numbers, as 3,10")
@click.option("--seeds", default="", help="tasks by their seeds, as 0,1  [default: the profile's]")
@click.option("--epochs", default=0, help="of the final runs  [default: the profile's]")
@click.option("--image-size", default=0, help="of image folders  [default: the profile's]")
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
    """Reproduce the paper's tables (all, or those named), and write notebooks, tables and a report.

    Tables and report are written if a table or the report is named, or nothing.

    Stop it at any moment and give the same command to go on. Profiles: smoke runs everything at toy size; quick takes
    real data and the settings that come with the package; full tunes first.

    \b
    Examples:
      mdfa reproduce
      mdfa reproduce 1 3 --profile quick --data-dir data --cluster local:8
      mdfa reproduce theorem_2
    """  # noqa: D301 - click reads the \b
    from mdfa_core.reports import document  # asks for optional packages, and takes seconds to load

    names = batch.chosen(what)
    cluster.processes(where)  # refuses what is none before anything is timed or made
    kept = store or default_path()
    tables = [int(name.removeprefix("table_")) for name in names if name.startswith("table_")]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(f"the folder {out} cannot be made ({error.strerror}): give another with --out") from None
    wanted = running.plan(tables or list(TABLES), profile=profile, **choices)
    if tables:
        click.echo(f"{profile}: {running.estimate(wanted, kept, data_dir=data_dir, device=device, where=where)}")
        running.fill(wanted, kept, data_dir=data_dir, device=device, where=where)
    given = {"profile": profile, "data_dir": data_dir or "", "store": str(kept.absolute()), "device": device}
    parameters = {name: {**given, **choices} for name in names}
    if "report" in parameters:
        parameters["report"]["profile"] = wanted.variant  # it shows the cells that were changed as this plan's are
    for table in tables:
        if any(cell.table == table for cell in wanted.cells):
            parameters[f"table_{table}"] = given | running.narrowed(choices, wanted, table)
        else:
            del parameters[f"table_{table}"]
            click.echo(f"table {table} has no cell with all that was asked for: its notebook is left out")
    with tqdm(parameters, unit="notebook", dynamic_ncols=True, leave=False, disable=None) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            batch.execute(name, out / f"{name}.ipynb", parameters[name], progress_bar=False)
    if tables or "report" in names:  # other notebooks give them nothing new, and what is there stays
        with Store(kept) as runs:
            for path in document.write(runs, out, wanted.variant):
                click.echo(f"wrote {path}")


# ------------------------------------------------------------------------------------------------------------ mdfa app


@cli.command(name="app")
@click.option("--port", type=click.IntRange(1, 65535), default=5006, show_default=True, help="TCP port")
@click.option("--address", default="localhost", show_default=True, help="where to listen; 0.0.0.0 is every network")
@click.option("--origin", multiple=True, help="host:port that browsers may come from, may be given again")
@click.option("--prefix", default="", help="path before /app, as a proxy asks for it")
@click.option("--show/--no-show", default=False, show_default=True, help="open the page in a browser")
def serve_app(port: int, address: str, origin: tuple[str, ...], prefix: str, show: bool) -> None:
    """Serve the live app, to this machine only unless another address is given.

    /liveness answers whether the server is up. docs/deploy.md has proxies, containers and JupyterHub.
    """
    found = {name: importlib.util.find_spec(name) for name in ("app", "panel")}
    missing = [name for name, spec in found.items() if spec is None]
    if missing or found["app"] is None or found["app"].origin is None:
        raise InvalidValue("the app is not installed here: run make app, or pip install -e '.[app]' in the clone")
    command = [sys.executable, "-m", "panel", "serve", str(Path(found["app"].origin).parent), "--liveness"]
    command += ["--port", str(port), "--address", address]
    command += [word for host in origin for word in ("--allow-websocket-origin", host)]
    command += [*(["--prefix", prefix] if prefix else []), *(["--show"] if show else [])]
    if os.name == "posix":  # the server takes this process's place, so that whoever ends it ends the server
        os.execv(command[0], command)
    try:
        raise click.exceptions.Exit(subprocess.call(command))
    except KeyboardInterrupt:  # the server got it too and has ended
        raise click.exceptions.Exit(0) from None
