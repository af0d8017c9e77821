"""Optimizers with TensorFlow's semantics, one learning rate per replica, updates in place.

Axes: R replica; a parameter is [R, …]. g is the update a method delivers in place of the gradient.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mdfa_core.networks import Parameters
from mdfa_core.registry import Table


class Optimizer(ABC):
    """A rule that turns g into a change of one parameter of one replica.

    Attributes:
        title: its name for people.
        slots: what it remembers about every parameter: name and initial value.
    """

    title: str
    slots: tuple[tuple[str, float], ...] = ()

    @abstractmethod
    def update_(self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float, step: int) -> None:
        """Change `parameter` and its `slots` in place; `step` counts from 1."""


class SGD(Optimizer):
    """Plain gradient descent: θ ← θ − η g (equation 2)."""

    title = "SGD"

    def update_(self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float, step: int) -> None:
        parameter.add_(g, alpha=-rate)


class RMSprop(Optimizer):
    """θ ← θ − η g / √(s + ε) with s ← 0.9 s + 0.1 g², as TensorFlow 1 has it.

    ε = 10⁻¹⁰ is inside the root and s starts at ONE. `torch.optim.RMSprop` differs in all three: decay 0.99, ε = 10⁻⁸
    outside the root, s from zero.
    """

    title = "RMSprop"
    slots = (("mean square", 1.0),)
    decay = 0.9
    epsilon = 1e-10

    def update_(self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float, step: int) -> None:
        (square,) = slots
        square.mul_(self.decay).addcmul_(g, g, value=1 - self.decay)
        parameter.addcdiv_(g, (square + self.epsilon).sqrt_(), value=-rate)


class Adam(Optimizer):
    """Kingma & Ba (2014) in the form TensorFlow uses, with ε̂ = 10⁻⁸ added after the bias correction of the rate.

    θ ← θ − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε̂), m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g². `torch.optim.Adam` adds ε
    to the corrected √v̂ instead.
    """

    title = "Adam"
    slots = (("mean", 0.0), ("mean square", 0.0))
    beta1 = 0.9
    beta2 = 0.999
    epsilon = 1e-8

    def update_(self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float, step: int) -> None:
        mean, square = slots
        mean.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
        square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        corrected = rate * math.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)
        parameter.addcdiv_(mean, square.sqrt().add_(self.epsilon), value=-corrected)


OPTIMIZERS: Table[Optimizer] = Table("optimizer")
OPTIMIZERS.add("sgd", SGD())
OPTIMIZERS.add("rmsprop", RMSprop())
OPTIMIZERS.add("adam", Adam())


@dataclass
class OptimizerState:
    """What an optimizer remembers between steps.

    Attributes:
        step: updates made so far.
        slots: per tensor of `Parameters.tensors()` one tensor per slot, each shaped like it.
    """

    step: int = 0
    slots: list[tuple[Tensor, ...]] = field(default_factory=list)

    @classmethod
    def initial(cls, optimizer: Optimizer, parameters: Parameters) -> OptimizerState:
        """The state before the first step."""
        return cls(0, [tuple(torch.full_like(t, value) for _, value in optimizer.slots) for t in parameters.tensors()])


def apply_(
    optimizer: Optimizer,
    state: OptimizerState,
    parameters: Parameters,
    updates: Parameters,
    rates: Sequence[float],
    l2: Sequence[float],
) -> None:
    """One step of every parameter at its replica's rate, in place.

    With l2 = λ, the penalty ½ λ ‖W‖² adds λ W to the g of weights (biases are left alone).
    """
    state.step += 1
    pairs = zip(parameters.tensors(), updates.tensors(), state.slots, strict=True)
    for number, (parameter, g, slots) in enumerate(pairs):
        is_weight = number % 2 == 0
        for r, rate in enumerate(rates):
            g_r = torch.add(g[r], parameter[r], alpha=l2[r]) if is_weight and l2[r] else g[r]
            optimizer.update_(parameter[r], g_r, [slot[r] for slot in slots], rate, state.step)
