"""How many units a mono-net needs where a free net needs so many: both trained on the true gradient, side by side.

Axes: R replica (one a seed), N example.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.errors import InvalidValue
from mdfa_core.initializers import Normal
from mdfa_core.learner import Learner
from mdfa_core.methods import MONO, Chain, Constraint, Method
from mdfa_core.networks import Architecture, Dense, Network, Parameters
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.registry import Table


@dataclass(frozen=True, kw_only=True)
class Target:
    """Points and the class (0 or 1) of each: what the nets of a study are to tell apart."""

    title: str
    points: Callable[[], Tensor]
    """[N, D], between −1 and 1."""
    inside: Callable[[Tensor], Tensor]
    """Points [N, D] → bool [N]: whether a point is of class 1."""


def _line() -> Tensor:
    return torch.linspace(-1, 1, 200).unsqueeze(1)


def _square() -> Tensor:
    side = torch.linspace(-1, 1, 20)
    return torch.cartesian_prod(side, side)


def _in_ring(points: Tensor) -> Tensor:
    radius = points.norm(dim=1)
    return (radius > 0.45) & (radius < 0.85)


TARGETS: Table[Target] = Table("target")
TARGETS.add("ring", Target(title="a ring in the square", points=_square, inside=_in_ring))
TARGETS.add(
    "stripes",
    Target(title="six stripes of the line", points=_line, inside=lambda points: (3 * math.pi * points[:, 0]).sin() > 0),
)

_TRUE_GRADIENT = Chain(fixed=False)
CONSTRAINTS: dict[str, Constraint] = {"free": Constraint(first_layer=None, feedback=False), "mono": MONO}
"""The two sides of the comparison; both learn by backpropagation, so that nothing but the constraint differs."""

_RATE = 0.03  # of Adam: for units of weights near 1 on inputs in [−1, 1]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well one trained net fits a target.

    Attributes:
        constraint: a name of `CONSTRAINTS`.
        units: in each hidden layer.
        loss: mean cross-entropy in nats over all points, after the last step.
        wrong: share of points of the wrong class.
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
) -> Iterator[Fit]:
    """Train free nets and mono-nets of every width, and yield how well each fits: one `Fit` per net.

    All points at every step, Adam at 0.03, the true gradient (backpropagation), weights from N(0, 1) (their absolute
    values where the constraint asks for it) and biases of 0; a mono-net's weights above the first layer are clipped
    at 0 after every step. All seeds of a width are the replicas of one stack.

    Args:
        target: a name of `TARGETS`.
        activations: names of `ACTIVATIONS`.
        depths: numbers of hidden layers.
        units: numbers of units, the same in every hidden layer.
        seeds: of the initial weights.
        steps: of the optimizer.

    Raises:
        UnknownName: a name is in no table.
        InvalidValue: a depth, a width or the steps are no positive integer, or there is no seed.

    Source: the question is section 3's, below Definition 1: "we might need a larger number of units".
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
                        yield Fit(
                            target=target,
                            activation=activation,
                            constraint=constraint,
                            depth=depth,
                            units=width,
                            seed=seed,
                            loss=loss,
                            wrong=1 - right / len(points),
                        )


def units_needed(fits: Sequence[Fit], loss: float) -> dict[tuple[str, int], dict[str, int | None]]:
    """The fewest units a hidden layer needs for a median loss (over seeds) of at most `loss`.

    Returns:
        (activation, depth) → constraint → units; None where no width of the study was enough.
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
