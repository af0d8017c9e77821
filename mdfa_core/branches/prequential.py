"""Test-then-learn: every branch of a trace is predicted before its outcome is learned."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mdfa_core.branches.predictors import Predictor
from mdfa_core.branches.traces import BranchTrace
from mdfa_core.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a predictor did on a trace.

    Attributes:
        branches: number of predictions.
        wrong: number of mispredictions.
        seconds: time of all predictions and updates.
    """

    branches: int
    wrong: int
    seconds: float

    @property
    def rate(self) -> float:
        """Misprediction rate, wrong / branches."""
        return self.wrong / self.branches

    @property
    def updates_per_second(self) -> float:
        """Branches predicted and learned in a second."""
        return self.branches / self.seconds


def prequential(predictor: Predictor, trace: BranchTrace) -> Outcome:
    """Predict and then learn every branch of a trace, in order; the predictor is changed.

    Source: A. P. Dawid, "Present position and potential developments: the prequential approach", 1984.

    Raises:
        DataError: the trace is empty.
    """
    if not len(trace):
        raise DataError("the trace has no conditional branch: record a longer one")
    wrong, start = 0, time.perf_counter()
    for pc, taken in trace:
        wrong += predictor.predict(pc) != taken
        predictor.update(pc, taken)
    return Outcome(branches=len(trace), wrong=wrong, seconds=time.perf_counter() - start)
