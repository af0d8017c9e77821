from __future__ import annotations

from dataclasses import replace

import pytest

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.runs.notes import CellNote, Selection
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import REPORTED, TESTED, TRAINED, TRAINED_CHOSEN, Measure
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.reports.results import (
    CellResult,
    Role,
    compared,
    elsewhere,
    evidence,
    of_table,
    results,
    verdicts,
)
from tests.studies.reports.made_up import fill, note_of, record_of, search_of

CELL = CELLS["table-1/fc/tanh/mdfa/2"]


def only(found: tuple[CellResult, ...]) -> CellResult:
    return next(result for result in found if result.cell == CELL)


def test_an_empty_store_has_all_cells_and_no_run(store: Store) -> None:
    found = results(store)
    assert [result.cell for result in found] == list(CELLS.values())
    assert not any(result.run or result.scores(TRAINED) or result.data for result in found)
    assert evidence(found).scores == {}


def test_runs_are_those_of_the_note_in_the_order_of_tasks(store: Store) -> None:
    records = [record_of(CELL, task, 0.9, 0.7 + task / 100) for task in (3, 0, 1)]
    store.add([*records, record_of(CELLS["table-1/fc/tanh/bp/2"], 0, 0.5, 0.5)])
    store.put(note_of(CELL, records))
    result = only(results(store))
    assert result.chosen.tasks == (0, 1, 3)
    scores = result.scores(TESTED)
    assert scores is not None
    assert dict(scores.tasks) == pytest.approx({0: 70, 1: 71, 3: 73})
    assert result.difference("test") == pytest.approx((70 + 71 + 73) / 3 - 77.2)
    assert result.scores(TRAINED).mean == pytest.approx(90)  # type: ignore[union-attr]
    assert result.profile == "quick"


def test_a_run_that_is_gone_or_diverged_at_once_is_left_out(store: Store) -> None:
    records = [record_of(CELL, 0, 0.9, 0.8), record_of(CELL, 1, None, None), record_of(CELL, 2, 0.9, 0.8)]
    store.add(records[:2])
    store.put(note_of(CELL, records))
    result = only(results(store))
    assert len(result.chosen.records) == 2
    assert dict(result.scores(TESTED).tasks) == pytest.approx({0: 80})  # type: ignore[union-attr]


def test_the_best_fit_is_the_fit_where_it_is_better_and_the_tested_network_stays_apart(store: Store) -> None:
    records = [record_of(CELL, task, 0.9, 0.8) for task in range(3)]
    for fits, expected in (((0.95, 0.96, 0.97), 96.0), ((0.8, 0.8, 0.8), 90.0), ((1.0, 1.0), 90.0)):
        fitted = [
            record_of(CELL, task, share, None, sealed=True, checksum=f"{share} {task}")
            for task, share in enumerate(fits)
        ]
        store.add([*records, *fitted])
        fit = Selection(settings={"learning_rate": 0.5}, keys=tuple(record.key for record in fitted))
        store.put(note_of(CELL, records, fit=fit))
        result = only(results(store))
        assert result.scores(TRAINED).mean == pytest.approx(expected)  # type: ignore[union-attr]
        assert result.scores(TRAINED_CHOSEN).mean == pytest.approx(90)  # type: ignore[union-attr]
        assert result.scores(TESTED).mean == pytest.approx(80)  # type: ignore[union-attr]
        assert result.scores(Measure("best fit", "test")) is None or expected == 90
        assert result.fit is not None
        assert result.fit.settings == {"learning_rate": 0.5}
        assert [role.name for role in result.roles] == ["best fit", "chosen"]


def test_quantities_are_of_the_epochs_that_they_name(store: Store) -> None:
    record = record_of(CELL, 0, 0.9, 0.8)
    curve = tuple(replace(point, train_accuracy=0.5 + 0.01 * point.epoch) for point in record.curve)
    record = replace(record, curve=curve, best_validation_epoch=3)
    role = Role(records=(record,))
    wanted = {"train_best": 90, "train_final": 50 + len(curve), "train_tested": 53, "test": 80, "validation_best": 81}
    for quantity, expected in wanted.items():
        assert role.scores(quantity).mean == pytest.approx(expected)  # type: ignore[union-attr, arg-type]
    gone = replace(record, curve=curve[:-1])  # diverged: no last epoch
    assert Role(records=(gone,)).scores("train_final") is None


