"""Sign agreement during training, at all three levels, for several experiments."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mdfa_core.learning.probes import LEVELS
from mdfa_core.training import Every, Experiment, Probed, train


@dataclass(frozen=True, kw_only=True)
class LevelAgreement:
    """Sign agreement at one level, in the probe at the end of one epoch.

    Attributes:
        label: the experiment.
        seed: seed of the run.
        epoch: epoch of the probe.
        level: one of `probes.LEVELS`.
        overall: share of entries whose delivered sign equals the true sign, over all hidden layers. Entries that are
            zero or undefined on either side do not count; None if none is left.
        layers: the same per hidden layer.
        undefined: share of entries that do not count, per hidden layer.
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
) -> Iterator[LevelAgreement]:
    """Train every experiment with every seed, probe the last mini-batch of every epoch, and yield its agreements.

    Args:
        experiments: experiments by label.
        seeds: replace the experiments' own seeds.
        device: see `Run`.
        data_dir: see `Run`.

    Raises:
        InvalidValue, GeometryError, DataError: see `Run`.
    """
    for label, experiment in experiments.items():
        for seed in seeds:
            run = train(experiment.replace(seed=seed), device=device, data_dir=data_dir, probe=Every(epochs=1))
            for event in run:
                if isinstance(event, Probed):
                    for level in LEVELS:
                        measured = getattr(event, level)
                        yield LevelAgreement(
                            label=label,
                            seed=seed,
                            epoch=event.epoch,
                            level=level,
                            overall=measured.overall[0],
                            layers=tuple(layer[0] for layer in measured.layers),
                            undefined=tuple(layer[0] for layer in measured.undefined),
                        )
