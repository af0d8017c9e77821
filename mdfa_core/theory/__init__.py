"""The paper's theorems made runnable: constructed, checked, contradicted where they do not reach, measured."""

from mdfa_core.theory.agreement import Agreed, agreement_study
from mdfa_core.theory.approximation import CONSTRAINTS, TARGETS, Fit, units_needed, units_study
from mdfa_core.theory.construction import largest_difference, mono_net
from mdfa_core.theory.counterexamples import FAMILIES, Counterexample, Family, Search, search, theorem_5
from mdfa_core.theory.descent import EpochDescent, measured_descent
from mdfa_core.theory.premises import Check, Failure, Premise, check, check_net
from mdfa_core.theory.profiles import PROFILES, Profile, names, profile

__all__ = [
    "CONSTRAINTS",
    "FAMILIES",
    "PROFILES",
    "TARGETS",
    "Agreed",
    "Check",
    "Counterexample",
    "EpochDescent",
    "Failure",
    "Family",
    "Fit",
    "Premise",
    "Profile",
    "Search",
    "agreement_study",
    "check",
    "check_net",
    "largest_difference",
    "measured_descent",
    "mono_net",
    "names",
    "profile",
    "search",
    "theorem_5",
    "units_needed",
    "units_study",
]
