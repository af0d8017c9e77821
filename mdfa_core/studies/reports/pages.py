"""The published pages: the page of results with its figures, and one page per table of the paper.

Their words are in templates; every number that depends on the runs is computed here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.paper.cases import FITTED
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN, Measure, printed
from mdfa_core.studies.paper.propositions import PROPOSITIONS
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell, SplitName
from mdfa_core.studies.paper.released import GRID
from mdfa_core.studies.paper.statistics import paired
from mdfa_core.studies.paper.words import NETWORK_WORDS, place, title
from mdfa_core.studies.reports import disagreements, document, tables
from mdfa_core.studies.reports import held_out as held_out_tasks
from mdfa_core.studies.reports.disagreements import Explanation
from mdfa_core.studies.reports.figures.style import Drawing
from mdfa_core.studies.reports.held_out import Comparison
from mdfa_core.studies.reports.results import CellResult, of_table, verdicts

_LARGEST = 4  # disagreements that the page names

_FITTED = ("table-1/fc/tanh", "table-1/fc/hard-tanh", "table-2/fc/tanh", "table-2/fc/hard-tanh")
_CONV = ("table-1/conv/tanh", "table-1/conv/hard-tanh", "table-1/conv/relu")

NOTES: Mapping[int, str] = {
    1: "mDFA's convolutional networks fit fewer training images than BP's, in the paper and here. FA and DFA are "
    "mostly better than in the paper; the gap is largest with ReLU. FA with hard-tanh loses one task in the "
    "fully-connected network: its settings had looked best after 20 epochs on two tasks.",
    2: "The data are not the paper's: 40 classes at 64×64 pixels. The held-out images are the data set's validation "
    "images, which choose nothing here; with 100 images per task, one image is one point. The four fully-connected "
    "cells with tanh, and FA with hard-tanh, were evaluated twice: first with borrowed settings, later with their own, "
    "which are published. FA with hard-tanh had failed with borrowed settings; its own reach the paper's figures. DFA "
    "with ReLU, and BP with hard-tanh in the convolutional network, still fail on some tasks with borrowed settings; "
    "this says nothing about the rules. Sign agreement of BP below 100 % in the convolutional network is rounding on a "
    "GPU, where products are summed in no fixed order.",
    3: "With n classes, chance is 100/n %. DFA and mDFA train better than in the paper at every number of classes; "
    "[disagreements](disagreements.md) tests causes. FA with 50 classes breaks down during training, probably because "
    "its settings were tuned for three classes.",
    4: "In the paper, DFA and mDFA beat BP on test images from ten classes on. We do not see this lead. FA with 25 and "
    "50 classes is below the paper, with settings that were tuned for three classes.",
    5: "The data are not the paper's: 40 classes at 64×64 pixels, and fewer images per class. FA stays at chance on "
    "several tasks with borrowed settings, so mDFA's lead over FA is no finding.",
    6: "",
}
"""What a reader of a table should know, in at most 150 words."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The numbers of the page of results.

    Attributes:
        cells, tuned, borrowed: numbers of cells.
        missing: what was not run, in words.
        fits: training accuracies of mDFA's fully-connected binary cells.
        convs: differences mDFA − BP of the convolutional binary cells.
        fit_sentence, conv_sentence, lead_sentence: the answer.
        match: whether mDFA matches BP in convolutional networks.
        twice: how many cells evaluated their test images more than once, by table; empty if none did.
        code_sentence: how many cells have runs whose commit is gone.
        disagree_sentence, cause_sentence: how many cells differ from the paper, and why.
        held_out_sentence: whether held-out tasks agree.
        spread_sentence: spreads over tasks and over seeds; empty without cells of more than five tasks.
        bp_sentence: how near BP is to the paper.
        largest: the cells that differ most from the paper in training accuracy, with the released program's settings.
        candidates, rounds: of the searches, in words.
        hours: time of all runs, in words.
        propositions: their number.
    """

    cells: int
    tuned: int
    borrowed: int
    missing: tuple[str, ...]
    fits: tuple[Mapping[str, Any], ...]
    convs: tuple[Mapping[str, Any], ...]
    fit_sentence: str
    conv_sentence: str
    lead_sentence: str
    match: str
    twice: str
    code_sentence: str
    disagree_sentence: str
    cause_sentence: str
    held_out_sentence: str
    spread_sentence: str
    bp_sentence: str
    largest: tuple[Mapping[str, str], ...]
    candidates: str
    rounds: str
    hours: str
    propositions: int


def facts(
    found: Sequence[CellResult],
    runs: Iterable[Mapping[str, Any]],
    *,
    explained: Sequence[Explanation],
    step: str,
    held_out: Sequence[Comparison],
) -> Facts:
    """The numbers of the page.

    Args:
        found: the published results.
        runs: all published runs as flat rows, for their time.
        explained: the cells that differ from the paper, with the released program's settings.
        step: `disagreements.largest_step`.
        held_out: the published settings on held-out tasks.
    """
    by = {result.cell.name: result for result in found}
    ran = [result for result in found if result.run]
    fits = tuple(_fit(by[f"{name}/mdfa/2"]) for name in _FITTED if by[f"{name}/mdfa/2"].run)
    convs = tuple(row for name in _CONV if (row := _conv(by[f"{name}/mdfa/2"], by[f"{name}/bp/2"])) is not None)
    searches = [result.search for result in found if result.search is not None]
    return Facts(
        cells=len(found),
        tuned=sum(result.borrowed is None for result in ran),
        borrowed=sum(result.borrowed is not None for result in ran),
        missing=_missing(found),
        fits=fits,
        convs=convs,
        fit_sentence=_fit_sentence(fits),
        conv_sentence=_conv_sentence(convs),
        lead_sentence=_lead_sentence(found),
        match=_match(convs),
        twice=_twice(found),
        code_sentence=_code_sentence(ran),
        disagree_sentence=_disagree_sentence(ran, explained, by),
        cause_sentence=_cause_sentence(explained, step),
        held_out_sentence=held_out_tasks.sentence(held_out),
        spread_sentence=_spread_sentence(found),
        bp_sentence=_bp_sentence(found),
        largest=_largest(found, explained),
        candidates=_span({search.tried for search in searches}),
        rounds=_rounds(searches),
        hours=_hours(runs),
        propositions=len(PROPOSITIONS),
    )


def results_page(found: Facts, drawn: Mapping[str, Drawing]) -> str:
    """The page of results as Markdown.

    Args:
        found: its numbers.
        drawn: its figures by name.
    """
    text = document.template("results.md.j2").render(facts=found, drawn=drawn)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def sentences_page(found: Sequence[CellResult]) -> str:
    """The appendix as Markdown: all propositions, and all sentences of the paper with the cases that each covers."""
    judged = verdicts(found)
    text = document.template("sentences.md.j2").render(
        legend=document.LEGEND,
        propositions=tables.markdown(tables.propositions(judged)),
        claims=document.claims(judged),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def table_page(found: Sequence[CellResult], number: int) -> str:
    """The page of one table of the paper as Markdown: accuracies in view, everything else folded."""
    rows = of_table(found, number)
    whole = tables.beside(found, number)
    names = [name for name in whole if name in ("Network", "Activation", "Classes", "Method")]
    fit, chosen = (
        next(name for name in whole if name.startswith(f"{role}, ") and "epoch" not in name)
        for role in ("best fit", "chosen")
    )
    dropped = ("profile", "tasks", "code")
    compact = whole.drop(columns=[name for name in whole if "epoch" in name or name in dropped])
    compact["tuned for"] = [
        "" if not name else "own" if name == "itself" else "borrowed" for name in whole["tuned for"]
    ]
    frames = {
        "compact": compact.rename(columns={"tuned for": "settings", "− paper": "best fit − paper"}),
        "final": whole[[*names, fit, "best fit, final epoch", chosen, "chosen, final epoch"]],
        "differences": tables.differences(found, number),
        "draws": tables.draws(rows),
        "signs": tables.signs(found, number),
        "settings": document.settings(rows),
    }
    for frame in frames.values():
        frame.attrs.clear()  # the heading of the page is the title
    text = document.template("table.md.j2").render(
        heading=tables.heading(found, number),
        table=TABLES[number],
        notes=NOTES[number],
        run=sum(result.run for result in rows),
        cells=len(rows),
        code=_code_sentence([result for result in rows if result.run]),
        data=", ".join(dict.fromkeys(result.data for result in rows if result.data is not None)),
        **{name: "" if frame.empty else tables.markdown(frame) for name, frame in frames.items()},
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _fit(result: CellResult) -> dict[str, Any]:
    fit, chosen = (result.comparable.scores(measure) for measure in (TRAINED, TRAINED_CHOSEN))
    return {
        "place": place(result.cell),
        "paper": f"{result.cell.published['train'].mean:.1f}",
        "fit": "–" if fit is None else f"{fit.mean:.1f}",
        "chosen": "–" if chosen is None else f"{chosen.mean:.1f}",
        "fits": fit is not None and fit.mean > FITTED,
        "chosen fits": chosen is not None and chosen.mean > FITTED,
    }


def _fit_sentence(fits: Sequence[Mapping[str, Any]]) -> str:
    best, chosen = (sum(row[name] for row in fits) for name in ("fits", "chosen fits"))
    return (
        f"mDFA fits more than {FITTED:g} % of the training images in {best} of {len(fits)} fully-connected binary "
        f"cells with tanh and hard-tanh if settings are chosen by fit, in {chosen} with the settings that are tested."
    )


def _conv(ours: CellResult, theirs: CellResult) -> dict[str, Any] | None:
    row: dict[str, Any] = {"place": place(ours.cell)}
    splits: tuple[tuple[SplitName, Measure], ...] = (("test", TESTED), ("train", TRAINED))
    for name, measure in splits:
        a, b = ours.scores(measure), theirs.scores(measure)
        if a is None or b is None:
            return None
        contrast = paired(a, b)
        interval = contrast.interval()
        row[name] = _signed(str(contrast))
        printed_difference = ours.cell.published[name].mean - theirs.cell.published[name].mean
        row[f"{name} paper"] = _signed(f"{printed_difference:+.1f}")
        row[f"{name} below"] = interval is not None and interval.high < 0
        row[f"{name} below in the paper"] = printed_difference < 0
    return row


def _conv_sentence(convs: Sequence[Mapping[str, Any]]) -> str:
    test, train = (sum(row[f"{name} below"] for row in convs) for name in ("test", "train"))
    return (
        f"In the convolutional networks of Table 1, mDFA's training accuracy is below BP's in {train} of {len(convs)} "
        f"cells, its test accuracy in {test}."
    )


def _match(convs: Sequence[Mapping[str, Any]]) -> str:
    train, test = (sum(row[f"{name} below"] for row in convs) for name in ("train", "test"))
    alike = " as in the paper," if convs and all(row["train below in the paper"] for row in convs) else ""
    no = "No. " if train or test else ""
    return f"{no}In training, it is below BP in {train} of {len(convs)} cells,{alike} and on test images in {test}."


def _disagree_sentence(
    ran: Sequence[CellResult], explained: Sequence[Explanation], by: Mapping[str, CellResult]
) -> str:
    borrowed = sum(by[one.cell.name].borrowed is not None for one in explained)
    return (
        f"{len(explained)} of {len(ran)} cells differ from the paper by more than the sum of both ±; {borrowed} of "
        "them have borrowed settings."
    )


def _twice(found: Sequence[CellResult]) -> str:
    counts = Counter(result.cell.table for result in found if result.besides)
    return ", ".join(f"{count} {'cell' if count == 1 else 'cells'} of Table {n}" for n, count in sorted(counts.items()))


def _code_sentence(ran: Sequence[CellResult]) -> str:
    states = [result.code for result in ran]
    gone, dirty = states.count("commit gone"), states.count("dirty")
    parts = [f"the commit of {gone} is gone"] if gone else []
    parts += [f"{dirty} had uncommitted changes"] if dirty else []
    return f"Of the runs of {len(ran)} cells, {' and '.join(parts)}." if parts else ""


def _cause_sentence(explained: Sequence[Explanation], step: str) -> str:
    settings = disagreements.by_setting(explained)
    if not settings:
        return "No cause was tested."
    name, explains, run = max(settings, key=lambda one: one[1])
    words = next(setting.words for setting in GRID if setting.title == name)
    tested = sum(bool(one.tried) for one in explained)
    wide, narrow = (disagreements.CIFAR_INPUTS**power for power in (0.25, -0.5))
    by_rule = []
    for method in ("dfa", "mdfa", "fa"):
        agree = [
            name in {setting.name for setting in one.explained_by}
            for one in explained
            if one.cell.method == method and name in {setting.name for setting in one.tried}
        ]
        by_rule.append(f"{METHODS[method].title} {sum(agree)} of {len(agree)}")
    once = sum(len(one.tried) == 1 for one in explained)
    more = sum(bool(one.explained_by) for one in explained) - explains
    return (
        f"Likely cause: the released program's uniform initialisation takes a square root twice. "
        f"First-layer weights reach ±{wide:.1f} instead of ±{narrow:.3f}, and tanh starts saturated. "
        f"With the program's {words}, {explains} of {run} retrained cells agree within both ± "
        f"({', '.join(by_rule)}), with other settings {more} more; {once} were trained with one setting only. "
        + (f"{step} " if step else "")
        + f"{len(explained) - tested} cells were not retrained."
    )


def _lead_sentence(found: Sequence[CellResult]) -> str:
    lead = next(one for one in verdicts(found) if one.name == "surpasses")
    trained = {
        network: [
            one.effect >= 0
            for one in lead.cells
            if one.case.measure == TRAINED and one.case.cell.network == network and one.effect is not None
        ]
        for network in NETWORK_WORDS
    }
    not_behind = " and ".join(
        f"{sum(ahead)} of {len(ahead)} {NETWORK_WORDS[network]} cases" for network, ahead in trained.items()
    )
    gaps = [
        gap
        for result in found
        if result.cell.method in ("dfa", "fa") and (gap := result.comparable.difference("train")) is not None
    ]
    return (
        f"DFA and FA train better than in the paper in {sum(gap > 0 for gap in gaps)} of {len(gaps)} cells. With "
        f"one output, without ReLU, mDFA's training accuracy is at least theirs in {not_behind}; in "
        f"training or test, a lead is shown in {lead.tally.shown} of {lead.tally.measured} after Holm's correction."
    )


def _spread_sentence(found: Sequence[CellResult]) -> str:
    """Test accuracy in the cells that were run on more tasks than the paper's, or with several seeds in a task."""
    more = [
        scores
        for result in found
        if result.run and (scores := result.scores(TESTED)) is not None and scores != result.comparable.scores(TESTED)
    ]
    spreads = [scores.std for scores in more if scores.std is not None]
    if not spreads:
        return ""
    tasks = _span({len(scores.tasks) for scores in more})
    over = median(spreads)
    within = [scores.within for scores in more if scores.within is not None]
    seeds = _span({scores.seeds for scores in more if scores.within is not None})
    return (
        f"{len(more)} {'cell was' if len(more) == 1 else 'cells were'} run on {tasks} tasks. The median standard "
        f"deviation of test accuracy is {over:.1f} points over tasks"
        + (f" and {median(within):.1f} over {seeds} seeds of one task ({len(within)} cells)." if within else ".")
    )


