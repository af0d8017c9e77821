"""Figure 1 as plain data: what carries activity forward and what carries the error back, for any method.

Coordinates grow to the right and upwards; nothing here draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.errors import InvalidValue
from mdfa_core.methods import Method
from mdfa_core.networks import Architecture, Dense, Network

Point = tuple[float, float]

_WIDTH, _HEIGHT = 1.0, 0.34  # of a layer's box
_SPACING = 1.0  # from one layer to the next
_ASIDE = 0.24  # from the middle of a box to the arrows above and below it
_GAP = 0.05  # between an arrow and a box
_HEAD_LENGTH, _HEAD_WIDTH = 0.14, 0.11
_LANE = 0.26  # between two error paths beside the net


@dataclass(frozen=True, kw_only=True)
class Box:
    """One layer's activities."""

    name: str
    center: Point

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        x, y = self.center
        return (x - _WIDTH / 2, y - _HEIGHT / 2, x + _WIDTH / 2, y + _HEIGHT / 2)

    @property
    def units(self) -> tuple[Point, ...]:
        """Where the circles go that stand for its units."""
        x, y = self.center
        return tuple((x + shift, y) for shift in (-0.3, -0.1, 0.1, 0.3))


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """One set of weights: a line from point to point with a head at its end.

    Attributes:
        kind: "forward" or "error".
        label: its weights: Wₗ learned, Bₗ feedback, ᵀ transposed, ⁺ held to be non-negative.
        label_at: the middle of the label.
    """

    kind: str
    points: tuple[Point, ...]
    label: str
    label_at: Point

    @property
    def line(self) -> tuple[Point, ...]:
        """The points, the last one moved back to where the head begins."""
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
    """A net, input at the bottom and output at the top, with the ways of activity and of error."""

    title: str
    description: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def transport_drawing(method: Method, *, hidden: int = 2) -> Drawing:
    """A method's error transport as the paper draws it, derived from the method alone.

    The transport says where errors come from and what carries them. One that does not say is drawn by the shapes of its
    feedback: none at all, and the error returns through the forward weights; shaped like the weights of the layer
    above, and it returns step by step through fixed weights; outputs × units, and it comes straight from the output.

    Args:
        method: any `Method`.
        hidden: hidden layers to draw, at least 1.

    Raises:
        InvalidValue: `hidden` is not positive, or the feedback has shapes of another kind.

    Source: Figure 1.
    """
    if not isinstance(hidden, int) or isinstance(hidden, bool) or hidden < 1:
        raise InvalidValue(f"a drawing of {hidden!r} hidden layers was asked for: give an integer of at least 1")
    layers = hidden + 1
    heights = [_SPACING * number for number in range(layers + 1)]
    names = ["x", *(f"h{_subscript(number)}" for number in range(1, layers)), "y"]
    boxes = tuple(Box(name=name, center=(0.0, height)) for name, height in zip(names, heights, strict=True))
    constraint = method.constraint
    arrows = [
        _between(
            "forward",
            heights[number - 1],
            heights[number],
            f"W{_subscript(number)}{'⁺' if constraint.covers(number - 1) else ''}",
        )
        for number in range(1, layers + 1)
    ]
    way, carrier = _way(method, hidden)
    for number in reversed(range(1, layers)):  # the layer that is to learn
        above = number if way == "direct" else number + 1
        name = (carrier if above < layers else method.transport.carrier_on_top or carrier).format(_subscript(above))
        held = constraint.covers(number) if "W" in name else constraint.feedback
        label = f"{name}{'⁺' if held else ''}"
        if way == "direct":
            arrows.append(_beside(heights[-1], heights[number], layers - number, hidden, label))
        else:
            arrows.append(_between("error", heights[above], heights[number], label))
    return Drawing(title=method.title, description=method.description, boxes=boxes, arrows=tuple(arrows))


def _way(method: Method, hidden: int) -> tuple[str, str]:
    """Where errors come from, "chain" or "direct", and through what: as said, or by the feedback of unequal widths."""
    transport = method.transport
    if transport.way:
        return transport.way, transport.carrier
    outputs = 2
    widths = [outputs + 1 + number for number in range(hidden)]
    network = Network(Architecture(tuple(map(Dense, widths))), (1,), outputs, ACTIVATIONS["tanh"])
    shapes = [item.shape for item in transport.feedback(network)]
    if not shapes:
        return "chain", "W{0}ᵀ"
    if shapes == [(outputs, width) for width in widths]:
        return "direct", transport.carrier
    if shapes == [layer.weight_shape for layer in network.layers[1:]]:
        return "chain", transport.carrier
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
    """An error's way from the output's height, down a lane on the right, to a layer's height; lane 1 is the nearest."""
    edge, x = _WIDTH / 2, _WIDTH / 2 + _LANE * (lane + 1)
    apart = _HEIGHT * (0.5 * (lane - 1) / max(1, lanes - 1) - 0.25)  # so that no two lines leave the output as one
    return Arrow(
        kind="error",
        points=((edge, start + apart), (x, start + apart), (x, end), (edge + _GAP, end)),
        label=label,
        label_at=(edge + _LANE, end + 0.16),
    )


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
