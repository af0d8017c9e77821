"""Error transports: where the error signal ε_l of a hidden layer comes from. One file of this folder is one family.

A transport reads one forward pass, the output error e and the `StepContext`, and delivers `Signals`: ε and δ of every
layer, and if the rule has them, products of its own, updates of its feedback and new values of its state.

Axes: R replica, N example, T term of a sum, C output; the units of a layer keep the layer's own shape. Layers count
from 0 in the code and from 1 in formulas; L is the output layer, f the activation of the hidden layers.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mdfa_core.base.rng import torch_generator
from mdfa_core.compute import kernels
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture, ForwardPass, Network, Parameters

Products = Sequence[tuple[Tensor, Tensor]]


class Signals:
    """What a rule delivers for one mini-batch. Nothing changes before `Learner.learn` applies it.

    Args:
        errors: ε_l of every hidden layer (for BP: ∂L/∂h_l), [R, N, *output_shape], or a function that makes them.
            Learning needs only δ, so a transport may leave ε until someone asks for it.
        deltas: δ_l = ε_l ⊙ f′(a_l) of every layer (for BP: ∂L/∂a_l); the last one is the output error e.
        products: (δ [R, N, T, *output_shape], h [R or 1, N, T, *input_shape]) of every layer, if the update of its
            weights is not δ_lᵀ h_{l−1} but Σ_t δ_tᵀ h_t. A bias learns from the first term.
        feedback: makes the updates of feedback that learns, one tensor for each, in place of gradients.
        state: makes the new values of the rule's state, one tensor for each that `Transport.state` declares.
    """

    def __init__(
        self,
        errors: Sequence[Tensor] | Callable[[], Sequence[Tensor]],
        deltas: Sequence[Tensor],
        *,
        products: Products | None = None,
        feedback: Callable[[], Sequence[Tensor]] | None = None,
        state: Callable[[], Sequence[Tensor]] | None = None,
    ) -> None:
        self._errors = errors
        self._feedback = feedback
        self._state = state
        self.deltas = tuple(deltas)
        self.products = None if products is None else tuple(products)

    @functools.cached_property
    def errors(self) -> tuple[Tensor, ...]:
        """ε_l of every hidden layer."""
        return tuple(self._errors() if callable(self._errors) else self._errors)

    @functools.cached_property
    def feedback(self) -> tuple[Tensor, ...]:
        """The updates of the feedback, before the optimizer; empty if the feedback is fixed."""
        return () if self._feedback is None else tuple(self._feedback())

    @functools.cached_property
    def state(self) -> tuple[Tensor, ...]:
        """The new values of the rule's state; empty if the rule has none."""
        return () if self._state is None else tuple(self._state())

    def factors(self, number: int, forward_pass: ForwardPass) -> tuple[Tensor, Tensor]:
        """(δ, h) of layer `number`, [R, N T, …]: the update of the weights is Σ δᵀ h over the second axis."""
        if self.products is None:
            return self.deltas[number], forward_pass.inputs[number]
        delta, h = self.products[number]
        return delta.flatten(1, 2), h.flatten(1, 2)

    def bias_delta(self, number: int) -> Tensor:
        """δ [R, N, …] of layer `number`; its sum over the examples is the update of the bias."""
        return self.deltas[number] if self.products is None else self.products[number][0][:, :, 0]

    def updates(self, network: Network, forward_pass: ForwardPass) -> Parameters:
        """The rule's replacement for the mean gradient ∂L/∂θ, shaped like the parameters (BP: the gradient itself)."""
        if self.products is None:
            return network.updates(forward_pass, self.deltas)
        weights, biases = [], []
        for number, layer in enumerate(network.layers):
            delta, h = self.factors(number, forward_pass)
            weights.append(layer.update(h, delta)[0])
            biases.append(layer.bias_update(self.bias_delta(number)))
        return Parameters(tuple(weights), tuple(biases))


