"""Check whether the premises of Theorem 2 hold for a network as it is now, and where they are violated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.learning.learner import Learner
from mdfa_core.nets.activations import Activation
from mdfa_core.nets.networks import Network, Parameters
from mdfa_core.rules.methods import Guarantee, Method, sign_guarantee
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.run import Run

_REACH = 30.0  # f′ is evaluated from −30 to 30
_POINTS = 60001


@dataclass(frozen=True, kw_only=True)
class Violation:
    """The entries of a tensor that violate a premise.

    Attributes:
        where: the tensor, named after its layer.
        index: index of the worst entry, replica first; empty if the value does not belong to a tensor.
        value: value of the worst entry.
        count: number of entries that violate the premise.
        of: number of entries of the tensor.
    """

    where: str
    index: tuple[int, ...]
    value: float
    count: int
    of: int

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return f"{self.where}{place} = {self.value:.6g} ({self.count} of {self.of} fail)"


@dataclass(frozen=True, kw_only=True)
class Premise:
    """A premise of Theorem 2 and whether a network satisfies it.

    Attributes:
        statement: the premise.
        found: what the network has.
        holds: whether the premise holds.
        violations: the tensors that violate it.
    """

    statement: str
    found: str
    holds: bool
    violations: tuple[Violation, ...] = ()

    def __str__(self) -> str:
        lines = [f"{'holds' if self.holds else 'FAILS'}: {self.statement}: {self.found}"]
        return "\n".join([*lines, *(f"       {failure}" for failure in self.violations)])


@dataclass(frozen=True, kw_only=True)
class PremiseCheck:
    """The premises of Theorem 2 for a network with all its replicas, and whether training preserves them.

    Attributes:
        premises: the premises in the theorem's order.
        guarantee: result of `methods.sign_guarantee`: whether training preserves the premises.
        exact: whether the method computes the true gradient, so that no theorem is needed.
    """

    premises: tuple[Premise, ...]
    guarantee: Guarantee
    exact: bool

    @property
    def holds(self) -> bool:
        """Whether every premise holds for the present parameters."""
        return all(premise.holds for premise in self.premises)

    @property
    def failed(self) -> tuple[Premise, ...]:
        """The premises that do not hold."""
        return tuple(premise for premise in self.premises if not premise.holds)

    @property
    def conclusion(self) -> str:
        """The conclusion in one sentence."""
        if self.exact:
            return self.guarantee.reason
        if not self.holds:
            failed = "premise fails" if len(self.failed) == 1 else "premises fail"
            return f"Theorem 2 does not apply to this network: {len(self.failed)} {failed}."
        if not self.guarantee.holds:
            return f"Theorem 2 applies now, but training may violate its premises: {self.guarantee.reason}"
        return "Theorem 2 applies, also during training: every defined unit error signal has the true sign."

    def __str__(self) -> str:
        return "\n".join([*map(str, self.premises), self.conclusion])


def check(
    subject: Experiment | Run | Learner, *, device: str = "auto", data_dir: str | os.PathLike[str] | None = None
) -> PremiseCheck:
    """Check the premises of Theorem 2 for a run or a learner as it is now, or for an experiment at its start.

    Args:
        subject: the run, learner or experiment. A `Run` is created from an experiment, since its data determine the
            input shape.
        device: device of that run.
        data_dir: folder of the experiment's data.

    Raises:
        DataError: the experiment's data is missing.

    Source: M. Lechner, ICLR 2020, Theorem 2 (4), Definition 1.
    """
    if isinstance(subject, Experiment):
        subject = Run(subject, device=device, data_dir=data_dir)
    learner = subject.learner if isinstance(subject, Run) else subject
    return check_net(learner.network, learner.parameters, learner.feedback, learner.method)


def check_net(network: Network, parameters: Parameters, feedback: Sequence[Tensor], method: Method) -> PremiseCheck:
    """Check the premises of Theorem 2 for parameters: one output, f monotone, W ≥ 0 above layer 1, feedback B ≥ 0.

    NaN violates every premise about a sign. Layer-by-layer feedback (FA) is accepted as well: with B ≥ 0 and f′ ≥ 0, it
    preserves signs for the same reason as direct feedback.

    Args:
        network: the network.
        parameters: its parameters, R replicas.
        feedback: its feedback weights.
        method: the learning rule.

    Source: M. Lechner, ICLR 2020, Theorem 2 (4), Definition 1 (equations 7 to 11), Lemma 2.
    """
    transport = method.transport
    own = len(feedback) == len(network.hidden)  # one tensor for every hidden layer
    weights = {
        f"weights of {layer.name}": w for layer, w in zip(network.layers[1:], parameters.weights[1:], strict=True)
    }
    fed = {
        (f"feedback of {network.hidden[number].name}" if own else f"feedback {number + 1}"): b
        for number, b in enumerate(feedback)
    }
    premises = (
        Premise(
            statement="one output",
            found=f"the network has {network.outputs}",
            holds=network.outputs == 1,
        ),
        _monotone(network.activation),
        _nonnegative("no weight above layer 1 is negative", weights, "no layer above the first"),
        Premise(
            statement="the error reaches hidden layers through feedback weights of their own",
            found=f"{method.title}, {method.description}",
            holds=transport.keeps_signs,
        ),
        _nonnegative("no feedback weight is negative", fed, "no feedback"),
    )
    return PremiseCheck(
        premises=premises, guarantee=sign_guarantee(method, network.activation, network.outputs), exact=transport.exact
    )


def _monotone(activation: Activation) -> Premise:
    a = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    slope = activation.derivative(activation.function(a) if activation.from_output else a)
    wrong = ~(slope >= 0)
    violations: tuple[Violation, ...] = ()
    if bool(wrong.any()):
        worst = _worst(slope, wrong)
        where = f"f′({a[worst].item():.4g})"
        violations = (
            Violation(where=where, index=(), value=slope[worst].item(), count=int(wrong.sum()), of=slope.numel()),
        )
    declared = f"{activation.title} is {'' if activation.monotone else 'not '}declared monotone"
    return Premise(
        statement="the activation never decreases",
        found=f"{declared}, its smallest slope from {-_REACH:g} to {_REACH:g} is {slope.min().item():.4g}",
        holds=activation.monotone and not violations,
        violations=violations,
    )


def _nonnegative(statement: str, tensors: dict[str, Tensor], nothing: str) -> Premise:
    violations = []
    for name, tensor in tensors.items():
        wrong = ~(tensor >= 0)  # true for NaN as well
        if bool(wrong.any()):
            worst = _worst(tensor.flatten(), wrong.flatten())
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), tensor.shape))
            violations.append(
                Violation(
                    where=name,
                    index=index,
                    value=tensor[index].item(),
                    count=int(wrong.sum()),
                    of=tensor.numel(),
                )
            )
    if not tensors:
        found = f"there is {nothing}"
    elif violations:
        found = f"{sum(f.count for f in violations)} negative or NaN, in {len(violations)} of {len(tensors)} layers"
    else:
        found = f"the smallest is {min(tensor.min().item() for tensor in tensors.values()):.4g}"
    return Premise(statement=statement, found=found, holds=not violations, violations=tuple(violations))


def _worst(values: Tensor, wrong: Tensor) -> int:
    """Index of a wrong value: of a NaN if there is one, else of the smallest."""
    unknown = values.isnan()
    return int(torch.where(unknown, -torch.inf, values).masked_fill(~wrong, torch.inf).argmin())
