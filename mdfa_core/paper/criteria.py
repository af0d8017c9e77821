"""What decides whether a claim holds: checks over evidence, each giving a finding with the numbers behind it.

A check reads accuracies in percent; a difference between two cells is paired by task. Of printed figures only the means
are known, so they are compared alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import fmean, stdev

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.methods import METHODS
from mdfa_core.paper.evidence import Curve, Evidence, Trial
from mdfa_core.paper.published import TASKS, Cell, Split
from mdfa_core.paper.statistics import Scores, contrast, paired

MARGIN = 2.0
"""Points by which one accuracy may be below another and still match it: 4 of a binary CIFAR task's 200 test images."""

NO_ERROR = 99.95
"""Least mean training accuracy that counts as no error: what is printed as 100.0 %."""

ROUNDING = 1e-9
"""Points that binary fractions may add to a mean of decimals: less is no difference."""

FIRST_EPOCHS = 5
"""What "the first few training epochs" are."""

FIRST_SHARE = 0.8
"""Share of the way from chance to the best validation accuracy that counts as decent after these epochs."""

MANY_EPOCHS = 100
"""Epochs that "over a hundred" is about."""

_FEW = 6  # cells that are named one by one


class Outcome(StrEnum):
    """What the data say about a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    NOT_TESTED = "not tested here"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's outcome and the numbers that decided it, or why it waits and for which cells."""

    outcome: Outcome
    numbers: str
    cells: tuple[Cell, ...] = ()
    """What has to be run first."""
    untuned: bool = False
    """Whether it rests on a cell that ran with settings tuned for another."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a claim, and of every check it rests on."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @property
    def tally(self) -> str:
        """How many checks hold, fail, and wait for runs, and how many of each rest on cells that were not tuned."""
        counts = []
        for outcome in Outcome:
            findings = [finding for finding in self.findings if finding.outcome is outcome]
            untuned = sum(finding.untuned for finding in findings)
            if findings:
                counts.append(f"{len(findings)} {outcome}" + (f", {untuned} of them untuned" if untuned else ""))
        return ", ".join(counts)

    @property
    def untuned(self) -> bool:
        """Whether it was decided by cells that were not tuned: had these not been run, it would be another."""
        without = [replace(f, outcome=Outcome.NOT_TESTED) if f.untuned else f for f in self.findings]
        return combine(without).outcome is not self.outcome

    @property
    def decided(self) -> tuple[Finding, ...]:
        """The findings of checks that were not left waiting."""
        return tuple(finding for finding in self.findings if finding.outcome is not Outcome.NOT_TESTED)

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is missing for the others, each reason once, with the names of cells or their number by table."""
        reasons: dict[str, dict[Cell, None]] = {}
        for finding in self.findings:
            if finding.outcome is Outcome.NOT_TESTED:
                reasons.setdefault(finding.numbers, {}).update(dict.fromkeys(finding.cells))
        return tuple(f"{reason}: {_listed(tuple(cells))}" if cells else reason for reason, cells in reasons.items())


def _listed(cells: Sequence[Cell]) -> str:
    if len(cells) <= _FEW:
        return ", ".join(cell.name for cell in cells)
    tables = Counter(cell.table for cell in cells)
    return ", ".join(f"{_count(range(n), 'cell')} of Table {table}" for table, n in sorted(tables.items()))


Check = Callable[[Evidence], Finding]


def combine(findings: Sequence[Finding]) -> Verdict:
    """A claim fails with any of its checks, holds if all hold, and is not tested while one of them waits for runs."""
    outcomes = {finding.outcome for finding in findings}
    for outcome in (Outcome.NOT_SUPPORTED, Outcome.NOT_TESTED):
        if outcome in outcomes:
            return Verdict(outcome=outcome, findings=tuple(findings))
    return Verdict(outcome=Outcome.SUPPORTED if findings else Outcome.NOT_TESTED, findings=tuple(findings))


def not_tested(needs: str) -> Check:
    """A check no run of the tables can decide; `needs` says what could."""
    return lambda evidence: Finding(outcome=Outcome.NOT_TESTED, numbers=needs)


# ------------------------------------------------------------------------------------------------------------- accuracy


