"""One hidden unit under the pointer: its true and its delivered error signal over a mini-batch, and what it looks for.

A frame holds one byte for each unit. The rest travels only for the unit that a visitor looks at, while they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mdfa_core.base.errors import InvalidValue
from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.stage.pixels import base64_of, signed
from mdfa_core.stage.scene import FILTER_SIZE, RESOLUTION
from mdfa_core.training import Run
from mdfa_core.training.inspection import ErrorSignals, Pixels, Reals, evenly_spaced, filter_of, is_plane, unit_response

POINTS = 128
"""Largest number of error signals that are drawn of a unit."""


@dataclass(frozen=True)
class Look:
    """The unit that a visitor looks at; the names and numbers come from a browser.

    Attributes:
        row: the key of the rule.
        layer: the hidden layer, from 0.
        unit: the unit (or filter) in the layer, from 0.
    """

    row: str
    layer: int
    unit: int

    @classmethod
    def of(cls, message: Any) -> Look | None:
        """The look in a message `{look: {row, layer, unit}}` of stage.js; None if it names no unit."""
        look = message.get("look") if isinstance(message, dict) else None
        if not isinstance(look, dict):
            return None
        row, layer, unit = look.get("row"), look.get("layer"), look.get("unit")
        if isinstance(row, str) and type(layer) is int and type(unit) is int:  # True is no number here
            return cls(row, layer, unit)
        return None


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitSignals:
    """The error signals ε of one hidden unit on the mini-batch that is learnt next, as a frame compares them.

    A filter of a convolution has a signal at each of its positions.

    Attributes:
        layer, unit: the unit.
        step: the last mini-batch that was learnt.
        examples, positions: the numbers of its signals: examples × positions.
        right, wrong: how many have the sign of the true one, and the other sign. The others have no sign.
        true: the true signals ∂L/∂h, float32 [n], in the order of `delivered`; evenly spaced ones if there are more
            than `POINTS`.
        delivered: those that the learning rule delivers, float32 [n].
        picture: what the unit looks for, uint8 [C, H, W]; 128 is 0, and 1 and 255 are ∓ the largest value. In the first
            layer: its weights; on points of the plane, in any layer: its output all over the plane (row 0 at the
            bottom). None if there is no picture.
        plane: whether the picture is of the plane.
    """

    layer: int
    unit: int
    step: int
    examples: int
    positions: int
    right: int
    wrong: int
    true: Reals
    delivered: Reals
    picture: Pixels | None
    plane: bool

    def to_dict(self, row: str) -> dict[str, Any]:
        """As stage.js reads it, for a row of the scene; arrays are little endian."""
        numbers = ("layer", "unit", "step", "examples", "positions", "right", "wrong", "plane")
        picture = self.picture
        return {
            "row": row,
            **{name: getattr(self, name) for name in numbers},
            "true": base64_of(self.true.astype("<f4")),
            "delivered": base64_of(self.delivered.astype("<f4")),
            "picture": None if picture is None else {"shape": list(picture.shape), "pixels": base64_of(picture)},
        }


@torch.no_grad()
def unit_signals(run: Run, layer: int, unit: int, *, replica: int = 0) -> UnitSignals:
    """The signals of a unit at this moment. It changes nothing in the run and draws no random number.

    Call it in the thread that trains, between two events.

    Args:
        run: the run.
        layer: the hidden layer, from 0.
        unit: the unit (of a convolution: filter) in the layer, from 0.
        replica: the replica, from 0.

    Raises:
        InvalidValue: there is no such layer or unit.
    """
    hidden = run.network.hidden
    if not 0 <= layer < len(hidden):
        raise InvalidValue(f"there is no hidden layer {layer}: this network has {len(hidden)}, counted from 0")
    units = hidden[layer].weight_shape[0]
    if not 0 <= unit < units:
        raise InvalidValue(f"there is no unit {unit} in layer {layer}: it has {units}, counted from 0")
    inputs, labels = run.batch(min(run.step + 1, run.steps))
    signals = ErrorSignals(run, replica, kernels.replica(inputs, replica), kernels.replica(labels, replica))
    delivered, true = (each.errors[layer][:, :, unit : unit + 1] for each in (signals.delivered, signals.true))
    counts = probes.unit_sign_counts(delivered, true)
    right, defined = int(counts.agree), int(counts.defined)
    examples = true.shape[1]
    shown = torch.from_numpy(evenly_spaced(counts.total, POINTS)).to(true.device)
    ours, theirs = (each.reshape(-1)[shown].float().cpu().numpy() for each in (delivered, true))
    return UnitSignals(
        layer=layer,
        unit=unit,
        step=run.step,
        examples=examples,
        positions=counts.total // examples,
        right=right,
        wrong=defined - right,
        true=theirs,
        delivered=ours,
        picture=_picture(run, layer, unit, replica),
        plane=is_plane(run),
    )


def _picture(run: Run, layer: int, unit: int, replica: int) -> Pixels | None:
    if is_plane(run):
        if run.network.hidden[layer].shares_weights:
            return None
        return signed(unit_response(run, layer, unit, RESOLUTION, replica=replica)[np.newaxis, np.newaxis])[0]
    return None if layer else signed(filter_of(run, unit, replica, size=FILTER_SIZE)[np.newaxis])[0]
