"""The accuracies of a cell: which of its two configurations, and which quantity of its runs.

A cell has two roles. The *chosen* configuration has the best validation accuracy; it is the only one whose network is
evaluated on test images. The *best fit* is the configuration with the highest training accuracy; it has no test
accuracy unless both are the same. The paper's training column is the best fit's, its test column the chosen one's.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal, NamedTuple

from mdfa_core.studies.paper.published import Cell, SplitName
from mdfa_core.studies.paper.words import word

RoleName = Literal["chosen", "best fit"]

Quantity = Literal["train_best", "train_final", "train_tested", "test", "validation_best", "validation_final"]

QUANTITIES: MappingProxyType[Quantity, str] = MappingProxyType(
    {
        "train_best": "training accuracy, highest of any epoch",
        "train_final": "training accuracy after the last epoch",
        "train_tested": "training accuracy after the best validation epoch, of the very weights that are tested",
        "test": "held-out accuracy after the best validation epoch: of test images or, for ImageNet, of its validation "
        "images, which choose nothing",
        "validation_best": "accuracy on the images split off from the training set, highest of any epoch",
        "validation_final": "the same after the last epoch",
    }
)
"""The quantities of a run, with their meanings."""


class Measure(NamedTuple):
    """An accuracy of a cell: its role and quantity."""

    role: RoleName
    quantity: Quantity

    def title(self, cell: Cell) -> str:
        """The measure in words, for example `training, best fit`."""
        kind, _, when = self.quantity.partition("_")
        if self.quantity == "test":
            return f"{word(cell.held_out)}, {self.role}"
        what = "training" if kind == "train" else "split-off"
        late = {"best": "", "final": ", final epoch", "tested": ", tested epoch"}[when]
        return f"{what}, {self.role}{late}"


TRAINED = Measure("best fit", "train_best")
"""What the paper's training column reports."""

TRAINED_CHOSEN = Measure("chosen", "train_best")
"""Training accuracy of the configuration that is tested."""

TESTED = Measure("chosen", "test")
"""What the paper's test and validation columns report."""

REPORTED: tuple[Measure, ...] = (
    TRAINED,
    Measure("best fit", "train_final"),
    TRAINED_CHOSEN,
    Measure("chosen", "train_final"),
    Measure("chosen", "train_tested"),
    TESTED,
)
"""The measures that tables and files of results have."""


def printed(split: SplitName) -> Measure:
    """The measure that a column of the paper reports."""
    return TRAINED if split == "train" else TESTED


def column(measure: Measure, cell: Cell) -> SplitName | None:
    """The column of the paper that reports a measure; None: it has none."""
    return next((split for split in cell.splits if printed(split) == measure), None)
