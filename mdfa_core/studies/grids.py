"""Grids of candidate settings: the search spaces of the studies, equally large for every learning rule."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mdfa_core.rules.methods import METHODS


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Optimizer and learning rate × forward initialisation × a choice of feedback that depends on the rule.

    The choice of feedback has two options, so that every rule has equally many candidates:

    - A rule with feedback weights chooses between two initialisations.
    - A rule that wants a penalty chooses between two penalties instead, if the grid has penalties.
    - A rule without feedback weights has no choice, and gets twice as many learning rates.

    Attributes:
        rates: learning rates by optimizer.
        rates_without_feedback: the same for rules without feedback weights, twice as many.
        forward: initialisations of the forward weights.
        feedback: two initialisations of the feedback weights.
        penalties: two penalties (`l2`), with the second initialisation of `feedback`; empty: no rule gets a penalty.
        stride: candidates are listed in steps of this size through the full product. If it has no factor in common with
            their number, the first few candidates differ in every setting.
    """

    rates: Mapping[str, Sequence[float]]
    rates_without_feedback: Mapping[str, Sequence[float]]
    forward: Sequence[str]
    feedback: tuple[str, str]
    penalties: tuple[float, ...] = ()
    stride: int = 1

    def candidates(self, method: str) -> tuple[dict[str, Any], ...]:
        """The settings that a rule is tuned over, each as values by name.

        Raises:
            UnknownName: `method` is not in `METHODS`.
        """
        transport = METHODS[method].transport
        choices: list[dict[str, Any]] = [{}]
        if transport.wants_penalty and self.penalties:
            choices = [{"feedback_init": self.feedback[1], "l2": penalty} for penalty in self.penalties]
        elif transport.needs_feedback:
            choices = [{"feedback_init": init} for init in self.feedback]
        rates = self.rates if len(choices) > 1 else self.rates_without_feedback
        updates = [{"optimizer": name, "learning_rate": rate} for name, values in rates.items() for rate in values]
        product = [
            {**update, "forward_init": forward, **choice}
            for update, forward, choice in itertools.product(updates, self.forward, choices)
        ]
        return tuple(product[(self.stride * number) % len(product)] for number in range(len(product)))


PAPER_GRID = Grid(
    rates={"sgd": (0.01, 0.03, 0.1, 0.003, 0.001), "rmsprop": (1e-4, 1e-3), "adam": (1e-4, 1e-3)},
    rates_without_feedback={
        "sgd": (0.01, 0.03, 0.1, 0.003, 0.001, 0.3, 0.06, 0.02, 0.006, 0.0003),
        "rmsprop": (1e-4, 1e-3, 3e-4, 3e-5),
        "adam": (1e-4, 1e-3, 3e-4, 3e-5),
    },
    forward=("zeros", "uniform:1", "normal:0.1", "normal:0.01"),
    feedback=("normal:1", "uniform:1"),
)
"""72 candidates for a cell of the paper's tables.

Source: section 4 (hyperparameters) and appendix B.3; the paper names the kinds of settings and no values.
"""

RULES_GRID = Grid(
    rates={"sgd": (0.01, 0.03, 0.1, 0.003), "rmsprop": (1e-3,), "adam": (1e-3,)},
    rates_without_feedback={
        "sgd": (0.01, 0.03, 0.1, 0.003, 0.3, 0.06, 0.02, 0.001),
        "rmsprop": (1e-3, 1e-4),
        "adam": (1e-3, 1e-4),
    },
    forward=("uniform:1", "zeros", "normal:0.1"),
    feedback=("normal:1", "uniform:1"),
    penalties=(1e-2, 1e-3),
    stride=7,
)
"""36 candidates for the comparison of all rules; the first 12 differ in every setting."""