def above(a: Cell, b: Cell, split: Split) -> Check:
    """a is more accurate than b: the interval of the paired difference a − b lies above 0."""

    def check(evidence: Evidence) -> Finding:
        found = _scores(evidence, (a, split), (b, split))
        if isinstance(found, Finding):
            return found
        difference = paired(*found)
        interval = difference.bootstrap
        return _finding(
            (difference.mean if interval is None else interval.low) > ROUNDING,
            f"{_versus(a, b, split, found)}; difference {difference}{_over(difference.tasks)}",
            evidence,
            a,
            b,
        )

    return check


def matches(a: Cell, b: Cell, split: Split) -> Check:
    """a is as accurate as b: at most `MARGIN` points below in the mean, and not shown to be below by the interval.

    That is, the interval of a − b reaches 0, or all of it is within the margin.
    """

    def check(evidence: Evidence) -> Finding:
        found = _scores(evidence, (a, split), (b, split))
        if isinstance(found, Finding):
            return found
        difference = paired(*found)
        interval = difference.bootstrap
        return _finding(
            difference.mean >= -MARGIN - ROUNDING
            and (interval is None or interval.high >= -ROUNDING or interval.low >= -MARGIN - ROUNDING),
            f"{_versus(a, b, split, found)}; difference {difference}{_over(difference.tasks)}",
            evidence,
            a,
            b,
        )

    return check


def no_training_error(cell: Cell) -> Check:
    """The mean of the best training accuracies is at least `NO_ERROR`."""
    return _at_least(cell, "train", NO_ERROR)


def almost_no_training_error(cell: Cell) -> Check:
    """The mean of the best training accuracies is within `MARGIN` points of 100 %."""
    return _at_least(cell, "train", 100 - MARGIN)


def _at_least(cell: Cell, split: Split, least: float) -> Check:
    def check(evidence: Evidence) -> Finding:
        found = _scores(evidence, (cell, split))
        if isinstance(found, Finding):
            return found
        (scores,) = found
        text = f"{place(cell)}, {word(split)}: {title(cell)} {_precise(scores, least)}{_over(scores.tasks)}"
        return _finding(scores.mean >= least - ROUNDING, f"{text}; needed {least:g}", evidence, cell)

    return check


def learns(cell: Cell) -> Check:
    """Held-out accuracy above chance, 100 % ÷ classes: the bootstrap interval of its mean lies above it."""

    def check(evidence: Evidence) -> Finding:
        found = _scores(evidence, (cell, cell.held_out))
        if isinstance(found, Finding):
            return found
        (scores,) = found
        chance, interval = 100 / cell.classes, scores.interval()
        text = f"{place(cell)}, {word(cell.held_out)}: {title(cell)} {scores}"
        if interval is not None:
            text += f" {interval}"
        return _finding(
            (scores.mean if interval is None else interval.low) > chance + ROUNDING,
            f"{text}{_over(scores.tasks)}; chance {chance:.1f}",
            evidence,
            cell,
        )

    return check


def decent(cell: Cell) -> Check:
    """Held-out accuracy at least half as far above chance as that of BP, in the means over tasks."""

    def check(evidence: Evidence) -> Finding:
        split = cell.held_out
        bp = replace(cell, method="bp")
        found = _scores(evidence, (cell, split), (bp, split))
        if isinstance(found, Finding):
            return found
        chance = 100 / cell.classes
        gain, most = (scores.mean - chance for scores in found)
        share = f", {100 * gain / most:.0f} % of BP's gain over chance ({chance:.1f})" if most > 0 else ", BP at chance"
        numbers = f"{_versus(cell, bp, split, found)}{share}"
        return _finding(most > 0 and gain >= most / 2 - ROUNDING, numbers, evidence, cell, bp)

    return check


def falls(cells: Sequence[Cell], split: Split) -> Check:
    """Accuracy falls as classes grow: no mean is above the one before; first − last has an interval above 0."""

    def check(evidence: Evidence) -> Finding:
        found = _scores(evidence, *((cell, split) for cell in cells))
        if isinstance(found, Finding):
            return found
        means = [scores.mean for scores in found]
        drop = paired(found[0], found[-1])
        interval = drop.bootstrap
        steps = ", ".join(f"{cell.classes}: {scores}" for cell, scores in zip(cells, found, strict=True))
        return _finding(
            all(after <= before + ROUNDING for before, after in pairwise(means))
            and (drop.mean if interval is None else interval.low) > ROUNDING,
            f"{_place(cells[0])}, {word(split)}, {title(cells[0])} by classes {steps}; first − last {drop}"
            f"{_over(drop.tasks)}",
            evidence,
            *cells,
        )

    return check


