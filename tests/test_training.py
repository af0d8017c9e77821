"""A run from the outside: its events, the paper's rules, the same numbers again, stacks, divergence, given arrays."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from mdfa_core import DATASETS, METHODS, OPTIMIZERS, Every, Experiment, Run, train
from mdfa_core.data import ArrayDataSet, ArraySplit, DataSet, Facts, Images, Split
from mdfa_core.errors import CheckpointError, DataError, GeometryError, InvalidValue, MdfaError, UnknownName
from mdfa_core.events import (
    EVENTS,
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
from mdfa_core.methods import Constraint
from mdfa_core.probes import Sample
from mdfa_core.training import VARYING
from tests.references import PAIRS

ROOT = Path(__file__).resolve().parents[1]
NETS = {"fc": "fc:8,6", "conv": "conv:3/3/1,4/3/2"}
SMALL = Experiment(network="fc:8", epochs=2)  # 3 steps an epoch


def _lines(events: Iterator[Event] | Sequence[Event]) -> list[str]:
    """Events as text: equal where every number is equal to the last bit, NaN included."""
    return [to_json(event) for event in events]


def _trained(experiments: Experiment | Sequence[Experiment], **options: Any) -> list[Event]:
    return list(train(experiments, device="cpu", **options))


E = TypeVar("E", bound=Event)


def _of(kind: type[E], events: Sequence[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing from a second thread, and on a busy machine lose seconds to it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data_set() -> Iterator[Callable[[DataSet], str]]:
    """Adds a data set to the table for the time of one test and returns its name."""
    added: list[str] = []

    def add(entry: DataSet) -> str:
        name = f"test-{len(added)}"
        DATASETS.add(name, entry)
        added.append(name)
        return name

    yield add
    for name in added:
        DATASETS.remove(name)


def _numbered(train: int, test: int = 10) -> ArrayDataSet:
    """Two classes in turn; the first two pixels of an image are its number."""

    def images(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        numbers = np.arange(count)
        return np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(count, 1, 1, 2)

    return ArrayDataSet(
        train_images=images(train),
        train_labels=np.arange(train) % 2,
        test_images=images(test),
        test_labels=np.arange(test) % 2,
        class_names=["even", "odd"],
    )


def _numbers(inputs: torch.Tensor) -> list[int]:
    """The numbers of a batch [1, N, …] of such images."""
    pixels = (inputs[0].flatten(1) * 255).round().to(torch.int64)
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


# ----------------------------------------------------------------------------------------------------- the same numbers


REPEATED = [Experiment(method=method, network=net, epochs=2) for method in METHODS for net in NETS.values()]
REPEATED_IDS = [f"{method}-{net}" for method in METHODS for net in NETS]
OFTEN: dict[str, Any] = {"progress": Every(steps=1), "probe": Every(steps=2)}


@pytest.fixture(scope="module")
def in_another_process() -> list[list[str]]:
    """The event lines of `REPEATED`, as a new Python says them."""
    program = (
        "import json, sys, torch\n"
        "from mdfa_core import Every, Experiment, train\n"
        "from mdfa_core.events import to_json\n"
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
    first = _lines(_trained(REPEATED[number], **OFTEN))
    torch.manual_seed(123)  # PyTorch's own generator has no part in it

    assert _lines(_trained(REPEATED[number], **OFTEN)) == first
    assert in_another_process[number] == first


def test_a_run_leaves_global_random_numbers_alone() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002

    _trained(SMALL, **OFTEN)

    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
def test_another_seed_makes_another_run_of_the_same_task(method: str, network: str) -> None:
    runs = [
        _trained(Experiment(method=method, network=network, epochs=1, seed=seed, task_seed=0), progress=Every(steps=1))
        for seed in (0, 1)
    ]
    started = [_of(Started, events)[0] for events in runs]
    losses = [[event.loss[0] for event in _of(Progress, events)] for events in runs]

    assert started[0].tasks == started[1].tasks
    assert all(a != b for a, b in zip(*losses, strict=True))


def test_another_task_seed_makes_another_task() -> None:
    started = [_of(Started, _trained(SMALL.replace(epochs=1, task_seed=seed)))[0] for seed in range(4)]

    assert len({event.tasks for event in started}) == 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
def test_measuring_changes_nothing(method: str, network: str) -> None:
    experiment = Experiment(method=method, network=network, epochs=2)
    plain, probed = Run(experiment, device="cpu"), Run(experiment, device="cpu")

    without = list(plain.events(progress=Every(steps=1)))
    with_probe = list(probed.events(progress=Every(steps=1), probe=Every(steps=1)))

    assert len(_of(Probed, with_probe)) == 6
    assert _lines([event for event in with_probe if not isinstance(event, Probed)]) == _lines(without)
    for ours, theirs in zip(plain.learner.parameters.tensors(), probed.learner.parameters.tensors(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("method", METHODS)
def test_reporting_more_or_less_often_changes_nothing(method: str) -> None:
    experiment = Experiment(method=method, network="fc:8", epochs=4, l2=0.01)
    usual = [e for e in _trained(experiment) if not isinstance(e, Progress)]

    for progress in (Every(steps=1), Every(steps=5), Every(epochs=3), Every(seconds=1e-9), Every(seconds=1000)):
        events = _trained(experiment, progress=progress)
        assert _lines([e for e in events if not isinstance(e, Progress)]) == _lines(usual)


# ------------------------------------------------------------------------------------------------- alone and in a stack


PER_LAYER = {"layers", "undefined", "angle", "norm_ratio", "saturation"}


def _column(event: Event, replica: int) -> Any:
    """What an event says about one replica."""
    if isinstance(event, Started):
        lists = ("seeds", "tasks", "train_examples", "validation_examples", "test_examples")
        rest = {name: value for name, value in to_dict(event).items() if name not in ("replicas", *lists)}
        return rest | {name: getattr(event, name)[replica] for name in lists}

    def pick(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inner: pick(inner, item) for inner, item in value.items()}
        if isinstance(value, tuple):
            return [layer[replica] for layer in value] if name in PER_LAYER else value[replica]
        return value

    return pick("", to_dict(event))


VARIED = {
    "seeds and tasks": [{"seed": 0}, {"seed": 1}, {"seed": 4}],
    "tasks of one size": [{"seed": 2}, {"seed": 3}],
    "one task": [{"seed": 3, "task_seed": 1}, {"seed": 5, "task_seed": 1}],
    "one batch, other rates and starts": [
        {"learning_rate": 0.001},
        {"learning_rate": 0.3, "l2": 0.01},
        {"forward_init": "zeros", "feedback_init": "uniform:2"},
        {"forward_init": "uniform:2", "convention": "released", "learning_rate": 1e-6},
    ],
    "everything": [
        {"seed": 0, "learning_rate": 0.001, "validation": 0.15},
        {"seed": 2, "learning_rate": 0.1, "l2": 0.1, "validation": 0.13, "forward_init": "zeros"},
        {"seed": 7, "task_seed": 5, "validation": 0.2, "feedback_init": "uniform:1", "forward_init": "uniform:2"},
    ],
}


@pytest.mark.parametrize("varied", VARIED.values(), ids=VARIED)
@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_replica_alone_equals_itself_in_a_stack(method: str, network: str, varied: list[dict[str, Any]]) -> None:
    for optimizer in OPTIMIZERS if network == NETS["fc"] else ("sgd",):
        base = Experiment(method=method, network=network, optimizer=optimizer, epochs=2)
        experiments = [base.replace(**changes) for changes in varied]
        together = _trained(experiments, **OFTEN)
        for replica, experiment in enumerate(experiments):
            alone = _trained(experiment, **OFTEN)
            assert [_column(e, replica) for e in together] == [_column(e, 0) for e in alone], (optimizer, replica)


@pytest.mark.parametrize("varied", ["everything", "one batch, other rates and starts"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("method", ["bp", "mdfa"])
def test_a_replica_of_a_large_net_equals_itself(method: str, optimizer: str, threads: int, varied: str) -> None:
    """Large enough for other kernels than the small nets take, and for threads to share one product."""
    torch.set_num_threads(threads)
    base = Experiment(method=method, network="fc:1024,512", optimizer=optimizer, epochs=1)
    experiments = [base.replace(**changes) for changes in VARIED[varied][:2]]
    pace = {"progress": Every(steps=1), "probe": Every(steps=2)}

    together = _trained(experiments, **pace)

    for replica, experiment in enumerate(experiments):
        assert [_column(e, replica) for e in together] == [_column(e, 0) for e in _trained(experiment, **pace)]


@pytest.mark.parametrize("outputs", [2, 3])
def test_a_replica_equals_itself_with_several_outputs_and_ragged_batches(outputs: int) -> None:
    base = Experiment(network="fc:8", outputs=outputs, epochs=2, batch_size=50, drop_last=False, task_seed=1)
    experiments = [base.replace(seed=seed, learning_rate=0.1 / (seed + 1)) for seed in range(3)]

    together = _trained(experiments, **OFTEN)

    for replica, experiment in enumerate(experiments):
        assert [_column(e, replica) for e in together] == [_column(e, 0) for e in _trained(experiment, **OFTEN)]


@pytest.mark.parametrize("batch_size", [16, 31, 32, 48])
@pytest.mark.parametrize("varied", [{}, {"learning_rate": 0.1}, {"method": "bp", "learning_rate": 0.1}], ids=str)
def test_a_replica_equals_itself_with_any_number_of_examples(batch_size: int, varied: dict[str, Any]) -> None:
    """With one output few numbers are made of an example: too few for one batch to show what last bits depend on."""
    base = Experiment(batch_size=batch_size, task_seed=0, epochs=3, **varied)
    experiments = [base.replace(seed=seed) for seed in range(5)]

    together = _trained(experiments)

    for replica, experiment in enumerate(experiments):
        assert [_column(e, replica) for e in together] == [_column(e, 0) for e in _trained(experiment)]


def test_one_experiment_is_a_stack_of_one() -> None:
    assert _lines(_trained(SMALL)) == _lines(_trained([SMALL])) == _lines(_trained((SMALL,)))


OTHER: dict[str, Any] = {
    "data": "mnist",
    "outputs": 2,
    "method": "dfa",
    "network": "fc:9",
    "activation": "relu",
    "floor": 0.0,
    "optimizer": "adam",
    "batch_size": 32,
    "epochs": 3,
    "image_size": 8,
    "drop_last": False,
    "precision": "float64",
}


@pytest.mark.parametrize("setting", OTHER)
def test_replicas_that_differ_in_what_a_stack_shares_are_refused(setting: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Run([SMALL, SMALL.replace(**{setting: OTHER[setting]})], device="cpu")

    assert f"differ in {setting.replace('_', ' ')} " in str(caught.value)
    assert repr(OTHER[setting]) in str(caught.value)
    for name in VARYING:
        assert name in str(caught.value)


def test_every_setting_is_shared_or_varies() -> None:
    assert set(OTHER) | VARYING == {setting.name for setting in dataclasses.fields(Experiment)}
    assert not set(OTHER) & VARYING


def test_tasks_of_unequal_numbers_of_batches_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"239, 141 training images.*separate stacks"):
        Run([SMALL, SMALL.replace(validation=0.5)], device="cpu")
    with pytest.raises(InvalidValue, match=r"239, 243 training images.*separate stacks"):
        # The same number of batches, but the last ones differ in size.
        Run([SMALL.replace(drop_last=False, seed=seed) for seed in (0, 1)], device="cpu")


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
    assert _trained(SMALL.replace(method="bp", feedback_init="zeros"))[-1].kind == "finished"


# --------------------------------------------------------------------------------------------------------- which events


def test_the_events_of_a_small_run_one_by_one() -> None:
    events = _trained(SMALL, progress=Every(steps=2), probe=Every(steps=3))

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


def _due(every: Every, steps_per_epoch: int, steps: int) -> list[int]:
    """When `every` should be due, from its description."""
    if every.steps is not None:
        due = {step for step in range(1, steps + 1) if step % every.steps == 0}
    elif every.epochs is not None:
        due = {step for step in range(1, steps + 1) if step % (every.epochs * steps_per_epoch) == 0}
    else:
        due = set(range(1, steps + 1)) if every.seconds == 1e-9 else {1}
    return sorted(due | {steps})


@pytest.mark.parametrize(
    "every",
    [
        Every(steps=1),
        Every(steps=4),
        Every(steps=100),
        Every(epochs=1),
        Every(epochs=2),
        Every(epochs=9),
        Every(seconds=1e-9),
        Every(seconds=1000),
        Every(seconds=1000.5),
    ],
    ids=str,
)
def test_reports_come_when_they_are_due(every: Every) -> None:
    experiment = SMALL.replace(epochs=5)

    progress = _of(Progress, _trained(experiment, progress=every))
    probed = _of(Probed, _trained(experiment, probe=every))

    assert [event.step for event in progress] == _due(every, 3, 15)
    assert [event.step for event in probed] == _due(every, 3, 15)


def test_by_default_progress_comes_every_epoch_and_no_probe() -> None:
    events = _trained(SMALL)

    assert [event.kind for event in events] == ["started", *["progress", "evaluated"] * 2, "finished"]


@pytest.mark.parametrize(("batch_size", "drop_last", "per_epoch"), [(64, True, 3), (64, False, 4), (239, True, 1)])
def test_the_order_of_events_whatever_the_frequencies(batch_size: int, drop_last: bool, per_epoch: int) -> None:
    experiment = SMALL.replace(epochs=3, batch_size=batch_size, drop_last=drop_last)
    for progress, probe in [
        (Every(steps=1), Every(steps=1)),
        (Every(epochs=2), Every(steps=2)),
        (Every(steps=7), None),
    ]:
        events = _trained(experiment, progress=progress, probe=probe)

        assert [event.kind for event in events].count("started") == 1
        assert [event.kind for event in events].count("finished") == 1
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Finished)
        assert events[0].steps_per_epoch == per_epoch
        evaluated = _of(Evaluated, events)
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


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps": 1, "epochs": 1},
        {"steps": 1, "seconds": 1.0},
        {"steps": 1, "epochs": 1, "seconds": 1.0},
        *({name: value} for name in ("steps", "epochs", "seconds") for value in (0, -1, True, "1", math.nan, [1])),
        *({name: value} for name in ("steps", "epochs") for value in (1.0, 0.5, math.inf)),
        {"seconds": math.inf},
        {"seconds": -0.1},
    ],
    ids=str,
)
def test_every_takes_exactly_one_positive_number(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=r"Every got .*: give ") as caught:
        Every(**given)
    for name in given:
        assert name in str(caught.value)


def test_every_is_named_and_compared() -> None:
    with pytest.raises(TypeError):
        Every(3)  # type: ignore[misc]
    assert Every(steps=3) == Every(steps=3) != Every(epochs=3)
    assert Every(seconds=2).seconds == 2


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
    whole = _lines(_trained(experiment, **pace))
    run = Run(experiment, device="cpu")

    first = list(run.events(steps=cut, **pace))
    assert run.step == min(cut, 8)
    assert run.finished == (cut >= 8)
    assert max(event.step for event in first) <= cut

    assert _lines(first + list(run.events(**pace))) == whole


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
    assert _lines(seen) == _lines(_trained(SMALL, **pace))


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
def test_leaving_the_loop_anywhere_loses_no_event(pace: dict[str, Any]) -> None:
    whole = _lines(_trained(SMALL, **pace))
    for taken in range(len(whole) + 1):
        run = Run(SMALL, device="cpu")
        stream = run.events(**pace)
        first = [next(stream) for _ in range(taken)]
        stream.close()
        assert _lines(first + list(run.events(**pace))) == whole, taken


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


# ---------------------------------------------------------------------------------------------------- batches and means


def test_an_epoch_shows_every_training_image_once_in_an_order_of_its_own(
    data_set: Callable[[DataSet], str],
) -> None:
    name = data_set(_numbered(600))
    run = Run(Experiment(data=name, network="fc:2", batch_size=64, drop_last=False, epochs=3), device="cpu")
    assert run.steps_per_epoch == 8  # of 510

    epochs = []
    for epoch in range(3):
        numbers: list[int] = []
        for place in range(8):
            inputs, labels = run.batch(8 * epoch + place + 1)
            shown = _numbers(inputs)
            own = run.tasks[0].class_ids  # label i is class own[i], and a number's class is its parity
            assert [own[label] for label in labels[0].tolist()] == [number % 2 for number in shown]
            assert len(shown) == (64 if place < 7 else 510 - 7 * 64)
            numbers += shown
        assert sorted(numbers) == run.tasks[0].train.indices.tolist()
        assert numbers != sorted(numbers)
        epochs.append(tuple(numbers))
    assert len(set(epochs)) == 3


def test_without_the_last_batch_an_epoch_shows_no_image_twice(data_set: Callable[[DataSet], str]) -> None:
    name = data_set(_numbered(600))
    run = Run(Experiment(data=name, network="fc:2", batch_size=64, epochs=2), device="cpu")

    left_out = []
    for epoch in range(2):
        numbers = [number for place in range(7) for number in _numbers(run.batch(7 * epoch + place + 1)[0])]
        assert len(numbers) == len(set(numbers)) == 448
        left_out.append(set(run.tasks[0].train.indices.tolist()) - set(numbers))
    assert left_out[0] != left_out[1]


def test_methods_with_one_seed_see_the_same_batches_and_seeds_do_not(data_set: Callable[[DataSet], str]) -> None:
    name = data_set(_numbered(600))
    base = Experiment(data=name, network="fc:2", epochs=1)

    def order(experiment: Experiment) -> tuple[int, ...]:
        run = Run(experiment, device="cpu")
        return tuple(number for step in range(1, run.steps + 1) for number in _numbers(run.batch(step)[0]))

    orders = {order(base.replace(method=method, network=net)) for method in METHODS for net in ("fc:2", "fc:3,3")}
    assert len(orders) == 1
    assert order(base.replace(seed=1, task_seed=0)) not in orders


def _logits(run: Run, inputs: torch.Tensor, replica: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A fully-connected tanh net in plain numpy."""
    h = inputs[0].flatten(1).double().numpy()
    weights = [w[replica].double().numpy() for w in run.learner.parameters.weights]
    biases = [b[replica].double().numpy() for b in run.learner.parameters.biases]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        h = np.tanh(h @ w.T + b)
    return h @ weights[-1].T + biases[-1]


