"""Optimizers: updates in place, with one learning rate per replica. Those of the paper follow TensorFlow's formulas.

Axes: R replica; a parameter is [R, …]. g is the update that a method delivers in place of the gradient.
"""

from __future__ import annotations

import copy
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mdfa_core.base.registry import Registry
from mdfa_core.compute import kernels
from mdfa_core.nets.layers import Layer


class StepCounter:
    """Counts steps on the device: a replayed graph cannot read a Python number that changes.

    Attributes:
        steps: the number of the step, from 1, [].
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps = torch.full((), steps, dtype=kernels.accumulation_dtype(device), device=device)
        self._made: dict[Optimizer, Tensor] = {}

    def tick(self) -> None:
        """Count one more step."""
        self.steps.add_(1)
        self._made.clear()

    def once(self, rule: Optimizer, make: Callable[[Tensor], Tensor]) -> Tensor:
        """A value that a rule computes from the number of the step, computed once a step."""
        if rule not in self._made:
            self._made[rule] = make(self.steps)
        return self._made[rule]


class Optimizer(ABC):
    """A rule that turns g into a change of a parameter, element by element.

    Attributes:
        title: its name for people.
        linear: whether the change is −η g, so that g need not be computed as a tensor.
        slots: the tensors it keeps for every parameter: name and initial value of each.
        share: the update of a large layer is computed and applied in parts this many times smaller than usual.
        room: the largest number of temporary tensors of the size of g in one change.
    """

    title: str
    linear: bool = False
    slots: tuple[tuple[str, float], ...] = ()
    share: int = 1
    room: int = 0

    @abstractmethod
    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        """Change `parameter` and its `slots` in place by g of the same shape; `step` counts from 1.

        `rate` is a number on a CPU. On other devices it is a tensor [R, 1, …] if the replicas' rates differ, so that
        one call serves all replicas. `step` is a number, or a `StepCounter` in a step that is replayed (see
        `mdfa_core.learning.steps`). An optimizer that treats the `StepCounter` as a number is not replayed.
        """


class SGD(Optimizer):
    """Plain gradient descent: θ ← θ − η g (equation 2)."""

    title = "SGD"
    linear = True

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        if isinstance(rate, Tensor):
            parameter.addcmul_(g, rate, value=-1)
        else:
            parameter.add_(g, alpha=-rate)


class RMSprop(Optimizer):
    """θ ← θ − η g / √(s + ε) with s ← 0.9 s + 0.1 g², as TensorFlow 1 has it.

    ε = 10⁻¹⁰ is inside the root and s starts at ONE. `torch.optim.RMSprop` differs in all three: decay 0.99, ε = 10⁻⁸
    outside the root, s from zero.
    """

    title = "RMSprop"
    slots = (("mean square", 1.0),)
    share = 2  # g and √(s + ε) fit the cache together
    room = 1
    decay = 0.9
    epsilon = 1e-10

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        (square,) = slots
        square.mul_(self.decay).addcmul_(g, g, value=1 - self.decay)
        _descend_(parameter, g, (square + self.epsilon).sqrt_(), rate)


class Adam(Optimizer):
    """Kingma & Ba (2014) in the form TensorFlow uses, with ε̂ = 10⁻⁸ beside an uncorrected √v.

    θ ← θ − η √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε̂), m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g². `torch.optim.Adam` adds ε
    to the corrected √v̂ instead.
    """

    title = "Adam"
    slots = (("mean", 0.0), ("mean square", 0.0))
    room = 1  # none where one pass does it
    beta1 = 0.9
    beta2 = 0.999
    epsilon = 1e-8

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        mean, square = slots
        tensors = (parameter, g, mean, square)
        fits = not isinstance(rate, Tensor) and all(t.is_contiguous() and t.dtype is torch.float32 for t in tensors)
        if isinstance(step, StepCounter):
            corrected: float | Tensor = rate * step.once(self, self._correction)
        else:
            root = math.sqrt(1 - self.beta2**step)
            if fits and parameter.is_cpu and _one_pass_serves():
                _adam_in_one_pass(self, *tensors, float(rate), step, root)
                return
            corrected = rate * root / (1 - self.beta1**step)
        if fits and parameter.is_cuda and _one_kernel_serves(parameter.device):
            _adam_in_one_kernel(self, *tensors, corrected)
            return
        mean.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
        square.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        _descend_(parameter, mean, square.sqrt().add_(self.epsilon), corrected)

    def _correction(self, steps: Tensor) -> Tensor:
        return torch.sqrt(1 - self.beta2**steps) / (1 - self.beta1**steps)


def _descend_(parameter: Tensor, numerator: Tensor, denominator: Tensor, rate: float | Tensor) -> None:
    """θ ← θ − η numerator / denominator."""
    if isinstance(rate, Tensor):
        parameter.addcdiv_(numerator * rate, denominator, value=-1)
    else:
        parameter.addcdiv_(numerator, denominator, value=-rate)


def _adam_in_one_pass(
    rule: Adam, parameter: Tensor, g: Tensor, mean: Tensor, square: Tensor, rate: float, step: int, root: float
) -> None:
    """PyTorch's private fused Adam, with the ε that turns it into TensorFlow's: ε̂ / √(1 − β₂ᵗ)."""
    torch._fused_adam_(
        [parameter],
        [g],
        [mean],
        [square],
        [],
        [torch.tensor(float(step))],
        lr=rate,
        beta1=rule.beta1,
        beta2=rule.beta2,
        weight_decay=0.0,
        eps=rule.epsilon / root,
        amsgrad=False,
        maximize=False,
    )


@functools.cache
def _one_pass_serves() -> bool:
    """Whether this PyTorch has the private operator, and the operator computes the formula."""
    rule = Adam()
    parameter, g, mean = (torch.linspace(low, 1.0, 100) for low in (-2.0, -1.0, 0.5))
    square = mean.square()
    exact = [tensor.double() for tensor in (parameter, mean, square)]
    root = math.sqrt(1 - rule.beta2**3)
    exact[1].mul_(rule.beta1).add_(g.double(), alpha=1 - rule.beta1)
    exact[2].mul_(rule.beta2).add_(g.double().square(), alpha=1 - rule.beta2)
    exact[0].sub_(0.1 * root / (1 - rule.beta1**3) * exact[1] / (exact[2].sqrt() + rule.epsilon))
    try:
        _adam_in_one_pass(rule, parameter, g, mean, square, 0.1, 3, root)
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False
    made = (parameter, mean, square)
    return all(torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6) for a, b in zip(made, exact, strict=True))


def _adam_in_one_kernel(
    rule: Adam, parameter: Tensor, g: Tensor, mean: Tensor, square: Tensor, corrected: float | Tensor
) -> None:
    """The same operator with the correction in the rate, a number or a tensor [].

    Its own correction 1 − βᵗ is 1 because its step number is huge. On a GPU the operator reads and writes 7 numbers for
    each parameter, where separate calls take 18, and it can be replayed.
    """
    torch._fused_adam_(
        [parameter],
        [g],
        [mean],
        [square],
        [],
        [_huge_step(parameter.device)],
        lr=corrected.float() if isinstance(corrected, Tensor) else corrected,
        beta1=rule.beta1,
        beta2=rule.beta2,
        weight_decay=0.0,
        eps=rule.epsilon,
        amsgrad=False,
        maximize=False,
    )


@functools.cache
def _huge_step(device: torch.device) -> Tensor:
    return torch.tensor(1e9, device=device)


@functools.cache
def _one_kernel_serves(device: torch.device) -> bool:
    """Whether this PyTorch has the private operator, and it computes the formula with a rate of either kind."""
    return all(_computes_adam(device, corrected) for corrected in (0.01, torch.tensor(0.01, device=device)))


def _computes_adam(device: torch.device, corrected: float | Tensor) -> bool:
    rule = Adam()
    parameter, g, mean, square = (torch.linspace(low, 1.0, 100, device=device) for low in (-2.0, -1.0, 0.5, 0.1))
    exact = [tensor.double() for tensor in (parameter, mean, square)]
    exact[1].mul_(rule.beta1).add_(g.double(), alpha=1 - rule.beta1)
    exact[2].mul_(rule.beta2).add_(g.double().square(), alpha=1 - rule.beta2)
    exact[0].sub_(float(corrected) * exact[1] / (exact[2].sqrt() + rule.epsilon))
    try:
        _adam_in_one_kernel(rule, parameter, g, mean, square, corrected)
    except (AttributeError, RuntimeError, TypeError):  # another version or build of PyTorch
        return False
    made = (parameter, mean, square)
    return all(torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6) for a, b in zip(made, exact, strict=True))


class SignSGD(Optimizer):
    """θ ← θ − η sign(g), with sign(0) = 0 (Bernstein et al. 2018, algorithm 1).

    Only the sign of g is used, the quantity of Theorem 2. The theorem covers mDFA's updates by single examples; the
    sign of a mini-batch's update can differ, and probes measure how often.
    """

    title = "signSGD"
    room = 1

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        if isinstance(rate, Tensor):
            parameter.addcmul_(g.sign(), rate, value=-1)
        else:
            parameter.add_(g.sign(), alpha=-rate)


class Rprop(Optimizer):
    """Every parameter has its own step size, which grows while the sign of g stays and shrinks when the sign changes.

    With p = g g₋ (g₋ the last g): Δ ← min(1.2 Δ, 50) where p > 0; Δ ← max(0.5 Δ, 10⁻⁶) and g ← 0 where p < 0; then
    θ ← θ − Δ sign(g). Δ starts at η and is stored as a multiple of η, so a change of the rate scales all steps. This is
    iRprop⁻, as in `torch.optim.Rprop`. A parameter whose g is exactly 0 does not change.

    RPROP is meant for whole batches, where the sign of g changes only past a minimum: set `batch_size` to the number of
    training images. Mini-batch gradients change sign at random. Nine small positive gradients and one large negative
    one should cancel, but RPROP counts them nine to one.

    Source: Riedmiller & Braun (1993); Igel & Hüsken (2003) for the form.
    """

    title = "RPROP"
    slots = (("last g", 0.0), ("step size", 1.0))
    room = 3  # the sign of p, a clamped or boolean copy of it, and sign(g)
    grow, shrink = 1.2, 0.5
    least, most = 1e-6, 50.0

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        last, size = slots
        same = last.mul_(g).sign_()  # the sign of p
        size.addcmul_(size, same.clamp(min=0), value=self.grow - 1)
        size.addcmul_(size, same.clamp(max=0), value=1 - self.shrink)
        if isinstance(rate, Tensor):
            size.copy_(torch.where(rate > 0, size.clamp(min=self.least / rate, max=self.most / rate), size))
        elif rate > 0:
            size.clamp_(self.least / rate, self.most / rate)
        changed = same < 0
        last.copy_(g).masked_fill_(changed, 0)
        if isinstance(rate, Tensor):
            parameter.addcmul_(last.sign() * rate, size, value=-1)
        else:
            parameter.addcmul_(last.sign(), size, value=-rate)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")
"""Optimizers by name, as `--optimizer` and `Experiment(optimizer=…)` take them."""
OPTIMIZERS.add("sgd", SGD())
OPTIMIZERS.add("rmsprop", RMSprop())
OPTIMIZERS.add("adam", Adam())
OPTIMIZERS.add("signsgd", SignSGD())
OPTIMIZERS.add("rprop", Rprop())


class OptimizerState:
    """The state of an optimizer on one stack of networks: slots, step number, and every replica's rate and penalty.

    Attributes:
        step: number of updates so far.
        clock: the same number on the device, if replayed kernels need it.
        slots: for every tensor that learns (W1, b1, W2, b2, …, then feedback), one tensor of its shape per slot of the
            optimizer. A `place` is an index into this list.
        l2: λ of every replica: the penalty ½ λ ‖W‖² adds λ W to the g of a weight and λ B to the g of feedback that
            learns. Biases have no penalty.
    """

    def __init__(
        self, optimizer: Optimizer, learned: Sequence[Tensor], rates: Sequence[float], l2: Sequence[float]
    ) -> None:
        self.optimizer = optimizer
        self.step = 0
        self.clock: StepCounter | None = None
        self.slots = [
            tuple(kernels.empty_stack(len(tensor), tensor[0]).fill_(value) for _, value in optimizer.slots)
            for tensor in learned
        ]
        self.l2 = list(l2)
        self.rates = list(rates)

    @property
    def rates(self) -> list[float]:
        """η of every replica."""
        return self._rates

    @rates.setter
    def rates(self, rates: list[float]) -> None:
        self._rates = list(rates)  # always a new list: `steps` compares lists by identity
        self._factors = [-rate for rate in rates]
        self._equal = len(set(rates)) == 1
        self._penalised = any(self.l2)
        self._columns: tuple[Tensor, Tensor] | None = None

    def _common(self, parameter: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rates and penalties as [R, 1, …], to broadcast over a stack that common calls update; None on a CPU.

        They are copied to the device once: a copy in every step would make the device wait.
        """
        if kernels.per_replica(parameter.device):
            return None
        if self._columns is None or self._columns[0].device != parameter.device:
            self._columns = (parameter.new_tensor(self._rates), parameter.new_tensor(self.l2))
        shape = (-1, *[1] * (parameter.dim() - 1))
        return self._columns[0].view(shape), self._columns[1].view(shape)

    def tick(self) -> None:
        """Count one more update."""
        self.step += 1
        if self.clock is not None:
            self.clock.tick()

    @property
    def _now(self) -> int | StepCounter:
        return self.step if self.clock is None else self.clock

    def continue_from(self, before: OptimizerState, places: int) -> None:
        """Take over the step number and the slots of the first so many places from another state."""
        self.step, self.clock = before.step, None
        self.slots[:places] = before.slots[:places]

    def replica(self, r: int) -> OptimizerState:
        """The state of one replica; its slots are views, so a change of them changes the stack."""
        one = copy.copy(self)
        one.slots = [tuple(slot[r : r + 1] for slot in slots) for slots in self.slots]
        one.l2 = self.l2[r : r + 1]
        one.rates = self.rates[r : r + 1]
        return one

    def update_weights_(
        self, place: int, layer: Layer, weight: Tensor, x: Tensor, delta: Tensor, floor: float | None
    ) -> None:
        """Update a layer's weights [R, …] from its input and its δ; clip them to ≥ floor unless that is None.

        A linear optimizer (SGD) adds the update to the weights without computing it as a tensor, if the layer can do
        that. Other updates are computed, applied and clipped in parts that stay in the cache.
        """
        add_ = layer.adder(x, delta) if self.optimizer.linear else None
        if add_ is not None:
            common = self._common(weight)
            if self._penalised and common is not None:
                rates, penalties = common
                weight.mul_(1 - rates * penalties)
            elif self._penalised:
                for r, penalty in enumerate(self.l2):
                    weight[r].mul_(1 - self.rates[r] * penalty)
            folded = None if common is None else -common[0]
            add_(weight, factors=self._factors, equal=self._equal, folded=folded)
            if floor is not None:
                weight.clamp_(min=floor)
            return
        slots = self.slots[place]
        for index, g in layer.tiles(x, delta, self.optimizer.share):
            part = weight[index]
            self._apply_(part, g, [slot[index] for slot in slots], index, penalised=self._penalised)
            if floor is not None:
                part.clamp_(min=floor)

    def update_tensor_(self, place: int, weight: Tensor, g: Tensor, floor: float | None) -> None:
        """Update weights [R, …] by a given g [R, …]; clip them to ≥ floor unless that is None."""
        self._apply_(weight, g, self.slots[place], (slice(None),), penalised=self._penalised)
        if floor is not None:
            weight.clamp_(min=floor)

    def update_bias_(self, place: int, bias: Tensor, g: Tensor) -> None:
        """Update a layer's biases [R, O] by g [R, O]."""
        slots = self.slots[place]
        if self._equal:
            self.optimizer.update_(bias, g, slots, self.rates[0], self._now)
        else:
            self._apply_(bias, g, slots, (slice(None),), penalised=False)

    def _apply_(
        self, part: Tensor, g: Tensor, slots: Sequence[Tensor], index: kernels.Index, *, penalised: bool
    ) -> None:
        """Apply g to a part of one replica (`index` then starts with its number) or to all replicas at once."""
        if isinstance(index[0], int):
            r = index[0]
            if penalised:
                g = torch.add(g, part, alpha=self.l2[r])
            self.optimizer.update_(part, g, slots, self.rates[r], self._now)
        elif self._equal and not penalised:
            self.optimizer.update_(part, g, slots, self.rates[0], self._now)
        elif (common := self._common(part)) is not None:
            rates, penalties = common
            if penalised:
                g = torch.addcmul(g, part, penalties)
            self.optimizer.update_(part, g, slots, self.rates[0] if self._equal else rates, self._now)
        else:
            for r in range(len(self.rates)):
                self._apply_(part[r], g[r], [slot[r] for slot in slots], (r,), penalised=penalised)
