"""The structure of a model: its default blocks, its layers, and the parameters between two cuts."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mdfa_core.attach.composites import has_own_forward, matrices_of
from mdfa_core.attach.routing import BlockOutput, Geometry
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import FeedbackShape

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Weighted = (nn.Linear, *Convolution)
"""Layers whose weights a constraint bounds, and whose W feedback alignment replaces in the backward pass."""

_LINEAR_FORWARDS = {kind.forward for kind in Weighted}
_NORMALISATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_NO_ERROR_BACK = (nn.Embedding, nn.EmbeddingBag, parametrize.ParametrizationList, *_NORMALISATION)
"""Modules with parameters but without a product of the error and a weight matrix."""


# --------------------------------------------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Place:
    """The end of a block: at a module's output, or at the input of the module that follows."""

    block: str
    module: nn.Module
    before: bool


def places(model: nn.Module, blocks: Sequence[str | nn.Module] | None) -> list[Place]:
    """The places at which the model is cut.

    Raises:
        InvalidValue: blocks have to be given, or one that was given is not in the model.
    """
    if blocks is None:
        return _default_places(model)
    if isinstance(blocks, str):
        raise InvalidValue(f"blocks is {blocks!r}: give a list of modules or of their names")
    names = {module: name for name, module in model.named_modules()}
    known = dict(model.named_modules())
    found: list[Place] = []
    for block in blocks:
        name = names.get(block, "") if isinstance(block, nn.Module) else block
        if not name or name not in known:
            said = repr(block) if isinstance(block, str) else f"a {type(block).__name__}"
            raise InvalidValue(f"block {said} is not in the model: name modules inside it, such as {_children(model)}")
        if any(place.block == name for place in found):
            raise InvalidValue(f"block {name!r} is given twice: name every block once")
        found.append(Place(name, known[name], before=False))
    return found


def _default_places(model: nn.Module) -> list[Place]:
    """Every child of a Sequential with weights starts a block; other children belong to the block before them."""
    if next(model.children(), None) is None:
        return []
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        raise InvalidValue(
            f"the order of the modules in a {type(model).__name__} is not known: give blocks=[…], the "
            f"modules after which it is cut, such as {_children(model)}"
        )
    starts = [(name, child) for name, child in model._modules.items() if child is not None and _has_weights(child)]
    found: list[Place] = []
    for (name, _), (_, following) in itertools.pairwise(starts):
        if any(following is other for _, other in starts[: len(found) + 1]):
            raise InvalidValue(
                f"block {starts[len(found) + 1][0]!r} is the same module as an earlier one: give blocks=[…] to say "
                f"after which modules the model is cut"
            )
        found.append(Place(name, following, before=True))
    return found


def _has_weights(module: nn.Module) -> bool:
    return any(
        parameter.dim() >= 2
        for part in module.modules()
        if not isinstance(part, _NORMALISATION)
        for parameter in part.parameters(recurse=False)
    )


def _children(model: nn.Module) -> str:
    names = [name for name, _ in model.named_children()]
    return ", ".join(map(repr, names[:4])) + (", …" if len(names) > 4 else "")


def segments_in_a_row(model: nn.Module, found: Sequence[Place]) -> list[list[str]]:
    """The names of the parameters of every default block of a Sequential, the output block last."""
    cuts = iter(found)
    following = next(cuts, None)
    segments: list[list[str]] = [[]]
    for name, child in model.named_children():
        if following is not None and child is following.module:
            segments.append([])
            following = next(cuts, None)
        segments[-1] += [f"{name}.{parameter}" for parameter, _ in child.named_parameters()]
    return segments


