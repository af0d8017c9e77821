"""The parts of pages that are written by the build, from the program itself."""

from __future__ import annotations

import csv
import dataclasses
import html
import importlib
import inspect
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from _site import links
from _site.markup import escaped, markdown
from mdfa_core import ACTIVATIONS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment, Network
from mdfa_core.cli.settings import SETTINGS
from mdfa_core.rules import Method, sign_guarantee
from mdfa_core.rules.drawing import Arrow, transport_drawing
from mdfa_core.runs import FLAT
from mdfa_core.studies.reports import tidy
from mdfa_core.training import EVENTS, QUANTITIES

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS / "results"
PART = re.compile(r"<!-- site: (?P<name>[a-z]+)(?: (?P<argument>[^>]+))? -->.*?<!-- site: end -->", re.DOTALL)


def filled(text: str, path: Path) -> str:
    """The text of the page `path` with its generated parts.

    Raises:
        KeyError: there is no part of this name.
    """
    return PART.sub(lambda match: PARTS[match["name"]](match["argument"] or "", path), text)


def include(argument: str, path: Path) -> str:
    """Another file of the repository below its title, or a section of it (`FILE#heading`) below its heading.

    Links start at this page.

    Raises:
        ValueError: the file has no such section.
    """
    name, _, heading = argument.partition("#")
    file = (path.parent / name).resolve()
    _, _, text = file.read_text(encoding="utf-8").partition("\n")
    if heading:
        sections = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
        (text,) = (below for title, below in sections.items() if title.lower().replace(" ", "-") == heading)
    return links.rewritten(text, file.parent, path.parent)


def replay(argument: str, path: Path) -> str:
    """A replay of the gallery, playing; it is loaded after the page."""
    return (
        f'<iframe class="replay" src="gallery/{argument}.html" loading="lazy" '
        f'title="Replay: networks that learn, a row for each rule and a dot for each hidden unit"></iframe>\n'
    )


def commands(argument: str, path: Path) -> str:
    """Every command of the program with its options."""
    return "```{eval-rst}\n.. click:: mdfa_core.cli.program:cli\n   :prog: mdfa\n   :nested: full\n```\n"


def api(argument: str, path: Path) -> str:
    """Every public name of some modules with its signature and docstring; a package shows what its `__all__` lists."""
    names = argument.split()
    parts = []
    for name in names:
        imported = "\n   :imported-members:" if hasattr(importlib.import_module(name), "__all__") else ""
        heading = f"## {name}\n\n" if len(names) > 1 else ""
        parts.append(f"{heading}```{{eval-rst}}\n.. automodule:: {name}{imported}\n```\n")
    return "\n".join(parts)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(value: object) -> str:
    """A value as code, for a cell of a table."""
    return f"`{value}`"


# ------------------------------------------------------------------------------------------------------------ cards


def method(argument: str, path: Path) -> str:
    """The card of a learning rule without its title: drawing, formula, source, guarantee and measured figures."""
    rule = METHODS[argument]
    return f"{_facts(argument, rule, path)}\n{_figures(argument, rule)}"


def _facts(name: str, method: Method, path: Path) -> str:
    tanh = ACTIVATIONS["tanh"]
    transport = method.transport
    one, two = (sign_guarantee(method, tanh, outputs).reason for outputs in (1, 2))
    own = markdown(type(transport).__doc__)
    attachable = "yes" if transport.attachment() is not None else f"no: it {transport.unattachable}"
    facts = [
        ("Name", f"`method={name!r}`, `--method {name}`"),
        ("Guarantee, one output", escaped(one)),
        *([("Guarantee, two outputs", escaped(two))] if two != one else []),
        ("Feedback that learns", "yes" if transport.learns_feedback else "no"),
        (f"With [attach]({Path(os.path.relpath(DOCS / 'howto/attach.md', path.parent)).as_posix()})", attachable),
    ]
    constraint = "Weights above the first layer and feedback are kept ≥ 0.\n\n" if method.constraint.feedback else ""
    described = f"{escaped(method.description[0].upper() + method.description[1:])}.\n\n"
    listed = "".join(f"- **{fact}**: {text}\n" for fact, text in facts)
    return f'<div class="card">{drawing(method)}</div>\n\n{described}{constraint}{own}\n\n{listed}\n'


