"""Records say what the events of their replica said, whatever stack it was part of, and come back from JSON exactly."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdfa_core import Every, Experiment, Run
from mdfa_core.base import machine
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.runs.records import OUTCOME, Point, Record, Recorder, run_key, written_key
from mdfa_core.runs.store import Store
from mdfa_core.training.events import Evaluated, Event, Finished, Probed
from mdfa_core.training.run import NUMERICS
from tests.support.synthetic_records import CHECKSUM, record

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


def test_the_running_accuracy_is_the_mean_over_mini_batches_before_their_updates() -> None:
    _, (made,) = recorded(SMALL)
    run, slow = Run(SMALL, device="cpu"), []
    for _ in range(SMALL.epochs):
        shares = []
        for _ in range(run.steps_per_epoch):
            inputs, labels = run.batch(run.step + 1)
            logits = run.network.forward(run.learner.parameters, inputs).logits_RNC[0, :, 0]
            shares.append(((logits > 0).long() == labels[0]).double().mean().item())
            list(run.events(steps=1))
        slow.append(sum(shares) / len(shares))

    assert [point.running_accuracy for point in made.curve] == pytest.approx(slow, rel=1e-12)
    assert made.best_running_accuracy == max(p.running_accuracy or 0 for p in made.curve)
    assert made.reported_train_accuracy == made.best_train_accuracy
    released = dataclasses.replace(made, experiment=SMALL.replace(evaluation="released"))
    assert released.reported_train_accuracy == made.best_running_accuracy != made.best_train_accuracy


def test_a_running_accuracy_needs_one_report_an_epoch() -> None:
    for progress, known in ((Every(steps=1), False), (Every(epochs=1), True), (Every(epochs=2), False)):
        run = Run(SMALL, device="cpu")
        recorder = Recorder(run)
        for event in run.events(progress=progress):
            recorder(event)
        (made,) = recorder.records
        assert (made.curve[0].running_accuracy is not None) is known


def test_published_runs_keep_their_keys() -> None:
    """Settings that were added since are left out of a digest at their defaults."""
    with gzip.open(Path(__file__).resolve().parents[2] / "docs" / "results" / "runs.jsonl.gz", "rt") as file:
        lines = [json.loads(next(file)) for _ in range(40)][1:]
    for line in lines:
        made = Record.from_dict(line["run"])
        assert made.key == written_key(line["run"])
        assert made.to_dict() == line["run"]
    assert Record.from_dict(lines[0]["run"]).experiment.loss_scale == "mean"


def test_a_record_from_before_running_accuracies_keeps_its_text() -> None:
    _, (made,) = recorded(SMALL)
    old = dataclasses.replace(
        made, curve=tuple(dataclasses.replace(point, running_accuracy=None) for point in made.curve)
    )
    assert "running_accuracy" not in old.to_dict()["curve"]
    assert Record.from_json(old.to_json()) == old
    assert Record.from_json(made.to_json()) == made


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
                if field.name == "running_accuracy":
                    continue
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


@pytest.mark.usefixtures("batched_replicas")
def test_the_provenance_names_the_algorithms_of_a_stacks_convolutions(tmp_path: Path) -> None:
    conv = Experiment(network="conv:2/3/2", epochs=1)
    _, records = recorded(conv, conv.replace(seed=1))
    convolutions = records[0].provenance.convolutions
    assert convolutions is not None
    assert convolutions.startswith("grouped: convolve ")
    assert ", outer " in convolutions
    assert all(Record.from_json(made.to_json()) == made for made in records)
    with Store(tmp_path / "runs.sqlite") as store:
        store.add(records)
        assert [row["convolutions"] for row in store.rows()] == [convolutions] * 2


def test_a_run_without_such_algorithms_is_written_as_before_they_were_recorded(tmp_path: Path) -> None:
    _, records = recorded(SMALL)
    assert records[0].provenance.convolutions is None
    assert "convolutions" not in records[0].to_dict()["provenance"]
    with Store(tmp_path / "runs.sqlite") as store:
        store.add(records)
        assert [row["convolutions"] for row in store.rows()] == [None]


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


_losses, _shares = st.floats(0, allow_nan=False), st.floats(0, 1)
_points = st.builds(
    Point,
    epoch=st.integers(1, 500),
    step=st.integers(1, 10**9),
    train_loss=_losses,
    train_accuracy=_shares,
    validation_loss=st.none() | _losses,
    validation_accuracy=st.none() | _shares,
)


@given(st.lists(_points, max_size=4, unique_by=lambda point: point.epoch), st.integers(0, 2))
def test_json_gives_the_same_record_to_the_last_bit(curve: list[Point], probes: int) -> None:
    in_order = tuple(sorted(curve, key=lambda point: point.epoch))
    made = dataclasses.replace(record(1, probes=probes, epochs=500), curve=in_order)
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
