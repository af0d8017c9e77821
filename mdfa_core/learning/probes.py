"""Comparison of a method's errors and updates with the true gradient, as pure functions of one `ForwardPass`.

Axes: R replica, N example. Only hidden layers are measured: the output error is the same for every method. A sign
agreement is defined if neither side is exactly 0 or NaN; two zeros never count as agreement.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mdfa_core.base.schema import MeasuredShare
from mdfa_core.compute import kernels
from mdfa_core.nets.layers import Layer
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules import Chain, Signals

LEVELS = ("unit", "example", "batch")
"""A unit's error signal ε; the update of a weight or bias by one example; its update by the mini-batch."""

SATURATED = 0.01
"""A unit is saturated on an example if f′(a) is at most this share of the largest f′."""

CHUNK = 1 << 24
"""Numbers in memory at a time while single-example updates are computed."""

_EXACT = 1 << 24  # float32 sums of ±1 are exact below

_TRUE_GRADIENT = Chain(fixed=False)

Values = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Share of signs that agree with the true ones, 0 to 1, for one level; 0.5 is chance, None: no sign is defined."""

    layers: tuple[tuple[MeasuredShare | None, ...], ...]
    """Agreement per hidden layer, per replica: `layers[l][r]`."""
    overall: tuple[MeasuredShare | None, ...]
    """Over all defined entries of all hidden layers, per replica."""
    undefined: tuple[tuple[MeasuredShare, ...], ...]
    """Share of entries that are exactly 0 on either side, per hidden layer, per replica."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An evenly spread part of a network to measure: all units of a large network cost as much as many steps.

    Attributes:
        units: the most units (of a convolution: filters) measured in each hidden layer, with all their weights.
        examples: the most examples of a mini-batch whose own updates are computed in convolutions.
    """

    units: int
    examples: int


LIVE = Sample(units=32, examples=4)
"""For measuring several times a second."""


@dataclass(frozen=True)
class SignCounts:
    """Entries that agree in sign and entries where both signs are defined, of `total` entries each.

    Both are [R], or [R, units] if they are counted per unit.
    """

    agree: Tensor
    defined: Tensor
    total: int

    def __add__(self, other: SignCounts) -> SignCounts:
        return SignCounts(self.agree + other.agree, self.defined + other.defined, self.total + other.total)


@dataclass(frozen=True)
class Measurement:
    """One probe; the fields are those of the event `Probed`, where they are explained."""

    unit: Agreement
    example: Agreement
    batch: Agreement
    angle: tuple[Values, ...]
    angle_overall: Values
    norm_ratio: tuple[Values, ...]
    saturation: tuple[tuple[float, ...], ...]


def stacked(replicas: Sequence[Measurement]) -> Measurement:
    """The measurements of single replicas, joined into the measurement of a stack."""

    def rows(name: str, of: Sequence[Any] = replicas) -> Any:
        """Per layer, then per replica."""
        layers = zip(*(getattr(item, name) for item in of), strict=True)
        return tuple(tuple(value for values in layer for value in values) for layer in layers)

    def row(name: str, of: Sequence[Any] = replicas) -> Any:
        return tuple(value for item in of for value in getattr(item, name))

    def agreement(level: str) -> Agreement:
        of = [getattr(item, level) for item in replicas]
        return Agreement(layers=rows("layers", of), overall=row("overall", of), undefined=rows("undefined", of))

    return Measurement(
        unit=agreement("unit"),
        example=agreement("example"),
        batch=agreement("batch"),
        angle=rows("angle"),
        angle_overall=row("angle_overall"),
        norm_ratio=rows("norm_ratio"),
        saturation=rows("saturation"),
    )


def true_signals(network: Network, parameters: Parameters, forward_pass: ForwardPass, error: Tensor) -> Signals:
    """The true ε_l = ∂L/∂h_l and δ_l = ∂L/∂a_l by backpropagation (equations 3 to 5) on the given forward pass."""
    return _TRUE_GRADIENT.signals(network, parameters, (), forward_pass, error)


def measure(
    network: Network,
    parameters: Parameters,
    forward_pass: ForwardPass,
    delivered: Signals,
    sample: Sample | None = None,
) -> Measurement:
    """Compare a method's signals with the true gradient on the same forward pass; changes nothing.

    Args:
        network: the net.
        parameters: its parameters during the forward pass.
        forward_pass: the forward pass.
        delivered: the method's signals from that forward pass.
        sample: the part of the network to measure; all of it by default.
    """
    true = true_signals(network, parameters, forward_pass, delivered.deltas[-1])
    layers = range(len(network.hidden))
    saved_of_layers = forward_pass.saved
    examples: int | None = None
    if sample is not None:
        delivered, true = (_thinned_signals(signals, sample.units) for signals in (delivered, true))
        saved_of_layers = tuple(_thinned(saved, 2, sample.units) for saved in forward_pass.saved)
        examples = sample.examples
    replicas = forward_pass.logits_RNC.shape[0]
    updates = [_update_pairs(network.layers[n], n, forward_pass, delivered, true) for n in layers]
    return Measurement(
        unit=_agreement([sign_counts(delivered.errors[n], true.errors[n]) for n in layers], replicas),
        example=_agreement(
            [
                example_sign_counts(
                    network.layers[n], forward_pass.inputs[n], delivered.deltas[n], true.deltas[n], examples
                )
                if delivered.products is None
                else product_sign_counts(
                    network.layers[n], forward_pass.inputs[n], delivered.products[n], true.deltas[n], examples
                )
                for n in layers
            ],
            replicas,
        ),
        batch=_agreement([_sum(sign_counts(*pair) for pair in updates[n]) for n in layers], replicas),
        angle=tuple(angle(updates[n]) for n in layers),
        angle_overall=angle([pair for pairs in updates for pair in pairs]) if updates else (None,) * replicas,
        norm_ratio=tuple(norm_ratio(updates[n]) for n in layers),
        saturation=tuple(_saturation(network, saved) for saved in saved_of_layers),
    )


def sign_counts(delivered: Tensor, true: Tensor) -> SignCounts:
    """How many entries of two [R, …] tensors agree in sign, per replica; exact zeros and NaN are undefined."""
    return _counted(delivered, true, tuple(range(1, true.dim())), true[0].numel())


def unit_sign_counts(delivered: Tensor, true: Tensor) -> SignCounts:
    """`sign_counts` of each unit over the mini-batch, [R, units]; of a convolution: of each filter over all positions.

    Args:
        delivered: a rule's error signals ε of one layer, [R, N, *output_shape].
        true: the true ones, of the same shape.
    """
    return _counted(delivered, true, (1, *range(3, true.dim())), true[0, :, 0].numel())


def _counted(delivered: Tensor, true: Tensor, axes: tuple[int, ...], total: int) -> SignCounts:
    """Counts over `axes`. Sums of signs (0 for NaN) are several times faster than counts of truth values."""
    dtype = torch.float32 if total < _EXACT else kernels.accumulation_dtype(true.device)
    sign = delivered.sign() * true.sign()
    difference, defined = sign.sum(axes, dtype=dtype), sign.abs_().sum(axes, dtype=dtype)
    return SignCounts(((defined + difference) / 2).long(), defined.long(), total)


def update_sign_counts(
    network: Network, forward_pass: ForwardPass, delivered: Signals, true: Signals, units: int | None = None
) -> tuple[SignCounts, ...]:
    """Sign counts over the mini-batch's updates of the weights and biases of each hidden layer, as in `measure`.

    Args:
        network: the net.
        forward_pass: the forward pass.
        delivered: the method's signals from that forward pass.
        true: the true signals.
        units: the most units (of a convolution: filters) counted in each layer; all of them by default.
    """
    if units is not None:
        delivered, true = (_thinned_signals(signals, units) for signals in (delivered, true))
    return tuple(
        _sum(sign_counts(*pair) for pair in _update_pairs(layer, n, forward_pass, delivered, true))
        for n, layer in enumerate(network.hidden)
    )


def example_sign_counts(
    layer: Layer, x: Tensor, delivered: Tensor, true: Tensor, examples: int | None = None
) -> SignCounts:
    """Sign counts over the updates of every weight and bias by every single example, from a layer's input and its δ.

    If no weights are shared (dense layers), example n updates W_ji by δ_nj x_ni. Its sign agrees if the sign of δ_nj
    agrees and x_ni ≠ 0, so the N × O × I products need not be computed. A convolution sums over positions: its updates
    are computed, for at most `examples` examples.
    """
    if not layer.shares_weights:
        inputs_RN = (x != 0).sum(2) + 1  # the input of the bias is a constant 1
        sign = delivered.sign() * true.sign()
        agree_RN, disagree_RN = (sign == 1).sum(2), (sign == -1).sum(2)
        return SignCounts(
            (agree_RN * inputs_RN).sum(1),
            ((agree_RN + disagree_RN) * inputs_RN).sum(1),
            x.shape[1] * (x.shape[2] + 1) * true.shape[2],
        )
    if examples is not None:
        x, delivered, true = (_thinned(tensor, 1, examples) for tensor in (x, delivered, true))
    return written_out_sign_counts(layer, x, delivered, true)


def written_out_sign_counts(layer: Layer, x: Tensor, delivered: Tensor, true: Tensor) -> SignCounts:
    """`example_sign_counts` by computing the update of every single example: slow, and right for any layer."""
    return product_sign_counts(layer, x, (delivered.unsqueeze(2), x.unsqueeze(2)), true)


def product_sign_counts(
    layer: Layer, x: Tensor, product: tuple[Tensor, Tensor], true: Tensor, examples: int | None = None
) -> SignCounts:
    """`example_sign_counts` of a delivered update that is a sum of terms, see `Signals.products`."""
    delivered, h = product
    if examples is not None:
        x, delivered, h, true = (_thinned(tensor, 1, examples) for tensor in (x, delivered, h, true))
    replicas, count = true.shape[:2]
    chunk = max(1, CHUNK // (math.prod(layer.weight_shape) * replicas))
    counts = []
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        # Each example becomes a replica of its own, so that the layer's ordinary update sums over its terms only.
        singles = [
            tensor[:, part].expand(replicas, *tensor[:, part].shape[1:]).flatten(0, 1)
            for tensor in (x.unsqueeze(2), true.unsqueeze(2), h, delivered)
        ]
        own = (layer.update(*singles[2:])[0], layer.bias_update(singles[3][:, :1]))
        for ours, theirs in zip(own, layer.update(*singles[:2]), strict=True):
            counts.append(sign_counts(ours.unflatten(0, (replicas, -1)), theirs.unflatten(0, (replicas, -1))))
    return _sum(counts)


def angle(pairs: Sequence[tuple[Tensor, Tensor]]) -> Values:
    """Degrees between two lists of [R, …] tensors, each list read as one vector per replica; None if one is 0.

    2 atan2(‖u − v‖, ‖u + v‖) with u, v the unit vectors, which unlike arccos is exact near 0° and 180°.
    """
    norm_a, norm_b = _norms([a for a, _ in pairs]), _norms([b for _, b in pairs])
    difference, total = [], []
    for a, b in pairs:
        u, v = a / _like(norm_a, a), b / _like(norm_b, b)
        difference.append(u - v)
        total.append(u + v)
    degrees = torch.rad2deg(2 * torch.atan2(_norms(difference), _norms(total)))
    return _values(degrees, (norm_a > 0) & (norm_b > 0))


def norm_ratio(pairs: Sequence[tuple[Tensor, Tensor]]) -> Values:
    """‖a‖ ÷ ‖b‖ of two lists of [R, …] tensors, per replica; None if ‖b‖ is 0."""
    norm_a, norm_b = _norms([a for a, _ in pairs]), _norms([b for _, b in pairs])
    return _values(norm_a / norm_b, norm_b > 0)


def _thinned(tensor: Tensor, axis: int, most: int) -> Tensor:
    """At most `most` entries along an axis, evenly spread."""
    size = tensor.shape[axis]
    if size <= most:
        return tensor
    chosen = torch.arange(most, device=tensor.device) * size // most
    return kernels.to_kernel_layout(tensor.index_select(axis, chosen))


def _thinned_signals(signals: Signals, units: int) -> Signals:
    errors = [_thinned(error, 2, units) for error in signals.errors]
    deltas = [*(_thinned(delta, 2, units) for delta in signals.deltas[:-1]), signals.deltas[-1]]
    products = None
    if signals.products is not None:
        products = [*((_thinned(delta, 3, units), h) for delta, h in signals.products[:-1]), signals.products[-1]]
    return Signals(errors, deltas, products=products)


def _update_pairs(
    layer: Layer, number: int, forward_pass: ForwardPass, delivered: Signals, true: Signals
) -> list[tuple[Tensor, Tensor]]:
    """(delivered, true) batch updates of W and of b."""
    delta, h = delivered.factors(number, forward_pass)
    weights, biases = layer.update(forward_pass.inputs[number], true.deltas[number])
    return [(layer.update(h, delta)[0], weights), (layer.bias_update(delivered.bias_delta(number)), biases)]


def _saturation(network: Network, saved: Tensor) -> tuple[float, ...]:
    flat = network.activation.derivative(saved) <= SATURATED * network.activation.largest_derivative
    return tuple(count / flat[0].numel() for count in flat.flatten(1).sum(1).tolist())


def _agreement(counts: Sequence[SignCounts], replicas: int) -> Agreement:
    overall = _ratio(_sum(counts)) if counts else (None,) * replicas
    undefined = tuple(tuple(1 - defined / c.total for defined in c.defined.tolist()) for c in counts)
    return Agreement(layers=tuple(_ratio(c) for c in counts), overall=overall, undefined=undefined)


def _ratio(counts: SignCounts) -> Values:
    pairs = zip(counts.agree.tolist(), counts.defined.tolist(), strict=True)
    return tuple(agree / defined if defined else None for agree, defined in pairs)


def _values(numbers: Tensor, defined: Tensor) -> Values:
    return tuple(
        number if known and math.isfinite(number) else None
        for number, known in zip(numbers.tolist(), defined.tolist(), strict=True)
    )


def _sum(counts: Iterable[SignCounts]) -> SignCounts:
    return functools.reduce(operator.add, counts)


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """‖·‖₂ of several [R, …] tensors, read as one vector per replica: [R]."""
    dtype = kernels.accumulation_dtype(tensors[0].device)
    squares = [torch.linalg.vector_norm(t.flatten(1), dim=1, dtype=dtype).square() for t in tensors]
    return torch.stack(squares).sum(0).sqrt()


def _like(norms: Tensor, tensor: Tensor) -> Tensor:
    return norms.to(tensor.dtype).reshape(-1, *[1] * (tensor.dim() - 1))
