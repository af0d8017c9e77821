"""The learning rules a visitor can compare: every method of the package, and each constrained one let go."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mdfa_core import METHODS, Experiment
from mdfa_core.methods import FREE, Constraint, Method

LET_GO = "-free"
"""Ends the name of a rule whose weights are let go."""


@dataclass(frozen=True)
class Rule:
    """A learning rule by its name on the page and in links.

    Attributes:
        name: one of `METHODS`, or such a name and `LET_GO`.
        method: what it does.
        drawn_as: the method in `METHODS` whose first weights it has.
    """

    name: str
    method: Method
    drawn_as: str

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.method.title

    @property
    def registered(self) -> bool:
        """Whether it is a method of the package, which the command line and checkpoints know."""
        return self.name in METHODS

    def experiment(self, settings: Experiment) -> Experiment:
        """The experiment that begins as this rule does; `Run.set_method(rule.method)` does the rest."""
        return settings.replace(method=self.drawn_as)


def rules() -> dict[str, Rule]:
    """All rules by name; what is added to `METHODS` appears by itself."""
    found = {name: Rule(name, method, name) for name, method in METHODS.items()}
    unconstrained = next((name for name, method in METHODS.items() if method.constraint == FREE), None)
    for name, method in METHODS.items():
        if method.constraint.first_layer is not None and unconstrained is not None:
            found[name + LET_GO] = Rule(name + LET_GO, _let_go(method), unconstrained)
    return found


def _let_go(method: Method) -> Method:
    return dataclasses.replace(
        method,
        title=f"{method.title}, W free",
        description=f"{method.title} without its constraint on the weights: only the feedback is still held to ≥ 0",
        constraint=Constraint(first_layer=None, feedback=method.constraint.feedback),
    )
