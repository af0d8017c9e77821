"""`measure`: what an attached model is told beside the true gradient, on one batch; nothing is changed.

Signs, angles and ratios are those of `mdfa_core.probes`, with one replica; only hidden blocks are measured.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mdfa_core import probes
from mdfa_core.errors import InvalidValue
from mdfa_core.events import Agreement
from mdfa_core.feedback.attached import Attached, as_call
from mdfa_core.feedback.routing import output_tensor
from mdfa_core.probes import SignCounts, Values

_NOTHING = SignCounts(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 0)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A rule's error signals and updates beside the true gradient, as `events.Probed` has them, for hidden blocks.

    Attributes:
        blocks: their names.
        unit: signs of the error ε that arrives at every number a block puts out.
        example: signs of every parameter's update by one example's output error alone.
        batch: signs of every parameter's update by the whole batch.
        angle: degrees between batch update and true gradient, per block, per replica (one).
        angle_overall: the same for all hidden blocks together.
        norm_ratio: ‖batch update‖ ÷ ‖true gradient‖.
    """

    blocks: tuple[str, ...]
    unit: Agreement
    example: Agreement
    batch: Agreement
    angle: tuple[Values, ...]
    angle_overall: Values
    norm_ratio: tuple[Values, ...]

    def scalars(self) -> dict[str, float]:
        """All that is defined, by names such as `unit/overall` and `angle/0`, for a logger."""
        found: dict[str, float | None] = {}
        for level in probes.LEVELS:
            agreement: Agreement = getattr(self, level)
            found[f"{level}/overall"] = agreement.overall[0]
            for block, layer, undefined in zip(self.blocks, agreement.layers, agreement.undefined, strict=True):
                found[f"{level}/{block}"] = layer[0]
                found[f"{level}_undefined/{block}"] = undefined[0]
        found["angle/overall"] = self.angle_overall[0]
        for block, angle, ratio in zip(self.blocks, self.angle, self.norm_ratio, strict=True):
            found[f"angle/{block}"] = angle[0]
            found[f"norm_ratio/{block}"] = ratio[0]
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Side:
    """What one way of bringing the error back delivers: per block, errors, batch updates and single examples'."""

    errors: list[list[Tensor]]
    updates: list[list[Tensor]]
    examples: list[list[list[Tensor]]]


def measure(
    model: nn.Module, batch: tuple[Any, Any], loss: Callable[[Any, Any], Tensor], *, examples: int | None = None
) -> Measurement:
    """The three sign agreements, angles and norm ratios of an attached model on one batch.

    Gradients, weights, buffers (running means of a normalisation, too) and random generators stay as they are; both
    ways start from the same forward pass, with the same dropped units.

    Args:
        model: what `attach` returned, or any module that holds exactly one such (compiled, DistributedDataParallel, …).
        batch: (x, y); x as the attached model takes it, a tuple for several inputs, a dictionary for inputs by name.
        loss: (output, y) → one number.
        examples: most examples whose own updates are made, spread evenly; every one costs two backward passes.

    Raises:
        InvalidValue: no single attached model, a batch that is no pair, a loss that is not one number.

    Source: the definitions are those of `mdfa_core.probes`. An example's own update is the one by its own output error,
    the others' set to 0, so that they add up to the batch's also where examples meet (batch normalisation).
    """
    attached = _the_attached(model)
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise InvalidValue(f"the batch is a {type(batch).__name__}: give a pair (x, y)")
    args, kwargs = as_call(batch[0])
    attached.prepare(args, kwargs)
    delivered, true = (_side(attached, args, kwargs, batch[1], loss, examples, true=way) for way in (False, True))
    blocks = range(len(attached.layout.blocks))
    pairs = [_stacked(delivered.updates[n], true.updates[n]) for n in blocks]
    return Measurement(
        blocks=attached.layout.blocks,
        unit=_agreement([_counts(delivered.errors[n], true.errors[n]) for n in blocks]),
        example=_agreement(
            [
                _sum(
                    _counts(ours, theirs) for ours, theirs in zip(delivered.examples[n], true.examples[n], strict=True)
                )
                for n in blocks
            ]
        ),
        batch=_agreement([_counts(delivered.updates[n], true.updates[n]) for n in blocks]),
        angle=tuple(probes.angle(pair) if pair else (None,) for pair in pairs),
        angle_overall=probes.angle([item for pair in pairs for item in pair]) if any(pairs) else (None,),
        norm_ratio=tuple(probes.norm_ratio(pair) if pair else (None,) for pair in pairs),
    )


def _the_attached(model: nn.Module) -> Attached:
    found = [module for module in model.modules() if isinstance(module, Attached)]
    if len(found) != 1:
        raise InvalidValue(
            f"the {type(model).__name__} holds {len(found)} attached models: give what attach returned, or a module "
            f"that holds one"
        )
    return found[0]


def _side(
    attached: Attached,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    y: Any,
    loss: Callable[[Any, Any], Tensor],
    examples: int | None,
    *,
    true: bool,
) -> _Side:
    output, met = attached.record(args, kwargs, true=true)
    z = output_tensor(output)
    with torch.enable_grad():
        value = loss(output, y)
    if not isinstance(value, Tensor) or value.dim() != 0:
        raise InvalidValue("the loss is not one number: take its mean over the batch")
    error = torch.autograd.grad(value, z, retain_graph=True)[0]
    blocks = attached.layout.blocks
    parameters = [
        [p for name in names if (p := attached.model.get_parameter(name)).requires_grad]
        for names in attached.layout.segments[: len(blocks)]
    ]
    outputs = [[m.output for m in met if m.block == block and m.output.requires_grad] for block in blocks]
    found = _gradients(z, [*outputs, *parameters], error)
    singles: list[list[list[Tensor]]] = [[] for _ in blocks]
    for n in _spread(len(z), examples):
        alone = torch.zeros_like(error)
        alone[n] = error[n]
        for single, of_block in zip(singles, _gradients(z, parameters, alone), strict=True):
            single.append(of_block)
    return _Side(found[: len(blocks)], found[len(blocks) :], singles)


def _gradients(z: Tensor, groups: Sequence[Sequence[Tensor]], error: Tensor) -> list[list[Tensor]]:
    """The error brought back to groups of tensors; zeros where it does not arrive."""
    flat = [tensor for group in groups for tensor in group]
    if not flat:
        return [[] for _ in groups]
    found = iter(torch.autograd.grad(z, flat, error, retain_graph=True, allow_unused=True, materialize_grads=True))
    return [[next(found) for _ in group] for group in groups]


def _spread(size: int, most: int | None) -> Iterable[int]:
    return range(size) if most is None or most >= size else [n * size // most for n in range(most)]


def _stacked(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs with the replica axis that probes expect."""
    return [(a.unsqueeze(0), b.unsqueeze(0)) for a, b in zip(ours, theirs, strict=True)]


def _counts(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> SignCounts:
    return _sum(probes.sign_counts(a, b) for a, b in _stacked(ours, theirs))


def _sum(counts: Iterable[SignCounts]) -> SignCounts:
    return functools.reduce(operator.add, counts, _NOTHING)


def _agreement(counts: Sequence[SignCounts]) -> Agreement:
    def ratio(count: SignCounts) -> Values:
        defined = int(count.defined)
        return (int(count.agree) / defined if defined else None,)

    return Agreement(
        layers=tuple(ratio(count) for count in counts),
        overall=ratio(_sum(counts)),
        undefined=tuple((1 - int(count.defined) / count.total if count.total else 1.0,) for count in counts),
    )
