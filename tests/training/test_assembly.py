"""Stacks: a replica alone equals itself in a stack, and which experiments make a stack."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from mdfa_core import OPTIMIZERS, Every, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.training.assembly import VARYING
from tests.support.runs import (
    CASES,
    NETS,
    OFTEN,
    SMALL,
    lines,
    of_replica,
    trained,
)

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


# Every method, optimizer and kind of difference, not their product.
STACKS = [
    *(("mdfa", NETS["fc"], "sgd", varied) for varied in VARIED),
    *(("mdfa", NETS["fc"], optimizer, "everything") for optimizer in OPTIMIZERS if optimizer != "sgd"),
    *((method, net, "sgd", "everything") for method, net in CASES if (method, net) != ("mdfa", NETS["fc"])),
]


@pytest.mark.parametrize(("method", "net", "optimizer", "varied"), STACKS)
def test_a_replica_alone_equals_itself_in_a_stack(method: str, net: str, optimizer: str, varied: str) -> None:
    base = Experiment(method=method, network=net, optimizer=optimizer, epochs=2)
    experiments = [base.replace(**changes) for changes in VARIED[varied]]
    together = trained(experiments, **OFTEN)
    for replica, experiment in enumerate(experiments):
        assert of_replica(together, replica) == of_replica(trained(experiment, **OFTEN), 0), replica


@pytest.mark.parametrize(
    ("method", "optimizer", "threads", "varied"),
    [
        ("bp", "sgd", 1, "everything"),
        ("mdfa", "rmsprop", 1, "one batch, other rates and starts"),
        pytest.param("bp", "sgd", 2, "one batch, other rates and starts", marks=pytest.mark.slow),
        pytest.param("mdfa", "rmsprop", 2, "everything", marks=pytest.mark.slow),
    ],
)
def test_a_replica_of_a_large_net_equals_itself(method: str, optimizer: str, threads: int, varied: str) -> None:
    """Large enough for other kernels than the small nets take, and for threads to share one product."""
    torch.set_num_threads(threads)
    base = Experiment(method=method, network="fc:1024,512", optimizer=optimizer, epochs=1)
    experiments = [base.replace(**changes) for changes in VARIED[varied][:2]]
    pace = {"progress": Every(steps=1), "probe": Every(steps=2)}

    together = trained(experiments, **pace)

    for replica, experiment in enumerate(experiments):
        assert of_replica(together, replica) == of_replica(trained(experiment, **pace), 0)


@pytest.mark.parametrize("outputs", [2, 3])
def test_a_replica_equals_itself_with_several_outputs_and_ragged_batches(outputs: int) -> None:
    base = Experiment(network="fc:8", outputs=outputs, epochs=2, batch_size=50, drop_last=False, task_seed=1)
    experiments = [base.replace(seed=seed, learning_rate=0.1 / (seed + 1)) for seed in range(3)]

    together = trained(experiments, **OFTEN)

    for replica, experiment in enumerate(experiments):
        assert of_replica(together, replica) == of_replica(trained(experiment, **OFTEN), 0)


@pytest.mark.parametrize("batch_size", [16, 31, 32, 48])
@pytest.mark.parametrize("varied", [{}, {"learning_rate": 0.1}, {"method": "bp", "learning_rate": 0.1}], ids=str)
def test_a_replica_equals_itself_with_any_number_of_examples(batch_size: int, varied: dict[str, Any]) -> None:
    """With one output few numbers are made of an example: too few for one batch to show what last bits depend on."""
    base = Experiment(batch_size=batch_size, task_seed=0, epochs=1, **varied)
    experiments = [base.replace(seed=seed) for seed in range(5)]

    together = trained(experiments)

    for replica, experiment in enumerate(experiments):
        assert of_replica(together, replica) == of_replica(trained(experiment), 0)


def test_one_experiment_is_a_stack_of_one() -> None:
    assert lines(trained(SMALL)) == lines(trained([SMALL])) == lines(trained((SMALL,)))


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
    "loss_scale": "sum",
    "evaluation": "released",
    "engine": "compiled",
}


@pytest.mark.parametrize("setting", OTHER)
def test_replicas_that_differ_in_what_a_stack_shares_are_refused(setting: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Run([SMALL, SMALL.replace(**{setting: OTHER[setting]})], device="cpu")

    assert f"differ in {setting.replace('_', ' ')} " in str(caught.value)
    assert repr(OTHER[setting]) in str(caught.value)
    for name in VARYING:
        assert name in str(caught.value)


@pytest.mark.parametrize("method", ["bp", "fa", "mdfa"])
def test_a_summed_loss_is_a_rate_as_many_times_larger(method: str) -> None:
    """With 64 examples, a power of two, SGD gives the same weights to the last bit."""
    mean = Run(SMALL.replace(method=method, batch_size=64, learning_rate=0.64), device="cpu")
    total = Run(SMALL.replace(method=method, batch_size=64, learning_rate=0.01, loss_scale="sum"), device="cpu")
    for run in (mean, total):
        list(run.events())

    for ours, theirs in zip(mean.learner.parameters.tensors(), total.learner.parameters.tensors(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_setting_is_shared_or_varies() -> None:
    assert set(OTHER) | VARYING == {setting.name for setting in dataclasses.fields(Experiment)}
    assert not set(OTHER) & VARYING


def test_tasks_of_unequal_numbers_of_batches_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"239, 141 training images.*separate stacks"):
        Run([SMALL, SMALL.replace(validation=0.5)], device="cpu")
    with pytest.raises(InvalidValue, match=r"239, 243 training images.*separate stacks"):
        # The same number of batches, but the last ones differ in size.
        Run([SMALL.replace(drop_last=False, seed=seed) for seed in (0, 1)], device="cpu")
