"""One run: the experiment, the network and learner made from it, the loop over mini-batches, its events and checkpoint.

`fit` trains to the end and returns a `History`. `train` yields events while it trains. A `Run` can be paused, changed,
saved and loaded. `predicted_memory` tells how much memory a run takes. `mdfa_core.training.inspection` looks into a run
for drawings.
"""

from mdfa_core.training.assembly import VARYING, build_learner, build_network
from mdfa_core.training.clock import Every
from mdfa_core.training.events import (
    EVENTS,
    Diverged,
    Evaluated,
    Event,
    Finished,
    Probed,
    Progress,
    Started,
)
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.history import QUANTITIES, History, fit
from mdfa_core.training.memory import predicted_memory
from mdfa_core.training.run import NUMERICS, Run, train

__all__ = [
    "EVENTS",
    "NUMERICS",
    "QUANTITIES",
    "VARYING",
    "Diverged",
    "Evaluated",
    "Event",
    "Every",
    "Experiment",
    "Finished",
    "History",
    "Probed",
    "Progress",
    "Run",
    "Started",
    "build_learner",
    "build_network",
    "fit",
    "predicted_memory",
    "train",
]
