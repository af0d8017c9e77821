"""The whole report on a store's results: one HTML file that works offline, Markdown, and files of tables."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.text import spoken
from mdfa_core.runs.notes import SearchNote
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.claims import CLAIMS, Claim
from mdfa_core.studies.paper.measures import printed
from mdfa_core.studies.paper.origins import code_state
from mdfa_core.studies.paper.propositions import Grade, Tally, Verdict
from mdfa_core.studies.paper.published import TABLES, Cell, PaperTable
from mdfa_core.studies.reports import tables
from mdfa_core.studies.reports.results import (
    CellResult,
    Role,
    compared,
    elsewhere,
    of_table,
    results,
    task_of,
    verdicts,
)

LARGEST = 12  # differences that are listed

LEGEND = (
    "Each proposition claims an effect in several cells. "
    + "; ".join(f"{grade.symbol} {grade.words}: {grade.meaning}" for grade in Grade)
    + ". In brackets, such as (●): a cell that was run with the settings of another cell. Intervals are Student's t "
    "over tasks, corrected by Holm's procedure within the proposition. “Holds” counts ●."
)
"""How to read grades."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A sentence of the paper with the tally of the cases that it covers."""

    number: int
    name: str
    claim: Claim
    tally: Tally
    propositions: tuple[str, ...]
    """The names of the propositions that decide it."""

    @property
    def strictly(self) -> str:
        """`yes`: every case is shown or a tie; `no`: a case points the other way; else `open`; empty without cases."""
        counts = self.tally.counts
        if not counts:
            return ""
        if counts.get(Grade.DISAGREES) or counts.get(Grade.CONTRADICTED):
            return "no"
        return "yes" if set(counts) <= {Grade.SHOWN, Grade.TIE} else "open"


@dataclass(frozen=True, kw_only=True)
class Section:
    """The section of the report on one table of the paper."""

    table: PaperTable
    heading: str
    """The title; it says which data is toy data."""
    beside: pd.DataFrame
    differences: pd.DataFrame
    signs: pd.DataFrame
    """Sign agreement, for the cells whose runs measured it."""
    run: int
    """Number of cells that were run."""
    borrowed: int
    """Number of these cells that were run with the settings of another cell."""
    cells: int
    mean_difference: float | None
    """Mean of here − paper over all figures, in points; None: no cell was run."""
    mean_distance: float | None
    """Mean of |here − paper|, in points."""
    data: str
    """The data sets it was run on; empty if no cell was run."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of a report, before it is formatted."""

    profiles: tuple[str, ...]
    sections: tuple[Section, ...]
    elsewhere: Mapping[int, str]
    toy: int
    """Number of cells run on toy data; for verdicts they count as not run."""
    largest: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    propositions: pd.DataFrame
    cases: tuple[pd.DataFrame, ...]
    """The graded cases of every proposition that were run."""
    missing: tuple[Mapping[str, str], ...]
    """For every proposition: why cases were not run, with the cells."""
    claims: tuple[Judged, ...]
    draws: pd.DataFrame
    """Both spreads of the cells with more tasks or seeds than the paper's figures."""
    searches: pd.DataFrame
    trials: tuple[tuple[Cell, pd.DataFrame], ...]
    """Every trial of every search, by the cell the search was for."""
    settings: pd.DataFrame
    besides: pd.DataFrame
    """Other runs that evaluated the same test images; no figure uses them."""
    provenance: pd.DataFrame
    checksums: pd.DataFrame
    run: int
    borrowed: int
    failed: tuple[str, ...]
    """Names of the cells whose borrowed settings failed."""
    codes: Mapping[str, int]
    """Number of final runs by the state of their code, see `origins.code_state`."""
    cells: int


