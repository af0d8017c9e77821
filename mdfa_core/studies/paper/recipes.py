"""How each cell of the paper's tables is run: data, networks, search and four profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.data import DATASETS
from mdfa_core.runs.notes import Round
from mdfa_core.studies.grids import PAPER_GRID
from mdfa_core.studies.paper.published import CELLS, TABLES, TASKS, Cell
from mdfa_core.training.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The data and networks that stand for one data set of the paper.

    Attributes:
        data: a name in `DATASETS`.
        networks: the networks, by the names "fc" and "conv".
        image_size: pixels per side, for image folders.
    """

    data: str
    networks: Mapping[str, str]
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class TableProfile:
    """How much of the paper's protocol is run.

    Attributes:
        title: description in words.
        cifar, imagenet: data and networks for the two data sets.
        epochs: of a final run, which is evaluated at its best validation epoch.
        tasks: number of tasks per cell.
        rungs: the rounds of the search; empty: cells use the settings that come with the package.
        released: whether runs follow the protocol of the paper's released program and use its default settings.
    """

    title: str
    cifar: Setup
    imagenet: Setup
    epochs: int
    tasks: int
    rungs: tuple[Round, ...] = ()
    released: bool = False

    def setup(self, cell: Cell) -> Setup:
        """The data and networks for a cell."""
        return self.imagenet if TABLES[cell.table].data == "ImageNet" else self.cifar


PROFILES: Registry[TableProfile] = Registry("profile")
_DIGITS = Setup(data="digits", networks={"fc": "fc:32,32", "conv": "conv:8/3/2,8/3/1"})
_CIFAR = Setup(data="cifar100", networks={"fc": "cifar-fc", "conv": "cifar-conv"})
_IMAGES = Setup(data="imagefolder", networks={"fc": "imagenet-fc", "conv": "imagenet-conv"}, image_size=64)
PROFILES.add(
    "smoke",
    TableProfile(
        title="bundled digits, tiny networks, two tasks, a two-round search; shows that everything runs",
        cifar=_DIGITS,
        imagenet=_DIGITS,
        epochs=20,
        tasks=2,
        rungs=(Round(candidates=12, epochs=3, tasks=1), Round(candidates=3, epochs=10, tasks=2)),
    ),
)
PROFILES.add(
    "quick",
    TableProfile(
        title="real data, five tasks, the tuned settings that come with the package",
        cifar=_CIFAR,
        imagenet=_IMAGES,
        epochs=100,
        tasks=TASKS,
    ),
)
PROFILES.add(
    "full",
    TableProfile(
        title="real data, five tasks, tuned first",
        cifar=_CIFAR,
        imagenet=_IMAGES,
        epochs=100,
        tasks=TASKS,
        rungs=(Round(candidates=None, epochs=5, tasks=1), Round(candidates=6, epochs=20, tasks=2)),
    ),
)
PROFILES.add(
    "released",
    TableProfile(
        title="real data, five tasks, the protocol and the default settings of the paper's released program",
        cifar=_CIFAR,
        imagenet=Setup(
            data="imagefolder", networks={"fc": "imagenet-fc", "conv": "imagenet-conv-released"}, image_size=224
        ),
        epochs=100,
        tasks=TASKS,
        released=True,
    ),
)

RELEASED_DEFAULTS: Mapping[str, Any] = {
    "optimizer": "rmsprop",
    "learning_rate": 1e-4,
    "forward_init": "uniform:1",
    "feedback_init": "uniform:1",
}
"""Settings of the released program's command line that a user may change, at their defaults."""


def released_protocol(cell: Cell) -> dict[str, Any]:
    """What the released program fixes for a cell; all else is as in every profile (see docs/explanation/paper.md).

    Its uniform distribution, when it evaluates, and the loss of a mini-batch: the mean in fully-connected networks
    under FA, DFA and mDFA, the sum elsewhere.
    """
    averages = cell.network == "fc" and cell.method != "bp"
    return {"convention": "released", "evaluation": "released", "loss_scale": "mean" if averages else "sum"}


def candidates(cell: Cell) -> tuple[dict[str, Any], ...]:
    """The settings that a cell is tuned over; epochs are tuned by validation within each run."""
    return PAPER_GRID.candidates(cell.method)


def base(cell: Cell, profile: TableProfile, *, image_size: int | None = None) -> Experiment:
    """A cell's experiment, without its tuned settings.

    Raises:
        InvalidValue: the profile's data has too few classes for the cell.
    """
    setup = profile.setup(cell)
    known = DATASETS[setup.data].counts.classes
    if known is not None and cell.classes > known:
        raise InvalidValue(
            f"{cell.name} needs {cell.classes} classes, but {setup.data} has {known}: choose a cell of fewer classes "
            f"or another profile"
        )
    return Experiment(
        data=setup.data,
        network=setup.networks[cell.network],
        outputs=1 if cell.classes == 2 else cell.classes,
        method=cell.method,
        activation=cell.activation,
        epochs=profile.epochs,
        image_size=(image_size or setup.image_size) if setup.image_size is not None else None,
        **(released_protocol(cell) if profile.released else {}),
    )


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = resources.files(__package__).joinpath("tuned.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Settings of a cell that come with the package.

    Attributes:
        settings: to replace in `base`; chosen on validation.
        fit: to replace in `base`; the best fit to the training images.
        source: the cell they were tuned for, which is another one if this cell was never tuned.
    """

    settings: Mapping[str, Any]
    fit: Mapping[str, Any]
    source: Cell


def untuned(cell: Cell, profile: TableProfile) -> Tuned:
    """The settings of a cell under a profile without a search: the released program's defaults, or those of `tuned`.

    Raises:
        InvalidValue: see `tuned`.
    """
    if profile.released:
        return Tuned(settings=RELEASED_DEFAULTS, fit=RELEASED_DEFAULTS, source=cell)
    return tuned(cell)


def tuned(cell: Cell) -> Tuned:
    """The cell's settings in `tuned.json`, or else those of the nearest tuned cell of its method and kind of net.

    The file has the settings of every tuned cell. It also has the settings of every cell that was published with those
    of another cell, and names that cell as `source`. Tuning a nearer cell therefore changes no published cell.

    The nearest cell has the same activation, then the same data set, then the closest number of classes.

    Raises:
        InvalidValue: no cell of this method and kind of network was tuned.
    """
    shipped = _shipped()
    if cell.name in shipped:
        return _tuned(cell.name)
    own = [CELLS[name] for name, entry in shipped.items() if "source" not in entry]
    alike = [c for c in own if (c.method, c.network) == (cell.method, cell.network)]
    if not alike:
        raise InvalidValue(
            f"the package has no settings for {cell.name}, nor any for {cell.method} on {cell.network} networks: run "
            f"it with the profile 'full', which tunes first"
        )
    nearest = min(
        alike,
        key=lambda c: (
            c.activation != cell.activation,
            TABLES[c.table].data != TABLES[cell.table].data,
            abs(c.classes - cell.classes),
        ),
    )
    return _tuned(nearest.name)


def _tuned(name: str) -> Tuned:
    entry = _shipped()[name]
    return Tuned(settings=entry["settings"], fit=entry["fit"], source=CELLS[entry.get("source", name)])
