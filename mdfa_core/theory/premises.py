"""Whether the premises of Theorem 2 hold for a net as it is now, and where they fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.activations import Activation
from mdfa_core.experiment import Experiment
from mdfa_core.learner import Learner
from mdfa_core.methods import Guarantee, Method, sign_guarantee
from mdfa_core.networks import Network, Parameters
from mdfa_core.training import Run

_REACH = 30.0  # f′ is looked at from −30 to 30
_POINTS = 60001


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a premise fails: the worst entry of one tensor.

    Attributes:
        where: the tensor, by the name of its layer.
        index: of the worst entry in that tensor, the replica first; empty where there is no tensor.
        value: the entry.
        count: how many entries fail, of `of`.
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
    """One premise, what the net has there, and where that fails."""

    statement: str
    found: str
    holds: bool
    failures: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        lines = [f"{'holds' if self.holds else 'FAILS'}: {self.statement}: {self.found}"]
        return "\n".join([*lines, *(f"       {failure}" for failure in self.failures)])


@dataclass(frozen=True, kw_only=True)
class Check:
    """Theorem 2's premises for one net (all its replicas), and what its configuration promises for later.

    Attributes:
        premises: each of them, in the theorem's order.
        guarantee: what `methods.sign_guarantee` says about the configuration: whether training keeps the premises.
        exact: the method computes the true gradient, so that no theorem is needed.
    """

    premises: tuple[Premise, ...]
    guarantee: Guarantee
    exact: bool

    @property
    def holds(self) -> bool:
        """Whether every premise holds for the numbers as they are now."""
        return all(premise.holds for premise in self.premises)

    @property
    def failed(self) -> tuple[Premise, ...]:
        """The premises that fail."""
        return tuple(premise for premise in self.premises if not premise.holds)

    @property
    def conclusion(self) -> str:
        """What follows, in a sentence."""
        if self.exact:
            return self.guarantee.reason
        if not self.holds:
            failed = "premise fails" if len(self.failed) == 1 else "premises fail"
            return f"Theorem 2 says nothing about this net: {len(self.failed)} {failed}."
        if not self.guarantee.holds:
            return (
                f"Theorem 2 holds for the numbers as they are, but training does not keep it: {self.guarantee.reason}"
            )
        return "Theorem 2 holds, and training keeps it: every defined unit error signal has the sign of the true one."

    def __str__(self) -> str:
        return "\n".join([*map(str, self.premises), self.conclusion])


def check(
    subject: Experiment | Run | Learner, *, device: str = "auto", data_dir: str | os.PathLike[str] | None = None
) -> Check:
    """Check a run or a learner as it is now, or an experiment as it starts.

    Args:
        subject: what to check; an `Experiment` is made into a `Run`, because its data decide its input shape.
        device: for an experiment.
        data_dir: the folder of an experiment's data.

    Raises:
        DataError: an experiment's data is missing.

    Source: Theorem 2 (4), Definition 1.
    """
    if isinstance(subject, Experiment):
        subject = Run(subject, device=device, data_dir=data_dir)
    learner = subject.learner if isinstance(subject, Run) else subject
    return check_net(learner.network, learner.parameters, learner.feedback, learner.method)


def check_net(network: Network, parameters: Parameters, feedback: Sequence[Tensor], method: Method) -> Check:
    """Check the numbers of a net: one output, f monotone, W ≥ 0 above layer 1, direct feedback B ≥ 0.

    A NaN fails wherever a sign is asked for. FA's transport, layer by layer through fixed weights, counts as feedback
    too: with B ≥ 0 and f′ ≥ 0 it keeps the sign for the same reason.

    Source: Theorem 2 (4), Definition 1 (equations 7 to 11), Lemma 2.
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
            found=f"the net has {network.outputs}",
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
    return Check(
        premises=premises, guarantee=sign_guarantee(method, network.activation, network.outputs), exact=transport.exact
    )


def _monotone(activation: Activation) -> Premise:
    a = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    slope = activation.derivative(activation.function(a) if activation.from_output else a)
    wrong = ~(slope >= 0)
    failures: tuple[Failure, ...] = ()
    if bool(wrong.any()):
        worst = _worst(slope, wrong)
        where = f"f′({a[worst].item():.4g})"
        failures = (
            Failure(where=where, index=(), value=slope[worst].item(), count=int(wrong.sum()), of=slope.numel()),
        )
    declared = f"{activation.title} is {'' if activation.monotone else 'not '}declared monotone"
    return Premise(
        statement="the activation never falls",
        found=f"{declared}, its least slope from {-_REACH:g} to {_REACH:g} is {slope.min().item():.4g}",
        holds=activation.monotone and not failures,
        failures=failures,
    )


def _nonnegative(statement: str, tensors: dict[str, Tensor], nothing: str) -> Premise:
    failures = []
    for name, tensor in tensors.items():
        wrong = ~(tensor >= 0)  # NaN, too
        if bool(wrong.any()):
            worst = _worst(tensor.flatten(), wrong.flatten())
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), tensor.shape))
            failures.append(
                Failure(
                    where=name,
                    index=index,
                    value=tensor[index].item(),
                    count=int(wrong.sum()),
                    of=tensor.numel(),
                )
            )
    if not tensors:
        found = f"there is {nothing}"
    elif failures:
        found = f"{sum(f.count for f in failures)} are, in {len(failures)} of {len(tensors)} layers"
    else:
        found = f"the least is {min(tensor.min().item() for tensor in tensors.values()):.4g}"
    return Premise(statement=statement, found=found, holds=not failures, failures=tuple(failures))


def _worst(values: Tensor, wrong: Tensor) -> int:
    """The place of a NaN if there is one, else of the least value, among those that are wrong."""
    unknown = values.isnan()
    return int(torch.where(unknown, -torch.inf, values).masked_fill(~wrong, torch.inf).argmin())
