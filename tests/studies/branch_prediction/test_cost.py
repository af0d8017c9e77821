"""The cost formulas against a simulation: one step, scalar by scalar, each with the time at which it is ready."""

from __future__ import annotations

import dataclasses

import pytest

from mdfa_core import METHODS
from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network, parse_architecture
from mdfa_core.rules import FeedbackShape, Transport
from mdfa_core.studies.branch_prediction import has_cost, tree_paths, update_cost


def network(text: str, inputs: int = 7, outputs: int = 1) -> Network:
    return Network(parse_architecture(text), (inputs,), outputs, ACTIVATIONS["tanh"])


class Clock:
    """Counts multiply-adds; a number is the time at which it is known."""

    def __init__(self) -> None:
        self.work = 0

    def multiply_add(self, *ready: int) -> int:
        self.work += 1
        return max(ready) + 1

    def summed(self, operands: list[int]) -> int:
        total = 0
        for operand in operands:  # one multiply-adder a unit: one product after the other
            total = self.multiply_add(total, operand)
        return total


def forward_by_clock(sizes: list[int]) -> tuple[int, int]:
    clock = Clock()
    h = [0] * sizes[0]
    for units in sizes[1:]:
        start = max(h)  # a unit's first product waits for the slowest input
        h = [start + clock.summed([0] * len(h)) for _ in range(units)]
    return max(h), clock.work


def update_by_clock(sizes: list[int], *, direct: bool) -> tuple[int, int]:
    clock = Clock()
    e = [clock.multiply_add(0) for _ in range(sizes[-1])]  # η e
    deltas = {len(sizes) - 1: e}
    for layer in reversed(range(1, len(sizes) - 1)):
        source = e if direct else deltas[layer + 1]
        start = max(source)
        epsilon = [start + clock.summed([0] * len(source)) for _ in range(sizes[layer])]
        deltas[layer] = [clock.multiply_add(item) for item in epsilon]  # ⊙ f′
    done = [clock.multiply_add(d) for layer, delta in deltas.items() for d in delta for _ in range(sizes[layer - 1])]
    return max(done), clock.work


KNOWN = ("bp", "fa", "dfa", "mdfa")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in KNOWN])
def test_rules_without_a_formula_are_refused_by_name(method: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{METHODS[method].title} .*the formulas are for BP, FA, DFA and mDFA"):
        update_cost(network("fc:4"), METHODS[method])
    assert not has_cost(METHODS[method])


@pytest.mark.parametrize("method", KNOWN)
@pytest.mark.parametrize(
    ("text", "hidden"), [("fc:", []), ("fc:4", [4]), ("fc:4,9", [4, 9]), ("fc:5,2,6,3", [5, 2, 6, 3])]
)
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_formulas_equal_the_clock(method: str, text: str, hidden: list[int], outputs: int) -> None:
    sizes = [7, *hidden, outputs]
    assert has_cost(METHODS[method])
    cost = update_cost(network(text, outputs=outputs), METHODS[method])

    assert (cost.forward_path, cost.forward_work) == forward_by_clock(sizes)
    direct = method in ("dfa", "mdfa")
    assert (cost.update_path, cost.update_work) == update_by_clock(sizes, direct=direct)


@pytest.mark.parametrize("method", ["dfa", "mdfa"])
def test_direct_updates_take_the_same_time_at_any_depth_and_width(method: str) -> None:
    paths = {
        update_cost(network("fc:" + ",".join([str(width)] * depth)), METHODS[method]).update_path
        for width in (1, 16, 64)
        for depth in (1, 2, 8, 32)
    }
    assert paths == {4}


def test_layer_by_layer_updates_wait_for_every_layer() -> None:
    paths = [update_cost(network("fc:" + ",".join(["16"] * depth)), METHODS["bp"]).update_path for depth in (1, 2, 3)]
    assert paths == [4, 21, 38]


def test_what_the_formulas_do_not_cover_is_refused() -> None:
    class Telepathy(Transport):
        def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
            return ()

        def signals(self, network, parameters, feedback, forward_pass, error, context):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    conv = Network(parse_architecture("conv:2/3/1"), (1, 5, 5), 1, ACTIVATIONS["tanh"])
    with pytest.raises(GeometryError, match="fully-connected"):
        update_cost(conv, METHODS["mdfa"])
    with pytest.raises(InvalidValue, match="BP has no formula for the path of its errors"):
        update_cost(network("fc:4"), dataclasses.replace(METHODS["bp"], transport=Telepathy()))


def summed_by_a_tree(ready: list[int]) -> int:
    """The time of a sum whose summands are added in pairs."""
    while len(ready) > 1:
        pairs = [max(ready[i : i + 2]) + (i + 1 < len(ready)) for i in range(0, len(ready), 2)]
        ready = pairs
    return ready[0]


@pytest.mark.parametrize("method", KNOWN)
@pytest.mark.parametrize(("text", "hidden"), [("fc:", []), ("fc:4", [4]), ("fc:5,2,6,3", [5, 2, 6, 3])])
def test_paths_with_adder_trees_equal_the_clock(method: str, text: str, hidden: list[int]) -> None:
    sizes = [7, *hidden, 3]
    known = 0
    for below in sizes[:-1]:
        known = summed_by_a_tree([known + 1] * below + [known + 1])  # the bias waits like a product
    source, updates = 1, [2]  # η e, and the output's update
    for units in reversed(sizes[2:]):
        carrier = source if method in ("bp", "fa") else 1
        fan = units if method in ("bp", "fa") else sizes[-1]
        source = summed_by_a_tree([carrier + 1] * fan) + 1
        updates.append(source + 1)

    assert tree_paths(network(text, outputs=3), METHODS[method]) == (known, max(updates))
