"""A laboratory for learning without backpropagation.

Train a network on images by monotone direct feedback alignment (Lechner, ICLR 2020), by backpropagation or by other
learning rules, and measure how often each unit's error signal has the sign of the true gradient.

    >>> from mdfa_core import Every, Experiment, fit
    >>> history = fit(Experiment(method="mdfa", epochs=5), probe=Every(epochs=1))
    >>> history.sign_agreement, history.test_accuracy
    (1.0, 0.9...)

Experiment          the settings of one run, checked when made
fit, History        train to the end; final figures as attributes, `frame()` gives a table for pandas
train, Every        the same as a stream of events, with probes every so many steps, epochs or seconds
Run                 one run that can be stepped, inspected, saved and loaded
Network, Learner    a network and its learning rule, for loops of your own
OnlineLearner       a dense network that learns from one example at a time, compiled
METHODS             the learning rules by name; add your own with METHODS.add(name, rule)
ACTIVATIONS, INITIALIZERS, NETWORKS, OPTIMIZERS, DATASETS
                    the same for everything else that an Experiment names
MdfaError           base of every error that the package raises on purpose

Other rooms: mdfa_core.attach (your own torch.nn.Module under any rule), mdfa_core.runs (stores, sweeps, clusters),
mdfa_core.studies (the paper's tables, theorems and comparisons).
"""

from mdfa_core.base.distribution import VERSION as __version__

# Names are imported on first use: `mdfa --help` needs no PyTorch, and __main__ can tidy sys.path before anything large
# is imported. Type checkers read every name here; typing itself would be an import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mdfa_core.base.errors import MdfaError
    from mdfa_core.data import DATASETS
    from mdfa_core.learning.learner import Learner
    from mdfa_core.learning.optimizers import OPTIMIZERS
    from mdfa_core.nets.activations import ACTIVATIONS
    from mdfa_core.nets.initializers import INITIALIZERS
    from mdfa_core.nets.networks import NETWORKS, Network
    from mdfa_core.rules.methods import METHODS
    from mdfa_core.training.clock import Every
    from mdfa_core.training.experiment import Experiment
    from mdfa_core.training.history import History, fit
    from mdfa_core.training.online import OnlineLearner
    from mdfa_core.training.run import Run, train

_MODULES = {
    "ACTIVATIONS": "mdfa_core.nets.activations",
    "DATASETS": "mdfa_core.data",
    "INITIALIZERS": "mdfa_core.nets.initializers",
    "METHODS": "mdfa_core.rules.methods",
    "NETWORKS": "mdfa_core.nets.networks",
    "OPTIMIZERS": "mdfa_core.learning.optimizers",
    "Every": "mdfa_core.training.clock",
    "Experiment": "mdfa_core.training.experiment",
    "History": "mdfa_core.training.history",
    "Learner": "mdfa_core.learning.learner",
    "MdfaError": "mdfa_core.base.errors",
    "Network": "mdfa_core.nets.networks",
    "OnlineLearner": "mdfa_core.training.online",
    "Run": "mdfa_core.training.run",
    "fit": "mdfa_core.training.history",
    "train": "mdfa_core.training.run",
}

__all__ = [
    "ACTIVATIONS",
    "DATASETS",
    "INITIALIZERS",
    "METHODS",
    "NETWORKS",
    "OPTIMIZERS",
    "Every",
    "Experiment",
    "History",
    "Learner",
    "MdfaError",
    "Network",
    "OnlineLearner",
    "Run",
    "__version__",
    "fit",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})