def falls_more(cells: Sequence[Cell], than: Sequence[Cell], split: Split) -> Check:
    """From fewest to most classes `cells` lose more than `than` do: the interval of the difference lies above 0."""

    def check(evidence: Evidence) -> Finding:
        ends = (cells[0], cells[-1], than[0], than[-1])
        found = _scores(evidence, *((cell, split) for cell in ends))
        if isinstance(found, Finding):
            return found
        a, b, c, d = found
        more = contrast((1, a), (-1, b), (-1, c), (1, d))
        interval = more.bootstrap
        return _finding(
            (more.mean if interval is None else interval.low) > ROUNDING,
            f"{_place(cells[0])}, {word(split)}, {cells[0].classes} to {cells[-1].classes} classes: "
            f"{title(cells[0])} loses {a.mean - b.mean:.1f}, {title(than[0])} {c.mean - d.mean:.1f}; "
            f"difference {more}{_over(more.tasks)}",
            evidence,
            *ends,
        )

    return check


# --------------------------------------------------------------------------------------------------------------- signs


def signs_agree(cell: Cell) -> Check:
    """Every unit error signal that the cell's runs measured has the true one's sign."""
    return _measured(cell, lambda lowest: lowest == 1)


def signs_disagree(cell: Cell) -> Check:
    """Some unit error signal that the cell's runs measured has the wrong sign."""
    return _measured(cell, lambda lowest: lowest < 1)


def _measured(cell: Cell, holds: Callable[[float], bool]) -> Check:
    def check(evidence: Evidence) -> Finding:
        values = evidence.agreement.get(cell)
        if not values:
            return _waiting("no run measured sign agreement", cell)
        lowest = min(values)
        said = "1" if lowest == 1 else f"{min(lowest, 0.9999):.4f}"  # no other share reads like all
        numbers = f"lowest agreement {said} of {_count(values, 'measurement')}"
        return _finding(holds(lowest), f"{place(cell)}: {title(cell)} {numbers}", evidence, cell)

    return check


# -------------------------------------------------------------------------------------------------------------- curves


def starts_fast(cell: Cell) -> Check:
    """After `FIRST_EPOCHS` epochs validation accuracy is `FIRST_SHARE` of the way from chance to its best (mean)."""

    def check(evidence: Evidence) -> Finding:
        found = _curves(evidence, cell)
        if isinstance(found, Finding):
            return found
        chance = 100 / cell.classes
        shares = []
        for curve in found.values():
            values = [value for value in curve.validation if value is not None]
            if len(values) <= FIRST_EPOCHS:
                return _waiting(f"trained for {FIRST_EPOCHS} epochs or fewer", cell)
            best = max(values) - chance
            shares.append((max(values[:FIRST_EPOCHS]) - chance) / best if best > 0 else 0.0)
        return _finding(
            fmean(shares) >= FIRST_SHARE,
            f"{place(cell)}, {title(cell)}: {100 * fmean(shares):.0f} % of the way from chance to the best validation "
            f"accuracy after {FIRST_EPOCHS} epochs{_over(found)}",
            evidence,
            cell,
        )

    return check


def converges_later(cell: Cell, than: Cell) -> Check:
    """The epoch that first comes within 1 point of the best training accuracy is later, in every task."""

    def check(evidence: Evidence) -> Finding:
        both = []
        for one in (cell, than):
            found = _curves(evidence, one)
            if isinstance(found, Finding):
                return found
            both.append({task: _converged(curve) for task, curve in found.items()})
        slow, fast = both
        common = sorted(set(slow) & set(fast))
        later = sum(slow[task] > fast[task] for task in common)
        return _finding(
            later == len(common) > 0,
            f"{place(cell)}: {title(cell)} at epochs {[slow[task] for task in common]}, {title(than)} at "
            f"{[fast[task] for task in common]}; later in {later} of {len(common)} tasks",
            evidence,
            cell,
            than,
        )

    return check