def _mean_loss(logits: np.ndarray[Any, np.dtype[np.float64]], labels: torch.Tensor) -> float:
    y = labels.numpy()
    if logits.shape[1] == 1:
        p = 1 / (1 + np.exp(-logits[:, 0]))
        return float(-np.log(np.where(y == 1, p, 1 - p)).mean())
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.log(p[np.arange(len(y)), y]).mean())


def _share_correct(logits: np.ndarray[Any, np.dtype[np.float64]], labels: torch.Tensor) -> float:
    predicted = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(1)
    return float((predicted == labels.numpy()).mean())


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_progress_is_about_the_batch_before_it_was_learnt(outputs: int) -> None:
    run = Run(Experiment(network="fc:8", outputs=outputs, epochs=1, learning_rate=0.1), device="cpu")
    for step in range(1, 4):
        inputs, labels = run.batch(step)
        logits = _logits(run, inputs)
        (progress,) = [e for e in run.events(progress=Every(steps=1), steps=1) if isinstance(e, Progress)]
        assert progress.loss[0] == pytest.approx(_mean_loss(logits, labels[0]), rel=1e-5)
        assert progress.accuracy[0] == pytest.approx(_share_correct(logits, labels[0]), abs=1e-9)


def test_progress_is_the_mean_over_the_examples_since_the_last_one() -> None:
    experiment = SMALL.replace(batch_size=100, drop_last=False)  # 100, 100 and 39 examples
    single = _of(Progress, _trained(experiment, progress=Every(steps=1)))
    sizes = [100, 100, 39] * 2

    for every, groups in [(Every(epochs=1), [(0, 3), (3, 6)]), (Every(steps=4), [(0, 4), (4, 6)])]:
        means = _of(Progress, _trained(experiment, progress=every))
        assert len(means) == len(groups)
        for event, (start, stop) in zip(means, groups, strict=True):
            for name in ("loss", "accuracy"):
                values = [getattr(e, name)[0] for e in single[start:stop]]
                expected = np.average(values, weights=sizes[start:stop])
                assert getattr(event, name)[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("outputs", [1, 3])
def test_evaluations_are_over_whole_splits_with_the_weights_after_the_epoch(outputs: int) -> None:
    run = Run(Experiment(network="fc:8", outputs=outputs, epochs=2, learning_rate=0.1), device="cpu")
    task = run.tasks[0]

    def by_hand(split: Split) -> tuple[float, float]:
        logits = _logits(run, run.network.inputs_from(split.gather(torch.arange(len(split)))[None]))
        return _mean_loss(logits, split.labels), _share_correct(logits, split.labels)

    for _ in range(2):
        (event,) = [e for e in run.events(steps=run.steps_per_epoch) if isinstance(e, Evaluated)]
        loss, accuracy = by_hand(task.train)
        assert event.train_loss[0] == pytest.approx(loss, rel=1e-5)
        assert event.train_accuracy[0] == pytest.approx(accuracy, abs=1e-9)
        loss, accuracy = by_hand(task.validation)
        assert event.validation_loss[0] == pytest.approx(loss, rel=1e-5)
        assert event.validation_accuracy[0] == pytest.approx(accuracy, abs=1e-9)


def test_a_large_split_is_evaluated_whole(data_set: Callable[[DataSet], str]) -> None:
    name = data_set(_numbered(1237, test=1111))
    run = Run(Experiment(data=name, network="fc:4", epochs=1, validation=0.5), device="cpu")

    *_, evaluated, finished = run.events()

    assert isinstance(evaluated, Evaluated)
    assert isinstance(finished, Finished)
    for split, said in ((run.tasks[0].train, evaluated.train_accuracy), (run.tasks[0].test, finished.test_accuracy)):
        logits = _logits(run, run.network.inputs_from(split.gather(torch.arange(len(split)))[None]))
        assert said[0] == pytest.approx(_share_correct(logits, split.labels), abs=1e-9)


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "steps"),
    [(64, True, 3), (64, False, 4), (239, True, 1), (239, False, 1), (500, False, 1)],
)
def test_incomplete_batches_are_dropped_or_kept(batch_size: int, drop_last: bool, steps: int) -> None:
    run = Run(SMALL.replace(batch_size=batch_size, drop_last=drop_last), device="cpu")

    *_, finished = run.events()

    assert (run.steps_per_epoch, run.steps, finished.step) == (steps, 2 * steps, 2 * steps)


