"""Tuning on validation images: successive halving over a list of candidates, with the same budget for every method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.notes import Round, SearchNote, Settings, Trial
from mdfa_core.runs.records import Record
from mdfa_core.runs.scheduling import Advance
from mdfa_core.runs.sweep import Sweep
from mdfa_core.training.experiment import Experiment


class Search:
    """Successive halving: every round trains the best candidates of the round before for longer, on more tasks.

    The best candidate has the highest mean validation accuracy. Ties are broken by the mean training accuracy, then by
    the order of the round before (in the first round: the order of the list). All runs are sealed: the search never
    evaluates the test set. Iterating trains the runs that the store does not have.

    Args:
        base: the experiment that all candidates start from.
        candidates: the settings that each candidate replaces in `base`.
        rungs: the rounds.
        sweep: makes a `Sweep` of sealed runs from experiments, with store, device and workers bound.
        seeds: of the tasks, as many as the longest round needs; the default is 0, 1, ….

    Raises:
        InvalidValue: there are no candidates or no rounds.

    Source: K. Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization,
    AISTATS 2016 (successive halving); M. Lechner, ICLR 2020, section 4 (what was tuned, and on what).
    """

    def __init__(
        self,
        base: Experiment,
        candidates: Sequence[Settings],
        rungs: Sequence[Round],
        sweep: Callable[[Iterable[Experiment]], Sweep],
        *,
        seeds: Sequence[int] | None = None,
    ) -> None:
        if not candidates or not rungs:
            raise InvalidValue(
                f"a search has {len(candidates)} candidates and {len(rungs)} rounds: give at least one of each"
            )
        self.base, self.candidates, self.rungs = base, tuple(candidates), tuple(rungs)
        self.trials: list[Trial] = []
        self.round = 0
        """The current round, from 0."""
        self.epochs_trained = 0
        """Epochs of all finished rounds."""
        self.seconds = 0.0
        self.seeds = tuple(range(max(rung.tasks for rung in rungs)) if seeds is None else seeds)
        self._sweep = sweep
        self._chosen: Settings | None = None

    def __iter__(self) -> Iterator[Advance]:
        """Train every round; afterwards `chosen` is known."""
        for sweep in self.sweeps():
            yield from sweep

    def sweeps(self) -> Iterator[Sweep]:
        """One sweep per round, for a caller that trains them, such as `schedule`.

        The caller must train a sweep before it asks for the next one.
        """
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
            InvalidValue: the search is not finished.
        """
        if self._chosen is None:
            raise InvalidValue("the search is not finished: iterate over it first")
        return self._chosen

    def experiments(self, settings: Settings, rung: Round) -> list[Experiment]:
        """The runs of one candidate in one round."""
        return [self.base.replace(**settings, epochs=rung.epochs, seed=seed) for seed in self.seeds[: rung.tasks]]

    def note(self, name: str) -> SearchNote:
        """The finished search as a note for a store.

        Raises:
            InvalidValue: the search is not finished.
        """
        return SearchNote(
            name=name,
            base=self.base.written(),
            candidates=self.candidates,
            rungs=self.rungs,
            trials=tuple(self.trials),
            epochs_trained=self.epochs_trained,
            seconds=self.seconds,
            ended=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            chosen=self.chosen,
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
