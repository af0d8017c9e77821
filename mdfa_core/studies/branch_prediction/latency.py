"""The time of one compiled step: from the inputs to the prediction, and from the outcome to the last changed weight."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.branch_prediction.deep import _TRANSPORTS, DeepPredictor, _forward, _update
from mdfa_core.studies.branch_prediction.jit import compiled


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Time of one step on one core, in seconds.

    Attributes:
        forward: from the inputs to z.
        update: from the outcome to the last changed weight.
    """

    forward: float
    update: float


def step_time(predictor: DeepPredictor, *, steps: int = 100, repeats: int = 100) -> StepTime:
    """Time forward passes and updates of a predictor's first network, in loops of their own.

    Each forward pass begins after the one before: its sign is an input of the next. The weights change by so little
    that their values do not matter. The result is the minimum over the repeats, since other programs only slow a loop
    down.

    Args:
        predictor: the predictor; its weights change.
        steps: passes of a loop.
        repeats: loops.

    Raises:
        InvalidValue: `steps` or `repeats` is below 1.
    """
    if min(steps, repeats) < 1:
        raise InvalidValue(f"{steps} steps and {repeats} repeats were given: give at least 1 of each")
    p = predictor
    h = np.zeros((p.layers, p.width), np.float32)
    delta = np.zeros_like(h)
    one = (p.x, p.coded[0, 0], p.dense[0], p.hidden[0], p.out[0], p.biases[0])
    fixed = (p.direct, p.chain, p.chain_out)
    how = (np.float32(1e-6), _TRANSPORTS[p.method], p.method == "mdfa", p.step, p.random)
    best = [np.inf, np.inf]
    for repeat in range(repeats + 1):
        for which, loop in enumerate(
            (
                lambda: _forwards(steps, *one, p.out_bias[0], h),
                lambda: _updates(steps, *one, *fixed, *how, h, delta),
            )
        ):
            start = time.perf_counter()
            loop()
            if repeat:  # the first round compiles
                best[which] = min(best[which], time.perf_counter() - start)
    return StepTime(forward=best[0] / steps, update=best[1] / steps)


@compiled
def _forwards(steps, x, column, dense, hidden, out, biases, out_bias, h):  # type: ignore[no-untyped-def]
    for _ in range(steps):
        z = _forward(x, column, dense, hidden, out, biases, out_bias, h)
        x[0] = np.float32(1) if z > 0 else np.float32(-1)


@compiled
def _updates(  # type: ignore[no-untyped-def]
    steps,
    x,
    column,
    dense,
    hidden,
    out,
    biases,
    direct,
    chain,
    chain_out,
    rate,
    transport,
    mono,
    step,
    random,
    h,
    delta,
):
    for n in range(steps):
        e = np.float32(0.5) if n % 2 else np.float32(-0.5)
        _update(
            e,
            x,
            column,
            dense,
            hidden,
            out,
            biases,
            direct,
            chain,
            chain_out,
            rate,
            transport,
            mono,
            step,
            random,
            h,
            delta,
        )