def test_a_batch_larger_than_the_data_is_refused_unless_kept() -> None:
    with pytest.raises(InvalidValue, match="batch size is 240, but a task has only 239 training images"):
        Run(SMALL.replace(batch_size=240), device="cpu")


# ---------------------------------------------------------------------------------------------------- the paper's rules


def _test_accuracy_after(experiment: Experiment, epoch: int) -> float:
    """Train anew, stop after `epoch`, and count hits on the test images by hand."""
    run = Run(experiment, device="cpu")
    list(run.events(steps=epoch * run.steps_per_epoch))
    test = run.tasks[0].test
    inputs = run.network.inputs_from(test.gather(torch.arange(len(test)))[None])
    logits = run.network.forward(run.learner.parameters, inputs).logits_RNC[0]
    predicted = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return int((predicted == test.labels).sum()) / len(test)


RULED = {
    "FA, ten classes": Experiment(method="fa", network="fc:16", outputs=10, epochs=12, learning_rate=0.3),
    "mDFA, ten classes": Experiment(network="fc:16", outputs=10, epochs=12, learning_rate=0.3),
    "BP, unsteady": Experiment(method="bp", network="fc:16", outputs=10, epochs=12, learning_rate=3.0),
    "FA, unsteady": Experiment(method="fa", network="fc:16", outputs=10, epochs=12, learning_rate=3.0),
    "mDFA, two classes": Experiment(network="fc:16", epochs=12, learning_rate=0.05),
    "BP, two classes": Experiment(method="bp", network="fc:16", epochs=12, learning_rate=0.5, seed=3),
    "convolutions": Experiment(method="dfa", network="conv:3/3/1,4/3/2", epochs=8, learning_rate=0.1),
}


