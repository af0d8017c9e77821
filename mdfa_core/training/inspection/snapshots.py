"""Everything that a drawing of a run needs: what stays the same (`Overview`), and one moment (`Snapshot`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mdfa_core.training.inspection.arrays import Pixels, Reals, shrunk
from mdfa_core.training.inspection.examples import Example, example
from mdfa_core.training.inspection.plane import Points, boundary, decision, is_plane, points
from mdfa_core.training.inspection.weights import Filters, LayerHistograms, filters, histograms
from mdfa_core.training.run import Run

_THUMBNAILS = 12
THUMBNAIL_SIZE = 64
"""Pixels per side above which a thumbnail is shrunk, unless another size is given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Thumbnails:
    """Some training images, of every class equally many if the classes have enough.

    Attributes:
        indices: place of each image in the training split.
        pixels: each image, uint8 [C, H, W]; large ones are shrunk.
        labels: label of each image.
    """

    indices: tuple[int, ...]
    pixels: tuple[Pixels, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Overview:
    """Facts for drawings that stay the same during a run.

    Attributes:
        class_names: names of the classes, in the order of the labels.
        layers: name of every layer, the output layer last.
        examples: number of training images.
        points: the points of the plane; None if the images are not points.
        thumbnails: some training images.
    """

    class_names: tuple[str, ...]
    layers: tuple[str, ...]
    examples: int
    points: Points | None
    thumbnails: Thumbnails


@dataclass(frozen=True, kw_only=True)
class SnapshotRequest:
    """The parts that a snapshot should contain.

    Attributes:
        plane: what the network says all over the plane, if the images are points of the plane.
        weights: histograms and filters.
        example: one training image, given by its place in the training split.
        unit: a unit that the example must list, as (hidden layer from 0, unit).
    """

    plane: bool = False
    weights: bool = False
    example: int | None = None
    unit: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshot:
    """One moment of a run. A part is None if it was not requested or does not exist.

    Attributes:
        overview: what stays the same during the run.
        step, epoch: the last mini-batch and its epoch.
        boundary: the probability of class 1 on a grid, float32 [H, W]; see `boundary`. Only for two classes.
        decision: the most probable class on a grid, uint8 [H, W]; see `decision`. Only for more classes.
        histograms: of every layer.
        filters: of the first layer.
        example: a training image.
        unit: the unit that the request names.
    """

    overview: Overview
    step: int
    epoch: int
    boundary: Reals | None = None
    decision: Pixels | None = None
    histograms: tuple[LayerHistograms, ...] | None = None
    filters: Filters | None = None
    example: Example | None = None
    unit: tuple[int, int] | None = None


def overview(run: Run, replica: int = 0) -> Overview:
    """The facts of a run that stay the same. Make one per run: drawings take a new overview for a new run."""
    task = run.tasks[replica]
    return Overview(
        class_names=task.class_names,
        layers=tuple(layer.name for layer in run.network.layers),
        examples=len(task.train),
        points=points(run, replica) if is_plane(run) else None,
        thumbnails=thumbnails(run, replica),
    )


def snapshot(run: Run, overview: Overview, request: SnapshotRequest, replica: int = 0) -> Snapshot:
    """The requested parts of a replica, at this moment.

    Raises:
        InvalidValue: there is no such training image, or no such unit.
    """
    example_ = None
    if request.example is not None:
        example_ = example(run, request.example, replica, include=request.unit)
    plane, two = request.plane and is_plane(run), len(overview.class_names) == 2
    return Snapshot(
        overview=overview,
        step=run.step,
        epoch=run.epoch,
        boundary=boundary(run)[replica] if plane and two else None,
        decision=decision(run)[replica] if plane and not two else None,
        histograms=histograms(run, replica) if request.weights else None,
        filters=filters(run, replica) if request.weights else None,
        example=example_,
        unit=request.unit,
    )


def thumbnails(run: Run, replica: int = 0, *, most: int = _THUMBNAILS, size: int = THUMBNAIL_SIZE) -> Thumbnails:
    """At most `most` training images of a replica's task, at most `size` pixels per side."""
    split = run.tasks[replica].train
    labels = split.labels.cpu().numpy()
    # The first image of every class, then the second of every class, …
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in range(len(run.tasks[replica].class_names)):
        of_class = np.flatnonzero(labels == label)
        rank[of_class] = np.arange(len(of_class))
    chosen = np.sort(np.argsort(rank, kind="stable")[:most])
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    images = split.gather(torch.from_numpy(chosen).to(run.device)).cpu()
    small = shrunk(images.float(), size).round().to(torch.uint8).numpy()
    return Thumbnails(indices=tuple(chosen.tolist()), pixels=tuple(small), labels=tuple(labels[chosen].tolist()))