def test_several_seeds_of_a_task_are_averaged_and_the_papers_figures_are_of_the_first(store: Store) -> None:
    def draw(task: int, seed: int, share: float) -> Record:
        record = record_of(CELL, task, share, share)
        return replace(record, experiment=record.experiment.replace(seed=seed, task_seed=task))

    records = [record_of(CELL, task, 0.8, 0.8) for task in range(7)]
    records += [draw(task, task + 1000, 0.9) for task in range(7)]
    store.add(records)
    store.put(note_of(CELL, records))
    result = only(results(store))
    scores = result.scores(TESTED)
    assert scores is not None
    assert (len(scores.tasks), scores.seeds) == (7, 2)
    assert scores.mean == pytest.approx(85)
    assert scores.within == pytest.approx(10 / 2**0.5)
    five = result.comparable
    assert five.chosen.records == tuple(records[:5])
    assert evidence([result]).curves[CELL][0].train[-1] == pytest.approx(80)  # that of the task's own seed
    assert five.scores(TESTED).mean == pytest.approx(80)  # type: ignore[union-attr]
    assert five.comparable == five


def test_profiles_are_chosen(store: Store) -> None:
    for name, share in (("quick", 0.9), ("smoke", 0.6), ("quick@epochs=5", 0.7)):
        record = record_of(CELL, 0, share, share, checksum=name)
        store.add([record])
        store.put(note_of(CELL, [record], name))
    with pytest.raises(InvalidValue, match="has cells of quick, quick@epochs=5, smoke: name the profiles"):
        results(store)
    for asked, share, profile in (
        (("quick",), 90, "quick"),
        (("quick@epochs=5",), 70, "quick@epochs=5"),
        (("smoke", "quick"), 60, "smoke"),
    ):
        result = only(results(store, *asked))
        assert result.scores(TRAINED).mean == pytest.approx(share)  # type: ignore[union-attr]
        assert result.profile == profile
    with pytest.raises(UnknownName, match="unknown profile 'slow'"):
        results(store, "slow")
    assert not only(results(store, "full")).run


def test_a_changed_profile_stands_in_for_what_the_plain_one_lacks(store: Store) -> None:
    record = record_of(CELL, 0, 0.7, 0.7)
    store.add([record])
    store.put(note_of(CELL, [record], "quick@epochs=5"))
    assert only(results(store, "quick")).profile == "quick@epochs=5"


def test_a_search_counts_only_for_the_same_data_and_net(store: Store) -> None:
    fill(store, [CELL], searches=False)
    other = search_of(CELL, "smoke")
    store.put(replace(other, base={**other.base, "data": "digits"}))
    assert only(results(store)).search is None
    store.put(search_of(CELL))
    result = only(results(store))
    assert result.search is not None
    assert result.search.name == f"full/{CELL.name}"
    trials = evidence([result]).searches[CELL]
    assert [trial.rung for trial in trials] == [0, 0, 0, 0, 1]
    assert [trial.validation for trial in trials] == pytest.approx([80, 70, 75, 60, 82])
    assert trials[0].settings["forward_init"] == "zeros"
    assert trials[0].settings["method"] == "mdfa"  # from the base


def test_a_search_is_the_one_that_the_cells_note_names(store: Store) -> None:
    """A plan's own search, not that of the whole profile on the same data and net, whatever it found."""
    fill(store, [CELL])
    changed = f"full/{CELL.name}@epochs=8"
    other = search_of(CELL)
    store.put(replace(other, name=changed, trials=tuple(replace(trial, validation=0.5) for trial in other.trials)))
    (note,) = store.notes(CellNote).values()
    assert only(results(store)).search.name == f"full/{CELL.name}"  # type: ignore[union-attr]

    store.put(replace(note, search=changed))
    result = only(results(store))
    assert result.search is not None
    assert result.search.name == changed
    assert {trial.validation for trial in evidence([result]).searches[CELL]} == {50.0}

    store.put(replace(note, search="full/gone"))
    assert only(results(store)).search is None


def test_candidates_are_those_that_were_tried(store: Store) -> None:
    fill(store, [CELL])
    search = search_of(CELL)
    listed = tuple({**search.candidates[0], "learning_rate": rate} for rate in (0.1, 0.2, 0.3))
    store.put(replace(search, candidates=(*search.candidates, *listed)))
    assert only(results(store)).search.tried == 4  # type: ignore[union-attr]


