"""Parts of the long table of results (see `reports.tidy`): what figures draw, and the evidence for propositions."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.paper.evidence import Candidate, Evidence, LearningCurve
from mdfa_core.studies.paper.failures import MARGIN
from mdfa_core.studies.paper.measures import REPORTED, Measure
from mdfa_core.studies.paper.published import CELLS, TABLES, TASKS, Cell
from mdfa_core.studies.paper.statistics import Contrast, Scores
from mdfa_core.studies.paper.words import NETWORK_WORDS
from mdfa_core.studies.reports.results import JUDGED
from mdfa_core.studies.reports.tidy import SETTINGS

Split = Literal["train", "test"]
Role = Literal["chosen", "best fit"]

POSITION = ["table", "network", "activation", "classes"]
"""The columns that name a cell without its method."""

CELL = [*POSITION, "method"]

PAPER_METHODS = ("bp", "fa", "dfa", "mdfa")
"""The paper's methods, in the order in which figures show them."""


def runs(table: pd.DataFrame, role: Role) -> pd.DataFrame:
    """The rows of one role. A cell without a better fit has its chosen runs as best fit."""
    own = table[table["role"] == role]
    if role == "chosen":
        return own
    chosen = runs(table, "chosen")
    return pd.concat([own, chosen[~chosen["cell"].isin(own["cell"])]])


