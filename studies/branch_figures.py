"""Draw the figures of docs/results/branches.md from docs/results/branches.json, and print its tables."""

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
ROWS, PROGRAMS, BRANCHES = STUDY["rows"], list(STUDY["rows"]["tage-64"]["wrong"]), STUDY["branches"]
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
    figure, [[axes]] = panels(1, 1, 3.6)
    labels = {
        "bimodal-64": "bimodal",
        "gshare-64": "gshare",
        "perceptron-64": "perceptron",
        "o-gehl-64": "O-GEHL",
        "tage-64": "TAGE",
        "one net, no hidden layer": "no hidden layer",
        "64 nets, no hidden layer": "64 nets, no hidden layer",
        "one net, mDFA 2 × 32": "one net",
        "64 nets, mDFA 1 × 8": "64 nets, 1 × 8",
        "64 nets, mDFA 1 × 8, 8 bits": "64 nets, 1 × 8, 8 bits",
        "64 nets, mDFA 1 × 8, 4 bits": "64 nets, 1 × 8, 4 bits",
        "TAGE + mDFA 2 × 32": "TAGE + 2 × 32",
    }
    for name in ROWS:
        if name == "always-taken":
            continue
        x, y = ROWS[name]["bits"] / 8192, rates(name).mean()
        axes.plot(x, y, linestyle="none", markersize=6, **look(name))
        text = labels.get(name)
        if text:
            axes.annotate(text, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())
    axes.set_xticks([1, 4, 16, 64, 256])
    axes.set_yticks([30, 40, 60, 100])
    axes.set_xlabel("state, KiB")
    axes.set_ylabel("mispredictions per thousand")
    axes.legend(handles=[key(rule, line=False) for rule in RULES if any(rule_of(n) == rule for n in ROWS)])
    return Drawing(
        figure=figure,
        finding="At equal state, the perceptron and TAGE mispredict less than networks on their own.",
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


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    for line in (head, ["---"] * len(head), *body):
        print("|", " | ".join(line), "|")
    print()


def tables() -> None:
    table(
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
    table(
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
    pairs = [
        ("one net, mDFA 2 × 32", "one net, BP 2 × 32"),
        ("one net, mDFA 1 × 32", "one net, BP 1 × 32"),
        ("one net, mDFA 4 × 32", "one net, BP 4 × 32"),
        ("one net, mDFA 2 × 32", "one net, DFA 2 × 32"),
        ("one net, mDFA 1 × 32", "one net, no hidden layer"),
        ("one net, mDFA 2 × 32", "one net, mDFA 1 × 32"),
        ("one net, mDFA 4 × 32", "one net, mDFA 1 × 32"),
        ("one net, BP 4 × 32", "one net, BP 1 × 32"),
        ("64 nets, mDFA 1 × 8", "64 nets, no hidden layer"),
        ("64 nets, mDFA 1 × 8", "64 nets, BP 1 × 8"),
        ("64 nets, mDFA 2 × 8", "64 nets, mDFA 1 × 8"),
        ("64 nets, mDFA 1 × 8, 8 bits", "64 nets, mDFA 1 × 8"),
        ("64 nets, mDFA 1 × 8, 4 bits", "64 nets, mDFA 1 × 8"),
        ("64 nets, mDFA 2 × 8", "64 nets, BP 2 × 8"),
        ("TAGE + no hidden layer", "tage-64"),
        ("tage-128", "tage-64"),
        ("TAGE + mDFA 2 × 32", "tage-64"),
        ("TAGE + mDFA 2 × 32", "tage-128"),
        ("TAGE + mDFA 2 × 32", "TAGE + BP 2 × 32"),
        ("TAGE + BP 2 × 32", "tage-64"),
        ("one net, mDFA 2 × 32", "tage-64"),
    ]
    body = []
    for one, other in pairs:
        if one in ROWS and other in ROWS:
            difference = rates(one) - rates(other)
            mean, low, high = interval(difference)
            better = int((difference < 0).sum())
            body.append(
                [f"{one} − {other}", f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}", f"{better} of {len(PROGRAMS)}"]
            )
    table(["difference", "mean", "95 % interval over programs", "programs with fewer mispredictions"], body)
    counts = STUDY["executions"]
    groups = ["fewer than 100", "100 to 999", "1,000 to 9,999", "10,000 or more"]
    names = ["tage-64", "perceptron-64", "one net, no hidden layer"]
    names += [n for n in ("one net, mDFA 1 × 32", "one net, mDFA 2 × 32", "one net, mDFA 4 × 32") if n in ROWS]
    executed = ROWS["tage-64"]["branches by executions"]
    assert len(counts) == len(groups) + 1
    table(
        ["executions of the branch instruction", "share of all branches, %", *names],
        [
            [group, f"{100 * executed[g] / sum(executed):.1f}"]
            + [f"{1000 * ROWS[name]['wrong by executions'][g] / executed[g]:.1f}" for name in names]
            for g, group in enumerate(groups)
        ],
    )
    body = []
    for depth in (1, 2, 4, 8, 16):
        steps = {rule: STUDY["microseconds"][f"{rule} 64"][str(depth)] for rule in RULES}
        costs = {
            rule: update_cost(DeepPredictor(rule, depth, 64, pc_inputs=64, history=16).network, METHODS[rule])
            for rule in RULES
        }
        trees = {
            rule: tree_paths(DeepPredictor(rule, depth, 64, pc_inputs=64, history=16).network, METHODS[rule])
            for rule in RULES
        }
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
    table(
        ["hidden layers of 64", "prediction, µs"]
        + [f"update, {METHODS[rule].title}, µs" for rule in RULES]
        + ["forward path", "update path, mDFA and DFA", "update path, BP and FA"],
        body,
    )

    again = STUDY.get("second recording", {"rows": {}})
    table(
        ["predictor", "KiB", "η", "mean", *PROGRAMS],
        [
            [name, f"{row['bits'] / 8192:.1f}", str(row.get("learning rate", "–")), f"{sum(wrong) / len(wrong):.1f}"]
            + [f"{rate:.1f}" for rate in wrong]
            for name, row in again["rows"].items()
            for wrong in [[1000 * row["wrong"][p] / again["traces"][p]["branches"] for p in PROGRAMS]]
        ],
    )
    timed = STUDY["threads"]["microseconds"]
    table(
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


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        draw().save(DOCS / "images" / f"branches-{name}.svg")
    tables()
