"""Successive halving, against a slow reference on made-up scores, and on real runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.notes import Round, SearchNote
from mdfa_core.runs.records import Record
from mdfa_core.runs.scheduling import Advance
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.tuning import Search
from mdfa_core.training.experiment import Experiment
from tests.support import synthetic_records

BASE = Experiment(network="fc:8", batch_size=32)
Scores = dict[tuple[float, int, int], tuple[float | None, float | None]]


class MadeUp:
    """A sweep whose runs reach given accuracies: (rate, epochs, seed) → (validation, training); None: diverged."""

    def __init__(self, experiments: Iterable[Experiment], scores: Scores, trained: list[Experiment]) -> None:
        self.experiments = tuple(dict.fromkeys(experiments))
        self.scores = scores
        trained += self.experiments

    def __iter__(self) -> Iterator[Advance]:
        total = len(self.experiments)
        yield Advance(records=self.records(), done=total, total=total)

    def records(self) -> tuple[Record, ...]:
        return tuple(map(self._record, self.experiments))

    def _record(self, e: Experiment) -> Record:
        validation, train = self.scores[(e.learning_rate, e.epochs, e.seed)]
        return replace(
            synthetic_records.record(),
            experiment=e,
            best_validation_accuracy=validation,
            best_train_accuracy=train,
            diverged_at=3 if validation is None else None,
        )


def _searched(
    rates: list[float], rungs: list[Round], scores: Scores, **settings: Any
) -> tuple[Search, list[Experiment]]:
    trained: list[Experiment] = []
    search = Search(
        BASE,
        [{"learning_rate": rate} for rate in rates],
        rungs,
        lambda experiments: MadeUp(experiments, scores, trained),  # type: ignore[arg-type, return-value]
        **settings,
    )
    list(search)
    return search, trained


def _reference(rates: list[float], rungs: list[Round], scores: Scores, seeds: list[int]) -> tuple[float, list[Any]]:
    """Candidate by candidate, without sorting: each round keeps taking the best of those that are left."""
    left, trained = list(rates), []
    for rung in rungs:
        here = left if rung.candidates is None else left[: rung.candidates]
        points = {}
        for rate in here:
            reached = [scores[(rate, rung.epochs, seed)] for seed in seeds[: rung.tasks]]
            trained += [(rate, rung.epochs, seed) for seed in seeds[: rung.tasks]]
            points[rate] = tuple(sum(r[i] or 0.0 for r in reached) / rung.tasks for i in (0, 1))
        left = []
        while len(left) < len(here):
            best = None
            for rate in here:
                if rate not in left and (best is None or points[rate] > points[best]):
                    best = rate
            assert best is not None
            left.append(best)
    return left[0], trained


RUNGS = [
    Round(candidates=None, epochs=1, tasks=1),
    Round(candidates=4, epochs=2, tasks=2),
    Round(candidates=2, epochs=4, tasks=4),
]
QUARTERS = st.sampled_from([0.25, 0.5, 0.75])  # sums of these are exact, and ties are frequent


@hypothesis.settings(max_examples=60)
@given(data=st.data(), count=st.integers(1, 9), cut=st.sampled_from([None, 5]))
def test_halving_is_what_the_slow_reference_does(data: st.DataObject, count: int, cut: int | None) -> None:
    rates = [0.01 * (n + 1) for n in range(count)]
    rungs = [replace(RUNGS[0], candidates=cut), *RUNGS[1:]]
    seeds = [3, 1, 4, 0]
    keys = itertools.product(rates, (1, 2, 4), seeds)
    reached = st.tuples(QUARTERS, QUARTERS) | st.just((None, None)) | st.just((None, 0.75))
    scores: Scores = {key: data.draw(reached) for key in keys}
    search, trained = _searched(rates, rungs, scores, seeds=seeds)
    chosen, expected = _reference(rates, rungs, scores, seeds)

    assert search.chosen == {"learning_rate": chosen}
    assert [(e.learning_rate, e.epochs, e.seed) for e in trained] == expected
    assert search.epochs_trained == sum(epochs for _, epochs, _ in expected)


def _flat(rates: list[float], values: dict[float, tuple[float | None, float | None]]) -> Scores:
    return {(rate, 1, 0): values[rate] for rate in rates}


@pytest.mark.parametrize(
    ("values", "winner"),
    [
        ({0.1: (0.5, 0.9), 0.2: (0.6, 0.1), 0.3: (0.4, 1.0)}, 0.2),  # validation decides
        ({0.1: (0.5, 0.8), 0.2: (0.5, 0.9), 0.3: (0.5, 0.7)}, 0.2),  # then training
        ({0.1: (0.5, 0.9), 0.2: (0.5, 0.9), 0.3: (0.5, 0.9)}, 0.1),  # then the list
        ({0.1: (None, None), 0.2: (None, None), 0.3: (0.1, 0.1)}, 0.3),  # a run that diverged at once counts as 0
        ({0.1: (None, None), 0.2: (None, None), 0.3: (None, None)}, 0.1),
    ],
)
def test_the_best_is_by_validation_then_training_then_order(
    values: dict[float, tuple[float | None, float | None]], winner: float
) -> None:
    search, _ = _searched(list(values), [Round(candidates=None, epochs=1, tasks=1)], _flat(list(values), values))

    assert search.chosen == {"learning_rate": winner}
    assert sum(trial.diverged for trial in search.trials) == sum(v is None for v, _ in values.values())


def test_a_tie_in_a_later_round_goes_to_who_was_ahead_before() -> None:
    scores: Scores = {(0.1, 1, 0): (0.5, 0.5), (0.2, 1, 0): (0.6, 0.5)}
    scores |= {(rate, 2, 0): (0.7, 0.7) for rate in (0.1, 0.2)}
    rungs = [Round(candidates=None, epochs=1, tasks=1), Round(candidates=2, epochs=2, tasks=1)]

    assert _searched([0.1, 0.2], rungs, scores)[0].chosen == {"learning_rate": 0.2}


def test_the_note_is_the_whole_search() -> None:
    values: dict[float, tuple[float | None, float | None]] = {0.1: (0.5, 0.9), 0.2: (0.6, 0.1), 0.3: (None, 0.3)}
    rungs = [Round(candidates=None, epochs=1, tasks=1)]
    search, _ = _searched(list(values), rungs, _flat(list(values), values))
    note = search.note("a search")

    assert SearchNote.from_dict("a search", json.loads(note.to_json())) == note
    assert note.chosen == {"learning_rate": 0.2}
    assert note.best_fit == {"learning_rate": 0.1}
    assert [(t.settings["learning_rate"], t.validation, t.train, t.diverged) for t in note.trials] == [
        (0.1, 0.5, 0.9, 0),
        (0.2, 0.6, 0.1, 0),
        (0.3, 0.0, 0.3, 1),
    ]
    assert note.tried == 3
    assert (note.epochs_trained, note.seconds) == (3, 3 * synthetic_records.PROVENANCE.seconds)


def test_real_runs_are_sealed_and_resumed(tmp_path: Path) -> None:
    rungs = [Round(candidates=None, epochs=1, tasks=1), Round(candidates=2, epochs=2, tasks=2)]
    candidates = [{"learning_rate": rate} for rate in (0.001, 0.1, 0.01)]
    with Store(tmp_path / "runs.sqlite") as store:

        def search() -> Search:
            return Search(BASE, candidates, rungs, lambda e: Sweep(e, store=store, device="cpu"))

        for _ in search():
            break  # in the middle
        kept = len(store)
        whole = search()
        list(whole)

        assert 0 < kept < len(store) == 3 + 2 * 2
        assert all(record.sealed and record.test_accuracy is None for record in store.records())
        assert not list(search())
        trials = [trial for trial in whole.trials if trial.rung == 1]
        assert whole.chosen == max(trials, key=lambda t: (t.validation, t.train)).settings
        assert whole.seconds == pytest.approx(sum(record.provenance.seconds for record in store.records()))


def test_an_empty_search_is_refused_and_an_unfinished_one_has_no_winner() -> None:
    rung = Round(candidates=None, epochs=1, tasks=1)
    for candidates, rungs in (([], [rung]), ([{"learning_rate": 0.1}], [])):
        with pytest.raises(InvalidValue, match=r"a search has . candidates and . rounds: give at least one of each"):
            Search(BASE, candidates, rungs, lambda e: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidValue, match="the search is not finished: iterate over it first"):
        _ = Search(BASE, [{"learning_rate": 0.1}], [rung], lambda e: None).chosen  # type: ignore[arg-type, return-value]
