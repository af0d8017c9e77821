"""What a model consists of: its default blocks, its layers, and what lies between two cuts, by one trial pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from mdfa_core.errors import InvalidValue
from mdfa_core.feedback.routing import Geometry, Met
from mdfa_core.methods import FeedbackShape

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Weighted = (nn.Linear, *Convolution)
"""Layers whose W a constraint holds to ≥ 0 and feedback alignment replaces."""

_LINEAR_FORWARDS = {kind.forward for kind in Weighted}
_NORMALISATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_NO_ERROR_BACK = (nn.Embedding, nn.EmbeddingBag, parametrize.ParametrizationList, *_NORMALISATION)
"""Modules with parameters, perhaps of several axes, but no product of the error with a matrix of weights."""


# --------------------------------------------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Place:
    """Where a block ends: at a module's output, or before the module that follows it."""

    block: str
    module: nn.Module
    before: bool


def places(model: nn.Module, blocks: Sequence[str | nn.Module] | None) -> list[Place]:
    """Where the model is to be cut.

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
    """Every child of a Sequential that has weights starts a block; what has none belongs to the block before it."""
    if next(model.children(), None) is None:
        return []
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        raise InvalidValue(
            f"a {type(model).__name__} does not say which of its modules follow one another: give blocks=[…], the "
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


def refuse_lazy(model: nn.Module) -> None:
    """Refuse weights that have no shape yet.

    Raises:
        InvalidValue: there are such; the message names the module.
    """
    for name, module in model.named_modules():
        if any(nn.parameter.is_lazy(parameter) for parameter in module.parameters(recurse=False)):
            raise InvalidValue(
                f"{name!r} ({type(module).__name__}) has weights of no shape yet: run the model once before attaching"
            )


# -------------------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class FixedPlace:
    """A layer whose Wᵀ fixed feedback can replace."""

    module: nn.Module
    weight: Tensor
    geometry: Geometry | None


def fixed_places(model: nn.Module) -> list[FixedPlace]:
    """Every linear layer and convolution of a model, for a rule that brings errors back layer after layer.

    Raises:
        InvalidValue: a module multiplies errors with weights in a way that cannot be replaced; the message names it.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, Weighted) and type(module).forward in _LINEAR_FORWARDS:
            found.append(FixedPlace(module, module.weight, _geometry(name, module)))
        elif not isinstance(module, _NO_ERROR_BACK):
            for parameter_name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() >= 2:
                    raise InvalidValue(
                        f"{name!r} ({type(module).__name__}) uses its weights {parameter_name!r} in code of its own, "
                        f"where feedback alignment cannot replace them: build it of nn.Linear, convolutions and "
                        f"nn.Embedding, or choose a direct rule such as dfa"
                    )
    return found


def refuse_unseen(model: nn.Module, found: Layout, seen: Collection[nn.Module]) -> None:
    """Refuse linear layers and convolutions whose weights the model used without calling them, in a trial pass.

    Raises:
        InvalidValue: there is such a layer; the message names it.
    """
    used = {id(model.get_parameter(name)) for names in found.segments for name in names}
    used -= {id(module.weight) for module in seen}
    for name, module in model.named_modules():
        if isinstance(module, Weighted) and id(module.weight) in used:
            raise InvalidValue(
                f"the weights of {name!r} ({type(module).__name__}) are used without calling it, where feedback "
                f"alignment cannot replace them: call the layer, or choose a direct rule such as dfa"
            )


def _geometry(name: str, layer: nn.Module) -> Geometry | None:
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
    """What a trial pass found.

    Attributes:
        blocks: hidden blocks in the order of their outputs; the output block is not one of them.
        segments: names of the parameters that lie before each cut and, last, after all of them.
        shapes: of every block's output, with the axis of examples.
        output: shape of the model's output.
        above: modules that ran after the first cut, in order.
    """

    blocks: tuple[str, ...]
    segments: tuple[tuple[str, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    above: tuple[str, ...]


@contextmanager
def everything_learns(model: nn.Module) -> Iterator[None]:
    """Frozen parameters show in the graph, too."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextmanager
def recorded_above(model: nn.Module, met: Sequence[Met]) -> Iterator[list[str]]:
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
    model: nn.Module, wanted: Collection[str], met: Sequence[Met], output: Tensor, above: Sequence[str]
) -> Layout:
    """Read a trial pass in which every block's output was cut off from what follows.

    Raises:
        InvalidValue: the cuts do not part the model; the message names the block.
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
    """Which leaves the graph of every block's output holds, by id, in the order met.

    Raises:
        InvalidValue: two blocks share more than parameters, so that a cut is gone around.
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
                    f"the cut after block {owners[node]!r} does not part the model: what follows also hears from "
                    f"before it by another way, such as a residual connection; choose a module that holds all ways"
                )
    return leaves


def feedback_shapes(found: Layout, axis: int | None) -> tuple[FeedbackShape, ...]:
    """The direct feedback every hidden block needs: outputs × units, as `methods.Direct` has it.

    Raises:
        InvalidValue: the outputs have positions, and it is not said where the units are; or an axis that is not there.
    """
    if axis is None and len(found.output) > 2 and found.blocks:
        raise InvalidValue(
            f"the model's output has the shape {found.output}, so its errors have positions: say which axis the units "
            f"are on, axis=-1 for sequences [examples, positions, units], axis=1 for images [examples, units, …]"
        )
    if axis is None:
        outputs = math.prod(found.output[1:])
        return tuple(FeedbackShape((outputs, *shape[1:]), outputs) for shape in found.shapes)
    for name, shape in (*zip(found.blocks, found.shapes, strict=True), ("the model's output", found.output)):
        if len(shape) > 1 and not (0 < axis < len(shape) or -len(shape) < axis < 0):
            raise InvalidValue(
                f"axis={axis} is no axis of units in the shape {shape} of {name}: axis 0 are the examples, give one "
                f"of the others"
            )
    outputs = found.output[axis] if len(found.output) > 1 else 1
    return tuple(FeedbackShape((outputs, shape[axis]), outputs) for shape in found.shapes)
