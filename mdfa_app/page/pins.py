"""The pinned runs under the charts: the button that pins, and a list of what they came to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import param

from mdfa_app.charts.live import Component
from mdfa_app.charts.style import PANES, asset
from mdfa_app.comparison.comparison import Comparison, Lane, Pin
from mdfa_app.settings import link
from mdfa_app.settings.cells import find_preset, is_preset
from mdfa_app.settings.words import percent, setting
from mdfa_app.tabs import TABS
from mdfa_core import Experiment

LONGEST_NAME = 60
"""Characters of a run's name."""
_RULES = 4
"""The number of rules of a run that are listed."""


@lru_cache(maxsize=32)
def query(content: link.Link) -> str:
    """The query of a link to a page."""
    return link.write(content, tabs=tuple(TABS))


def differences(of: Experiment, than: Experiment) -> str:
    """The settings of one experiment that are not those of another, for example "outputs 3, seed 2"."""
    return ", ".join(_told(of, _differing(of, than)))


def _differing(of: Experiment, than: Experiment) -> list[str]:
    """The names of the settings that differ."""
    ours, theirs = of.to_dict(), than.to_dict()
    return [name for name in link.SETTINGS if ours[name] != theirs[name]]


def _told(of: Experiment, names: Iterable[str]) -> list[str]:
    """Settings by these names, in words."""
    values = of.to_dict()
    return [f"{name.replace('_', ' ')} {setting(name, values[name])}" for name in names]


def _counted(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds != 1)}"


def proposal(comparison: Comparison, preset: str) -> str:
    """A name for the current run: what differs from its preset, or the preset's title if nothing does.

    If this name is too long or taken, it is what differs from the pinned runs: first from the one most like it.
    """
    base, title = link.FIRST, "Default settings"
    if is_preset(preset):
        base, title = find_preset(preset).experiment, find_preset(preset).title
    seeds = [_counted(comparison.seeds)] if comparison.seeds > 1 else []
    parts = (_told(comparison.experiment, _differing(comparison.experiment, base)) or [title]) + seeds
    name = ", ".join(parts)
    if len(name) > LONGEST_NAME or any(pin.name == name for pin in comparison.pinned):
        parts = _apart(comparison) or parts
    return comparison.free_name(_joined(parts))


def _apart(comparison: Comparison) -> list[str]:
    """What tells the current run from pinned ones, first from the one most like it; empty if nothing does."""
    experiment = comparison.experiment
    different = sorted((_differing(experiment, pin.settings) for pin in comparison.pinned), key=len)
    names = dict.fromkeys(itertools.chain.from_iterable(different))
    seeds = any(pin.seeds != comparison.seeds for pin in comparison.pinned)
    return _told(experiment, names) + ([_counted(comparison.seeds)] if seeds else [])


def _joined(parts: Sequence[str]) -> str:
    """As many parts as a name has room for."""
    name = ", ".join(parts)
    kept = list(parts)
    while len(name) > LONGEST_NAME and len(kept) > 1:
        kept.pop()
        name = ", ".join([*kept, "…"])
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def cleaned(name: str) -> str:
    """A visitor's name for a run on one line, within its bound."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:LONGEST_NAME].strip()


def shown(comparison: Comparison, preset: str) -> dict[str, Any]:
    """What `Pins` shows, as pins.js reads it."""
    pin = comparison.current_pin
    return {
        "proposal": proposal(comparison, preset) if comparison.measured and pin is None else "",
        "note": ""
        if comparison.measured
        else "Train a run, then pin it here: it stays in the charts to compare later runs with.",
        "runs": [_run(comparison, one) for one in comparison.pinned],
    }


def _run(comparison: Comparison, pin: Pin) -> dict[str, Any]:
    different = differences(pin.settings, comparison.experiment)
    if pin.seeds != comparison.seeds:
        different = ", ".join(filter(None, (different, _counted(pin.seeds))))
    if comparison.is_current(pin):
        what = "This is the current run."
    elif different:
        what = f"Unlike the current run: {different}."
    else:
        what = "Same settings as the current run."
    lanes = list(pin.lanes.items())
    rows = [[comparison.title(name, lane), *_figures(comparison, lane)] for name, lane in lanes[:_RULES]]
    more = len(lanes) - len(rows)
    return {
        "name": pin.name,
        "query": query(replace(pin.link, settings=pin.settings)),
        "what": what,
        "rows": rows,
        "more": f"{more} more rule{'s' * (more != 1)} in the tab Export" if more else "",
    }


def _figures(comparison: Comparison, lane: Lane) -> list[str]:
    probed, evaluated = lane.curve("probed").last or {}, lane.curve("evaluated").last or {}
    accuracy = percent(evaluated.get("train")) if lane.diverged < len(lane.histories) else "diverged"
    return [percent(probed.get("unit")), percent(probed.get(comparison.updates_level)), accuracy]


class Pins(Component):
    """The list. Its browser half sends names, so check them.

    Args:
        on_pin: called with the visitor's name for the current run.
        on_unpin: called with the name of the run to remove.
    """

    shown = param.Dict(default={}, doc="As the function `shown` makes it.")

    _esm = asset("pins.js")

    def __init__(self, on_pin: Callable[[str], None], on_unpin: Callable[[str], None]) -> None:
        super().__init__(stylesheets=[PANES], sizing_mode="stretch_width", margin=0)
        self._on_pin, self._on_unpin = on_pin, on_unpin

    def _handle_msg(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        for word, act in (("pin", self._on_pin), ("unpin", self._on_unpin)):
            if isinstance(data.get(word), str):
                act(data[word])
