"""`measure`: compare the errors and updates of an attached model with the true gradient, on one batch.

Signs, angles and ratios are those of `mdfa_core.learning.probes`, with one replica. Only hidden blocks are measured.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mdfa_core.attach.attached import Attached, as_call
from mdfa_core.attach.layout import refuse_sharded
from mdfa_core.attach.per_example import Backward, chunks, recorded_calls
from mdfa_core.attach.routing import output_tensor
from mdfa_core.base.distribution import install
from mdfa_core.base.errors import InvalidValue, MissingPackage
from mdfa_core.learning import probes
from mdfa_core.learning.probes import Agreement, SignCounts, Values

if TYPE_CHECKING:
    import pandas

_ZERO = torch.zeros(1, dtype=torch.int64, device="cpu")
_NOTHING = SignCounts(_ZERO, _ZERO, 0)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A rule's error signals and updates compared with the true gradient, for hidden blocks, as in `events.Probed`.

    `print` shows a table, `frame` gives it to pandas, `scalars` to a logger. Each number stands in a tuple of one,
    because other measurements have one number per replica: `unit.overall[0]`, `unit.layers[block][0]`.

    Attributes:
        blocks: the names of the hidden blocks.
        unit: share of the errors ε at a block's output that have the true sign, 0 to 1; 0.5 is chance.
        example: the same for every parameter's update by the output error of one example alone.
        batch: the same for every parameter's update by the whole batch.
        angle: degrees between batch update g and true gradient γ, arccos(g·γ / ‖g‖‖γ‖), by block: 0 is BP, 90 chance.
        angle_overall: the angle for all hidden blocks together.
        norm_ratio: ‖g‖ ÷ ‖γ‖, by block.
    """

    blocks: tuple[str, ...]
    unit: Agreement
    example: Agreement
    batch: Agreement
    angle: tuple[Values, ...]
    angle_overall: Values
    norm_ratio: tuple[Values, ...]

    def __str__(self) -> str:
        columns = ["block", *(name for name, _, _ in self._quantities())]
        lines = [columns]
        for number, block in enumerate((*self.blocks, "all")):
            cells = [
                overall if number == len(self.blocks) else of_blocks[number]
                for _, of_blocks, overall in self._quantities()
            ]
            lines.append([block, *("–" if cell is None else f"{cell:.3g}" for cell in cells)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def frame(self) -> pandas.DataFrame:
        """All numbers as a tidy table: one row per number.

        Columns:
            block: str, the name of the hidden block; missing for numbers of all hidden blocks.
            quantity: str, as in `mdfa_core.training.history.QUANTITIES`.
            value: float64; NaN if the number is not defined.

        Raises:
            MissingPackage: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingPackage(f"the table of a measurement needs pandas: run {install('results')}") from None
        rows = [
            (block, name, value)
            for name, of_blocks, overall in self._quantities()
            for block, value in ((None, overall), *zip(self.blocks, of_blocks, strict=True))
        ]
        table = pandas.DataFrame(rows, columns=["block", "quantity", "value"])
        return table.astype({"block": "str", "quantity": "str", "value": "float64"})

    def _quantities(self) -> Iterator[tuple[str, list[float | None], float | None]]:
        """Every quantity: its name, its values in the blocks, and its value for all blocks if it has one."""
        for level in probes.LEVELS:
            agreement: Agreement = getattr(self, level)
            suffix = "" if level == "unit" else f"_{level}"
            yield f"sign_agreement{suffix}", [value for (value,) in agreement.layers], agreement.overall[0]
            yield f"sign_undefined{suffix}", [value for (value,) in agreement.undefined], None
        yield "angle", [value for (value,) in self.angle], self.angle_overall[0]
        yield "norm_ratio", [value for (value,) in self.norm_ratio], None

    def scalars(self) -> dict[str, float]:
        """All defined values for a logger, by names such as `unit/overall` and `angle/0`."""
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


def measure(
    model: nn.Module, batch: tuple[Any, Any], loss: Callable[[Any, Any], Tensor], *, examples: int | None = None
) -> Measurement:
    """The three sign agreements, angles and norm ratios of an attached model on one batch.

    Gradients, weights, buffers (also the running means of a normalisation) and random generators do not change. The
    rule and BP start from the same forward pass, with the same dropped units.

    Args:
        model: the result of `attach`, or a module that contains exactly one (compiled, DistributedDataParallel, …).
        batch: (x, y); x is an input of the attached model, a tuple of inputs, or a dictionary of inputs by name.
        loss: (output, y) → one number, as in training: with a mean, ε has the factor 1/N.
        examples: the most examples whose own updates are computed, evenly spread; by default all.

    Returns:
        Sign agreements (0 to 1), angles (degrees) and norm ratios; `print` shows them as a table.

    Raises:
        InvalidValue: the module contains no attached model or several, the batch is no pair, or the loss is not one
            number.

    Source: the definitions are those of `mdfa_core.learning.probes`. An example's own update has its own output error
    and zero errors of the other examples. So the updates of all examples add up to the batch's update even if examples
    interact (batch normalisation).
    """
    attached = _the_attached(model)
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise InvalidValue(f"the batch is a {type(batch).__name__}: give a pair (x, y)")
    refuse_sharded(attached.model, "measure a copy of the model with the whole weights")
    args, kwargs = as_call(batch[0])
    with torch.enable_grad():
        attached.make_ready(args, kwargs)
    recorded = _Recorded(attached, args, kwargs, batch[1], loss, examples)
    theirs = _Way(recorded, true=True)
    ours = _Way(recorded, true=False, later=recorded.of_singles(theirs.backward))
    singles = _example_counts(recorded, ours.backward, theirs.backward)
    updates = list(zip(ours.updates(), theirs.updates(), strict=True))
    pairs = list(itertools.starmap(_stacked, updates))
    return Measurement(
        blocks=attached.layout.blocks,
        unit=_agreement(list(map(_counts, ours.errors(), theirs.errors()))),
        example=_agreement(singles),
        batch=_agreement(list(itertools.starmap(_counts, updates))),
        angle=tuple(probes.angle(pair) if pair else (None,) for pair in pairs),
        angle_overall=probes.angle([item for pair in pairs for item in pair]) if any(pairs) else (None,),
        norm_ratio=tuple(probes.norm_ratio(pair) if pair else (None,) for pair in pairs),
    )


def _the_attached(model: nn.Module) -> Attached:
    found = [module for module in model.modules() if isinstance(module, Attached)]
    if len(found) != 1:
        raise InvalidValue(
            f"the {type(model).__name__} contains {len(found)} attached models: give the result of attach, or a "
            f"module that contains one"
        )
    return found[0]


class _Recorded:
    """One forward pass, from which the rule and BP send errors back."""

    def __init__(
        self,
        attached: Attached,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        y: Any,
        loss: Callable[[Any, Any], Tensor],
        examples: int | None,
    ) -> None:
        self.attached, model, layout = attached, attached.model, attached.layout
        self.parameters: list[list[nn.Parameter]] = [
            [p for name in names if (p := model.get_parameter(name)).requires_grad]
            for names in layout.segments[: len(layout.blocks)]
        ]
        with recorded_calls(model) as self.calls:
            output, met = attached.record(args, kwargs, labels=y if attached.reads_labels else None)
        self.z = output_tensor(output)
        with torch.enable_grad():
            value = loss(output, y)
        if not isinstance(value, Tensor) or value.dim() != 0:
            raise InvalidValue("the loss is not one number: take its mean over the batch")
        self.error = torch.autograd.grad(value, self.z, retain_graph=True)[0]
        self.outputs = [
            [item.output for item in met if item.block == block and item.output.requires_grad]
            for block in layout.blocks
        ]
        self.examples = torch.tensor(_spread(len(self.z), examples), dtype=torch.int64, device=self.z.device)

    def of_singles(self, true: Backward) -> set[int]:
        """The ids of the parameters whose batch updates are the sums of single updates, which are needed anyway."""
        if len(self.examples) < len(self.z):
            return set()
        return {id(parameter) for parameter in _flat(self.parameters) if true.trusts(parameter)}


class _Way:
    """What the rule or BP delivers for a batch: per block, its errors, its updates and those of single examples."""

    def __init__(self, recorded: _Recorded, *, true: bool, later: Collection[int] = ()) -> None:
        self._recorded = recorded
        self.backward = Backward(
            *(recorded.z, recorded.error, _flat(recorded.outputs), _flat(recorded.parameters), recorded.calls),
            *(recorded.examples, functools.partial(recorded.attached.delivering, true=true), later),
        )

    def errors(self) -> list[list[Tensor]]:
        """ε at every call of every block."""
        return _grouped(self.backward.errors, self._recorded.outputs)

    def updates(self) -> list[list[Tensor]]:
        """The batch updates of the parameters of every block."""
        return _grouped(self.backward.updates, self._recorded.parameters)


def _example_counts(recorded: _Recorded, ours: Backward, true: Backward) -> list[SignCounts]:
    """The sign counts of single updates, per block."""
    examples = recorded.examples
    counts = [_NOTHING] * len(recorded.parameters)
    uncovered: list[tuple[int, nn.Parameter]] = []
    for block, parameters in enumerate(recorded.parameters):
        for parameter in parameters if len(examples) else ():
            found = _row_counts(ours, true, parameter, examples, len(recorded.z))
            if found is None:
                uncovered.append((block, parameter))
            else:
                counts[block] += found
    rest = [parameter for _, parameter in uncovered]
    for part in chunks(examples, sum(parameter.numel() for parameter in rest), most=16) if rest else ():
        both = (way.passes(rest, part) for way in (ours, true))
        for (block, _), a, b in zip(uncovered, *both, strict=True):
            counts[block] += _count(a, b)
    return counts


def _row_counts(
    ours: Backward, true: Backward, parameter: nn.Parameter, examples: Tensor, batch: int
) -> SignCounts | None:
    """The sign counts of one parameter's single updates from rows; None if rows do not make them.

    Only the true way is checked: it goes through everything that the rule's way goes through.
    """
    if not (ours.covers(parameter) and true.trusts(parameter)):
        return None
    pair, true_pair = ours.factors(parameter), true.factors(parameter)
    if pair is not None and true_pair is not None:
        total, total_true = (delta.mT @ x.to(delta.dtype) for delta, x in (pair, true_pair))
        delta, x = true_pair
        size = (delta.square().sum(1) * x.square().sum(1)).sum().sqrt()
        counts = _outer_counts(pair, true_pair, examples)
    else:
        counts, total, total_true = _NOTHING, torch.zeros_like(parameter), torch.zeros_like(parameter)
        squares = torch.zeros((), device=parameter.device)
        whole = len(examples) == batch
        for part in chunks(torch.arange(batch, device=examples.device), parameter.numel()):
            made = true.singles(parameter, part)
            total_true, squares = total_true + made.sum(0), squares + torch.linalg.vector_norm(made).square()
            if whole:
                own = ours.singles(parameter, part)
                total, counts = total + own.sum(0), counts + _count(own, made)
        for part in () if whole else chunks(examples, parameter.numel()):
            counts += _count(ours.singles(parameter, part), true.singles(parameter, part))
        size = squares.sqrt()
    if not true.agrees(parameter, total_true.reshape(parameter.shape), size):
        return None
    if len(examples) == batch:
        ours.put(parameter, total.reshape(parameter.shape).to(parameter.dtype))
    return counts


def _outer_counts(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], examples: Tensor) -> SignCounts:
    """The sign counts of outer products δ_n x_n that are not computed, see `probes.example_sign_counts`."""
    (delta, x), (delta_true, x_true) = ([tensor[examples] for tensor in pair] for pair in (ours, theirs))
    sign = delta.sign() * delta_true.sign()
    agree, disagree = (sign == 1).sum(1), (sign == -1).sum(1)
    inputs = ((x != 0) & (x_true != 0)).sum(1)
    agreed, disagreed = ((signs * inputs).sum().reshape(1).cpu() for signs in (agree, disagree))
    return SignCounts(agreed, agreed + disagreed, sign.numel() * x.shape[1])


def _count(ours: Tensor, theirs: Tensor) -> SignCounts:
    found = probes.sign_counts(ours.unsqueeze(0), theirs.unsqueeze(0))
    return SignCounts(found.agree.cpu(), found.defined.cpu(), found.total)


def _flat(groups: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for group in groups for item in group]


def _grouped(found: Sequence[Tensor], groups: Sequence[Sequence[Any]]) -> list[list[Tensor]]:
    """A flat list in groups of the same sizes as others."""
    rest = iter(found)
    return [[next(rest) for _ in group] for group in groups]


def _spread(size: int, most: int | None) -> list[int]:
    return list(range(size)) if most is None or most >= size else [n * size // most for n in range(most)]


def _stacked(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs with the replica axis that probes expect."""
    return [(a.unsqueeze(0), b.unsqueeze(0)) for a, b in zip(ours, theirs, strict=True)]


def _counts(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> SignCounts:
    return _sum(map(_count, ours, theirs))


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