def with_matrix(modules: Collection[nn.Module]) -> str | None:
    """The class of one of these modules that has a matrix of its own; None if none has."""
    for module in modules:
        if any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False)):
            return type(module).__name__
    return None


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a model whose weights have no shape yet.

    Raises:
        InvalidValue: a module is lazy; the message names it.
    """
    for name, module in model.named_modules():
        if any(nn.parameter.is_lazy(parameter) for parameter in module.parameters(recurse=False)):
            raise InvalidValue(
                f"{name!r} ({type(module).__name__}) has weights without a shape: run the model once before attaching"
            )


def refuse_scripted(model: nn.Module) -> None:
    """Refuse a model with parts made by TorchScript, in which no hook runs.

    Raises:
        InvalidValue: it has one; the message names it.
    """
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InvalidValue(
                f"{name!r} was made by torch.jit.script or torch.jit.trace, where no hook of a rule runs: attach the "
                f"Python module it was made from"
            )


def refuse_sharded(model: nn.Module, need: str) -> None:
    """Refuse a model whose parameters are shards of `fully_shard`, because a forward pass uses others.

    Raises:
        InvalidValue: a parameter is one; the message names it.
    """
    for name, parameter in model.named_parameters():
        if type(parameter.data).__name__ == "DTensor":  # by its name: importing the class takes a second
            raise InvalidValue(f"parameter {name!r} is sharded (fully_shard): {need}")


def refuse_inference(model: nn.Module) -> None:
    """Refuse a model whose parameters cannot be trained because they were created in inference mode.

    Raises:
        InvalidValue: a parameter was; the message names it.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_inference():
            raise InvalidValue(
                f"parameter {name!r} was created in inference mode and cannot be trained: build or load the model "
                f"outside torch.inference_mode()"
            )


def forget_compiled_parts(model: nn.Module) -> None:
    """Have parts that `torch.compile` compiled traced again, because it does not notice hooks that are added later."""
    # By its attribute: importing the class takes seconds, and a program that compiles nothing needs it for nothing.
    if any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in model.modules()):
        torch.compiler.reset()


# -------------------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class FixedPlace:
    """A layer whose W can be replaced in the backward pass: a module, or one matrix inside a composite module.

    Attributes:
        name: of the module, or of the matrix inside it.
        module: the module, or the part of the composite that has the matrix.
        geometry: of a convolution.
        composite: the module that contains the matrix; None if the layer is a module.
        matrix: the name of the matrix inside the composite.
    """

    name: str
    module: nn.Module
    geometry: Geometry | None = None
    composite: nn.Module | None = None
    matrix: str = "weight"

    @property
    def weight(self) -> Tensor:
        weight: Tensor = getattr(self.module, self.matrix.rpartition(".")[-1])
        return weight


def fixed_places(model: nn.Module) -> list[FixedPlace]:
    """Every W of a model that a rule replaces which brings errors back layer by layer.

    These are the linear layers, the convolutions, and the matrices of recurrent layers and attention.

    Raises:
        InvalidValue: a module multiplies errors with weights in code that cannot be replaced; the message names it.
    """
    found: list[FixedPlace] = []
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if matrices := matrices_of(module):
            for matrix in matrices:
                part = module.get_submodule(matrix.rpartition(".")[0])
                inside.add(part)
                found.append(FixedPlace(f"{name}.{matrix}".removeprefix("."), part, None, module, matrix))
        elif type(module).forward in _LINEAR_FORWARDS and not has_own_forward(module):
            found.append(FixedPlace(name, module, geometry_of(name, module)))
        elif not isinstance(module, _NO_ERROR_BACK):
            for parameter_name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() >= 2:
                    raise InvalidValue(
                        f"{name!r} ({type(module).__name__}) uses its weights {parameter_name!r} in code of its own, "
                        f"where feedback alignment cannot replace them: build it from nn.Linear, convolutions, "
                        f"recurrent layers, nn.MultiheadAttention and nn.Embedding, or choose a direct rule such as dfa"
                    )
    return found


def refuse_unseen(
    model: nn.Module, found: Layout, layers: Sequence[FixedPlace], ran: Sequence[int], ends: Sequence[Tensor]
) -> None:
    """Refuse a model that used the weights of a linear layer or convolution in the trial pass without calling it.

    Args:
        model: the model.
        found: its layout.
        layers: the layers whose W is replaced.
        ran: the numbers of the layers, one for each call.
        ends: the output of the model and those of its blocks, with their graphs.

    Raises:
        InvalidValue: the model did; the message names the layer.
    """
    learning = {id(model.get_parameter(name)) for names in found.segments for name in names}
    calls = Counter(id(layers[number].weight) for number in ran)
    products = _uses(ends)
    for layer in layers:
        key = id(layer.weight)
        if key in learning and products[key] > calls[key]:
            raise InvalidValue(
                f"the weights of {layer.name!r} ({type(layer.module).__name__}) are used without calling it, where "
                f"feedback alignment cannot replace them: call the layer, or choose a direct rule such as dfa"
            )


