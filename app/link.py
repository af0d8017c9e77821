"""The state of the page as the query of its address, and back: every value is checked, only what differs is written.

Keys: the settings of an experiment by their names, `rules` (what is compared, separated by commas), `draw` (the rule
that is drawn), `level`, `speed`, `tab`, `preset` (what the rest differs from) and `embed` (1 hides what is around).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from app.limits import LIMITS, Limits
from app.pace import SPEEDS
from app.paper import known, preset
from app.presets import FIRST, PRESETS
from app.rules import rules
from mdfa_core import Experiment, MdfaError
from mdfa_core.errors import InvalidValue, UnknownName
from mdfa_core.probes import LEVELS

_LONGEST = 200  # characters of a value
_MOST = 40  # keys
_SETTINGS = {setting.name: str(setting.type) for setting in dataclasses.fields(Experiment) if setting.name != "method"}
FIRST_PRESET = next(iter(PRESETS))
_FIRST_TAB = "layers"  # is open where no other one is named

OWN = "none"
"""In place of a preset's name where another configuration was begun. It is not empty, because Panel's `Select` takes an
empty value that comes from a browser for its first choice."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a link holds.

    Attributes:
        preset: its name or a cell's of the paper, or nothing where another configuration was begun.
        settings: of the experiment; its method means nothing here.
        rules: names of those that are compared.
        draw: the one of them that is drawn.
        level: of sign agreement.
        speed: name in `SPEEDS`.
        tab: name of the detail that is open; nothing for the first one.
        embed: whether only the run is shown.
    """

    preset: str = FIRST_PRESET
    settings: Experiment = PRESETS[FIRST_PRESET].experiment
    rules: tuple[str, ...] = PRESETS[FIRST_PRESET].rules
    draw: str = PRESETS[FIRST_PRESET].rules[0]
    level: str = "unit"
    speed: str = "normal"
    tab: str = ""
    embed: bool = False


def of_preset(name: str) -> State:
    """The state a preset, or a cell of the paper, begins with.

    Raises:
        UnknownName: there is no such preset.
    """
    chosen = preset(name)
    return State(preset=name, settings=chosen.experiment, rules=chosen.rules, draw=chosen.rules[0], tab=chosen.tab)


def write(state: State) -> str:
    """The query that `read` turns into this state, empty for the first one."""
    base = of_preset(state.preset) if known(state.preset) else State(preset="", settings=FIRST)
    query: dict[str, str] = {}
    if state.preset != FIRST_PRESET:
        query["preset"] = state.preset or OWN
    ours, theirs = state.settings.to_dict(), base.settings.to_dict()
    for name in _SETTINGS:
        if ours[name] != theirs[name]:
            query[name] = _text(ours[name])
    if state.rules != base.rules:
        query["rules"] = ",".join(state.rules)
    if state.draw != (state.rules or ("",))[0]:
        query["draw"] = state.draw
    for name in ("level", "speed"):
        if getattr(state, name) != getattr(base, name):
            query[name] = getattr(state, name)
    if (tab := state.tab or _FIRST_TAB) != (base.tab or _FIRST_TAB):
        query["tab"] = tab
    if state.embed:
        query["embed"] = "1"
    return urlencode(query, safe=",:/")


def read(query: str, *, tabs: Sequence[str] = (), limits: Limits = LIMITS) -> tuple[State, list[str]]:
    """The state of a query, and a sentence on everything in it that is not allowed and was left out."""
    complaints: list[str] = []
    given = _pairs(query, complaints)
    name = given.pop("preset", FIRST_PRESET)
    state = State()
    if name == OWN:
        state = State(preset="", settings=FIRST)
    else:
        try:
            state = of_preset(name)
        except UnknownName as error:
            complaints.append(str(error))
    changes: dict[str, Any] = {}
    for key, allowed in (("level", LEVELS), ("speed", tuple(SPEEDS)), ("tab", tuple(tabs))):
        if key in given:
            changes |= _choice(key, given.pop(key), allowed, complaints)
    if "embed" in given:
        changes |= {"embed": given.pop("embed") == "1"}
    changes |= _rules(given, state.rules, complaints)
    settings = _settings(given, state.settings, limits, complaints)
    return dataclasses.replace(state, settings=settings, **changes), complaints


def _pairs(query: str, complaints: list[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query.lstrip("?")[: _LONGEST * _MOST], max_num_fields=_MOST)
    except ValueError:
        complaints.append("the link has too many parts: open the page without it")
        return {}
    kept = {}
    for key, value in pairs:
        if len(value) > _LONGEST:
            complaints.append(f"the link's {_shown(key)} is longer than {_LONGEST} characters: it was left out")
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
        complaints.append(f"the link draws {_shown(draw)}, which is not compared: {compared[0]} is drawn")
        draw = compared[0]
    return {"rules": compared, "draw": draw}


def _settings(given: dict[str, str], base: Experiment, limits: Limits, complaints: list[str]) -> Experiment:
    """The settings one after the other, so that one that is not allowed leaves the others alone."""
    for key, text in given.items():
        try:
            if key not in _SETTINGS:
                raise UnknownName("part of the link", key, _SETTINGS)
            changed = base.replace(**{key: _value(key, text)})
        except MdfaError as error:
            complaints.append(str(error))
        else:
            base = changed
    try:
        limits.check(base)
    except MdfaError as error:
        complaints.append(str(error))
        return FIRST
    return base


def _value(key: str, text: str) -> Any:
    kind = _SETTINGS[key]
    if "None" in kind and text == "none":
        return None
    try:
        if "bool" in kind:
            return {"true": True, "false": False}[text]
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
    except (KeyError, ValueError):
        raise InvalidValue(f"the link's {key} is {_shown(text)}: give a value of the kind {kind}") from None
    return text


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")


def joined(pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs of keys and values as the query they came from."""
    return urlencode(pairs)
