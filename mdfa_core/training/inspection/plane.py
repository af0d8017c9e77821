"""Tasks whose images are points of the plane: the points, and the network's prediction all over the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.data.plane import SHAPE
from mdfa_core.training.inspection.arrays import Integers, Reals, as_float32
from mdfa_core.training.inspection.error_signals import class_probabilities
from mdfa_core.training.run import Run

RESOLUTION = 96
"""Points per side of the grid on which `boundary` evaluates the network."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """The training and validation points of a task.

    Attributes:
        xy: float32 [N, 2], from 0 to 1.
        labels: int64 [N], from 0.
        training: bool [N], True for training points and False for validation points.
    """

    xy: Reals
    labels: Integers
    training: NDArray[np.bool_]


def is_plane(run: Run) -> bool:
    """Whether a run's images are points of the plane."""
    return run.tasks[0].input_shape == SHAPE


def points(run: Run, replica: int = 0) -> Points:
    """The points of a replica's task, rounded as the network sees them."""
    splits = (run.tasks[replica].train, run.tasks[replica].validation)
    pixels = [split.gather(torch.arange(len(split), device=run.device)) for split in splits]
    return Points(
        xy=as_float32(torch.cat(pixels).flatten(1).float() / 255),
        labels=torch.cat([split.labels for split in splits]).cpu().numpy(),
        training=np.repeat((True, False), [len(split) for split in splits]),
    )


def boundary(run: Run, resolution: int = RESOLUTION) -> Reals:
    """The probability of class 1 on a grid, float32 [R, H, W].

    Element [r, h, w] belongs to the point ((w + 1/2) / W, (h + 1/2) / H), so row 0 is at the bottom.

    Args:
        run: the run.
        resolution: H and W.

    Raises:
        InvalidValue: the run's images are not points of the plane.
    """
    return as_float32(_probabilities(run, resolution)[..., 1])


def decision(run: Run, resolution: int = RESOLUTION) -> NDArray[np.uint8]:
    """What the network says on the grid of `boundary`, one byte a point: uint8 [R, H, W].

    For two classes, 255 times the probability of class 1. For k > 2 classes, the most probable class c and how far its
    probability p is above chance: c · w + round((w - 1) (k p - 1) / (k - 1)) with w = ⌊256 / k⌋. NaN counts as 0.

    Args:
        run: the run.
        resolution: H and W.

    Raises:
        InvalidValue: the run's images are not points of the plane.
    """
    probabilities = _probabilities(run, resolution).float().nan_to_num(0)
    classes = probabilities.shape[3]
    if classes == 2:
        bytes_ = (255 * probabilities[..., 1]).round()
    else:
        width = 256 // classes
        share, winner = probabilities.max(3)
        bytes_ = winner * width + ((width - 1) * (classes * share - 1).clamp(0) / (classes - 1)).round()
    return bytes_.to(torch.uint8).cpu().numpy()


def unit_response(run: Run, layer: int, unit: int, resolution: int = RESOLUTION, *, replica: int = 0) -> Reals:
    """The output h of a hidden unit on the grid of `boundary`, float32 [H, W].

    Args:
        run: the run.
        layer: the hidden layer, from 0.
        unit: the unit in it, from 0.
        resolution: H and W.
        replica: the replica, from 0.

    Raises:
        InvalidValue: the run's images are not points of the plane.
    """
    forward_pass = run.network.forward(run.learner.parameters.replica(replica), _grid(run, resolution))
    return as_float32(forward_pass.inputs[layer + 1][0, :, unit]).reshape(resolution, resolution)


def _probabilities(run: Run, resolution: int) -> Tensor:
    """The probability of every class on a grid, [R, H, W, classes]."""
    logits = run.network.forward(run.learner.parameters, _grid(run, resolution)).logits_RNC
    return class_probabilities(logits).unflatten(1, (resolution, resolution))


def _grid(run: Run, resolution: int) -> torch.Tensor:
    """Network inputs, [1, H · W, …]; the points follow each other from left to right, then from the bottom up."""
    if not is_plane(run):
        raise InvalidValue(
            f"images of the shape {run.tasks[0].input_shape} "
            f"are not points of the plane: choose a data set of points, such as moons"
        )
    ticks = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return run.network.inputs_from(torch.stack([x, y], 2).reshape(1, -1, *SHAPE).to(run.device))
