"""The figures of the results page: one function a figure, drawn from the long table of `reports.tidy`.

    from mdfa_core.studies.reports.figures import FIGURES
    FIGURES["forest"].draw(table).save("forest.svg")

Modules: `style` has the look and writes SVG, `select` reads the table, the others draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from mdfa_core.base.registry import Registry
from mdfa_core.studies.reports.figures.aggregates import aggregates
from mdfa_core.studies.reports.figures.coverage import coverage, doubts
from mdfa_core.studies.reports.figures.curves import curves
from mdfa_core.studies.reports.figures.differences import forest, paper
from mdfa_core.studies.reports.figures.outputs import classes, outputs
from mdfa_core.studies.reports.figures.propositions import propositions
from mdfa_core.studies.reports.figures.style import Drawing


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure that can be drawn by name.

    Attributes:
        title: what it shows.
        draw: draws it from the long table of results.
    """

    title: str
    draw: Callable[[pd.DataFrame], Drawing]


FIGURES: Registry[Plot] = Registry("figure")
for _name, _title, _draw in (
    ("propositions", "the propositions of the paper with their graded cases", propositions),
    ("outputs", "sign agreement and training accuracy against the number of outputs", outputs),
    ("forest-test", "differences of mDFA's test accuracy, paired by task", partial(forest, split="test")),
    ("forest-train", "differences of mDFA's training accuracy, paired by task", partial(forest, split="train")),
    ("curves", "learning curves of Table 1 with tanh, chosen and best fit", curves),
    ("paper", "the paper's accuracies against those measured here", paper),
    ("classes", "accuracy against the number of classes", classes),
    ("aggregates", "interquartile means, profiles and probabilities of improvement over binary cells", aggregates),
    ("coverage", "which cells were tuned, borrowed settings, or were not run", coverage),
    ("doubts", "choices that could have been otherwise, and their effects", doubts),
):
    FIGURES.add(_name, Plot(title=_title, draw=_draw))

__all__ = ["FIGURES", "Drawing", "Plot"]
