"""Branch prediction: real branch traces, published predictors, deep nets that learn online, and what a step costs."""

from mdfa_core.branches.cost import UpdateCost, has_cost, update_cost
from mdfa_core.branches.deep import PC_CODES, DeepPredictor
from mdfa_core.branches.predictors import (
    PREDICTORS,
    AlwaysTaken,
    Bimodal,
    GShare,
    Perceptron,
    Predictor,
    TaggedGeometric,
)
from mdfa_core.branches.prequential import Outcome, prequential
from mdfa_core.branches.programs import PROGRAMS
from mdfa_core.branches.recording import record
from mdfa_core.branches.traces import BranchTrace, read_bt9, write_bt9

__all__ = [
    "PC_CODES",
    "PREDICTORS",
    "PROGRAMS",
    "AlwaysTaken",
    "Bimodal",
    "BranchTrace",
    "DeepPredictor",
    "GShare",
    "Outcome",
    "Perceptron",
    "Predictor",
    "TaggedGeometric",
    "UpdateCost",
    "has_cost",
    "prequential",
    "read_bt9",
    "record",
    "update_cost",
    "write_bt9",
]