def test_other_runs_that_looked_at_the_same_test_images_are_known(store: Store) -> None:
    """Also those of a note that was replaced, and of a profile that is not shown; sealed runs looked at nothing."""
    fill(store, [CELL, CELLS["table-1/fc/tanh/bp/2"], CELLS["table-1/fc/relu/mdfa/2"]])
    assert not any(result.besides for result in results(store))

    note = store.note(CellNote, f"quick/{CELL.name}")
    assert note is not None
    shown = [store.named(key) for key in note.chosen.keys]
    before = [record_of(CELL, task, 0.9, 0.8, checksum=f"{task}") for task in range(3)]
    longer = record_of(CELL, 0, 0.9, 0.8)
    longer = replace(longer, experiment=longer.experiment.replace(epochs=20, learning_rate=0.5))
    store.add([*before, longer, record_of(CELL, 0, 0.9, None, sealed=True, checksum="sealed")])
    found = results(store)
    assert {row["key"] for row in only(found).besides} == {record.key for record in (*before, longer)}
    assert only(found).chosen.records == tuple(shown)
    assert not any(result.besides for result in found if result.cell != CELL)

    smaller = replace(longer, experiment=longer.experiment.replace(network="fc:8"))
    store.add([smaller])
    assert len(only(results(store)).besides) == 4  # of another net, and perhaps no run of this cell
    store.put(replace(note, opened_before=(Selection(settings={}, keys=(smaller.key,)),)))
    assert smaller.key in {row["key"] for row in only(results(store)).besides}


def test_settings_of_another_cell_are_told_and_its_own_search_did_not_choose_them(store: Store) -> None:
    other = CELLS["table-1/fc/relu/mdfa/2"]
    fill(store, [CELL])
    for source, borrowed in ((CELL, None), (other, other)):
        (note,) = store.notes(CellNote).values()
        store.put(replace(note, tuned_for=source.name))
        result = only(results(store))
        assert (result.tuned_for, result.borrowed) == (source, borrowed)
        assert (result.search is None) == (borrowed is not None)
        assert evidence([result]).borrowed == ({} if borrowed is None else {CELL: other})


def test_whole_cells_are_unchanged_and_have_every_task(store: Store) -> None:
    fill(store, [CELL], tasks=4)
    assert len(only(results(store, "quick")).chosen.records) == 4
    assert only(results(store, "quick", whole=True)) == CellResult(cell=CELL)
    records = [record_of(CELL, task, 0.9, 0.8, checksum=f"{task}") for task in range(5)]
    store.add(records)
    store.put(note_of(CELL, records, "quick@epochs=8"))
    assert only(results(store, "quick", whole=True)) == CellResult(cell=CELL)
    store.put(note_of(CELL, records))
    assert len(only(results(store, "quick", whole=True)).chosen.records) == 5

    more = [record_of(CELL, task, 0.9, 0.8, checksum=f"{task}") for task in range(7)]
    store.add(more)
    store.put(note_of(CELL, more, "quick@seeds=0,1,2,3,4,5,6"))
    whole = only(results(store, "quick", whole=True))
    assert (whole.profile, whole.chosen.tasks) == ("quick", tuple(range(7)))
    store.put(note_of(CELL, [*more, *records], "quick@epochs=8;seeds=0,1,2,3,4,5,6"))  # a change of another kind
    assert len(only(results(store, "quick", whole=True)).chosen.records) == 7


def test_evidence_has_scores_curves_and_signs(found: tuple[CellResult, ...]) -> None:
    known = evidence(found)
    assert len(known.scores) == len(REPORTED) * (24 + 12)
    assert set(known.curves) == {r.cell for r in found if r.cell.table in (1, 6)}
    assert known.agreement[CELL] == (1.0,) * 10
    curve = known.curves[CELL][0]
    assert curve.train[-1] == pytest.approx(known.scores[CELL, TRAINED].tasks[0])


def test_verdicts_are_on_all_cells_that_are_not_toys(found: tuple[CellResult, ...]) -> None:
    by_name = {verdict.name: verdict for verdict in verdicts(found)}
    assert by_name["zero-error"].tally.measured == 2  # of Table 1
    assert by_name["signs"].tally.headline == "holds in 9 of 9"
    toy = [
        replace(
            result,
            chosen=replace(
                result.chosen,
                records=tuple(
                    replace(r, experiment=r.experiment.replace(data="digits", network="fc:8", image_size=None))
                    for r in result.chosen.records
                ),
            ),
        )
        for result in found
    ]
    assert {verdict.tally.headline for verdict in verdicts(toy)} == {"not run"}


def test_other_data_than_the_papers_is_told(found: tuple[CellResult, ...]) -> None:
    assert elsewhere(found) == {6: "imagefolder at 64×64 pixels"}


def test_groups(found: tuple[CellResult, ...]) -> None:
    assert len(of_table(found, 3)) == 20
    groups = compared(of_table(found, 1))
    assert len(groups) == 6
    for group in groups:
        assert [result.cell.method for result in group] == ["bp", "dfa", "fa", "mdfa"]
