"""The list of learning rules as HTML, with the newest numbers of those that are compared."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping

from mdfa_app.comparison.comparison import Lane
from mdfa_app.settings.rules import Rule
from mdfa_app.settings.words import percent
from mdfa_core.base.colours import dash_of_rule

FIRST = 4
"""The number of rules that stand above the fold: those of the paper."""


def draw(rules: Mapping[str, Rule], compared: Collection[str], drawn: str, switched: Mapping[str, Rule]) -> str:
    """The list: a row for every rule, always in the same order, so that nothing moves when a rule is ticked.

    Parts can be picked; their words are `toggle:NAME` and `draw:NAME`.
    """
    rows = [
        _row(number, rule, name in compared, name == drawn, switched.get(name))
        for number, (name, rule) in enumerate(rules.items())
    ]
    unfolded = "" if set(compared) <= set(list(rules)[:FIRST]) else " open"
    return (
        '<div class="rules"><h2>Learning rules<span class="muted">validation accuracy</span></h2>'
        f'{"".join(rows[:FIRST])}<details id="more-rules"{unfolded}><summary>{len(rows) - FIRST} more rules</summary>'
        f"{''.join(rows[FIRST:])}</details></div>"
    )


def values(lanes: Mapping[str, Lane]) -> dict[str, str]:
    """The newest validation accuracy of every rule, the mean of its seeds."""
    texts: dict[str, str] = {}
    for name, lane in lanes.items():
        evaluated = lane.curve("evaluated").last
        texts[name] = percent(evaluated["validation"]) if evaluated else "–"
        if lane.diverged == len(lane.histories):
            texts[name] = "diverged"
    return texts


def sample(number: int, colour: str = "") -> str:
    """A short piece of a rule's line as the charts draw it."""
    dash = " ".join(map(str, dash_of_rule(number)))
    return (
        '<svg class="dash" viewBox="0 0 26 6" aria-hidden="true"><line x1="0" y1="3" x2="26" y2="3" '
        f'style="stroke:var(--{colour or f"rule{number % 8}"})" stroke-dasharray="{dash}"/></svg>'
    )


def _row(number: int, rule: Rule, compared: bool, drawn: bool, now: Rule | None) -> str:
    name, title = html.escape(rule.name), html.escape(rule.title)
    meaning, _, how = rule.method.description.partition(": ")
    help_ = html.escape(f"{meaning}: {how}" if how else meaning, quote=True)
    arrow = "" if now is None else f' <span class="muted">→ {html.escape(now.title)}</span>'
    shown = f'{sample(number)}<span><b>{title}</b>{arrow}</span><span class="meaning">{html.escape(meaning)}</span>'
    check = (
        f'<button class="check" role="checkbox" aria-checked="{str(compared).lower()}" data-pick="toggle:{name}" '
        f'aria-label="{title}" title="Compare {title}: {help_}"><span class="box"></span></button>'
    )
    choose = (
        f'<button class="name" data-pick="draw:{name}" aria-pressed="{str(drawn).lower()}" '
        f'aria-label="Draw {title}" title="{help_}">{shown}</button>'
    )
    kind = "rule drawn" if drawn else "rule"
    score = f'<span class="score" data-v="{name}"></span>' if compared else ""
    return f'<div class="{kind}">{check}{choose}{score}</div>'
