"""Multiply-adds of one online step, and how many of them must wait for each other."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from mdfa_core.errors import GeometryError, InvalidValue
from mdfa_core.methods import Chain, Direct, Method
from mdfa_core.networks import DenseLayer, Network


@dataclass(frozen=True, kw_only=True)
class UpdateCost:
    """Multiply-adds of one step of batch size one with plain SGD.

    The hardware assumed: one multiply-adder for every unit's sums and one for every weight; all work at once as soon
    as their operands are there, and one multiply-add takes one unit of time. Activations, their derivatives, made of
    what the forward pass kept, e = σ(z) − y, the comparison with the floor and moving data are free.

    Attributes:
        forward_path: time from the inputs to z: every unit sums over its inputs, one after the other.
        update_path: time from e to the last changed weight.
        forward_work: multiply-adds of the forward pass in all.
        update_work: multiply-adds of the update in all.
    """

    forward_path: int
    update_path: int
    forward_work: int
    update_work: int


def has_cost(method: Method) -> bool:
    """Whether `update_cost` has a formula for a method: those of BP, FA, DFA and mDFA."""
    return type(method.transport) in (Chain, Direct)


def update_cost(network: Network, method: Method) -> UpdateCost:
    """What one step of a fully-connected net costs, by formula.

    With n₀ inputs, n₁ … n_{L−1} hidden units and n_L outputs, forward: path Σ_l n_{l−1}, work Σ_l n_l n_{l−1} (a sum
    starts from its bias). Update: every layer's W ← W − (η δ) h takes 1 once its δ is there; η δ_l = (η ε_l) f′ takes 1
    once ε_l is; η e takes 1. The wait for ε_l is

        BP, FA:     n_{l+1} after δ_{l+1}        path 2 + Σ_{l=1}^{L−1} (n_{l+1} + 1)
        DFA, mDFA:  n_L after e                  path 2 + (n_L + 1) with hidden layers: no L and no n_l in it

    Update work: BP and FA Σ_{l<L} n_l n_{l+1}, DFA and mDFA Σ_{l<L} n_l n_L, for ε; n_l for each hidden δ_l; n_L for
    η e; n_l n_{l−1} for each W_l. Biases are additions and are not counted.

    Raises:
        GeometryError: the net has convolutions.
        InvalidValue: the method's transport is none of those above.
    """
    if not all(isinstance(layer, DenseLayer) for layer in network.layers):
        raise GeometryError("the formulas are for fully-connected nets, but this one has convolutions: use fc:…")
    sizes = [math.prod(network.input_shape), *(layer.units for layer in network.layers)]
    hidden, outputs = sizes[1:-1], sizes[-1]
    above = sizes[2:]
    forward = sum(a * b for a, b in itertools.pairwise(sizes))
    transport = method.transport
    if type(transport) is Chain:
        path = 2 + sum(n + 1 for n in above)
        carried = sum(a * b for a, b in zip(hidden, above, strict=True))
    elif has_cost(method):
        path = 2 + (outputs + 1 if hidden else 0)
        carried = sum(hidden) * outputs
    else:
        raise InvalidValue(
            f"{method.title} brings errors back by {type(transport).__name__}: the formulas are for BP, FA, DFA and "
            f"mDFA"
        )
    return UpdateCost(
        forward_path=sum(sizes[:-1]),
        update_path=path,
        forward_work=forward,
        update_work=carried + sum(hidden) + outputs + forward,
    )
