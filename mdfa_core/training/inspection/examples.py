"""One training image: its class probabilities, and every hidden unit's true and delivered error signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning import probes
from mdfa_core.training.inspection.arrays import Integers, Pixels, Reals, as_float32, evenly_spaced
from mdfa_core.training.inspection.error_signals import ErrorSignals, class_probabilities
from mdfa_core.training.run import Run

UNITS = 48
"""Largest number of units per layer that are listed one by one."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerSignals:
    """The true and the delivered error signals ε of one hidden layer, for one example.

    Attributes:
        name: the layer's name.
        shape: shape of its units: (units,), or (filters, rows, columns).
        units: places of the listed units, int64 [n], counted row by row through `shape`; all units of a layer with at
            most `UNITS`, otherwise evenly spaced ones.
        true: ∂L/∂h of the listed units, float32 [n].
        delivered: the learning rule's error signals for the listed units, float32 [n].
        agreeing, disagreeing, undefined: how many of all units have equal signs, opposite signs, or a signal of 0.
    """

    name: str
    shape: tuple[int, ...]
    units: Integers
    true: Reals
    delivered: Reals
    agreeing: int
    disagreeing: int
    undefined: int

    @property
    def signs(self) -> NDArray[np.int8]:
        """For each listed unit: 1 if the signs agree, -1 if they disagree, 0 if a signal is 0 or NaN."""
        signs = np.sign(self.true) * np.sign(self.delivered)
        return np.nan_to_num(signs, nan=0.0).astype(np.int8)


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One training image, the network's prediction for it, and the error signals it causes.

    Attributes:
        index: place of the image in the training split.
        pixels: the image, uint8 [C, H, W].
        label: its label.
        probabilities: predicted probability of every class.
        layers: error signals of every hidden layer.
    """

    index: int
    pixels: Pixels
    label: int
    probabilities: tuple[float, ...]
    layers: tuple[LayerSignals, ...]


def example(run: Run, index: int, replica: int = 0, *, include: tuple[int, int] | None = None) -> Example:
    """One training image of a replica, its prediction, and the true and delivered ε of every hidden unit.

    ε belongs to this example alone: it is not divided by the size of a mini-batch.

    Args:
        run: the run.
        index: place of the image in the training split.
        replica: the replica, from 0.
        include: a unit that must be listed, as (hidden layer from 0, unit).

    Raises:
        InvalidValue: there is no such image, or no such unit.
    """
    split = run.tasks[replica].train
    if not 0 <= index < len(split):
        raise InvalidValue(f"there is no training image {index}: choose one from 0 to {len(split) - 1}")
    signals = ErrorSignals.of_images(run, replica, [index])
    layers = []
    for number, layer in enumerate(run.network.hidden):
        extra = include[1] if include is not None and include[0] == number else None
        if extra is not None and not 0 <= extra < layer.units:
            raise InvalidValue(f"{layer.name} has no unit {extra}: choose one from 0 to {layer.units - 1}")
        units = evenly_spaced(layer.units, UNITS)
        if extra is not None and extra not in units:
            units[np.abs(units - extra).argmin()] = extra
        true, delivered = signals.true.errors[number], signals.delivered.errors[number]
        counts = probes.sign_counts(delivered, true)
        agree, defined = int(counts.agree), int(counts.defined)
        layers.append(
            LayerSignals(
                name=layer.name,
                shape=layer.output_shape,
                units=units,
                true=as_float32(true).reshape(-1)[units],
                delivered=as_float32(delivered).reshape(-1)[units],
                agreeing=agree,
                disagreeing=defined - agree,
                undefined=counts.total - defined,
            )
        )
    place = torch.tensor([index], device=run.device)
    return Example(
        index=index,
        pixels=split.gather(place)[0].cpu().numpy(),
        label=int(split.labels[index]),
        probabilities=tuple(class_probabilities(signals.forward_pass.logits_RNC)[0, 0].tolist()),
        layers=tuple(layers),
    )
