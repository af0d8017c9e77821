"""One moment of one rule: which units' error signals are right, the drawn weights, and what the net has come to.

Axes: N example, U unit that is drawn.
"""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.learning.probes import SignCounts
from mdfa_core.stage.pixels import shares, signed
from mdfa_core.stage.scene import FILTER_SIZE, RESOLUTION, Scene
from mdfa_core.training import Run
from mdfa_core.training.events import Evaluated, Event, Progress
from mdfa_core.training.inspection import (
    ErrorSignals,
    Integers,
    Pixels,
    class_probabilities,
    decision,
    filters,
)

UNDEFINED = 0
"""The state of a unit none of whose error signals has a sign; 1 is all wrong, 255 all right."""


WHOLE_SECONDS, PLANE_SECONDS = 1.0, 0.25
"""Weights, certainty and result in the frames of a `Camera` may be so old; on points of the plane, a quarter of it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """One moment of one rule. Shares are from 0 to 1, and NaN if nothing is defined.

    Signs are compared on the mini-batch that is learnt next, with the weights before its update, as a probe does.

    Attributes:
        step, epoch: the last mini-batch and its epoch.
        diverged: whether the loss has become NaN or infinite.
        signs: share of the hidden units' error signals, over all units and examples, that have the true sign.
        updates: share of the mini-batch's updates of hidden weights and biases that have the true sign.
        accuracy: training accuracy, as the caller gives it.
        layer_signs: `signs` of each hidden layer.
        layer_undefined: share of each hidden layer's error signals that have no sign.
        units: state of the drawn units of each hidden layer, uint8 [U]: `UNDEFINED`, or from 1 (every error signal of
            the mini-batch is wrong) to 255 (every one is right).
        weights: the drawn weights of each layer, uint8: 128 is 0, and 1 and 255 are ∓ the layer's largest drawn weight.
        certainty: probability of the true class for each pictured image, uint8 [n]: 255 is 1.
        result: the network's decision in the plane, uint8 [RESOLUTION, RESOLUTION] (see `decision`); or the
            filters of the first layer, uint8 [n, C, H, W]: 128 is 0, and 1 and 255 are ∓ the filter's largest weight.
    """

    step: int
    epoch: int
    diverged: bool
    signs: float
    updates: float
    accuracy: float
    layer_signs: tuple[float, ...]
    layer_undefined: tuple[float, ...]
    units: tuple[Pixels, ...]
    weights: tuple[Pixels, ...]
    certainty: Pixels
    result: Pixels

    def to_bytes(self) -> bytes:
        """All of it as stage.js reads it: float32 values, little endian, then the uint8 arrays, in the order above.

        All frames of a scene have equally many bytes.
        """
        numbers = (self.step, self.epoch, self.diverged, self.signs, self.updates, self.accuracy)
        layers = (value for pair in zip(self.layer_signs, self.layer_undefined, strict=True) for value in pair)
        values = [float(value) for value in (*numbers, *layers)]
        arrays = (*self.units, *self.weights, self.certainty, self.result)
        return struct.pack(f"<{len(values)}f", *values) + b"".join(array.tobytes() for array in arrays)


class TrainingAccuracy:
    """The newest training accuracy in a run's events.

    Attributes:
        value: of a whole epoch, or of the newest mini-batches before the first epoch has ended; None before any event.
    """

    def __init__(self) -> None:
        self.value: float | None = None
        self._evaluated = False

    def note(self, event: Event) -> None:
        """Take the accuracy from an event."""
        if isinstance(event, Evaluated):
            self.value, self._evaluated = event.train_accuracy[0], True
        elif isinstance(event, Progress) and not self._evaluated:
            self.value = event.accuracy[0]


@torch.no_grad()
def frame_of(
    run: Run,
    scene: Scene,
    *,
    accuracy: float | None = None,
    units: int | None = None,
    replica: int = 0,
    before: Frame | None = None,
) -> Frame:
    """The frame of a run at this moment. It changes nothing in the run and draws no random number.

    Call it in the thread that trains, between two events.

    Args:
        run: the run.
        scene: its scene.
        accuracy: the training accuracy to show.
        units: the most units per layer whose updates are compared, in a large network; all by default.
        replica: the replica, from 0.
        before: a frame whose weights, certainty and result are shown again, which saves about half of the time.
    """
    network = run.network
    inputs, labels = run.batch(min(run.step + 1, run.steps))
    signals = ErrorSignals(run, replica, kernels.replica(inputs, replica), kernels.replica(labels, replica))
    delivered, true = signals.delivered, signals.true
    counts = [
        _UnitCounts.of(probes.unit_sign_counts(ours, theirs))
        for ours, theirs in zip(delivered.errors, true.errors, strict=True)
    ]
    updates = probes.update_sign_counts(network, signals.forward_pass, delivered, true, units)
    result = run.result
    return Frame(
        step=run.step,
        epoch=run.epoch,
        diverged=result is not None and result.diverged_at[replica] is not None,
        signs=_ratio(sum(count.all_agree for count in counts), sum(count.all_defined for count in counts)),
        updates=_ratio(sum(int(each.agree) for each in updates), sum(int(each.defined) for each in updates)),
        accuracy=math.nan if accuracy is None else accuracy,
        layer_signs=tuple(_ratio(count.all_agree, count.all_defined) for count in counts),
        layer_undefined=tuple(1 - count.all_defined / count.total for count in counts),
        units=tuple(count.states[layer.shown] for count, layer in zip(counts, scene.layers, strict=True)),
        weights=before.weights if before else _weights(signals, scene),
        certainty=before.certainty if before else _certainty(run, signals, scene, replica),
        result=before.result if before else _result(run, scene, replica),
    )


class Camera:
    """Takes frames of one run while it trains. The parts that cost most may be as old as `WHOLE_SECONDS` says.

    Args:
        run: the run.
        scene: its scene.
    """

    def __init__(self, run: Run, scene: Scene) -> None:
        self._run, self._scene = run, scene
        self._seconds = WHOLE_SECONDS if scene.points is None else PLANE_SECONDS
        self._whole: Frame | None = None
        self._since = -math.inf

    def take(self, *, whole: bool, **settings: Any) -> Frame:
        """The frame of this moment.

        Args:
            whole: whether weights, certainty and result are of this moment, too. Otherwise, they may be older.
            settings: as for `frame_of`.
        """
        now = time.monotonic()
        if whole or self._whole is None or now >= self._since + self._seconds:
            self._whole, self._since = frame_of(self._run, self._scene, **settings), now
            return self._whole
        return frame_of(self._run, self._scene, before=self._whole, **settings)


@dataclass(frozen=True)
class _UnitCounts:
    """How many error signals of each unit of a layer agree and are defined, and of all of its units."""

    agree: Integers
    defined: Integers
    all_agree: int
    all_defined: int
    total: int

    @classmethod
    def of(cls, counts: SignCounts) -> _UnitCounts:
        agree, defined = (tensor[0].cpu().numpy() for tensor in (counts.agree, counts.defined))
        return cls(agree, defined, int(agree.sum()), int(defined.sum()), len(agree) * counts.total)

    @property
    def states(self) -> Pixels:
        """The state of every unit."""
        share = self.agree / np.maximum(self.defined, 1)
        states: Pixels = np.where(self.defined > 0, 1 + np.rint(254 * share), UNDEFINED).astype(np.uint8)
        return states


def _ratio(agree: int, defined: int) -> float:
    return agree / defined if defined else math.nan


def _weights(signals: ErrorSignals, scene: Scene) -> tuple[Pixels, ...]:
    pairs = zip(signals.parameters.weights, scene.links, strict=True)
    return tuple(signed(weight[0][link.index].float().cpu().numpy()[None])[0] for weight, link in pairs)


def _certainty(run: Run, signals: ErrorSignals, scene: Scene, replica: int) -> Pixels:
    if not scene.indices:
        return np.zeros(0, dtype=np.uint8)
    split = run.tasks[replica].train
    images = split.gather(torch.tensor(scene.indices, device=run.device)).unsqueeze(0)
    logits = run.network.forward(signals.parameters, run.network.inputs_from(images)).logits_RNC
    probabilities = class_probabilities(logits)[0].float().cpu().numpy()
    return shares(probabilities[np.arange(len(scene.labels)), list(scene.labels)])


def _result(run: Run, scene: Scene, replica: int) -> Pixels:
    if scene.points is not None:
        return decision(run, RESOLUTION)[replica]
    found = filters(run, replica, most=max(1, len(scene.filter_units)), size=FILTER_SIZE)
    assert found is not None
    return signed(found.weights)
