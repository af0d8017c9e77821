"""How many units a mono-net needs compared with a free network, both trained by backpropagation.

Axes: R replica (one per seed), N example.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.initializers import Normal
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture, Network, Parameters
from mdfa_core.rules import MONO, Chain, Constraint, Method


@dataclass(frozen=True, kw_only=True)
class Target:
    """A two-class problem that the networks of a study learn.

    Attributes:
        title: its name in plots.
        points: returns the points, [N, D], between −1 and 1.
        inside: points [N, D] → bool [N], whether a point belongs to class 1.
    """

    title: str
    points: Callable[[], Tensor]
    inside: Callable[[Tensor], Tensor]


def _line() -> Tensor:
    return torch.linspace(-1, 1, 200).unsqueeze(1)


def _square() -> Tensor:
    side = torch.linspace(-1, 1, 20)
    return torch.cartesian_prod(side, side)


def _in_ring(points: Tensor) -> Tensor:
    radius = points.norm(dim=1)
    return (radius > 0.45) & (radius < 0.85)


TARGETS: Registry[Target] = Registry("target")
TARGETS.add("ring", Target(title="a ring in the square", points=_square, inside=_in_ring))
TARGETS.add(
    "stripes",
    Target(title="six stripes of the line", points=_line, inside=lambda points: (3 * math.pi * points[:, 0]).sin() > 0),
)

_TRUE_GRADIENT = Chain(fixed=False)
CONSTRAINTS: dict[str, Constraint] = {"free": Constraint(first_layer=None, feedback=False), "mono": MONO}
"""The networks that are compared. Both learn by backpropagation, so that they differ in the constraint only."""

_RATE = 0.03  # of Adam; suits weights near 1 and inputs in [−1, 1]


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How well a trained network fits a target.

    Attributes:
        target: a name in `TARGETS`.
        activation: a name in `ACTIVATIONS`.
        constraint: a name in `CONSTRAINTS`.
        depth: number of hidden layers.
        units: units per hidden layer.
        seed: of the initial weights.
        loss: mean cross-entropy over all points after the last step, in nats.
        wrong: share of misclassified points.
    """

    target: str
    activation: str
    constraint: str
    depth: int
    units: int
    seed: int
    loss: float
    wrong: float


def units_study(
    target: str = "ring",
    *,
    activations: Sequence[str] = ("tanh", "relu"),
    depths: Sequence[int] = (1, 2),
    units: Sequence[int] = (2, 4, 8, 16, 32),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    steps: int = 1000,
) -> Iterator[FitResult]:
    """Train free networks and mono-nets of every depth and width, and yield one `FitResult` per network.

    Every step is full-batch: Adam with learning rate 0.03 on the true gradient. Weights start from N(0, 1), biases from
    0. A mono-net's weights above the first layer start from |N(0, 1)| and are clipped at 0 after every step. All seeds
    of a width train as one stack of replicas.

    Args:
        target: a name in `TARGETS`.
        activations: names in `ACTIVATIONS`.
        depths: numbers of hidden layers.
        units: numbers of units per hidden layer.
        seeds: of the initial weights.
        steps: optimizer steps.

    Raises:
        UnknownName: there is no such target or activation.
        InvalidValue: a depth, a width or `steps` is no positive integer, or there is no seed.

    Source: M. Lechner, ICLR 2020, section 3, below Definition 1: "we might need a larger number of units".
    """
    for name, values in (("depth", depths), ("number of units", units), ("number of steps", [steps])):
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidValue(f"a {name} is {value!r}: give an integer of at least 1")
    if not seeds:
        raise InvalidValue("no seed was given: give at least one")
    functions = {name: ACTIVATIONS[name] for name in activations}
    points = TARGETS[target].points()
    labels = TARGETS[target].inside(points).long()
    for activation, function in functions.items():
        for depth in depths:
            for width in units:
                network = Network(Architecture((Dense(width),) * depth), points.shape[1:], 1, function)
                for constraint in CONSTRAINTS:
                    learner = _trained(network, CONSTRAINTS[constraint], seeds, points, labels, steps)
                    score = learner.evaluate(learner.parameters, points.unsqueeze(0), labels.unsqueeze(0))
                    for seed, loss, right in zip(seeds, score.loss.tolist(), score.correct.tolist(), strict=True):
                        yield FitResult(
                            target=target,
                            activation=activation,
                            constraint=constraint,
                            depth=depth,
                            units=width,
                            seed=seed,
                            loss=loss,
                            wrong=1 - right / len(points),
                        )


def units_needed(fits: Sequence[FitResult], loss: float) -> dict[tuple[str, int], dict[str, int | None]]:
    """The smallest width with a median loss (over seeds) of at most `loss`.

    Args:
        fits: results of `units_study`.
        loss: mean cross-entropy in nats.

    Returns:
        (activation, depth) → constraint → units per hidden layer; None if no width of the study was enough.
    """
    losses: dict[tuple[str, int, str], dict[int, list[float]]] = {}
    for fit in fits:
        of_width = losses.setdefault((fit.activation, fit.depth, fit.constraint), {})
        of_width.setdefault(fit.units, []).append(fit.loss)
    needed: dict[tuple[str, int], dict[str, int | None]] = {}
    for (activation, depth, constraint), of_width in losses.items():
        enough = [width for width, values in of_width.items() if statistics.median(values) <= loss]
        needed.setdefault((activation, depth), {})[constraint] = min(enough, default=None)
    return needed


def _trained(
    network: Network, constraint: Constraint, seeds: Sequence[int], points: Tensor, labels: Tensor, steps: int
) -> Learner:
    method = Method(title="BP", description="the true gradient", transport=_TRUE_GRADIENT, constraint=constraint)
    drawn = [
        method.initial_parameters(network, Normal(1.0), seed=seed, convention="paper", floor=0.0) for seed in seeds
    ]
    learner = Learner(
        network, method, OPTIMIZERS["adam"], Parameters.stack(drawn), learning_rates=[_RATE] * len(seeds), floor=0.0
    )
    for _ in range(steps):
        learner.step(points.unsqueeze(0), labels.unsqueeze(0))
    return learner