@functools.cache
def _ruled(name: str) -> list[Event]:
    return _trained(RULED[name])


@pytest.mark.parametrize("name", RULED)
def test_the_outcome_follows_the_papers_rules(name: str) -> None:
    experiment, events = RULED[name], _ruled(name)
    evaluated, finished = _of(Evaluated, events), events[-1]
    assert isinstance(finished, Finished)
    validation = [event.validation_accuracy[0] for event in evaluated]
    best = max(value for value in validation if value is not None)
    epoch = validation.index(best) + 1

    assert finished.best_train_accuracy[0] == max(event.train_accuracy[0] for event in evaluated)
    assert finished.best_validation_accuracy[0] == best
    assert finished.best_validation_epoch[0] == epoch
    assert finished.test_accuracy[0] == _test_accuracy_after(experiment, epoch)
    assert finished.diverged_at == (None,)


def test_the_cases_above_can_tell_rules_apart() -> None:
    """In some the best epoch is tied, is not the last, has another test accuracy; in one training was better before."""
    tied = other = inside = worse = 0
    for name, experiment in RULED.items():
        validation = [event.validation_accuracy[0] for event in _of(Evaluated, _ruled(name))]
        (finished,) = _of(Finished, _ruled(name))
        epoch = finished.best_validation_epoch[0]
        assert epoch is not None
        tied += validation.count(validation[epoch - 1]) > 1
        inside += epoch < experiment.epochs
        other += finished.test_accuracy[0] != _test_accuracy_after(experiment, experiment.epochs)
        worse += finished.best_train_accuracy[0] > _of(Evaluated, _ruled(name))[-1].train_accuracy[0]
    assert min(tied, other, inside) >= 2
    assert worse >= 1


