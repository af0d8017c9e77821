"""The whole report on a store's results: one HTML file that needs no network, Markdown, and files of tables."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from mdfa_core.errors import InvalidValue
from mdfa_core.paper import claims
from mdfa_core.paper.claims import CLAIMS, Claim
from mdfa_core.paper.criteria import Outcome, Verdict
from mdfa_core.paper.evidence import published_evidence
from mdfa_core.paper.published import TABLES, Cell, PaperTable
from mdfa_core.records import Record
from mdfa_core.reports import tables
from mdfa_core.reports.results import Result, Study, compared, elsewhere, evidence, of_table, results
from mdfa_core.store import Store

LARGEST = 12  # disagreements that are listed


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim with the verdict on the results here, and on the paper's own figures."""

    number: int
    name: str
    claim: Claim
    here: Verdict
    published: Verdict
    same_as: Judged | None
    """An earlier claim that rests on the same checks."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table of the paper in the report."""

    table: PaperTable
    beside: pd.DataFrame
    differences: pd.DataFrame
    signs: pd.DataFrame
    """Of the cells whose runs measured them."""
    run: int
    """Cells that were run."""
    borrowed: int
    """Those of them that were not tuned, but run with the settings of another cell."""
    cells: int
    mean_difference: float | None
    """Of all figures, here − paper, in points; None: none was run."""
    mean_distance: float | None
    """Likewise without signs."""
    data: str
    """What it was run on; empty if it was not."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a report says, before it has a form."""

    profiles: tuple[str, ...]
    sections: tuple[Section, ...]
    elsewhere: Mapping[int, str]
    toy: int
    """Cells whose data says nothing about the paper: for claims they count as not run."""
    largest: pd.DataFrame
    claims: tuple[Judged, ...]
    tally: Mapping[Outcome, int]
    checks: Mapping[Outcome, int]
    """The checks behind the claims, each counted once however many claims rest on it."""
    printed_checks: Mapping[Outcome, int]
    """The same checks on the paper's own figures."""
    untuned: int
    """Claims that were decided by cells that were not tuned."""
    untuned_checks: int
    """Checks that rest on such a cell."""
    searches: pd.DataFrame
    studies: tuple[tuple[Cell, Study, pd.DataFrame], ...]
    settings: pd.DataFrame
    besides: pd.DataFrame
    """Runs that looked at the same test images and that no figure is made of."""
    provenance: pd.DataFrame
    checksums: pd.DataFrame
    run: int
    borrowed: int
    cells: int


def report(found: Sequence[Result]) -> Report:
    """What there is to say about these results."""
    sections = tuple(_section(found, table) for table in TABLES.values())
    judged = _judged(found)
    studies = tuple((r.cell, r.study, _trials(r.study)) for r in found if r.study is not None)
    return Report(
        profiles=tuple(dict.fromkeys(r.profile for r in found if r.profile is not None)),
        sections=sections,
        elsewhere=elsewhere(found),
        toy=sum(result.toy for result in found),
        largest=_largest(found),
        claims=judged,
        tally={outcome: sum(one.here.outcome is outcome for one in judged) for outcome in Outcome},
        checks=_checks(one.here for one in judged if one.same_as is None),
        printed_checks=_checks(one.published for one in judged if one.same_as is None),
        untuned=sum(one.here.untuned for one in judged),
        untuned_checks=sum(finding.untuned for one in judged if one.same_as is None for finding in one.here.findings),
        searches=_searches(found),
        studies=studies,
        settings=_settings(found),
        besides=_besides(found),
        provenance=_provenance(found),
        checksums=_checksums(found),
        run=sum(section.run for section in sections),
        borrowed=sum(section.borrowed for section in sections),
        cells=sum(section.cells for section in sections),
    )


def html(found: Sequence[Result]) -> str:
    """The report as one page: tables, plots, verdicts, searches, provenance; nothing is loaded from elsewhere."""
    from mdfa_core.reports import plots  # the drawing libraries take seconds to load, and only a page needs them

    grouped: dict[int, tuple[list[int], list[int]]] = {}
    drawn: list[Any] = []
    for number, table in TABLES.items():
        rows = of_table(found, number)
        if not any(result.records for result in rows):
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
        report=report(found), written=_now(), frame=tables.html, plots=embedded, plots_of=grouped, Outcome=Outcome
    )


def markdown(found: Sequence[Result]) -> str:
    """The report without plots and without the trials of searches."""
    text = _PLAIN.get_template("report.md.j2").render(
        report=report(found), written=_now(), frame=tables.markdown, Outcome=Outcome
    )
    return text.rstrip() + "\n"


def write(store: Store, folder: str | os.PathLike[str], *profiles: str) -> list[Path]:
    """Write the report and every table of a store's results into a folder; returns the files.

    `report.html`, `report.md`, `figures.csv` (all 224 figures, unrounded), and `table_1.md`, `.tex`, `.csv`, ….

    Args:
        store: where the results are.
        folder: made if it is not there.
        profiles: as `results` takes them.

    Raises:
        InvalidValue: the folder cannot be written; or as `results`.
        UnknownName: as `results`.
    """
    found = results(store, *profiles)
    texts = {"report.html": html(found), "report.md": markdown(found), "figures.csv": tables.csv(tables.figures(found))}
    for number in TABLES:
        frame = tables.beside(found, number)
        for ending in ("md", "tex", "csv"):
            texts[f"table_{number}.{ending}"] = tables.FORMS[ending](frame)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidValue(
            f"the report cannot be written to {target} ({error.strerror}): name another folder"
        ) from None
    return [target / name for name in texts]


