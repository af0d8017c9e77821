"""The paper's rules for the outcome, checked by hand, and replicas that diverge."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import DATASETS, METHODS, Every, Experiment, Run
from mdfa_core.data import ArrayDataSet, Counts, DataSet, Images, StackedSplits
from mdfa_core.training.batches import evaluate
from mdfa_core.training.events import (
    Diverged,
    Evaluated,
    Event,
    Finished,
    Progress,
    Started,
    to_json,
)
from tests.support.references import PAIRS
from tests.support.runs import (
    ABSURD,
    OFTEN,
    SMALL,
    lines,
    of_kind,
    of_replica,
    trained,
)

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
    "DFA, unsteady": Experiment(method="dfa", network="fc:16", outputs=10, epochs=12, learning_rate=2.0),
    "mDFA, two classes": Experiment(network="fc:16", epochs=12, learning_rate=0.05),
    "BP, two classes": Experiment(method="bp", network="fc:16", epochs=12, learning_rate=0.5, seed=3),
    "convolutions": Experiment(method="dfa", network="conv:3/3/1,4/3/2", epochs=8, learning_rate=0.1),
}


@functools.cache
def _ruled(name: str) -> list[Event]:
    return trained(RULED[name])


@pytest.mark.parametrize("name", RULED)
def test_the_outcome_follows_the_papers_rules(name: str) -> None:
    experiment, events = RULED[name], _ruled(name)
    evaluated, finished = of_kind(Evaluated, events), events[-1]
    assert isinstance(finished, Finished)
    validation = [event.validation_accuracy[0] for event in evaluated]
    best = max(value for value in validation if value is not None)
    epoch = validation.index(best) + 1

    assert finished.best_train_accuracy[0] == max(event.train_accuracy[0] for event in evaluated)
    assert finished.best_validation_accuracy[0] == best
    assert finished.best_validation_epoch[0] == epoch
    assert finished.test_accuracy[0] == _test_accuracy_after(experiment, epoch)
    assert finished.diverged_at == (None,)


@pytest.mark.parametrize("epochs", [1, 3, 8])
def test_validation_before_each_epoch_leaves_the_final_weights_out_and_the_initial_ones_in(epochs: int) -> None:
    """The same weights as by the paper's evaluation: only the choice of those that are tested differs."""
    paper = Experiment(network="fc:8", learning_rate=0.003, epochs=epochs)
    after = trained(paper)
    before = trained(paper.replace(evaluation="released"))
    run = Run(paper, device="cpu")
    _, (initial,) = evaluate(run.learner, run.learner.parameters, [run.tasks[0].validation], StackedSplits)
    validation = [initial, *(event.validation_accuracy[0] or 0 for event in of_kind(Evaluated, after))][:-1]
    (finished,) = of_kind(Finished, before)

    assert lines(of_kind(Evaluated, before)) == lines(of_kind(Evaluated, after))
    assert finished.best_validation_accuracy[0] == max(validation)
    assert finished.best_validation_epoch[0] == validation.index(max(validation))
    assert finished.best_train_accuracy == of_kind(Finished, after)[0].best_train_accuracy


def test_a_run_that_validates_before_its_epochs_continues_from_a_checkpoint(tmp_path: Path) -> None:
    experiment = Experiment(network="fc:8", epochs=3, evaluation="released", loss_scale="sum")
    whole = trained(experiment)
    run = Run(experiment, device="cpu")
    first = list(run.events(steps=1))  # within the first epoch: only the initial weights are validated
    run.save(tmp_path / "run.pt")
    rest = list(Run.load(tmp_path / "run.pt", device="cpu").events())

    assert lines([*first, *rest]) == lines(whole)


def test_the_cases_above_can_tell_rules_apart() -> None:
    """In some the best epoch is tied, is not the last, has another test accuracy; in one training was better before."""
    tied = other = inside = worse = 0
    for name, experiment in RULED.items():
        validation = [event.validation_accuracy[0] for event in of_kind(Evaluated, _ruled(name))]
        (finished,) = of_kind(Finished, _ruled(name))
        epoch = finished.best_validation_epoch[0]
        assert epoch is not None
        tied += validation.count(validation[epoch - 1]) > 1
        inside += epoch < experiment.epochs
        other += finished.test_accuracy[0] != _test_accuracy_after(experiment, experiment.epochs)
        worse += finished.best_train_accuracy[0] > of_kind(Evaluated, _ruled(name))[-1].train_accuracy[0]
    assert min(tied, other, inside) >= 2
    assert worse >= 1


