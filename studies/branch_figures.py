"""Draw the figures of docs/results/branches.md and write branch_tables.md beside it, both from branches.json."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter
from scipy import stats

from mdfa_core import METHODS
from mdfa_core.studies.branch_prediction import DeepPredictor, tree_paths, update_cost
from mdfa_core.studies.reports.figures.style import Drawing, colour, dash, key, marker, note, panels, styled

DOCS = Path(__file__).resolve().parents[1] / "docs"
STUDY = json.loads((DOCS / "results" / "branches.json").read_text(encoding="utf-8"))
ROWS, PROGRAMS = STUDY["rows"], list(STUDY["rows"]["tage-64"]["wrong"])
RULES = ("mdfa", "dfa", "fa", "bp")


def rates(name: str) -> np.ndarray:
    """Mispredictions per thousand branches of every program."""
    return np.array([1000 * ROWS[name]["wrong"][p] / STUDY["traces"][p]["branches"] for p in PROGRAMS])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % t-interval over programs."""
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return mean, mean - half, mean + half


def rule_of(name: str) -> str | None:
    """The learning rule in a row's name."""
    words = name.replace(",", "").split()
    return next((rule for rule in RULES if METHODS[rule].title in words), None)


def look(name: str) -> dict:
    rule = rule_of(name)
    if rule is not None:
        return {"color": colour(rule), "marker": marker(rule)}
    return {"color": note("").get_color(), "marker": "|" if "hidden" in name else "x"}


@styled
def mispredictions() -> Drawing:
    names = [name for name in ROWS if name != "always-taken" and not name.endswith("-32")]
    figure, [[axes]] = panels(1, 1, 0.24 * len(names) + 0.9)
    for row, name in enumerate(reversed(names)):
        values, style = rates(name), look(name)
        axes.plot(values, [row] * len(values), linestyle="none", alpha=0.35, markersize=4, **style)
        axes.plot(values.mean(), row, linestyle="none", markersize=8, markeredgewidth=1.6, **style)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([10, 20, 50, 100, 200])
    axes.set_xlabel("mispredictions per thousand branches")
    return Drawing(
        figure=figure,
        finding="Tables with long histories mispredict least; a deep network beside TAGE improves it a little.",
        reading="Small marks are programs, large marks their mean. Names end in the state of a table in KiB.",
    )


@styled
def learning_curves() -> Drawing:
    figure, grid = panels(2, 4, 4.4, sharex=True)
    drawn = ("gshare-64", "tage-64", "one net, mDFA 2 × 32", "one net, BP 2 × 32")
    lines = ("dotted", "dashed", dash("mdfa"), dash("bp"))
    for axes, program in zip([axes for row in grid for axes in row], PROGRAMS, strict=True):
        for name, line in zip(drawn, lines, strict=True):
            curve = ROWS[name]["curves"][program]
            place = (np.arange(len(curve)) + 0.5) / len(curve) * STUDY["traces"][program]["branches"] / 1e6
            axes.plot(place, curve, color=look(name)["color"], linestyle=line, linewidth=1.2)
        axes.set_title(program)
        axes.set_ylim(bottom=0)
    for row in grid:
        row[0].set_ylabel("per thousand")
    for axes in grid[1]:
        axes.set_xlabel("million branches")
    handles = [note(n, linestyle=s) for n, s in zip(drawn[:2], lines[:2], strict=True)]
    figure.legend(handles=[*handles, key("mdfa"), key("bp")], loc="outside upper center", ncols=4)
    return Drawing(
        figure=figure,
        finding="Networks and tables follow the same phases of a program.",
        reading="Mispredictions per thousand branches in 50 parts of each trace; networks have two layers of 32.",
    )


