"""Mini-batches show every image once per epoch, and evaluations cover whole splits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import METHODS, Every, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import DataSet, Split
from mdfa_core.training.events import (
    Evaluated,
    Finished,
    Progress,
)
from tests.support.runs import (
    SMALL,
    numbered_images,
    numbers_of,
    of_kind,
    trained,
)


def test_an_epoch_shows_every_training_image_once_in_an_order_of_its_own(
    data_set: Callable[[DataSet], str],
) -> None:
    name = data_set(numbered_images(600))
    run = Run(Experiment(data=name, network="fc:2", batch_size=64, drop_last=False, epochs=3), device="cpu")
    assert run.steps_per_epoch == 8  # of 510

    epochs = []
    for epoch in range(3):
        numbers: list[int] = []
        for place in range(8):
            inputs, labels = run.batch(8 * epoch + place + 1)
            shown = numbers_of(inputs)
            own = run.tasks[0].class_ids  # label i is class own[i], and a number's class is its parity
            assert [own[label] for label in labels[0].tolist()] == [number % 2 for number in shown]
            assert len(shown) == (64 if place < 7 else 510 - 7 * 64)
            numbers += shown
        assert sorted(numbers) == run.tasks[0].train.indices.tolist()
        assert numbers != sorted(numbers)
        epochs.append(tuple(numbers))
    assert len(set(epochs)) == 3


def test_without_the_last_batch_an_epoch_shows_no_image_twice(data_set: Callable[[DataSet], str]) -> None:
    name = data_set(numbered_images(600))
    run = Run(Experiment(data=name, network="fc:2", batch_size=64, epochs=2), device="cpu")

    left_out = []
    for epoch in range(2):
        numbers = [number for place in range(7) for number in numbers_of(run.batch(7 * epoch + place + 1)[0])]
        assert len(numbers) == len(set(numbers)) == 448
        left_out.append(set(run.tasks[0].train.indices.tolist()) - set(numbers))
    assert left_out[0] != left_out[1]


def test_methods_with_one_seed_see_the_same_batches_and_seeds_do_not(data_set: Callable[[DataSet], str]) -> None:
    name = data_set(numbered_images(600))
    base = Experiment(data=name, network="fc:2", epochs=1)

    def order(experiment: Experiment) -> tuple[int, ...]:
        run = Run(experiment, device="cpu")
        return tuple(number for step in range(1, run.steps + 1) for number in numbers_of(run.batch(step)[0]))

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
    single = of_kind(Progress, trained(experiment, progress=Every(steps=1)))
    sizes = [100, 100, 39] * 2

    for every, groups in [(Every(epochs=1), [(0, 3), (3, 6)]), (Every(steps=4), [(0, 4), (4, 6)])]:
        means = of_kind(Progress, trained(experiment, progress=every))
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
    name = data_set(numbered_images(1237, test=1111))
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
