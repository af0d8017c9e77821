"""Records say what the events of their replica said, whatever stack it was part of, and come back from JSON exactly."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core import Every, Experiment, Run, machine
from mdfa_core.errors import InvalidValue, UnknownName
from mdfa_core.events import Evaluated, Event, Finished, Probed
from mdfa_core.records import OUTCOME, Point, Record, Recorder, run_key
from mdfa_core.training import NUMERICS
from tests.made_up import CHECKSUM, record
from tests.references import one_thread  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Experiment(network="fc:6,4", epochs=3)


def recorded(*experiments: Experiment, test: bool = True) -> tuple[list[Event], tuple[Record, ...]]:
    run = Run(experiments, device="cpu", test=test)
    recorder = Recorder(run, command="a test")
    events = []
    for event in run.events(probe=Every(epochs=1)):
        assert recorder.records == ()
        recorder(event)
        events.append(event)
    return events, recorder.records


def alike(one: Record, other: Record) -> bool:
    """Equal but for their provenance."""
    return dataclasses.replace(one, provenance=other.provenance) == other


def test_a_record_says_what_the_events_said() -> None:
    stack = [SMALL.replace(seed=seed) for seed in (0, 1, 2)]
    events, records = recorded(*stack)
    finished = events[-1]
    assert isinstance(finished, Finished)
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    probed = [event for event in events if isinstance(event, Probed)]
    assert [r.experiment for r in records] == stack
    for r, made in enumerate(records):
        assert made.key == run_key(stack[r], made.checksum)
        assert (made.numerics, made.sealed) == (NUMERICS, False)
        assert {name: getattr(made, name) for name in OUTCOME} == {n: getattr(finished, n)[r] for n in OUTCOME}
        for ours, theirs in zip(made.curve, evaluated, strict=True):
            for field in dataclasses.fields(Point):
                said = getattr(theirs, field.name)
                assert getattr(ours, field.name) == (said if isinstance(said, int) else said[r])
        for measured, said in zip(made.probes, probed, strict=True):
            assert (measured.step, measured.epoch, measured.units) == (said.step, said.epoch, said.units)
            for level in ("unit", "example", "batch"):
                agreement = getattr(said, level)
                assert getattr(measured, level) == agreement.overall[r]
                assert getattr(measured, f"{level}_layers") == tuple(layer[r] for layer in agreement.layers)
                assert getattr(measured, f"{level}_undefined") == tuple(layer[r] for layer in agreement.undefined)
            assert measured.angle == said.angle_overall[r]
            for ours_name, name in (("angle_layers", "angle"), ("norm_ratio",) * 2, ("saturation",) * 2):
                assert getattr(measured, ours_name) == tuple(layer[r] for layer in getattr(said, name))


def test_a_record_does_not_depend_on_its_stack_even_where_a_neighbour_diverges() -> None:
    good = SMALL.replace(method="bp", activation="relu", outputs=3)
    # The weights grow until their square is no number any more: within a step, and after some epochs.
    stack = [good, good.replace(learning_rate=1e30), good.replace(seed=2, learning_rate=100.0, l2=0.5)]
    _, together = recorded(*stack)
    assert [r.diverged_at is None for r in together] == [True, False, False]
    for one, experiment in zip(together, stack, strict=True):
        _, (alone,) = recorded(experiment)
        assert alike(one, alone)
    for diverged in together[1:]:
        assert diverged.diverged_at is not None
        assert all(point.step < diverged.diverged_at and math.isfinite(point.train_loss) for point in diverged.curve)


def test_a_sealed_run_makes_a_sealed_record_of_the_same_key() -> None:
    _, (sealed,) = recorded(SMALL, test=False)
    _, (opened,) = recorded(SMALL)
    assert sealed.sealed
    assert sealed.test_accuracy is None
    assert not opened.sealed
    assert opened.test_accuracy is not None
    assert sealed.key == opened.key
    assert sealed.curve == opened.curve


def test_the_provenance_says_where_the_numbers_come_from() -> None:
    _, records = recorded(SMALL, SMALL.replace(seed=1))
    provenance = records[0].provenance
    assert provenance.replicas == 2
    assert provenance.seconds > 0
    assert provenance.command == "a test"
    assert (provenance.device, provenance.threads) == ("cpu", 1)
    assert provenance.commit == machine.commit()
    assert provenance.finished.endswith("+00:00")


def test_a_run_under_way_is_not_recorded() -> None:
    run = Run(SMALL, device="cpu")
    for _ in run.events(steps=2):
        pass
    with pytest.raises(InvalidValue, match="at step 2: give it a run that has not begun"):
        Recorder(run)


def test_the_key_is_that_of_configuration_data_and_numerics() -> None:
    key = run_key(SMALL, CHECKSUM)
    assert key == run_key(SMALL, CHECKSUM, NUMERICS)
    assert (
        len({key, run_key(SMALL.replace(seed=1), CHECKSUM), run_key(SMALL, "d" * 64), run_key(SMALL, CHECKSUM, 9)}) == 4
    )


_numbers = st.floats(allow_nan=False)
_points = st.builds(
    Point,
    epoch=st.integers(1, 500),
    step=st.integers(1, 10**9),
    train_loss=_numbers,
    train_accuracy=_numbers,
    validation_loss=st.none() | _numbers,
    validation_accuracy=st.none() | _numbers,
)


@given(st.lists(_points, max_size=4), st.integers(0, 2))
def test_json_gives_the_same_record_to_the_last_bit(curve: list[Point], probes: int) -> None:
    made = dataclasses.replace(record(1, probes=probes), curve=tuple(curve))
    assert Record.from_json(made.to_json()) == made
    assert Record.from_json(made.to_json()).to_json() == made.to_json()
    json.loads(made.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is no strict JSON"))


def test_nan_comes_back() -> None:
    made = record()
    odd = dataclasses.replace(made, curve=(dataclasses.replace(made.curve[0], validation_loss=math.nan),))
    (point,) = Record.from_json(odd.to_json()).curve
    assert point.validation_loss is not None
    assert math.isnan(point.validation_loss)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"experiment": 1}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="not a record of a run"):
        Record.from_json(text)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Record)])
def test_a_record_without_a_part_is_refused(name: str) -> None:
    content = record(probes=1).to_dict()
    del content[name]
    with pytest.raises(InvalidValue, match="not a record of a run"):
        Record.from_dict(content)


def test_a_setting_that_is_not_known_is_named() -> None:
    content = record().to_dict()
    content["experiment"]["colour"] = "red"
    with pytest.raises(UnknownName, match="unknown setting 'colour'"):
        Record.from_dict(content)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_train_accuracy", 7.5),
        ("best_validation_accuracy", "abc"),
        ("test_accuracy", -0.1),
        ("test_accuracy", True),
        ("best_train_accuracy", math.nan),
        ("best_validation_epoch", 1.5),
        ("diverged_at", -1),
    ],
)
def test_an_outcome_that_no_run_can_reach_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidValue, match=f"^{name} is .*: give a .*number .*, or null$"):
        Record.from_dict({**record().to_dict(), name: value})