def _uses(ends: Sequence[Tensor]) -> Counter[int]:
    """How many functions in the graphs of some tensors use each parameter, by id; a lookup of rows is no use.

    A view or a cast of a parameter is the parameter.
    """
    nodes: dict[Any, None] = {}
    pending: list[Any] = [end.grad_fn for end in ends]
    while pending:
        node = pending.pop()
        if node is not None and node not in nodes:
            nodes[node] = None
            pending.extend(function for function, _ in node.next_functions)

    def parameter_of(node: Any) -> int | None:
        while node is not None and not hasattr(node, "variable"):
            node = node.next_functions[0][0] if len(node.next_functions) == 1 else None
        return None if node is None else id(node.variable)

    return Counter(
        parameter
        for node in nodes
        if parameter_of(node) is None and not node.name().startswith("Embedding")
        for function, _ in node.next_functions
        if (parameter := parameter_of(function)) is not None
    )


def geometry_of(name: str, layer: nn.Module) -> Geometry | None:
    """The settings of a convolution; None for a linear layer.

    Raises:
        InvalidValue: the backward pass of the convolution cannot be written with one padding per axis.
    """
    if not isinstance(layer, Convolution):
        return None
    if layer.padding_mode != "zeros":
        raise InvalidValue(
            f"{name!r} ({type(layer).__name__}) has padding_mode={layer.padding_mode!r}, which feedback alignment "
            f"cannot replace: pad with zeros, or choose a direct rule such as dfa"
        )
    padding = layer.padding
    if isinstance(padding, str):
        around = layer._reversed_padding_repeated_twice[::-1]
        if around[::2] != around[1::2]:
            raise InvalidValue(
                f"{name!r} ({type(layer).__name__}) pads unequally before and after, which feedback alignment cannot "
                f"replace: use an odd kernel, or choose a direct rule such as dfa"
            )
        padding = tuple(around[::2])
    return Geometry(
        tuple(layer.stride),
        tuple(padding),
        tuple(layer.dilation),
        layer.transposed,
        tuple(layer.output_padding),
        layer.groups,
    )


