"""The paper's tables beside ours, paired differences and propositions: as frames, Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

import html as markup
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from mdfa_core.base.registry import Registry
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.runs.records import Record
from mdfa_core.studies.paper.measures import REPORTED, TESTED, TRAINED, TRAINED_CHOSEN, Measure, column
from mdfa_core.studies.paper.propositions import Graded, Verdict
from mdfa_core.studies.paper.published import TABLES, Cell
from mdfa_core.studies.paper.statistics import Interval, Scores, paired
from mdfa_core.studies.paper.words import NETWORK_WORDS, place, title
from mdfa_core.studies.reports.results import CellResult, compared, of_table, task_of

NOT_RUN = "not run"

FAILED = "✗"
"""Stands behind a figure of a cell whose borrowed settings failed: it is not a figure of the method."""

PAIRS = (("mdfa", "bp"), ("mdfa", "dfa"), ("mdfa", "fa"), ("dfa", "bp"), ("fa", "bp"))
"""Methods whose difference, first − second, is shown."""


def figures(found: Iterable[CellResult]) -> pd.DataFrame:
    """One row per cell and measure: mean and standard deviation in the paper and here, in percent.

    Columns: table, network, activation, classes, method, role (`chosen` or `best fit`), quantity (see
    `paper.measures.QUANTITIES`), paper_mean, paper_std, mean, std (over tasks), tasks, seeds (within a task),
    within_std (over the seeds of a task), difference (here − paper, points), diverged, profile, tuned_for (the cell
    whose search chose the settings), failed (tasks on which borrowed settings failed, see `CellResult.failed`), code
    (see `CellResult.code`), data. Numbers are not rounded.

    Rows are of the paper's five tasks with one seed each. A cell with more tasks or seeds has a further row of all of
    them per measure, without the paper's figures, which are of five tasks. Cells that were not run have empty values.
    """
    rows = []
    for result in found:
        five = result.comparable
        rows += [_figure(five, measure, column(measure, result.cell)) for measure in REPORTED]
        if result != five:
            rows += [_figure(result, measure, None) for measure in REPORTED]
    frame = pd.DataFrame(rows)
    floats = ("paper_mean", "paper_std", "mean", "std", "within_std", "difference")
    return frame.astype({name: "float64" for name in floats})


def _figure(result: CellResult, measure: Measure, split: Any) -> dict[str, Any]:
    cell, scores = result.cell, result.scores(measure)
    printed = None if split is None else cell.published[split]
    role = result.chosen if measure.role == "chosen" else result.best_fit
    return {
        "table": cell.table,
        "network": cell.network,
        "activation": cell.activation,
        "classes": cell.classes,
        "method": cell.method,
        "role": measure.role,
        "quantity": measure.quantity,
        "paper_mean": None if printed is None else printed.mean,
        "paper_std": None if printed is None else printed.std,
        "mean": None if scores is None else scores.mean,
        "std": None if scores is None else scores.std,
        "tasks": 0 if scores is None else len(scores.tasks),
        "seeds": 0 if scores is None else scores.seeds,
        "within_std": None if scores is None else scores.within,
        "difference": None if scores is None or printed is None else scores.mean - printed.mean,
        "diverged": sum(record.diverged_at is not None for record in role.records),
        "profile": result.profile,
        "tuned_for": None if result.tuned_for is None else result.tuned_for.name,
        "failed": len(result.failed),
        "code": result.code or None,
        "data": result.data,
    }


def heading(found: Iterable[CellResult], number: int) -> str:
    """The title of table `number`; it says which cells were run on toy data."""
    toy = sorted({result.data or "" for result in of_table(found, number) if result.toy})
    title = f"Table {number}: {TABLES[number].caption}"
    return f"{title}. TOY DATA ({', '.join(toy)}): no figure here is about the paper's data" if toy else title


def beside(found: Iterable[CellResult], number: int) -> pd.DataFrame:
    """Table `number` of the paper as texts: one row per cell, with accuracies in the paper and here, and differences.

    The training accuracy of the paper stands beside that of the *best fit*, its held-out accuracy beside that of the
    *chosen* configuration. Further columns have both roles' training accuracy after the last epoch, the number of
    tasks, diverged tasks, the profile, the cell whose search chose the settings, and the state of the code that made
    the runs. The ± is the sample standard deviation over the paper's five tasks. `FAILED` marks the figures of cells
    whose borrowed settings failed. If cells were run on toy data, the columns say so, in place of *here*.
    """
    rows = []
    chosen = list(found)
    toy = any(result.toy for result in of_table(chosen, number))
    here = "toy data" if toy else "here"
    for whole in of_table(chosen, number):
        result, cell = whole.comparable, whole.cell
        held_out = TESTED.title(cell).partition(",")[0]
        train, test = (result.difference(split) for split in cell.splits)
        rows.append(
            {
                "Network": NETWORK_WORDS[cell.network],
                **_varied(cell),
                "Method": title(cell),
                "training, paper": str(cell.published["train"]),
                f"best fit, {here}": _said(result, TRAINED),
                "− paper": _points(train),
                "best fit, final epoch": _said(result, Measure("best fit", "train_final")),
                f"chosen, {here}": _said(result, TRAINED_CHOSEN),
                "chosen, final epoch": _said(result, Measure("chosen", "train_final")),
                f"{held_out}, paper": str(cell.published[cell.held_out]),
                f"{held_out} of chosen, {here}": _said(result, TESTED),
                f"{held_out} − paper": _points(test),
                "tasks": _tasks(result),
                "profile": result.profile or "",
                "tuned for": tuned_for(result),
                "code": result.code,
            }
        )
    frame = pd.DataFrame(rows)
    frame.attrs["title"] = heading(chosen, number)
    return frame


def draws(found: Iterable[CellResult]) -> pd.DataFrame:
    """Cells that were run on more tasks than the paper's five, or with several seeds within a task: both spreads.

    Columns per measure: mean and its spread over tasks (of the means over seeds), and the pooled spread over the seeds
    of a task. Accuracies in percent, spreads in points. Without such cells, the frame is empty.
    """
    rows = []
    for result in found:
        five = result.comparable
        if not result.run or result == five:
            continue
        for measure in (TRAINED, TRAINED_CHOSEN, TESTED):
            scores, before = result.scores(measure), five.scores(measure)
            if scores is not None:
                rows.append(
                    {
                        "cell": f"{place(result.cell)}, {title(result.cell)}",
                        "accuracy": measure.title(result.cell),
                        "five tasks": "" if before is None else str(before),
                        "all": str(scores),
                        "tasks": str(len(scores.tasks)),
                        "seeds within a task": str(scores.seeds),
                        "spread over tasks": "" if scores.std is None else f"{scores.std:.1f}",
                        "spread over seeds": "" if scores.within is None else f"{scores.within:.1f}",
                    }
                )
    return pd.DataFrame(rows)


def differences(found: Sequence[CellResult], number: int) -> pd.DataFrame:
    """Differences between methods in table `number`, paired by task, in points; for pairs run on common tasks.

    Columns: the difference of the paper's means, the mean difference here with Student's 95 % interval, not corrected
    for the number of comparisons, the number of tasks in which the first method is ahead, and the methods that were not
    tuned. Training is that of the best fit.
    """
    rows = []
    for group in compared(of_table(found, number)):
        by = {result.cell.method: result for result in group}
        for first, second in PAIRS:
            if first in by and second in by:
                both = (_difference(by[first], by[second], measure) for measure in (TRAINED, TRAINED_CHOSEN, TESTED))
                rows += [row for row in both if row is not None]
    frame = pd.DataFrame(rows)
    frame.attrs["title"] = f"Paired differences in {heading(found, number)}"
    return frame


def _difference(a: CellResult, b: CellResult, measure: Measure) -> dict[str, str] | None:
    ours, theirs = a.scores(measure), b.scores(measure)
    if ours is None or theirs is None or not set(ours.tasks) & set(theirs.tasks):
        return None
    contrast, split = paired(ours, theirs), column(measure, a.cell)
    return {
        "Network": NETWORK_WORDS[a.cell.network],
        **_varied(a.cell),
        "Difference": f"{title(a.cell)} − {title(b.cell)}",
        "accuracy": measure.title(a.cell),
        "paper": _points(None if split is None else a.cell.published[split].mean - b.cell.published[split].mean),
        "here": _points(contrast.mean),
        "95 % interval": _signed(contrast.interval()),
        "ahead in": f"{contrast.ahead()} of {len(contrast.tasks)}",
        "not tuned": ", ".join(title(result.cell) for result in (a, b) if result.borrowed is not None),
    }


def propositions(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """One row per proposition: its name and statement, how often it holds, effects, grades, agreement in the paper."""
    return pd.DataFrame(
        [
            {
                "name": verdict.name,
                "proposition": verdict.proposition.says,
                "holds": verdict.tally.headline,
                "by part": verdict.parts,
                "mean effect": "; ".join(
                    f"{name}: {tally.effect}" for name, tally in verdict.groups.items() if tally.effect
                ),
                "grades": verdict.tally.symbols,
                "settings borrowed": str(verdict.tally.borrowed or ""),
                "agrees in the paper": f"{verdict.tally.paper} of {verdict.tally.printed}"
                * bool(verdict.tally.printed),
            }
            for verdict in verdicts
        ]
    )


def cases(verdict: Verdict) -> pd.DataFrame:
    """One row per case of a proposition that was run: effect, interval corrected by Holm's procedure, tasks, grade."""
    return pd.DataFrame([_case(one) for one in verdict.cells if one.effect is not None])