def test_the_rules_hold_for_every_replica_by_itself() -> None:
    experiments = [RULED["FA, ten classes"].replace(seed=seed, learning_rate=rate) for seed, rate in ((2, 0.3), (1, 1))]

    finished = _trained(experiments)[-1]

    assert isinstance(finished, Finished)
    assert len(set(finished.best_validation_epoch)) == 2
    for replica, experiment in enumerate(experiments):
        epoch = finished.best_validation_epoch[replica]
        assert epoch is not None
        assert finished.test_accuracy[replica] == _test_accuracy_after(experiment, epoch)


def test_the_first_of_several_equal_epochs_counts_even_if_all_are_wrong(data_set: Callable[[DataSet], str]) -> None:
    """Validation images that contradict the training images: 0 % after every epoch."""
    count = 40
    rows = np.arange(count)
    images = np.zeros((count, 1, 1, 2), np.uint8)
    images[rows, 0, 0, rows % 2] = 255

    def entry(labels: np.ndarray[Any, np.dtype[Any]]) -> ArrayDataSet:
        return ArrayDataSet(
            train_images=images,
            train_labels=labels,
            test_images=images[:10],
            test_labels=rows[:10] % 2,
            class_names=["left", "right"],
        )

    base = Experiment(method="bp", network="fc:8", epochs=4, learning_rate=1.0, batch_size=8, validation=0.2)
    held_out = Run(base.replace(data=data_set(entry(rows % 2))), device="cpu").tasks[0].validation.indices
    labels = rows % 2
    labels[held_out] = 1 - labels[held_out]  # which images are held out doesn't depend on their labels

    events = _trained(base.replace(data=data_set(entry(labels))))

    assert [event.validation_accuracy[0] for event in _of(Evaluated, events)] == [0.0] * 4
    assert isinstance(events[-1], Finished)
    assert events[-1].best_validation_accuracy == (0.0,)
    assert events[-1].best_validation_epoch == (1,)


@pytest.mark.parametrize("method", ["bp", "mdfa"])
def test_without_validation_images_the_final_weights_are_tested(method: str) -> None:
    experiment = Experiment(method=method, network="fc:16", outputs=10, epochs=5, learning_rate=0.5, validation=0)

    events = _trained(experiment)
    evaluated, finished = _of(Evaluated, events), events[-1]

    assert isinstance(events[0], Started)
    assert isinstance(finished, Finished)
    assert (events[0].train_examples, events[0].validation_examples) == ((1438,), (0,))
    assert all(event.validation_accuracy == event.validation_loss == (None,) for event in evaluated)
    assert finished.best_validation_accuracy == (None,)
    assert finished.best_train_accuracy[0] == max(event.train_accuracy[0] for event in evaluated)
    assert finished.test_accuracy[0] == _test_accuracy_after(experiment, 5)


@dataclass(frozen=True, eq=False)
class _WatchedImages(Images):
    """Images said to be too large to hold, so that every use of one is a `read`."""

    images: Images
    part: str
    log: list[tuple[str, int]]

    @property
    def class_ids(self) -> Any:  # type: ignore[override]
        return self.images.class_ids

    @property
    def indices(self) -> Any:  # type: ignore[override]
        return self.images.indices

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return self.images.shape

    @property
    def nbytes(self) -> int:
        return 2**50

    def read(self, rows: Any) -> Any:
        self.log.extend((self.part, int(row)) for row in rows)
        return self.images.read(rows)

    def identify(self, rows: Any, digest: Any) -> None:
        self.images.identify(rows, digest)


@dataclass(frozen=True, eq=False)
class _Watched(DataSet):
    """The digits, with a log of every image that is looked at."""

    log: list[tuple[str, int]] = field(default_factory=list)
    title: str = "watched digits"
    source: str = "a test"
    licence: str = "a test's"
    bundled: bool = True

    @property
    def facts(self) -> Facts:
        return DATASETS["digits"].facts

    def find(self, place: Any) -> None:
        return None

    def fetch(self, place: Any, *, verify: bool = False, mirror: str | None = None) -> None:
        pass

    def shape(self, image_size: int | None) -> Any:
        return DATASETS["digits"].shape(image_size)

    def list_classes(self, place: Any) -> tuple[str, ...]:
        return DATASETS["digits"].list_classes(place)

    def images(self, place: Any, part: Any, class_ids: Sequence[int], image_size: int | None) -> Images:
        return _WatchedImages(DATASETS["digits"].images(place, part, class_ids, image_size), part, self.log)

    def check(self, place: Any) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("changes", "tasks"),
    [
        ([{}], 1),
        ([{"seed": 0}, {"seed": 5, "task_seed": 0}], 1),
        ([{"seed": 0}, {"seed": 1}], 2),
        ([{"seed": 2}, {"seed": 3}], 2),
        ([{"validation": 0.0}], 1),
    ],
)
def test_test_images_are_looked_at_once_and_last(
    changes: list[dict[str, Any]], tasks: int, data_set: Callable[[DataSet], str]
) -> None:
    watched = _Watched()
    base = SMALL.replace(data=data_set(watched), epochs=3)
    run = Run([base.replace(**change) for change in changes], device="cpu")
    unlogged = len(watched.log)

    for _ in range(run.steps - 1):
        list(run.events(steps=1, progress=Every(steps=1), probe=Every(steps=1)))
    assert len(watched.log) > unlogged
    assert not any(part == "test" for part, _ in watched.log)
    *_, finished = run.events()

    looked_at = [row for part, row in watched.log if part == "test"]
    sizes = [len(task.test) for task in {id(task): task for task in run.tasks}.values()]
    assert len(sizes) == tasks
    assert len(looked_at) == sum(sizes)
    assert sorted(looked_at) == sorted(row for size in sizes for row in range(size))
    assert list(run.events()) == []
    assert len([row for part, row in watched.log if part == "test"]) == len(looked_at)
    in_memory = _trained([base.replace(data="digits", **change) for change in changes])[-1]
    assert to_json(finished) == to_json(in_memory)