def test_the_rules_hold_for_every_replica_by_itself() -> None:
    experiments = [RULED["FA, ten classes"].replace(seed=seed, learning_rate=rate) for seed, rate in ((2, 0.3), (1, 1))]

    finished = trained(experiments)[-1]

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

    events = trained(base.replace(data=data_set(entry(labels))))

    assert [event.validation_accuracy[0] for event in of_kind(Evaluated, events)] == [0.0] * 4
    assert isinstance(events[-1], Finished)
    assert events[-1].best_validation_accuracy == (0.0,)
    assert events[-1].best_validation_epoch == (1,)


@pytest.mark.parametrize("method", ["bp", "mdfa"])
def test_without_validation_images_the_final_weights_are_tested(method: str) -> None:
    experiment = Experiment(method=method, network="fc:16", outputs=10, epochs=5, learning_rate=0.5, validation=0)

    events = trained(experiment)
    evaluated, finished = of_kind(Evaluated, events), events[-1]

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
    def counts(self) -> Counts:
        return DATASETS["digits"].counts

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
    in_memory = trained([base.replace(data="digits", **change) for change in changes])[-1]
    assert to_json(finished) == to_json(in_memory)


# ----------------------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize(
    ("method", "optimizer"), [pair for pair in PAIRS if pair[1] != "rprop"]
)  # RPROP's steps are bounded
def test_one_diverging_replica_leaves_the_others_alone(method: str, optimizer: str) -> None:
    base = Experiment(method=method, network="fc:8,6", optimizer=optimizer, epochs=3)
    experiments = [base.replace(seed=0), base.replace(seed=1, learning_rate=ABSURD), base.replace(seed=4)]

    together = trained(experiments, **OFTEN)

    (diverged,) = of_kind(Diverged, together)
    assert (diverged.replica, diverged.seed) == (1, 1)
    assert not math.isfinite(diverged.loss)
    assert isinstance(together[-1], Finished)
    assert together[-1].step == 9
    assert together[-1].diverged_at == (None, diverged.step, None)
    for replica in (0, 2):
        mine = of_replica((e for e in together if not isinstance(e, Diverged)), replica)
        assert mine == of_replica(trained(experiments[replica], **OFTEN), 0)
    for event in together:
        if isinstance(event, Progress) and event.step >= diverged.step:
            assert math.isnan(event.loss[1])
            assert math.isnan(event.accuracy[1])
        if isinstance(event, Evaluated) and event.step >= diverged.step:
            assert math.isnan(event.train_accuracy[1])
            assert event.validation_accuracy[1] is None
    assert of_kind(Evaluated, together)[0].step >= diverged.step  # before the end of the first epoch
    assert together[-1].best_train_accuracy[1] is None
    assert together[-1].best_validation_epoch[1] is None
    assert together[-1].test_accuracy[1] is None


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_when_every_replica_has_diverged(method: str) -> None:
    base = Experiment(method=method, network="fc:8", learning_rate=ABSURD, epochs=50)
    run = Run([base.replace(seed=0), base.replace(seed=1)], device="cpu")

    events = list(run.events())

    diverged, finished = of_kind(Diverged, events), events[-1]
    assert sorted(event.replica for event in diverged) == [0, 1]
    assert isinstance(finished, Finished)
    assert run.finished
    assert finished.step == max(event.step for event in diverged) < 150
    assert finished.diverged_at == tuple(e.step for e in sorted(diverged, key=lambda e: e.replica))
    assert list(run.events()) == []


# A linear net at a rate just too large: its weights grow for some epochs before they leave float32.
SLOWLY = Experiment(method="bp", network="fc:8", activation="identity", learning_rate=0.1, l2=25.0, epochs=60)


def test_what_was_reached_before_diverging_counts() -> None:
    events = trained(SLOWLY)
    (diverged,), finished = of_kind(Diverged, events), events[-1]
    assert isinstance(finished, Finished)
    before = [event for event in of_kind(Evaluated, events) if event.step < diverged.step]

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
    usual = [event for event in trained(experiment) if not isinstance(event, Progress)]

    for progress in (Every(steps=1), Every(steps=5), Every(epochs=4), Every(seconds=1000)):
        events = [event for event in trained(experiment, progress=progress) if not isinstance(event, Progress)]
        assert lines(events) == lines(usual), progress
