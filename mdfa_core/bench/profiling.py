"""A profile of a training step: time per PyTorch operator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from mdfa_core.bench.settings import Settings
from mdfa_core.bench.workloads import Workload


@dataclass(frozen=True)
class Operator:
    """A PyTorch operator on operands of certain shapes.

    Attributes:
        name: PyTorch's name of the operator.
        shapes: shapes of its tensors.
        calls: calls per step.
        seconds: time per step, without the operators it calls.
        share: share of the step's total operator time.
    """

    name: str
    shapes: str
    calls: float
    seconds: float
    share: float


def profile(workload: Workload, settings: Settings) -> list[Operator]:
    """The operators of this project's training step, slowest first. The profiler slows each call a little."""
    steps = 3 if settings.quick else 50
    with settings.in_force():
        step = workload.our_step(settings.dtypes)
        for _ in range(3):
            step()
        profiler = torch_profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True)
        with _quiet():
            profiler.start()
            for _ in range(steps):
                step()
            profiler.stop()
    averages = profiler.key_averages(group_by_input_shape=True)
    total = sum(item.self_cpu_time_total for item in averages) or 1.0
    operators = [
        Operator(
            name=item.key,
            shapes=" ".join("×".join(map(str, shape)) for shape in item.input_shapes or [] if shape),
            calls=item.count / steps,
            seconds=item.self_cpu_time_total / steps / 1e6,
            share=item.self_cpu_time_total / total,
        )
        for item in averages
    ]
    return sorted(operators, key=lambda operator: -operator.seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages that the profiler's library writes to standard error."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