def needs_many_epochs(cells: Sequence[Cell]) -> Check:
    """At least one run comes within 1 point of its best training accuracy only after `MANY_EPOCHS` epochs."""

    def check(evidence: Evidence) -> Finding:
        known = [cell for cell in cells if cell in evidence.curves]
        by_cell = {cell: [_converged(curve) for curve in evidence.curves[cell].values()] for cell in known}
        epochs = [epoch for found in by_cell.values() for epoch in found]
        beyond = sum(epoch > MANY_EPOCHS for epoch in epochs)
        if not beyond and not all(_long_enough(evidence, cell) for cell in cells):
            short = [cell for cell in cells if not _long_enough(evidence, cell)]
            return _waiting(f"not run for more than {MANY_EPOCHS} epochs", *short)
        numbers = f"{beyond} of {_count(epochs, 'run')}; latest at epoch {max(epochs)}"
        late = [cell for cell, found in by_cell.items() if max(found) > MANY_EPOCHS]
        tuned = [cell for cell in late if cell not in evidence.borrowed]  # one late run is enough
        return _finding(beyond > 0, numbers, evidence, *(tuned or late or known))

    return check


def _long_enough(evidence: Evidence, cell: Cell) -> bool:
    return any(len(curve.train) > MANY_EPOCHS for curve in evidence.curves.get(cell, {}).values())


def _converged(curve: Curve) -> int:
    best = max(curve.train)
    return next(epoch for epoch, value in enumerate(curve.train, start=1) if value >= best - 1)


# ------------------------------------------------------------------------------------------------------------ searches


def best_with(cell: Cell, setting: str, wanted: str) -> Check:
    """The best candidate whose `setting` starts with `wanted` is no worse on validation than the best other one.

    Here and below candidates are compared in the first round of a search: all are in it, equally long and on the same
    tasks. Those that came further were trained longer, and chosen for what they had reached.
    """
    return _searched(cell, setting, wanted, lambda difference: difference >= -ROUNDING, "at least 0")


def worse_with(cell: Cell, setting: str, wanted: str) -> Check:
    """The best candidate whose `setting` starts with `wanted` is more than `MARGIN` points below the best other one."""
    return _searched(cell, setting, wanted, lambda difference: difference < -MARGIN - ROUNDING, f"below {-MARGIN:g}")


def _searched(cell: Cell, setting: str, wanted: str, holds: Callable[[float], bool], needed: str) -> Check:
    def check(evidence: Evidence) -> Finding:
        trials = _first_round(evidence, cell)
        if not trials:
            return _waiting("no search is kept", cell)
        groups: dict[bool, list[float]] = {True: [], False: []}
        for trial in trials:
            groups[str(trial.settings[setting]).startswith(wanted)].append(trial.validation)
        if not all(groups.values()):
            return _waiting(f"the search compared no {wanted} with another {setting.replace('_', ' ')}", cell)
        ours, others = (max(groups[kind]) for kind in (True, False))
        difference = round(ours - others, 1) + 0.0  # no -0.0
        return _finding(
            holds(ours - others),
            f"{place(cell)}, {title(cell)}, validation: {wanted} {ours:.1f} (best of {len(groups[True])}), "
            f"other {others:.1f} (best of {len(groups[False])}); difference {difference:+.1f}, needed {needed}",
            evidence,
            cell,
        )

    return check


def _first_round(evidence: Evidence, cell: Cell) -> list[Trial]:
    return [trial for trial in evidence.searches.get(cell, ()) if trial.rung == 0]


def more_sensitive(cell: Cell, than: Cell) -> Check:
    """Candidates differ more: the standard deviation of their validation accuracies; below chance counts as chance."""

    def check(evidence: Evidence) -> Finding:
        spreads, lengths = [], []
        for one in (cell, than):
            values = [max(trial.validation, 100 / one.classes) for trial in _first_round(evidence, one)]
            if len(values) < 2:
                return _waiting("no search is kept", one)
            spreads.append(stdev(values))
            lengths.append(len(values))
        return _finding(
            spreads[0] > spreads[1],
            f"{place(cell)}, validation: {title(cell)} spread {spreads[0]:.1f} over {lengths[0]} candidates, "
            f"{title(than)} {spreads[1]:.1f} over {lengths[1]}",
            evidence,
            cell,
            than,
        )

    return check


