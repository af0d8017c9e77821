"""A drawing of a net as SVG, as the paper's Figure 1: images in, the way forward above, the error's way below.

The drawing stays while a net trains: of the `live.LiveHTML` that holds it, the texts `share0`, `share1`, … are the
layers' shares and the styles `layer0`, `layer1`, … their colours.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.messages import Facts
from app.pictures import png
from app.words import percent
from mdfa_core import Experiment
from mdfa_core.methods import Method
from mdfa_core.networks import Conv, Dense, parse_architecture

_WIDTH, _HEIGHT = 640, 176
_TOP, _BOTTOM = 30, 98  # of the boxes
_FIRST, _LAST = 186, 596  # middle of the first hidden layer and of the output
_TASK = 104  # width of the images
_FORWARD = 52  # height of the way forward


def draw(method: Method, experiment: Experiment, facts: Facts | None, chosen: int | None) -> str:
    """The net of `experiment` as `method` trains it; layer `chosen` (from 0) is the one whose detail is shown."""
    hidden = parse_architecture(experiment.network).hidden
    places = [_FIRST + (_LAST - _FIRST) * number / max(1, len(hidden)) for number in range(len(hidden) + 1)]
    if not hidden:
        places = [_LAST]
    half = min(42.0, 0.34 * (places[1] - places[0])) if hidden else 40.0
    parts = [_task(facts)]

    for number, place in enumerate(places):
        start = _TASK + 6 if number == 0 else places[number - 1] + half + 3
        parts.append(_arrow(f"M{start:.0f} {_FORWARD}H{place - half - 5:.0f}", "forward"))
        middle = (start + place - half - 4) / 2
        if method.constraint.covers(number):
            parts.append(_plus(middle, _FORWARD, "plus"))
        parts.append(_text(middle, _FORWARD - 13, f"W{_index(number + 1)}", "small"))
    for number, layer in enumerate(hidden):
        parts.append(_layer(places[number], half, _size(layer), number, chosen=number == chosen))
    outputs = f"{experiment.outputs} output" + ("s" if experiment.outputs > 1 else "")
    parts.append(
        _rectangle(places[-1] - half, 2 * half, "box")
        + _text(places[-1], 56, outputs, "small")
        + _text(places[-1], 80, "error e", "error strong")
    )
    parts.extend(_way_back(method, places, half))
    title = html.escape(f"{method.title}: {method.description}")
    return (
        f'<svg class="net" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{title}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" class="tip"/></marker>'
        '<marker id="tip-error" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" class="tip-error"/></marker></defs>{"".join(parts)}</svg>'
    )


def shares(agreement: Sequence[float | None]) -> tuple[dict[str, str], dict[str, str]]:
    """The texts and styles of the layers for one share (or None) of agreeing signs per hidden layer."""
    values = {f"share{number}": percent(share) for number, share in enumerate(agreement)}
    styles = {
        f"layer{number}": f"--good-share:{100 * min(max(2 * share - 1, 0), 1):.0f}%;--known:1"
        for number, share in enumerate(agreement)
        if share is not None
    }
    return values, styles


def _way_back(method: Method, places: Sequence[float], half: float) -> list[str]:
    """The error's way from the output to the hidden layers, by the kind of transport."""
    transport, held = method.transport, method.constraint.feedback
    parts: list[str] = []
    if len(places) == 1:
        return parts
    if transport.way == "direct":
        low = _BOTTOM + 44
        parts.append(f'<path class="way" d="M{places[-1]:.0f} {_BOTTOM + 2}V{low}H{places[0]:.0f}"/>')
        for number, place in enumerate(places[:-1]):
            parts.append(_arrow(f"M{place:.0f} {low}V{_BOTTOM + 6}", "way"))
            parts.append(_text(place + 12, _BOTTOM + 30, f"B{_index(number + 1)}", "error small left"))
            if held:
                parts.append(_plus(place, _BOTTOM + 25, "plus-error"))
        parts.append(_text((places[-2] + places[-1]) / 2, low + 16, transport.told, "small muted"))
    elif transport.way:
        for number in reversed(range(len(places) - 1)):
            start, end = places[number + 1] - half * 0.5, places[number] + half * 0.5
            parts.append(_arrow(f"M{start:.0f} {_BOTTOM + 2}C{start:.0f} {_BOTTOM + 42} {end:.0f} {_BOTTOM + 42} "
                                f"{end:.0f} {_BOTTOM + 6}", "way"))  # fmt: skip
            top = transport.carrier_on_top if number == len(places) - 2 else None
            name = (top or transport.carrier).format(_index(number + 2))
            parts.append(_text((start + end) / 2, _BOTTOM + 48, name, "error small"))
            if held:
                parts.append(_plus((start + end) / 2, _BOTTOM + 32, "plus-error"))
        parts.append(_text((places[0] + places[-1]) / 2, _HEIGHT - 8, transport.told, "small muted"))
    return parts