def _figures(name: str, method: Method) -> str:
    """Accuracy and sign agreement of a rule, in percent, from the published files."""
    rows = [
        (
            "two digits, one output" if row["outputs"] == 1 else "ten digits, ten outputs",
            *(_percent(100 * row[key], 100 * row[f"{key} ±"]) for key in ("test", "train", "unit")),
        )
        for study, found in json.loads((RESULTS / "neighbours.json").read_text(encoding="utf-8")).items()
        for row in found["rows"]
        if study.startswith("digits") and row["rule"] == method.title
    ]
    with (RESULTS / "figures.csv").open(encoding="utf-8", newline="") as file:
        cell = {
            (row["role"], row["quantity"]): _percent(float(row["mean"]), float(row["std"]))
            for row in csv.DictReader(file)
            if (row["table"], row["network"], row["activation"], row["classes"]) == ("1", "fc", "tanh", "2")
            and row["method"] == name
        }
    if cell:
        task = "two classes of CIFAR-100, one output ([Table 1](../results/table-1.md))"
        rows.append((task, cell["chosen", "test"], cell["best fit", "train_best"], "–"))
    return table(("task", "test accuracy, %", "best training accuracy, %", "unit signs, %"), rows) if rows else ""


def _percent(mean: float, deviation: float) -> str:
    return f"{mean:.1f} ± {deviation:.1f}"


def drawing(method: Method) -> str:
    """The paper's Figure 1 of a method, as SVG in the colours of the page."""
    drawn = transport_drawing(method)
    width, height = 2.6, 3.8

    def at(x: float, y: float) -> str:
        return f"{100 * (x + 0.9):.0f},{100 * (height - 0.4 - y):.0f}"

    def line(arrow: Arrow) -> str:
        points, head = " ".join(at(*p) for p in arrow.line), " ".join(at(*p) for p in arrow.head)
        x, y = at(*arrow.label_at).split(",")
        return (
            f'<g class="{arrow.kind}"><polyline points="{points}"/><polygon points="{head}"/>'
            f'<text x="{x}" y="{y}">{html.escape(arrow.label)}</text></g>'
        )

    boxes = []
    for box in drawn.boxes:
        left, bottom, right, top = box.corners
        x, y = at(left, top).split(",")
        middle = at(*box.center).split(",")
        boxes.append(
            f'<rect x="{x}" y="{y}" width="{100 * (right - left):.0f}" height="{100 * (top - bottom):.0f}" rx="6"/>'
            f'<text x="{middle[0]}" y="{middle[1]}">{html.escape(box.name)}</text>'
        )
    title = html.escape(f"{method.title}: forward path on the left, error path on the right")
    return (
        f'<svg class="rule" viewBox="0 0 {100 * width:.0f} {100 * height:.0f}" role="img" aria-label="{title}">'
        f"{''.join(boxes)}{''.join(map(line, drawn.arrows))}</svg>"
    )


def rules(argument: str, path: Path) -> str:
    """The drawings of some methods side by side, and their colours and dashes."""
    names = argument.split()
    figures = [
        f"<figure>{drawing(METHODS[name])}<figcaption>{METHODS[name].title}</figcaption></figure>" for name in names
    ]
    return f'<div class="rules">{"".join(figures)}</div>\n'


def initializers(argument: str, path: Path) -> str:
    """A card for every initializer."""
    return "\n".join(
        f"## {name}\n\n{markdown(kind.__doc__)}\n\nWritten `{kind()}`.\n" for name, kind in INITIALIZERS.items()
    )


