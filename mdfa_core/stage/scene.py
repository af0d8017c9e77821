"""What stays the same while networks train: their layers, the units and weights that are drawn, and the pictures.

All rules of a comparison have one `Scene`, because they have the same layers and see the same images. Each has a `Row`
of its own: its name, its colours, and the path of its error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mdfa_core.base.colours import DARK, LIGHT, dash_of_rule
from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.networks import Network
from mdfa_core.rules.drawing import ErrorPath, error_path
from mdfa_core.rules.methods import Method
from mdfa_core.stage.pixels import base64_of
from mdfa_core.training import Run
from mdfa_core.training.inspection import Integers, Pixels, Points, evenly_spaced, is_plane, points, thumbnails

UNITS = 256
"""Largest number of units (of a convolution: filters) that are drawn in each layer; evenly spaced ones of more."""

LINKS = 72
"""Largest number of weights that are drawn between two layers."""

OUTPUTS = 10
"""Largest number of outputs that are drawn."""

FILTERS = 12
"""Largest number of first-layer filters in a frame."""

RESOLUTION = 40
"""Points per side of the plane in a frame."""

PICTURES = 6
"""Largest number of training images in a scene."""

PICTURE_SIZE = 24
"""Pixels per side above which a picture is shrunk."""

FILTER_SIZE = 12
"""Pixels per side above which a filter is shrunk."""

_GOLDEN = (5**0.5 - 1) / 2
_POINTS = 160


@dataclass(frozen=True, eq=False, kw_only=True)
class StagedLayer:
    """One hidden layer.

    Attributes:
        filters: whether its dots are filters, over all their positions, instead of units.
        count: number of its units (or filters).
        shown: places of those that are drawn, int64 [n].
    """

    filters: bool
    count: int
    shown: Integers


@dataclass(frozen=True, eq=False, kw_only=True)
class Links:
    """The weights that are drawn between two layers; always the same ones.

    Attributes:
        index: their places in the weight tensor of one replica, one array a dimension, for advanced indexing.
        start: for each, its place among the units drawn in the layer below; for the first layer, the input's number.
        end: for each, its place among the units drawn in the layer above.
        starts: number of different places at the start.
    """

    index: tuple[torch.Tensor, ...]
    start: Integers
    end: Integers
    starts: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One rule of a comparison.

    Attributes:
        name: its key.
        title: its short name.
        meaning: the short name spelled out.
        colours: its colour on a light and on a dark ground.
        dash: lengths of the dashes and gaps of its line; empty for a solid line.
        route: "direct" (from the output to each layer), "chain" (layer by layer), or "" if no path can be drawn.
        carriers: labels of the weights that bring the error to each hidden layer.
        carriers_held: whether these weights are kept non-negative.
        weights_held: whether the forward weights of each layer, the output layer last, are kept non-negative.
    """

    name: str
    title: str
    meaning: str
    colours: tuple[str, str]
    dash: tuple[int, ...]
    route: str
    carriers: tuple[str, ...]
    carriers_held: tuple[bool, ...]
    weights_held: tuple[bool, ...]

    def to_dict(self) -> dict[str, Any]:
        """As stage.js reads it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """What all rules of a comparison have in common.

    Attributes:
        layers: the hidden layers.
        links: the drawn weights of each layer, the output layer last.
        outputs: number of outputs.
        drawn_outputs: places of the outputs that are drawn, int64 [n].
        class_names: names of the classes, by label.
        indices: places of the pictured images in the training split; empty for points of the plane.
        pictures: these images, uint8 [n, C, H, W], shrunk to at most `PICTURE_SIZE` pixels a side.
        labels: their labels.
        points: some training points of the plane; None for images.
        filter_units: places of the units whose filters are in a frame, int64 [n]; empty for points of the plane.
        filter_shape: (C, H, W) of such a filter.
        epochs: of the whole run.
        examples: number of examples in a mini-batch.
    """

    layers: tuple[StagedLayer, ...]
    links: tuple[Links, ...]
    outputs: int
    drawn_outputs: Integers
    class_names: tuple[str, ...]
    indices: tuple[int, ...]
    pictures: Pixels
    labels: tuple[int, ...]
    points: Points | None
    filter_units: Integers
    filter_shape: tuple[int, int, int]
    epochs: int
    examples: int

    def to_dict(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        """As stage.js reads it: everything but the places of the weights, as JSON can write it."""
        return {
            "rows": [row.to_dict() for row in rows],
            "layers": [{**vars(layer), "shown": layer.shown.tolist()} for layer in self.layers],
            "links": [
                {"start": link.start.tolist(), "end": link.end.tolist(), "starts": link.starts} for link in self.links
            ],
            "outputs": self.outputs,
            "drawn_outputs": self.drawn_outputs.tolist(),
            "class_names": list(self.class_names),
            "pictures": {"shape": list(self.pictures.shape), "pixels": base64_of(self.pictures)},
            "labels": list(self.labels),
            "points": None if self.points is None else _points(self.points),
            "filters": {"units": self.filter_units.tolist(), "shape": list(self.filter_shape)},
            "resolution": RESOLUTION,
            "epochs": self.epochs,
            "examples": self.examples,
        }


def scene_of(run: Run, replica: int = 0) -> Scene:
    """The scene of a run and of all runs that differ from it in the learning rule alone."""
    network, task = run.network, run.tasks[replica]
    layers = tuple(
        StagedLayer(
            filters=layer.shares_weights,
            count=layer.weight_shape[0],
            shown=evenly_spaced(layer.weight_shape[0], UNITS),
        )
        for layer in network.hidden
    )
    drawn_outputs = evenly_spaced(network.outputs, OUTPUTS)
    plane = is_plane(run)
    first = network.layers[0]
    filter_units = evenly_spaced(first.weight_shape[0], FILTERS) if not plane else np.zeros(0, dtype=np.int64)
    pictured = thumbnails(run, replica, most=PICTURES, size=PICTURE_SIZE)
    return Scene(
        layers=layers,
        links=_links(network, [*(layer.shown for layer in layers), drawn_outputs]),
        outputs=network.outputs,
        drawn_outputs=drawn_outputs,
        class_names=task.class_names,
        indices=() if plane else pictured.indices,
        pictures=np.zeros((0, *task.input_shape), dtype=np.uint8) if plane else np.stack(pictured.pixels),
        labels=() if plane else pictured.labels,
        points=points(run, replica) if plane else None,
        filter_units=filter_units,
        filter_shape=_filter_shape(run, replica),
        epochs=run.experiments[0].epochs,
        examples=run.experiments[0].batch_size,
    )


def row_of(name: str, method: Method, hidden: int, number: int, *, title: str = "", note: str = "") -> Row:
    """The row of a rule.

    Args:
        name: its key.
        method: the rule.
        hidden: number of hidden layers.
        number: its place in the order of all rules, which decides its colour.
        title: its short name, if it is not the method's.
        note: what follows the meaning, for example the seed.
    """
    meaning = method.description.partition(":")[0]
    try:
        path = error_path(method, hidden) if hidden else ErrorPath("", (), ())
    except InvalidValue:  # a rule from outside may have feedback of any shape
        path = ErrorPath("", (), ())
    return Row(
        name=name,
        title=title or method.title,
        meaning=f"{meaning} ({note})" if note else meaning,
        colours=(LIGHT.rule(number), DARK.rule(number)),
        dash=dash_of_rule(number),
        route=path.route,
        carriers=path.weights,
        carriers_held=path.non_negative,
        weights_held=tuple(method.constraint.covers(layer) for layer in range(hidden + 1)),
    )


def _links(network: Network, shown: list[Integers]) -> tuple[Links, ...]:
    """The drawn weights of every layer, evenly spread over the units that are drawn at both of their ends."""
    made = []
    for number, layer in enumerate(network.layers):
        fan_in = layer.fan_in
        # Inputs are ordered by unit (or filter) of the layer below, then by position.
        below = shown[number - 1] if number else np.arange(fan_in)
        positions = fan_in // network.layers[number - 1].weight_shape[0] if number else 1
        start, end = _pairs(len(below), len(shown[number]))
        inputs = below[start] * positions + np.arange(len(start)) % positions
        index = np.unravel_index(shown[number][end] * fan_in + inputs, layer.weight_shape)
        made.append(
            Links(index=tuple(torch.from_numpy(axis) for axis in index), start=start, end=end, starts=len(below))
        )
    return tuple(made)


def _pairs(starts: int, ends: int) -> tuple[Integers, Integers]:
    """At most `LINKS` pairs of a start and an end, evenly spread; all pairs if there are no more."""
    if starts * ends <= LINKS:
        start, end = np.divmod(np.arange(starts * ends), ends)
        return start, end
    count = np.arange(LINKS)
    start = (count * _GOLDEN % 1 * starts).astype(np.int64)
    return start, count * ends // LINKS


def _filter_shape(run: Run, replica: int) -> tuple[int, int, int]:
    """(C, H, W) of a first-layer filter after shrinking."""
    layer = run.network.layers[0]
    shape = layer.weight_shape[1:] if layer.shares_weights else run.tasks[replica].input_shape
    channels, height, width = shape
    scale = min(1.0, FILTER_SIZE / max(height, width))
    return channels, max(1, round(height * scale)), max(1, round(width * scale))


def _points(found: Points) -> dict[str, Any]:
    """At most `_POINTS` training points, evenly spaced, as shares of the plane's side in 1/255."""
    places = np.flatnonzero(found.training)
    places = places[evenly_spaced(len(places), _POINTS)]
    return {
        "xy": base64_of(np.rint(255 * found.xy[places]).astype(np.uint8)),
        "labels": found.labels[places].tolist(),
    }
