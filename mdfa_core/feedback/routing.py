"""How an error gets to where a rule wants it: two functions for autograd, and the hooks that put them into a model.

Axes: N example, C output, D unit; positions (steps of a sequence, pixels) lie between N and the last, or after C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree  # the walk over nested outputs that torch.func and torch.compile use

from mdfa_core.errors import InvalidValue

# -------------------------------------------------------------------------------------------------- straight to a block


def direct_error(error: Tensor, feedback: Tensor, shape: Sequence[int], axis: int | None) -> Tensor:
    """ε = e B, the output error as one block's output receives it (equation 6, Nøkland 2016).

    Args:
        error: e = ∂L/∂z, [N, C] or [N]; with `axis` also with positions.
        feedback: B, [C, *units]; with `axis` [C, D].
        shape: of the block's output, [N, *units]; with `axis` its positions may be any.
        axis: where the C outputs lie in e and the D units in ε. Positions that e and ε share are kept apart; otherwise
            all positions of ε hear the sum over those of e.
    """
    if error.dim() == 1:
        error = error.unsqueeze(1)
    error = error.to(feedback.dtype)
    if axis is None:
        return (error @ feedback.flatten(1)).reshape(tuple(shape))
    error = error.movedim(axis, -1)
    places = list(shape)
    places.append(places.pop(axis))
    if list(error.shape[:-1]) != places[:-1]:
        error = error.flatten(1).unflatten(1, (-1, error.shape[-1])).sum(1)
        error = error.reshape(len(error), *[1] * (len(places) - 2), error.shape[-1])
    return (error @ feedback).expand(places).movedim(-1, axis)


class DirectError(torch.autograd.Function):
    """The identity on the model's output z, whose backward also sends e B to the output h of one block."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, hidden: Tensor, feedback: Tensor, axis: int | None) -> Tensor:
        # Feedback never changes, so it needs no guard against changes between forward and backward, which
        # save_for_backward would set up: DistributedDataParallel writes all buffers anew in every forward pass.
        ctx.feedback, ctx.axis = feedback, axis
        ctx.shape, ctx.dtype = hidden.shape, hidden.dtype
        return output.detach()

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return error, direct_error(error, ctx.feedback, ctx.shape, ctx.axis).to(ctx.dtype), None, None


# --------------------------------------------------------------------------------------------------- layer after layer


class Geometry(NamedTuple):
    """What a convolution's backward pass needs to know besides its numbers."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def layer_error(delta: Tensor, matrix: Tensor, shape: Sequence[int], geometry: Geometry | None) -> Tensor:
    """δ brought back to a layer's input of that `shape` by `matrix`, shaped like the layer's W; BP takes W itself."""
    delta = delta.to(matrix.dtype)
    if geometry is None:
        return delta @ matrix
    batch = len(geometry.stride) + 2
    unbatched = len(shape) < batch
    if unbatched:
        delta, shape = delta.unsqueeze(0), (1, *shape)
    x = delta.new_empty(1).expand(tuple(shape))  # read for its shape only
    (error, _, _) = torch.ops.aten.convolution_backward(delta, x, matrix, None, *geometry, [True, False, False])
    return error.squeeze(0) if unbatched else error


class LayerError(torch.autograd.Function):
    """The identity on a layer's output, whose backward also sends δ B to the layer's input x (Lillicrap et al. 2016).

    The layer itself was given x cut off from the graph, so that its own product with W is never made.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, feedback: Tensor, geometry: Geometry | None) -> Tensor:
        ctx.feedback, ctx.geometry = feedback, geometry
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return output.detach()

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return delta, layer_error(delta, ctx.feedback, ctx.shape, ctx.geometry).to(ctx.dtype), None, None


# ------------------------------------------------------------------------------------------- one forward pass and hooks


class Met(NamedTuple):
    """The output of a block as it came, and what went on in its place."""

    block: str
    output: Tensor
    passed: Tensor


