"""The colours of charts and figures, light and dark, after Okabe and Ito; every colour also has its own dash.

A rule has the same colour and dash in the app and in every figure. mdfa_app/assets/theme.css repeats the colours as
`--train`, `--class2`, `--layer0`, … for everything that is not a canvas; classes 0 and 1 are `--train` and
`--validation`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The colours of one theme."""

    text: str
    muted: str
    grid: str
    surface: str
    ghost: str
    batch: str
    train: str
    validation: str
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    rules: tuple[str, ...]

    def rule(self, number: int) -> str:
        """The colour of learning rule `number` in the order of all rules, from 0."""
        return self.rules[number % len(self.rules)]

    def layer(self, number: int) -> str:
        """The colour of hidden layer `number`, from 0."""
        return self.layers[number % len(self.layers)]


LIGHT = Palette(
    text="#1b2433",
    muted="#566173",
    grid="#e7eaf0",
    surface="#ffffff",
    ghost="#868fa0",
    batch="#a9b4c4",
    train="#0067b1",
    validation="#c44e00",
    classes=(
        "#0067b1",
        "#c44e00",
        "#00795c",
        "#b0327f",
        "#857000",
        "#6b4fd0",
        "#2f7f86",
        "#4a5361",
        "#9b1c1c",
        "#4f7300",
    ),
    layers=("#00795c", "#b0327f", "#0067b1", "#c44e00", "#857000", "#6b4fd0", "#2f7f86", "#4a5361"),
    rules=("#1b2433", "#00795c", "#c44e00", "#0067b1", "#b0327f", "#857000", "#6b4fd0", "#2f7f86"),
)

DARK = Palette(
    text="#e8edf4",
    muted="#9fabbb",
    grid="#29323f",
    surface="#171d26",
    ghost="#76839a",
    batch="#56657c",
    train="#5ab4f0",
    validation="#f5a142",
    classes=(
        "#5ab4f0",
        "#f5a142",
        "#2fc79b",
        "#ee8ac4",
        "#e6d84a",
        "#b9a5ff",
        "#8fd0d4",
        "#d0d6e0",
        "#ff8a80",
        "#a6d854",
    ),
    layers=("#2fc79b", "#ee8ac4", "#5ab4f0", "#f5a142", "#e6d84a", "#b9a5ff", "#8fd0d4", "#d0d6e0"),
    rules=("#e8edf4", "#2fc79b", "#f5a142", "#5ab4f0", "#ee8ac4", "#e6d84a", "#b9a5ff", "#8fd0d4"),
)

LAYER_DASHES: tuple[tuple[int, ...], ...] = ((), (7, 4), (2, 3), (8, 3, 2, 3), (12, 4), (4, 4), (1, 2), (12, 3, 3, 3))
RULE_DASHES: tuple[tuple[int, ...], ...] = ((2, 3), (7, 4), (8, 3, 2, 3), (), (12, 4), (4, 4), (1, 2), (12, 3, 3, 3))


def dash_of_layer(number: int) -> tuple[int, ...]:
    """The dash of hidden layer `number`, from 0."""
    return LAYER_DASHES[number % len(LAYER_DASHES)]


def dash_of_rule(number: int) -> tuple[int, ...]:
    """The dash of learning rule `number`, from 0. BP is dotted because it often lies on another line.

    Each time the colours repeat, the dashes move on by one, so that no two of 64 rules look the same.
    """
    return RULE_DASHES[(number + number // len(RULE_DASHES)) % len(RULE_DASHES)]