@dataclass(frozen=True)
class StepContext:
    """Everything a transport may read besides a forward pass and its error: labels, chance, and the rule's state.

    Random numbers depend only on a replica's seed and the number of the mini-batch. So a run resumes bit for bit, and
    a replica draws the same numbers alone and in a stack.

    Attributes:
        labels_RN: int64 labels of the mini-batch; R may be 1 to serve every replica.
        step: updates made before this mini-batch.
        seeds: one per replica.
        state: the rule's state, as `Transport.state` declares it, each [R, *shape]; not to be changed in place.
    """

    labels_RN: Tensor
    step: int = 0
    seeds: tuple[int, ...] = (0,)
    state: tuple[Tensor, ...] = ()

    def replica(self, r: int) -> StepContext:
        """The context of one replica."""
        state = tuple(kernels.replica(tensor, r) for tensor in self.state)
        return StepContext(kernels.replica(self.labels_RN, r), self.step, self.seeds[r : r + 1], state)

    def draw(self, sampler: Callable[..., Tensor], purpose: str, number: int, like: Tensor) -> Tensor:
        """New random numbers for this step, [R, …] of a replica's shape in `like`; the same in every precision.

        Args:
            sampler: takes a shape, a `generator` and a `device`, as `torch.rand` and `torch.randn` do.
            purpose: names their use; other names give other numbers.
            number: distinguishes several draws for one purpose.
            like: a tensor [R or 1, …] of that shape, type and device.
        """
        made = [
            sampler(
                tuple(like.shape[1:]), generator=torch_generator(seed, f"{purpose} {number}", self.step), device="cpu"
            )
            for seed in self.seeds
        ]
        return kernels.stack([numbers.to(like.device, like.dtype) for numbers in made])


@dataclass(frozen=True)
class FeedbackShape:
    """One feedback tensor.

    Attributes:
        shape: without the replica axis.
        fan_in: how many errors each unit it feeds receives.
        weight_fan_in: incoming connections of a unit in the layer whose weights it is shaped like, which the paper's
            released code takes instead; None: `fan_in`.
    """

    shape: tuple[int, ...]
    fan_in: int
    weight_fan_in: int | None = None

    def fan_in_by(self, convention: str) -> int:
        """The number that scales a uniform distribution, by the paper's text or its released code."""
        return self.fan_in if convention == "paper" or self.weight_fan_in is None else self.weight_fan_in


@dataclass(frozen=True)
class StateShape:
    """One tensor of a rule's state: its shape without the replica axis, and the value it starts from."""

    shape: tuple[int, ...]
    value: float = 0.0


@dataclass(frozen=True)
class BackwardCost:
    """Multiply-adds that bring the output error of one example to all hidden layers.

    Attributes:
        work: all of them, without those of δ_l = ε_l ⊙ f′(a_l).
        path: in a fully-connected network, those that must wait for each other, from e to the last δ_l; None if no
            formula was derived. See `mdfa_core.studies.branch_prediction.update_cost` for the hardware this assumes.
    """

    work: int
    path: int | None = None


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """How `attach` delivers a rule's errors to a user's model.

    A direct rule (no `matrix`) sends `sent(e)` B_l straight to every block. If its feedback learns, B_l gets eᵀ h_l as
    its gradient, with h_l the output of the block. A rule with a `matrix` replaces W in the backward pass of every
    linear layer and convolution. If its feedback learns, B gets the gradient of W.

    Attributes:
        matrix: from W and the layer's own feedback or random numbers (None if the rule has neither) to the replacement.
        sent: from e [1, N, C] to the signal of a direct rule, of the same shape; None sends e itself.
        drawn: random numbers of one layer for one mini-batch, from the layer's number (from −1 for the layer that sends
            no error down), its W and the context.
        labels: whether `sent` reads the labels.
        ignores_size: whether `sent` is the same for e and a multiple of e, so that a factor of the loss must be told.
    """

    matrix: Callable[[Tensor, Tensor | None], Tensor] | None = None
    sent: Callable[[Tensor, StepContext], Tensor] | None = None
    drawn: Callable[[int, Tensor, StepContext], Tensor] | None = None
    labels: bool = False
    ignores_size: bool = False