# ----------------------------------------------------------------------------------------------------------- divergence


ABSURD = 1e38  # the second step leaves float32


@pytest.mark.parametrize(
    ("method", "optimizer"), [pair for pair in PAIRS if pair[1] != "rprop"]
)  # RPROP's steps are bounded
def test_one_diverging_replica_leaves_the_others_alone(method: str, optimizer: str) -> None:
    base = Experiment(method=method, network="fc:8,6", optimizer=optimizer, epochs=3)
    experiments = [base.replace(seed=0), base.replace(seed=1, learning_rate=ABSURD), base.replace(seed=4)]

    together = _trained(experiments, **OFTEN)

    (diverged,) = _of(Diverged, together)
    assert (diverged.replica, diverged.seed) == (1, 1)
    assert not math.isfinite(diverged.loss)
    assert isinstance(together[-1], Finished)
    assert together[-1].step == 9
    assert together[-1].diverged_at == (None, diverged.step, None)
    for replica in (0, 2):
        mine = [_column(e, replica) for e in together if not isinstance(e, Diverged)]
        assert mine == [_column(e, 0) for e in _trained(experiments[replica], **OFTEN)]
    for event in together:
        if isinstance(event, Progress) and event.step >= diverged.step:
            assert math.isnan(event.loss[1])
            assert math.isnan(event.accuracy[1])
        if isinstance(event, Evaluated) and event.step >= diverged.step:
            assert math.isnan(event.train_accuracy[1])
            assert event.validation_accuracy[1] is None
    assert _of(Evaluated, together)[0].step >= diverged.step  # before the end of the first epoch
    assert together[-1].best_train_accuracy[1] is None
    assert together[-1].best_validation_epoch[1] is None
    assert together[-1].test_accuracy[1] is None


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_when_every_replica_has_diverged(method: str) -> None:
    base = Experiment(method=method, network="fc:8", learning_rate=ABSURD, epochs=50)
    run = Run([base.replace(seed=0), base.replace(seed=1)], device="cpu")

    events = list(run.events())

    diverged, finished = _of(Diverged, events), events[-1]
    assert sorted(event.replica for event in diverged) == [0, 1]
    assert isinstance(finished, Finished)
    assert run.finished
    assert finished.step == max(event.step for event in diverged) < 150
    assert finished.diverged_at == tuple(e.step for e in sorted(diverged, key=lambda e: e.replica))
    assert list(run.events()) == []


# A linear net at a rate just too large: its weights grow for some epochs before they leave float32.
SLOWLY = Experiment(method="bp", network="fc:8", activation="identity", learning_rate=0.1, l2=25.0, epochs=60)


def test_what_was_reached_before_diverging_counts() -> None:
    events = _trained(SLOWLY)
    (diverged,), finished = _of(Diverged, events), events[-1]
    assert isinstance(finished, Finished)
    before = [event for event in _of(Evaluated, events) if event.step < diverged.step]

    assert len(before) >= 3
    validation = [event.validation_accuracy[0] for event in before]
    best = max(value for value in validation if value is not None)
    epoch = validation.index(best) + 1
    assert finished.best_train_accuracy[0] == max(event.train_accuracy[0] for event in before)
    assert finished.best_validation_accuracy[0] == best
    assert finished.best_validation_epoch[0] == epoch
    assert finished.test_accuracy[0] == _test_accuracy_after(SLOWLY, epoch)
    assert finished.diverged_at == (diverged.step,)


@pytest.mark.parametrize(
    "experiment", [SLOWLY, SMALL.replace(learning_rate=ABSURD, epochs=9)], ids=["slowly", "at once"]
)
def test_where_a_run_diverges_does_not_depend_on_how_often_it_reports(experiment: Experiment) -> None:
    """Otherwise the outcome, and the step where the run ends, would follow the clock with Every(seconds=...)."""
    usual = [event for event in _trained(experiment) if not isinstance(event, Progress)]

    for progress in (Every(steps=1), Every(steps=5), Every(epochs=4), Every(seconds=1000)):
        events = [event for event in _trained(experiment, progress=progress) if not isinstance(event, Progress)]
        assert _lines(events) == _lines(usual), progress


# --------------------------------------------------------------------------------------------------------- given arrays


def _arrays(run: Run, seed: int, replicas: int | None = None) -> tuple[list[Any], list[Any], list[Any]]:
    """Positive weights, biases and feedback that fit `run`; a leading axis if `replicas` are asked for."""
    random = np.random.default_rng(seed)
    lead = () if replicas is None else (replicas,)
    shapes = [layer.weight_shape for layer in run.network.layers]
    needed = [item.shape for item in run.learner.method.transport.feedback(run.network)]
    return (
        [random.uniform(0.01, 0.5, (*lead, *shape)) for shape in shapes],
        [random.normal(size=(*lead, shape[0])) for shape in shapes],
        [random.uniform(0.01, 2.0, (*lead, *shape)) for shape in needed],
    )