def report(found: Sequence[CellResult]) -> Report:
    """The content of the report on these results."""
    sections = tuple(_section(found, table) for table in TABLES.values())
    judged = verdicts(found)
    trials = tuple((result.cell, _trials(result.search)) for result in found if result.search is not None)
    return Report(
        profiles=tuple(dict.fromkeys(r.profile for r in found if r.profile is not None)),
        sections=sections,
        elsewhere=elsewhere(found),
        toy=sum(result.toy for result in found),
        largest=_largest(found),
        verdicts=judged,
        propositions=tables.propositions(judged),
        cases=tuple(map(tables.cases, judged)),
        missing=tuple(map(_missing, judged)),
        claims=claims(judged),
        draws=tables.draws(found),
        searches=_searches(found),
        trials=trials,
        settings=settings(found),
        besides=_besides(found),
        provenance=_provenance(found),
        checksums=_checksums(found),
        run=sum(section.run for section in sections),
        borrowed=sum(section.borrowed for section in sections),
        failed=tuple(result.cell.name for result in found if result.failed),
        codes=Counter(code_state(record.provenance.commit) for record in _runs(found)),
        cells=sum(section.cells for section in sections),
    )


def html(found: Sequence[CellResult], content: Report | None = None) -> str:
    """The report as one HTML page that works offline: tables, plots, verdicts, searches and provenance.

    Args:
        found: the results.
        content: their `report`, if it is known already.
    """
    from mdfa_core.studies.reports import (
        plots,  # plotting libraries take seconds to load, and only the HTML page needs them
    )

    grouped: dict[int, tuple[list[int], list[int]]] = {}
    drawn: list[Any] = []
    for number, table in TABLES.items():
        rows = of_table(found, number)
        if not any(result.run for result in rows):
            continue
        first, details = [], []
        for network in dict.fromkeys(result.cell.network for result in rows):
            for split in table.splits:
                first.append(len(drawn))
                drawn.append(plots.accuracies(rows, network, split))
        for group in compared(rows):
            for plot in (plots.curves(group), plots.agreement(group, "unit"), plots.agreement(group, "batch")):
                if plot is not None:
                    details.append(len(drawn))
                    drawn.append(plot)
        grouped[number] = (first, details)
    embedded = plots.embed(drawn)
    return _ENVIRONMENT.get_template("report.html.j2").render(
        report=content or report(found),
        written=_now(),
        frame=tables.html,
        plots=embedded,
        plots_of=grouped,
        Grade=Grade,
        legend=LEGEND,
    )


def markdown(found: Sequence[CellResult], content: Report | None = None) -> str:
    """The report as Markdown, without plots and without the trials of searches.

    Args:
        found: the results.
        content: their `report`, if it is known already.
    """
    text = template("report.md.j2").render(
        report=content or report(found), written=_now(), frame=tables.markdown, Grade=Grade, legend=LEGEND
    )
    return text.rstrip() + "\n"


def write(store: Store, folder: str | os.PathLike[str], *profiles: str) -> list[Path]:
    """`write_results` for the results of a store.

    Args:
        store: has the results.
        folder: as for `write_results`.
        profiles: as for `results`.

    Raises:
        InvalidValue: the folder cannot be written; or see `results`.
        UnknownName: see `results`.
    """
    return write_results(results(store, *profiles), folder)


