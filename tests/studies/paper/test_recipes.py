"""How the cells are run: equal budgets, three profiles, settings that come with the package."""

from __future__ import annotations

from typing import Any

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import DATASETS
from mdfa_core.studies.paper import recipes
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell
from mdfa_core.studies.paper.recipes import PROFILES
from mdfa_core.studies.paper.reproduction import Plan, chosen_cells

FIRST = next(iter(CELLS.values()))


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_method_has_the_same_epochs_to_search(profile: str) -> None:
    cells = chosen_cells(list(TABLES), profile=profile)
    plan = Plan(profile=profile, cells=cells)

    assert len({plan.epochs_to_search(cell) for cell in cells}) == 1
    assert bool(plan.epochs_to_search(cells[0])) is bool(PROFILES[profile].rungs)


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_base_is_the_cells_or_a_sentence(profile: str) -> None:
    for cell in CELLS.values():
        assert_base_is_the_cells_or_a_sentence(cell, profile)


def assert_base_is_the_cells_or_a_sentence(cell: Cell, profile: str) -> None:
    known = DATASETS[PROFILES[profile].setup(cell).data].counts.classes
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
        variant = "-released" if profile == "released" and base.data != "cifar100" and cell.network == "conv" else ""
        assert base.network == ("cifar-" if base.data == "cifar100" else "imagenet-") + cell.network + variant


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("table-1/fc/tanh/bp/2", "sum"),
        ("table-1/fc/tanh/fa/2", "mean"),
        ("table-3/fc/tanh/dfa/3", "mean"),
        ("table-5/fc/tanh/mdfa/10", "mean"),
        ("table-1/conv/tanh/bp/2", "sum"),
        ("table-4/conv/tanh/mdfa/3", "sum"),
    ],
)
def test_the_released_program_sums_the_loss_of_all_but_the_fully_connected_feedback_methods(
    name: str, scale: str
) -> None:
    base = recipes.base(CELLS[name], PROFILES["released"])

    assert (base.loss_scale, base.convention, base.evaluation) == (scale, "released", "released")
    assert (base.batch_size, base.drop_last, base.floor, base.epochs) == (64, True, 1e-6, 100)
    settings = recipes.untuned(CELLS[name], PROFILES["released"]).settings
    assert settings == {
        "optimizer": "rmsprop",
        "learning_rate": 1e-4,
        "forward_init": "uniform:1",
        "feedback_init": "uniform:1",
    }


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


def test_a_published_cell_keeps_the_settings_of_its_source_when_a_nearer_cell_is_tuned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell, source, nearer, other = (CELLS[f"table-3/fc/tanh/mdfa/{n}"] for n in (10, 3, 25, 5))
    shipped = _shipped(source.name, nearer.name, cell.name)
    shipped[cell.name]["source"] = source.name
    monkeypatch.setattr(recipes, "_shipped", lambda: shipped)

    found = recipes.tuned(cell)

    assert (found.source, found.settings, found.fit) == (source, {"learning_rate": 3.0}, {"learning_rate": 2.5})
    assert (
        recipes.tuned(other).source == source
    )  # not the cell of 10 classes, which lies as near with borrowed settings
    assert recipes.tuned(CELLS["table-3/fc/tanh/mdfa/50"]).source == nearer


def test_a_method_that_was_never_tuned_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_shipped", lambda: _shipped("table-1/fc/tanh/bp/2"))

    with pytest.raises(InvalidValue, match="the package has no settings for table-1/fc/tanh/mdfa/2, nor any for"):
        recipes.tuned(CELLS["table-1/fc/tanh/mdfa/2"])


def test_the_settings_that_come_along_are_candidates_of_their_cells() -> None:
    for name, entry in recipes._shipped().items():
        assert set(entry) - {"source"} == {"settings", "fit"}
        for settings in (entry["settings"], entry["fit"]):
            assert settings in recipes.candidates(CELLS[name])
