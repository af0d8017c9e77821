"""The paper's six tables as data: 112 cells with 224 figures, in percent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal

from mdfa_core.errors import UnknownName
from mdfa_core.registry import Table

Split = Literal["train", "test", "validation"]

TASKS = 5
"""Tasks behind every figure: class choices by seeds 0 to 4."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A printed `mean ± std` over five tasks, in percent.

    The ± is the sample standard deviation (n − 1 in its denominator): of five shares of at most 100 % with mean m, the
    population's cannot exceed 0.4 · 5 (100 − m), and three figures of Table 2 (98.4 ± 3.6, 93.8 ± 13.0, 95.3 ± 10.4)
    do; none exceeds the sample's bound 5 (100 − m) / √5.
    """

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper: its number, what its rows vary, and the split its second accuracy is of."""

    number: int
    caption: str
    data: Literal["CIFAR-100", "ImageNet"]
    varies: Literal["activation", "classes"]

    @property
    def held_out(self) -> Split:
        """`test`, or `validation` for ImageNet, whose test labels are not public (section 4.1)."""
        return "test" if self.data == "CIFAR-100" else "validation"

    @property
    def splits(self) -> tuple[Split, Split]:
        """The splits its figures are of, training first."""
        return "train", self.held_out


TABLES: MappingProxyType[int, PaperTable] = MappingProxyType(
    {
        table.number: table
        for table in (
            PaperTable(number=1, caption="Binary CIFAR-100", data="CIFAR-100", varies="activation"),
            PaperTable(number=2, caption="Binary ImageNet", data="ImageNet", varies="activation"),
            PaperTable(
                number=3, caption="n-class CIFAR-100, fully-connected, tanh", data="CIFAR-100", varies="classes"
            ),
            PaperTable(number=4, caption="n-class CIFAR-100, convolutional, tanh", data="CIFAR-100", varies="classes"),
            PaperTable(number=5, caption="n-class ImageNet, fully-connected, tanh", data="ImageNet", varies="classes"),
            PaperTable(number=6, caption="n-class ImageNet, convolutional, tanh", data="ImageNet", varies="classes"),
        )
    }
)
"""The tables by number."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one row of a table was measured on: five tasks of `classes` classes.

    `network` is `fc` or `conv`; `activation` and `method` are names of `ACTIVATIONS` and `METHODS`.
    """

    table: int
    network: Literal["fc", "conv"]
    activation: str
    method: str
    classes: int

    @property
    def name(self) -> str:
        """Unique text, such as `table-1/fc/tanh/mdfa/2`."""
        return f"table-{self.table}/{self.network}/{self.activation}/{self.method}/{self.classes}"

    @property
    def held_out(self) -> Split:
        """The split of the table's second accuracy."""
        return TABLES[self.table].held_out

    @property
    def splits(self) -> tuple[Split, Split]:
        """Training and the held-out split."""
        return TABLES[self.table].splits

    @property
    def published(self) -> MappingProxyType[Split, Figure]:
        """The paper's figures, by split."""
        return _FIGURES[self]


def _read() -> dict[Cell, MappingProxyType[Split, Figure]]:
    rows = json.loads(resources.files("mdfa_core.paper").joinpath("published.json").read_text(encoding="utf-8"))
    figures = {}
    for row in rows:
        cell = Cell(**{name: row[name] for name in ("table", "network", "activation", "method", "classes")})
        both: dict[Split, Figure] = {split: Figure(mean=row[split][0], std=row[split][1]) for split in cell.splits}
        figures[cell] = MappingProxyType(both)
    return figures


_FIGURES = _read()

CELLS: Table[Cell] = Table("cell of the paper")
"""All cells by name, in the order of the paper."""
for _cell in _FIGURES:
    CELLS.add(_cell.name, _cell)


def cells(
    table: int, *, network: str | None = None, activation: str | None = None, method: str | None = None
) -> tuple[Cell, ...]:
    """The cells of a table, in the order of the paper; those of one network, activation or method where given.

    Raises:
        UnknownName: the paper has no such table.
    """
    if table not in TABLES:
        raise UnknownName("table", table, map(str, TABLES))
    return tuple(
        cell
        for cell in CELLS.values()
        if cell.table == table
        and network in (None, cell.network)
        and activation in (None, cell.activation)
        and method in (None, cell.method)
    )
