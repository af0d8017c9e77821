"""How the cells are run: equal budgets, three profiles, settings that come with the package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mdfa_core.data import DATASETS
from mdfa_core.errors import InvalidValue
from mdfa_core.methods import METHODS
from mdfa_core.paper import recipes
from mdfa_core.paper.published import CELLS, TABLES, Cell
from mdfa_core.paper.recipes import PROFILES
from mdfa_core.paper.reproduction import Plan, chosen_cells

FIRST = next(iter(CELLS.values()))


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_as_many_candidates(method: str) -> None:
    cell = replace(FIRST, method=method)
    found = recipes.candidates(cell)

    assert len(found) == 72 == len({tuple(sorted(settings.items())) for settings in found})
    for settings in found:
        recipes.base(cell, PROFILES["full"]).replace(**settings)  # is an experiment
    assert all(("feedback_init" in s) is METHODS[method].transport.needs_feedback for s in found)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_method_has_the_same_epochs_to_search(profile: str) -> None:
    cells = chosen_cells(list(TABLES), profile=profile)
    plan = Plan(profile=profile, cells=cells)

    assert len({plan.epochs_to_search(cell) for cell in cells}) == 1
    assert bool(plan.epochs_to_search(cells[0])) is bool(PROFILES[profile].rungs)


def test_no_method_sees_an_optimizer_rate_or_forward_distribution_that_was_left_out_for_another() -> None:
    def chosen(method: str, *names: str) -> set[tuple[Any, ...]]:
        return {tuple(s[name] for name in names) for s in recipes.candidates(replace(FIRST, method=method))}

    assert chosen("mdfa", "optimizer", "learning_rate") < chosen("bp", "optimizer", "learning_rate")
    for method in METHODS:
        assert chosen(method, "forward_init") == chosen("bp", "forward_init")


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
def test_a_base_is_the_cells_or_a_sentence(cell: Cell, profile: str) -> None:
    known = DATASETS[PROFILES[profile].setup(cell).data].facts.classes
    if known is not None and cell.classes > known:
        with pytest.raises(InvalidValue, match=f"{cell.name} needs {cell.classes} classes, but .* has {known}: choose"):
            recipes.base(cell, PROFILES[profile])
        return
    base = recipes.base(cell, PROFILES[profile])

    assert (base.method, base.activation, base.classes) == (cell.method, cell.activation, cell.classes)
    assert base.outputs == (1 if cell.classes == 2 else cell.classes)
    assert base.epochs == PROFILES[profile].epochs
    assert (base.image_size is not None) is (base.data == "imagefolder")
    if profile != "smoke":
        assert base.network == ("cifar-" if base.data == "cifar100" else "imagenet-") + cell.network


def test_image_size_is_for_image_folders() -> None:
    one, two = (next(cell for cell in CELLS.values() if cell.table == table) for table in (1, 2))

    assert recipes.base(one, PROFILES["full"], image_size=224).image_size is None
    assert recipes.base(two, PROFILES["full"], image_size=224).image_size == 224
    assert recipes.base(two, PROFILES["full"]).image_size == 64


def _shipped(*names: str) -> dict[str, dict[str, Any]]:
    return {
        name: {"settings": {"learning_rate": n + 1.0}, "fit": {"learning_rate": n + 0.5}}
        for n, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("cell", "shipped", "nearest"),
    [
        ("table-1/fc/tanh/mdfa/2", ["table-1/fc/relu/mdfa/2", "table-1/fc/tanh/mdfa/2"], 1),  # its own
        ("table-3/fc/tanh/mdfa/5", ["table-3/fc/tanh/mdfa/10", "table-3/fc/tanh/mdfa/3"], 1),  # the closest classes
        ("table-5/fc/tanh/mdfa/5", ["table-3/fc/tanh/mdfa/5", "table-5/fc/tanh/mdfa/10"], 1),  # data before classes
        ("table-2/fc/relu/mdfa/2", ["table-2/fc/tanh/mdfa/2", "table-1/fc/relu/mdfa/2"], 1),  # activation before data
        ("table-2/fc/tanh/mdfa/2", ["table-2/fc/tanh/bp/2", "table-1/fc/tanh/mdfa/2"], 1),  # never another method
        ("table-1/fc/tanh/mdfa/2", ["table-1/conv/tanh/mdfa/2", "table-5/fc/tanh/mdfa/10"], 1),  # nor another net
    ],
)
def test_settings_are_the_nearest_tuned_cells(
    monkeypatch: pytest.MonkeyPatch, cell: str, shipped: list[str], nearest: int
) -> None:
    for order in (1, -1):
        there = dict(list(_shipped(*shipped).items())[::order])
        monkeypatch.setattr(recipes, "_shipped", lambda there=there: there)
        found = recipes.tuned(CELLS[cell])

        assert found.source.name == shipped[nearest]
        assert (found.settings, found.fit) == ({"learning_rate": nearest + 1.0}, {"learning_rate": nearest + 0.5})


def test_a_method_that_was_never_tuned_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_shipped", lambda: _shipped("table-1/fc/tanh/bp/2"))

    with pytest.raises(InvalidValue, match="no settings for table-1/fc/tanh/mdfa/2 come with the package, nor any for"):
        recipes.tuned(CELLS["table-1/fc/tanh/mdfa/2"])


def test_the_settings_that_come_along_are_candidates_of_their_cells() -> None:
    for name, both in recipes._shipped().items():
        assert set(both) == {"settings", "fit"}
        for settings in both.values():
            assert settings in recipes.candidates(CELLS[name])
