from __future__ import annotations

import math
from collections import Counter

import pytest

from mdfa_core.base.errors import UnknownName
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.rules.methods import METHODS
from mdfa_core.studies.paper.published import CELLS, TABLES, TASKS, Cell, Figure, cells

METHODS_OF_THE_PAPER = {"bp", "fa", "dfa", "mdfa"}

# Networks, activations and class counts of every table; each is crossed with all methods.
ROWS: dict[int, tuple[set[str], set[str], set[int]]] = {
    1: ({"fc", "conv"}, {"hard-tanh", "relu", "tanh"}, {2}),
    2: ({"fc", "conv"}, {"hard-tanh", "relu", "tanh"}, {2}),
    3: ({"fc"}, {"tanh"}, {3, 5, 10, 25, 50}),
    4: ({"conv"}, {"tanh"}, {3, 5, 10, 25, 50}),
    5: ({"fc"}, {"tanh"}, {3, 5, 10}),
    6: ({"conv"}, {"tanh"}, {3, 5, 10}),
}


def test_there_are_112_cells_and_224_figures() -> None:
    assert len(CELLS) == 112
    assert sum(len(cell.published) for cell in CELLS.values()) == 224
    assert Counter(cell.table for cell in CELLS.values()) == {1: 24, 2: 24, 3: 20, 4: 20, 5: 12, 6: 12}


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_complete(table: int) -> None:
    networks, activations, classes = ROWS[table]
    expected = {
        Cell(table=table, network=network, activation=activation, method=method, classes=n)  # type: ignore[arg-type]
        for network in networks
        for activation in activations
        for method in METHODS_OF_THE_PAPER
        for n in classes
    }
    assert len(cells(table)) == len(expected)
    assert set(cells(table)) == expected
    split = "validation" if table in (2, 5, 6) else "test"
    assert TABLES[table].number == table
    for cell in cells(table):
        assert tuple(cell.published) == cell.splits == ("train", split)
        assert CELLS[cell.name] is cell


@pytest.mark.parametrize(
    ("name", "train", "held_out"),
    [  # typed from the printed tables
        ("table-1/fc/tanh/mdfa/2", (100.0, 0.0), (77.2, 12.2)),
        ("table-1/conv/tanh/fa/2", (94.2, 3.5), (83.4, 8.7)),
        ("table-1/fc/relu/mdfa/2", (78.2, 9.9), (62.1, 12.7)),
        ("table-1/conv/hard-tanh/dfa/2", (84.4, 7.9), (80.0, 10.3)),
        ("table-2/conv/relu/bp/2", (90.0, 18.1), (72.5, 13.7)),
        ("table-2/fc/hard-tanh/mdfa/2", (95.3, 10.4), (79.5, 9.8)),
        ("table-2/conv/tanh/dfa/2", (99.3, 1.5), (83.2, 8.8)),
        ("table-3/fc/tanh/fa/25", (31.3, 1.6), (28.2, 1.4)),
        ("table-3/fc/tanh/dfa/5", (33.8, 9.7), (31.2, 11.6)),
        ("table-4/conv/tanh/mdfa/10", (94.4, 1.7), (63.9, 4.2)),
        ("table-4/conv/tanh/bp/50", (98.9, 0.0), (33.3, 1.5)),
        ("table-5/fc/tanh/mdfa/10", (38.7, 10.1), (33.3, 8.0)),
        ("table-6/conv/tanh/dfa/10", (90.4, 10.0), (53.6, 5.3)),
        ("table-6/conv/tanh/fa/3", (35.8, 0.7), (53.3, 1.7)),
    ],
)
def test_figures_are_those_printed(name: str, train: tuple[float, float], held_out: tuple[float, float]) -> None:
    cell = CELLS[name]
    assert (cell.published["train"].mean, cell.published["train"].std) == train
    figure = cell.published[cell.held_out]
    assert (figure.mean, figure.std) == held_out
    assert str(figure) == f"{held_out[0]:.1f} ± {held_out[1]:.1f}"


@pytest.mark.parametrize(
    ("table", "means", "stds"),
    # Sums over a table's figures in tenths of a percent, as added up from the printed page: a changed digit shows.
    [
        (1, 39656, 4231),
        (2, 37370, 2905),
        (3, 17799, 1573),
        (4, 27292, 1460),
        (5, 12704, 1430),
        (6, 14857, 995),
    ],
)
def test_sums_of_the_tables(table: int, means: int, stds: int) -> None:
    figures = [figure for cell in cells(table) for figure in cell.published.values()]
    assert round(10 * sum(figure.mean for figure in figures)) == means
    assert round(10 * sum(figure.std for figure in figures)) == stds


def largest_std(figure: Figure, degrees: int) -> float:
    """The largest spread of five shares of at most 100 % with this mean: four of them are 100 %."""
    missing = TASKS * (100 - (figure.mean - 0.05))
    values = [100.0] * (TASKS - 1) + [100 - missing]
    mean = sum(values) / TASKS
    return math.sqrt(sum((value - mean) ** 2 for value in values) / degrees)


def test_figures_are_plausible_and_spreads_are_sample_standard_deviations() -> None:
    figures = [figure for cell in CELLS.values() for figure in cell.published.values()]
    for figure in figures:
        assert 0 < figure.mean <= 100
        assert figure.std - 0.05 <= largest_std(figure, TASKS - 1)
    beyond = {str(figure) for figure in figures if figure.std - 0.05 > largest_std(figure, TASKS)}
    assert beyond == {"98.4 ± 3.6", "93.8 ± 13.0", "95.3 ± 10.4"}


def test_names_are_those_of_the_package() -> None:
    for cell in CELLS.values():
        assert cell.activation in ACTIVATIONS
        assert cell.method in METHODS


def test_cells_are_chosen() -> None:
    (cell,) = cells(1, network="fc", activation="tanh", method="mdfa")
    assert cell.name == "table-1/fc/tanh/mdfa/2"
    assert [cell.classes for cell in cells(4, method="bp")] == [3, 5, 10, 25, 50]
    with pytest.raises(UnknownName, match="unknown table 7: choose one of 1, 2"):
        cells(7)
