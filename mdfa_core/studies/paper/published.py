"""The paper's tables as data: cells with their figures, in percent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal

from mdfa_core.base.errors import UnknownName
from mdfa_core.base.registry import Registry

SplitName = Literal["train", "test", "validation"]

TASKS = 5
"""Tasks behind every figure: class choices by seeds 0 to 4."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A printed `mean ± std` over five tasks, in percent.

    The ± is the sample standard deviation (divided by n − 1). The population standard deviation of five values of at
    most 100 % with mean m is at most 0.4 · 5 (100 − m). Three figures of Table 2 exceed this bound: 98.4 ± 3.6,
    93.8 ± 13.0 and 95.3 ± 10.4. None exceeds the bound for the sample standard deviation, 5 (100 − m) / √5.
    """

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """One table of the paper. `mdfa reproduce`, the notebooks, the report and the app's tab derive from it.

    Attributes:
        number: in the paper.
        caption: what the table shows.
        data: the data set.
        varies: the setting in which its rows differ, besides the method and the network.
        claimed: what the paper says about it.
        reading: how to read a reproduction of it.
    """

    number: int
    caption: str
    data: Literal["CIFAR-100", "ImageNet"]
    varies: Literal["activation", "classes"]
    claimed: str
    reading: str

    @property
    def notebook(self) -> str:
        """Name of the notebook that reproduces the table; `studies/table_notebooks.py` writes it."""
        return f"table_{self.number}"

    @property
    def held_out(self) -> SplitName:
        """`test`, or `validation` for ImageNet, whose test labels are not public (section 4.1)."""
        return "test" if self.data == "CIFAR-100" else "validation"

    @property
    def splits(self) -> tuple[SplitName, SplitName]:
        """The splits of its figures, training first."""
        return "train", self.held_out


TABLES: MappingProxyType[int, PaperTable] = MappingProxyType(
    {
        table.number: table
        for table in (
            PaperTable(
                number=1,
                caption="Binary CIFAR-100",
                data="CIFAR-100",
                varies="activation",
                claimed="Each task has two classes drawn at random and one sigmoid output, the case of Theorem 2. The "
                "paper makes three claims. With tanh and hard-tanh, mDFA brings the training error of "
                "fully-connected nets to zero, as backpropagation does and FA and DFA do not. With "
                "convolutions, mDFA matches the test accuracy of backpropagation. With ReLU, mDFA struggles.",
                reading="Compare rows of the same network and activation. The five tasks differ far more from each "
                "other than the methods do on one task, so the paired differences say more than the means. A "
                "difference counts only if its interval does not include 0. The results of FA and DFA depend "
                "on the grid of settings, which the paper does not give; `docs/results/verdict.md` discusses this.",
            ),
            PaperTable(
                number=2,
                caption="Binary ImageNet",
                data="ImageNet",
                varies="activation",
                claimed="Each task has two classes of ImageNet, a deeper net and one sigmoid output. The paper makes "
                "three claims. mDFA brings the training error of fully-connected nets to zero; the table has "
                "99.9 % with tanh and 95.3 % with hard-tanh. With convolutions, mDFA matches the validation "
                "accuracy of backpropagation. With ReLU, mDFA fails.",
                reading="With the folder of ILSVRC and `image_size=224`, this is the paper's protocol. The profiles "
                "use 64×64 pixels. Smaller images or fewer classes make another data set, and the table names "
                "the one used. The figures on the right are for ILSVRC's validation images. These images "
                "choose nothing here: the settings and the epoch are chosen on images split off the training "
                "set.",
            ),
            PaperTable(
                number=3,
                caption="n-class CIFAR-100, fully-connected, tanh",
                data="CIFAR-100",
                varies="classes",
                claimed="The nets have 3 to 50 softmax outputs and tanh. Theorem 2 needs one output, so it promises "
                "nothing here. The paper claims that all feedback alignment methods fall behind as outputs are "
                "added, mDFA and DFA fastest in fully-connected nets.",
                reading="Read down a method's column. The loss from 3 to 50 classes is the price of fixed feedback, "
                "which sums the entries of the error vector with fixed weights. Chance is 1 ÷ classes, so "
                "accuracies at different numbers of classes are not on one scale.",
            ),
            PaperTable(
                number=4,
                caption="n-class CIFAR-100, convolutional, tanh",
                data="CIFAR-100",
                varies="classes",
                claimed="These are the tasks of Table 3 with the convolutional net. The paper claims that mDFA beats "
                "FA and DFA with up to ten outputs, and falls behind DFA with more.",
                reading="Look at the paired differences mDFA − DFA from 3 to 50 classes. According to the paper, their "
                "sign changes beyond ten classes.",
            ),
            PaperTable(
                number=5,
                caption="n-class ImageNet, fully-connected, tanh",
                data="ImageNet",
                varies="classes",
                claimed="The tasks have 3 to 10 classes of ImageNet; the nets have four hidden layers and tanh. The "
                "paper claims that the feedback methods stay far below the training accuracy of "
                "backpropagation at every number of classes.",
                reading="Read this table like Table 3, with deeper nets. DFA and mDFA send the error to every layer "
                "directly; FA sends it back through all layers.",
            ),
            PaperTable(
                number=6,
                caption="n-class ImageNet, convolutional, tanh",
                data="ImageNet",
                varies="classes",
                claimed="The tasks have 3 to 10 classes of ImageNet; the net is convolutional with tanh. In the "
                "paper's figures, DFA fits the training images as well as backpropagation with three and five "
                "classes, and not with ten. mDFA fits a part of them, and FA stays near chance.",
                reading="The error of FA passes through six random convolutions. Use `profile=full` to see whether FA "
                "stays near chance for lack of tuning.",
            ),
        )
    }
)
"""The tables by number."""

BINARY = tuple(number for number, table in TABLES.items() if table.varies == "activation")
"""The tables of tasks with two classes."""

MULTICLASS = tuple(number for number, table in TABLES.items() if table.varies == "classes")
"""The tables of tasks with three or more classes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of a table: five tasks of `classes` classes, with a network, an activation and a method.

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
    def held_out(self) -> SplitName:
        """The split of the table's second accuracy."""
        return TABLES[self.table].held_out

    @property
    def splits(self) -> tuple[SplitName, SplitName]:
        """Training and the held-out split."""
        return TABLES[self.table].splits

    @property
    def published(self) -> MappingProxyType[SplitName, Figure]:
        """The paper's figures, by split."""
        return _FIGURES[self]


def _read() -> dict[Cell, MappingProxyType[SplitName, Figure]]:
    rows = json.loads(resources.files("mdfa_core.studies.paper").joinpath("published.json").read_text(encoding="utf-8"))
    figures = {}
    for row in rows:
        cell = Cell(**{name: row[name] for name in ("table", "network", "activation", "method", "classes")})
        both: dict[SplitName, Figure] = {split: Figure(mean=row[split][0], std=row[split][1]) for split in cell.splits}
        figures[cell] = MappingProxyType(both)
    return figures


_FIGURES = _read()

CELLS: Registry[Cell] = Registry("cell of the paper")
"""All cells by name, in the order of the paper."""
for _cell in _FIGURES:
    CELLS.add(_cell.name, _cell)


def cells(
    table: int, *, network: str | None = None, activation: str | None = None, method: str | None = None
) -> tuple[Cell, ...]:
    """The cells of a table in the paper's order; a network, activation or method selects those with it.

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