def _case(one: Graded) -> dict[str, str]:
    case = one.case
    return {
        "grade": one.symbol,
        "in words": one.words,
        "cell": case.where,
        "effect": case.what,
        "accuracy": case.group,
        "here": f"{case.number(one.effect or 0.0)} {case.unit}".removesuffix(" points"),
        "interval, Holm": "" if one.interval is None else case.bounds(one.interval),
        "confidence": f"{100 * one.confidence:.2f} %" if one.interval is not None else "",
        "95 %, uncorrected": "" if one.plain is None else case.bounds(one.plain),
        "claimed": case.claimed,
        "tasks ahead": f"{one.ahead} of {one.tasks}" if one.tasks else "",
        "paper": "" if case.paper is None else case.number(case.paper),
    }


def signs(found: Iterable[CellResult], number: int) -> pd.DataFrame:
    """Agreement of error signals and updates with the true gradient in table `number`: one row per measured cell.

    Columns: sign agreement of unit error signals, single-example updates and mini-batch updates in percent, and the
    angle between mini-batch update and gradient in degrees. They are for the last measurement of each run, as mean ±
    sample standard deviation over tasks; of several seeds within a task, the mean counts. `lowest` is the lowest
    agreement of unit error signals at any measurement. Entries that are 0 on one side have no sign and are left out.
    """
    rows = []
    for result in of_table(found, number):
        runs = [record for record in result.chosen.records if record.probes]
        if runs:
            units = [probe.unit for record in runs for probe in record.probes if probe.unit is not None]
            rows.append(
                {
                    "Network": NETWORK_WORDS[result.cell.network],
                    **_varied(result.cell),
                    "Method": title(result.cell),
                    "unit errors": _at_end(runs, "unit", 100),
                    "lowest": f"{100 * min(units):.4g}" if units else "",
                    "single examples": _at_end(runs, "example", 100),
                    "mini-batch": _at_end(runs, "batch", 100),
                    "angle": _at_end(runs, "angle", 1),
                    "tasks": str(len(set(map(task_of, runs)))),
                    "runs": str(len(runs)),
                }
            )
    return pd.DataFrame(rows)


