"""The hooks that insert the delivery of errors into a model, and the plan of one forward pass that they follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree  # the walk over nested outputs that torch.func and torch.compile use

from mdfa_core.attach.delivery import Geometry, LayerError
from mdfa_core.base.errors import InvalidValue


class BlockOutput(NamedTuple):
    """The output of a block, and the tensor that replaced it for the rest of the model."""

    block: str
    output: Tensor
    passed: Tensor


class HookPlan:
    """Instructions to the hooks for one forward pass, and a record of what they saw.

    Args:
        instead: makes the replacement of a block's output, detached or a copy; None leaves outputs as they are.
        blocks: the blocks to cut; None cuts every block that has a hook.
        carrier: for a rule that goes layer by layer, the replacement of a layer's weights in the backward pass, given
            the layer's number, its weights and `drawn`.
        drawn: random numbers for this pass, one tensor for each layer, if the rule draws any.
        true: asked in the backward pass: whether layers send errors through W instead of its replacement.
    """

    def __init__(
        self,
        instead: Callable[[Tensor], Tensor] | None,
        blocks: Collection[str] | None = None,
        carrier: Callable[[int, Tensor, Sequence[Tensor] | None], Tensor] | None = None,
        drawn: Sequence[Tensor] | None = None,
        true: Callable[[], bool] | None = None,
    ) -> None:
        self.instead, self.blocks, self.carrier, self.drawn, self.true = instead, blocks, carrier, drawn, true
        self.met: list[BlockOutput] = []
        self.inputs: list[Tensor] = []
        self.ran: list[int] = []
        """The numbers of the layers whose hooks ran."""
        self.fed: list[int] = []
        """The numbers of the layers whose input receives an error."""

    def connect(self, output: Tensor, x: Tensor, carrier: Tensor, weight: Tensor, geometry: Geometry | None) -> Tensor:
        """A layer's output, connected to the input x by the replacement of W in the backward pass."""
        if self.true is None:
            return LayerError.apply(output, x, carrier, geometry, None, None)
        return LayerError.apply(output, x, carrier, geometry, weight.detach(), self.true)

    def through(self, block: str, value: Any) -> Any:
        """The replacement of a block's output; the first tensor in the output receives the error."""
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
        self.met.append(BlockOutput(block, leaves[place], replaced[place]))
        return pytree.tree_unflatten(replaced, structure)


class CurrentPlan:
    """The plan of the current forward pass of one model, read by all its hooks; None disables them."""

    def __init__(self) -> None:
        self.current: HookPlan | None = None
        self.last: HookPlan | None = None
        """The plan of the last pass that learned by a layer-wise rule, without what it saw."""

    def __reduce__(self) -> tuple[type[CurrentPlan], tuple[()]]:
        return CurrentPlan, ()  # a copy of the model begins without a pass

    def of_layers(self) -> HookPlan | None:
        """The plan for a layer whose W is replaced, also when an activation checkpoint runs the layer once more.

        It does so in the backward pass, and W has to be replaced there, too.
        """
        if self.current is not None or torch.compiler.is_compiling():
            return self.current
        if self.last is None or not torch.is_grad_enabled() or torch._C._current_graph_task_id() == -1:
            return None
        if self.last.drawn is not None:
            raise InvalidValue(
                "a rule that draws new feedback in every pass (brsf) cannot run layers again for an activation "
                "checkpoint: leave the checkpoint out, or choose frsf"
            )
        return self.last


class Cut:
    """The hooks of one block: at its output, or at the input of the module that follows."""

    def __init__(self, block: str, plan: CurrentPlan) -> None:
        self.block, self.plan = block, plan

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Forward hook of the block."""
        current = self.plan.current
        if current is None:
            return None
        refuse_no_graph(module)
        return current.through(self.block, output)

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Forward pre-hook of the module that follows the block."""
        current = self.plan.current
        if current is None or current.instead is None:
            return None
        refuse_no_graph(module)
        replaced = current.through(self.block, args[0])
        return None if replaced is None else (replaced, *args[1:])


class FixedLayer:
    """The hooks that replace W in the backward pass of one linear layer or convolution."""

    def __init__(self, number: int, geometry: Geometry | None, plan: CurrentPlan) -> None:
        self.number, self.geometry, self.plan = number, geometry, plan

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """Forward pre-hook: detaches the layer's input from the graph."""
        current = self.plan.of_layers()
        if current is None:
            return None
        current.ran.append(self.number)
        if args and isinstance(args[0], Tensor) and args[0].requires_grad:
            current.fed.append(self.number)
        if current.carrier is None:
            return None
        refuse_no_graph(module)
        if not args:
            raise InvalidValue(
                f"a {type(module).__name__} is called with its input by keyword, where feedback alignment cannot see "
                f"it: write layer(x)"
            )
        current.inputs.append(args[0])
        return (args[0].detach(), *args[1:])

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Any:
        """Forward hook: connects the output to the input, with the feedback in the backward pass."""
        current = self.plan.of_layers()
        if current is None or current.carrier is None:
            return None
        x = current.inputs.pop()
        if not x.requires_grad:
            return None
        weight: Any = module.weight
        carrier = current.carrier(self.number, weight, current.drawn)
        return current.connect(output, x, carrier, weight, self.geometry)


def refuse_no_graph(module: nn.Module) -> None:
    """Refuse a module that is not frozen but runs without a graph, as in a reentrant checkpoint: it gets no error."""
    if torch.is_grad_enabled():
        return
    learns = [parameter.requires_grad for parameter in module.parameters()]
    if any(learns) or not learns:
        raise InvalidValue(
            f"a {type(module).__name__} that is not frozen runs with gradients disabled: use checkpoints with "
            f"use_reentrant=False, or freeze the module (requires_grad_(False))"
        )


def first_tensor(leaves: Sequence[Any]) -> int | None:
    """The index of the first floating-point tensor."""
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return place
    return None


def output_tensor(output: Any) -> Tensor:
    """The first tensor of a model's output. Its gradient is the output error.

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
    """A model's output with one tensor replaced."""
    if output is old:
        return new
    return pytree.tree_map(lambda leaf: new if leaf is old else leaf, output)
