"""Measure all branch predictors on recorded traces: docs/branches.json and the tables of docs/branches.md."""

import datetime
import json
import platform
import statistics
import sys
from pathlib import Path

import torch

from mdfa_core import METHODS, machine
from mdfa_core.branches import PREDICTORS, PROGRAMS, BranchTrace, DeepPredictor, prequential, record, update_cost

torch.set_num_threads(1)
LIMIT = 4000  # branches of a trace
SEEDS = (0, 1, 2)  # of a program's input, and of a net's weights and feedback
TUNING = ("sort", "json", "diff")  # recorded with another input to choose the learning rate on
TUNING_SEED, RATES = 100, (0.01, 0.03, 0.1, 0.3)
RULES, DEPTHS, WIDTHS = ("mdfa", "dfa", "bp"), (1, 2, 4), (16, 64)
NETS = {("none", "fc:"): "no hidden layer"} | {
    (rule, "fc:" + ",".join([str(width)] * depth)): f"{METHODS[rule].title} {depth} × {width}"
    for rule in RULES
    for width in WIDTHS
    for depth in DEPTHS
}


def traces(programs: tuple[str, ...], seed: int) -> dict[str, BranchTrace]:
    return {name: record(lambda name=name: PROGRAMS[name](seed), limit=LIMIT) for name in programs}


def net(rule: str, network: str, rate: float, seed: int) -> DeepPredictor:
    return DeepPredictor("bp" if rule == "none" else rule, network, learning_rate=rate, seed=seed)


recorded = {seed: traces(tuple(PROGRAMS), seed) for seed in SEEDS}
for_tuning = traces(TUNING, TUNING_SEED)
rows = []
for name, make in PREDICTORS.items():
    runs = [[prequential(make(), trace) for trace in recorded[seed].values()] for seed in SEEDS]
    rows.append({"predictor": name, "bits": make().bits, "runs": runs})
for (rule, network), title in NETS.items():
    tried = {
        rate: statistics.fmean(prequential(net(rule, network, rate, 0), trace).rate for trace in for_tuning.values())
        for rate in RATES
    }
    rate = min(tried, key=tried.__getitem__)
    runs = [[prequential(net(rule, network, rate, seed), t) for t in recorded[seed].values()] for seed in SEEDS]
    one = net(rule, network, rate, 0)
    rows.append({"predictor": title, "bits": one.bits, "learning rate": rate, "tried": tried, "runs": runs})
    print(title, rate, file=sys.stderr, flush=True)

for row in rows:
    runs = row.pop("runs")
    row["wrong"] = {program: [of_seed[n].wrong for of_seed in runs] for n, program in enumerate(PROGRAMS)}
    row["rate"] = [statistics.fmean(outcome.rate for outcome in of_seed) for of_seed in runs]
    row["updates per second"] = round(statistics.median(o.updates_per_second for of_seed in runs for o in of_seed))

study = {
    "command": "python docs/branch_study.py",
    "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "commit": machine.commit(),
    "machine": machine.described(),
    "versions": {"python": platform.python_version(), "torch": torch.__version__},
    "threads": 1,
    "seeds": SEEDS,
    "tuned on": {"programs": TUNING, "seed": TUNING_SEED, "rates": RATES},
    "traces": {
        name: {
            "branches": [len(recorded[seed][name]) for seed in SEEDS],
            "instructions": [recorded[seed][name].branches for seed in SEEDS],
            "taken": [round(recorded[seed][name].taken_share, 4) for seed in SEEDS],
        }
        for name in PROGRAMS
    },
    "rows": rows,
}
(Path(__file__).parent / "branches.json").write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")


def print_table(head: list[str], body: list[list[str]]) -> None:
    for line in (head, ["---"] * len(head), *body):
        print("|", " | ".join(line), "|")
    print()


print_table(
    ["predictor", "bits", "learning rate", "mispredicted, % (mean ± s over seeds)", *PROGRAMS, "branches a second"],
    [
        [
            row["predictor"],
            f"{row['bits']:,}",
            str(row.get("learning rate", "–")),
            f"{100 * statistics.fmean(row['rate']):.2f} ± {100 * statistics.stdev(row['rate']):.2f}",
            *(f"{100 * statistics.fmean(wrong) / LIMIT:.1f}" for wrong in row["wrong"].values()),
            f"{row['updates per second']:,}",
        ]
        for row in rows
    ],
)
print_table(
    [
        "hidden layers of 64",
        "forward path",
        *(f"update path, {METHODS[rule].title}" for rule in RULES),
        "forward work",
        *(f"update work, {METHODS[rule].title}" for rule in RULES),
    ],
    [
        [
            str(depth),
            str(costs[0].forward_path),
            *(str(cost.update_path) for cost in costs),
            f"{costs[0].forward_work:,}",
            *(f"{cost.update_work:,}" for cost in costs),
        ]
        for depth in (1, 2, 4, 8, 16)
        for costs in [
            [
                update_cost(DeepPredictor(rule, "fc:" + ",".join(["64"] * depth)).network, METHODS[rule])
                for rule in RULES
            ]
        ]
    ],
)