# --------------------------------------------------------------------------------------------------------------- words


def place(cell: Cell) -> str:
    """Where a cell stands in the paper, without its method."""
    return f"{_place(cell)}, {cell.classes} classes" if cell.classes > 2 else _place(cell)


def _place(cell: Cell) -> str:
    return f"Table {cell.table}, {NETWORKS[cell.network]}, {ACTIVATIONS[cell.activation].title}"


def title(cell: Cell) -> str:
    """A cell's method as the paper writes it."""
    return METHODS[cell.method].title


def word(split: Split) -> str:
    """A split as the paper calls it."""
    return "training" if split == "train" else split


NETWORKS = {"fc": "FC", "conv": "CNN"}
"""The paper's words for its two kinds of network."""


def _versus(a: Cell, b: Cell, split: Split, found: Sequence[Scores]) -> str:
    names = [title(a), title(b)]
    if a.activation != b.activation:
        names = [f"{title(cell)} {ACTIVATIONS[cell.activation].title}" for cell in (a, b)]
        where = f"Table {a.table}, {NETWORKS[a.network]}"
    else:
        where = place(a)
    return f"{where}, {word(split)}: {names[0]} {found[0]}, {names[1]} {found[1]}"


def _precise(scores: Scores, least: float) -> str:
    """The scores with as many digits as show on which side of the limit they are."""
    near = abs(scores.mean - least) < 0.1 and scores.tasks
    return f"{scores.mean:.3f}" if near else str(scores)


def _over(tasks: Iterable[int]) -> str:
    number = len(list(tasks))
    return f" over {_count(range(number), 'task')}" if number else ""


def _count(things: Iterable[object], word: str) -> str:
    number = len(list(things))
    return f"{number} {word}{'' if number == 1 else 's'}"


def _finding(holds: bool, numbers: str, evidence: Evidence, *cells: Cell) -> Finding:
    """What was found on these cells; those that were not tuned are named behind the numbers."""
    sources: dict[Cell, list[str]] = {}
    for cell in dict.fromkeys(cells):
        if cell in evidence.borrowed:
            sources.setdefault(evidence.borrowed[cell], []).append(cell.name)
    notes = [f"{', '.join(names)} with the settings of {source.name}" for source, names in sources.items()]
    return Finding(
        outcome=Outcome.SUPPORTED if holds else Outcome.NOT_SUPPORTED,
        numbers=f"{numbers}; not tuned: {'; '.join(notes)}" if notes else numbers,
        untuned=bool(notes),
    )


def _waiting(reason: str, *cells: Cell) -> Finding:
    return Finding(outcome=Outcome.NOT_TESTED, numbers=reason, cells=cells)


def _scores(evidence: Evidence, *wanted: tuple[Cell, Split]) -> list[Scores] | Finding:
    """The scores of all wanted, or a finding that says what is to be run: cells count with all tasks, and the same."""
    found = [evidence.scores.get(one) for one in wanted]
    missing = [cell for (cell, _), scores in zip(wanted, found, strict=True) if scores is None]
    if missing:
        return _waiting("not run", *missing)
    known = [scores for scores in found if scores is not None]
    partly = [c for (c, _), scores in zip(wanted, known, strict=True) if scores.tasks and len(scores.tasks) < TASKS]
    if partly:
        return _waiting(f"run on fewer than {TASKS} tasks", *partly)
    tasks = [set(scores.tasks) for scores in known if scores.tasks]
    if tasks and len(set.intersection(*tasks)) < TASKS:
        return _waiting(f"run on fewer than {TASKS} tasks that are the same for all", *(cell for cell, _ in wanted))
    return known


def _curves(evidence: Evidence, cell: Cell) -> dict[int, Curve] | Finding:
    curves = dict(evidence.curves.get(cell, {}))
    if not curves:
        return _waiting("not run", cell)
    return curves if len(curves) >= TASKS else _waiting(f"run on fewer than {TASKS} tasks", cell)