@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
@pytest.mark.parametrize("method", METHODS)
def test_given_arrays_are_what_is_trained(method: str, network: str) -> None:
    """Two runs that start differently are one run once they are given the same numbers."""
    experiments = [
        Experiment(method=method, network=network, epochs=2, forward_init=forward, feedback_init=feedback)
        for forward, feedback in (("normal:0.1", "normal:1"), ("zeros", "uniform:2"))
    ]
    runs = [Run(experiment, device="cpu") for experiment in experiments]
    weights, biases, feedback = _arrays(runs[0], 3)
    drawn = _lines(_trained(experiments[0], **OFTEN))
    for run in runs:
        run.set_parameters(weights, biases)
        if method != "bp":
            run.set_feedback(feedback)

    first, second = (_lines(run.events(**OFTEN)) for run in runs)

    assert first == second != drawn


def test_arrays_without_a_replica_axis_go_to_every_replica() -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base.replace(seed=seed) for seed in range(3)], device="cpu")
    weights, biases, feedback = _arrays(run, 0)

    run.set_parameters(weights, biases)
    run.set_feedback(feedback)

    parameters = run.learner.parameters
    for ours, given in [
        *zip(parameters.weights, weights, strict=True),
        *zip(parameters.biases, biases, strict=True),
        *zip(run.learner.feedback, feedback, strict=True),
    ]:
        for replica in range(3):
            assert np.array_equal(ours[replica].numpy(), given.astype(np.float32))


def test_arrays_with_a_replica_axis_go_one_to_each() -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base.replace(seed=seed) for seed in range(3)], device="cpu")
    weights, biases, feedback = _arrays(run, 0, replicas=3)

    run.set_parameters([torch.from_numpy(w) for w in weights], biases)
    run.set_feedback([b.tolist() for b in feedback])

    parameters = run.learner.parameters
    for ours, given in [
        *zip(parameters.weights, weights, strict=True),
        *zip(parameters.biases, biases, strict=True),
        *zip(run.learner.feedback, feedback, strict=True),
    ]:
        assert np.array_equal(ours.numpy(), given.astype(np.float32))


def test_given_arrays_are_copied_and_biases_may_be_left_out() -> None:
    run = Run(Experiment(network="fc:5"), device="cpu")
    weights, biases, feedback = _arrays(run, 0)
    kept = [w.copy() for w in weights]
    run.set_parameters(weights, biases)

    run.set_parameters(weights)
    run.set_feedback(feedback)
    assert all(not b.any() for b in run.learner.parameters.biases)
    list(run.events(steps=5))

    assert all(np.array_equal(w, k) for w, k in zip(weights, kept, strict=True))
    for ours, given in zip(run.learner.feedback, feedback, strict=True):  # and training does not change feedback
        assert np.array_equal(ours[0].numpy(), given.astype(np.float32))


def _spoilt(arrays: list[Any], number: int, array: Any) -> list[Any]:
    return [*arrays[:number], array, *arrays[number + 1 :]]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda w, b, f: (w[:-1], b, f), GeometryError),
        (lambda w, b, f: ([*w, w[-1]], b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 0, w[0].T), b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, w[1][:, :-1]), b, f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, w[1][None, None]), b, f), GeometryError),
        (lambda w, b, f: (w, b[:-1], f), GeometryError),
        (lambda w, b, f: (w, _spoilt(b, 0, b[0][:-1]), f), GeometryError),
        (lambda w, b, f: (_spoilt(w, 1, -w[1]), b, f), InvalidValue),
        (lambda w, b, f: (_spoilt(w, 2, w[2] * np.nan), b, f), InvalidValue),
        (lambda w, b, f: ([np.stack([x] * 3) for x in w], [np.stack([x] * 3) for x in b], f), InvalidValue),
        (lambda w, b, f: (_spoilt([x[None] for x in w], 2, np.stack([w[2]] * 2)), b, f), GeometryError),
        (lambda w, b, f: (w, b, f[:-1]), GeometryError),
        (lambda w, b, f: (w, b, _spoilt(f, 0, f[0].T)), GeometryError),
        (lambda w, b, f: (w, b, _spoilt(f, 1, -f[1])), InvalidValue),
        (lambda w, b, f: (w, b, _spoilt(f, 1, f[1] * np.nan)), InvalidValue),
        (lambda w, b, f: (w, b, [np.stack([x] * 3) for x in f]), InvalidValue),
        (lambda w, b, f: (w, b, _spoilt(f, 1, np.stack([f[1]] * 3))), InvalidValue),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_change_nothing(spoil: Any, error: type[MdfaError]) -> None:
    base = Experiment(network="fc:5,4")
    run = Run([base, base.replace(seed=1)], device="cpu")
    good = _arrays(run, 0)
    weights, biases, feedback = spoil(*good)
    before = [tensor.clone() for tensor in (*run.learner.parameters.tensors(), *run.learner.feedback)]

    with pytest.raises(error) as caught:
        run.set_feedback(feedback) if feedback is not good[2] else run.set_parameters(weights, biases)

    assert "\n" not in str(caught.value)
    after = (*run.learner.parameters.tensors(), *run.learner.feedback)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_backpropagation_takes_no_feedback_arrays_and_negative_weights() -> None:
    run = Run(Experiment(method="bp", network="fc:5"), device="cpu")
    weights, biases, _ = _arrays(run, 0)

    run.set_parameters([-w for w in weights], biases)

    assert (run.learner.parameters.weights[1] < 0).all()
    with pytest.raises(GeometryError):
        run.set_feedback([np.ones((1, 5))])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_new_learning_rate_counts_from_the_next_step(optimizer: str) -> None:
    experiment = SMALL.replace(optimizer=optimizer, learning_rate=0.01)
    changed, other = Run(experiment, device="cpu"), Run(experiment.replace(learning_rate=0.1), device="cpu")

    changed.set_learning_rate(0.1)
    assert _lines(changed.events(**OFTEN)) == _lines(other.events(**OFTEN))

    plain, late = Run(experiment, device="cpu"), Run(experiment, device="cpu")
    assert _lines(plain.events(steps=2, **OFTEN)) == _lines(late.events(steps=2, **OFTEN))
    late.set_learning_rate(0.1)
    a, b = (_of(Progress, list(run.events(**OFTEN))) for run in (plain, late))
    assert a[0].loss == b[0].loss  # shown before it is learnt
    assert a[1].loss != b[1].loss


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf, True, "0.1", None])
def test_an_impossible_new_learning_rate_is_refused(rate: Any) -> None:
    run = Run(SMALL, device="cpu")

    with pytest.raises(InvalidValue, match="learning rate"):
        run.set_learning_rate(rate)
    assert _lines(run.events()) == _lines(_trained(SMALL))


