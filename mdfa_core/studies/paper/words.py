"""How reports, the page and findings call a cell and its parts."""

from __future__ import annotations

from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.paper.published import Cell, SplitName

NETWORK_WORDS = {"fc": "FC", "conv": "CNN"}
"""The paper's words for its two kinds of network."""


def place(cell: Cell) -> str:
    """A cell's table, network, activation and classes, without its method."""
    return f"{network_place(cell)}, {cell.classes} classes" if cell.classes > 2 else network_place(cell)


def network_place(cell: Cell) -> str:
    """A cell's table, network and activation."""
    return f"Table {cell.table}, {NETWORK_WORDS[cell.network]}, {ACTIVATIONS[cell.activation].title}"


def title(cell: Cell) -> str:
    """A cell's method as the paper writes it."""
    return METHODS[cell.method].title


def word(split: SplitName) -> str:
    """A split as the paper calls it."""
    return "training" if split == "train" else split
