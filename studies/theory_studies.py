"""Print the tables of docs/explanation/theory.md: units needed, counterexamples, sign agreement, measured descent."""

import itertools
import statistics

import torch

from mdfa_core import Experiment
from mdfa_core.learning.probes import LEVELS
from mdfa_core.studies import theory

torch.set_num_threads(1)
SEEDS = (0, 1, 2, 3, 4)
BASE = Experiment(network="fc:32,32", epochs=20)


def print_table(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("|", " | ".join(row), "|")
    print(flush=True)


for family in ("two-outputs", "batch-two-layers", "conv-signed", "conv-two-layers"):
    print(theory.search(theory.FAMILIES[family]).simplest)
found = [theory.search(family) for family in theory.FAMILIES.values()]
print_table(
    ["question", "networks tried", "counterexamples"],
    [[search.family.title, str(search.tried), str(search.found)] for search in found],
)

for target in theory.TARGETS:
    fits = list(theory.units_study(target, seeds=SEEDS))
    losses: dict[tuple[str, int, str], dict[int, list[float]]] = {}
    for fit in fits:
        losses.setdefault((fit.activation, fit.depth, fit.constraint), {}).setdefault(fit.units, []).append(fit.loss)
    print(target)
    print_table(
        ["activation", "hidden layers", "network", *(f"{units} units" for units in (2, 4, 8, 16, 32))],
        [
            [activation, str(depth), constraint]
            + [f"{statistics.median(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in of_units.values()]
            for (activation, depth, constraint), of_units in losses.items()
        ],
    )
    print(theory.units_needed(fits, 0.1))

experiments = {f"{n} hidden": BASE.replace(network="fc:" + ",".join(["32"] * n)) for n in (1, 2, 3)}
experiments |= {f"{size} a batch": BASE.replace(batch_size=size) for size in (1, 8)}
experiments |= {f"{outputs} outputs": BASE.replace(outputs=outputs) for outputs in (2, 10)}
rows = [row for row in theory.agreement_study(experiments, seeds=SEEDS) if row.epoch == BASE.epochs]
by_label = {
    label: {level: [row.overall for row in group if row.level == level] for level in LEVELS}
    for label, group in ((k, list(g)) for k, g in itertools.groupby(rows, key=lambda row: row.label))
}
print_table(
    ["mDFA, epoch 20", *LEVELS],
    [
        [label, *(f"{statistics.mean(v):.4f} ± {statistics.stdev(v):.4f}" for v in of_level.values())]
        for label, of_level in by_label.items()
    ],
)

table = []
for method, rate in itertools.product(("bp", "mdfa", "dfa", "fa"), (0.01, 0.1, 0.3, 1.0)):
    steps = [
        row
        for seed in SEEDS
        for row in theory.measured_descent(BASE.replace(method=method, learning_rate=rate, seed=seed))
    ]
    cells = [method, f"{rate:g}"]
    for name in ("lowered", "downhill"):
        for first in (True, False):
            chosen = [row for row in steps if (row.epoch == 1) == first]
            total = sum(row.steps for row in chosen)
            cells.append(f"{sum(getattr(row, name) * row.steps for row in chosen if row.steps) / total:.3f}")
    table.append(cells)
print_table(
    ["rule", "rate", "lowered, epoch 1", "lowered, 2–20", "downhill, epoch 1", "downhill, 2–20"],
    table,
)