def write_results(found: Sequence[CellResult], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the report and all tables of results into a folder; returns the files.

    The files are `report.html`, `report.md`, `figures.csv` (all figures, unrounded), and for every table
    `table_1.md`, `.tex` and `.csv`.

    Args:
        found: the results.
        folder: created if it does not exist.

    Raises:
        InvalidValue: the folder cannot be written.
    """
    target = Path(folder)
    with _writing(target):
        target.mkdir(parents=True, exist_ok=True)
    content = report(found)
    texts = {
        "report.html": html(found, content),
        "report.md": markdown(found, content),
        "figures.csv": tables.csv(tables.figures(found)),
    }
    for number in TABLES:
        frame = tables.beside(found, number)
        for ending in ("md", "tex", "csv"):
            texts[f"table_{number}.{ending}"] = tables.FORMS[ending](frame)
    with _writing(target):
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
    return [target / name for name in texts]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidValue(
            f"the report cannot be written to {folder} ({error.strerror}): name another folder"
        ) from None


# -------------------------------------------------------------------------------------------------------------- content


def _section(found: Sequence[CellResult], table: PaperTable) -> Section:
    rows = of_table(found, table.number)
    differences = [
        difference for r in rows for split in table.splits if (difference := r.comparable.difference(split)) is not None
    ]
    return Section(
        table=table,
        heading=tables.heading(found, table.number),
        beside=_untitled(tables.beside(found, table.number)),
        differences=_untitled(tables.differences(found, table.number)),
        signs=tables.signs(found, table.number),
        run=sum(result.run for result in rows),
        borrowed=sum(result.run and result.borrowed is not None for result in rows),
        cells=len(rows),
        mean_difference=fmean(differences) if differences else None,
        mean_distance=fmean(map(abs, differences)) if differences else None,
        data=", ".join(dict.fromkeys(result.data for result in rows if result.data is not None)),
    )


def _untitled(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame for a section, whose heading is its title."""
    frame.attrs.clear()
    return frame


def _missing(verdict: Verdict) -> dict[str, str]:
    """The reasons for which cases of a proposition were not run, with their cells by table."""
    reasons: dict[str, Counter[int]] = {}
    for one in verdict.cells:
        if one.grade is Grade.NOT_RUN:
            reasons.setdefault(one.reason, Counter())[one.case.cell.table] += 1
    return {
        reason: ", ".join(f"{n} {'case' if n == 1 else 'cases'} of Table {table}" for table, n in sorted(by.items()))
        for reason, by in reasons.items()
    }


def claims(judged: Sequence[Verdict]) -> tuple[Judged, ...]:
    """Every sentence of the paper with the cases that it covers, in the paper's order."""
    return tuple(
        Judged(
            number=number,
            name=name,
            claim=claim,
            tally=Tally.of(claim.cases(judged)),
            propositions=tuple(dict.fromkeys(part["proposition"] for part in claim.rests_on)),
        )
        for number, (name, claim) in enumerate(CLAIMS.items(), start=1)
    )


def _largest(found: Sequence[CellResult]) -> pd.DataFrame:
    differences = [
        (difference, result.comparable, split)
        for result in found
        for split in result.cell.splits
        if (difference := result.comparable.difference(split)) is not None
    ]
    differences.sort(key=lambda one: -abs(one[0]))
    return pd.DataFrame(
        [
            {
                "cell": result.cell.name,
                "accuracy": printed(split).title(result.cell),
                "paper": str(result.cell.published[split]),
                "here": str(result.scores(printed(split))),
                "difference": f"{difference:+.1f}",
                "tuned for": tables.tuned_for(result),
            }
            for difference, result, split in differences[:LARGEST]
        ]
    )


def _searches(found: Sequence[CellResult]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "cell": result.cell.name,
                "search": result.search.name,
                "candidates": str(result.search.tried),
                "rounds": _rounds(result.search),
                "epochs trained": str(result.search.epochs_trained),
                "time": duration(result.search.seconds),
                "chosen": _words(result.search.chosen),
            }
            for result in found
            if result.search is not None
        ]
    )


def _rounds(search: SearchNote) -> str:
    return "; ".join(f"{rung.candidates or 'all'} × {rung.epochs} epochs × {rung.tasks} tasks" for rung in search.rungs)


def _trials(search: SearchNote) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "round": str(trial.rung + 1),
                "settings": _words(trial.settings),
                "validation": f"{100 * trial.validation:.1f}",
                "training": f"{100 * trial.train:.1f}",
                "diverged tasks": str(trial.diverged),
            }
            for trial in search.trials
        ]
    )


