"""Fewer cases than a product of tables has, which still meet every pair of their entries."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import Any


def pairwise(*tables: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Cases with a value of each table, in which every two values of two tables occur together at least once.

    A mistake in one value, or in how two of them meet, shows as in the whole product; 6 × 5 × 4 × 2 values take some
    30 cases instead of 240. Each case is made for one pair that is still missing and takes the other values that meet
    most of the missing pairs (greedy, as in R. Kuhn, R. Kacker and Y. Lei, "Practical combinatorial testing", NIST
    SP 800-142). The same tables give the same cases.
    """
    values = [list(table) for table in tables]
    places = range(len(values))
    missing = {
        (a, i, b, j): None
        for a, b in itertools.combinations(places, 2)
        for i, j in itertools.product(range(len(values[a])), range(len(values[b])))
    }  # a dictionary keeps its order

    def met(case: dict[int, int], place: int, choice: int) -> int:
        """The missing pairs that a choice would meet."""
        pairs = ((a, i, place, choice) if a < place else (place, choice, a, i) for a, i in case.items())
        return sum(pair in missing for pair in pairs)

    cases: list[tuple[Any, ...]] = []
    uses: list[list[int]] = [[0] * len(table) for table in values]
    while missing:
        a, i, b, j = next(iter(missing))
        case = {a: i, b: j}
        for place in places:
            if place not in case:
                choices: Collection[int] = range(len(values[place]))
                case[place] = max(choices, key=lambda choice: (met(case, place, choice), -uses[place][choice]))
        for (a, i), (b, j) in itertools.combinations(sorted(case.items()), 2):
            missing.pop((a, i, b, j), None)
        for place, choice in case.items():
            uses[place][choice] += 1
        cases.append(tuple(values[place][case[place]] for place in places))
    return cases
