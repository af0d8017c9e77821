"""Measure all branch predictors on recorded programs: writes docs/results/branches.json. `branch_figures.py` draws it.

python studies/branch_study.py [FOLDER [threads]]     # FOLDER (default out/branches) keeps the traces

Finished rows stay in FOLDER, so an interrupted study continues, and a new predictor needs no other row again. The file
names the day, the machine and the versions of every row (`measured`). With the name `threads`, only updates by one and
two threads are timed; start that with `chrt -f 1` if other programs run.
"""

import datetime
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep

import numba
import numpy as np
import torch
from branch_programs import LIMIT, SKIP, programs, recorded, tuning_programs

from mdfa_core import METHODS
from mdfa_core.base import machine
from mdfa_core.studies.branch_prediction import (
    PREDICTORS,
    BranchTrace,
    DeepPredictor,
    Predictor,
    Tage,
    prequential,
    step_time,
)

torch.set_num_threads(1)
RATES = (0.003, 0.01, 0.03, 0.1)
RATES_HASHED = (0.03, 0.1, 0.3)
PATHS = (3, 6, 11, 20, 36, 66, 120)  # the histories of hashed-perceptron-64
TUNED_ON = 100_000  # branches of each tuning program
PARTS = 50  # of a learning curve
PHASE = 50_000  # branches of a program before another one takes over
BIN = 1000
COUNTS = (0, 100, 1000, 10_000, 10**9)  # executions of a branch instruction
RESULT = Path(__file__).resolve().parents[1] / "docs" / "results" / "branches.json"
RULES = ("mdfa", "dfa", "fa", "bp")

Make = Callable[[float], Predictor]


def net(method: str, layers: int, width: int, **options: object) -> Make:
    return lambda rate: DeepPredictor(method, layers, width, learning_rate=rate, **options)  # type: ignore[arg-type]


def hashed_inputs(places: int) -> dict[str, object]:
    """Inputs that are hashes of paths, each one-hot over so many places, and weights of 8 bits."""
    return {"history": 1, "paths": PATHS, "pc_inputs": places, "path_inputs": places, "weight_bits": 8}


def beside_tage(method: str, layers: int, width: int, **options: object) -> Make:
    options = {"history": 32} | options
    return lambda rate: DeepPredictor(method, layers, width, learning_rate=rate, arbiter=Tage(), **options)  # type: ignore[arg-type]


def nets(shape: dict[str, int]) -> dict[str, Make]:
    """Every network of the study by its name."""
    found = {"one net, no hidden layer": net("bp", 0, 1, **shape)}
    for rule, depths in (("mdfa", (1, 2, 4)), ("dfa", (1, 2)), ("fa", (2,)), ("bp", (1, 2, 4))):
        for layers in depths:
            found[f"one net, {METHODS[rule].title} {layers} × 32"] = net(rule, layers, 32, **shape)
    for rule in ("mdfa", "bp"):
        found[f"one net, {METHODS[rule].title} 2 × 64"] = net(rule, 2, 64, **shape)
    small = {"history": 32, "pc_inputs": 16, "rows": 64}
    found["64 nets, no hidden layer"] = net("bp", 0, 1, **small)
    for rule in ("mdfa", "bp"):
        for layers in (1, 2):
            found[f"64 nets, {METHODS[rule].title} {layers} × 8"] = net(rule, layers, 8, **small)
    for bits in (8, 4):
        found[f"64 nets, mDFA 1 × 8, {bits} bits"] = net("mdfa", 1, 8, weight_bits=bits, **small)
    found["hashed, no hidden layer, 8 bits"] = net("bp", 0, 1, **hashed_inputs(8192))
    for rule, layers in (("mdfa", 1), ("bp", 1), ("mdfa", 2)):
        found[f"hashed, {METHODS[rule].title} {layers} × 4, 8 bits"] = net(rule, layers, 4, **hashed_inputs(2048))
    found["TAGE + no hidden layer"] = beside_tage("bp", 0, 1)
    for rule in ("mdfa", "bp"):
        found[f"TAGE + {METHODS[rule].title} 2 × 32"] = beside_tage(rule, 2, 32)
    found["TAGE + hashed, no hidden layer, 8 bits"] = beside_tage("bp", 0, 1, **hashed_inputs(4096))
    for rule, layers in (("mdfa", 1), ("bp", 1), ("mdfa", 2)):
        found[f"TAGE + hashed, {METHODS[rule].title} {layers} × 4, 8 bits"] = beside_tage(
            rule, layers, 4, **hashed_inputs(1024)
        )
    return found


