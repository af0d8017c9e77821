"""The updates of single examples, from one backward pass for all of them.

The own update of example n has its own output error and zero errors of the others. If examples do not interact, a
layer's part of this update is δ_nᵀ x_n, where δ_n and x_n are the rows of the ordinary backward pass. One batched
product then makes the updates of all examples.

`Backward` checks this on the batch. It sends back the errors of every second example alone and compares δ (`trusts`),
and it compares the sum of all products with the update by the batch (`agrees`). For some parameters the two ways
disagree (a batch normalisation lets examples interact), and some modules have no formula here. Such parameters get one
backward pass for each example, several at a time if PyTorch can batch the functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

from mdfa_core.attach.delivery import Geometry, layer_update
from mdfa_core.attach.layout import Convolution, geometry_of
from mdfa_core.base.errors import InvalidValue

_CHUNK = 1 << 22
"""Numbers of single updates in memory at a time."""

_CLOSE = {torch.float64: 1e-10, torch.float32: 1e-4}
"""Largest difference of the two ways, relative to the sizes of the added updates; other types have 0.05."""

Products = dict[str, Callable[[Tensor, Tensor], Tensor]]
"""By parameter, from x and δ of some examples to the updates of each of them, [examples, *shape]."""


@dataclass
class Call:
    """One call of a layer: its input x, and the edge of the graph at which its δ arrives."""

    parameters: dict[str, nn.Parameter]
    x: Tensor
    output: GradientEdge
    products: Products
    rows: bool
    """Whether x and δ are matrices, so the update of an example is an outer product."""


@contextmanager
def recorded_calls(model: nn.Module) -> Iterator[list[Call]]:
    """The calls of all layers whose single updates have a formula, once they have run."""
    calls: list[Call] = []

    def recorder(products: Products) -> Callable[..., None]:
        def record(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not (args and isinstance(output, Tensor) and output.requires_grad and output.dim() > 1):
                return
            learning = {
                name: parameter for name, parameter in module.named_parameters(recurse=False) if parameter.requires_grad
            }
            rows = isinstance(module, nn.Linear) and args[0].dim() == 2
            calls.append(Call(learning, args[0].detach(), get_gradient_edge(output), products, rows))

        return record

    handles = []
    for name, module in model.named_modules():
        products = _products(name, module)
        if products is not None:
            # Before the hooks of `attach`, which detach the output of a block.
            handles.append(module.register_forward_hook(recorder(products), prepend=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class Backward:
    """The backward pass of one way (the rule or BP) for a batch: errors, batch updates, and updates of single examples.

    Args:
        z: the model's output.
        error: e = ∂L/∂z.
        outputs: tensors whose ε is wanted.
        parameters: whose updates are wanted.
        calls: of the forward pass.
        examples: the examples whose own updates are wanted.
        delivering: a context for backward passes of this way, and with `one_by_one=True` for those of single examples.
        later: the ids of parameters whose updates by the batch are given later (`put`), so no product is made for them.
    """

    def __init__(
        self,
        z: Tensor,
        error: Tensor,
        outputs: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],
        calls: Sequence[Call],
        examples: Tensor,
        delivering: Callable[..., AbstractContextManager[None]],
        later: Collection[int] = (),
    ) -> None:
        self._z, self._error, self._delivering, self._parameters = z, error, delivering, parameters
        wanted = {id(parameter) for parameter in parameters}
        self._calls = (
            [call for call in calls if any(id(p) in wanted for p in call.parameters.values())] if len(examples) else []
        )
        now = [parameter for parameter in parameters if id(parameter) not in later]
        ends = [*outputs, *now]
        found = self._sent_back(error, [*ends, *(call.output for call in self._calls)])
        shaped = [torch.zeros_like(end) if g is None else g for g, end in zip(found, ends, strict=False)]
        self.errors = shaped[: len(outputs)]
        self._updates = {id(p): update for p, update in zip(now, shaped[len(outputs) :], strict=True)}
        self._deltas = found[len(ends) :]
        self._of: dict[int, list[tuple[str, Call, Tensor]]] = {}
        for call, delta in zip(self._calls, self._deltas, strict=True):
            for name, parameter in call.parameters.items():
                if delta is not None:
                    self._of.setdefault(id(parameter), []).append((name, call, delta))
        self._of = {key: entries for key, entries in self._of.items() if all(map(self._fits, entries))}
        self._alone: set[int] | None = None

    @property
    def batch(self) -> int:
        """The number of all examples."""
        return len(self._error)

    @property
    def updates(self) -> list[Tensor]:
        """The updates by the batch, of each parameter."""
        missing = [parameter for parameter in self._parameters if id(parameter) not in self._updates]
        for parameter, update in zip(missing, self._sent_back(self._error, missing), strict=True):
            self.put(parameter, torch.zeros_like(parameter) if update is None else update)
        return [self._updates[id(parameter)] for parameter in self._parameters]

    def put(self, parameter: nn.Parameter, update: Tensor) -> None:
        """Say what the update of a parameter by the batch is."""
        self._updates[id(parameter)] = update

    def covers(self, parameter: nn.Parameter) -> bool:
        """Whether the single updates of a parameter are products of rows."""
        return id(parameter) in self._of

    def singles(self, parameter: nn.Parameter, examples: Tensor) -> Tensor:
        """The updates of a covered parameter by some examples, [examples, *shape]."""
        whole = len(examples) == len(self._error)  # they are in order, so nothing has to be copied

        def chosen(tensor: Tensor) -> Tensor:
            return tensor if whole else tensor[examples]

        return _sum(call.products[name](chosen(call.x), chosen(delta)) for name, call, delta in self._of[id(parameter)])

    def factors(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor] | None:
        """(δ, x) if the updates are outer products of their rows, with x = 1 for a bias; None otherwise."""
        entries = self._of.get(id(parameter), ())
        if len(entries) != 1 or not entries[0][1].rows:
            return None
        name, call, delta = entries[0]
        return delta, call.x if name == "weight" else torch.ones_like(delta[:, :1])

    def passes(self, parameters: Sequence[nn.Parameter], examples: Tensor) -> list[Tensor]:
        """The updates of any parameters by some examples, [examples, *shape], from one backward pass for each."""
        alone = torch.zeros((len(examples), *self._error.shape), dtype=self._error.dtype, device=self._error.device)
        alone[torch.arange(len(examples)), examples] = self._error[examples]
        found = self._batched(alone, parameters)
        if found is None:
            each = [self._sent_back(error, parameters, one_by_one=True) for error in alone]
            found = [None if g[0] is None else torch.stack(g) for g in map(list, zip(*each, strict=True))]
        return [
            parameter.new_zeros((len(examples), *parameter.shape)) if g is None else g
            for g, parameter in zip(found, parameters, strict=True)
        ]

    def _batched(self, errors: Tensor, parameters: Sequence[nn.Parameter]) -> list[Any] | None:
        """Several backward passes at once; None if a function of the graph cannot be batched."""
        with warnings.catch_warnings(), self._delivering(one_by_one=True):
            warnings.simplefilter("ignore")  # PyTorch on functions that it batches slowly
            try:
                return list(
                    torch.autograd.grad(
                        self._z, parameters, errors, retain_graph=True, allow_unused=True, is_grads_batched=True
                    )
                )
            except RuntimeError:
                return None

    def _sent_back(self, error: Tensor, ends: Sequence[Any], *, one_by_one: bool = False) -> tuple[Tensor | None, ...]:
        if not ends:
            return ()
        with self._delivering(one_by_one=one_by_one):
            return torch.autograd.grad(self._z, ends, error, retain_graph=True, allow_unused=True)

    def trusts(self, parameter: nn.Parameter) -> bool:
        """Whether rows make the single updates of a parameter, as far as its calls go: other examples change no δ."""
        if self._alone is None:
            self._alone = self._without_others()
        return self.covers(parameter) and all(id(call) in self._alone for _, call, _ in self._of[id(parameter)])

    def agrees(self, parameter: nn.Parameter, total: Tensor, size: Tensor) -> bool:
        """Whether the calls are everything that uses a parameter: then all products add up to its update by the batch.

        Args:
            parameter: a covered one.
            total: the sum of the products of all examples.
            size: √(Σ ‖product‖²), with which the difference is compared.
        """
        difference = torch.linalg.vector_norm(total - self._updates[id(parameter)])
        return bool(difference <= _CLOSE.get(parameter.dtype, 0.05) * size)

    def _without_others(self) -> set[int]:
        """The ids of the calls whose δ of every second example is the same without the errors of the others."""
        some = torch.zeros_like(self._error)
        some[::2] = self._error[::2]
        found = self._sent_back(some, [call.output for call in self._calls], one_by_one=True)
        alone = set()
        for call, delta, half in zip(self._calls, self._deltas, found, strict=True):
            if delta is None or half is None or len(delta) != len(some):
                continue
            size, others = torch.linalg.vector_norm(delta), torch.linalg.vector_norm(half[1::2])
            difference = torch.hypot(torch.linalg.vector_norm(half[::2] - delta[::2]), others)
            if bool(difference <= _CLOSE.get(delta.dtype, 0.05) * size):
                alone.add(id(call))
        return alone

    def _fits(self, entry: tuple[str, Call, Tensor]) -> bool:
        _, call, delta = entry
        return len(call.x) == len(delta) == len(self._error)


def chunks(examples: Tensor, numbers: int, most: int = 1 << 30) -> Iterator[Tensor]:
    """The examples in parts of even length whose single updates, `numbers` each, fit into memory."""
    return iter(examples.split(max(2, min(most, _CHUNK // max(1, numbers)) // 2 * 2)))


# ------------------------------------------------------------------------------------------------------------ formulas


def _products(name: str, module: nn.Module) -> Products | None:
    """How a layer makes the updates of single examples; None without a formula."""
    if isinstance(module, nn.Linear):
        return _linear()
    if isinstance(module, Convolution):
        try:
            geometry = geometry_of(name, module)
        except InvalidValue:
            return None
        assert geometry is not None
        return _convolution(module, geometry)
    if isinstance(module, nn.LayerNorm):
        shape = module.normalized_shape
        return _scale(lambda x: functional.layer_norm(x, shape, eps=module.eps), tuple(range(-len(shape), 0)))
    if isinstance(module, nn.GroupNorm):
        return _scale(lambda x: functional.group_norm(x, module.num_groups, eps=module.eps), (1,))
    return None


def _linear() -> Products:
    def rows(x: Tensor) -> Tensor:
        return x.reshape(len(x), -1, x.shape[-1])

    return {
        "weight": lambda x, delta: rows(delta).to(x.dtype).mT @ rows(x),
        "bias": lambda x, delta: rows(delta).sum(1),
    }


def _convolution(module: Any, geometry: Geometry) -> Products:
    def weight(x: Tensor, delta: Tensor) -> Tensor:
        count, own = len(x), module.weight.detach().to(x.dtype)
        # Each example becomes a group of its own.
        grouped = geometry._replace(groups=geometry.groups * count)
        many = own.repeat(count, *[1] * (own.dim() - 1))
        update = layer_update(delta.flatten(0, 1).unsqueeze(0), x.flatten(0, 1).unsqueeze(0), many, grouped)
        return update.reshape(count, *own.shape)

    return {"weight": weight, "bias": lambda x, delta: delta.flatten(2).sum(2)}


def _scale(normalised: Callable[[Tensor], Tensor], kept: tuple[int, ...]) -> Products:
    """The scale and shift of a normalisation, which have the axes `kept`."""

    def together(tensor: Tensor) -> Tensor:
        axes = {axis % tensor.dim() for axis in kept}
        summed = [axis for axis in range(1, tensor.dim()) if axis not in axes]
        return tensor.sum(summed) if summed else tensor

    return {"weight": lambda x, delta: together(delta * normalised(x)), "bias": lambda x, delta: together(delta)}


def _sum(tensors: Iterator[Tensor]) -> Tensor:
    total = next(tensors)
    for tensor in tensors:
        total = total + tensor
    return total
