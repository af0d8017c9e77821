"""Benchmark results as a JSON document, and a plain-text table of that document."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdfa_core.base import distribution
from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.machine import cores, processor
from mdfa_core.bench.benchmarks import BenchmarkResult, Skipped
from mdfa_core.bench.floor import Host, floor_of
from mdfa_core.bench.profiling import Operator
from mdfa_core.bench.settings import Settings
from mdfa_core.bench.timing import UNCOUNTED
from mdfa_core.compute import kernels

FORMAT = 2

_HEADINGS = ("row", "measured", "mdfa", "instead", "(what)", "compared", "aim", "")
_BAR = 40  # characters of the longest bar


# ------------------------------------------------------------------------------------------------------------ document


def document(
    results: Sequence[BenchmarkResult | Skipped], settings: Settings, hosts: Sequence[Host], command: str
) -> dict[str, Any]:
    """The results of a benchmark run as a JSON document, with machine, versions, settings and date.

    Args:
        results: one per benchmark.
        settings: how they were measured.
        hosts: the machine's rates with one thread and with two, from which each row gets its floor.
        command: the command line, for reference.
    """
    return {
        "format": FORMAT,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "threads": settings.threads,
        "precision": settings.precision,
        "gemm": {
            "asked for": os.environ.get(kernels.GEMM_VARIABLE) or "auto",
            "served": "onednn" if kernels.uses_onednn() else "addmm",
        },
        "protocol": {
            "quick": settings.quick,
            "rounds": settings.rounds,
            "seconds a block": settings.seconds,
            "uncounted steps a block": UNCOUNTED,
        },
        "host": [dataclasses.asdict(host) for host in hosts],
        "rows": [_row(result, hosts) for result in results],
    }


def check_writable(path: Path) -> None:
    """Check that a file can be created, before anything is measured.

    Raises:
        InvalidValue: `path` is a folder, or its folder does not exist.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InvalidValue(f"{path} cannot be written: give the name of a file in a folder that exists")


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document to a JSON file.

    Raises:
        InvalidValue: the file cannot be written.
    """
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidValue(f"{path} cannot be written ({error.strerror}): give another file") from None


def _row(result: BenchmarkResult | Skipped, hosts: Sequence[Host]) -> dict[str, Any]:
    if isinstance(result, Skipped):
        return {"name": result.name, "measured": result.measured, "skipped": result.reason}
    return {
        **{name: getattr(result, name) for name in ("name", "measured", "unit", "other_name", "kind", "details")},
        **{name: dataclasses.asdict(getattr(result, name)) for name in ("ours", "other", "compared")},
        "aim": None if result.aim is None else dataclasses.asdict(result.aim),
        "met": result.met,
        "floor": _floor(result, hosts),
    }


def _floor(result: BenchmarkResult, hosts: Sequence[Host]) -> dict[str, Any] | None:
    """The floor of a row with its number of threads; None for rows that are no times."""
    if result.work is None:
        return None
    floor, aim = floor_of(result.work, hosts, result.threads), result.floor_aim
    times = result.step_seconds / floor.seconds
    return {
        **dataclasses.asdict(result.work),
        **dataclasses.asdict(floor),
        "step ÷ floor": times,
        "aim": None if aim is None else dataclasses.asdict(aim),
        "met": None if aim is None else aim.met(times),
    }


def machine() -> dict[str, Any]:
    """The machine: processor, cores, vector instructions, memory, system, load. Contains no host name."""
    return {
        "processor": processor(),
        "cores": cores(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory GiB": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """Versions of the packages and libraries that do the work."""
    build = torch.__config__.show()
    found = {
        "mdfa": distribution.VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    for name, pattern in (("mkl", r"Math Kernel Library Version (\S+)"), ("onednn", r"(?:oneDNN|MKL-DNN) v([\d.]+)")):
        match = re.search(pattern, build)
        found[name] = match[1] if match else "none"
    return found


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not on every system
        return None


# --------------------------------------------------------------------------------------------------------------- table


def table(content: Mapping[str, Any]) -> str:
    """A plain-text table of a document, in lines of at most 120 characters."""
    rows = measured_rows(content)
    lines = [*_conditions(content), *host_lines(content), ""]
    if rows:
        lines += [*_aligned([_HEADINGS, *(_cells(row) for row in rows)]), ""]
    for row in content["rows"]:
        if "skipped" in row:
            lines += [f"{row['name']}: skipped. {row['skipped']}", ""]
    lines += _floors(rows)
    lines += _notes(rows)
    judged = [of["met"] for row in rows for of in (row, row["floor"] or {}) if of.get("met") is not None]
    if judged:
        lines.append(f"{sum(judged)} of {len(judged)} aims are met.")
    if content["protocol"]["quick"]:
        lines.append("Measured with --quick, which shows that everything runs. Do not use the numbers.")
    return "\n".join(lines)


def measured_rows(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a document that were not skipped."""
    return [row for row in content["rows"] if "skipped" not in row]