def settings(found: Sequence[CellResult]) -> pd.DataFrame:
    """One row per cell that was run: its chosen and best-fit settings in words, and where they come from."""
    return pd.DataFrame(
        [
            {
                "cell": result.cell.name,
                "profile": result.profile,
                "settings": _words(result.chosen.settings),
                "best fit": _best_fit(result),
                "network": result.chosen.records[0].experiment.network if result.run else "",
                "epochs": str(result.chosen.records[0].experiment.epochs) if result.run else "",
                "tuned for": tables.tuned_for(result),
            }
            for result in found
            if result.profile is not None
        ]
    )


def _best_fit(result: CellResult) -> str:
    """The settings of the best fit, and how much better or worse than the chosen settings they fit."""
    if result.fit is None:
        return "the chosen settings, which fit all images"
    if result.fit.settings == result.chosen.settings:
        return "the chosen settings, which fitted best in the search too"
    words = _words(result.fit.settings)
    return words if result.best_fit is result.fit else f"the chosen settings; not better: {words}"


def _besides(found: Sequence[CellResult]) -> pd.DataFrame:
    """Other evaluations of test images, grouped by cell and by the settings that differ from the runs shown."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in found:
        for row in result.besides:
            shown = result.chosen.records[0].experiment.to_dict()
            told = [
                name
                for name in shown
                if name in result.chosen.settings or (row[name] != shown[name] and name != "seed")
            ]
            words = _words({name: row[name] for name in told})
            groups.setdefault((result.cell.name, words), []).append(row)
    return pd.DataFrame(
        [
            {
                "cell": cell,
                "runs": str(len(rows)),
                "settings": words,
                "first finished": min(row["finished"] for row in rows),
                "last finished": max(row["finished"] for row in rows),
            }
            for (cell, words), rows in groups.items()
        ]
    )


def _provenance(found: Sequence[CellResult]) -> pd.DataFrame:
    """Runs grouped by machine, device, versions, commit and command, with the state of their code."""
    runs = _runs(found)
    names = ("machine", "device", "threads", "python", "torch", "mdfa", "commit", "command")
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in runs:
        made = asdict(record.provenance)
        key = (*(made[name] for name in names), record.numerics, code_state(record.provenance.commit))
        groups.setdefault(key, []).append(record)
    return pd.DataFrame(
        [
            {
                "runs": str(len(records)),
                "time": duration(sum(record.provenance.seconds for record in records)),
                "first finished": min(record.provenance.finished for record in records),
                "last finished": max(record.provenance.finished for record in records),
                **{
                    name: "" if value is None else str(value)
                    for name, value in zip((*names, "numerics", "code"), group, strict=True)
                },
            }
            for group, records in groups.items()
        ]
    )


def _checksums(found: Sequence[CellResult]) -> pd.DataFrame:
    """SHA-256 of every task's data."""
    counted = Counter(
        (
            record.experiment.data,
            record.experiment.image_size,
            record.experiment.classes,
            task_of(record),
            record.checksum,
        )
        for record in _runs(found)
    )
    return pd.DataFrame(
        [
            {
                "data": data + ("" if size is None else f" at {size}×{size} pixels"),
                "classes": str(classes),
                "task": str(task),
                "SHA-256": checksum,
                "runs": str(runs),
            }
            for (data, size, classes, task, checksum), runs in sorted(counted.items(), key=lambda item: str(item[0]))
        ]
    )


def _runs(found: Sequence[CellResult]) -> list[Record]:
    roles = (role for result in found for role in (result.chosen, result.fit or Role()))
    return list({record.key: record for role in roles for record in role.records}.values())


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{spoken(name)} {value}" for name, value in settings.items())


def duration(seconds: float) -> str:
    """A duration in words: `12.5 s`, `34 min`, `5.2 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


_ENVIRONMENT = Environment(
    loader=PackageLoader("mdfa_core.studies.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PLAIN = _ENVIRONMENT.overlay(autoescape=False)


def template(name: str) -> Template:
    """A template of a Markdown page."""
    return _PLAIN.get_template(name)
