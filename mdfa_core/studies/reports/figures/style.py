"""The look of all figures, and SVG files that are readable on light and dark pages and equal for equal results."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from html import escape
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mdfa_core.base.colours import DARK, LIGHT, dash_of_rule
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules.methods import METHODS

P = ParamSpec("P")
Shared = bool | Literal["row", "col"]

WIDTH = 8.6
"""Inches: 826 pixels, the width of a page on GitHub."""

MARKERS = {"bp": "s", "fa": "^", "dfa": "D", "mdfa": "o"}
"""Shapes of the paper's methods."""

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"

_RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT.muted,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": LIGHT.text,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": LIGHT.text,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "figure.facecolor": LIGHT.surface,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same everywhere
    "font.size": 9,
    "grid.color": LIGHT.grid,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.scale_dashes": False,
    "savefig.facecolor": LIGHT.surface,
    "svg.fonttype": "none",
    "text.color": LIGHT.text,
    "xtick.color": LIGHT.muted,
    "xtick.labelcolor": LIGHT.text,
    "xtick.major.width": 0.6,
    "ytick.color": LIGHT.muted,
    "ytick.labelcolor": LIGHT.text,
    "ytick.major.width": 0.6,
}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its words.

    Attributes:
        figure: what is drawn.
        finding: what it shows, one sentence; the title of the SVG file.
        reading: how to read it.
    """

    figure: Figure
    finding: str
    reading: str

    @cached_property
    def svg(self) -> str:
        """The figure as SVG with title and description; dark pages get other colours. Equal figures give equal text.

        It is made once, because the layout of a figure that is drawn again moves a little.
        """
        buffer = io.StringIO()
        with mpl.rc_context(_RC):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
        text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", _FONTS, text)
        text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
        text = _plain_ids(text)
        start = text.index("<svg")
        end = text.index(">", start)
        head = (
            f'{text[start:end]} role="img" aria-labelledby="finding reading">\n'
            f' <title id="finding">{escape(self.finding)}</title>\n <desc id="reading">{escape(self.reading)}</desc>\n'
            f" <style>@media (prefers-color-scheme: dark) {{{_DARK}}}</style>"
        )
        return "\n".join(line.rstrip() for line in (head + text[end + 1 :]).splitlines()) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the SVG file.

        Raises:
            InvalidValue: the file cannot be written.
        """
        try:
            Path(path).write_text(self.svg, encoding="utf-8")
        except OSError as error:
            raise InvalidValue(f"{path} cannot be written ({error.strerror}): name another folder") from None


def _plain_ids(svg: str) -> str:
    """Number the ids by their order: matplotlib hashes coordinates, whose last bits differ between processors."""
    hashes = re.findall(r' id="([a-z][0-9a-f]{10})"', svg)
    names = {name: f"s{place}" for place, name in enumerate(dict.fromkeys(hashes))}
    return re.sub(r'(?<=[#"])[a-z][0-9a-f]{10}(?=[")])', lambda name: names.get(name[0], name[0]), svg)


def _dark() -> str:
    """CSS that replaces every light colour, in inline styles, by the dark one."""
    pairs = dict(zip(LIGHT.rules, DARK.rules, strict=True)) | {
        getattr(LIGHT, name): getattr(DARK, name) for name in ("text", "muted", "grid", "surface", "ghost", "train")
    }
    return " ".join(
        f'[style*="{kind}: {light}"] {{{kind}: {dark} !important}}'
        for light, dark in pairs.items()
        for kind in ("fill", "stroke")
    )


_DARK = _dark()


def styled(draw: Callable[P, Drawing]) -> Callable[P, Drawing]:
    """Draw a figure in the common style, whatever the program's own settings of matplotlib are."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(_RC)
            return draw(*args, **kwargs)

    return drawn


def panels(
    rows: int, columns: int, height: float, *, sharex: Shared = False, sharey: Shared = False, **more: Any
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of the page's width with a grid of panels, by row and column."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey, **more)
    return figure, [list(row) for row in grid]


def colour(method: str) -> str:
    """The colour of a method, as in the app."""
    return LIGHT.rule(list(METHODS).index(method))


def dash(method: str) -> Any:
    """The dash of a method for matplotlib, as in the app."""
    pattern = dash_of_rule(list(METHODS).index(method))
    return (0, tuple(0.75 * length for length in pattern)) if pattern else "solid"


def marker(method: str) -> str:
    """The shape of a method's points."""
    return MARKERS.get(method, "X")


def key(method: str, *, line: bool = True, **more: Any) -> Line2D:
    """The entry of a method in a legend."""
    return Line2D(
        [],
        [],
        color=colour(method),
        linestyle=dash(method) if line else "none",
        marker=marker(method),
        markersize=4.5,
        label=METHODS[method].title,
        **more,
    )


def note(label: str, **look: Any) -> Line2D:
    """An entry in a legend that is about no method."""
    return Line2D([], [], **{"color": LIGHT.muted, "linestyle": "none", "label": label} | look)
