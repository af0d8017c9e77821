"""`mdfa bench`: times this project beside torch.nn."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.options import Command, NamedOption

if TYPE_CHECKING:
    from mdfa_core.bench import Settings


def _precisions() -> list[str]:
    from mdfa_core.compute.kernels import PRECISIONS

    return list(PRECISIONS)


@click.command(cls=Command)
@click.option(
    "--only", multiple=True, metavar="ROW", panel="Measurement", help="Rows to measure: ROW,ROW,… or --only repeated"
)
@click.option(
    "--threads",
    type=int,
    panel="Measurement",
    help="CPU threads  [default: 2, the setting that the performance targets refer to]",
)
@click.option(
    "--precision",
    cls=NamedOption,
    names=_precisions,
    default="float32",
    show_default=True,
    panel="Measurement",
    help="Number format of this project's products",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="NAME",
    panel="Measurement",
    help="Only cpu is measured here; benchmarks/gpu.py measures GPUs",
)
@click.option("--quick", is_flag=True, panel="Measurement", help="Run a few steps of each row, as a test of the setup")
@click.option(
    "--profile",
    is_flag=True,
    panel="Output",
    help="Profile one step per operator (fc-mdfa-sgd, or the rows in --only)",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    panel="Output",
    help="Write all measurements to this file",
)
def bench(
    only: tuple[str, ...],
    threads: int | None,
    precision: str,
    device: str,
    json_file: Path | None,
    quick: bool,
    profile: bool,
) -> None:
    """Time training steps of this project beside torch.nn with torch.optim (three minutes).

    First measures the machine's own rates: matrix products and memory. JAX and compiled steps (Numba) are optional.

    docs/contributing/notes/benchmark.md explains the rows.

    \b
    Examples:
      mdfa bench --json bench.json
      mdfa bench --only fc-mdfa-sgd,conv-mdfa-sgd
      MDFA_GEMM=addmm mdfa bench --only fc-mdfa-sgd
      mdfa bench --profile --only conv-mdfa-sgd
    """  # noqa: D301 - click reads the \b
    from tqdm import tqdm

    from mdfa_core import bench

    settings = bench.Settings(
        precision=precision, device=device, quick=quick, **({} if threads is None else {"threads": threads})
    )
    names = list(dict.fromkeys(name.strip() for text in only for name in text.split(",")))
    names = list(filter(None, names)) or names  # a comma may end a list
    if profile:
        if json_file is not None:
            raise InvalidValue("--profile prints a table and writes no file: leave --json out")
        cases = [(name, bench.workload_of(name)) for name in names or ["fc-mdfa-sgd"]]
        click.echo("\n\n".join(bench.profile_table(name, bench.profile(case, settings)) for name, case in cases))
        return
    if json_file is not None:
        bench.check_writable(json_file)
    results = []
    names = names or list(bench.BENCHMARKS)
    stream = bench.measure(names, settings)
    hosts = bench.measure_host(settings)
    try:
        with tqdm(total=len(names), unit="row", dynamic_ncols=True, leave=False, disable=None) as bar:
            for name in names:
                bar.set_postfix_str(name)
                results.append(next(stream))
                bar.update()
    finally:
        if results:  # also if a later row failed, or Ctrl-C came
            measured = bench.document(results, settings, hosts, _command(only, settings))
            click.echo(bench.table(measured))
            if json_file is not None:
                bench.write(json_file, measured)


def _command(only: Sequence[str], settings: Settings) -> str:
    """The command line that repeats the measurement."""
    from mdfa_core.compute.kernels import GEMM_VARIABLE

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