def _task(facts: Facts | None) -> str:
    """Some images of every class; two classes get a row each, more share two rows."""
    if facts is None:
        return _rectangle(0, _TASK, "box") + _text(_TASK / 2, 68, "images", "small")
    parts: list[str] = []
    if len(facts.pictures) == 2:
        for row, (name, pictures) in enumerate(zip(facts.class_names, facts.pictures, strict=True)):
            y = 6 + 60 * row
            parts.extend(_image(picture, 36 * column, y, 32) for column, picture in enumerate(pictures[:3]))
            parts.append(_text(0, y + 46, f"“{_short(name)}”", "small left"))
    else:
        for number, pictures in enumerate(facts.pictures):
            column, row = number % 5, number // 5
            parts.extend(_image(picture, 21 * column, 30 + 22 * row, 19) for picture in pictures[:1])
        parts.append(_text(0, 92, f"{len(facts.class_names)} classes", "small left"))
    return "".join(parts)


def _short(name: str, most: int = 15) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _image(pixels: NDArray[np.uint8], x: float, y: float, size: float) -> str:
    return f'<image class="picture" href="{png(pixels)}" x="{x:.0f}" y="{y:.0f}" width="{size}" height="{size}"/>'


def _layer(place: float, half: float, size: str, number: int, *, chosen: bool) -> str:
    """A hidden layer: a button that opens its detail."""
    kind = "layer chosen" if chosen else "layer"
    return (
        f'<g class="{kind}" data-pick="layer:{number}" data-s="layer{number}" role="button" tabindex="0" '
        f'aria-label="Layer {number + 1}, {html.escape(size)}: open its detail">'
        + _rectangle(place - half, 2 * half, "box")
        + _text(place, 53, size, "small")
        + f'<text class="share" data-v="share{number}" x="{place:.1f}" y="74"></text>'
        + _text(place, 90, f"layer {number + 1}", "tiny muted")
        + "</g>"
    )


def _rectangle(x: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{_BOTTOM - _TOP}" rx="8"/>'


def _plus(x: float, y: float, kind: str) -> str:
    """A plus sign in a circle: this is held to ≥ 0."""
    return (
        f'<g class="{kind}"><title>held to be non-negative</title><circle cx="{x:.1f}" cy="{y}" r="7"/>'
        f'<path d="M{x - 3.5:.1f} {y}h7M{x:.1f} {y - 3.5}v7"/></g>'
    )


def _size(layer: Dense | Conv) -> str:
    return f"{layer.units} units" if isinstance(layer, Dense) else f"{layer.filters} of {layer.kernel}×{layer.kernel}"


def _arrow(path: str, kind: str) -> str:
    tip = "tip" if kind == "forward" else "tip-error"
    return f'<path class="{kind}" d="{path}" marker-end="url(#{tip})"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{html.escape(text)}</text>'


def _index(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
