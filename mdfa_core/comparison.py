"""Every learning rule on the paper's binary and n-class tasks, tuned alike: equal candidates, epochs and tasks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from mdfa_core.errors import InvalidValue
from mdfa_core.experiment import Experiment
from mdfa_core.methods import METHODS
from mdfa_core.records import Record
from mdfa_core.registry import Table, listed
from mdfa_core.store import Store
from mdfa_core.sweeps import Advance, Sweep
from mdfa_core.training import Every
from mdfa_core.tuning import Rung, Search


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much is run.

    Attributes:
        title: in words.
        data: a name in `DATASETS`.
        network: the net, fully-connected.
        outputs: the tasks: 1 is the paper's binary task, n ≥ 3 its n-class task.
        epochs: of a final run, judged at its best validation epoch.
        seeds: of task, weights, feedback and order, in the final runs.
        rungs: the rounds of the search.
    """

    title: str
    data: str
    network: str
    outputs: tuple[int, ...]
    epochs: int
    seeds: tuple[int, ...]
    rungs: tuple[Rung, ...]


PROFILES: Table[Profile] = Table("profile")
PROFILES.add(
    "smoke",
    Profile(
        title="bundled digits, a tiny net, two tasks: everything runs, nothing is worth quoting",
        data="digits",
        network="fc:32,32",
        outputs=(1, 10),
        epochs=10,
        seeds=(0, 1),
        rungs=(Rung(candidates=12, epochs=3, tasks=1),),
    ),
)
PROFILES.add(
    "digits",
    Profile(
        title="bundled digits, FC 64-128-128, five tasks, searched in two rounds",
        data="digits",
        network="digits-fc",
        outputs=(1, 10),
        epochs=60,
        seeds=(0, 1, 2, 3, 4),
        rungs=(Rung(candidates=None, epochs=10, tasks=1), Rung(candidates=4, epochs=30, tasks=2)),
    ),
)
PROFILES.add(
    "quick",
    Profile(
        title="CIFAR-100, the paper's FC 1024-1024, three tasks, a search of one round",
        data="cifar100",
        network="cifar-fc",
        outputs=(1, 10),
        epochs=20,
        seeds=(0, 1, 2),
        rungs=(Rung(candidates=12, epochs=3, tasks=1),),
    ),
)

_FORWARD = ("uniform:1", "zeros", "normal:0.1")
_RATES = {"sgd": (0.01, 0.03, 0.1, 0.003), "rmsprop": (1e-3,), "adam": (1e-3,)}
_RATES_ALONE = {  # twice as many, where there is nothing else to choose
    "sgd": (0.01, 0.03, 0.1, 0.003, 0.3, 0.06, 0.02, 0.001),
    "rmsprop": (1e-3, 1e-4),
    "adam": (1e-3, 1e-4),
}
_FEEDBACK = ({"feedback_init": "normal:1"}, {"feedback_init": "uniform:1"})
_DECAY = ({"feedback_init": "uniform:1", "l2": 1e-2}, {"feedback_init": "uniform:1", "l2": 1e-3})