def _at_end(runs: Iterable[Record], name: str, scale: float) -> str:
    """A value of the last measurements: mean ± sample standard deviation over tasks of the means over seeds."""
    tasks: dict[int, list[float]] = {}
    for record in runs:
        value: float | None = getattr(record.probes[-1], name)
        if value is not None:
            tasks.setdefault(task_of(record), []).append(scale * value)
    means = [fmean(values) for values in tasks.values()]
    if not means:
        return ""
    return f"{fmean(means):.1f}" + (f" ± {stdev(means):.1f}" if len(means) > 1 else "")


def _varied(cell: Cell) -> dict[str, str]:
    if TABLES[cell.table].varies == "activation":
        return {"Activation": ACTIVATIONS[cell.activation].title}
    return {"Classes": str(cell.classes)}


def _said(result: CellResult, measure: Measure) -> str:
    scores: Scores | None = result.scores(measure)
    if scores is None:
        return NOT_RUN if not result.run else ""
    told = str(scores) if scores.std is not None else f"{scores} (one task)"
    return f"{told} {FAILED}" if result.failed else told


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{round(difference, 1) + 0.0:+.1f}"  # no -0.0


def _tasks(result: CellResult) -> str:
    if not result.run:
        return ""
    diverged = sum(record.diverged_at is not None for record in result.chosen.records)
    told = f"{len(result.chosen.tasks)}" + (f", {diverged} diverged" if diverged else "")
    return told + (f", settings failed on {len(result.failed)}" if result.failed else "")


