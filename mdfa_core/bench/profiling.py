"""Where the time of a training step goes, operator by operator."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from mdfa_core.bench.cases import Case
from mdfa_core.bench.settings import Settings


@dataclass(frozen=True)
class Operator:
    """One kind of PyTorch operator on operands of one set of shapes.

    Attributes:
        name: as PyTorch calls it.
        shapes: of its tensors.
        calls: a step.
        seconds: a step, without the operators it calls.
        share: of the whole step's operator time.
    """

    name: str
    shapes: str
    calls: float
    seconds: float
    share: float


def profile(case: Case, settings: Settings) -> list[Operator]:
    """The operators of this project's step, the costliest first; the profiler itself makes each a little slower."""
    steps = 3 if settings.quick else 50
    with settings.in_force():
        step = case.ours(settings.numbers)
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
    """Keep off the screen what the profiler's library writes there about starting and stopping."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
