"""Rules tuned alike: equal budgets for all, searches that see no test image, rows that say what was run."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev

import pytest

from mdfa_core import METHODS
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.runs.store import Store
from mdfa_core.studies.comparison import PROFILES, RuleComparison
from mdfa_core.studies.grids import RULES_GRID


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_of_binary_and_n_class_tasks(profile: str, tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        found = RuleComparison(profile, store)
    assert found.profile.outputs == (1, 10)
    assert found.methods == tuple(METHODS)
    assert max(rung.tasks for rung in found.profile.rungs) <= len(found.profile.seeds)


def test_a_comparison_is_tuned_on_validation_and_kept(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        work = RuleComparison.from_texts(
            "smoke", store, methods="bp, drtp", outputs="1", seeds="3,4", epochs=2, device="cpu"
        )
        told = [(method, outputs) for method, outputs, _ in work]
        assert set(told) == {("bp", 1), ("drtp", 1)}
        assert [(row.method, row.outputs) for row in work.results] == [("bp", 1), ("drtp", 1)]
        for row in work.results:
            assert dict(row.settings) in RULES_GRID.candidates(row.method)
            assert [record.experiment.seed for record in row.records] == [3, 4]
            assert all(record.experiment.epochs == 2 and not record.sealed for record in row.records)
            assert row.of("test") == [record.test_accuracy for record in row.records]
            assert row.of("unit") == [record.probes[-1].unit for record in row.records]
            line = row.as_row()
            assert line["test"] == fmean(row.of("test"))
            assert line["test ±"] == stdev(row.of("test"))
            assert line["optimizer"].startswith(str(row.settings["optimizer"]))
        searched = [record for record in store.records() if record.sealed]
        assert len(searched) == 2 * 12
        assert all(record.test_accuracy is None for record in searched)

        again = RuleComparison.from_texts(
            "smoke", store, methods="bp, drtp", outputs="1", seeds="3,4", epochs=2, device="cpu"
        )
        assert list(again) == []  # nothing is run twice
        assert again.results == work.results


def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.sqlite") as store:
        with pytest.raises(UnknownName, match="unknown profile 'huge': choose one of digits, quick, smoke"):
            RuleComparison("huge", store)
        with pytest.raises(UnknownName, match="unknown method 'hebb': choose one of"):
            RuleComparison.from_texts("smoke", store, methods="bp,hebb")
        with pytest.raises(InvalidValue, match="outputs is '1,x': give numbers separated by commas"):
            RuleComparison.from_texts("smoke", store, outputs="1,x")
        with pytest.raises(InvalidValue, match="the seed is -1: give an integer of at least 0"):
            RuleComparison("smoke", store, seeds=(0, -1))
        with pytest.raises(InvalidValue, match="epochs is -1: give a positive integer"):
            RuleComparison("smoke", store, epochs=-1)
