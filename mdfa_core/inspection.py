"""Looks into a run for those who draw it: the plane, weights, filters, single examples, as plain arrays.

Nothing in the run changes and no random number is drawn. Call it in the thread that trains, between two events: it
reads the weights as they are. Axes: R replica, N example or point, n unit that is shown, C channel, H W space.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mdfa_core import kernels, losses, probes
from mdfa_core.data.plane import SHAPE
from mdfa_core.errors import InvalidValue
from mdfa_core.methods import Moment, Signals
from mdfa_core.networks import DenseLayer, Parameters, Trace
from mdfa_core.training import Run

Reals = NDArray[np.float32]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]

RESOLUTION = 96
"""Points along a side of the painted plane."""

BINS = 41
"""Bars of a histogram; an odd number, so that 0 has one of its own."""

UNITS = 48
"""Units of a layer whose signals are listed one by one."""

SEARCHED = 2000
"""Training images that one search for a disagreeing unit looks at."""

_VALUES = 1 << 16  # weights (and activations) of a layer that are counted in a histogram
_FILTERS = 36
_FILTER_SIZE = 32  # pixels a side above which a filter is shrunk
_THUMBNAILS = 12
_THUMBNAIL_SIZE = 64
_CHUNK = 50


# --------------------------------------------------------------------------------------------------- what is looked at


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """The points of a task of the plane as the net sees them.

    Attributes:
        xy: float32 [N, 2], from 0 to 1.
        labels: int64 [N], 0 or 1.
        training: bool [N]: learnt from, or only validated with.
    """

    xy: Reals
    labels: Integers
    training: NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Thumbnails:
    """Some training images: as many of every class as of the others, as far as that goes.

    Attributes:
        indices: place of each in the training split.
        pixels: uint8 [C, H, W] each, shrunk to at most 64 pixels a side.
        labels: of each.
    """

    indices: tuple[int, ...]
    pixels: tuple[Pixels, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """What stays the same all through a run.

    Attributes:
        class_names: in label order.
        layers: name of every layer, the output last.
        examples: training images there are.
        points: of the plane; None for other images.
        thumbnails: some training images.
    """

    class_names: tuple[str, ...]
    layers: tuple[str, ...]
    examples: int
    points: Points | None
    thumbnails: Thumbnails


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a snapshot is to hold.

    Attributes:
        plane: the class probability all over the plane (nothing for other images).
        weights: histograms and filters.
        example: place in the training split of the image to look at, or None.
        unit: (hidden layer from 0, unit) that is to be among the units of the example that are listed.
    """

    plane: bool = False
    weights: bool = False
    example: int | None = None
    unit: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Histogram:
    """How often values occur, in bins of equal width from -bound to bound; the outer ones take the rest.

    Attributes:
        counts: of each bin, int64 [BINS].
        bound: 1, 2 or 5 times a power of ten, at least four times the root mean square.
        zeros: share of values that are exactly 0.
    """

    counts: Integers
    bound: float
    zeros: float


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerHistograms:
    """One layer's numbers.

    Attributes:
        name: of the layer.
        weights: its weights.
        updates: what the method puts in place of the mean gradient of the last mini-batch, at the weights of now.
        activations: f(a) of its units on that mini-batch; None for the output layer.
        saturated: share of those with f'(a) ≤ `probes.SATURATED` of the largest f'; None for the output layer.
        sampled: whether the layer has so many numbers that evenly spread ones were counted.
    """

    name: str
    weights: Histogram
    updates: Histogram
    activations: Histogram | None
    saturated: float | None
    sampled: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Filters:
    """Weights of units of the first layer, shaped like the images they look at.

    Attributes:
        weights: float32 [n, C, H, W]; of a convolution, its kernels.
        units: which units (or filters) these are.
        of: how many there are.
    """

    weights: Reals
    units: Integers
    of: int


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerSignals:
    """The error signals ε of one hidden layer for one example, true beside delivered.

    Attributes:
        name: of the layer.
        shape: of its units: (units,), or (filters, rows, columns).
        units: place of each listed unit, counted through `shape`; all units if there are at most UNITS.
        true: ∂L/∂h of these, float32 [n].
        delivered: what the method delivers to these, float32 [n].
        agreeing, disagreeing, undefined: how many of ALL units have equal signs, opposite ones, or a signal of 0.
    """

    name: str
    shape: tuple[int, ...]
    units: Integers
    true: Reals
    delivered: Reals
    agreeing: int
    disagreeing: int
    undefined: int

    @property
    def signs(self) -> NDArray[np.int8]:
        """1 where a listed unit's signals agree, -1 where they disagree, 0 where one of them is 0 or no number."""
        signs = np.sign(self.true) * np.sign(self.delivered)
        return np.nan_to_num(signs, nan=0.0).astype(np.int8)


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One training image on its way through the net and back.

    Attributes:
        index: its place in the training split.
        pixels: uint8 [C, H, W].
        label: its class.
        probabilities: of every class, as the net has them.
        layers: of every hidden layer.
    """

    index: int
    pixels: Pixels
    label: int
    probabilities: tuple[float, ...]
    layers: tuple[LayerSignals, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A unit whose delivered error signal has the wrong sign: its training image, hidden layer (from 0) and place."""

    index: int
    layer: int
    unit: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshot:
    """What was wanted of one moment of a run; None for what was not, or does not exist.

    Attributes:
        scene: of the run.
        step, epoch: the moment.
        boundary: float32 [H, W], see `boundary`.
        histograms: of every layer.
        filters: of the first layer.
        example: a training image.
        unit: (hidden layer, unit) that was asked to be listed.
    """

    scene: Scene
    step: int
    epoch: int
    boundary: Reals | None = None
    histograms: tuple[LayerHistograms, ...] | None = None
    filters: Filters | None = None
    example: Example | None = None
    unit: tuple[int, int] | None = None


