"""Learning without backpropagation: monotone Direct Feedback Alignment (Lechner, ICLR 2020) and its rivals."""

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.data import DATASETS
from mdfa_core.errors import MdfaError
from mdfa_core.experiment import Experiment
from mdfa_core.initializers import INITIALIZERS
from mdfa_core.learner import Learner
from mdfa_core.methods import METHODS
from mdfa_core.networks import NETWORKS, Network
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.training import Every, Run, train

__all__ = [
    "ACTIVATIONS",
    "DATASETS",
    "INITIALIZERS",
    "METHODS",
    "NETWORKS",
    "OPTIMIZERS",
    "Every",
    "Experiment",
    "Learner",
    "MdfaError",
    "Network",
    "Run",
    "train",
]