def host_lines(content: Mapping[str, Any]) -> list[str]:
    """The machine's rates in words, one line for each number of threads."""
    lines = []
    for host in content["host"]:
        memory, cache = host["bandwidths"][-1], host["bandwidths"][0]
        threads = f"{host['threads']} thread" + ("s" if host["threads"] > 1 else "")
        lines.append(
            f"this machine, {threads}: {host['flops'] / 1e9:.0f} GFLOP/s ({host['product']}); "
            f"{memory['rate'] / 1e9:.1f} GB/s of memory, {cache['rate'] / 1e9:.0f} in {cache['working_set'] >> 10} KiB"
        )
    return lines


def _floors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    floors = [(row, row["floor"]) for row in rows if row["floor"]]
    if not floors:
        return []
    cells = [("row", "threads", "measured", "floor", "set by", "measured ÷ floor", "aim", "")]
    for row, floor in floors:
        seconds = floor["seconds"] * floor["step ÷ floor"]
        cells.append(
            (
                row["name"],
                str(floor["threads"]),
                shown(seconds, "s"),
                shown(floor["seconds"], "s"),
                floor["set_by"],
                _fixed(floor["step ÷ floor"], 2),
                "" if floor["aim"] is None else f"≤ {_fixed(floor['aim']['bound'], 2)}",
                {None: "", True: "met", False: "not met"}[floor["met"]],
            )
        )
    heading = "Beside the floor: operations ÷ GFLOP/s or bytes ÷ GB/s of this machine, whichever takes longer"
    return [heading, "", *_aligned(cells), ""]


def _conditions(content: Mapping[str, Any]) -> list[str]:
    its, of = content["machine"], content["versions"]
    gemm, protocol = content["gemm"], content["protocol"]
    memory = "" if its["memory GiB"] is None else f", {its['memory GiB']:g} GiB"
    load = "" if its["load"] is None else f"; load {its['load']:g}"
    return [
        f"{its['processor']}, {its['cores']} cores, {its['instructions']}{memory}, {its['system']}{load}",
        f"mdfa {of['mdfa']}, torch {of['torch']} (oneDNN {of['onednn']}, MKL {of['mkl']}), Python {of['python']}; "
        f"{content['date']}",
        f"{content['threads']} threads, {content['precision']}, large products by {gemm['served']} "
        f"({kernels.GEMM_VARIABLE}={gemm['asked for']}); medians and quartiles of {protocol['rounds']} blocks in turn",
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    aim = row["aim"]
    bound = "" if aim is None else ("≥ " if aim["at_least"] else "≤ ") + shown_comparison(row["kind"], aim["bound"])
    mark = "" if row["met"] is None else "met" if row["met"] else "not met"
    return (
        row["name"],
        row["measured"],
        shown(row["ours"]["median"], row["unit"]),
        shown(row["other"]["median"], row["unit"]),
        row["other_name"],
        shown_spread(row["kind"], row["compared"]),
        bound,
        mark,
    )


def shown(value: float, unit: str) -> str:
    """Format a measured value."""
    if unit == "s":
        scale, unit = next(((s, u) for s, u in ((1, "s"), (1e3, "ms")) if value * s >= 0.0995), (1e6, "µs"))
        return f"{value * scale:.3g} {unit}"
    if unit == "bytes":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.0f}/s"


