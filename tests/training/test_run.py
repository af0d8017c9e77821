"""A run from the outside: the same numbers again, its events in order, pausing, and the test images."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import METHODS, Every, Experiment, Run, train
from mdfa_core.base.errors import DataError, GeometryError, InvalidValue, MdfaError
from mdfa_core.data import ArraySplit
from mdfa_core.learning.probes import Sample
from mdfa_core.training.events import (
    Evaluated,
    Event,
    Finished,
    Probed,
    Progress,
    Started,
)
from tests.support.runs import (
    CASES,
    OFTEN,
    SMALL,
    lines,
    of_kind,
    trained,
)

ROOT = Path(__file__).resolve().parents[2]


# ----------------------------------------------------------------------------------------------------- the same numbers


REPEATED = [Experiment(method=method, network=net, epochs=2) for method, net in CASES]
REPEATED_IDS = [f"{method}-{net}" for method, net in CASES]


@pytest.fixture(scope="module")
def in_another_process() -> list[list[str]]:
    """The event lines of `REPEATED`, as a new Python says them."""
    program = (
        "import json, sys, torch\n"
        "from mdfa_core import Every, Experiment, train\n"
        "from mdfa_core.training.events import to_json\n"
        "torch.set_num_threads(int(sys.argv[1]))\n"
        "for line in sys.stdin:\n"
        "    run = train(Experiment.from_json(line), device='cpu', progress=Every(steps=1), probe=Every(steps=2))\n"
        "    print(json.dumps([to_json(event) for event in run]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "1"],
        input="\n".join(experiment.to_json() for experiment in REPEATED),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(REPEATED)), ids=REPEATED_IDS)
def test_the_same_experiment_says_the_same_again(number: int, in_another_process: list[list[str]]) -> None:
    first = lines(trained(REPEATED[number], **OFTEN))
    torch.manual_seed(123)  # PyTorch's own generator has no part in it

    assert lines(trained(REPEATED[number], **OFTEN)) == first
    assert in_another_process[number] == first


def test_a_run_leaves_global_random_numbers_alone() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002

    trained(SMALL, **OFTEN)

    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002


@pytest.mark.parametrize(("method", "network"), CASES)
def test_another_seed_makes_another_run_of_the_same_task(method: str, network: str) -> None:
    runs = [
        trained(Experiment(method=method, network=network, epochs=1, seed=seed, task_seed=0), progress=Every(steps=1))
        for seed in (0, 1)
    ]
    started = [of_kind(Started, events)[0] for events in runs]
    losses = [[event.loss[0] for event in of_kind(Progress, events)] for events in runs]

    assert started[0].tasks == started[1].tasks
    assert all(a != b for a, b in zip(*losses, strict=True))


def test_another_task_seed_makes_another_task() -> None:
    started = [of_kind(Started, trained(SMALL.replace(epochs=1, task_seed=seed)))[0] for seed in range(4)]

    assert len({event.tasks for event in started}) == 4


@pytest.mark.parametrize(("method", "network"), CASES)
def test_measuring_changes_nothing(method: str, network: str) -> None:
    experiment = Experiment(method=method, network=network, epochs=2)
    plain, probed = Run(experiment, device="cpu"), Run(experiment, device="cpu")

    without = list(plain.events(progress=Every(steps=1)))
    with_probe = list(probed.events(progress=Every(steps=1), probe=Every(steps=1)))

    assert len(of_kind(Probed, with_probe)) == 6
    assert lines([event for event in with_probe if not isinstance(event, Probed)]) == lines(without)
    for ours, theirs in zip(plain.learner.parameters.tensors(), probed.learner.parameters.tensors(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("method", "progress"),
    list(
        zip(
            METHODS,
            itertools.cycle(
                [Every(steps=1), Every(steps=5), Every(epochs=3), Every(seconds=1e-9), Every(seconds=1000)]
            ),
        )
    ),
)
def test_reporting_more_or_less_often_changes_nothing(method: str, progress: Every) -> None:
    experiment = Experiment(method=method, network="fc:8", epochs=4, l2=0.01)
    usual, reported = trained(experiment), trained(experiment, progress=progress)

    assert len(reported) != len(usual)
    for events in (usual, reported):
        events[:] = [event for event in events if not isinstance(event, Progress)]
    assert lines(reported) == lines(usual)


@pytest.mark.parametrize("experiments", [[], ()])
def test_a_run_of_nothing_is_refused(experiments: Sequence[Experiment]) -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        Run(experiments, device="cpu")


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"outputs": 11}, InvalidValue, "10 classes"),
        ({"image_size": 16}, InvalidValue, "image_size is 16"),
        ({"network": "conv:4/9"}, GeometryError, "9×9.*8×8"),
        ({"feedback_init": "zeros"}, InvalidValue, "no error"),
        ({"feedback_init": "zeros", "method": "fa"}, InvalidValue, "no error"),
        ({"data": "imagefolder"}, DataError, "does not exist"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_the_start(
    settings: dict[str, Any], error: type[MdfaError], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said) as caught:
        Run(Experiment(**settings), device="cpu", data_dir=tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_backpropagation_needs_no_feedback_and_so_refuses_none() -> None:
    assert trained(SMALL.replace(method="bp", feedback_init="zeros"))[-1].kind == "finished"


# --------------------------------------------------------------------------------------------------------- which events


def test_the_events_of_a_small_run_one_by_one() -> None:
    events = trained(SMALL, progress=Every(steps=2), probe=Every(steps=3))

    assert [(event.kind, event.step, event.epoch) for event in events] == [
        ("started", 0, 0),
        ("progress", 2, 1),
        ("probed", 3, 1),
        ("evaluated", 3, 1),
        ("progress", 4, 2),
        ("probed", 6, 2),
        ("progress", 6, 2),
        ("evaluated", 6, 2),
        ("finished", 6, 2),
    ]


def test_by_default_progress_comes_every_epoch_and_no_probe() -> None:
    events = trained(SMALL)

    assert [event.kind for event in events] == ["started", *["progress", "evaluated"] * 2, "finished"]


@pytest.mark.parametrize(("batch_size", "drop_last", "per_epoch"), [(64, True, 3), (64, False, 4), (239, True, 1)])
def test_the_order_of_events_whatever_the_frequencies(batch_size: int, drop_last: bool, per_epoch: int) -> None:
    experiment = SMALL.replace(epochs=3, batch_size=batch_size, drop_last=drop_last)
    for progress, probe in [
        (Every(steps=1), Every(steps=1)),
        (Every(epochs=2), Every(steps=2)),
        (Every(steps=7), None),
    ]:
        events = trained(experiment, progress=progress, probe=probe)

        assert [event.kind for event in events].count("started") == 1
        assert [event.kind for event in events].count("finished") == 1
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Finished)
        assert events[0].steps_per_epoch == per_epoch
        evaluated = of_kind(Evaluated, events)
        assert [(event.step, event.epoch) for event in evaluated] == [(per_epoch * n, n) for n in (1, 2, 3)]
        assert events[-1].step == 3 * per_epoch
        order = {"started": 0, "probed": 1, "progress": 2, "evaluated": 3, "finished": 4}
        ranks = [(event.step, order[event.kind]) for event in events]
        assert ranks == sorted(set(ranks))
        for event in events[1:]:
            assert event.epoch == -(-event.step // per_epoch)


def test_the_first_event_states_the_facts() -> None:
    experiments = [SMALL.replace(network="fc:5,3", seed=0, epochs=7), SMALL.replace(network="fc:5,3", seed=1, epochs=7)]
    started = next(train(experiments, device="cpu"))

    assert isinstance(started, Started)
    assert (started.replicas, started.seeds, started.epochs, started.steps_per_epoch) == (2, (0, 1), 7, 3)
    assert started.tasks == (("2", "8"), ("2", "9"))
    assert started.parameters == (64 * 5 + 5) + (5 * 3 + 3) + (3 + 1)
    assert len(started.layers) == 3
    assert started.device == "cpu"
    assert (started.train_examples, started.validation_examples) == ((239, 243), (42, 43))
    assert started.test_examples == (70, 71)


# ----------------------------------------------------------------------------------------------------- pausing, leaving


PACES: dict[str, dict[str, Any]] = {
    "default": {},
    "often": OFTEN,
    "uneven": {"progress": Every(steps=4), "probe": Every(epochs=2)},
}


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
@pytest.mark.parametrize("cut", range(1, 10))
def test_a_paused_run_goes_on_as_if_it_had_not_been(pace: dict[str, Any], cut: int) -> None:
    experiment = SMALL.replace(drop_last=False)  # 8 steps, the last of an epoch smaller
    whole = lines(trained(experiment, **pace))
    run = Run(experiment, device="cpu")

    first = list(run.events(steps=cut, **pace))
    assert run.step == min(cut, 8)
    assert run.finished == (cut >= 8)
    assert max(event.step for event in first) <= cut

    assert lines(first + list(run.events(**pace))) == whole


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
def test_one_step_at_a_time_is_the_same_run(pace: dict[str, Any]) -> None:
    run = Run(SMALL, device="cpu")
    seen: list[Event] = []
    for step in range(1, 7):
        assert not run.finished
        seen += run.events(steps=1, **pace)
        assert run.step == step
        assert run.epoch == -(-step // 3)

    assert run.finished
    assert lines(seen) == lines(trained(SMALL, **pace))


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
def test_leaving_the_loop_anywhere_loses_no_event(pace: dict[str, Any]) -> None:
    whole = lines(trained(SMALL, **pace))
    for taken in range(len(whole) + 1):
        run = Run(SMALL, device="cpu")
        stream = run.events(**pace)
        first = [next(stream) for _ in range(taken)]
        stream.close()
        assert lines(first + list(run.events(**pace))) == whole, taken


def test_what_a_run_is_before_and_after() -> None:
    run = Run(SMALL, device="cpu")
    assert (run.step, run.epoch, run.started, run.finished) == (0, 0, False, False)
    assert (run.steps, run.steps_per_epoch, run.replicas) == (6, 3, 1)
    assert run.experiments == (SMALL,)

    list(run.events())

    assert (run.step, run.epoch, run.started, run.finished) == (6, 2, True, True)
    assert list(run.events()) == []
    assert list(run.events(steps=5)) == []


@pytest.mark.parametrize("steps", [0, -1, 1.5, "3", True])
def test_a_pause_after_no_whole_number_of_steps_is_refused(steps: Any) -> None:
    run = Run(SMALL, device="cpu")

    with pytest.raises(InvalidValue, match="at least 1"):
        list(run.events(steps=steps))
    assert run.step == 0


def test_a_probe_says_whether_it_looked_at_a_sample() -> None:
    for sample, units in ((None, None), (Sample(units=4, examples=2), 4)):
        probed = of_kind(Probed, train(SMALL, device="cpu", probe=Every(epochs=1), sample=sample))
        assert {event.units for event in probed} == {units}
        assert {len(event.unit.layers) for event in probed} == {1}


def test_a_sealed_run_learns_the_same_without_a_look_at_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    gather = ArraySplit.gather

    def spied(self: ArraySplit, index: torch.Tensor) -> torch.Tensor:
        opened.append(self.part)
        return gather(self, index)

    monkeypatch.setattr(ArraySplit, "gather", spied)
    sealed = trained(SMALL, test=False)
    assert opened
    assert "test" not in opened
    whole = trained(SMALL)
    assert opened.count("test") == 1  # 500 images at a time

    assert of_kind(Evaluated, sealed) == of_kind(Evaluated, whole)
    (without,), (with_test,) = of_kind(Finished, sealed), of_kind(Finished, whole)
    assert without.test_accuracy == (None,)
    assert with_test.test_accuracy != (None,)
    assert dataclasses.replace(without, test_accuracy=with_test.test_accuracy) == with_test


def test_a_sealed_run_stays_sealed_in_its_checkpoint(tmp_path: Path) -> None:
    run = Run(SMALL, device="cpu", test=False)
    list(run.events(steps=2))
    run.save(tmp_path / "run.pt")

    *_, finished = Run.load(tmp_path / "run.pt", device="cpu").events()
    assert isinstance(finished, Finished)
    assert finished.test_accuracy == (None,)
