"""Sign agreement over training, at the three levels, for several experiments side by side: the numbers as rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mdfa_core.events import Probed
from mdfa_core.experiment import Experiment
from mdfa_core.probes import LEVELS
from mdfa_core.training import Every, train


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """One probe at one level.

    Attributes:
        label: which experiment.
        level: one of `probes.LEVELS`.
        overall: share of entries of all hidden layers whose sign agrees with the true one, where both are defined;
            None where none is.
        layers: the same per hidden layer.
        undefined: share of entries that are exactly 0 on either side, per hidden layer.
    """

    label: str
    seed: int
    epoch: int
    level: str
    overall: float | None
    layers: tuple[float | None, ...]
    undefined: tuple[float, ...]


def agreement_study(
    experiments: Mapping[str, Experiment],
    *,
    seeds: Sequence[int],
    device: str = "auto",
    data_dir: str | os.PathLike[str] | None = None,
) -> Iterator[Agreed]:
    """Train every experiment from every seed, probe the last mini-batch of every epoch, and yield a row per level.

    Args:
        experiments: by the labels they are to have in the rows.
        seeds: each takes the place of an experiment's own.
        device: see `Run`.
        data_dir: see `Run`.

    Raises:
        InvalidValue, GeometryError, DataError: as `Run`.
    """
    for label, experiment in experiments.items():
        for seed in seeds:
            run = train(experiment.replace(seed=seed), device=device, data_dir=data_dir, probe=Every(epochs=1))
            for event in run:
                if isinstance(event, Probed):
                    for level in LEVELS:
                        measured = getattr(event, level)
                        yield Agreed(
                            label=label,
                            seed=seed,
                            epoch=event.epoch,
                            level=level,
                            overall=measured.overall[0],
                            layers=tuple(layer[0] for layer in measured.layers),
                            undefined=tuple(layer[0] for layer in measured.undefined),
                        )