def optimizers(argument: str, path: Path) -> str:
    """A card for every optimizer."""
    return "\n".join(f"## {name}\n\n{markdown(type(kind).__doc__)}\n" for name, kind in OPTIMIZERS.items())


def activations(argument: str, path: Path) -> str:
    """A row for every activation."""
    rows = [
        (code(name), kind.title, "yes" if kind.monotone else "no: outside Theorem 2")
        for name, kind in ACTIVATIONS.items()
    ]
    return table(("name", "title", "monotone"), rows)


def networks(argument: str, path: Path) -> str:
    """A row for every preset network, with its size on the images it is meant for."""
    shapes = {"plane": (2, 1, 1), "digits": (1, 8, 8), "cifar": (3, 32, 32), "imagenet": (3, 224, 224)}
    rows = []
    for name, architecture in NETWORKS.items():
        shape = shapes[name.partition("-")[0]]
        network = Network(architecture, shape, 1, ACTIVATIONS["tanh"])
        size = sum(math.prod(layer.weight_shape) + layer.weight_shape[0] for layer in network.layers)
        rows.append((code(name), code(architecture), "×".join(map(str, shape)), f"{size:,}"))
    return table(("name", "architecture", "input", "weights and biases, one output"), rows)


# ----------------------------------------------------------------------------------------------- events and tables


def events(argument: str, path: Path) -> str:
    """Every event with its fields."""
    return "\n".join(_event(name, kind) for name, kind in EVENTS.items())


def _event(name: str, kind: type[Any]) -> str:
    meanings = _field_docstrings(kind)
    rows = [
        (code(field.name), escaped(_type(field.type)), escaped(meanings.get(field.name, "")))
        for field in dataclasses.fields(kind)
        if field.name not in ("step", "epoch")
    ]
    return f"## {name}\n\n{markdown(kind.__doc__)}\n\n{table(('field', 'type', 'meaning'), rows)}\n"


def _type(annotation: object) -> str:
    return str(annotation).replace(" | None", " or None").replace(", ...]", ", …]")


def _field_docstrings(kind: type[Any]) -> dict[str, str]:
    """The string under each field of a class."""
    found = re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', inspect.getsource(kind), re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def quantities(argument: str, path: Path) -> str:
    """Every quantity of a history's table."""
    return table(("quantity", "meaning"), [(code(name), escaped(text)) for name, text in QUANTITIES.items()])


def settings(argument: str, path: Path) -> str:
    """Every setting of an experiment, with its option, default and meaning."""
    fields = {field.name: field for field in dataclasses.fields(Experiment)}
    parts = []
    for panel, names in SETTINGS.items():
        rows = [
            (code(name), code(f"--{name.replace('_', '-')}"), code(fields[name].default), _meaning(fields[name]))
            for name in names
        ]
        parts.append(f"## {panel}\n\n{table(('setting', 'option', 'default', 'meaning'), rows)}")
    return "\n".join(parts)


def _meaning(field: Any) -> str:
    choices = field.metadata["choices"]
    listed = f": {', '.join(code(name) for name in choices())}" if choices else ""
    return escaped(field.metadata["help"]) + listed


def flat(argument: str, path: Path) -> str:
    """The flat tables of a store and their columns."""
    parts = []
    for name, kind in FLAT.items():
        columns = ", ".join(f"`{column}`" for column in kind.columns)
        parts.append(f"### {name}\n\n`--table {name}`: {escaped(kind.description)}.\n\n{columns}\n")
    rows = [(code(name), escaped(text)) for name, text in tidy.QUANTITIES.items()]
    return "\n".join(parts) + f"\n### tidy\n\n{markdown(tidy.__doc__)}\n\n{table(('quantity', 'meaning'), rows)}"


PARTS: dict[str, Callable[[str, Path], str]] = {
    part.__name__: part
    for part in (
        *(activations, api, commands, events, flat, include, initializers, method, networks, optimizers),
        *(quantities, replay, rules, settings),
    )
}
