"""The search for a training image with a unit whose delivered error signal has the wrong sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.training.inspection.error_signals import ErrorSignals
from mdfa_core.training.run import Run

SEARCHED = 2000
"""Largest number of training images in one search."""

CHUNK = 50
"""Training images in one forward pass of a search."""


@dataclass(frozen=True, kw_only=True)
class DisagreeingUnit:
    """A unit whose delivered error signal has the wrong sign for one training image.

    Attributes:
        index: place of the image in the training split.
        layer: the hidden layer, from 0.
        unit: place of the unit in its layer.
    """

    index: int
    layer: int
    unit: int


def find_disagreeing(run: Run, after: int = -1, replica: int = 0) -> DisagreeingUnit | None:
    """The next training image with a unit whose delivered error signal has the wrong sign, and its clearest such unit.

    The search covers up to `SEARCHED` images. It starts behind image `after` and continues at the first image. The
    clearest unit has the largest |true ε · delivered ε|, where each ε is divided by the largest |ε| of its layer.

    Args:
        run: the run.
        after: place in the training split.
        replica: the replica, from 0.

    Returns:
        The unit, or None if no sign is wrong.
    """
    for chunk in _searched(run, after, replica):
        signals = ErrorSignals.of_images(run, replica, chunk)
        # Per layer [N, units]: how clear a disagreement is, 0 if the signs do not disagree.
        clear = []
        for true, delivered in zip(signals.true.errors, signals.delivered.errors, strict=True):
            true, delivered = true[0].flatten(1), delivered[0].flatten(1)
            product = _relative(true) * _relative(delivered)
            clear.append(torch.where(true.sign() * delivered.sign() == -1, -product, 0.0))
        if not clear:
            return None
        found = torch.stack([layer.amax(1) for layer in clear])  # [layers, N]
        hits = torch.nonzero(found.amax(0) > 0).flatten()
        if len(hits):
            row = int(hits[0])
            number = int(found[:, row].argmax())
            return DisagreeingUnit(index=chunk[row], layer=number, unit=int(clear[number][row].argmax()))
    return None


def any_sign(run: Run, after: int = -1, replica: int = 0) -> bool:
    """Whether any sign can be compared in the images that `find_disagreeing` searches.

    A sign cannot be compared if the true or the delivered error signal is 0 or NaN.
    """
    for chunk in _searched(run, after, replica):
        signals = ErrorSignals.of_images(run, replica, chunk)
        for true, delivered in zip(signals.true.errors, signals.delivered.errors, strict=True):
            if ((true.sign() * delivered.sign()).abs() == 1).any():
                return True
    return False


def _searched(run: Run, after: int, replica: int) -> Iterator[list[int]]:
    """The places of the training images of a search, in chunks."""
    examples = len(run.tasks[replica].train)
    order = [(after + 1 + offset) % examples for offset in range(min(examples, SEARCHED))]
    for start in range(0, len(order), CHUNK):
        yield order[start : start + CHUNK]


def _relative(signals: Tensor) -> Tensor:
    """Each example's signals [N, units] divided by the largest of them; not 0 if the sign is defined."""
    return signals / signals.abs().amax(1, keepdim=True)
