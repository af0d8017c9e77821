"""`mdfa branches`: record the branches of a program and measure predictors on them."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.options import Group
from mdfa_core.cli.output import print_table


@click.group(cls=Group)
def branches() -> None:
    """Record the conditional branches of a program, and measure branch predictors on them.

    \b
    Examples:
      mdfa branches record -o sort.npz sort /etc/services
      mdfa branches score sort.npz
    """  # noqa: D301 - click reads the \b


@branches.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("trace.npz"),
    show_default=True,
    panel="Output",
    help="File to write",
)
@click.option(
    "--branches",
    "limit",
    type=int,
    default=1_000_000,
    show_default=True,
    panel="Recording",
    help="Number of branches after which the program is stopped",
)
@click.option(
    "--skip",
    type=int,
    default=0,
    show_default=True,
    panel="Recording",
    help="Branches to leave out first, such as those of the dynamic linker",
)
def record(command: tuple[str, ...], output: Path, limit: int, skip: int) -> None:
    """Run COMMAND, an x86-64 program with its arguments, under QEMU and record its conditional branches.

    The program reads and writes as usual. Options of this command come before the program.

    \b
    Examples:
      mdfa branches record gzip -c /etc/services > /dev/null
      mdfa branches record --branches 10000000 --skip 200000 -o perl.npz perl -e 'print sort map rand, 1 .. 99999'
    """  # noqa: D301 - click reads the \b
    from mdfa_core.studies.branch_prediction import record, write_trace

    # A long recording would be lost without a place for it.
    if not output.absolute().parent.is_dir() or output.is_dir():
        raise InvalidValue(f"{output} cannot be written: name a file in a folder that exists")
    trace = record(command, limit=limit, skip=skip)
    write_trace(trace, output)
    click.echo(
        f"{output}: {len(trace):,} branches at {trace.branches:,} addresses, {trace.taken_share:.1%} taken, "
        f"{trace.instructions:,} instructions",
        err=True,
    )


@branches.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--predictors",
    metavar="NAME,…",
    panel="Predictors",
    help="Predictors to measure; all published ones by default",
)
def score(traces: tuple[Path, ...], predictors: str | None) -> None:
    """Predict and then learn every branch of recorded TRACES, and print mispredictions per thousand branches.

    A trace is a file of `mdfa branches record` or of a championship (2016: BT9, plain or gzipped; 2025).

    \b
    Examples:
      mdfa branches score sort.npz perl.npz
      mdfa branches score sort.npz --predictors perceptron-64,tage-64
    """  # noqa: D301 - click reads the \b
    from mdfa_core.studies.branch_prediction import PREDICTORS, prequential, read_any

    names = [name.strip() for name in predictors.split(",")] if predictors else list(PREDICTORS)
    makers = {name: PREDICTORS[name] for name in names}
    read = [read_any(path) for path in traces]
    lines: list[tuple[str, ...]] = [("predictor", "KiB", *(path.name for path in traces))]
    for name, make in makers.items():
        scores = [f"{prequential(make(), trace).per_thousand:.2f}" for trace in read]
        lines.append((name, f"{make().bits / 8192:.1f}", *scores))
    print_table(lines)