@styled
def after_a_switch() -> Drawing:
    figure, [row] = panels(1, 2, 2.9, sharey=True)
    drawn = {
        "gshare-64": "dotted",
        "tage-64": "dashed",
        "one net, no hidden layer": "dashdot",
        "one net, mDFA 2 × 32": dash("mdfa"),
        "one net, BP 2 × 32": dash("bp"),
    }
    for part, axes in enumerate(row):
        for name, line in drawn.items():
            curve = ROWS[name]["after a switch"][part]
            axes.plot(np.arange(len(curve)) + 0.5, curve, color=look(name)["color"], linestyle=line, linewidth=1.3)
        axes.set_title(("a program seen for the first time", "the same program after seven others")[part])
        axes.set_xlabel("thousand branches after the switch")
        axes.set_ylim(bottom=0)
    row[0].set_ylabel("mispredictions per thousand")
    handles = [note(name, linestyle=line) for name, line in drawn.items() if rule_of(name) is None]
    figure.legend(handles=[*handles, key("mdfa"), key("bp")], loc="outside upper center", ncols=5)
    return Drawing(
        figure=figure,
        finding="Tables adapt faster to a new program than networks, and remember it better.",
        reading="The mean over eight programs that take turns every 50,000 branches, in two rounds.",
    )


@styled
def accuracy_against_state() -> Drawing:
    figure, [[axes]] = panels(1, 1, 4.8)
    above, below, left = (5, 5, "left"), (5, -10, "left"), (-6, -3, "right")
    labels = {
        "bimodal-64": ("bimodal", above),
        "gshare-64": ("gshare", above),
        "perceptron-64": ("perceptron", left),
        "tage-64": ("TAGE", left),
        "one net, no hidden layer": ("one net, no hidden layer", below),
        "64 nets, no hidden layer": ("64 nets, no hidden layer", left),
        "one net, BP 1 × 32": ("one net", left),
        "64 nets, mDFA 2 × 8": ("64 nets", above),
        "64 nets, mDFA 1 × 8, 8 bits": ("64 nets, 8 bits", left),
        "64 nets, mDFA 1 × 8, 4 bits": ("64 nets, 4 bits", above),
        "hashed, mDFA 1 × 4, 8 bits": ("hashed, 8 bits", above),
        "TAGE + mDFA 2 × 32": ("TAGE + nets", below),
    }
    for name in ROWS:
        if name == "always-taken" or name.endswith("-32"):
            continue
        x, y = ROWS[name]["bits"] / 8192, rates(name).mean()
        axes.plot(x, y, linestyle="none", markersize=6, **look(name))
        if name in labels:
            text, (dx, dy, side) = labels[name]
            axes.annotate(text, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=8, ha=side)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks([1, 4, 16, 64, 256])
    axes.set_yticks([30, 40, 60, 100])
    axes.set_ylim(28, 120)
    axes.set_xlabel("state, KiB")
    axes.set_ylabel("mispredictions per thousand")
    axes.legend(handles=[key(rule, line=False) for rule in RULES if any(rule_of(n) == rule for n in ROWS)])
    return Drawing(
        figure=figure,
        finding="At equal state, TAGE mispredicts less than any network on its own.",
        reading="Every mark is a predictor: its size, and its mean over eight programs.",
    )


@styled
def update_time() -> Drawing:
    figure, [[time, path]] = panels(1, 2, 3.0)
    for rule in RULES:
        steps = STUDY["microseconds"][f"{rule} 64"]
        depths = [int(depth) for depth in steps]
        style = {"color": colour(rule), "linestyle": dash(rule), "marker": marker(rule), "markersize": 4.5}
        time.plot(depths, [steps[str(depth)]["update"] for depth in depths], **style)
        paths = [tree_paths(DeepPredictor(rule, d, 64).network, METHODS[rule])[1] for d in depths]
        path.plot(depths, paths, **style)
    forward = [STUDY["microseconds"]["mdfa 64"][str(depth)]["forward"] for depth in depths]
    time.plot(depths, forward, color=note("").get_color(), linestyle="dotted")
    forward = [tree_paths(DeepPredictor("mdfa", d, 64).network, METHODS["mdfa"])[0] for d in depths]
    path.plot(depths, forward, color=note("").get_color(), linestyle="dotted")
    for axes, title, unit in (
        (time, "measured on one core", "microseconds"),
        (path, "critical path with adder trees", "operations in a row"),
    ):
        axes.set_title(title)
        axes.set_ylabel(unit)
        axes.set_xlabel("hidden layers of 64")
        axes.set_xticks(depths)
        axes.set_ylim(bottom=0)
    figure.legend(
        handles=[*map(key, RULES), note("prediction, any rule", linestyle="dotted")],
        loc="outside upper center",
        ncols=5,
    )
    return Drawing(
        figure=figure,
        finding="On one core, the update time of every rule grows with depth; mDFA's critical path does not.",
        reading="Left: time from the outcome to the last changed weight. Right: the model of parallel hardware.",
    )


