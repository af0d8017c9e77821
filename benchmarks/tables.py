"""Draw the figures of docs/results/performance.md, and write the tables of docs/contributing/notes/measured.md.

    mdfa bench --threads 1 --json docs/results/performance.json
    mdfa bench --json docs/results/performance_two_threads.json    on a quiet machine
    python benchmarks/gpu.py --json docs/results/gpu.json          on a machine with a GPU
    python benchmarks/tables.py

No number in figures and tables is typed by hand: what stands between two marks comes from a JSON file, and so do the
pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdfa_core import METHODS, OPTIMIZERS
from mdfa_core.bench import BENCHMARKS
from mdfa_core.bench.benchmarks import CompiledBenchmark, StepBenchmark
from mdfa_core.bench.report import host_lines, measured_rows, shown, shown_comparison, shown_spread
from mdfa_core.bench.workloads import BATCH

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULT = DOCS / "results" / "performance.json"
TWO_THREADS = DOCS / "results" / "performance_two_threads.json"
GPU_RESULT = DOCS / "results" / "gpu.json"
DOCUMENT = DOCS / "contributing" / "notes" / "measured.md"
IMAGES = DOCS / "images"
PARTS = ("one thread", "two threads", "on a GPU")
"""Names of the parts of `DOCUMENT`, which come from the three files above."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by most eyes


def marks(part: str) -> tuple[str, str]:
    """The comments between which a part of the document stands."""
    return (
        f"<!-- measured {part}: begin (benchmarks/tables.py writes up to the end mark) -->",
        f"<!-- measured {part}: end -->",
    )


