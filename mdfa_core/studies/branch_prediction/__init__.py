"""Branch prediction, the application the paper ends with: traces, predictors, and the cost of an update.

`record` traces a program with QEMU; `read_bt9` and `read_cbp2025` read championship traces. `prequential` measures a
predictor on a trace: one in `PREDICTORS`, or a `DeepPredictor` that learns online. `update_cost` counts the
multiply-adds of a step.
"""

from mdfa_core.studies.branch_prediction.bt9 import read_bt9, write_bt9
from mdfa_core.studies.branch_prediction.cbp2025 import read_cbp2025
from mdfa_core.studies.branch_prediction.cost import UpdateCost, has_cost, tree_paths, update_cost
from mdfa_core.studies.branch_prediction.deep import METHODS_COMPILED, DeepPredictor
from mdfa_core.studies.branch_prediction.formats import read_any
from mdfa_core.studies.branch_prediction.latency import StepTime, step_time
from mdfa_core.studies.branch_prediction.predictors import (
    PREDICTORS,
    AlwaysTaken,
    Bimodal,
    Geometric,
    GShare,
    Perceptron,
    Predictor,
    Tage,
)
from mdfa_core.studies.branch_prediction.recording import record
from mdfa_core.studies.branch_prediction.scoring import PredictionScore, prequential
from mdfa_core.studies.branch_prediction.traces import EXAMPLES, BranchTrace, example, read_trace, write_trace

__all__ = [
    "EXAMPLES",
    "METHODS_COMPILED",
    "PREDICTORS",
    "AlwaysTaken",
    "Bimodal",
    "BranchTrace",
    "DeepPredictor",
    "GShare",
    "Geometric",
    "Perceptron",
    "PredictionScore",
    "Predictor",
    "StepTime",
    "Tage",
    "UpdateCost",
    "example",
    "has_cost",
    "prequential",
    "read_any",
    "read_bt9",
    "read_cbp2025",
    "read_trace",
    "record",
    "step_time",
    "tree_paths",
    "update_cost",
    "write_bt9",
    "write_trace",
]
