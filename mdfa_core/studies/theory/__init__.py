"""The paper's theorems as code: Theorem 1's construction, Theorem 2's premises, counterexamples, and measurements.

- `mono_net`: Theorem 1, a network with free weights rewritten as a mono-net of the same function.
- `check`: which premises of Theorem 2 hold for a network, a run or an experiment.
- `search`, `theorem_5`: small networks for which a gradient sign differs.
- `units_study`, `agreement_study`, `measured_descent`: the studies of the theory notebooks, at the sizes of
  `study_sizes`.
"""

from mdfa_core.studies.theory.agreement import LevelAgreement, agreement_study
from mdfa_core.studies.theory.approximation import CONSTRAINTS, TARGETS, FitResult, units_needed, units_study
from mdfa_core.studies.theory.construction import largest_difference, mono_net
from mdfa_core.studies.theory.counterexamples import FAMILIES, Counterexample, Family, SearchResult, search, theorem_5
from mdfa_core.studies.theory.descent import EpochDescent, measured_descent
from mdfa_core.studies.theory.premises import Premise, PremiseCheck, Violation, check, check_net
from mdfa_core.studies.theory.sizes import PROFILES, StudySizes, parse_names, study_sizes

__all__ = [
    "CONSTRAINTS",
    "FAMILIES",
    "PROFILES",
    "TARGETS",
    "Counterexample",
    "EpochDescent",
    "Family",
    "FitResult",
    "LevelAgreement",
    "Premise",
    "PremiseCheck",
    "SearchResult",
    "StudySizes",
    "Violation",
    "agreement_study",
    "check",
    "check_net",
    "largest_difference",
    "measured_descent",
    "mono_net",
    "parse_names",
    "search",
    "study_sizes",
    "theorem_5",
    "units_needed",
    "units_study",
]