FIGURES = {
    "mispredictions": mispredictions,
    "curves": learning_curves,
    "switch": after_a_switch,
    "state": accuracy_against_state,
    "update": update_time,
}


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body))


def traces() -> str:
    return table(
        ["program", "addresses", "taken, %", "instructions per branch", "file, KB"],
        [
            [
                name,
                f"{t['addresses']:,}",
                f"{100 * t['taken']:.1f}",
                f"{t['instructions'] / t['branches']:.1f}",
                f"{t['bytes'] / 1000:.0f}",
            ]
            for name, t in STUDY["traces"].items()
        ],
    )


def predictors() -> str:
    return table(
        ["predictor", "KiB", "η", "mean", *PROGRAMS, "million branches a second"],
        [
            [
                name,
                f"{row['bits'] / 8192:.1f}",
                str(row.get("learning rate", "–")),
                f"{rates(name).mean():.1f}",
                *(f"{rate:.1f}" for rate in rates(name)),
                f"{row['branches per second'] / 1e6:.2f}" if name != "always-taken" else "–",
            ]
            for name, row in ROWS.items()
        ],
    )


PAIRS = (
    ("one net, mDFA 1 × 32", "one net, BP 1 × 32"),
    ("one net, mDFA 2 × 32", "one net, BP 2 × 32"),
    ("one net, mDFA 4 × 32", "one net, BP 4 × 32"),
    ("64 nets, mDFA 1 × 8", "64 nets, BP 1 × 8"),
    ("64 nets, mDFA 2 × 8", "64 nets, BP 2 × 8"),
    ("TAGE + mDFA 2 × 32", "TAGE + BP 2 × 32"),
    ("TAGE + hashed, mDFA 1 × 4, 8 bits", "TAGE + hashed, BP 1 × 4, 8 bits"),
    ("one net, mDFA 2 × 32", "one net, DFA 2 × 32"),
    ("one net, mDFA 1 × 32", "one net, no hidden layer"),
    ("one net, mDFA 2 × 32", "one net, mDFA 1 × 32"),
    ("one net, mDFA 4 × 32", "one net, mDFA 1 × 32"),
    ("one net, BP 4 × 32", "one net, BP 1 × 32"),
    ("64 nets, mDFA 1 × 8", "64 nets, no hidden layer"),
    ("64 nets, mDFA 2 × 8", "64 nets, mDFA 1 × 8"),
    ("hashed, mDFA 1 × 4, 8 bits", "hashed, no hidden layer, 8 bits"),
    ("TAGE + hashed, mDFA 1 × 4, 8 bits", "TAGE + hashed, no hidden layer, 8 bits"),
    ("TAGE + hashed, mDFA 2 × 4, 8 bits", "TAGE + hashed, mDFA 1 × 4, 8 bits"),
    ("64 nets, mDFA 1 × 8, 8 bits", "64 nets, mDFA 1 × 8"),
    ("64 nets, mDFA 1 × 8, 4 bits", "64 nets, mDFA 1 × 8"),
    ("tage-128", "tage-64"),
    ("TAGE + no hidden layer", "tage-64"),
    ("TAGE + mDFA 2 × 32", "tage-64"),
    ("TAGE + mDFA 2 × 32", "tage-128"),
    ("TAGE + hashed, no hidden layer, 8 bits", "tage-64"),
    ("TAGE + hashed, mDFA 1 × 4, 8 bits", "tage-64"),
    ("one net, mDFA 2 × 32", "tage-64"),
)
"""Differences that the page's conclusions rest on: rules, depth, bits, TAGE."""