class Pass:
    """What hooks are to do during one forward pass, and what they met.

    Args:
        instead: makes what goes on in place of a block's output: cut off, or a copy; None leaves blocks alone.
        blocks: those that count; None: all that have a hook.
        carrier: what stands where BP has a layer's weights, from its number and these, for a rule that goes layer after
            layer.
    """

    def __init__(
        self,
        instead: Callable[[Tensor], Tensor] | None,
        blocks: Collection[str] | None = None,
        carrier: Callable[[int, Tensor], Tensor] | None = None,
    ) -> None:
        self.instead, self.blocks, self.carrier = instead, blocks, carrier
        self.met: list[Met] = []
        self.inputs: list[Tensor] = []
        self.seen: set[nn.Module] = set()
        """Layers whose hook ran."""

    def through(self, block: str, value: Any) -> Any:
        """What goes on in place of a block's output; its first tensor is the one that receives an error."""
        if self.instead is None or (self.blocks is not None and block not in self.blocks):
            return None
        leaves, structure = pytree.tree_flatten(value)
        replaced = [self.instead(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        place = first_tensor(leaves)
        if place is None:
            raise InvalidValue(
                f"block {block!r} gives {type(value).__name__}, but an error is delivered to a tensor of "
                f"floating-point numbers: choose a block that gives one, or a tuple that starts with one"
            )
        self.met.append(Met(block, leaves[place], replaced[place]))
        return pytree.tree_unflatten(replaced, structure)


class Switch:
    """What all hooks on one model look at: the pass that is going on, or None, and then they do nothing."""

    def __init__(self) -> None:
        self.current: Pass | None = None


class Cut:
    """The hooks of one block: at its output, or at the input of what follows it."""

    def __init__(self, block: str, switch: Switch) -> None:
        self.block, self.switch = block, switch

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Forward hook of the block."""
        current = self.switch.current
        if current is None:
            return None
        _refuse_no_graph(module)
        return current.through(self.block, output)

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Forward pre-hook of what follows the block."""
        current = self.switch.current
        if current is None or current.instead is None:
            return None
        _refuse_no_graph(module)
        replaced = current.through(self.block, args[0])
        return None if replaced is None else (replaced, *args[1:])


class FixedLayer:
    """The hooks that give one linear layer or convolution another matrix in the place of Wᵀ."""

    def __init__(self, number: int, geometry: Geometry | None, switch: Switch) -> None:
        self.number, self.geometry, self.switch = number, geometry, switch

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Forward pre-hook: the layer works on its input cut off from the graph."""
        current = self.switch.current
        if current is None:
            return None
        current.seen.add(module)
        if current.carrier is None:
            return None
        _refuse_no_graph(module)
        if not args:
            raise InvalidValue(
                f"a {type(module).__name__} is called with its input by keyword, where feedback alignment cannot see "
                f"it: write layer(x)"
            )
        current.inputs.append(args[0])
        return (args[0].detach(), *args[1:])

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Any:
        """Forward hook: the error finds its way back to the input by the feedback."""
        current = self.switch.current
        if current is None or current.carrier is None:
            return None
        x = current.inputs.pop()
        if not x.requires_grad:
            return None
        weight: Any = module.weight
        return LayerError.apply(output, x, current.carrier(self.number, weight), self.geometry)


def _refuse_no_graph(module: nn.Module) -> None:
    """Refuse a module that is not frozen but runs without a graph, as in a reentrant checkpoint: no rule reaches it."""
    if torch.is_grad_enabled():
        return
    learns = [parameter.requires_grad for parameter in module.parameters()]
    if any(learns) or not learns:
        raise InvalidValue(
            f"a {type(module).__name__} that is not frozen runs with gradients disabled: use checkpoints with "
            f"use_reentrant=False, or freeze what is not to learn (requires_grad_(False))"
        )


def first_tensor(leaves: Sequence[Any]) -> int | None:
    """The place of the first floating-point tensor."""
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return place
    return None


def output_tensor(output: Any) -> Tensor:
    """The tensor of a model's output whose gradient is the output error: the first one.

    Raises:
        InvalidValue: there is none, or it has no axis of examples.
    """
    leaves = pytree.tree_leaves(output)
    place = first_tensor(leaves)
    if place is None or leaves[place].dim() == 0:
        found = type(output).__name__ if place is None else "a single number"
        raise InvalidValue(
            f"the model gives {found}, but the output error is taken at a tensor [examples, outputs]: let forward "
            f"return predictions and compute the loss outside"
        )
    tensor: Tensor = leaves[place]
    return tensor


def with_output(output: Any, old: Tensor, new: Tensor) -> Any:
    """A model's output with one tensor exchanged."""
    if output is old:
        return new
    return pytree.tree_map(lambda leaf: new if leaf is old else leaf, output)


def weight_fan_in(weight: Tensor, geometry: Geometry | None) -> int:
    """How many errors come into one unit of a layer's input through a matrix shaped like its W."""
    if geometry is not None and geometry.transposed:  # [inputs, outputs / groups, *kernel]
        return math.prod(weight.shape[1:])
    heard = math.prod(weight.shape) // weight.shape[1]
    return heard if geometry is None else heard // geometry.groups