def _tasks(rows: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """One row per cell and task from one value per cell and run: means over seeds."""
    known = rows.drop_duplicates(["cell", "run"]).set_index(["cell", "run"])
    known = known[[*CELL, "tuned_for", "task"]].assign(value=values).reset_index()
    by_task = known.groupby(["cell", "task"], sort=False)
    means = by_task.first().assign(value=by_task["value"].mean()).reset_index()
    return means.assign(borrowed=means["tuned_for"] != means["cell"])


def best(table: pd.DataFrame, role: Role = "best fit", quantity: str = "train") -> pd.DataFrame:
    """The highest value of any epoch, one row per cell and task: mean over seeds."""
    rows = runs(table, role)
    rows = rows[rows["quantity"] == quantity]
    return _tasks(rows, rows.groupby(["cell", "run"], sort=False)["value"].max())


def final(table: pd.DataFrame, quantity: str = "train", role: Role = "best fit") -> pd.DataFrame:
    """The last value of a quantity in every run, one row per cell and task: mean over seeds."""
    rows = runs(table, role)
    rows = rows[rows["quantity"] == quantity].sort_values("epoch", kind="stable")
    return _tasks(rows, rows.groupby(["cell", "run"], sort=False)["value"].last())


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of the chosen settings, one row per cell and task: mean over seeds."""
    return final(table, "test", "chosen")


def accuracy(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    """What the paper's columns report: training accuracy of the best fit, or test accuracy of the chosen settings."""
    return best(table) if split == "train" else tested(table)


def printed(table: pd.DataFrame, split: Split) -> pd.Series:
    """The paper's means by cell."""
    rows = table[(table["role"] == "paper") & (table["quantity"] == split)]
    return rows.set_index("cell")["value"]


def differences(values: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Differences first − second of two methods, one row per position and task that both have."""
    index = [*POSITION, "task"]
    a, b = (values[values["method"] == method] for method in (first, second))
    both = a.merge(b, on=index, suffixes=("", "_second"))
    both["difference"] = both["value"] - both["value_second"]
    both["borrowed"] = both["borrowed"] | both["borrowed_second"]
    return both[[*index, "difference", "borrowed"]]


def contrast(rows: pd.DataFrame) -> Contrast:
    """The differences of one position as a contrast."""
    tasks = {int(task): float(value) for task, value in zip(rows["task"], rows["difference"], strict=True)}
    return Contrast.of(tasks)


def score_arrays(
    values: pd.DataFrame, methods: Sequence[str] = PAPER_METHODS
) -> tuple[dict[str, NDArray[np.float64]], list[tuple[int, str, str, int]]]:
    """Scores [positions, tasks] by method at the positions that all methods have, and these positions.

    Only tasks that every method has at every one of these positions are used, so that the arrays are whole. Without
    such tasks, there are no positions.
    """
    known = values[values["method"].isin(methods)]
    wide = known.pivot_table(index=POSITION, columns="method", values="task", aggfunc=frozenset)
    having = wide.reindex(columns=methods).dropna()
    tasks = sorted(frozenset.intersection(*having.to_numpy().ravel())) if len(having) else []
    if not tasks:
        return {}, []
    scores = known.set_index([*POSITION, "method", "task"])["value"].sort_index()
    return {
        method: np.array([[scores[(*position, method, task)] for task in tasks] for position in having.index])
        for method in methods
    }, list(having.index)


def place(position: Sequence[object]) -> str:
    """A position in words: `Table 1, FC, tanh` or `Table 3, FC, 10 classes`."""
    table, network, activation, classes = position
    number = int(str(table))
    varied = f"{classes} classes" if TABLES[number].varies == "classes" else ACTIVATIONS[str(activation)].title
    return f"Table {number}, {NETWORK_WORDS[str(network)]}, {varied}"


def title(method: str) -> str:
    """A method as the paper writes it."""
    return METHODS[method].title


def at_chance(table: pd.DataFrame) -> set[str]:
    """The cells in which training of the chosen configuration ended at chance on some task, see `paper.failures`."""
    chosen, by = table[table["role"] == "chosen"], ["cell", "run"]
    known = chosen.drop_duplicates(by).set_index(by)
    trained = chosen[chosen["quantity"] == "train"].sort_values("epoch", kind="stable")
    ends = trained.groupby(by)["value"].last().reindex(known.index)  # NaN for a run that diverged in its first epoch
    learned = (ends - 100 / known["classes"]).abs() > 100 * MARGIN
    return set(known.index[~learned].get_level_values("cell"))


def failed(table: pd.DataFrame) -> set[str]:
    """The cells whose borrowed settings failed, see `results.CellResult.failed`."""
    chosen = table[table["role"] == "chosen"]
    return at_chance(table) & set(chosen.loc[chosen["tuned_for"] != chosen["cell"], "cell"])


def comparable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the paper's tasks only, seeds 0 to 4, one run each: as many as are behind its figures."""
    own = table["task"].isin(range(TASKS)) & (table["task"] == table["seed"])
    return table[own | (table["role"] == "paper")]


def evidence(table: pd.DataFrame) -> Evidence:
    """The evidence for propositions, the same as `results.evidence` gives for a store."""
    judged = table[table["data"].astype("str").str.partition(" ")[0].isin(JUDGED)]
    own = runs(judged, "chosen")
    source = own.drop_duplicates("cell").set_index("cell")["tuned_for"]
    without = failed(judged)
    scores = {
        (CELLS[name], measure): Scores.of(
            {int(task): list(values) for task, values in rows.groupby("task")["value"]}  # in the order of seeds
        )
        for measure in REPORTED
        for name, rows in _measured(judged, measure).groupby("cell", sort=False)
        if name not in without
    }
    units = own[own["quantity"] == "agreement_unit"].groupby("cell", sort=False)["value"]
    found = judged[(judged["role"] == "search") & judged["cell"].isin(source.index)]
    return Evidence(
        scores=scores,
        curves=_curves(own[~own["cell"].isin(without)]),
        agreement={CELLS[name]: tuple(values / 100) for name, values in units},
        searches=_searches(found),
        borrowed={CELLS[name]: CELLS[other] for name, other in source.items() if name != other},
        failed=frozenset(CELLS[name] for name in without),
    )


def _measured(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The values of a measure, one row per run, by task and seed."""
    rows, by = runs(table, measure.role), ["cell", "run"]
    trained = rows[rows["quantity"] == "train"]
    if measure.quantity == "train_best":
        kept = trained.loc[trained.groupby(by, sort=False)["value"].idxmax()]
    elif measure.quantity == "train_final":
        kept = trained[trained["epoch"] == trained["epochs"]]
    elif measure.quantity == "test":
        kept = rows[rows["quantity"] == "test"]
    else:  # train_tested: after the best validation epoch
        split_off = rows[rows["quantity"] == "validation"]
        best_epochs = split_off.loc[split_off.groupby(by, sort=False)["value"].idxmax(), [*by, "epoch"]]
        kept = trained.merge(best_epochs, on=[*by, "epoch"])
    return kept.sort_values(["task", "seed"], kind="stable")


def _curves(rows: pd.DataFrame) -> dict[Cell, dict[int, LearningCurve]]:
    """Learning curves by cell and task; of several seeds, the first."""
    rows = rows[rows["quantity"].isin(("train", "validation"))].sort_values(["seed", "epoch"], kind="stable")
    points: dict[tuple[str, int], dict[str, dict[str, dict[int, float]]]] = {}
    for name, task, run, quantity, epoch, value in rows[
        ["cell", "task", "run", "quantity", "epoch", "value"]
    ].itertuples(index=False):
        of_run = points.setdefault((name, int(task)), {}).setdefault(run, {"train": {}, "validation": {}})
        of_run[quantity][int(epoch)] = value
    found: dict[Cell, dict[int, LearningCurve]] = {}
    for (name, task), by_run in points.items():
        first = next(iter(by_run.values()))
        split_off = tuple(first["validation"].get(epoch) for epoch in first["train"])
        curve = LearningCurve(train=tuple(first["train"].values()), validation=split_off)
        found.setdefault(CELLS[name], {})[task] = curve
    return found


def _searches(rows: pd.DataFrame) -> dict[Cell, tuple[Candidate, ...]]:
    """The candidates of every search in every round, in the order of the search."""
    split_off = rows[rows["quantity"] == "validation"]
    runs_of = rows.drop_duplicates(["cell", "run"]).set_index(["cell", "run"])[["epochs", *SETTINGS]]
    reached = split_off.groupby(["cell", "run"], sort=False)["value"].max()
    trials: dict[str, dict[tuple[Any, ...], list[float]]] = {}
    for (name, _), trial, value in zip(
        runs_of.index, runs_of.itertuples(index=False, name=None), reached.reindex(runs_of.index), strict=True
    ):
        # a run that diverged before its first validation counts 0
        trials.setdefault(name, {}).setdefault(trial, []).append(0.0 if value != value else value)
    return {CELLS[name]: _candidates(of_cell) for name, of_cell in trials.items()}


def _candidates(trials: dict[tuple[Any, ...], list[float]]) -> tuple[Candidate, ...]:
    rounds = {epochs: number for number, epochs in enumerate(dict.fromkeys(trial[0] for trial in trials))}
    return tuple(
        Candidate(settings=dict(zip(SETTINGS, settings, strict=True)), rung=rounds[epochs], validation=fmean(values))
        for (epochs, *settings), values in trials.items()
    )


def toy(table: pd.DataFrame) -> str:
    """The remark of figures on toy data, or nothing."""
    used = {str(name).partition(" ")[0] for name in table["data"].dropna().unique()}
    others = sorted(used - set(JUDGED))
    return f" Toy data ({', '.join(others)}): these numbers say nothing about the paper." if others else ""