def differences() -> str:
    body = []
    for one, other in PAIRS:
        difference = rates(one) - rates(other)
        mean, low, high = interval(difference)
        better = int((difference < 0).sum())
        body.append([f"{one} − {other}", f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{better} of {len(PROGRAMS)}"])
    return table(["difference", "mean", "95 % interval over programs", "programs with fewer mispredictions"], body)


def by_executions() -> str:
    groups = ["fewer than 100", "100 to 999", "1,000 to 9,999", "10,000 or more"]
    names = ["tage-64", "perceptron-64", "one net, no hidden layer"]
    names += [f"one net, mDFA {layers} × 32" for layers in (1, 2, 4)]
    executed = ROWS["tage-64"]["branches by executions"]
    return table(
        ["executions of the branch instruction", "share of all branches, %", *names],
        [
            [group, f"{100 * executed[g] / sum(executed):.1f}"]
            + [f"{1000 * ROWS[name]['wrong by executions'][g] / executed[g]:.1f}" for name in names]
            for g, group in enumerate(groups)
        ],
    )


def latency() -> str:
    body = []
    for depth in (1, 2, 4, 8, 16):
        steps = {rule: STUDY["microseconds"][f"{rule} 64"][str(depth)] for rule in RULES}
        nets = {rule: DeepPredictor(rule, depth, 64, pc_inputs=64, history=16).network for rule in RULES}
        costs = {rule: update_cost(net, METHODS[rule]) for rule, net in nets.items()}
        trees = {rule: tree_paths(net, METHODS[rule]) for rule, net in nets.items()}
        body.append(
            [
                str(depth),
                f"{steps['mdfa']['forward']:.2f}",
                *(f"{steps[rule]['update']:.2f}" for rule in RULES),
                f"{costs['mdfa'].forward_path}, {trees['mdfa'][0]}",
                f"{costs['mdfa'].update_path}, {trees['mdfa'][1]}",
                f"{costs['bp'].update_path}, {trees['bp'][1]}",
            ]
        )
    return table(
        ["hidden layers of 64", "prediction, µs"]
        + [f"update, {METHODS[rule].title}, µs" for rule in RULES]
        + ["forward path", "update path, mDFA and DFA", "update path, BP and FA"],
        body,
    )


def threads() -> str:
    timed = STUDY["threads"]["microseconds"]
    return table(
        ["hidden layers of 64", *(f"{METHODS[rule].title}, {part}" for rule in timed for part in ("update", "step"))],
        [
            [depth]
            + [
                ", ".join(f"{timed[rule][depth][threads][part]:.2f}" for threads in ("1", "2"))
                for rule in timed
                for part in ("update", "step")
            ]
            for depth in timed["bp"]
        ],
    )


def measured() -> str:
    """A paragraph that names every day, machine and version of the rows; empty if all rows have the same."""
    places = STUDY.get("measured", [])
    told = [f"{p['date']}, {p['machine']}, Python {p['python']}, Numba {p['numba']} ({len(p['rows'])})" for p in places]
    return f"\nThe rows were measured in parts (number of rows): {'; '.join(told)}.\n" if len(told) > 1 else ""


def page() -> str:
    """Every table, as a page of the documentation."""
    load = ", ".join(map(str, STUDY["load"]))
    return f"""# Branch prediction: every table

`python studies/branch_figures.py` writes this page from [branches.json](branches.json), which
`{STUDY["command"]}` measured on {STUDY["date"][:10]} ({STUDY["machine"]}; Python {STUDY["versions"]["python"]}, Numba
{STUDY["versions"]["numba"]}; load {load}). What it means: [Branch prediction](branches.md).
{measured()}
## Mispredictions

Mispredictions per thousand branches; η is the learning rate. Each row is one run (seed 0). The last column is by
processor time on a busy machine.

{predictors()}

## Differences

The difference of mispredictions per thousand, its 95 % t-interval over the eight programs, and the number of programs
in which the first of the two mispredicts less.

{differences()}

## By branch

Mispredictions per thousand, by how often the branch instruction is executed in its trace.

{by_executions()}

## Latency

One step of a network with 80 inputs, of which 64 are a one-hot address. *Prediction* and *update* are the shortest of
300 loops of 50 steps, compiled, on one core. *Paths* count operations in a row: first with one multiply-adder per unit,
then with adder trees. `update_cost` and `tree_paths` have the formulas, and tests compare them with a simulation.

{latency()}

## Two threads

Microseconds of one thread, then of two that have half of the layers each: minima of 400 loops of 20 steps on the same
busy machine, so differences below a third mean little.

{threads()}

## Traces

{traces()}
"""


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        draw().save(DOCS / "images" / f"branches-{name}.svg")
    (DOCS / "results" / "branch_tables.md").write_text(page(), encoding="utf-8")
