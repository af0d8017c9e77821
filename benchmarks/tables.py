"""Write benchmark results into docs/results/performance.md, and draw the cost per replica.

    mdfa bench --json docs/results/performance.json
    python benchmarks/gpu.py --json docs/results/gpu.json     on a machine with a GPU
    python benchmarks/tables.py

No number in its tables is typed by hand: what stands between two marks comes from the JSON file, and so does the
picture.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdfa_core import OPTIMIZERS
from mdfa_core.bench.report import measured_rows, shown, shown_comparison, shown_spread
from mdfa_core.bench.workloads import BATCH

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULT = DOCS / "results" / "performance.json"
DOCUMENT = DOCS / "results" / "performance.md"
PICTURE = DOCS / "images" / "replicas.svg"
BEGIN = "<!-- measured: begin (benchmarks/tables.py writes up to the end mark) -->"
END = "<!-- measured: end -->"
GPU_RESULT = DOCS / "results" / "gpu.json"
GPU_BEGIN = "<!-- measured on a GPU: begin (benchmarks/tables.py writes up to the end mark) -->"
GPU_END = "<!-- measured on a GPU: end -->"

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by most eyes


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
    if _curves(content):
        lines += ["", f"![Cost of one replica's step against the number of replicas]({_relative(PICTURE)})"]
    return "\n".join(lines)


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


def picture(content: Mapping[str, Any]) -> str:
    """The cost per replica as SVG: R on a logarithmic axis, cost relative to R = 1."""
    curves = _curves(content)
    width, height, left, bottom = 640, 340, 60, 50
    most = max(math.log2(r) for points in curves.values() for r, _ in points) or 1
    top = max(1.0, *(cost for points in curves.values() for _, cost in points)) * 1.1

    def x(replicas: int) -> float:
        return left + math.log2(replicas) / most * (width - left - 120)

    def y(cost: float) -> float:
        return height - bottom - cost / top * (height - bottom - 20)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} 20V{y(0):.1f}H{width - 110}" fill="none" stroke="black"/>',
        f'<text x="{(left + width - 120) / 2}" y="{height - 10}" text-anchor="middle">replicas R in one stack</text>',
        f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">'
        "cost per replica, R = 1 is 1</text>",
    ]
    for cost in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{left - 8}" y="{y(cost) + 4:.1f}" text-anchor="end">{cost:g}</text>')
        parts.append(f'<path d="M{left} {y(cost):.1f}H{width - 110}" stroke="#ddd"/>' if cost else "")
    for replicas in sorted({r for points in curves.values() for r, _ in points}):
        parts.append(f'<text x="{x(replicas):.1f}" y="{y(0) + 18:.1f}" text-anchor="middle">{replicas}</text>')
    for (name, points), colour in zip(curves.items(), _COLOURS, strict=False):
        path = "L".join(f"{x(r):.1f} {y(cost):.1f}" for r, cost in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(r):.1f}" cy="{y(cost):.1f}" r="3.5" fill="{colour}"/>' for r, cost in points]
        last, cost = points[-1]
        parts.append(f'<text x="{x(last) + 8:.1f}" y="{y(cost) + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([part for part in parts if part] + ["</svg>"]) + "\n"


def gpu_part(content: Mapping[str, Any]) -> str:
    """The Markdown between the marks of the GPU benchmark."""
    its, of, limit = content["machine"], content["versions"], content["limits"]
    lines = [
        f"Produced by `python benchmarks/gpu.py` in {content['seconds']:.0f} s: {content['hardware']}, "
        f"CUDA {of['cuda']}; mdfa {of['mdfa']}, PyTorch {of['torch']}, Python {of['python']}; {its['processor']}, "
        f"{its['cores']} cores. float32; mDFA, batches of {BATCH}; medians. The card's own rates: "
        f"{limit['FLOP/s'] / 1e12:.3g} TFLOP/s (a large product), {limit['bytes/s'] / 1e12:.3g} TB/s (a large copy).",
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
    return "\n".join(lines)


def with_part(document: str, part: str, begin: str = BEGIN, end: str = END) -> str:
    """The document with `part` inserted between its marks."""
    before, rest = document.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{part}\n{end}{after}"


def _relative(path: Path) -> str:
    return Path(os.path.relpath(path, DOCUMENT.parent)).as_posix()


def main(files: Sequence[Path] = (RESULT, GPU_RESULT, DOCUMENT, PICTURE)) -> None:
    result, gpu_result, document, image = files
    content, on_gpu = (json.loads(file.read_text(encoding="utf-8")) for file in (result, gpu_result))
    text = with_part(document.read_text(encoding="utf-8"), measured_part(content))
    document.write_text(with_part(text, gpu_part(on_gpu), GPU_BEGIN, GPU_END), encoding="utf-8")
    if _curves(content):
        image.write_text(picture(content), encoding="utf-8")


if __name__ == "__main__":
    main()
