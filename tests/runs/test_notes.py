"""Notes are exact to and from JSON, name their runs by role, and are compared by their findings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.notes import NOTES, CellNote, Note, SearchNote, Selection, Trial
from tests.support.synthetic_records import cell_note, search_note

SELECTION = Selection(settings={"l2": 1e-3 / 3}, keys=("c", "d"))
EVERY = (
    search_note("s"),
    cell_note("n", "a", "b"),
    cell_note("n", "a", "b", fit=SELECTION, search="s", opened_before=(SELECTION, SELECTION)),
    cell_note("n", "a", opened_before=None),
)


@pytest.mark.parametrize("note", EVERY)
def test_a_note_is_exact_to_and_from_json(note: Note) -> None:
    again = type(note).from_dict(note.name, json.loads(note.to_json()))
    assert again == note
    assert again.to_json() == note.to_json()
    assert NOTES[note.kind] is type(note)


@pytest.mark.parametrize("note", EVERY)
def test_the_keys_of_a_note_can_be_taken_out_and_put_back(note: Note) -> None:
    bare = note.with_runs({})
    assert not any(bare.runs.values())
    assert bare.with_runs(note.runs) == note


def test_every_run_of_a_cell_has_a_role() -> None:
    note = cell_note("n", "a", "b", fit=SELECTION, opened_before=(SELECTION, replace(SELECTION, keys=("e",))))
    assert note.runs == {
        "chosen": ("a", "b"),
        "fit": ("c", "d"),
        "opened before 1": ("c", "d"),
        "opened before 2": ("e",),
    }


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (CellNote, {}),
        (CellNote, []),
        (CellNote, None),
        (CellNote, cell_note("n").to_dict() | {"keys": [1]}),
        (CellNote, cell_note("n").to_dict() | {"fit": {"keys": []}}),
        (SearchNote, {}),
        (SearchNote, search_note("s").to_dict() | {"rungs": [{"epochs": 1}]}),
        (SearchNote, search_note("s").to_dict() | {"trials": [1]}),
    ],
)
def test_other_contents_are_refused(kind: type[Note], content: Any) -> None:
    with pytest.raises(InvalidValue, match=f"not a note of the kind {kind.kind} .*: give the output of to_dict"):
        kind.from_dict("n", content)


def test_searches_are_compared_by_their_findings() -> None:
    note = search_note("s")
    assert note.same_findings(replace(note, ended="another day", seconds=9.0))
    assert not note.same_findings(None)
    better = tuple(replace(trial, validation=1.0) for trial in note.trials)
    changes: list[dict[str, Any]] = [{"base": {}}, {"candidates": ()}, {"rungs": ()}, {"trials": better}]
    for change in changes:
        assert not note.same_findings(replace(note, **change))


def test_the_best_fit_is_of_the_last_round() -> None:
    trials = tuple(
        Trial(settings={"learning_rate": rate}, rung=rung, train=train, validation=validation, diverged=0)
        for rate, rung, train, validation in ((1, 0, 1.0, 1.0), (2, 1, 0.8, 0.1), (3, 1, 0.9, 0.2), (4, 1, 0.9, 0.3))
    )
    note = replace(search_note("s"), trials=trials)
    assert note.best_fit == {"learning_rate": 4}
    assert note.tried == 1
