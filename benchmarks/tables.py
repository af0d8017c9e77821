"""Write what `mdfa bench --json` measured into docs/performance.md, and the cost per replica as a picture.

    mdfa bench --json docs/performance.json
    python benchmarks/tables.py

No number in that document is typed by hand: what stands between its two marks comes from the JSON file, and so does the
picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdfa_core.bench.report import shown, shown_comparison, shown_spread

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULT = DOCS / "performance.json"
DOCUMENT = DOCS / "performance.md"
PICTURE = DOCS / "images" / "replicas.svg"
BEGIN = "<!-- measured: begin (benchmarks/tables.py writes up to the end mark) -->"
END = "<!-- measured: end -->"

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by most eyes


def measured_part(content: Mapping[str, Any]) -> str:
    """What stands between the marks."""
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
    lines += [line for row in content["rows"] for line in _details(row)]
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
    """Per net: replicas, and a replica's cost relative to a stack of one."""
    curves = {}
    for row in content["rows"]:
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


def with_part(document: str, part: str) -> str:
    """The document with `part` between its marks."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def _relative(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def main(files: Sequence[Path] = (RESULT, DOCUMENT, PICTURE)) -> None:
    result, document, image = files
    content = json.loads(result.read_text(encoding="utf-8"))
    document.write_text(with_part(document.read_text(encoding="utf-8"), measured_part(content)), encoding="utf-8")
    if _curves(content):
        image.write_text(picture(content), encoding="utf-8")


if __name__ == "__main__":
    main()