# --------------------------------------------------------------------------------------------------------------- events


def test_events_go_through_json_and_back() -> None:
    experiments = [SMALL.replace(learning_rate=rate) for rate in (0.01, ABSURD)]
    events = _trained(experiments, **OFTEN)
    assert {event.kind for event in events} == set(EVENTS)

    for event in events:
        line = to_json(event)
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        again = from_dict(json.loads(line))
        assert type(again) is type(event)
        assert to_json(again) == line
        assert repr(again) == repr(event)
        assert repr(from_dict(to_dict(event))) == repr(event)


def test_events_are_frozen() -> None:
    started = next(train(SMALL, device="cpu"))

    with pytest.raises(dataclasses.FrozenInstanceError):
        started.step = 3  # type: ignore[misc]


def test_classes_may_be_called_nan_and_inf() -> None:
    started = next(train(SMALL, device="cpu"))
    assert isinstance(started, Started)
    named = dataclasses.replace(started, tasks=(("nan", "inf"),), layers=("-inf",))

    assert from_dict(json.loads(to_json(named))) == named


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "progress"},
        {"kind": "hello", "step": 1, "epoch": 1},
        {"kind": ["progress"]},
        {"kind": None},
        {"kind": "progress", "step": 1, "epoch": 1, "loss": [0.1], "accuracy": [0.5], "more": 1},
        {"kind": "probed", "step": 1, "epoch": 1, "unit": 3},
        {"kind": "probed", "step": 1, "epoch": 1, "unit": {"layers": []}},
    ],
    ids=str,
)
def test_what_is_no_event_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(MdfaError) as caught:
        from_dict(fields)
    assert "\n" not in str(caught.value)


def test_a_probe_says_whether_it_looked_at_a_sample() -> None:
    for sample, units in ((None, None), (Sample(units=4, examples=2), 4)):
        probed = _of(Probed, train(SMALL, device="cpu", probe=Every(epochs=1), sample=sample))
        assert {event.units for event in probed} == {units}
        assert {len(event.unit.layers) for event in probed} == {1}


def test_a_sealed_run_learns_the_same_without_a_look_at_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    gather = ArraySplit.gather

    def spied(self: ArraySplit, index: torch.Tensor) -> torch.Tensor:
        opened.append(self.part)
        return gather(self, index)

    monkeypatch.setattr(ArraySplit, "gather", spied)
    sealed = _trained(SMALL, test=False)
    assert opened
    assert "test" not in opened
    whole = _trained(SMALL)
    assert opened.count("test") == 1  # 500 images at a time

    assert _of(Evaluated, sealed) == _of(Evaluated, whole)
    (without,), (with_test,) = _of(Finished, sealed), _of(Finished, whole)
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


# ----------------------------------------------------------------------------------------------------- another method


@pytest.mark.parametrize("name", list(METHODS))
def test_another_method_goes_on_with_the_same_weights(name: str) -> None:
    run = Run(SMALL.replace(method="fa", optimizer="adam"), device="cpu")
    list(run.events(steps=2))
    before = run.learner.parameters.clone()
    slots = [slot.clone() for slots in run.learner.descent.slots for slot in slots]
    run.set_method(name)
    for number, (now, then) in enumerate(zip(run.learner.parameters.weights, before.weights, strict=True)):
        constrained = METHODS[name].constraint.covers(number)
        assert torch.equal(now, then.clamp(min=1e-6) if constrained else then)
    assert all(map(torch.equal, run.learner.parameters.biases, before.biases))
    assert all(map(torch.equal, [slot for slots in run.learner.descent.slots for slot in slots], slots))
    assert run.learner.descent.step == 2
    assert run.experiments[0].method == name
    fresh = Run(SMALL.replace(method=name), device="cpu")
    assert all(map(torch.equal, run.learner.feedback, fresh.learner.feedback))
    assert len(_of(Finished, list(run.events()))) == 1
    for number, weight in enumerate(run.learner.parameters.weights):
        if METHODS[name].constraint.covers(number):
            assert bool((weight >= 1e-6).all())


def test_a_method_that_is_set_at_once_learns_as_if_it_had_been_chosen() -> None:
    run = Run([SMALL.replace(method="fa", seed=seed) for seed in (0, 1)], device="cpu")
    run.set_learning_rate(0.05)
    run.set_method("dfa")
    chosen = [SMALL.replace(method="dfa", seed=seed, learning_rate=0.05) for seed in (0, 1)]
    assert _lines(run.events(progress=Every(steps=1))) == _lines(train(chosen, device="cpu", progress=Every(steps=1)))


def test_a_method_without_a_name_learns_but_is_not_saved(tmp_path: Path) -> None:
    run = Run(SMALL, device="cpu")
    free = dataclasses.replace(METHODS["mdfa"], title="free mDFA", constraint=Constraint(None, feedback=True))
    run.set_method(free)
    run.set_learning_rate(1.0)
    list(run.events(steps=3))
    assert bool((run.learner.parameters.weights[1] < 0).any())
    assert all(bool((b >= 0).all()) for b in run.learner.feedback)
    with pytest.raises(CheckpointError, match="free mDFA, which is not in the table METHODS"):
        run.save(tmp_path / "run.pt")
    run.set_method("mdfa")
    run.save(tmp_path / "run.pt")


def test_a_saved_run_goes_on_with_the_method_it_was_given(tmp_path: Path) -> None:
    run = Run(SMALL.replace(method="bp"), device="cpu")
    list(run.events(steps=2))
    run.set_method("mdfa")
    list(run.events(steps=1))
    run.save(tmp_path / "run.pt")
    rest = _lines(run.events(probe=Every(steps=1)))
    assert _lines(Run.load(tmp_path / "run.pt", device="cpu").events(probe=Every(steps=1))) == rest


def test_a_method_that_is_unknown_or_cannot_be_fed_changes_nothing() -> None:
    run = Run(SMALL.replace(method="bp", feedback_init="uniform:1e-9"), device="cpu")
    learner = run.learner
    with pytest.raises(UnknownName, match="unknown method 'nonsense'"):
        run.set_method("nonsense")
    with pytest.raises(InvalidValue, match="choose a larger scale"):
        run.set_method("mdfa")
    assert run.learner is learner
    assert run.experiments[0].method == "bp"