class Transport(ABC):
    """Answers one question: where does the error signal ε_l of hidden layer l come from?

    A subclass says which feedback the rule needs and makes its signals. All other answers have defaults.

    Attributes:
        learns_feedback: whether these weights learn; the optimizer then keeps slots for them as it does for weights.
        wants_penalty: whether the rule needs a penalty (`l2`) above 0 to work as meant: its feedback fits the weights
            only if both decay.
        draws: whether the rule draws new random numbers at every step.
        exact: whether ε_l is the true ∂L/∂h_l.
        keeps_signs: whether the error of a single output reaches every unit with its sign if f is monotone and the
            feedback and all weights above the first layer are ≥ 0. Theorem 2 requires it of a transport.
        unattachable: why `attach` cannot train a user's model by the rule, for a message.
        route: the way of the error for drawings, "chain" (layer to layer) or "direct" (from the output); "" derives it
            from the shapes of the feedback.
    """

    learns_feedback: bool = False
    wants_penalty: bool = False
    draws: bool = False
    exact: bool = False
    keeps_signs: bool = False
    unattachable: str = "brings errors to layers in a way of its own, which its transport does not describe"
    route: str = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "attachment" not in vars(cls):  # a subclass may change the mathematics, which `attach` would not notice
            cls.attachment = Transport.attachment  # type: ignore[method-assign]

    @abstractmethod
    def feedback(self, network: Network) -> tuple[FeedbackShape, ...]:
        """The random feedback weights the rule starts from, one entry per tensor; empty if it has none."""

    @property
    def needs_feedback(self) -> bool:
        """Whether errors travel through feedback weights of their own, by the answer of `feedback`."""
        layers = (Dense(3), Dense(4))
        return bool(self.feedback(Network(Architecture(layers), (1,), 2, ACTIVATIONS["tanh"])))

    @abstractmethod
    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        """ε and δ of every layer, from the output error e [R, N, C]; changes nothing."""

    def state(self, network: Network) -> tuple[StateShape, ...]:
        """Tensors that the rule remembers from one mini-batch to the next; empty if it remembers nothing.

        The learner keeps them for every replica. `signals` reads them in `context.state` and delivers new values.
        """
        return ()

    def workspace(self, network: Network, examples: int) -> int:
        """Numbers one replica needs while signals are made, besides weights, feedback, forward pass, ε and δ."""
        return 0

    def backward_cost(self, network: Network) -> BackwardCost | None:
        """Multiply-adds of the way back for one example; None if no formula is known."""
        return None

    def attachment(self) -> Attachment | None:
        """How `attach` delivers the rule's errors; None if it cannot. A subclass has to answer again for itself."""
        return None

    def python(self) -> tuple[str, str]:
        """Python code that makes an equal transport: an import statement and an expression.

        Every argument of the constructor must be an attribute of the same name.
        """
        name, module = type(self).__name__, type(self).__module__
        given = ", ".join(f"{key}={getattr(self, key)!r}" for key in inspect.signature(type(self)).parameters)
        return f"from {module} import {name}", f"{name}({given})"


# ------------------------------------------------------------------------------------------------------ layer by layer


def shaped_like_weights(network: Network, first: int) -> tuple[FeedbackShape, ...]:
    """Feedback shaped like the weights of layer `first` (from 0) and of every layer above it.

    A unit below receives an error from every unit (of a convolution: every filter and offset) of the layer.
    """
    return tuple(
        FeedbackShape(layer.weight_shape, math.prod(layer.weight_shape) // layer.weight_shape[1], layer.fan_in)
        for layer in network.layers[first:]
    )


def backproject(network: Network, below: int, delta: Tensor, matrix: Tensor) -> Tensor:
    """δ of the layer above hidden layer `below` (from 0), sent to the units below: [R, N, *output_shape]."""
    epsilon = network.layers[below + 1].input_error(delta, matrix)
    return epsilon.reshape(*epsilon.shape[:2], *network.hidden[below].output_shape)


def hidden_activity(network: Network, forward_pass: ForwardPass, number: int) -> Tensor:
    """h of hidden layer `number` (from 0) in the layer's own shape, [R, N, *output_shape]."""
    h = forward_pass.inputs[number + 1]
    return h.reshape(*h.shape[:2], *network.hidden[number].output_shape)


class LayerByLayer(Transport):
    """Layer by layer from the output: ε_l = δ_{l+1} M_{l+1}. A subclass says what M is."""

    route = "chain"

    @abstractmethod
    def matrix(self, weight: Tensor, own: Tensor | None) -> Tensor:
        """M for one W and the layer's own feedback (None if the rule has none), shaped like W."""

    def matrices(
        self, parameters: Parameters, feedback: Sequence[Tensor], context: StepContext | None
    ) -> Sequence[Tensor]:
        """M_{l+1} of every hidden layer l."""
        upper = parameters.weights[1:]
        return [self.matrix(weight, own) for weight, own in itertools.zip_longest(upper, feedback)]

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext | None = None,
    ) -> Signals:
        matrices = self.matrices(parameters, feedback, context)
        errors: list[Tensor] = []
        deltas = [error]
        for below in reversed(range(len(network.hidden))):
            epsilon = backproject(network, below, deltas[-1], matrices[below])
            errors.append(epsilon)
            deltas.append(network.activation.backward(epsilon, forward_pass.saved[below]))
        return Signals(errors[::-1], deltas[::-1])

    def backward_cost(self, network: Network) -> BackwardCost | None:
        """P |W| for every layer but the first, P being the positions of its output; None if feedback learns as well."""
        if self.learns_feedback:
            return None
        return BackwardCost(work=sum(layer.multiply_adds for layer in network.layers[1:]))
