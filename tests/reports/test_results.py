from __future__ import annotations

from dataclasses import replace

import pytest

from mdfa_core.errors import InvalidValue, UnknownName
from mdfa_core.paper.published import CELLS
from mdfa_core.reports.results import Result, compared, elsewhere, evidence, of_table, results
from mdfa_core.store import Store
from tests.reports.made_up import fill, note_of, record_of, study_of

CELL = CELLS["table-1/fc/tanh/mdfa/2"]


def only(found: tuple[Result, ...]) -> Result:
    return next(result for result in found if result.cell == CELL)


def test_an_empty_store_has_all_cells_and_no_run(store: Store) -> None:
    found = results(store)
    assert [result.cell for result in found] == list(CELLS.values())
    assert not any(result.records or result.scores("train") or result.data for result in found)
    assert evidence(found).scores == {}


def test_runs_are_those_of_the_note_in_the_order_of_tasks(store: Store) -> None:
    records = [record_of(CELL, task, 0.9, 0.7 + task / 100) for task in (3, 0, 1)]
    store.add([*records, record_of(CELLS["table-1/fc/tanh/bp/2"], 0, 0.5, 0.5)])
    store.put("cell", f"quick/{CELL.name}", note_of(CELL, records))
    result = only(results(store))
    assert [record.experiment.task for record in result.records] == [0, 1, 3]
    scores = result.scores("test")
    assert scores is not None
    assert dict(scores.tasks) == pytest.approx({0: 70, 1: 71, 3: 73})
    assert result.difference("test") == pytest.approx((70 + 71 + 73) / 3 - 77.2)
    assert result.scores("train").mean == pytest.approx(90)  # type: ignore[union-attr]
    assert result.profile == "quick"


def test_a_run_that_is_gone_or_diverged_at_once_is_left_out(store: Store) -> None:
    records = [record_of(CELL, 0, 0.9, 0.8), record_of(CELL, 1, None, None), record_of(CELL, 2, 0.9, 0.8)]
    store.add(records[:2])
    store.put("cell", f"quick/{CELL.name}", note_of(CELL, records))
    result = only(results(store))
    assert len(result.records) == 2
    assert dict(result.scores("test").tasks) == pytest.approx({0: 80})  # type: ignore[union-attr]


def test_training_is_that_of_the_best_fit_where_it_is_better(store: Store) -> None:
    records = [record_of(CELL, task, 0.9, 0.8) for task in range(3)]
    for fits, expected in (((0.95, 0.96, 0.97), 96.0), ((0.8, 0.8, 0.8), 90.0), ((1.0, 1.0), 90.0)):
        fitted = [
            record_of(CELL, task, share, None, sealed=True, checksum=f"{share} {task}")
            for task, share in enumerate(fits)
        ]
        store.add([*records, *fitted])
        fit = {"settings": {"learning_rate": 0.5}, "keys": [record.key for record in fitted]}
        store.put("cell", f"quick/{CELL.name}", note_of(CELL, records) | {"fit": fit})
        result = only(results(store))
        assert result.scores("train").mean == pytest.approx(expected)  # type: ignore[union-attr]
        assert result.scores("test").mean == pytest.approx(80)  # type: ignore[union-attr]
        assert result.fit_settings == {"learning_rate": 0.5}


def test_profiles_are_chosen(store: Store) -> None:
    for name, share in (("quick", 0.9), ("smoke", 0.6), ("quick@epochs=5", 0.7)):
        record = record_of(CELL, 0, share, share, checksum=name)
        store.add([record])
        store.put("cell", name.replace("@", f"/{CELL.name}@") if "@" in name else f"{name}/{CELL.name}",
                  note_of(CELL, [record], profile=name.partition("@")[0]))  # fmt: skip
    with pytest.raises(InvalidValue, match="has cells of quick, quick@epochs=5, smoke: name the profiles"):
        results(store)
    for asked, share, profile in (
        (("quick",), 90, "quick"),
        (("quick@epochs=5",), 70, "quick@epochs=5"),
        (("smoke", "quick"), 60, "smoke"),
    ):
        result = only(results(store, *asked))
        assert result.scores("train").mean == pytest.approx(share)  # type: ignore[union-attr]
        assert result.profile == profile
    with pytest.raises(UnknownName, match="unknown profile 'slow'"):
        results(store, "slow")
    assert not only(results(store, "full")).records


def test_a_changed_profile_stands_in_for_what_the_plain_one_lacks(store: Store) -> None:
    record = record_of(CELL, 0, 0.7, 0.7)
    store.add([record])
    store.put("cell", f"quick/{CELL.name}@epochs=5", note_of(CELL, [record]))
    assert only(results(store, "quick")).profile == "quick@epochs=5"


def test_a_search_counts_only_for_the_same_data_and_net(store: Store) -> None:
    fill(store, [CELL], studies=False)
    other = study_of(CELL)
    other["base"]["data"] = "digits"
    store.put("study", f"smoke/{CELL.name}", other)
    assert only(results(store)).study is None
    store.put("study", f"full/{CELL.name}", study_of(CELL))
    result = only(results(store))
    assert result.study is not None
    assert result.study.name == f"full/{CELL.name}"
    trials = evidence([result]).searches[CELL]
    assert [trial.rung for trial in trials] == [0, 0, 0, 0, 1]
    assert [trial.validation for trial in trials] == pytest.approx([80, 70, 75, 60, 82])
    assert trials[0].settings["forward_init"] == "zeros"
    assert trials[0].settings["method"] == "mdfa"  # from the base