def _bp_sentence(found: Sequence[CellResult]) -> str:
    """How many of BP's figures are within the sum of both spreads."""
    near = total = 0
    for result in found:
        for split in result.cell.splits:
            scores = result.comparable.scores(printed(split))
            if result.cell.method == "bp" and scores is not None:
                figure, total = result.cell.published[split], total + 1
                near += abs(scores.mean - figure.mean) <= figure.std + (scores.std or 0.0)
    return f"BP agrees within both ± in {near} of {total} accuracies."


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _largest(found: Sequence[CellResult], explained: Sequence[Explanation]) -> tuple[dict[str, str], ...]:
    nearest = {
        one.cell: scores.mean
        for one in explained
        if one.nearest is not None and (scores := one.nearest.scores.get("train")) is not None
    }
    known = [(abs(gap), result) for result in found if (gap := result.comparable.difference("train")) is not None]
    known.sort(key=lambda pair: -pair[0])
    return tuple(
        {
            "place": f"{title(result.cell)}, {place(result.cell)}",
            "paper": f"{result.cell.published['train'].mean:.1f}",
            "released": f"{nearest[result.cell]:.1f}" if result.cell in nearest else "–",
            "here": f"{scores.mean:.1f}" if (scores := result.comparable.scores(TRAINED)) else "–",
            "settings": "own" if result.borrowed is None else "borrowed",
        }
        for _, result in known[:_LARGEST]
    )