# ----------------------------------------------------------------------------------------------------------- looking


def is_plane(run: Run) -> bool:
    """Whether a run's images are points of the plane."""
    return run.tasks[0].input_shape == SHAPE


def scene(run: Run, replica: int = 0) -> Scene:
    """What stays the same all through `run`; make it once, for who draws takes another one for another run."""
    task = run.tasks[replica]
    return Scene(
        class_names=task.class_names,
        layers=tuple(layer.name for layer in run.network.layers),
        examples=len(task.train),
        points=_points(run, replica) if is_plane(run) else None,
        thumbnails=_thumbnails(run, replica),
    )


def snapshot(run: Run, scene: Scene, wanted: Wanted, replica: int = 0) -> Snapshot:
    """What is `wanted` of a replica, now.

    Raises:
        InvalidValue: there is no such training image, or no such unit.
    """
    example_ = None
    if wanted.example is not None:
        example_ = example(run, wanted.example, replica, include=wanted.unit)
    return Snapshot(
        scene=scene,
        step=run.step,
        epoch=run.epoch,
        boundary=boundary(run)[replica] if wanted.plane and is_plane(run) else None,
        histograms=histograms(run, replica) if wanted.weights else None,
        filters=filters(run, replica) if wanted.weights else None,
        example=example_,
        unit=wanted.unit,
    )


def boundary(run: Run, resolution: int = RESOLUTION) -> Reals:
    """The probability of class 1 all over the plane, [R, H, W]: at ((w + 1/2) / W, (h + 1/2) / H), row 0 at the bottom.

    Raises:
        InvalidValue: the images are no points of the plane.
    """
    if not is_plane(run):
        raise InvalidValue(
            f"images of the shape {run.tasks[0].input_shape} have no plane: take moons, circles, spirals or xor"
        )
    ticks = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    images = torch.stack([x, y], 2).reshape(1, -1, *SHAPE).to(run.device)
    logits = run.network.forward(run.learner.parameters, run.network.inputs_from(images)).logits_RNC
    return _plain(_probabilities(logits)[..., 1]).reshape(-1, resolution, resolution)


