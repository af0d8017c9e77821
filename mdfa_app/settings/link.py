"""Links: the content of a page as the query of its address, and back.

Keys: `preset`, the settings of an experiment by their names, `seeds` (how many), `rules` (the compared rules, separated
by commas), `draw` (the rule whose net is drawn), `level`, `speed`, `tab`, `embed` (1 shows the run alone) and `start`
(1 starts training). A run on a visitor's own file has `file` and `sha256` instead of `data`: a link does not carry it.
`write` writes only the differences from the preset, and never `start`; `read` checks every value.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mdfa_app.settings.cells import find_preset, is_preset
from mdfa_app.settings.limits import LIMITS, SEEDS, Limits
from mdfa_app.settings.presets import FIRST, PRESETS
from mdfa_app.settings.rules import rules
from mdfa_app.settings.speeds import SPEEDS
from mdfa_app.settings.words import written
from mdfa_core import DATASETS, Experiment, MdfaError
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.base.types import field_types
from mdfa_core.data.own_file import short_name
from mdfa_core.learning.probes import LEVELS

_LONGEST = 200  # characters of a value
_MOST = 40  # keys
SETTINGS = {name: kind for name, kind in field_types(Experiment).items() if name != "method"}
FIRST_PRESET = next(iter(PRESETS))

OWN = "none"
"""Stands for no preset."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The content of a link.

    Attributes:
        preset: name of a preset or of a cell of the paper; empty for none.
        settings: the experiment; its method is ignored.
        seeds: the number of seeds, one of `SEEDS`.
        rules: names of the compared rules.
        draw: the one of them whose net is drawn.
        level: of sign agreement, one of `LEVELS`.
        speed: name in `SPEEDS`.
        tab: name of the open tab; empty for the first tab.
        embed: whether the page shows the run alone.
        start: whether training starts by itself.
        file, sha256: name and SHA-256 of the visitor's own file that is the data; empty for none.
    """

    preset: str = FIRST_PRESET
    settings: Experiment = PRESETS[FIRST_PRESET].experiment
    seeds: int = 1
    rules: tuple[str, ...] = PRESETS[FIRST_PRESET].rules
    draw: str = PRESETS[FIRST_PRESET].rules[0]
    level: str = "unit"
    speed: str = "normal"
    tab: str = ""
    embed: bool = False
    start: bool = False
    file: str = ""
    sha256: str = ""


def of_preset(name: str) -> Link:
    """The link that opens a preset or a cell of the paper.

    Raises:
        UnknownName: there is no such preset.
    """
    chosen = find_preset(name)
    return Link(preset=name, settings=chosen.experiment, rules=chosen.rules, draw=chosen.rules[0], tab=chosen.tab)


def write(state: Link, *, tabs: Sequence[str] = ()) -> str:
    """The query that `read` turns into this link; empty for the first preset as it is.

    Args:
        state: the link.
        tabs: names of all tabs; the first one is open if a link names none.
    """
    base = of_preset(state.preset) if is_preset(state.preset) else Link(preset="", settings=FIRST)
    query: dict[str, str] = {}
    if state.preset != FIRST_PRESET:
        query["preset"] = state.preset or OWN
    ours, theirs = state.settings.to_dict(), base.settings.to_dict()
    for name in SETTINGS:
        if ours[name] != theirs[name] and not (name == "data" and state.file):
            query[name] = _text(ours[name])
    if state.file:
        query |= {"file": state.file, "sha256": state.sha256}
    if state.seeds != base.seeds:
        query["seeds"] = str(state.seeds)
    if state.rules != base.rules:
        query["rules"] = ",".join(state.rules)
    if state.draw != (state.rules or ("",))[0]:
        query["draw"] = state.draw
    for name in ("level", "speed"):
        if getattr(state, name) != getattr(base, name):
            query[name] = getattr(state, name)
    first = tabs[0] if tabs else ""
    if (tab := state.tab or first) != (base.tab or first):
        query["tab"] = tab
    if state.embed:
        query["embed"] = "1"
    return urlencode(query, safe=",:/")


def read(query: str, *, tabs: Sequence[str] = (), limits: Limits = LIMITS) -> tuple[Link, list[str]]:
    """The link of a query, and a sentence for every part that is not allowed and was left out."""
    complaints: list[str] = []
    given = _pairs(query, complaints)
    name = given.pop("preset", FIRST_PRESET)
    state = Link()
    if name == OWN:
        state = Link(preset="", settings=FIRST)
    else:
        try:
            state = of_preset(name)
        except UnknownName as error:
            complaints.append(str(error))
    changes: dict[str, Any] = {}
    for key, allowed in (("level", LEVELS), ("speed", tuple(SPEEDS)), ("tab", tuple(tabs))):
        if key in given:
            changes |= _choice(key, given.pop(key), allowed, complaints)
    changes |= {key: given.pop(key) == "1" for key in ("embed", "start") if key in given}
    changes |= _rules(given, state.rules, complaints)
    if "seeds" in given:
        count = given.pop("seeds")
        if _choice("number of seeds", count, tuple(map(str, SEEDS)), complaints):
            changes["seeds"] = int(count)
    base, file = state.settings, _file(given, complaints)
    if file:
        base, changes = base.replace(data=FIRST.data, outputs=FIRST.outputs), changes | file
    settings = _settings(given, base, limits, complaints)
    return dataclasses.replace(state, settings=settings, **changes), complaints


def _pairs(query: str, complaints: list[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.lstrip("?")[: _LONGEST * _MOST], max_num_fields=_MOST)
    except ValueError:
        complaints.append(f"the link has too many parts: use at most {_MOST}")
        return {}
    kept = {}
    for key, value in pairs:
        if len(value) > _LONGEST:
            complaints.append(f"the link's {_shown(key)} is longer than {_LONGEST} characters, so it was left out")
        else:
            kept[key] = value
    return kept


def _choice(key: str, value: str, allowed: Sequence[str], complaints: list[str]) -> dict[str, str]:
    if value in allowed:
        return {key: value}
    complaints.append(str(UnknownName(key, value, allowed)))
    return {}


def _rules(given: dict[str, str], compared: tuple[str, ...], complaints: list[str]) -> dict[str, Any]:
    known = rules()
    if "rules" in given:
        wanted = dict.fromkeys(given.pop("rules").split(","))
        for name in wanted:
            if name not in known:
                complaints.append(str(UnknownName("learning rule", name, known)))
        compared = tuple(name for name in wanted if name in known) or compared
    draw = given.pop("draw", compared[0])
    if draw not in compared:
        complaints.append(f"the link draws {_shown(draw)}, which is not compared: {compared[0]} is drawn instead")
        draw = compared[0]
    return {"rules": compared, "draw": draw}


def _file(given: dict[str, str], complaints: list[str]) -> dict[str, str]:
    """Name and SHA-256 of the file that a link needs; nothing if it needs none."""
    file, sha256 = given.pop("file", ""), given.pop("sha256", "")
    if not file and not sha256:
        return {}
    if not re.fullmatch("[0-9a-f]{64}", sha256) or file != short_name(file):
        complaints.append("the link names a file in a way that no page writes, so it was left out")
        return {}
    given.pop("data", None)
    complaints.append(f"this link needs your own file {file} (SHA-256 {sha256}): choose it under “Your own data”")
    return {"file": file, "sha256": sha256}


def _settings(given: dict[str, str], base: Experiment, limits: Limits, complaints: list[str]) -> Experiment:
    """Apply the settings one by one, so that a setting that is not allowed leaves the others alone.

    If they are not allowed together, none of them is applied.
    """
    before = base
    for key, text in given.items():
        try:
            if key not in SETTINGS:
                raise UnknownName("part of the link", key, SETTINGS)
            if key == "data" and not DATASETS.listed(text):  # not another visitor's own data either
                raise UnknownName("data", text, DATASETS)
            changed = base.replace(**{key: _value(key, text)})
        except MdfaError as error:
            complaints.append(str(error))
        else:
            base = changed
    try:
        limits.check(base)
    except MdfaError as error:
        complaints.append(f"the link's settings are not used: {error}")
        return before if limits.fits(before) else FIRST
    return base


def _value(key: str, text: str) -> Any:
    try:
        return SETTINGS[key].parse(text)
    except ValueError:
        raise InvalidValue(f"the link's {key} is {_shown(text)}: give a value of the kind {SETTINGS[key]}") from None


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return written(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def joined(pairs: Sequence[tuple[str, str]]) -> str:
    """The query of these pairs of keys and values."""
    return urlencode(pairs)
