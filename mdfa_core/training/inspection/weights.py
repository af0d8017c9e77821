"""Histograms of weights, updates and activations, and the first layer's weights as images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.training.inspection.arrays import Integers, Reals, as_float32, evenly_spaced, shrunk
from mdfa_core.training.inspection.error_signals import ErrorSignals
from mdfa_core.training.inspection.plane import is_plane
from mdfa_core.training.run import Run

BINS = 41
"""Bins of a histogram; an odd number, so that 0 is in the middle of one."""

MOST_VALUES = 1 << 16
"""Largest number of weights, or of activations, in a histogram."""

FILTER_SIZE = 32
"""Pixels per side above which a filter is shrunk, unless another size is given."""

_FILTERS = 36


@dataclass(frozen=True, eq=False, kw_only=True)
class Histogram:
    """Counts of values in bins of equal width from -bound to bound; the outer bins also count all values beyond.

    Attributes:
        counts: values in each bin, int64 [BINS].
        bound: 1, 2 or 5 times a power of ten, at least four times the root mean square.
        zeros: share of values that are 0.
    """

    counts: Integers
    bound: float
    zeros: float

    @classmethod
    def of(cls, values: Tensor) -> Histogram:
        """The histogram of a tensor's values; NaN and infinite values are left out."""
        values = values.detach().flatten().double().cpu()
        values = values[values.isfinite()]
        size = 4 * math.sqrt(float(values.square().mean())) if len(values) else 0.0
        bound = _round_up(size) if size > 0 else 1.0
        counts = torch.histc(values.clamp(-bound, bound), BINS, -bound, bound)
        zeros = float((values == 0).double().mean()) if len(values) else 0.0
        return cls(counts=counts.numpy().astype(np.int64), bound=bound, zeros=zeros)


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerHistograms:
    """The histograms of one layer.

    Attributes:
        name: the layer's name.
        weights: its weights.
        updates: the rule's replacement for the mean gradient of the last mini-batch, computed with the current weights.
        activations: f(a) of its units on that mini-batch; None for the output layer.
        saturated: share of pre-activations a with f′(a) ≤ `probes.SATURATED` times the largest f′; None for the output
            layer.
        sampled: whether only evenly spaced values were counted, because the layer is large.
    """

    name: str
    weights: Histogram
    updates: Histogram
    activations: Histogram | None
    saturated: float | None
    sampled: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Filters:
    """Weights of units of the first layer, in the shape of images.

    Attributes:
        weights: float32 [n, C, H, W]; the kernels of a convolution.
        units: places of these units (or filters) in the layer, int64 [n].
        of: number of units (or filters) in the layer.
    """

    weights: Reals
    units: Integers
    of: int


def histograms(run: Run, replica: int = 0) -> tuple[LayerHistograms, ...]:
    """Histograms of the weights, updates and activations of every layer; for a large layer, of evenly spaced units."""
    images, labels = run.batch(max(run.step, 1))
    signals = ErrorSignals(run, replica, kernels.replica(images, replica), kernels.replica(labels, replica))
    found = []
    for number, layer in enumerate(run.network.layers):
        weight = signals.parameters.weights[number]
        delta, x = signals.delivered.factors(number, signals.forward_pass)
        chosen = evenly_spaced(weight.shape[1], max(1, MOST_VALUES * weight.shape[1] // weight.numel()))
        index = torch.from_numpy(chosen).to(weight.device)
        sampled = len(chosen) < weight.shape[1]
        if sampled:
            weight, delta = weight.index_select(1, index), kernels.to_kernel_layout(delta.index_select(2, index))
        update, _ = layer.update(x, delta)
        hidden = number < len(signals.forward_pass.saved)
        h = signals.forward_pass.inputs[number + 1] if hidden else None
        saved = signals.forward_pass.saved[number] if hidden else None
        found.append(
            LayerHistograms(
                name=layer.name,
                weights=Histogram.of(weight),
                updates=Histogram.of(update),
                activations=None if h is None else Histogram.of(_evenly(h)),
                saturated=None if saved is None else _saturated(run, _evenly(saved)),
                sampled=sampled,
            )
        )
    return tuple(found)


def filters(run: Run, replica: int = 0, *, most: int = _FILTERS, size: int = FILTER_SIZE) -> Filters | None:
    """Weights of at most `most` evenly spaced units of the first layer, as images of at most `size` pixels per side.

    None for points of the plane.
    """
    if is_plane(run):
        return None
    weight = run.learner.parameters.weights[0][replica]
    units = evenly_spaced(weight.shape[0], most)
    return Filters(weights=_images(run, replica, units, size), units=units, of=weight.shape[0])


def filter_of(run: Run, unit: int, replica: int = 0, *, size: int = FILTER_SIZE) -> Reals:
    """The weights of one unit of the first layer as an image of at most `size` pixels per side, float32 [C, H, W]."""
    return _images(run, replica, np.array([unit]), size)[0]


def _images(run: Run, replica: int, units: Integers, size: int) -> Reals:
    """Weights of units of the first layer, float32 [n, C, H, W]."""
    weight = run.learner.parameters.weights[0][replica]
    chosen = weight.index_select(0, torch.from_numpy(units).to(weight.device)).float()
    return as_float32(shrunk(run.network.layers[0].as_images(chosen, run.tasks[replica].input_shape), size))


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, so that an axis that ends there seldom changes."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value)


def _saturated(run: Run, saved: Tensor) -> float:
    activation = run.network.activation
    derivative = activation.derivative(saved)
    return float((derivative <= probes.SATURATED * activation.largest_derivative).double().mean())


def _evenly(values: Tensor) -> Tensor:
    """At most `MOST_VALUES` of the values, evenly spaced."""
    flat = values.reshape(-1)
    return flat[:: -(-len(flat) // MOST_VALUES)]