def histograms(run: Run, replica: int = 0) -> tuple[LayerHistograms, ...]:
    """Weights, updates and activations of every layer; of a large layer, of evenly spread units only."""
    images, labels = run.batch(max(run.step, 1))
    look = _Look(run, replica, kernels.replica(images, replica), kernels.replica(labels, replica))
    found = []
    for number, layer in enumerate(run.network.layers):
        weight = look.parameters.weights[number]
        delta, x = look.delivered.factors(number, look.trace)
        chosen = _spread(weight.shape[1], max(1, _VALUES * weight.shape[1] // weight.numel()))
        index = torch.from_numpy(chosen).to(weight.device)
        sampled = len(chosen) < weight.shape[1]
        if sampled:
            weight, delta = weight.index_select(1, index), kernels.laid_out(delta.index_select(2, index))
        update, _ = layer.update(x, delta)
        hidden = number < len(look.trace.saved)
        h = look.trace.inputs[number + 1] if hidden else None
        saved = look.trace.saved[number] if hidden else None
        found.append(
            LayerHistograms(
                name=layer.name,
                weights=_histogram(weight),
                updates=_histogram(update),
                activations=None if h is None else _histogram(_evenly(h)),
                saturated=None if saved is None else _saturated(run, _evenly(saved)),
                sampled=sampled,
            )
        )
    return tuple(found)


def filters(run: Run, replica: int = 0) -> Filters | None:
    """Evenly spread units of the first layer as images, large ones shrunk; None for points of the plane."""
    if is_plane(run):
        return None
    layer, weight = run.network.layers[0], run.learner.parameters.weights[0][replica]
    units = _spread(weight.shape[0], _FILTERS)
    chosen = weight.index_select(0, torch.from_numpy(units).to(weight.device)).float()
    if isinstance(layer, DenseLayer):
        chosen = chosen.reshape(-1, *run.tasks[replica].input_shape)
    return Filters(weights=_plain(_shrunk(chosen, _FILTER_SIZE)), units=units, of=weight.shape[0])


def example(run: Run, index: int, replica: int = 0, *, include: tuple[int, int] | None = None) -> Example:
    """Training image `index` of a replica: what the net says of it, and every hidden unit's true and delivered ε.

    ε is that of the example alone (N = 1: not divided by a mini-batch).

    Args:
        run: the run.
        index: place in the training split.
        replica: whose.
        include: (hidden layer from 0, unit) to be listed in any case.

    Raises:
        InvalidValue: there is no such image, or no such unit.
    """
    split = run.tasks[replica].train
    if not 0 <= index < len(split):
        raise InvalidValue(f"training image {index} was asked for: choose one from 0 to {len(split) - 1}")
    look = _Look.at(run, replica, [index])
    layers = []
    for number, layer in enumerate(run.network.hidden):
        extra = include[1] if include is not None and include[0] == number else None
        if extra is not None and not 0 <= extra < layer.units:
            raise InvalidValue(f"unit {extra} of {layer.name} was asked for: choose one from 0 to {layer.units - 1}")
        units = _spread(layer.units, UNITS)
        if extra is not None and extra not in units:
            units[np.abs(units - extra).argmin()] = extra
        true, delivered = look.true.errors[number], look.delivered.errors[number]
        counts = probes.sign_counts(delivered, true)
        agree, defined = int(counts.agree), int(counts.defined)
        layers.append(
            LayerSignals(
                name=layer.name,
                shape=layer.output_shape,
                units=units,
                true=_plain(true).reshape(-1)[units],
                delivered=_plain(delivered).reshape(-1)[units],
                agreeing=agree,
                disagreeing=defined - agree,
                undefined=counts.total - defined,
            )
        )
    place = torch.tensor([index], device=run.device)
    return Example(
        index=index,
        pixels=split.gather(place)[0].cpu().numpy(),
        label=int(split.labels[index]),
        probabilities=tuple(_probabilities(look.trace.logits_RNC)[0, 0].tolist()),
        layers=tuple(layers),
    )


def find_disagreeing(run: Run, after: int = -1, replica: int = 0) -> Found | None:
    """The next training image with a unit whose delivered error signal has the wrong sign, and the plainest such unit.

    Up to `SEARCHED` images are looked at, from the one after `after` on, and then again from the first. The plainest
    unit has the largest |true ε · delivered ε|, each relative to the largest of its layer; None if no sign is wrong.
    """
    for chunk in _searched(run, after, replica):
        look = _Look.at(run, replica, chunk)
        # Per layer [N, units]: how plain a disagreement is, 0 where there is none.
        plain = []
        for true, delivered in zip(look.true.errors, look.delivered.errors, strict=True):
            true, delivered = true[0].flatten(1), delivered[0].flatten(1)
            product = _relative(true) * _relative(delivered)
            plain.append(torch.where(true.sign() * delivered.sign() == -1, -product, 0.0))
        if not plain:
            return None
        found = torch.stack([layer.amax(1) for layer in plain])  # [layers, N]
        hits = torch.nonzero(found.amax(0) > 0).flatten()
        if len(hits):
            row = int(hits[0])
            number = int(found[:, row].argmax())
            return Found(index=chunk[row], layer=number, unit=int(plain[number][row].argmax()))
    return None


def any_sign(run: Run, after: int = -1, replica: int = 0) -> bool:
    """Whether any unit's sign can agree or disagree in the images that `find_disagreeing` looks at.

    Where an error signal, true or delivered, is exactly 0 or no number there is no sign to compare.
    """
    for chunk in _searched(run, after, replica):
        look = _Look.at(run, replica, chunk)
        for true, delivered in zip(look.true.errors, look.delivered.errors, strict=True):
            if ((true.sign() * delivered.sign()).abs() == 1).any():
                return True
    return False


def _searched(run: Run, after: int, replica: int) -> Iterator[list[int]]:
    """The training images of a search, some at a time."""
    examples = len(run.tasks[replica].train)
    order = [(after + 1 + offset) % examples for offset in range(min(examples, SEARCHED))]
    for start in range(0, len(order), _CHUNK):
        yield order[start : start + _CHUNK]


# ------------------------------------------------------------------------------------------------------------- how


class _Look:
    """One replica's forward pass on some images, and both error signals of it."""

    def __init__(self, run: Run, replica: int, inputs: Tensor, labels: Tensor) -> None:
        learner, network = run.learner, run.network
        self.parameters: Parameters = learner.parameters.replica(replica)
        feedback = [kernels.replica(b, replica) for b in learner.feedback]
        self.trace: Trace = network.forward(self.parameters, inputs)
        error = losses.output_error(self.trace.logits_RNC, labels)
        moment = Moment(labels, learner.descent.step, learner.seeds[replica : replica + 1])
        self.delivered: Signals = learner.method.transport.signals(
            network, self.parameters, feedback, self.trace, error, moment
        )
        self._network, self._error = network, error

    @functools.cached_property
    def true(self) -> Signals:
        return probes.true_signals(self._network, self.parameters, self.trace, self._error)

    @classmethod
    def at(cls, run: Run, replica: int, indices: Sequence[int]) -> _Look:
        """At training images, as one mini-batch."""
        split = run.tasks[replica].train
        index = torch.tensor(indices, device=run.device)
        images = run.network.inputs_from(split.gather(index).unsqueeze(0))
        return cls(run, replica, images, split.labels[index].unsqueeze(0))


def _points(run: Run, replica: int) -> Points:
    splits = (run.tasks[replica].train, run.tasks[replica].validation)
    pixels = [split.gather(torch.arange(len(split), device=run.device)) for split in splits]
    return Points(
        xy=_plain(torch.cat(pixels).flatten(1).float() / 255),
        labels=torch.cat([split.labels for split in splits]).cpu().numpy(),
        training=np.repeat((True, False), [len(split) for split in splits]),
    )


def _thumbnails(run: Run, replica: int) -> Thumbnails:
    split = run.tasks[replica].train
    labels = split.labels.cpu().numpy()
    # The first image of every class, then the second of every class, …
    rank = np.zeros(len(labels), dtype=np.int64)
    for label in range(len(run.tasks[replica].class_names)):
        of_class = np.flatnonzero(labels == label)
        rank[of_class] = np.arange(len(of_class))
    chosen = np.sort(np.argsort(rank, kind="stable")[:_THUMBNAILS])
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    images = split.gather(torch.from_numpy(chosen).to(run.device)).cpu()
    small = _shrunk(images.float(), _THUMBNAIL_SIZE).round().to(torch.uint8).numpy()
    return Thumbnails(indices=tuple(chosen.tolist()), pixels=tuple(small), labels=tuple(labels[chosen].tolist()))


def _relative(signals: Tensor) -> Tensor:
    """Each example's signals [N, units] over their largest; wherever a sign is defined that is not 0."""
    return signals / signals.abs().amax(1, keepdim=True)


def _probabilities(logits: Tensor) -> Tensor:
    """Of every class; one output is the probability of class 1."""
    if logits.shape[-1] == 1:
        one = torch.sigmoid(logits)
        return torch.cat([1 - one, one], -1)
    return torch.softmax(logits, -1)


def _histogram(values: Tensor) -> Histogram:
    values = values.detach().flatten().double().cpu()
    values = values[values.isfinite()]
    size = 4 * math.sqrt(float(values.square().mean())) if len(values) else 0.0
    bound = _round_up(size) if size > 0 else 1.0
    counts = torch.histc(values.clamp(-bound, bound), BINS, -bound, bound)
    zeros = float((values == 0).double().mean()) if len(values) else 0.0
    return Histogram(counts=counts.numpy().astype(np.int64), bound=bound, zeros=zeros)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten: an axis that ends there stands still most of the time."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value)


def _saturated(run: Run, saved: Tensor) -> float:
    activation = run.network.activation
    derivative = activation.derivative(saved)
    return float((derivative <= probes.SATURATED * activation.largest_derivative).double().mean())


def _evenly(values: Tensor) -> Tensor:
    """At most so many of the values, evenly spread."""
    flat = values.reshape(-1)
    return flat[:: -(-len(flat) // _VALUES)]


def _spread(size: int, most: int) -> Integers:
    """At most so many of 0 … size-1, evenly spread."""
    return np.arange(min(size, most)) * size // min(size, most)


def _shrunk(images: Tensor, most: int) -> Tensor:
    """Images [N, C, H, W] of at most so many pixels a side, by averaging."""
    height, width = images.shape[2:]
    if max(height, width) <= most:
        return images
    scale = most / max(height, width)
    return functional.adaptive_avg_pool2d(images, (max(1, round(height * scale)), max(1, round(width * scale))))


def _plain(values: Tensor) -> Reals:
    """On the CPU, as float32."""
    array: Reals = values.detach().cpu().float().numpy()
    return array