def shown_comparison(kind: str, value: float) -> str:
    """Format a comparison: 0.42, 4.10× or 5.0 %."""
    if kind == "gain":
        return f"{_fixed(value, 2)}×"
    if kind == "loss":
        return f"{_fixed(value * 100, 1)} %"
    return _fixed(value, 2)


def _fixed(value: float, decimals: int) -> str:
    """Format with `decimals` decimals below 10, one fewer from 10, two fewer from 100: the width stays the same."""
    before = len(str(int(abs(round(value, decimals)))))
    decimals = max(0, decimals + 1 - before)
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no negative zero


def shown_spread(kind: str, spread: Mapping[str, float]) -> str:
    """Format median and quartiles of a comparison, without quartiles if they are equal."""
    median, low, high = (shown_comparison(kind, spread[name]) for name in ("median", "low", "high"))
    short = [text.removesuffix(" %").removesuffix("×") for text in (low, high)]
    return median if low == high else f"{median} ({short[0]}–{short[1]})"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = {2, 3}
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines: list[str] = []
    for row in rows:
        details = row["details"]
        if "variants" in details and ("÷ JAX" in details or "JAX skipped" in details):
            parts = [f"{name} {shown(of['median'], 's')}" for name, of in details["variants"].items()]
            jax = f"÷ JAX {shown_spread('ratio', details['÷ JAX'])}" if "÷ JAX" in details else details["JAX skipped"]
            lines += [*textwrap.wrap(f"{row['name']}: {', '.join(parts)}; {jax}", 118, subsequent_indent="  "), ""]
        if "cost per replica" in details:
            lines.append(f"{row['name']}: time of a step per replica, in a stack of R")
            costs = details["cost per replica"]
            longest = max(cost["median"] for cost in costs)
            for cost in costs:
                bar = "█" * max(1, round(_BAR * cost["median"] / longest))
                lines.append(f"  R = {cost['replicas']:<3} {shown(cost['median'], 's'):>9}  {bar}")
            lines.append("")
        if "from the first step on" in details:
            later = details["from the first step on"]
            lines += [
                f"{row['name']}: from the first step on {shown(later['ours'], 'bytes')} beside "
                f"{shown(later['other'], 'bytes')}; one copy of the parameters is "
                f"{shown(details['bytes of one copy of the parameters'], 'bytes')}",
                "",
            ]
        if "probes a second" in details:
            lines += [f"{row['name']}: {details['probes a second']:.1f} probes per second", ""]
    return lines


def profile_table(title: str, operators: Sequence[Operator], most: int = 16) -> str:
    """A plain-text table of the slowest operators of a step, in lines of at most 120 characters."""
    total = sum(operator.seconds for operator in operators)
    rows = [("operator", "shapes", "calls", "a step", "share")]
    for operator in operators[:most]:
        rows.append(
            (
                _cut(operator.name, 38),
                _cut(operator.shapes, 48),
                f"{operator.calls:g}",
                f"{operator.seconds * 1e6:.0f} µs",
                f"{operator.share:.1%}",
            )
        )
    rest = operators[most:]
    if rest:
        share = sum(operator.share for operator in rest)
        microseconds = sum(operator.seconds for operator in rest) * 1e6
        rows.append((f"{len(rest)} more", "", "", f"{microseconds:.0f} µs", f"{share:.1%}"))
    heading = f"{title}: {total * 1e3:.3g} ms of operator time a step, under the profiler"
    return "\n".join([heading, "", *_aligned(rows)])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
