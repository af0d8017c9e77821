"""From experiments to tasks, network and learner; weights and feedback are drawn from the experiments' seeds.

Axes: R replica.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.text import spoken
from mdfa_core.compute import kernels
from mdfa_core.compute.kernels import precision_named
from mdfa_core.data import DATASETS, Task, TaskCache
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.initializers import parse as parse_initializer
from mdfa_core.nets.networks import Network, Parameters, parse_architecture
from mdfa_core.rules.methods import METHODS, Method
from mdfa_core.training.experiment import Experiment

VARYING = frozenset(
    {"seed", "task_seed", "learning_rate", "l2", "forward_init", "feedback_init", "convention", "validation"}
)
"""Settings in which the replicas of one stack may differ."""


def load_tasks(experiments: Sequence[Experiment], cache: TaskCache, *, test: bool) -> tuple[Task, ...]:
    """The task of each experiment; experiments with the same task share one object.

    Args:
        experiments: R experiments that differ only in `VARYING`.
        cache: reads the data, or has read it already.
        test: False removes the test images, so that nothing can read them.

    Raises:
        DataError: the data is missing or broken.
        InvalidValue: the data set has fewer classes, or no images of this size.
    """
    loaded: dict[tuple[int, float], Task] = {}
    for experiment in experiments:
        key = (experiment.effective_task_seed, experiment.validation)
        if key not in loaded:
            task = cache.load(experiment.data, **experiment.task_settings)
            loaded[key] = task if test else task.sealed()
    return tuple(loaded[(e.effective_task_seed, e.validation)] for e in experiments)


def build_network(experiment: Experiment) -> Network:
    """The network of an experiment, for images of its data set; no image is read.

    Raises:
        InvalidValue: the data set has no images of this size.
        GeometryError: the network does not fit the images.
    """
    return Network(
        parse_architecture(experiment.network),
        DATASETS[experiment.data].shape(experiment.image_size),
        experiment.outputs,
        ACTIVATIONS[experiment.activation],
        precision_named(experiment.precision),
    )


def build_learner(experiments: Sequence[Experiment], network: Network, device: torch.device) -> Learner:
    """A learner of R replicas, one per experiment, with weights and feedback drawn from each experiment's seed.

    Args:
        experiments: R experiments that differ only in `VARYING`.
        network: the network of all of them, as `build_network` makes it.
        device: the device of its tensors.

    Raises:
        InvalidValue: the learning rule cannot use the feedback's distribution.
    """
    shared = experiments[0]
    method = METHODS[shared.method]
    drawn = [
        method.initial_parameters(
            network, parse_initializer(e.forward_init), seed=e.seed, convention=e.convention, floor=e.floor
        )
        for e in experiments
    ]
    return Learner(
        network,
        method,
        OPTIMIZERS[shared.optimizer],
        Parameters.stack(drawn, device),
        draw_feedback(method, experiments, network, device),
        learning_rates=[e.learning_rate for e in experiments],
        l2=[e.l2 for e in experiments],
        floor=shared.floor,
        seeds=[e.seed for e in experiments],
        loss_scale=shared.loss_scale,
    )


def draw_feedback(
    method: Method, experiments: Sequence[Experiment], network: Network, device: torch.device
) -> list[Tensor]:
    """The feedback that `method` needs, drawn from each experiment's seed: one stack [R, …] per feedback tensor.

    Raises:
        InvalidValue: the learning rule cannot use an experiment's distribution.
    """
    drawn = [
        method.initial_feedback(network, parse_initializer(e.feedback_init), seed=e.seed, convention=e.convention)
        for e in experiments
    ]
    return [kernels.stack([b[0].to(device) for b in column]) for column in zip(*drawn, strict=True)]


def shared_settings(experiments: Sequence[Experiment]) -> Experiment:
    """The first experiment, which stands for the settings that all experiments of a stack have in common.

    Raises:
        InvalidValue: there is no experiment, or two differ in a setting outside `VARYING`.
    """
    if not experiments:
        raise InvalidValue("there are no experiments: give at least one")
    first = experiments[0].to_dict()
    for experiment in experiments[1:]:
        for name, value in experiment.to_dict().items():
            if name not in VARYING and value != first[name]:
                raise InvalidValue(
                    f"the replicas of one stack differ in {spoken(name)} ({first[name]!r} and {value!r}): "
                    f"only {', '.join(sorted(VARYING))} may differ; run them as separate stacks"
                )
    return experiments[0]


def shared_steps_per_epoch(experiment: Experiment, train_examples: Sequence[int]) -> int:
    """Mini-batches in one epoch of every replica, given each replica's number of training images.

    Raises:
        InvalidValue: a task has fewer training images than one mini-batch needs, or the replicas' mini-batches differ
            in number or size.
    """
    counts = {experiment.steps_per_epoch(examples) for examples in train_examples}
    if min(counts) == 0:
        raise InvalidValue(
            f"the batch size is {experiment.batch_size}, but a task has only {min(train_examples)} training images: "
            f"give a smaller batch size, or keep incomplete batches with drop last off"
        )
    last_batches_differ = not experiment.drop_last and len(set(train_examples)) > 1
    if len(counts) > 1 or last_batches_differ:
        raise InvalidValue(
            f"the replicas' tasks have {', '.join(map(str, train_examples))} training images, which gives them unequal "
            f"mini-batches: run them as separate stacks"
        )
    return counts.pop()
