"""Events are frozen plain values that survive strict JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from mdfa_core.base.errors import MdfaError
from mdfa_core.training.events import (
    EVENTS,
    Agreement,
    Diverged,
    Evaluated,
    Event,
    Finished,
    Probed,
    Progress,
    Started,
    from_dict,
    to_dict,
    to_json,
)
from tests.support.runs import ABSURD, OFTEN, SMALL, trained

AGREEMENT = Agreement(layers=((1.0, None), (0.25, 0.5)), overall=(0.75, 0.5), undefined=((0.0, 1.0), (0.5, 0.0)))
EXAMPLES: dict[str, Event] = {
    "started": Started(
        step=0,
        epoch=0,
        replicas=2,
        seeds=(0, 1),
        tasks=(("cat", "dog"), ("7", "é\n")),
        parameters=10,
        layers=("dense 3", "output 1"),
        train_examples=(10, 11),
        validation_examples=(2, 2),
        test_examples=(0, 5),
        steps_per_epoch=3,
        epochs=2,
        device="cpu",
    ),
    "progress": Progress(step=3, epoch=1, loss=(0.5, 0.1 + 0.2), accuracy=(0.0, 1.0)),
    "probed": Probed(
        step=4,
        epoch=2,
        unit=AGREEMENT,
        example=AGREEMENT,
        batch=dataclasses.replace(AGREEMENT, layers=(), undefined=()),
        angle=((90.0, None),),
        angle_overall=(12.5, None),
        norm_ratio=((0.0, 1e300),),
        saturation=((0.0, 1.0),),
    ),
    "evaluated": Evaluated(
        step=6,
        epoch=2,
        train_loss=(0.1, 0.2),
        train_accuracy=(0.9, 1.0),
        validation_loss=(None, 0.3),
        validation_accuracy=(None, 0.5),
    ),
    "diverged": Diverged(step=5, epoch=2, replica=1, seed=7, loss=math.inf),
    "finished": Finished(
        step=6,
        epoch=2,
        best_train_accuracy=(1.0, None),
        best_validation_accuracy=(0.5, None),
        best_validation_epoch=(1, None),
        test_accuracy=(0.5, None),
        diverged_at=(None, 5),
    ),
}


def decoded(text: str) -> dict:
    """As a strict reader reads it: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_there_is_an_example_of_every_kind() -> None:
    assert list(EXAMPLES) == list(EVENTS)
    assert all(type(event) is EVENTS[kind] and event.kind == kind for kind, event in EXAMPLES.items())


@pytest.mark.parametrize("kind", EVENTS)
def test_events_survive_dictionaries_and_json(kind: str) -> None:
    event = EXAMPLES[kind]
    assert from_dict(to_dict(event)) == event
    assert from_dict(decoded(to_json(event))) == event
    assert next(iter(to_dict(event))) == "kind"
    assert "\n" not in to_json(event)


def test_the_events_of_a_run_survive_json() -> None:
    experiments = [SMALL.replace(learning_rate=rate) for rate in (0.01, ABSURD)]
    events = trained(experiments, **OFTEN)
    assert {event.kind for event in events} == set(EVENTS)

    for event in events:
        line = to_json(event)
        again = from_dict(decoded(line))
        assert type(again) is type(event)
        assert to_json(again) == line
        assert repr(again) == repr(event)
        assert repr(from_dict(to_dict(event))) == repr(event)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_survive_json(value: float) -> None:
    event = Progress(step=1, epoch=1, loss=(value, 1.0), accuracy=(0.5, value))
    again = from_dict(decoded(to_json(event)))

    assert isinstance(again, Progress)
    assert [type(x) for x in (*again.loss, *again.accuracy)] == [float] * 4
    assert repr(again) == repr(event)


@pytest.mark.parametrize("name", ["nan", "inf", "-inf"])
def test_a_class_may_be_called_like_no_number(name: str) -> None:
    event = dataclasses.replace(EXAMPLES["started"], tasks=((name, "dog"),))
    assert from_dict(decoded(to_json(event))) == event


@pytest.mark.parametrize("kind", EVENTS)
def test_events_are_frozen_and_keyword_only(kind: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXAMPLES[kind].step = 9  # type: ignore[misc]
    with pytest.raises(TypeError):
        EVENTS[kind](1, 2)  # type: ignore[call-arg, misc]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"step": 1, "epoch": 1},
        {"kind": "no such kind", "step": 1, "epoch": 1},
        {"kind": ["progress"]},
        {"kind": None},
        {"kind": "progress", "step": 1, "epoch": 1},
        {"kind": "progress", "step": 1, "epoch": 1, "loss": [1.0], "accuracy": [1.0], "colour": "red"},
        {**to_dict(EXAMPLES["probed"]), "unit": {"layers": []}},
        {**to_dict(EXAMPLES["probed"]), "unit": None},
    ],
)
def test_what_is_no_event_is_refused(fields: dict) -> None:
    with pytest.raises(MdfaError) as caught:
        from_dict(fields)
    assert "\n" not in str(caught.value)
