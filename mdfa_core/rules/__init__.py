"""Learning rules: one file a family, each with its mathematics, its source and its entries in the table `METHODS`.

`transport` says what a rule has to answer, `methods` defines the table, and `drawing` draws any rule as the paper's
Figure 1 does. A new rule of this package is one new file and one line below.
"""

from mdfa_core.rules.methods import FREE, METHODS, MONO, Constraint, Guarantee, Method, Words, sign_guarantee
from mdfa_core.rules.transport import (
    Attachment,
    BackwardCost,
    FeedbackShape,
    LayerByLayer,
    Signals,
    StateShape,
    StepContext,
    Transport,
)

# isort: split
# METHODS lists the rules in the order of these imports.
from mdfa_core.rules.chain import Chain  # isort: skip
from mdfa_core.rules.direct import Direct  # isort: skip
from mdfa_core.rules.sign_symmetry import SignSymmetric  # isort: skip
from mdfa_core.rules.kolen_pollack import KolenPollack  # isort: skip
from mdfa_core.rules.direct_targets import DirectSign, DirectTarget  # isort: skip
from mdfa_core.rules.target_propagation import TargetPropagation  # isort: skip
from mdfa_core.rules.contrastive_hebbian import ContrastiveHebbian  # isort: skip
from mdfa_core.rules.direct_kolen_pollack import DirectKolenPollack  # isort: skip

__all__ = [
    "FREE",
    "METHODS",
    "MONO",
    "Attachment",
    "BackwardCost",
    "Chain",
    "Constraint",
    "ContrastiveHebbian",
    "Direct",
    "DirectKolenPollack",
    "DirectSign",
    "DirectTarget",
    "FeedbackShape",
    "Guarantee",
    "KolenPollack",
    "LayerByLayer",
    "Method",
    "SignSymmetric",
    "Signals",
    "StateShape",
    "StepContext",
    "TargetPropagation",
    "Transport",
    "Words",
    "sign_guarantee",
]
