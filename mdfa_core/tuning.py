"""Tuning on validation: successive halving over a list of candidate settings, with the same budget for every method."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from mdfa_core.errors import InvalidValue
from mdfa_core.experiment import Experiment
from mdfa_core.records import Record
from mdfa_core.sweeps import Advance, Sweep

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One round of a search.

    Attributes:
        candidates: how many come into it, the best of the round before; None: all.
        epochs: how long each is trained.
        tasks: on how many tasks, the first ones.
    """

    candidates: int | None
    epochs: int
    tasks: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one candidate reached in one round.

    Attributes:
        settings: the candidate.
        rung: the round, from 0.
        validation: mean over the tasks of the best validation accuracy of any epoch; 0 where a run has none.
        train: likewise of the training accuracy.
        diverged: on how many tasks the loss became no number.
    """

    settings: Settings
    rung: int
    validation: float
    train: float
    diverged: int


class Search:
    """Successive halving: every round trains the best candidates of the round before for longer, on more tasks.

    The best is the one of the highest mean validation accuracy; among equals that of the highest mean training
    accuracy, then the one that was ahead in the round before (in the first round: in the list). All runs are sealed: no
    test image is opened. Iterating does the work; what the store has already is not trained again.

    Args:
        base: everything the candidates have in common.
        candidates: settings to replace in `base`, each a mapping.
        rungs: the rounds.
        sweep: makes a `Sweep` of sealed runs from experiments, with store, device and workers bound.
        seeds: of the tasks, as many as the longest round needs; by default 0, 1, ….

    Raises:
        InvalidValue: there is no candidate or no round.

    Source: K. Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization,
    AISTATS 2016 (successive halving); M. Lechner, ICLR 2020, section 4 (what was tuned, and on what).
    """

    def __init__(
        self,
        base: Experiment,
        candidates: Sequence[Settings],
        rungs: Sequence[Rung],
        sweep: Callable[[Iterable[Experiment]], Sweep],
        *,
        seeds: Sequence[int] | None = None,
    ) -> None:
        if not candidates or not rungs:
            raise InvalidValue(
                f"a search over {len(candidates)} candidates in {len(rungs)} rounds was asked for: give at least one"
            )
        self.base, self.candidates, self.rungs = base, tuple(candidates), tuple(rungs)
        self.trials: list[Trial] = []
        self.round = 0
        """The round that is being worked on."""
        self.epochs_trained = 0
        """Epochs of all rounds that have ended."""
        self.seconds = 0.0
        self.seeds = tuple(range(max(rung.tasks for rung in rungs)) if seeds is None else seeds)
        self._sweep = sweep

    def __iter__(self) -> Iterator[Advance]:
        """Do every round; `chosen` is there at the end."""
        for sweep in self.sweeps():
            yield from sweep

    def sweeps(self) -> Iterator[Sweep]:
        """The same for who trains the sweeps: each round's, which must be trained before the next is asked for."""
        self.trials.clear()
        self.epochs_trained, self.seconds = 0, 0.0
        left = list(self.candidates)
        for number, rung in enumerate(self.rungs):
            self.round = number
            left = left[: rung.candidates]
            sweep = self._sweep(e for settings in left for e in self.experiments(settings, rung))
            yield sweep
            records = {record.experiment: record for record in sweep.records()}
            trials = [self._trial(settings, number, records) for settings in left]
            self.trials += trials
            self.epochs_trained += rung.epochs * rung.tasks * len(left)
            self.seconds += sum(record.provenance.seconds for record in records.values())
            ranked = sorted(zip(trials, left, strict=True), key=lambda pair: (-pair[0].validation, -pair[0].train))
            left = [settings for _, settings in ranked]
        self._chosen = left[0]

    @property
    def chosen(self) -> Settings:
        """The settings that won.

        Raises:
            InvalidValue: the search has not ended.
        """
        if not hasattr(self, "_chosen"):
            raise InvalidValue("the search has not ended: iterate over it first")
        return self._chosen

    def experiments(self, settings: Settings, rung: Rung) -> list[Experiment]:
        """The runs of one candidate in one round."""
        return [self.base.replace(**settings, epochs=rung.epochs, seed=seed) for seed in self.seeds[: rung.tasks]]

    def document(self) -> dict[str, Any]:
        """The whole search as plain values: candidates, rounds, every trial, the cost, what was chosen."""
        return {
            "base": self.base.to_dict(),
            "candidates": [dict(settings) for settings in self.candidates],
            "rungs": [asdict(rung) for rung in self.rungs],
            "trials": [asdict(trial) | {"settings": dict(trial.settings)} for trial in self.trials],
            "epochs trained": self.epochs_trained,
            "seconds": self.seconds,
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "chosen": dict(self.chosen),
        }

    def answered_by(self, document: Mapping[str, Any] | None) -> bool:
        """Whether a document says what this search has found: the same was asked, with the same outcome."""
        found = json.loads(json.dumps(self.document()))
        return document is not None and all(
            document.get(name) == value for name, value in found.items() if name not in ("seconds", "ended")
        )

    def _trial(self, settings: Settings, number: int, found: Mapping[Experiment, Record]) -> Trial:
        records = [found[experiment] for experiment in self.experiments(settings, self.rungs[number])]
        return Trial(
            settings=settings,
            rung=number,
            validation=fmean(record.best_validation_accuracy or 0.0 for record in records),
            train=fmean(record.best_train_accuracy or 0.0 for record in records),
            diverged=sum(record.diverged_at is not None for record in records),
        )


def best_fit(document: Mapping[str, Any]) -> Settings:
    """Of the candidates in a search's last round, the settings that fitted the training images best.

    Args:
        document: what `Search.document` made.
    """
    last = max(trial["rung"] for trial in document["trials"])
    trials = [trial for trial in document["trials"] if trial["rung"] == last]
    best = max(trials, key=lambda trial: (trial["train"], trial["validation"]))
    return dict(best["settings"])