def candidates(method: str) -> tuple[dict[str, Any], ...]:
    """The settings a rule is tuned over, 36 for every rule, spread so that the first 12 differ in everything.

    Optimizer and rate × forward initialisation × feedback initialisation. A rule without feedback has twice as many
    rates instead; Kolen-Pollack, which is nothing without a penalty, two penalties in place of two initialisations.

    Raises:
        UnknownName: there is no such rule.

    Source: section 4 (what was tuned); the paper gives no values.
    """
    transport = METHODS[method].transport
    choices: Sequence[dict[str, Any]] = ({},)
    if method == "kp":
        choices = _DECAY
    elif transport.needs_feedback:
        choices = _FEEDBACK
    rates = _RATES_ALONE if len(choices) == 1 else _RATES
    updates = [{"optimizer": name, "learning_rate": rate} for name, values in rates.items() for rate in values]
    made = [
        {**update, "forward_init": forward, **choice}
        for update, forward, choice in itertools.product(updates, _FORWARD, choices)
    ]
    # In steps that share no factor with 36, so that the first few are from everywhere.
    return tuple(made[(7 * number) % len(made)] for number in range(len(made)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one rule reached on one kind of task.

    Attributes:
        method: its name.
        outputs: of the task.
        settings: those the search chose.
        records: the final runs, one a seed.
    """

    method: str
    outputs: int
    settings: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def seconds(self) -> float:
        """Wall time of one epoch of one net, with its evaluation and its measurements."""
        return fmean(record.provenance.seconds / max(1, len(record.curve)) for record in self.records)

    def of(self, name: str) -> list[float]:
        """`test`, `train` (best of any epoch) or `unit`, `batch` (signs, at the last measurement), one a seed."""
        if name in ("unit", "batch"):
            found = [getattr(record.probes[-1], name) for record in self.records if record.probes]
        else:
            field = {"test": "test_accuracy", "train": "best_train_accuracy"}[name]
            found = [getattr(record, field) for record in self.records]
        return [value for value in found if value is not None]

    def flat(self) -> dict[str, Any]:
        """One line of a table; accuracies and sign agreement as means, and ± as s over the seeds."""
        line: dict[str, Any] = {"rule": METHODS[self.method].title, "outputs": self.outputs}
        for name in ("test", "train", "unit", "batch"):
            values = self.of(name)
            line[name] = fmean(values) if values else None
            line[f"{name} ±"] = stdev(values) if len(values) > 1 else None
        settings = dict(self.settings)
        line["optimizer"] = f"{settings.pop('optimizer')} {settings.pop('learning_rate'):g}"
        line["initialisation"] = ", ".join(str(value) for name, value in settings.items() if name != "l2")
        line["l2"] = settings.get("l2", 0.0)
        line["ms an epoch"] = 1000 * self.seconds
        return line


class Comparison:
    """Tunes and runs rules one after the other; iterating does the work, and what the store has is not run again.

    Args:
        profile: a name in `PROFILES`.
        methods: names in `METHODS`; all if left out.
        outputs: of the tasks; the profile's if left out.
        seeds: of the final runs; the profile's if left out.
        epochs: of the final runs; the profile's if left out.
        store: where runs are kept.
        device: as `Run` takes it.
        data_dir: likewise.

    Raises:
        UnknownName: a name is in no table.
        InvalidValue: a number of outputs, seeds or epochs is not allowed.
    """

    def __init__(
        self,
        profile: str,
        store: Store,
        *,
        methods: Sequence[str] = (),
        outputs: Sequence[int] = (),
        seeds: Sequence[int] = (),
        epochs: int = 0,
        device: str = "auto",
        data_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        found = PROFILES[profile]
        if epochs < 0:
            raise InvalidValue(f"epochs is {epochs}: give a positive integer, or 0 for the profile's")
        self.profile = replace(
            found,
            outputs=tuple(outputs) or found.outputs,
            seeds=tuple(seeds) or found.seeds,
            epochs=epochs or found.epochs,
        )
        self.methods = tuple(methods) or tuple(METHODS)
        self._bases = {
            (method, count): self._base(method, count) for count in self.profile.outputs for method in self.methods
        }
        for seed in self.profile.seeds:
            Experiment(seed=seed)  # refuses what is none
        self._store, self._device, self._data_dir = store, device, data_dir
        self.rows: list[Row] = []

    @classmethod
    def from_texts(
        cls, profile: str, store: Store, *, methods: str = "", outputs: str = "", seeds: str = "", **more: Any
    ) -> Comparison:
        """The same from lists separated by commas, as a notebook or a command line has them.

        Raises:
            UnknownName: as above.
            InvalidValue: as above, or an item is no number.
        """
        return cls(
            profile,
            store,
            methods=listed("methods", methods, str),
            outputs=listed("outputs", outputs, int),
            seeds=listed("seeds", seeds, int),
            **more,
        )

    def __iter__(self) -> Iterator[tuple[str, int, Advance]]:
        """Method and outputs that are being worked on, and how far; `rows` has what is finished."""
        self.rows.clear()
        for (method, count), base in self._bases.items():
            search = Search(base, candidates(method), self.profile.rungs, self._sealed)
            for advance in search:
                yield method, count, advance
            settings = dict(search.chosen)
            finals = [base.replace(**settings, epochs=self.profile.epochs, seed=seed) for seed in self.profile.seeds]
            sweep = self._opened(finals)
            for advance in sweep:
                yield method, count, advance
            self.rows.append(Row(method=method, outputs=count, settings=settings, records=sweep.records()))

    @property
    def _place(self) -> dict[str, Any]:
        return {"store": self._store, "device": self._device, "data_dir": self._data_dir}

    def _sealed(self, experiments: Iterable[Experiment]) -> Sweep:
        return Sweep(experiments, **self._place)

    def _opened(self, experiments: Iterable[Experiment]) -> Sweep:
        """The only sweep that opens test images: once for each rule and task, when its settings have been chosen."""
        return Sweep(experiments, test=True, probe=Every(epochs=self.profile.epochs), **self._place)

    def _base(self, method: str, outputs: int) -> Experiment:
        return Experiment(data=self.profile.data, network=self.profile.network, method=method, outputs=outputs)
