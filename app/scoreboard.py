"""The list of learning rules as HTML: which are compared, how each stands, and which one is drawn."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.colours import dash_of_rule
from app.history import History
from app.rules import Rule
from app.words import percent


@dataclass(frozen=True)
class Lane:
    """One rule that is compared.

    Attributes:
        history: what its net has shown.
        rule: by which the net learns now; another one than at first after a switch.
    """

    history: History
    rule: Rule


def draw(rules: Mapping[str, Rule], compared: Collection[str], drawn: str, switched: Mapping[str, Rule]) -> str:
    """A row for every rule that is compared, and the others below; words that can be picked are `toggle:NAME` and
    `draw:NAME`."""
    rows, others = [], []
    for number, (name, rule) in enumerate(rules.items()):
        if name in compared:
            rows.append(_row(number, rule, name == drawn, switched.get(name)))
        else:
            others.append(_other(number, rule))
    return (
        '<table class="rules"><thead><tr><th scope="col">Learning rules</th><th scope="col">signs</th>'
        '<th scope="col">training</th><th scope="col">validation</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table><div class="others">{"".join(others)}</div>'
    )


def values(lanes: Mapping[str, Lane], level: str) -> dict[str, str]:
    """The newest numbers of every rule."""
    told: dict[str, str] = {}
    for name, lane in lanes.items():
        history = lane.history
        evaluated = history.evaluated.last
        probe = history.probe
        told[f"{name} signs"] = percent(getattr(probe, level).overall[0]) if probe else "–"
        told[f"{name} train"] = percent(evaluated["train"]) if evaluated else "–"
        told[f"{name} validation"] = percent(evaluated["validation"]) if evaluated else "–"
        if history.diverged is not None:
            told[f"{name} train"] = "diverged"
    return told


def sample(number: int, colour: str = "") -> str:
    """A piece of a rule's line, as the charts draw it."""
    dash = " ".join(map(str, dash_of_rule(number)))
    return (
        '<svg class="dash" viewBox="0 0 26 6" aria-hidden="true"><line x1="0" y1="3" x2="26" y2="3" '
        f'style="stroke:var(--{colour or f"rule{number % 8}"})" stroke-dasharray="{dash}"/></svg>'
    )


def _other(number: int, rule: Rule) -> str:
    """A rule that is not compared."""
    return _check(rule, False, f"{sample(number)}{html.escape(rule.title)}")


def _check(rule: Rule, compared: bool, shown: str) -> str:
    title, help_ = html.escape(rule.title), html.escape(rule.method.description, quote=True)
    return (
        f'<button class="check" role="checkbox" aria-checked="{str(compared).lower()}" '
        f'data-pick="toggle:{html.escape(rule.name)}" aria-label="{title}" title="Compare {title}: {help_}">'
        f'<span class="box"></span>{shown}</button>'
    )


def _row(number: int, rule: Rule, drawn: bool, now: Rule | None) -> str:
    name, title = html.escape(rule.name), html.escape(rule.title)
    help_ = html.escape(rule.method.description, quote=True)
    arrow = "" if now is None else f' <span class="muted">→ {html.escape(now.title)}</span>'
    choose = (
        f'<button class="name" data-pick="draw:{name}" aria-pressed="{str(drawn).lower()}" '
        f'aria-label="Draw {title}" title="{help_}">{sample(number)}{title}{arrow}</button>'
    )
    cells = "".join(f'<td data-v="{name} {what}"></td>' for what in ("signs", "train", "validation"))
    kind = "compared drawn" if drawn else "compared"
    return f'<tr class="{kind}"><th scope="row">{_check(rule, True, "")}{choose}</th>{cells}</tr>'
