"""How each cell of the paper's tables is run: data, nets, what is tuned over, three profiles."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from mdfa_core.data import DATASETS
from mdfa_core.errors import InvalidValue
from mdfa_core.experiment import Experiment
from mdfa_core.methods import METHODS
from mdfa_core.paper.published import CELLS, TABLES, TASKS, Cell
from mdfa_core.registry import Table
from mdfa_core.tuning import Rung


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What one data set of the paper is run on.

    Attributes:
        data: a name in `DATASETS`.
        networks: the net for "fc" and for "conv".
        image_size: for image folders.
    """

    data: str
    networks: Mapping[str, str]
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much of the paper's protocol is run.

    Attributes:
        title: in words.
        cifar, imagenet: what stands for the two data sets.
        epochs: of a final run; each is judged at its best validation epoch.
        tasks: per cell.
        rungs: the rounds of the search; none where the settings that come with the package are used.
    """

    title: str
    cifar: Setup
    imagenet: Setup
    epochs: int
    tasks: int
    rungs: tuple[Rung, ...] = ()

    def setup(self, cell: Cell) -> Setup:
        """What the cell's data set is run on."""
        return self.imagenet if TABLES[cell.table].data == "ImageNet" else self.cifar


PROFILES: Table[Profile] = Table("profile")
_DIGITS = Setup(data="digits", networks={"fc": "fc:32,32", "conv": "conv:8/3/2,8/3/1"})
_CIFAR = Setup(data="cifar100", networks={"fc": "cifar-fc", "conv": "cifar-conv"})
_IMAGES = Setup(data="imagefolder", networks={"fc": "imagenet-fc", "conv": "imagenet-conv"}, image_size=64)
PROFILES.add(
    "smoke",
    Profile(
        title="bundled digits, tiny nets, two tasks, a search of two rounds: everything runs, nothing is reproduced",
        cifar=_DIGITS,
        imagenet=_DIGITS,
        epochs=20,
        tasks=2,
        rungs=(Rung(candidates=12, epochs=3, tasks=1), Rung(candidates=3, epochs=10, tasks=2)),
    ),
)
PROFILES.add(
    "quick",
    Profile(
        title="real data, five tasks, the settings that were tuned before and come with the package",
        cifar=_CIFAR,
        imagenet=_IMAGES,
        epochs=100,
        tasks=TASKS,
    ),
)
PROFILES.add(
    "full",
    Profile(
        title="real data, five tasks, tuned first",
        cifar=_CIFAR,
        imagenet=_IMAGES,
        epochs=100,
        tasks=TASKS,
        rungs=(Rung(candidates=None, epochs=5, tasks=1), Rung(candidates=6, epochs=20, tasks=2)),
    ),
)

_FORWARD = ("zeros", "uniform:1", "normal:0.1", "normal:0.01")
_FEEDBACK = ("normal:1", "uniform:1")
_RATES = {"sgd": (0.01, 0.03, 0.1, 0.003, 0.001), "rmsprop": (1e-4, 1e-3), "adam": (1e-4, 1e-3)}
_RATES_WITHOUT_FEEDBACK = {  # twice as many, since there is no feedback to choose: as many candidates for each method
    "sgd": (0.01, 0.03, 0.1, 0.003, 0.001, 0.3, 0.06, 0.02, 0.006, 0.0003),
    "rmsprop": (1e-4, 1e-3, 3e-4, 3e-5),
    "adam": (1e-4, 1e-3, 3e-4, 3e-5),
}


def candidates(cell: Cell) -> list[dict[str, Any]]:
    """The settings a cell is tuned over: optimizer and rate × forward × feedback initialisation, 72 for every method.

    A rule without feedback is offered twice as many rates instead. Epochs are tuned by validation within each run.

    Source: section 4 (hyperparameters) and appendix B.3; the paper names the kinds but no values.
    """
    feedback = METHODS[cell.method].transport.needs_feedback
    rates = _RATES if feedback else _RATES_WITHOUT_FEEDBACK
    updates = [{"optimizer": name, "learning_rate": rate} for name, values in rates.items() for rate in values]
    forward = [{"forward_init": init} for init in _FORWARD]
    back = [{"feedback_init": init} for init in _FEEDBACK] if feedback else [{}]
    return [{**a, **b, **c} for a, b, c in itertools.product(updates, forward, back)]


def base(cell: Cell, profile: Profile, *, image_size: int | None = None) -> Experiment:
    """A cell's experiment before its tuned settings.

    Raises:
        InvalidValue: the profile's data has too few classes for the cell.
    """
    setup = profile.setup(cell)
    known = DATASETS[setup.data].facts.classes
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
    )


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    text = resources.files(__package__).joinpath("tuned.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Settings of a cell that come with the package.

    Attributes:
        settings: to replace in `base`, chosen on validation.
        fit: likewise, of the best fit to the training images.
        source: the cell they were tuned for; another one where this cell was never tuned itself.
    """

    settings: Mapping[str, Any]
    fit: Mapping[str, Any]
    source: Cell


def tuned(cell: Cell) -> Tuned:
    """The cell's own tuned settings, or those of the nearest tuned cell of its method.

    Nearest: of the same kind of net, first by activation, then by data set, then by number of classes.

    Raises:
        InvalidValue: no cell of this method and net was tuned.
    """
    shipped = _shipped()
    found = [CELLS[name] for name in shipped]
    alike = [c for c in found if (c.method, c.network) == (cell.method, cell.network)]
    if not alike:
        raise InvalidValue(
            f"no settings for {cell.name} come with the package, nor any for {cell.method} on {cell.network} nets: run "
            f"it with the profile 'full', which tunes first"
        )
    nearest = min(
        alike,
        key=lambda c: (
            c != cell,
            c.activation != cell.activation,
            TABLES[c.table].data != TABLES[cell.table].data,
            abs(c.classes - cell.classes),
        ),
    )
    return Tuned(**shipped[nearest.name], source=nearest)
