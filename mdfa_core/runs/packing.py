"""Packing: which experiments train together as one replica stack."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from mdfa_core.learning.learner import BATCHED_WEIGHTS
from mdfa_core.runs.capacity import SHARE, free_memory, in_words
from mdfa_core.runs.workers import task_summary
from mdfa_core.training.assembly import VARYING, build_network
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.memory import predicted_memory, probe_memory

_LOG = logging.getLogger(__name__)
_MOST = 64  # replicas of one stack on a CPU: more do not make a step cheaper, and an interrupted stack loses more time


def packed(
    experiments: Iterable[Experiment],
    *,
    device: str = "cpu",
    data_dir: str | None = None,
    memory: int | None = None,
    at_least: int = 1,
    probed: bool = False,
) -> list[tuple[Experiment, ...]]:
    """Group experiments into stacks.

    The replicas of a stack share all settings except `VARYING`, and have equally many training images. On a CPU, a
    stack has at most as many replicas as one step can compute in batched calls. On every device, a stack has at most as
    many replicas as fit into memory; if that splits a stack, a message is logged. A single replica is always a stack,
    even if it is too large.

    Args:
        experiments: in any order.
        device: the device they will run on.
        data_dir: as for `load_task`.
        memory: bytes that are free for one stack; packing uses at most four fifths of them. The default is the free
            memory of this machine's device divided by `at_least`.
        at_least: the least number of stacks if there are as many experiments, so that as many workers have a job.
        probed: whether sign agreement is measured in the whole network; every replica then needs `probe_memory`, too.
    """
    budget = free_memory(device) // at_least if memory is None else memory
    groups: dict[tuple[Any, ...], list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        summary = task_summary(experiment, data_dir)
        shared = tuple(item for item in experiment.to_dict().items() if item[0] not in VARYING)
        groups[(*shared, summary.train)].append(experiment)
    most_each = max(1, -(-sum(map(len, groups.values())) // at_least))
    stacks: list[tuple[Experiment, ...]] = []
    for group in groups.values():
        needed = predicted_memory(group[0], device) + (probe_memory(group[0]) if probed else 0)
        fits = max(1, int(budget * SHARE) // needed)
        useful = min(len(group), most_each)
        if device == "cpu":
            useful = min(useful, _MOST, max(1, BATCHED_WEIGHTS // build_network(group[0]).parameter_count))
        size = min(fits, useful)
        if size < useful:
            _LOG.info(
                "a stack of %d replicas needs about %s of memory, and it may use %s: it is split into stacks of %d",
                useful,
                in_words(useful * needed),
                in_words(int(budget * SHARE)),
                size,
            )
        stacks += [tuple(group[start : start + size]) for start in range(0, len(group), size)]
    return stacks
