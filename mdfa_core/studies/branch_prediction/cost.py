"""Multiply-adds of one online training step, and the length of its critical path."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network, parse_architecture
from mdfa_core.rules.chain import Chain
from mdfa_core.rules.methods import Method


@dataclass(frozen=True, kw_only=True)
class UpdateCost:
    """Cost of one training step with batch size one and plain SGD, in multiply-adds.

    The assumed hardware has one multiply-adder per unit and one per weight. All work in parallel as soon as their
    operands are ready, and a multiply-add takes one unit of time. Activations, derivatives, e = σ(z) − y, clipping at
    the floor and data movement are free.

    Attributes:
        forward_path: time from the inputs to z. Every unit sums over its inputs one by one.
        update_path: time from e to the last changed weight.
        forward_work: total multiply-adds of the forward pass.
        update_work: total multiply-adds of the update.
    """

    forward_path: int
    update_path: int
    forward_work: int
    update_work: int


_ANY = Network(parse_architecture("fc:2"), (1,), 1, ACTIVATIONS["tanh"])


def has_cost(method: Method) -> bool:
    """Whether `update_cost` has a formula for a method: BP, FA, DFA and mDFA have one."""
    cost = method.transport.backward_cost(_ANY)
    return cost is not None and cost.path is not None


def update_cost(network: Network, method: Method) -> UpdateCost:
    """The cost of one training step of a fully-connected network, by formula.

    The network has n₀ inputs, n₁ … n_{L−1} hidden units and n_L outputs. The forward pass has path Σ_l n_{l−1} and work
    Σ_l n_l n_{l−1}, since a sum starts from its bias. In the update, η e takes time 1, η δ_l = (η ε_l) f′ takes 1 after
    ε_l is ready, and W ← W − (η δ) h takes 1 after δ is ready. The time for ε_l is

        BP, FA:     n_{l+1} after δ_{l+1}        path 2 + Σ_{l=1}^{L−1} (n_{l+1} + 1)
        DFA, mDFA:  n_L after e                  path 2 + (n_L + 1) with hidden layers, for any L and n_l

    The work of the update is, for all ε together, Σ_{l<L} n_l n_{l+1} with BP and FA, and Σ_{l<L} n_l n_L with DFA and
    mDFA; n_l for each hidden δ_l; n_L for η e; and n_l n_{l−1} for each W_l. Bias updates are additions, not counted.

    Args:
        network: fully-connected.
        method: a method for which `has_cost` is true.

    Raises:
        GeometryError: the network has convolutions.
        InvalidValue: there is no formula for the method.
    """
    if any(layer.shares_weights for layer in network.layers):
        raise GeometryError("the formulas hold for fully-connected networks, but this one has convolutions: use fc:…")
    sizes = [math.prod(network.input_shape), *(layer.units for layer in network.layers)]
    hidden, outputs = sizes[1:-1], sizes[-1]
    forward = sum(a * b for a, b in itertools.pairwise(sizes))
    backward = method.transport.backward_cost(network)
    if backward is None or backward.path is None:
        raise InvalidValue(
            f"{method.title} has no formula for the path of its errors: the formulas are for BP, FA, DFA and mDFA"
        )
    return UpdateCost(
        forward_path=sum(sizes[:-1]),
        update_path=2 + backward.path,
        forward_work=forward,
        update_work=backward.work + sum(hidden) + outputs + forward,
    )


def tree_paths(network: Network, method: Method) -> tuple[int, int]:
    """Forward and update path with adder trees: a sum of n products takes one multiplication and ⌈log₂ n⌉ additions.

    Otherwise as in `update_cost`. A bias is one more summand of the forward pass, without a product. With
    t(n) = 1 + ⌈log₂ n⌉, the paths are

        forward:          Σ_l t(n_{l−1} + 1)
        update, BP, FA:   2 + Σ_{l=1}^{L−1} (t(n_{l+1}) + 1)
        update, DFA, mDFA: 2 + t(n_L) + 1 with hidden layers

    Returns:
        Operations in a row from the inputs to z, and from e to the last changed weight.

    Raises:
        GeometryError: the network has convolutions.
        InvalidValue: there is no formula for the method.
    """
    update_cost(network, method)  # raises
    sizes = [math.prod(network.input_shape), *(layer.units for layer in network.layers)]
    forward = sum(_tree(n + 1) for n in sizes[:-1])
    if not network.hidden:
        return forward, 2
    above = sizes[2:] if isinstance(method.transport, Chain) else sizes[-1:]
    return forward, 2 + sum(_tree(n) + 1 for n in above)


def _tree(summands: int) -> int:
    return 1 + math.ceil(math.log2(summands))