def tuned_for(result: CellResult) -> str:
    """The cell whose search chose the settings: `itself`, or another cell's name; empty if the cell was not run."""
    if result.tuned_for is None:
        return ""
    return "itself" if result.borrowed is None else result.borrowed.name


def _signed(interval: Interval | None) -> str:
    return "" if interval is None else str(interval)


# --------------------------------------------------------------------------------------------------------------- forms


def markdown(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table, below its title if it has one; bars are escaped."""
    whole = frame.map(lambda text: str(text).replace("|", r"\|"))
    title = frame.attrs.get("title")
    return (f"**{title}**\n\n" if title else "") + str(whole.to_markdown(index=False, disable_numparse=True))


def html(frame: pd.DataFrame) -> str:
    """A frame of texts as an HTML table, escaped; its title is the caption."""
    text = str(frame.to_html(index=False, border=0, classes="figures", na_rep=""))
    title = frame.attrs.get("title")
    return text.replace("<thead>", f"<caption>{markup.escape(title)}</caption><thead>", 1) if title else text


def captioned(frame: pd.DataFrame) -> Any:
    """A frame with its title as caption, for a notebook."""
    return frame.style.set_caption(frame.attrs.get("title", "")).hide(axis="index")


def latex(frame: pd.DataFrame) -> str:
    """A frame of texts as a LaTeX tabular for the package booktabs, escaped; ±, − and × become mathematics.

    A title is the first row, across all columns.
    """
    text = str(frame.to_latex(index=False, escape=True, na_rep="", column_format="l" * len(frame.columns)))
    if title := frame.attrs.get("title"):
        escaped = title.replace("%", r"\%")
        row = rf"\multicolumn{{{len(frame.columns)}}}{{l}}{{{escaped}}} \\"
        text = text.replace("\\toprule\n", f"\\toprule\n{row}\n", 1)
    for sign, command in (("±", r"$\pm$"), ("−", "$-$"), ("×", r"$\times$")):
        text = text.replace(sign, command)
    return text


def csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; numbers have all their digits, so that reading it gives the same frame.

    There is no line for a title; columns of toy data are called so.
    """
    return str(frame.to_csv(index=False, lineterminator="\n"))


FORMS: Registry[Callable[[Any], str]] = Registry("form of a table")
"""Functions that format a frame, by the ending of the file's name."""
FORMS.add("md", markdown)
FORMS.add("tex", latex)
FORMS.add("csv", csv)
FORMS.add("html", html)
