"""Run the comparison of docs/results/neighbours.md: every rule, tuned alike, on one profile.

Prints the tables; `--keep` keeps the figures.
"""

import argparse
import json
from pathlib import Path

import torch
from tqdm import tqdm

from mdfa_core.base import machine
from mdfa_core.runs.store import Store
from mdfa_core.studies.comparison import PROFILES, RuleComparison

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def printed(value: object, scale: float = 1.0, digits: int = 1) -> str:
    return "–" if value is None else f"{scale * value:.{digits}f}"  # type: ignore[operator]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("profile", choices=list(PROFILES))
parser.add_argument("--store", default="neighbours.sqlite", help="where runs are kept")
parser.add_argument("--data-dir", default=None, help="folder with the data sets")
parser.add_argument("--methods", default="", help="rules, separated by commas; all if left out")
parser.add_argument(
    "--outputs", default="", help="outputs of the tasks, separated by commas; the profile's if left out"
)
parser.add_argument("--keep", action="store_true", help="write the figures beside this file")
given = parser.parse_args()

torch.set_num_threads(1)
with Store(given.store) as store:
    work = RuleComparison.from_texts(
        given.profile, store, methods=given.methods, outputs=given.outputs, device="cpu", data_dir=given.data_dir
    )
    for method, outputs, advance in (bar := tqdm(work, unit=" stacks")):
        bar.set_description(f"{method}, {outputs} outputs: {advance.done} of {advance.total}")
    rows = [result.as_row() for result in work.results]
    provenance = [result.records[0].provenance for result in work.results]

for count in work.profile.outputs:
    print(f"\n{count} output{'s' * (count > 1)}\n")
    print("| rule | test, % | best train, % | unit signs | batch signs | optimizer | initialisation | l2 |")
    print("|" + " --- |" * 8)
    for line in (row for row in rows if row["outputs"] == count):
        cells = [line["rule"]]
        cells += [f"{printed(line[n], 100)} ± {printed(line[n + ' ±'], 100)}" for n in ("test", "train")]
        cells += [f"{printed(line[n], digits=3)} ± {printed(line[n + ' ±'], digits=3)}" for n in ("unit", "batch")]
        cells += [line["optimizer"], line["initialisation"], f"{line['l2']:g}"]
        print("|", " | ".join(cells), "|")

if given.keep:
    chosen = [f"--{name} {getattr(given, name)}" for name in ("methods", "outputs") if getattr(given, name)]
    path = RESULTS / "neighbours.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[given.profile] = {
        "command": " ".join(["python studies/neighbour_study.py", given.profile, *chosen, "--keep"]),
        "machine": machine.summary(),
        "commits": sorted({str(p.commit) for p in provenance}),
        "torch": torch.__version__,
        "profile": work.profile.title,
        "seeds": work.profile.seeds,
        "epochs": work.profile.epochs,
        "rows": [{name: value for name, value in row.items() if name != "ms an epoch"} for row in rows],
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")
