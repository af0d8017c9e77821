"""A drawing of the net as SVG: images in, the way forward above, and below the way the error takes back."""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.session import Facts
from app.words import percent
from mdfa_core import METHODS, Experiment
from mdfa_core.methods import Chain, Direct
from mdfa_core.networks import Conv, Dense, parse_architecture

_WIDTH, _HEIGHT = 760, 152
_TOP, _BOTTOM = 22, 86  # of the boxes
_FIRST, _LAST = 212, 700  # middle of the first hidden layer and of the output
_TASK = 124  # width of the images


def draw(experiment: Experiment, facts: Facts | None, agreement: Sequence[float | None]) -> str:
    """The net of `experiment`; `agreement` is one share per hidden layer, or empty before anything is measured."""
    hidden = parse_architecture(experiment.network).hidden
    method = METHODS[experiment.method]
    places = [_FIRST + (_LAST - _FIRST) * number / max(1, len(hidden)) for number in range(len(hidden) + 1)]
    if not hidden:
        places = [_LAST]
    half = min(46.0, 0.36 * (places[1] - places[0])) if hidden else 40.0
    parts = [_task(facts)]

    for number, place in enumerate(places):
        start = _TASK + 8 if number == 0 else places[number - 1] + half + 3
        bounded = method.constraint.covers(number)
        parts.append(_arrow(f"M{start:.0f} 42H{place - half - 5:.0f}", "forward"))
        label = f"W{_index(number + 1)}" + (" ≥ 0" if bounded else "")
        parts.append(_text((start + place - half) / 2, 34, label, "strong small" if bounded else "small"))
    for number, layer in enumerate(hidden):
        share = percent(agreement[number]) if number < len(agreement) else ""
        parts.append(_box(places[number], half, _size(layer), share, number))
    outputs = f"{experiment.outputs} output" + ("s" if experiment.outputs > 1 else "")
    parts.append(
        _rectangle(places[-1] - half, 2 * half)
        + _text(places[-1], 48, outputs, "small")
        + _text(places[-1], 70, "error e", "error strong")
    )
    parts.extend(_way_back(experiment, places, half))
    title = html.escape(f"{method.title}: {method.description}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0L8 4L0 8z" class="tip"/></marker>'
        '<marker id="tip-error" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" class="tip-error"/></marker></defs>{"".join(parts)}</svg>'
    )


def _way_back(experiment: Experiment, places: Sequence[float], half: float) -> list[str]:
    """The error's way from the output to the hidden layers, by the kind of transport."""
    method = METHODS[experiment.method]
    transport, sign = method.transport, " ≥ 0" if method.constraint.feedback else ""
    parts = []
    if isinstance(transport, Direct) and len(places) > 1:
        low = _BOTTOM + 36
        parts.append(f'<path class="way" d="M{places[-1]:.0f} {_BOTTOM + 2}V{low}H{places[0]:.0f}"/>')
        for number, place in enumerate(places[:-1]):
            parts.append(_arrow(f"M{place:.0f} {low}V{_BOTTOM + 6}", "way"))
            parts.append(_text(place + 8, _BOTTOM + 26, f"B{_index(number + 1)}{sign}", "error small left"))
        parts.append(_text((places[-2] + places[-1]) / 2, low + 18, "straight to every layer", "small muted"))
    elif isinstance(transport, Chain):
        for number in reversed(range(len(places) - 1)):
            start, end = places[number + 1] - half * 0.5, places[number] + half * 0.5
            parts.append(_arrow(f"M{start:.0f} {_BOTTOM + 2}C{start:.0f} {_BOTTOM + 42} {end:.0f} {_BOTTOM + 42} "
                                f"{end:.0f} {_BOTTOM + 6}", "way"))  # fmt: skip
            name = f"B{_index(number + 2)}{sign}" if transport.fixed else f"W{_index(number + 2)}"
            parts.append(_text((start + end) / 2, _BOTTOM + 50, name, "error small"))
        if len(places) > 1:
            fixed = "fixed random weights" if transport.fixed else "the forward weights themselves"
            parts.append(_text(0, _HEIGHT - 4, f"back through {fixed}", "small muted left"))
    return parts


def _task(facts: Facts | None) -> str:
    """Some images of every class; two classes get a row each, more share two rows."""
    if facts is None:
        return _rectangle(0, _TASK) + _text(_TASK / 2, 58, "images", "small")
    parts: list[str] = []
    if len(facts.pictures) == 2:
        for row, (name, pictures) in enumerate(zip(facts.class_names, facts.pictures, strict=True)):
            y = 2 + 62 * row
            parts.extend(_image(picture, 43 * column, y, 38) for column, picture in enumerate(pictures[:3]))
            parts.append(_text(0, y + 52, f"“{_short(name)}”", "small left"))
    else:
        for number, pictures in enumerate(facts.pictures):
            column, row = number % 5, number // 5
            parts.extend(_image(picture, 26 * column, 18 + 26 * row, 23) for picture in pictures[:1])
        parts.append(_text(0, 86, f"{len(facts.class_names)} classes", "small left"))
    return "".join(parts)


def _short(name: str, most: int = 15) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _image(pixels: NDArray[np.uint8], x: float, y: float, size: float) -> str:
    address = _png(pixels.tobytes(), pixels.shape)
    return f'<image class="picture" href="{address}" x="{x:.0f}" y="{y:.0f}" width="{size}" height="{size}"/>'


@functools.lru_cache(maxsize=512)
def _png(content: bytes, shape: tuple[int, int, int]) -> str:
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    image = Image.fromarray(pixels[0] if shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.thumbnail((64, 64))
    file = io.BytesIO()
    image.save(file, "png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _box(place: float, half: float, size: str, share: str, number: int) -> str:
    return (
        _rectangle(place - half, 2 * half, f' style="stroke:var(--layer{number % 8});stroke-width:2.4"')
        + _text(place, 48, size, "small")
        + f'<text class="share" style="fill:var(--layer{number % 8})" x="{place:.1f}" y="72">{share}</text>'
    )


def _rectangle(x: float, width: float, more: str = "") -> str:
    height = _BOTTOM - _TOP
    return f'<rect class="box" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{height}" rx="8"{more}/>'


def _size(layer: Dense | Conv) -> str:
    return f"{layer.units} units" if isinstance(layer, Dense) else f"{layer.filters} of {layer.kernel}×{layer.kernel}"


def _arrow(path: str, kind: str) -> str:
    tip = "tip" if kind == "forward" else "tip-error"
    return f'<path class="{kind}" d="{path}" marker-end="url(#{tip})"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{html.escape(text)}</text>'


def _index(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