def _missing(found: Sequence[CellResult]) -> tuple[str, ...]:
    """Cells that were not run, by table and network."""
    groups: dict[tuple[int, str, str], list[Cell]] = {}
    for result in found:
        if not result.run:
            cell = result.cell
            varied = place(cell).rpartition(", ")[2]
            groups.setdefault((cell.table, NETWORK_WORDS[cell.network], varied), []).append(cell)
    whole: dict[tuple[int, str], list[str]] = {}
    for (number, network, varied), cells in groups.items():
        rules = "" if len(cells) == 4 else f" ({', '.join(map(title, cells))})"
        whole.setdefault((number, network), []).append(varied + rules)
    texts = []
    for (number, network), parts in whole.items():
        count = sum(len(cells) for (n, w, _), cells in groups.items() if (n, w) == (number, network))
        total = sum(cell.table == number and NETWORK_WORDS[cell.network] == network for cell in CELLS.values())
        texts.append(f"Table {number}, {network}: " + ("all cells" if count == total else ", ".join(parts)))
    return tuple(texts) or ("every cell was run",)


def _rounds(searches: Sequence[Any]) -> str:
    found = dict.fromkeys(
        ", then ".join(
            f"{rung.candidates or search.tried} for {rung.epochs} epochs on {rung.tasks} "
            f"{'task' if rung.tasks == 1 else 'tasks'}"
            for rung in search.rungs
        )
        for search in searches
    )
    return " or ".join(found) or "no search is stored"


def _hours(runs: Iterable[Mapping[str, Any]]) -> str:
    """The time of runs: of all threads on CPUs, of processes on GPUs."""
    seconds: dict[str, float] = {}
    for run in runs:
        on_cpu = run["device"] == "cpu"
        kind = "CPU cores" if on_cpu else "a shared GPU"
        seconds[kind] = seconds.get(kind, 0.0) + run["seconds"] * (run["threads"] if on_cpu else 1)
    return " and ".join(
        f"{document.duration(value)} on {kind}" for kind, value in sorted(seconds.items(), reverse=True)
    )


def _span(numbers: set[int]) -> str:
    return "no" if not numbers else str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
