"""Prequential evaluation (test, then train): every branch is predicted before its outcome is learned.

Source: A. P. Dawid, "Present position and potential developments: the prequential approach", 1984.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mdfa_core.base.errors import DataError
from mdfa_core.studies.branch_prediction.predictors import Predictor
from mdfa_core.studies.branch_prediction.traces import BranchTrace


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionScore:
    """The result of a predictor on a trace.

    Attributes:
        wrong: whether each prediction was wrong; bool, shape (branches,).
        seconds: processor time of predictions and updates.
    """

    wrong: np.ndarray
    seconds: float

    @property
    def per_thousand(self) -> float:
        """Mispredictions per thousand branches."""
        return 1000 * float(self.wrong.mean())

    def curve(self, parts: int) -> np.ndarray:
        """Mispredictions per thousand branches in consecutive parts of equal length, up to one branch."""
        return np.array([1000 * part.mean() for part in np.array_split(self.wrong, min(parts, len(self.wrong)))])


def prequential(predictor: Predictor, trace: BranchTrace) -> PredictionScore:
    """Predict and then learn every branch of a trace in order. The predictor keeps what it learned.

    The first call of a kind of predictor also compiles it, which counts in `seconds`.

    Raises:
        DataError: the trace is empty.
    """
    if not len(trace):
        raise DataError("the trace has no conditional branch: record a longer one")
    start = time.process_time()
    made = predictor.predictions(trace)
    return PredictionScore(wrong=made != trace.taken, seconds=time.process_time() - start)