def test_a_search_is_the_one_that_the_cells_note_names(store: Store) -> None:
    """A plan's own search, not that of the whole profile on the same data and net, whatever it found."""
    fill(store, [CELL])
    changed = f"full/{CELL.name}@epochs=8"
    other = study_of(CELL)
    other["trials"] = [trial | {"validation": 0.5} for trial in other["trials"]]
    store.put("study", changed, other)
    note = store.look("cell", f"quick/{CELL.name}")
    assert only(results(store)).study.name == f"full/{CELL.name}"  # type: ignore[union-attr]

    store.put("cell", f"quick/{CELL.name}", note | {"study": changed})
    result = only(results(store))
    assert result.study is not None
    assert result.study.name == changed
    assert {trial.validation for trial in evidence([result]).searches[CELL]} == {50.0}

    store.put("cell", f"quick/{CELL.name}", note | {"study": "full/gone"})
    assert only(results(store)).study is None


def test_candidates_are_those_that_were_tried(store: Store) -> None:
    fill(store, [CELL])
    study = study_of(CELL)
    study["candidates"] += [study["candidates"][0] | {"learning_rate": rate} for rate in (0.1, 0.2, 0.3)]
    store.put("study", f"full/{CELL.name}", study)
    assert only(results(store)).study.candidates == 4  # type: ignore[union-attr]


def test_other_runs_that_looked_at_the_same_test_images_are_known(store: Store) -> None:
    """Also those of a note that was replaced, and of a profile that is not shown; sealed runs looked at nothing."""
    fill(store, [CELL, CELLS["table-1/fc/tanh/bp/2"], CELLS["table-1/fc/relu/mdfa/2"]])
    assert not any(result.besides for result in results(store))

    shown = [store.named(key) for key in store.look("cell", f"quick/{CELL.name}")["keys"]]
    before = [record_of(CELL, task, 0.9, 0.8, checksum=f"{task}") for task in range(3)]
    longer = record_of(CELL, 0, 0.9, 0.8)
    longer = replace(longer, experiment=longer.experiment.replace(epochs=20, learning_rate=0.5))
    store.add([*before, longer, record_of(CELL, 0, 0.9, None, sealed=True, checksum="sealed")])
    found = results(store)
    assert {row["key"] for row in only(found).besides} == {record.key for record in (*before, longer)}
    assert only(found).records == tuple(shown)
    assert not any(result.besides for result in found if result.cell != CELL)

    smaller = replace(longer, experiment=longer.experiment.replace(network="fc:8"))
    store.add([smaller])
    assert len(only(results(store)).besides) == 4  # of another net, and perhaps no run of this cell
    note = store.look("cell", f"quick/{CELL.name}")
    store.put("cell", f"quick/{CELL.name}", note | {"opened before": [{"settings": {}, "keys": [smaller.key]}]})
    assert smaller.key in {row["key"] for row in only(results(store)).besides}


def test_settings_of_another_cell_are_told_and_its_own_search_did_not_choose_them(store: Store) -> None:
    other = CELLS["table-1/fc/relu/mdfa/2"]
    fill(store, [CELL])
    for source, borrowed in ((CELL, None), (other, other)):
        note = store.look("cell", f"quick/{CELL.name}") | {"tuned for": source.name}
        store.put("cell", f"quick/{CELL.name}", note)
        result = only(results(store))
        assert (result.tuned_for, result.borrowed) == (source, borrowed)
        assert (result.study is None) == (borrowed is not None)
        assert evidence([result]).borrowed == ({} if borrowed is None else {CELL: other})


def test_whole_cells_are_unchanged_and_have_every_task(store: Store) -> None:
    fill(store, [CELL], tasks=4)
    assert len(only(results(store, "quick")).records) == 4
    assert only(results(store, "quick", whole=True)) == Result(cell=CELL)
    records = [record_of(CELL, task, 0.9, 0.8, checksum=f"{task}") for task in range(5)]
    store.add(records)
    store.put("cell", f"quick/{CELL.name}@epochs=8", note_of(CELL, records))
    assert only(results(store, "quick", whole=True)) == Result(cell=CELL)
    store.put("cell", f"quick/{CELL.name}", note_of(CELL, records))
    assert len(only(results(store, "quick", whole=True)).records) == 5


def test_evidence_has_scores_curves_and_signs(found: tuple[Result, ...]) -> None:
    known = evidence(found)
    assert len(known.scores) == 2 * (24 + 12)
    assert set(known.curves) == {r.cell for r in found if r.cell.table in (1, 6)}
    assert known.agreement[CELL] == (1.0,) * 10
    curve = known.curves[CELL][0]
    assert curve.train[-1] == pytest.approx(known.scores[CELL, "train"].tasks[0])


def test_other_data_than_the_papers_is_told(found: tuple[Result, ...]) -> None:
    assert elsewhere(found) == {6: "imagefolder at 64×64 pixels"}


def test_groups(found: tuple[Result, ...]) -> None:
    assert len(of_table(found, 3)) == 20
    groups = compared(of_table(found, 1))
    assert len(groups) == 6
    for group in groups:
        assert [result.cell.method for result in group] == ["bp", "dfa", "fa", "mdfa"]
