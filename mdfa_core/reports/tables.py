"""The paper's tables beside ours, and differences paired by task: as data frames, Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.paper.criteria import NETWORKS, title, word
from mdfa_core.paper.published import TABLES, Cell, Split
from mdfa_core.paper.statistics import Interval, Scores, paired
from mdfa_core.registry import Table
from mdfa_core.reports.results import Result, compared, of_table

NOT_RUN = "not run"

PAIRS = (("mdfa", "bp"), ("mdfa", "dfa"), ("mdfa", "fa"), ("dfa", "bp"), ("fa", "bp"))
"""Methods whose difference, first − second, is shown."""


def figures(found: Iterable[Result]) -> pd.DataFrame:
    """One row a published figure: the cell, the split, mean and spread in the paper and here (percent), unrounded.

    Columns: table, network, activation, classes, method, split, paper_mean, paper_std, mean, std, tasks, difference
    (points), diverged, profile, tuned_for (the cell whose search chose the settings), data. What was not run is empty.
    """
    rows = []
    for result in found:
        cell = result.cell
        for split, figure in cell.published.items():
            scores = result.scores(split)
            rows.append(
                {
                    "table": cell.table,
                    "network": cell.network,
                    "activation": cell.activation,
                    "classes": cell.classes,
                    "method": cell.method,
                    "split": split,
                    "paper_mean": figure.mean,
                    "paper_std": figure.std,
                    "mean": None if scores is None else scores.mean,
                    "std": None if scores is None else scores.std,
                    "tasks": 0 if scores is None else len(scores.tasks),
                    "difference": result.difference(split),
                    "diverged": sum(record.diverged_at is not None for record in result.records),
                    "profile": result.profile,
                    "tuned_for": None if result.tuned_for is None else result.tuned_for.name,
                    "data": result.data,
                }
            )
    frame = pd.DataFrame(rows)
    return frame.astype({name: "float64" for name in ("paper_mean", "paper_std", "mean", "std", "difference")})


def beside(found: Iterable[Result], number: int) -> pd.DataFrame:
    """Table `number` of the paper in words: one row a cell, each accuracy in the paper, here, and their difference.

    A ± is a sample standard deviation over tasks; fewer than five tasks, tasks that diverged, the profile, and whose
    settings a cell was run with are said.
    """
    table = TABLES[number]
    rows = []
    for result in of_table(found, number):
        cell = result.cell
        row: dict[str, str] = {"Network": NETWORKS[cell.network], **_varied(cell), "Method": title(cell)}
        for split in table.splits:
            name, scores = word(split), result.scores(split)
            row[f"{name}, paper"] = str(cell.published[split])
            row[f"{name}, here"] = NOT_RUN if scores is None else _said(scores)
            difference = result.difference(split)
            row[f"{name}, difference"] = "" if difference is None else f"{difference:+.1f}"
        row["tasks"] = _tasks(result)
        row["profile"] = result.profile or ""
        row["tuned for"] = tuned_for(result)
        rows.append(row)
    return pd.DataFrame(rows)


def differences(found: Sequence[Result], number: int) -> pd.DataFrame:
    """Differences between methods in table `number`, paired by task, in points; only what was run on common tasks.

    Each mean stands with its 95 % bootstrap interval, Student's t interval, the number of tasks in which the first
    method is ahead, the difference of the paper's means, and which of the two methods was not tuned for it.
    """
    rows = []
    for group in compared(of_table(found, number)):
        by = {result.cell.method: result for result in group}
        for first, second in PAIRS:
            if first in by and second in by:
                both = (_difference(by[first], by[second], split) for split in TABLES[number].splits)
                rows += [row for row in both if row is not None]
    return pd.DataFrame(rows)


def _difference(a: Result, b: Result, split: Split) -> dict[str, str] | None:
    ours, theirs = a.scores(split), b.scores(split)
    if ours is None or theirs is None or not set(ours.tasks) & set(theirs.tasks):
        return None
    contrast = paired(ours, theirs)
    return {
        "Network": NETWORKS[a.cell.network],
        **_varied(a.cell),
        "Difference": f"{title(a.cell)} − {title(b.cell)}",
        "accuracy": word(split),
        "paper": f"{a.cell.published[split].mean - b.cell.published[split].mean:+.1f}",
        "here": f"{contrast.mean:+.1f}",
        "bootstrap": _signed(contrast.bootstrap),
        "Student": _signed(contrast.student),
        "ahead in": f"{contrast.positive} of {len(contrast.tasks)}",
        "not tuned": ", ".join(title(result.cell) for result in (a, b) if result.borrowed is not None),
    }


def signs(found: Iterable[Result], number: int) -> pd.DataFrame:
    """How well error signals and updates agree with the true gradient in table `number`: one row a measured cell.

    Shares of equal signs in percent, of unit error signals, single examples' updates and mini-batch updates, and the
    angle between mini-batch update and gradient in degrees: at the last measurement of each run, mean ± sample standard
    deviation over tasks. `lowest` is the least share of unit error signals at any measurement. Entries that are 0 on
    either side have no sign and are left out.
    """
    rows = []
    for result in of_table(found, number):
        last = [record.probes[-1] for record in result.records if record.probes]
        if last:
            units = [probe.unit for record in result.records for probe in record.probes if probe.unit is not None]
            rows.append(
                {
                    "Network": NETWORKS[result.cell.network],
                    **_varied(result.cell),
                    "Method": title(result.cell),
                    "unit errors": _spread([probe.unit for probe in last], 100),
                    "lowest": f"{100 * min(units):.4g}" if units else "",
                    "single examples": _spread([probe.example for probe in last], 100),
                    "mini-batch": _spread([probe.batch for probe in last], 100),
                    "angle": _spread([probe.angle for probe in last], 1),
                    "tasks": str(len(last)),
                }
            )
    return pd.DataFrame(rows)


def _spread(values: Iterable[float | None], scale: float) -> str:
    known = [scale * value for value in values if value is not None]
    if not known:
        return ""
    return f"{fmean(known):.1f}" + (f" ± {stdev(known):.1f}" if len(known) > 1 else "")


def _varied(cell: Cell) -> dict[str, str]:
    if TABLES[cell.table].varies == "activation":
        return {"Activation": ACTIVATIONS[cell.activation].title}
    return {"Classes": str(cell.classes)}


def _said(scores: Scores) -> str:
    return str(scores) if scores.std is not None else f"{scores} (one task)"


def _tasks(result: Result) -> str:
    if not result.records:
        return ""
    diverged = sum(record.diverged_at is not None for record in result.records)
    return f"{len(result.records)}" + (f", {diverged} diverged" if diverged else "")


def tuned_for(result: Result) -> str:
    """The cell whose search chose a result's settings: `itself`, or the name of another; empty where there is none."""
    if result.tuned_for is None:
        return ""
    return "itself" if result.borrowed is None else result.borrowed.name


