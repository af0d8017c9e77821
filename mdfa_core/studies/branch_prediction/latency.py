"""The time of one compiled step: from the inputs to the prediction, and from the outcome to the last changed weight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.studies.branch_prediction.deep import DeepPredictor


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Time of one step, in seconds.

    Attributes:
        forward: from the inputs to z, on one core.
        update: from the outcome to the last changed weight.
        step: both, one after the other.
    """

    forward: float
    update: float
    step: float


def step_time(predictor: DeepPredictor, *, steps: int = 100, repeats: int = 100, threads: int = 1) -> StepTime:
    """Time forward passes and updates of a predictor's first network, in loops of their own.

    Each forward pass begins after the one before: its sign is an input of the next. Errors alternate between ±½ and
    the learning rate is 10⁻⁶, so the weights hardly change. The result is the minimum over the repeats, since other
    programs only slow a loop down.

    With two threads, each has half of the layers, predicts with them and changes their weights. The second one waits
    for the first one in a loop, so no time is spent waking it. With DFA and mDFA, both update at the same time. With BP
    and FA, the first one waits for the error of its last layer, and the second one meanwhile changes its weights.

    Args:
        predictor: the predictor; its weights change.
        steps: passes of a loop.
        repeats: loops.
        threads: 1 or 2.

    Raises:
        InvalidValue: `steps` or `repeats` is below 1, or `threads` is not 1, or 2 with a hidden layer.
    """
    if min(steps, repeats) < 1:
        raise InvalidValue(f"{steps} steps and {repeats} repeats were given: give at least 1 of each")
    if threads not in (1, 2):
        raise InvalidValue(f"{threads} threads were given: give 1 or 2")
    if threads == 2 and not predictor.layers:
        raise InvalidValue("two threads need two layers: give at least one hidden layer")
    from mdfa_core.studies.branch_prediction import loops

    net = loops.net_of(predictor)

    def timed(loop: Callable[..., object], *args: object) -> float:
        return _least(lambda: loop(steps, net, *args), repeats) / steps

    forward = timed(loops.forwards)
    if threads == 1:
        return StepTime(forward=forward, update=timed(loops.updates, False), step=timed(loops.updates, True))
    lower, upper = loops.halves(net)

    def shared(predict: bool) -> float:
        flags = np.zeros(loops.FLAGS, np.int64)
        helper = threading.Thread(target=loops.serve, args=(net, upper, predict, flags), daemon=True)
        helper.start()
        try:
            return timed(loops.shared_updates, lower, predict, flags)
        finally:
            loops.stop(flags)
            helper.join()

    return StepTime(forward=forward, update=shared(False), step=shared(True))


def _least(loop: Callable[[], object], repeats: int) -> float:
    loop()  # compile
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        loop()
        best = min(best, time.perf_counter() - start)
    return float(best)