# -------------------------------------------------------------------------------------------------------------- content


def _section(found: Sequence[Result], table: PaperTable) -> Section:
    rows = of_table(found, table.number)
    differences = [
        difference for r in rows for split in table.splits if (difference := r.difference(split)) is not None
    ]
    return Section(
        table=table,
        beside=tables.beside(found, table.number),
        differences=tables.differences(found, table.number),
        signs=tables.signs(found, table.number),
        run=sum(bool(result.records) for result in rows),
        borrowed=sum(bool(result.records) and result.borrowed is not None for result in rows),
        cells=len(rows),
        mean_difference=fmean(differences) if differences else None,
        mean_distance=fmean(map(abs, differences)) if differences else None,
        data=", ".join(dict.fromkeys(result.data for result in rows if result.data is not None)),
    )


def _judged(found: Sequence[Result]) -> tuple[Judged, ...]:
    ours, printed = claims.judge(evidence(found)), claims.judge(published_evidence())
    judged: list[Judged] = []
    for number, (name, claim) in enumerate(CLAIMS.items(), start=1):
        judged.append(
            Judged(
                number=number,
                name=name,
                claim=claim,
                here=ours[name],
                published=printed[name],
                same_as=next((one for one in judged if one.claim.checks is claim.checks), None),
            )
        )
    return tuple(judged)


def _checks(verdicts: Iterable[Verdict]) -> dict[Outcome, int]:
    counts = Counter(finding.outcome for verdict in verdicts for finding in verdict.findings)
    return {outcome: counts[outcome] for outcome in Outcome}


def _largest(found: Sequence[Result]) -> pd.DataFrame:
    frame = tables.figures(found).dropna(subset=["difference"])
    frame = frame.loc[frame["difference"].abs().sort_values(ascending=False).index].head(LARGEST)
    by = {
        (
            result.cell.table,
            result.cell.network,
            result.cell.activation,
            result.cell.classes,
            result.cell.method,
        ): result
        for result in found
    }
    rows = []
    for row in frame.to_dict("records"):
        result = by[tuple(row[name] for name in ("table", "network", "activation", "classes", "method"))]
        split = row["split"]
        rows.append(
            {
                "cell": result.cell.name,
                "accuracy": split,
                "paper": str(result.cell.published[split]),
                "here": str(result.scores(split)),
                "difference": f"{row['difference']:+.1f}",
                "tuned for": tables.tuned_for(result),
            }
        )
    return pd.DataFrame(rows)


def _searches(found: Sequence[Result]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "cell": result.cell.name,
                "search": result.study.name,
                "candidates": str(result.study.candidates),
                "rounds": _rounds(result.study),
                "epochs trained": str(result.study.epochs),
                "time": spoken(result.study.seconds),
                "chosen": _words(result.study.chosen),
            }
            for result in found
            if result.study is not None
        ]
    )


def _rounds(study: Study) -> str:
    return "; ".join(
        f"{rung['candidates'] or 'all'} × {rung['epochs']} epochs × {rung['tasks']} tasks" for rung in study.rungs
    )


def _trials(study: Study) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "round": str(trial["rung"] + 1),
                "settings": _words(trial["settings"]),
                "validation": f"{100 * trial['validation']:.1f}",
                "training": f"{100 * trial['train']:.1f}",
                "diverged tasks": str(trial["diverged"]),
            }
            for trial in study.trials
        ]
    )


def _settings(found: Sequence[Result]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "cell": result.cell.name,
                "profile": result.profile,
                "settings": _words(result.settings),
                "best fit": _words(result.fit_settings),
                "network": result.records[0].experiment.network if result.records else "",
                "epochs": str(result.records[0].experiment.epochs) if result.records else "",
                "tuned for": tables.tuned_for(result),
            }
            for result in found
            if result.profile is not None
        ]
    )


def _besides(found: Sequence[Result]) -> pd.DataFrame:
    """By cell and by settings: those that were chosen for it, and all others that are not as in the runs shown."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in found:
        for row in result.besides:
            shown = result.records[0].experiment.to_dict()
            told = [name for name in shown if name in result.settings or (row[name] != shown[name] and name != "seed")]
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


def _provenance(found: Sequence[Result]) -> pd.DataFrame:
    """Runs by everything that was the same about how they were made."""
    runs = _runs(found)
    names = ("machine", "device", "threads", "python", "torch", "mdfa", "commit", "command")
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in runs:
        made = asdict(record.provenance)
        groups.setdefault((*(made[name] for name in names), record.numerics), []).append(record)
    return pd.DataFrame(
        [
            {
                "runs": str(len(records)),
                "time": spoken(sum(record.provenance.seconds for record in records)),
                "first finished": min(record.provenance.finished for record in records),
                "last finished": max(record.provenance.finished for record in records),
                **{
                    name: "" if value is None else str(value)
                    for name, value in zip((*names, "numerics"), group, strict=True)
                },
            }
            for group, records in groups.items()
        ]
    )


def _checksums(found: Sequence[Result]) -> pd.DataFrame:
    """SHA-256 of every task's data."""
    counted = Counter(
        (
            record.experiment.data,
            record.experiment.image_size,
            record.experiment.classes,
            record.experiment.task,
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


def _runs(found: Sequence[Result]) -> list[Record]:
    return list({record.key: record for result in found for record in (*result.records, *result.fitted)}.values())


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


def spoken(seconds: float) -> str:
    """A duration in words: `12.5 s`, `34 min`, `5.2 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


_ENVIRONMENT = Environment(
    loader=PackageLoader("mdfa_core.reports"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PLAIN = _ENVIRONMENT.overlay(autoescape=False)
