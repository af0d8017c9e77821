"""Figure 1's drawings follow from the methods: what is fed where, what is held to be non-negative."""

from __future__ import annotations

import math

import pytest

from mdfa_core import METHODS
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import MONO, Chain, Direct, FeedbackShape, Method
from mdfa_core.rules.drawing import Drawing, transport_drawing


def labels(drawing: Drawing, kind: str) -> list[str]:
    return [arrow.label for arrow in drawing.arrows if arrow.kind == kind]


EXPECTED = {
    "bp": (["W₁", "W₂", "W₃"], ["W₃ᵀ", "W₂ᵀ"]),
    "fa": (["W₁", "W₂", "W₃"], ["B₃", "B₂"]),
    "dfa": (["W₁", "W₂", "W₃"], ["B₂", "B₁"]),
    "mdfa": (["W₁", "W₂⁺", "W₃⁺"], ["B₂⁺", "B₁⁺"]),
    "usf": (["W₁", "W₂", "W₃"], ["sgn W₃ᵀ", "sgn W₂ᵀ"]),
    "brsf": (["W₁", "W₂", "W₃"], ["M₃ sgn W₃ᵀ", "M₂ sgn W₂ᵀ"]),
    "frsf": (["W₁", "W₂", "W₃"], ["M₃ sgn W₃ᵀ", "M₂ sgn W₂ᵀ"]),
    "kp": (["W₁", "W₂", "W₃"], ["B₃", "B₂"]),
    "sdfa": (["W₁", "W₂", "W₃"], ["B₂", "B₁"]),
    "drtp": (["W₁", "W₂", "W₃"], ["B₂", "B₁"]),
    "dtp": (["W₁", "W₂", "W₃"], ["W₃ᵀ", "V₂"]),
    "chl": (["W₁", "W₂", "W₃"], ["γW₃ᵀ", "γW₂ᵀ"]),
    "dkp": (["W₁", "W₂", "W₃"], ["B₂", "B₁"]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_drawings_are_those_expected(name: str) -> None:
    drawing = transport_drawing(METHODS[name])
    assert (labels(drawing, "forward"), labels(drawing, "error")) == EXPECTED[name]
    assert [box.name for box in drawing.boxes] == ["x", "h₁", "h₂", "y"]
    assert drawing.title == METHODS[name].title


@pytest.mark.parametrize("hidden", [1, 2, 5])
@pytest.mark.parametrize("name", METHODS)
def test_activity_goes_up_and_errors_come_down_to_every_hidden_layer(name: str, hidden: int) -> None:
    drawing = transport_drawing(METHODS[name], hidden=hidden)
    assert len(drawing.boxes) == hidden + 2
    height = {box.name: box.center[1] for box in drawing.boxes}
    forward = [arrow for arrow in drawing.arrows if arrow.kind == "forward"]
    errors = [arrow for arrow in drawing.arrows if arrow.kind == "error"]
    assert (len(forward), len(errors)) == (hidden + 1, hidden)
    assert all(arrow.points[-1][1] > arrow.points[0][1] for arrow in forward)
    assert all(arrow.points[-1][1] < arrow.points[0][1] for arrow in errors)
    ends = sorted(arrow.points[-1][1] for arrow in errors)
    wanted = sorted(y for box, y in height.items() if box.startswith("h"))
    assert ends == pytest.approx(wanted, abs=0.3)


def test_direct_errors_start_at_the_output_and_do_not_cross() -> None:
    drawing = transport_drawing(METHODS["dfa"], hidden=4)
    errors = [arrow for arrow in drawing.arrows if arrow.kind == "error"]
    left, bottom, right, top = drawing.boxes[-1].corners
    for arrow in errors:
        assert arrow.points[0][0] == right
        assert bottom < arrow.points[0][1] < top
        assert left < right
    lanes = [arrow.points[1][0] for arrow in errors]
    starts = [arrow.points[0][1] for arrow in errors]
    assert lanes == sorted(set(lanes))
    assert starts == sorted(set(starts))


def test_a_head_is_a_triangle_at_the_end_of_its_line() -> None:
    for name in ("bp", "dfa"):
        for arrow in transport_drawing(METHODS[name]).arrows:
            tip, one, other = arrow.head
            assert tip == arrow.points[-1]
            assert math.dist(tip, one) == pytest.approx(math.dist(tip, other))
            middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
            assert middle == pytest.approx(arrow.line[-1])
            assert arrow.line[:-1] == arrow.points[:-1]


def test_units_lie_inside_their_box() -> None:
    for box in transport_drawing(METHODS["bp"]).boxes:
        left, bottom, right, top = box.corners
        assert all(left < x < right and bottom < y < top for x, y in box.units)


def test_a_new_method_is_drawn_from_its_shapes() -> None:
    drawing = transport_drawing(
        Method(title="mono-FA", description="FA in a mono-net", transport=Chain(fixed=True), constraint=MONO)
    )
    assert labels(drawing, "error") == ["B₃⁺", "B₂⁺"]
    assert labels(drawing, "forward") == ["W₁", "W₂⁺", "W₃⁺"]
    mono_bp = Method(title="mono-BP", description="", transport=Chain(fixed=False), constraint=MONO)
    assert labels(transport_drawing(mono_bp), "error") == ["W₃ᵀ⁺", "W₂ᵀ⁺"]


def test_what_cannot_be_drawn_is_refused() -> None:
    class Odd(Direct):
        route = ""

        def feedback(self, network: object) -> tuple[FeedbackShape, ...]:
            return (FeedbackShape((1, 1, 1), 1),)

    with pytest.raises(InvalidValue, match="odd has feedback of the shapes"):
        transport_drawing(Method(title="odd", description="", transport=Odd()))
    for hidden in (0, 1.5, True):
        with pytest.raises(InvalidValue, match="at least 1"):
            transport_drawing(METHODS["bp"], hidden=hidden)
