"""The cells of the paper's tables as presets of the page."""

from __future__ import annotations

from collections.abc import Mapping

from mdfa_app.settings.presets import PRESETS, Preset
from mdfa_core import MdfaError
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN
from mdfa_core.studies.paper.published import CELLS, Cell, Figure, SplitName
from mdfa_core.studies.paper.recipes import PROFILES, base, tuned
from mdfa_core.studies.paper.reproduced import Reproduced, reproduced
from mdfa_core.studies.paper.words import place, title, word

_PROFILE = PROFILES["quick"]
"""Real data, and the settings that come with the package."""


def is_preset(name: str) -> bool:
    """Whether `find_preset` knows the name."""
    return name in PRESETS or name in CELLS


def find_preset(name: str) -> Preset:
    """The preset of this name: one of `PRESETS`, or a cell of the paper.

    Raises:
        UnknownName: there is no such preset.
    """
    return _preset_of(CELLS[name]) if name in CELLS else PRESETS[name]


def cell_name(cell: Cell) -> str:
    """The name of a cell for people, for example "Table 1, FC, tanh, mDFA"."""
    return f"{place(cell)}, {title(cell)}"


def tuned_for(cell: Cell, result: Reproduced) -> str:
    """A phrase that says which cell the settings of a result were tuned for."""
    if result.tuned_for == cell:
        return f"settings tuned for this cell (profile {result.profile})"
    return f"settings tuned for {cell_name(result.tuned_for)} and not for this cell (profile {result.profile})"


def _preset_of(cell: Cell) -> Preset:
    experiment, result = base(cell, _PROFILE), reproduced(cell)
    measured = "This project has not run this cell."
    if result is not None:
        data = "" if result.data == experiment.data else f" on {result.data}"
        measured = f"This project measured {_measured(result, cell)}{data}, with {tuned_for(cell, result)}."
    source = "default settings, because no cell of this kind was tuned"
    try:
        found = tuned(cell)
    except MdfaError:
        pass
    else:
        experiment = experiment.replace(**found.settings)
        own = found.source == cell
        nearest = f"settings tuned for {cell_name(found.source)}, the nearest cell"
        source = "settings tuned for this cell" if own else nearest
    settings = experiment.to_dict()
    del settings["method"]
    return Preset(
        title=cell_name(cell),
        line="a cell of the paper's tables",
        claim=f"The paper reports {_accuracies(cell.published)} (mean ± standard deviation of five tasks). {measured}",
        look=f"This is the first of the five tasks, with {source}; New seed is the next task. The paper reports the "
        f"best training accuracy, and the {word(cell.held_out)} accuracy after the best validation epoch.",
        rules=(cell.method,),
        settings=settings,
        tab="paper",
    )


def _measured(result: Reproduced, cell: Cell) -> str:
    """Both roles' training accuracies and the held-out accuracy in words."""
    shown = (TRAINED, TRAINED_CHOSEN, TESTED)
    return ", ".join(f"{result.scores[m]} % ({m.title(cell)})" for m in shown if m in result.scores)


def _accuracies(figures: Mapping[SplitName, Figure]) -> str:
    """Accuracies in words."""
    return " and ".join(f"{figure} % {word(split)} accuracy" for split, figure in figures.items())
