"""How long runs take: the relative cost of jobs, and the measured time of an epoch."""

from __future__ import annotations

import os
import time
from statistics import fmean
from typing import Any

from mdfa_core.base import devices
from mdfa_core.compute import threads
from mdfa_core.learning.learner import Sums
from mdfa_core.learning.steps import StepRunner
from mdfa_core.runs.workers import Job, task_cache
from mdfa_core.training.assembly import build_network
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run

_TIMED = 6  # steps; the last half of them count
_rates: dict[tuple[Any, ...], float] = {}


def cost(job: Job) -> float:
    """Relative time of a job: number of weights × number of images; a convolution's weights count at every position."""
    network = build_network(job.experiments[0])
    work = sum(layer.multiply_adds for layer in network.layers)
    return float(len(job.experiments) * job.steps() * job.experiments[0].batch_size * work)


def seconds_an_epoch(
    experiment: Experiment, *, device: str = "auto", data_dir: str | os.PathLike[str] | None = None
) -> float:
    """Estimated seconds per epoch of one run, including evaluations.

    The function trains a few steps and measures their time, once for each combination of network, method, optimizer,
    data, batch size and device.
    """
    folder = None if data_dir is None else os.fspath(data_dir)
    job = Job(experiments=(experiment,), device=str(devices.resolve(device)), data_dir=folder)
    return job.steps() / experiment.epochs * _seconds_a_step(job)


def _seconds_a_step(job: Job) -> float:
    """Seconds per step of one replica, including its share of the evaluations."""
    first = job.experiments[0]
    kind = (first.network, first.method, first.optimizer, first.data, first.image_size, first.batch_size, job.device)
    if kind not in _rates:
        with threads.limited(job.threads):
            cache = task_cache(job.device, job.data_dir)
            run = Run(first.replace(epochs=max(first.epochs, _TIMED)), device=job.device, test=False, tasks=cache)
            sums = Sums.zeros(1, run.device)
            steps = StepRunner(run.learner, sums)
            taken = []
            for number in range(1, _TIMED + 1):
                began = time.perf_counter()
                steps.take(*run.batch(number))
                sums.loss.tolist()  # waits for the device
                taken.append(time.perf_counter() - began)
            step = fmean(taken[_TIMED // 2 :])
            # An evaluation is a forward pass, two fifths of a step, over training and validation images.
            _rates[kind] = step * (1 + 0.4 / max(1 - first.validation, 0.1))
    return _rates[kind]