# ---------------------------------------------------------------------------------------------------------- trial pass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The result of a trial pass.

    Attributes:
        blocks: the hidden blocks in the order of their outputs, without the output block.
        segments: the names of the parameters before each cut and, as the last entry, after all cuts.
        shapes: the shape of every block's output, including the axis of examples.
        output: the shape of the model's output.
        above: the modules that ran after the first cut, in order.
    """

    blocks: tuple[str, ...]
    segments: tuple[tuple[str, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    above: tuple[str, ...]


@contextmanager
def everything_learns(model: nn.Module) -> Iterator[None]:
    """Unfreeze all parameters for a while, so that the graph contains them."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def recorded_above(model: nn.Module, met: Sequence[BlockOutput]) -> Iterator[list[str]]:
    """The names of the modules that end after the first cut, once they have run."""
    names: list[str] = []

    def recorder(name: str) -> Callable[..., None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            if met and name not in names:
                names.append(name)

        return record

    # Before the block's own hook, so that the first block itself is not above its cut.
    handles = [m.register_forward_hook(recorder(name), prepend=True) for name, m in model.named_modules()]
    try:
        yield names
    finally:
        for handle in handles:
            handle.remove()


def layout(
    model: nn.Module, wanted: Collection[str], met: Sequence[BlockOutput], output: Tensor, above: Sequence[str]
) -> Layout:
    """Read a trial pass in which every block's output was detached from the rest of the model.

    Raises:
        InvalidValue: the cuts do not separate the model; the message names the block.
    """
    reached = {item.block for item in met}
    for block in wanted:
        if block not in reached:
            raise InvalidValue(f"block {block!r} did not run in the forward pass: leave it out of blocks")
    if met and output is met[-1].passed:  # the last block gives the model's output, and so receives the true error
        last = met[-1]
        output, met = last.output, [item for item in met if item.block != last.block]
    if met and not output.requires_grad:
        raise InvalidValue(
            f"nothing that learns lies between block {met[-1].block!r} and the model's output: leave it out of "
            f"blocks, so that it receives the true error"
        )
    for item in met:
        if item.output.dim() < 2 or len(item.output) != len(output):
            raise InvalidValue(
                f"block {item.block!r} gives the shape {tuple(item.output.shape)} where the model's output has "
                f"{tuple(output.shape)}: the first axis of both must be the examples (batch_first=True)"
            )
    blocks = tuple(dict.fromkeys(item.block for item in met))
    shapes = {item.block: tuple(item.output.shape) for item in reversed(met)}
    parts = _parameters_between([*((item.block, item.output) for item in met), (None, output)])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return Layout(
        blocks=blocks,
        segments=tuple(tuple(names[key] for key in parts.get(block, ()) if key in names) for block in (*blocks, None)),
        shapes=tuple(shapes[block] for block in blocks),
        output=tuple(output.shape),
        above=tuple(above),
    )


def _parameters_between(ends: Sequence[tuple[str | None, Tensor]]) -> dict[str | None, dict[int, None]]:
    """The leaves in the graph of every block's output, by id, in the order found.

    Raises:
        InvalidValue: two blocks share more than parameters, so a connection bypasses a cut.
    """
    owners: dict[Any, str | None] = {}
    leaves: dict[str | None, dict[int, None]] = {}
    for block, end in ends:
        pending = [end.grad_fn]
        while pending:
            node = pending.pop()
            if node is None:
                continue
            following = [function for function, _ in node.next_functions]
            if hasattr(node, "variable"):
                leaves.setdefault(block, {})[id(node.variable)] = None
            elif len(following) == 1 and hasattr(following[0], "variable"):
                pending.extend(following)  # a view or a cast of a parameter, which blocks may share
            elif node not in owners:
                owners[node] = block
                pending.extend(following)
            elif owners[node] != block:
                raise InvalidValue(
                    f"the cut after block {owners[node]!r} does not separate the model: another connection, such as a "
                    f"residual one, bypasses the block; choose a module that contains all connections"
                )
    return leaves


def reached(ends: Sequence[Tensor]) -> set[int]:
    """The ids of all parameters in the graphs of some tensors."""
    seen: set[Any] = set()
    leaves: set[int] = set()
    pending: list[Any] = [end.grad_fn for end in ends]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        pending.extend(function for function, _ in node.next_functions)
    return leaves


def feedback_shapes(found: Layout, axis: int | None) -> tuple[FeedbackShape, ...]:
    """The shapes of the direct feedback of every hidden block: outputs × units, as in `rules.Direct`.

    Raises:
        InvalidValue: the outputs have positions and no axis of units is given, or the axis does not exist.
    """
    if axis is None and len(found.output) > 2 and found.blocks:
        raise InvalidValue(
            f"the model's output has the shape {found.output}, so its errors have positions: give the axis of the "
            f"units, axis=-1 for sequences [examples, positions, units], axis=1 for images [examples, units, …]"
        )
    if axis is None:
        outputs = math.prod(found.output[1:])
        return tuple(FeedbackShape((outputs, *shape[1:]), outputs) for shape in found.shapes)
    for name, shape in (*zip(found.blocks, found.shapes, strict=True), ("the model's output", found.output)):
        if len(shape) > 1 and not (0 < axis < len(shape) or -len(shape) < axis < 0):
            raise InvalidValue(
                f"axis={axis} is no axis of units in the shape {shape} of {name}: axis 0 is the examples, so give one "
                f"of the other axes"
            )
    outputs = found.output[axis] if len(found.output) > 1 else 1
    return tuple(FeedbackShape((outputs, shape[axis]), outputs) for shape in found.shapes)
