"""The paper's Figure 1 for any method, as plain data: boxes, and arrows for activity and error.

Coordinates grow to the right and upwards. Other modules draw this data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture, Network
from mdfa_core.rules.methods import Method

Point = tuple[float, float]

_WIDTH, _HEIGHT = 1.0, 0.34  # size of a layer's box
_SPACING = 1.0  # between the centres of two layers
_ASIDE = 0.24  # from the centre of a box to the arrows above and below it
_GAP = 0.05  # between an arrow and a box
_HEAD_LENGTH, _HEAD_WIDTH = 0.14, 0.11
_LANE = 0.26  # between two error paths beside the network


@dataclass(frozen=True, kw_only=True)
class Box:
    """The box of one layer's activities."""

    name: str
    center: Point

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        x, y = self.center
        return (x - _WIDTH / 2, y - _HEIGHT / 2, x + _WIDTH / 2, y + _HEIGHT / 2)

    @property
    def units(self) -> tuple[Point, ...]:
        """Centres of the circles that stand for its units."""
        x, y = self.center
        return tuple((x + shift, y) for shift in (-0.3, -0.1, 0.1, 0.3))


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """One set of weights: a line from point to point with a head at its end.

    Attributes:
        kind: "forward" or "error".
        label: its weights: Wₗ forward, Bₗ feedback, ᵀ transposed, ⁺ non-negative.
        label_at: the centre of the label.
    """

    kind: str
    points: tuple[Point, ...]
    label: str
    label_at: Point

    @property
    def line(self) -> tuple[Point, ...]:
        """The points, the last one moved back to the start of the head."""
        (x0, y0), (x1, y1) = self.points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        share = 1 - _HEAD_LENGTH / length
        return (*self.points[:-1], (x0 + share * (x1 - x0), y0 + share * (y1 - y0)))

    @property
    def head(self) -> tuple[Point, Point, Point]:
        """The triangle at its end."""
        x0, y0 = self.line[-1]
        x1, y1 = self.points[-1]
        across_x, across_y = (y1 - y0) / _HEAD_LENGTH, (x0 - x1) / _HEAD_LENGTH
        side = _HEAD_WIDTH / 2
        return (
            (x1, y1),
            (x0 + side * across_x, y0 + side * across_y),
            (x0 - side * across_x, y0 - side * across_y),
        )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A network, input at the bottom and output at the top, with the paths of activity and error."""

    title: str
    description: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True)
class ErrorPath:
    """How the error reaches the hidden layers, which are listed from the first to the last.

    Attributes:
        route: "chain" (layer to layer) or "direct" (from the output).
        weights: labels of the weights that bring the error to each hidden layer, such as B₁ or W₂ᵀ.
        non_negative: whether these weights are kept ≥ 0.
    """

    route: str
    weights: tuple[str, ...]
    non_negative: tuple[bool, ...]


def transport_drawing(method: Method, *, hidden: int = 2) -> Drawing:
    """A method's forward and error paths, as the paper draws them, derived from the method alone.

    `Transport.route` and `Method.words` say what to draw. If the route is not given, the shapes of the feedback decide:
    without feedback the error returns through the forward weights; feedback shaped like the weights of the layer above
    brings it back layer by layer; feedback of outputs × units brings it straight from the output.

    Args:
        method: any `Method`.
        hidden: hidden layers to draw, at least 1.

    Raises:
        InvalidValue: `hidden` is not positive, or the feedback has shapes of another kind.

    Source: Figure 1.
    """
    if not isinstance(hidden, int) or isinstance(hidden, bool) or hidden < 1:
        raise InvalidValue(f"hidden is {hidden!r}: give an integer of at least 1")
    layers = hidden + 1
    heights = [_SPACING * number for number in range(layers + 1)]
    names = ["x", *(f"h{subscript(number)}" for number in range(1, layers)), "y"]
    boxes = tuple(Box(name=name, center=(0.0, height)) for name, height in zip(names, heights, strict=True))
    constraint = method.constraint
    arrows = [
        _between(
            "forward",
            heights[number - 1],
            heights[number],
            f"W{subscript(number)}{'⁺' if constraint.covers(number - 1) else ''}",
        )
        for number in range(1, layers + 1)
    ]
    error = error_path(method, hidden)
    for number in reversed(range(1, layers)):  # the layer that receives the error
        label = f"{error.weights[number - 1]}{'⁺' if error.non_negative[number - 1] else ''}"
        if error.route == "direct":
            arrows.append(_beside(heights[-1], heights[number], layers - number, hidden, label))
        else:
            arrows.append(_between("error", heights[number + 1], heights[number], label))
    return Drawing(title=method.title, description=method.description, boxes=boxes, arrows=tuple(arrows))


def error_path(method: Method, hidden: int) -> ErrorPath:
    """The path of the error through a network with `hidden` hidden layers.

    If `Transport.route` is empty, the shapes of the feedback decide, as in `transport_drawing`.

    Raises:
        InvalidValue: the feedback has shapes of another kind.
    """
    route, carrier = _route(method)
    above = range(1, hidden + 1) if route == "direct" else range(2, hidden + 2)  # the layer that numbers the weights
    names = [(carrier if layer <= hidden else method.words.top_carrier or carrier) for layer in above]
    return ErrorPath(
        route,
        tuple(name.format(subscript(layer)) for name, layer in zip(names, above, strict=True)),
        tuple(
            method.constraint.covers(layer - 1) if "W" in name else method.constraint.feedback
            for name, layer in zip(names, above, strict=True)
        ),
    )


def subscript(number: int) -> str:
    """A number in subscript digits."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _route(method: Method) -> tuple[str, str]:
    """The route of the error, and the label of the weights it passes through."""
    transport = method.transport
    if transport.route:
        return transport.route, method.carrier
    outputs = 2
    widths = [outputs + 1, outputs + 2]  # with one layer, or equal widths, both routes could have the same shapes
    network = Network(Architecture(tuple(map(Dense, widths))), (1,), outputs, ACTIVATIONS["tanh"])
    shapes = [item.shape for item in transport.feedback(network)]
    if not shapes:
        return "chain", method.words.carrier or "W{0}ᵀ"
    if shapes == [(outputs, width) for width in widths]:
        return "direct", method.carrier
    if shapes == [layer.weight_shape for layer in network.layers[1:]]:
        return "chain", method.carrier
    raise InvalidValue(
        f"{method.title} has feedback of the shapes {shapes}: only feedback shaped like the weights above a layer, or "
        f"outputs × units, can be drawn"
    )


def _between(kind: str, start: float, end: float, label: str) -> Arrow:
    """An arrow from one layer's height to the next: activity on the left, errors on the right."""
    side = -_ASIDE if kind == "forward" else _ASIDE
    up = 1 if end > start else -1
    reach = _HEIGHT / 2 + _GAP
    return Arrow(
        kind=kind,
        points=((side, start + up * reach), (side, end - up * reach)),
        label=label,
        label_at=(side + math.copysign(0.24, side), (start + end) / 2),
    )


def _beside(start: float, end: float, lane: int, lanes: int, label: str) -> Arrow:
    """An error path from the output down a lane on the right side to a layer; lane 1 is the nearest."""
    edge, x = _WIDTH / 2, _WIDTH / 2 + _LANE * (lane + 1)
    apart = _HEIGHT * (0.5 * (lane - 1) / max(1, lanes - 1) - 0.25)  # separate starts for the lines
    return Arrow(
        kind="error",
        points=((edge, start + apart), (x, start + apart), (x, end), (edge + _GAP, end)),
        label=label,
        label_at=(edge + _LANE, end + 0.16),
    )
