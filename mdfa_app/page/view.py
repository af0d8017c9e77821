"""What a page shows beside its curves, as plain values computed from its state."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mdfa_app.page import pins
from mdfa_app.page.state import PageState
from mdfa_app.settings import link
from mdfa_app.settings.cells import find_preset, is_preset
from mdfa_app.settings.presets import PRESETS
from mdfa_app.settings.words import sentence, setting
from mdfa_app.stage.stage import StageView
from mdfa_app.stage.stage import view_of as stage_of
from mdfa_app.trainer.messages import Phase
from mdfa_core import Experiment
from mdfa_core.studies.paper.published import CELLS

_NAMED = 3
"""The number of changed settings that are named."""
_START = {Phase.PAUSED: "▶ Continue", Phase.FINISHED: "▶ Again"}


@dataclass(frozen=True, kw_only=True)
class View:
    """What a page shows.

    Attributes:
        start: label of the button Start.
        can_start, can_pause, can_step: which buttons can be pressed.
        presets: the cards of the presets (markup).
        status: the phase of training, a sentence on it, and a complaint if there is one (markup).
        numbers: epoch, mini-batches and steps per second (markup).
        claim: what the preset claims, or why the claim does not apply (markup).
        wrong: why the settings are not allowed; empty if they are.
        stage: the compared rules.
        pins: the pinned runs, as `page.pins.shown` makes them.
    """

    start: str
    can_start: bool
    can_pause: bool
    can_step: bool
    presets: str
    status: str
    numbers: str
    claim: str
    wrong: str
    stage: StageView
    pins: dict[str, Any]


def view_of(state: PageState) -> View:
    """The view of a state."""
    return View(
        start=_START.get(state.phase, "▶ Start"),
        can_start=state.can_start,
        can_pause=state.can_pause,
        can_step=state.can_step,
        presets=_cards(state.preset),
        status=_status(state),
        numbers=_numbers(state),
        claim=_claim(state.preset, state.comparison.experiment),
        wrong=state.wrong,
        stage=stage_of(
            state.comparison,
            can_switch=state.can_switch,
            pending_rule=state.pending_rule,
            moving=state.phase is Phase.RUNNING,
            why_empty="" if state.phase.busy else sentence(state.message),
        ),
        pins=pins.shown(state.comparison, state.preset),
    )


@lru_cache(maxsize=16)
def _cards(chosen: str) -> str:
    """A card for every preset; a cell of the paper, or the visitor's own settings, have one only while chosen."""
    cards = {name: (preset.title, preset.line) for name, preset in PRESETS.items()}
    if chosen in CELLS:
        cards = {chosen: (find_preset(chosen).title, find_preset(chosen).line), **cards}
    elif not is_preset(chosen):
        cards = {link.OWN: ("Your own", "no claim to check"), **cards}
        chosen = link.OWN
    return (
        '<div class="cards" role="group" aria-label="Experiments">'
        + "".join(
            f'<button data-pick="preset:{html.escape(name)}" aria-pressed="{str(name == chosen).lower()}">'
            f"<b>{html.escape(title)}</b><span>{html.escape(line)}</span></button>"
            for name, (title, line) in cards.items()
        )
        + "</div>"
    )


@lru_cache(maxsize=16)
def _claim(name: str, experiment: Experiment) -> str:
    if not is_preset(name):
        return '<p class="muted">Your own settings. The cards above come with a claim to check.</p>'
    preset = find_preset(name)
    head = "Look for" if name in PRESETS else "Settings"
    changes = changed(preset.experiment, experiment)
    if changes:
        return (
            f"<p>You changed {html.escape(changes)}: the claim of “{html.escape(preset.title)}” no longer applies. "
            f'<button data-pick="restore">Restore</button> <button data-pick="preset:{link.OWN}">Keep as your own'
            "</button></p>"
        )
    first, _, rest = preset.look.partition(". ")
    return (
        f'<details id="why"><summary><b>{head}</b> {html.escape(sentence(first))} <span class="why">Why?</span>'
        "</summary>"
        f"<p>{html.escape(preset.claim)}</p><p>{html.escape(rest)}</p></details>"
    )


def changed(before: Experiment, after: Experiment) -> str:
    """The settings that differ in words, for example "outputs to 3"; another seed is another draw of the same thing."""
    ours, theirs = before.to_dict(), after.to_dict()
    found = [
        f"{name.replace('_', ' ')} to {setting(name, theirs[name])}"
        for name in link.SETTINGS
        if name != "seed" and ours[name] != theirs[name]
    ]
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _status(state: PageState) -> str:
    phase = state.phase
    chip = f'<span class="chip {phase.name.lower()}">{phase.value.capitalize()}</span>'
    # A note on the last change is worth more than the meaning of a phase, which never changes.
    note = state.note or _behind(state)
    if note and phase in (Phase.IDLE, Phase.RUNNING, Phase.PAUSED):
        message = html.escape(sentence(note))
    else:
        message = f'<span class="usual">{html.escape(sentence(state.message))}</span>'
    if state.complaint:
        said = (
            f'<span class="complaint" role="alert"><span class="chip invalid">Not possible</span>'
            f"{html.escape(sentence(state.complaint))}</span>"
        )
    else:
        said = message
    return f'<div role="status">{chip}{said}</div>'


def _behind(state: PageState) -> str:
    """A sentence on the nets that were added while others trained, until they have caught up."""
    comparison = state.comparison
    behind = [comparison.rules[name].title for name in comparison.lanes if name not in comparison.position.caught_up]
    if not behind or comparison.position.step == 0:
        return ""
    networks = "network is" if len(behind) == 1 else "networks are"
    return f"The {' and '.join(behind)} {networks} catching up with the others."


def _numbers(state: PageState) -> str:
    rate, position = state.rate.per_second, state.comparison.position
    entries = [
        (f"{position.epoch} / {state.comparison.experiment.epochs}", "epoch"),
        (f"{position.step:,}", "mini-batches"),
        (f"{rate:,.0f}" if rate else "–", "steps / s"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in entries)
    return f'<div class="numbers">{cells}</div>'
