"""A comparison of all learning rules on the paper's binary and n-class tasks.

Every rule is tuned alike: equally many candidates, epochs and tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry, parse_list
from mdfa_core.rules.methods import METHODS
from mdfa_core.runs.notes import Round
from mdfa_core.runs.records import Record
from mdfa_core.runs.scheduling import Advance
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.tuning import Search
from mdfa_core.studies.grids import RULES_GRID
from mdfa_core.training import Every, Experiment


@dataclass(frozen=True, kw_only=True)
class ComparisonProfile:
    """How much of the comparison is run.

    Attributes:
        title: description in words.
        data: a name in `DATASETS`.
        network: a fully-connected net.
        outputs: the tasks; 1 is the paper's binary task, n ≥ 3 its n-class task.
        epochs: of a final run, which is evaluated at its best validation epoch.
        seeds: of the final runs, for task, weights, feedback and order of examples.
        rungs: the rounds of the search.
    """

    title: str
    data: str
    network: str
    outputs: tuple[int, ...]
    epochs: int
    seeds: tuple[int, ...]
    rungs: tuple[Round, ...]


PROFILES: Registry[ComparisonProfile] = Registry("profile")
PROFILES.add(
    "smoke",
    ComparisonProfile(
        title="bundled digits, a tiny network, two tasks: shows that everything runs, supports no conclusion",
        data="digits",
        network="fc:32,32",
        outputs=(1, 10),
        epochs=10,
        seeds=(0, 1),
        rungs=(Round(candidates=12, epochs=3, tasks=1),),
    ),
)
PROFILES.add(
    "digits",
    ComparisonProfile(
        title="bundled digits, FC 64-128-128, five tasks, searched in two rounds",
        data="digits",
        network="digits-fc",
        outputs=(1, 10),
        epochs=60,
        seeds=(0, 1, 2, 3, 4),
        rungs=(Round(candidates=None, epochs=10, tasks=1), Round(candidates=4, epochs=30, tasks=2)),
    ),
)
PROFILES.add(
    "quick",
    ComparisonProfile(
        title="CIFAR-100, the paper's FC 1024-1024, three tasks, a search of one round",
        data="cifar100",
        network="cifar-fc",
        outputs=(1, 10),
        epochs=20,
        seeds=(0, 1, 2),
        rungs=(Round(candidates=12, epochs=3, tasks=1),),
    ),
)


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """The final runs of one rule on one kind of task.

    Attributes:
        method: the rule, a name in `METHODS`.
        outputs: of the task.
        settings: the settings that the search chose.
        records: the final runs, one per seed.
    """

    method: str
    outputs: int
    settings: dict[str, Any]
    records: tuple[Record, ...]

    @property
    def seconds(self) -> float:
        """Mean wall time of one epoch of one run, including evaluation and probes."""
        return fmean(record.provenance.seconds / max(1, len(record.curve)) for record in self.records)

    def of(self, name: str) -> list[float]:
        """One quantity for every seed that has it.

        Args:
            name: `test` or `train` for accuracy (training: the best epoch's); `unit` or `batch` for sign agreement at
                the last probe.
        """
        if name in ("unit", "batch"):
            found = [getattr(record.probes[-1], name) for record in self.records if record.probes]
        else:
            field = {"test": "test_accuracy", "train": "best_train_accuracy"}[name]
            found = [getattr(record, field) for record in self.records]
        return [value for value in found if value is not None]

    def as_row(self) -> dict[str, Any]:
        """One row of a table: means of accuracies and sign agreement, and ± their sample standard deviations."""
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


class RuleComparison:
    """Tunes and trains rules one after the other. Iterating trains the runs that the store does not have.

    Args:
        profile: a name in `PROFILES`.
        store: receives the runs.
        methods: names in `METHODS`; the default is all.
        outputs: of the tasks; the default is the profile's.
        seeds: of the final runs; the default is the profile's.
        epochs: of the final runs; 0: the profile's.
        device: as for `Run`.
        data_dir: as for `Run`.

    Raises:
        UnknownName: a profile or method does not exist.
        InvalidValue: outputs, a seed or the number of epochs are not allowed.
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
            Experiment(seed=seed)  # refuses seeds that are not allowed
        self._store, self._device, self._data_dir = store, device, data_dir
        self.results: list[RuleResult] = []

    @classmethod
    def from_texts(
        cls, profile: str, store: Store, *, methods: str = "", outputs: str = "", seeds: str = "", **more: Any
    ) -> RuleComparison:
        """The same from texts, as in a notebook or on a command line: items are separated by commas.

        Raises:
            UnknownName: see the class.
            InvalidValue: see the class; or an item is not a number.
        """
        return cls(
            profile,
            store,
            methods=parse_list("methods", methods, str),
            outputs=parse_list("outputs", outputs, int),
            seeds=parse_list("seeds", seeds, int),
            **more,
        )

    def __iter__(self) -> Iterator[tuple[str, int, Advance]]:
        """Yield the current method and outputs, and how far their sweep has come; `results` has the finished ones."""
        self.results.clear()
        for (method, count), base in self._bases.items():
            search = Search(base, RULES_GRID.candidates(method), self.profile.rungs, self._sealed)
            for advance in search:
                yield method, count, advance
            settings = dict(search.chosen)
            finals = [base.replace(**settings, epochs=self.profile.epochs, seed=seed) for seed in self.profile.seeds]
            sweep = self._opened(finals)
            for advance in sweep:
                yield method, count, advance
            self.results.append(RuleResult(method=method, outputs=count, settings=settings, records=sweep.records()))

    @property
    def _place(self) -> dict[str, Any]:
        return {"store": self._store, "device": self._device, "data_dir": self._data_dir}

    def _sealed(self, experiments: Iterable[Experiment]) -> Sweep:
        return Sweep(experiments, **self._place)

    def _opened(self, experiments: Iterable[Experiment]) -> Sweep:
        """The only sweep that evaluates the test set: once for each rule and task, after its settings are chosen."""
        return Sweep(experiments, test=True, probe=Every(epochs=self.profile.epochs), **self._place)

    def _base(self, method: str, outputs: int) -> Experiment:
        return Experiment(data=self.profile.data, network=self.profile.network, method=method, outputs=outputs)