def _signed(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval.low:+.1f}, {interval.high:+.1f}]"


# --------------------------------------------------------------------------------------------------------------- forms


def markdown(frame: pd.DataFrame) -> str:
    """A frame of words as a Markdown table, its bars escaped."""
    whole = frame.map(lambda text: str(text).replace("|", r"\|"))
    return str(whole.to_markdown(index=False, disable_numparse=True))


def html(frame: pd.DataFrame) -> str:
    """A frame of words as an HTML table, escaped."""
    return str(frame.to_html(index=False, border=0, classes="figures", na_rep=""))


def latex(frame: pd.DataFrame) -> str:
    """A frame of words as a LaTeX tabular for the package booktabs, escaped, its signs in mathematics."""
    text = str(frame.to_latex(index=False, escape=True, na_rep="", column_format="l" * len(frame.columns)))
    for sign, command in (("±", r"$\pm$"), ("−", "$-$"), ("×", r"$\times$")):
        text = text.replace(sign, command)
    return text


def csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; numbers with all their digits, so that reading it gives the same frame."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


FORMS: Table[Callable[[Any], str]] = Table("form of a table")
"""Ways to write a frame, by the ending of a file's name."""
FORMS.add("md", markdown)
FORMS.add("tex", latex)
FORMS.add("csv", csv)
FORMS.add("html", html)
