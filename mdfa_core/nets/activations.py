"""Activation functions f with the product ε ⊙ f′(a) that every learning rule needs.

Axes: any shape; f works element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mdfa_core.base.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation function h = f(a), and what learning needs of its derivative. All functions keep the shape."""

    title: str
    """Its name for people."""
    function: Callable[[Tensor], Tensor]
    """f: pre-activations a to outputs h."""
    backward: Callable[[Tensor, Tensor], Tensor]
    """(error, saved) → error ⊙ f′(a); `saved` is h with `from_output`, otherwise a."""
    from_output: bool
    """Whether `backward` reads h. The forward pass then stores no a and can fuse f into the matrix product."""
    function_: Callable[[Tensor], Tensor] | None = None
    """`function` in place, if PyTorch has it: it reuses memory that is still in the cache."""
    backward_: Callable[[Tensor, Tensor], Tensor] | None = None
    """`backward` that overwrites the error, if PyTorch has it."""
    onednn: tuple[str, tuple[float, ...]] | None = None
    """Name and parameters of the same function as a post-operation of oneDNN; used only with `from_output`."""
    monotone: bool = True
    """Whether f′ ≥ 0 everywhere, a premise of Theorem 2."""
    largest_derivative: float = 1.0
    """The largest f′, to which saturation is compared."""

    def applied_(self, a: Tensor) -> Tensor:
        """f(a), in place if possible."""
        return self.function(a) if self.function_ is None else self.function_(a)

    def chained_(self, error: Tensor, saved: Tensor) -> Tensor:
        """`backward`, in place of the error if possible."""
        return self.backward(error, saved) if self.backward_ is None else self.backward_(error, saved)

    def derivative(self, saved: Tensor) -> Tensor:
        """f′(a), element by element, from the tensor that `backward` reads."""
        return self.backward(torch.ones_like(saved), saved)


ACTIVATIONS: Registry[Activation] = Registry("activation")
"""Activations by name, as `--activation` and `Experiment(activation=…)` take them."""
ACTIVATIONS.add(
    "tanh",
    Activation(
        title="tanh",
        function=torch.tanh,
        backward=torch.ops.aten.tanh_backward,  # ε (1 − h²) in one pass
        from_output=True,
        function_=torch.tanh_,
        backward_=lambda error, h: torch.ops.aten.tanh_backward.grad_input(error, h, grad_input=error),
        onednn=("tanh", ()),
    ),
)
ACTIVATIONS.add(
    "relu",
    Activation(
        title="ReLU",
        function=torch.relu,
        # f′(0) = 1, as in the released code; autograd says 0, and a network of zeros would then never learn.
        backward=lambda error, a: torch.where(a >= 0, error, 0.0),
        from_output=False,
    ),
)
ACTIVATIONS.add(
    "hard-tanh",
    Activation(
        title="hard-tanh",
        function=lambda a: a.clamp(-1.0, 1.0),  # equation (15)
        backward=lambda error, h: torch.ops.aten.hardtanh_backward(error, h, -1.0, 1.0),  # f′ = 1 inside (−1, 1)
        from_output=True,
        function_=lambda a: a.clamp_(-1.0, 1.0),
        onednn=("hardtanh", (-1.0, 1.0)),
    ),
)
ACTIVATIONS.add(
    "sigmoid",
    Activation(
        title="sigmoid",
        function=torch.sigmoid,
        backward=torch.ops.aten.sigmoid_backward,  # ε h (1 − h)
        from_output=True,
        function_=torch.sigmoid_,
        onednn=("sigmoid", ()),
        largest_derivative=0.25,
    ),
)
ACTIVATIONS.add(
    "leaky-relu",
    Activation(
        title="leaky ReLU",
        function=lambda a: torch.where(a >= 0, a, 0.01 * a),
        backward=lambda error, a: torch.where(a >= 0, error, 0.01 * error),
        from_output=False,
    ),
)
ACTIVATIONS.add(
    "softplus",
    Activation(
        title="softplus",
        function=torch.nn.functional.softplus,
        backward=lambda error, a: error * torch.sigmoid(a),
        from_output=False,
    ),
)
ACTIVATIONS.add(
    "identity",
    Activation(
        title="identity",
        function=lambda a: a,
        backward=lambda error, h: error,
        from_output=True,
    ),
)