def measured_part(content: Mapping[str, Any]) -> str:
    """The Markdown between the marks of the CPU benchmark."""
    its, of, protocol, gemm = content["machine"], content["versions"], content["protocol"], content["gemm"]
    memory = "" if its["memory GiB"] is None else f", {its['memory GiB']:g} GiB"
    load = "" if its["load"] is None else f" Load average when it ended: {its['load']:g}."
    lines = [
        f"Produced by `{content['command']}` on {content['date'][:10]}: {its['processor']}, {its['cores']} cores, "
        f"{its['instructions']}{memory}, {its['system']}; mdfa {of['mdfa']}, PyTorch {of['torch']} with oneDNN "
        f"{of['onednn']} and MKL {of['mkl']}, Python {of['python']}, NumPy {of['numpy']}; {content['threads']} "
        f"threads, {content['precision']}, large products by {gemm['served']} (MDFA_GEMM={gemm['asked for']}); "
        f"medians (quartiles) of {protocol['rounds']} interleaved blocks.{load}",
        "",
        *(f"- {line[0].upper()}{line[1:]}" for line in (host_lines(content) if "host" in content else [])),
        "",
        "| row | measured | mdfa | instead | | compared | aim | |",
        "| --- | --- | ---: | ---: | --- | --- | --- | --- |",
    ]
    for row in content["rows"]:
        if "skipped" in row:
            lines.append(f"| `{row['name']}` | {row['measured']} | | | {row['skipped']} | | | skipped |")
            continue
        aim = row["aim"]
        bound = "" if aim is None else ("≥ " if aim["at_least"] else "≤ ") + shown_comparison(row["kind"], aim["bound"])
        cells = (
            f"`{row['name']}`",
            row["measured"],
            shown(row["ours"]["median"], row["unit"]),
            shown(row["other"]["median"], row["unit"]),
            row["other_name"],
            shown_spread(row["kind"], row["compared"]),
            bound,
            {None: "", True: "met", False: "**not met**"}[row["met"]],
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += [line for row in measured_rows(content) for line in _details(row)]
    floors = [(row, row["floor"]) for row in measured_rows(content) if row.get("floor")]
    if floors:
        lines += ["", "| row | threads | floor | set by | measured ÷ floor |", "| --- | ---: | ---: | --- | ---: |"]
        for row, floor in floors:
            lines.append(
                f"| `{row['name']}` | {floor['threads']} | {shown(floor['seconds'], 's')} | {floor['set_by']} "
                f"| {floor['step ÷ floor']:.2f} |"
            )
    lines += _peers(measured_rows(content))
    return "\n".join(lines)


def _peers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the times of every code, for rows that were also measured in JAX."""
    found = [row for row in rows if "÷ JAX" in row["details"]]
    if not found:
        return []
    lines = ["", "| row | mdfa | PyTorch engine | autograd | JAX | mdfa ÷ JAX |", "| --- |" + " ---: |" * 5]
    for row in found:
        times = {name: of["median"] for name, of in row["details"]["variants"].items()}
        engine = times.get("PyTorch", times.get("this project"))
        seconds = (row["ours"]["median"], engine, _autograd(row), times["JAX"])
        cells = [*(shown(s, "s") for s in seconds), shown_spread("ratio", row["details"]["÷ JAX"])]
        lines.append(f"| `{row['name']}` | {' | '.join(cells)} |")
    return lines


def _autograd(row: Mapping[str, Any]) -> float:
    """Seconds of the fastest step by autograd."""
    ours = ("this project", "compiled", "PyTorch", "JAX")
    return min(of["median"] for name, of in row["details"]["variants"].items() if name not in ours)


def _details(row: Mapping[str, Any]) -> list[str]:
    details = row["details"]
    if "matrix rate" in details:
        head = [
            "",
            "The products that gave the floor's rate:",
            "",
            "| product | path | GFLOP/s |",
            "| --- | --- | ---: |",
        ]
        return head + [f"| {p['product']} | {p['path']} | {p['GFLOP/s']:.0f} |" for p in details["products"]]
    if "cost per replica" in details:
        costs = details["cost per replica"]
        return [
            "",
            f"`{row['name']}`, a step ÷ R:",
            "",
            "| R | " + " | ".join(str(cost["replicas"]) for cost in costs) + " |",
            "| --- |" + " ---: |" * len(costs),
            "| cost | " + " | ".join(shown(cost["median"], "s") for cost in costs) + " |",
        ]
    return []


def _curves(content: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Per network: stack sizes, and the cost per replica relative to a stack of one."""
    curves = {}
    for row in measured_rows(content):
        costs = row["details"].get("cost per replica")
        if costs:
            name = row["measured"].split(",")[0]
            curves[name] = [(cost["replicas"], cost["median"] / costs[0]["median"]) for cost in costs]
    return curves


def replicas_picture(content: Mapping[str, Any]) -> str:
    """The cost of one replica's step, relative to R = 1, against R."""
    return _lines(_curves(content), "replicas R in one stack", "cost per replica, R = 1 is 1")


def gpu_picture(content: Mapping[str, Any]) -> str:
    """Microseconds of one replica's step on the GPU with SGD, against R, on logarithmic axes."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in content["steps"]:
        if row["optimizer"] == "sgd" and "seconds" in row:
            cost = row["seconds"]["median"] / row["replicas"] * 1e6
            curves.setdefault(row["net"], []).append((row["replicas"], cost))
    return _lines(curves, "replicas R in one stack", "µs a step of one network", logarithmic=True)


def _lines(
    curves: Mapping[str, Sequence[tuple[int, float]]], across: str, up: str, *, logarithmic: bool = False
) -> str:
    """Curves as SVG: x on a logarithmic axis, y from 0 or logarithmic."""
    width, height, left, bottom = 640, 340, 60, 50
    most = max(math.log2(r) for points in curves.values() for r, _ in points) or 1
    values = [value for points in curves.values() for _, value in points]
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    low, top = (
        (math.log10(min(values) / 1.3), math.log10(max(values) * 1.3)) if logarithmic else (0.0, max(values) * 1.1)
    )

    def x(replicas: int) -> float:
        return left + math.log2(replicas) / most * (width - left - 120)

    def y(value: float) -> float:
        return height - bottom - (scale(value) - low) / (top - low) * (height - bottom - 20)

    parts = [
        *_canvas(width, height),
        f'<path d="M{left} 20V{height - bottom}H{width - 110}" fill="none" stroke="black"/>',
        f'<text x="{(left + width - 120) / 2}" y="{height - 10}" text-anchor="middle">{across}</text>',
        f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">{up}</text>',
    ]
    for value in (1, 10, 100) if logarithmic else (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        if value:
            parts.append(f'<path d="M{left} {y(value):.1f}H{width - 110}" stroke="#ddd"/>')
    for replicas in sorted({r for points in curves.values() for r, _ in points}):
        parts.append(f'<text x="{x(replicas):.1f}" y="{height - bottom + 18}" text-anchor="middle">{replicas}</text>')
    for (name, points), colour in zip(curves.items(), _COLOURS, strict=False):
        path = "L".join(f"{x(r):.1f} {y(value):.1f}" for r, value in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}"/>' for r, value in points]
        last, value = points[-1]
        parts.append(f'<text x="{x(last) + 8:.1f}" y="{y(value) + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def steps_picture(content: Mapping[str, Any]) -> str:
    """The time of every step ÷ autograd's, on a logarithmic axis: this project, JAX and the floor."""
    rows = [(label, row) for row in measured_rows(content) if (label := _label(row["name"]))]
    rows.sort(key=lambda pair: list(BENCHMARKS).index(pair[1]["name"]))
    left, right, step, above = 250, 690, 26, 46
    height = above + step * len(rows) + 42
    values = [seconds / _autograd(row) for _, row in rows for seconds, *_ in _points(row)]
    low, high = math.log10(min(values)) - 0.1, 0.35

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (right - left)

    parts = _canvas(770, height)
    for at, (_, symbol, name) in zip((left, left + 170, left + 280), _points(None), strict=True):
        parts += [symbol(at, 18), f'<text x="{at + 10}" y="22">{name}</text>']
    for value in (0.001, 0.01, 0.1, 1):
        if math.log10(value) >= low:
            stroke = "black" if value == 1 else "#ddd"
            parts.append(f'<path d="M{x(value):.1f} {above - 12}V{height - 40}" stroke="{stroke}"/>')
            parts.append(f'<text x="{x(value):.1f}" y="{height - 24}" text-anchor="middle">{value:g}</text>')
    parts.append(
        f'<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">time of a step ÷ autograd</text>'
    )
    for number, (label, row) in enumerate(rows):
        y = above + step * number + 4
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{label}</text>')
        parts += [symbol(x(seconds / _autograd(row)), y) for seconds, symbol, _ in _points(row)]
        parts.append(f'<text x="{right + 6}" y="{y + 4}">{shown(row["ours"]["median"], "s")}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(row: Mapping[str, Any] | None) -> list[tuple[float, Callable[[float, float], str], str]]:
    """Seconds, symbol and name of every point of a row of `steps_picture`; all symbols without a row."""
    found: list[tuple[float | None, Callable[[float, float], str], str]] = [
        (None, lambda x, y: f'<path d="M{x:.1f} {y - 8}v16" stroke="#777" stroke-width="3"/>', "floor of this machine"),
        (None, lambda x, y: f'<path d="M{x:.1f} {y - 6}l6 6l-6 6l-6-6z" fill="{_COLOURS[1]}"/>', "JAX, jitted"),
        (None, lambda x, y: f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{_COLOURS[0]}"/>', "this project"),
    ]
    if row is None:
        return [(0.0, symbol, name) for _, symbol, name in found]
    jax = row["details"]["variants"].get("JAX", {}).get("median")
    times = (row["floor"]["seconds"], jax, row["ours"]["median"])
    return [(s, symbol, name) for s, (_, symbol, name) in zip(times, found, strict=True) if s is not None]


def _label(name: str) -> str | None:
    """A row of `steps_picture` in words; None for rows that are not in it."""
    benchmark = BENCHMARKS.get(name)
    if not isinstance(benchmark, StepBenchmark | CompiledBenchmark):
        return None
    work, compiled = benchmark.workload, isinstance(benchmark, CompiledBenchmark)
    how = ", one by one" if work.batch == 1 else ", compiled" if compiled else ""
    return f"{work.title}, {METHODS[work.method].title}, {OPTIMIZERS[work.optimizer].title}{how}"


def _canvas(width: int, height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]


def gpu_part(content: Mapping[str, Any]) -> str:
    """The Markdown between the marks of the GPU benchmark."""
    its, of, limit = content["machine"], content["versions"], content["limits"]
    lines = [
        f"Produced by `python benchmarks/gpu.py` in {content['seconds']:.0f} s: {content['hardware']}, "
        f"CUDA {of['cuda']}; mdfa {of['mdfa']}, PyTorch {of['torch']}, Python {of['python']}; {its['processor']}, "
        f"{its['cores']} cores. {content.get('precision', 'float32')}; mDFA, batches of {BATCH}; medians. The card's "
        f"own rates: {limit['FLOP/s'] / 1e12:.3g} TFLOP/s (a large product), {limit['bytes/s'] / 1e12:.3g} TB/s (a "
        "large copy).",
        "",
        "| network | optimizer | R | a step | without a graph | a step ÷ R | of the product's rate "
        "| of the memory floor |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in content["steps"]:
        head = f"| {row['net']} | {OPTIMIZERS[row['optimizer']].title} | {row['replicas']} "
        if "skipped" in row:
            lines.append(f"{head}| {row['skipped']} | | | | |")
            continue
        seconds, launched = row["seconds"]["median"], row["seconds without a graph"]
        floor = row.get("share of the bandwidth floor")
        cells = (
            shown(seconds, "s"),
            "" if launched is None else shown(launched["median"], "s"),
            f"{seconds / row['replicas'] * 1e6:.3g} µs",
            f"{row['share of the matrix rate'] * 100:.2g} %",
            "" if floor is None else f"{floor * 100:.2g} %",
        )
        lines.append(f"{head}| " + " | ".join(cells) + " |")
    ways = tuple(content["convolutions"][0]["seconds"])
    lines += [
        "",
        f"The products of {content['convolutions'][0]['replicas']} replicas' convolutions, each way:",
        "",
        "| network | layer | product | " + " | ".join(ways) + " |",
        "| --- | --- | --- |" + " ---: |" * len(ways),
    ]
    for row in content["convolutions"]:
        times = [shown(row["seconds"][way]["median"], "s") for way in ways]
        lines.append(f"| {row['net']} | {row['layer']} | {row['product']} | " + " | ".join(times) + " |")
    repeated = content.get("repeatability", ())  # not in files of format 1
    if repeated:
        lines += [
            "",
            "Two equal runs of a few steps:",
            "",
            "| network | R | cuDNN deterministic | bit-identical | a step |",
            "| --- | ---: | --- | --- | ---: |",
        ]
    for row in repeated:
        on, alike = ("yes" if row[name] else "no" for name in ("deterministic", "bit-identical"))
        lines.append(f"| {row['net']} | {row['replicas']} | {on} | {alike} | {shown(row['seconds']['median'], 's')} |")
    return "\n".join(lines)


def with_part(document: str, name: str, part: str) -> str:
    """The document with `part` inserted between the marks of the part called `name`."""
    begin, end = marks(name)
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{part}\n{end}{after}"


def written(document: str, contents: Sequence[Mapping[str, Any]]) -> str:
    """The document with all of its parts, from the contents of the three files."""
    made = (measured_part(contents[0]), measured_part(contents[1]), gpu_part(contents[2]))
    for name, part in zip(PARTS, made, strict=True):
        document = with_part(document, name, part)
    return document


def pictures(contents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The figures by file name, from the contents of the three files."""
    return {
        "steps.svg": steps_picture(contents[0]),
        "replicas.svg": replicas_picture(contents[1]),
        "replicas-gpu.svg": gpu_picture(contents[2]),
    }


def main(
    files: Sequence[Path] = (RESULT, TWO_THREADS, GPU_RESULT), document: Path = DOCUMENT, images: Path = IMAGES
) -> None:
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    document.write_text(written(document.read_text(encoding="utf-8"), contents), encoding="utf-8")
    for name, picture in pictures(contents).items():
        (images / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