def rate_of(make: Make, traces: list[BranchTrace], rates: tuple[float, ...]) -> tuple[float, dict[float, float]]:
    tried = {
        rate: float(np.mean([prequential(make(rate), t[:TUNED_ON]).per_thousand for t in traces])) for rate in rates
    }
    return min(tried, key=tried.__getitem__), tried


def phases(traces: dict[str, BranchTrace]) -> BranchTrace:
    """Two rounds through all programs, with other branches of each program in the second round."""
    parts = [t[r * PHASE : (r + 1) * PHASE] for r in (0, 1) for t in traces.values()]
    # Programs share addresses of QEMU's guest: another program's branches are other branches.
    apart = [part.pcs + np.uint64((n % len(traces)) * 0x9E3779B97) for n, part in enumerate(parts)]
    return BranchTrace(np.concatenate(apart), np.concatenate([part.taken for part in parts]))


def row(make: Callable[[], Predictor], traces: dict[str, BranchTrace], switching: BranchTrace) -> dict:
    wrong, curves, counts, seconds = {}, {}, np.zeros((2, len(COUNTS) - 1)), 0.0
    for name, trace in traces.items():
        score = prequential(make(), trace)
        wrong[name], curves[name] = int(score.wrong.sum()), score.curve(PARTS).round(2).tolist()
        _, inverse, executed = np.unique(trace.pcs, return_inverse=True, return_counts=True)
        group = np.digitize(executed[inverse], COUNTS) - 1
        counts[0] += np.bincount(group, minlength=len(COUNTS) - 1)
        counts[1] += np.bincount(group, score.wrong, minlength=len(COUNTS) - 1)
        seconds += score.seconds
    after = prequential(make(), switching).wrong.reshape(2, len(traces), PHASE // BIN, BIN).mean((1, 3))
    return {
        "bits": make().bits,
        "wrong": wrong,
        "curves": curves,
        "branches by executions": counts[0].astype(int).tolist(),
        "wrong by executions": counts[1].astype(int).tolist(),
        "after a switch": (1000 * after).round(2).tolist(),
        "branches per second": round(sum(map(len, traces.values())) / seconds),
    }


def of_threads() -> dict:
    """Microseconds of a step by rule, depth and threads: minima of interleaved rounds."""
    best: dict = {rule: {} for rule in ("mdfa", "bp")}
    for _ in range(4):
        for rule, depths in best.items():
            for layers in (1, 2, 4, 8, 16):
                for threads in (1, 2):
                    net = DeepPredictor(rule, layers, 64, history=16, pc_inputs=64)
                    time = step_time(net, steps=20, repeats=100, threads=threads)
                    found = {"update": round(1e6 * time.update, 3), "step": round(1e6 * time.step, 3)}
                    before = depths.setdefault(layers, {}).get(threads, found)
                    depths[layers][threads] = {part: min(found[part], before[part]) for part in found}
                    sleep(0.2)
    return {"machine": machine.summary(), "load": [round(load, 1) for load in os.getloadavg()], "microseconds": best}


def here() -> dict[str, str]:
    """Day, machine and versions of what is measured now."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine.summary(),
        "python": platform.python_version(),
        "numba": numba.__version__,
    }


def places(rows: dict) -> list[dict]:
    """The days, machines and versions of all rows, each with its rows; rows of older files have none recorded."""
    unknown = dict.fromkeys(here(), "not recorded")
    found: dict[str, list[str]] = {}
    for name in rows:
        if name not in ("measured", "threads"):  # the threads have a machine of their own
            found.setdefault(json.dumps(rows.get("measured", {}).get(name, unknown)), []).append(name)
    return [{**json.loads(place), "rows": names} for place, names in found.items()]


def main(folder: Path, part: str = "") -> None:
    if part == "threads":
        known = json.loads(RESULT.read_text(encoding="utf-8")) | {"threads": of_threads()}
        RESULT.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        return
    every = recorded(folder)
    scored = {name: every[name] for name in programs(folder)}
    tuning = [every[name] for name in tuning_programs()]
    switching = phases(scored)
    done = folder / "rows.json"
    rows = json.loads(done.read_text()) if done.exists() else {}

    def finished(name: str, work: Callable[[], dict]) -> dict:
        if name not in rows:
            rows[name] = work()
            rows.setdefault("measured", {})[name] = here()
            done.write_text(json.dumps(rows))
            print(name, rows[name].get("learning rate", ""), flush=True)
        return rows[name]

    def of_shape() -> dict:
        tried = {
            f"{history}, {codes}": rate_of(net("mdfa", 2, 32, history=history, pc_inputs=codes), tuning, RATES)[1]
            for history, codes in ((16, 256), (32, 256), (64, 256), (128, 256), (32, 1024))
        }
        best = min(tried, key=lambda name: min(tried[name].values()))
        history, codes = map(int, best.split(", "))
        return {"tried": tried, "shape": {"history": history, "pc_inputs": codes}}

    def of_net(name: str, make: Make) -> dict:
        rate, tried = rate_of(make, tuning, RATES_HASHED if "hashed" in name else RATES)
        return {"learning rate": rate, "tried": tried} | row(lambda: make(rate), scored, switching)

    for name, make in PREDICTORS.items():
        prequential(make(), scored["gzip"][:10])  # compile
        finished(name, lambda make=make: row(make, scored, switching))
    shape = finished("shape", of_shape)["shape"]
    for name, make in nets(shape).items():
        finished(name, lambda name=name, make=make: of_net(name, make))

    def of_seeds(rate: float) -> dict:
        return {
            seed: {
                name: int(prequential(beside_tage("mdfa", 2, 32, seed=seed)(rate), trace).wrong.sum())
                for name, trace in scored.items()
            }
            for seed in (1, 2)
        }

    finished("other seeds", lambda: of_seeds(rows["TAGE + mDFA 2 × 32"]["learning rate"]))

    def of_steps(rule: str, width: int) -> dict:
        times = {}
        for layers in (1, 2, 4, 8, 16):
            time = step_time(DeepPredictor(rule, layers, width, history=16, pc_inputs=64))
            times[layers] = {"forward": 1e6 * time.forward, "update": 1e6 * time.update}
        return times

    for width in (16, 64):
        for rule in RULES:
            finished(f"steps {rule} {width}", lambda rule=rule, width=width: of_steps(rule, width))
    rows["threads"] = of_threads()
    write(folder, every, rows)


def write(folder: Path, every: dict[str, BranchTrace], rows: dict) -> None:
    study = {
        "command": "python studies/branch_study.py",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.summary(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "versions": {"python": platform.python_version(), "numba": numba.__version__},
        "measured": places(rows),
        "traces": {
            name: {
                "branches": len(trace),
                "addresses": trace.branches,
                "taken": round(trace.taken_share, 4),
                "instructions": trace.instructions,
                "bytes": (folder / f"{name}.npz").stat().st_size,
            }
            for name, trace in every.items()
        },
        "skipped": SKIP,
        "branches": LIMIT,
        "tuned on": {"programs": list(tuning_programs()), "branches": TUNED_ON, "rates": RATES},
        "shape": rows["shape"],
        "executions": COUNTS,
        "rows": {name: rows[name] for name in (*PREDICTORS, *nets(rows["shape"]["shape"])) if name in rows},
        "TAGE + mDFA 2 × 32, other seeds": rows["other seeds"],
        "microseconds": {name.removeprefix("steps "): rows[name] for name in rows if name.startswith("steps ")},
        "threads": rows["threads"],
    }
    RESULT.write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/branches"), *sys.argv[2:3])
