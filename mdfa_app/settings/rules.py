"""The learning rules that a visitor can compare: every method, and every constrained method without its constraint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mdfa_core import METHODS, Experiment
from mdfa_core.rules.methods import FREE, Constraint, Method

LET_GO = "-free"
"""Ends the name of a rule whose weights are not constrained."""


@dataclass(frozen=True)
class Rule:
    """A learning rule by its name on the page and in links.

    Attributes:
        name: one of `METHODS`, or such a name and `LET_GO`.
        method: how it learns.
        drawn_as: the method in `METHODS` whose initial weights it has.
    """

    name: str
    method: Method
    drawn_as: str

    @property
    def title(self) -> str:
        """Its title on the page."""
        return self.method.title

    @property
    def registered(self) -> bool:
        """Whether it is in `METHODS`, and so known to the command line and to checkpoints."""
        return self.name in METHODS

    def experiment(self, settings: Experiment) -> Experiment:
        """The experiment that starts as this rule does; call `Run.set_method(rule.method)` on its run."""
        return settings.replace(method=self.drawn_as)

    def experiments(self, settings: Experiment, seeds: int) -> tuple[Experiment, ...]:
        """One experiment for each of so many seeds, the settings' own first."""
        return tuple(self.experiment(one) for one in replicas(settings, seeds))


def replicas(settings: Experiment, seeds: int) -> tuple[Experiment, ...]:
    """The settings with so many seeds in a row. All have the images of the first, so that they have as many batches."""
    if seeds == 1:
        return (settings,)
    task = settings.effective_task_seed
    return tuple(settings.replace(seed=(settings.seed + n) % 2**32, task_seed=task) for n in range(seeds))


def rules() -> dict[str, Rule]:
    """All rules by name; a method added to `METHODS` appears by itself."""
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
        description=f"{method.title} without its constraint on the weights; only the feedback stays ≥\u00a00",
        constraint=Constraint(first_layer=None, feedback=method.constraint.feedback),
    )
