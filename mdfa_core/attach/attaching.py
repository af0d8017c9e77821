"""`attach`: a rule of `METHODS` trains a user's model in the user's own training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from mdfa_core.attach import layout as layouts
from mdfa_core.attach.attached import Attached, as_call
from mdfa_core.attach.feedback import FeedbackSource, Given
from mdfa_core.base.errors import InvalidValue
from mdfa_core.nets import initializers
from mdfa_core.nets.initializers import Initializer, Zeros
from mdfa_core.rules import METHODS, Method


def attach(
    model: nn.Module,
    method: str | Method = "mdfa",
    *,
    blocks: Sequence[str | nn.Module] | None = None,
    feedback_init: str | Initializer = "normal:1",
    convention: str = "paper",
    axis: int | None = None,
    seed: int = 0,
    floor: float = 1e-6,
    example: Any = None,
    feedback: Given | None = None,
) -> Attached:
    """Train a model by a rule of `METHODS`; the loop, the optimizer and the loss stay as they are.

    A direct rule (DFA, mDFA, sDFA, DRTP, DKP) cuts the graph after every hidden block. The block's output h_l receives
    ε_l = e B_l, where e = ∂L/∂z is the error at the model's output (equation 6). Inside a block autograd works as
    usual. sDFA sends sign(e)/N in place of e, DRTP −y*/N (see `Attached.labels`); N is the number of examples times
    positions. With DKP, B_l is a parameter with the gradient eᵀ h_l.

    A rule that goes layer by layer replaces W in the backward pass of every linear layer and convolution: FA and KP by
    B, and uSF, frSF and brSF by a matrix with the signs of W. With KP, B is a parameter with the gradient of W. BP
    changes nothing.

    Args:
        model: a module whose first output tensor is [examples, outputs], or [examples] for one output.
        method: a name in `METHODS`, or a `Method` whose transport answers `attachment()`.
        blocks: the modules (or their names) after which a direct rule cuts; for every rule, the parts that `measure`
            reports. What follows the last cut is the output block; it is also the last named block if this makes the
            model's output. Not needed for a Sequential: every child with weights starts a block, and children without
            weights belong to the block before them. If a block returns a tuple, its first tensor receives the error,
            and the others carry no gradient. A cell that is called once per time step receives the error at every step.
        feedback_init: `normal:STD` or `uniform:SCALE`, see `initializers.parse`.
        convention: what `uniform` means, see `initializers.CONVENTIONS`.
        axis: None gives every unit of a block its own feedback, as in the paper. A number is the axis of units (and of
            outputs): -1 in sequences [examples, positions, units], 1 in images. Positions then share feedback, and
            their number may change. If a block has the same positions as the output, each error arrives at its own
            position; otherwise errors are summed over positions.
        seed: seed of the feedback; an `Experiment` of the same seed draws the same numbers for an equal network.
        floor: lower bound of constrained weights.
        example: an input from which to find the shapes (a tuple for several inputs, a dictionary for inputs by name);
            by default the first input of the model. A rule that learns its feedback needs it, because its feedback is
            among the parameters you give the optimizer.
        feedback: feedback of your own, such as a sparse or a low-rank matrix: one for every hidden block (direct rules)
            or layer (other rules with feedback), in a sequence or by name, such as "2", "lstm.weight_hh_l0" or
            "attention.in_proj_weight". Blocks that a mapping leaves out get random feedback. The shape is
            [outputs, *units of the block] or that of the layer's weights.

    Raises:
        InvalidValue: the rule or the model cannot be attached, the floor is negative or not finite, or the feedback has
            numbers that the rule forbids.
        GeometryError: the feedback has another shape.
        UnknownName: no such method, initializer or convention.

    Source: Lechner (ICLR 2020), equations 2 to 6 and Definition 1; Nøkland (2016); Lillicrap et al. (2016).
    """
    rule = METHODS[method] if isinstance(method, str) else method
    attachment = rule.transport.attachment()
    if attachment is None:
        possible = [name for name, known in METHODS.items() if known.transport.attachment() is not None]
        raise InvalidValue(
            f"{rule.title} cannot be attached because it {rule.transport.unattachable}: choose one of "
            f"{', '.join(possible)}"
        )
    if isinstance(model, Attached):
        raise InvalidValue("this model is attached already: attach model.model, the network inside it")
    if not (math.isfinite(floor) and floor >= 0):
        raise InvalidValue(f"the floor of the weights is {floor!r}: give a finite number of at least 0")
    if rule.transport.learns_feedback and example is None:
        raise InvalidValue(
            f"{rule.title} learns its feedback, which the optimizer must have from the start: give attach an example "
            f"input, and the optimizer the parameters() of what attach returns"
        )
    if feedback is not None and not rule.transport.needs_feedback:
        raise InvalidValue(f"{rule.title} has no feedback weights: leave feedback out, or choose fa or dfa")
    layouts.refuse_scripted(model)
    layouts.refuse_lazy(model)
    layouts.refuse_inference(model)
    initializer = initializers.parse(feedback_init)
    if isinstance(initializer, Zeros):
        raise InvalidValue("feedback weights of zeros would deliver no error to any block: use normal:1 or uniform:1")
    source = FeedbackSource(
        initializer,
        initializers.convention_named(convention),
        nonnegative=rule.constraint.feedback,
        seed=seed,
        given=feedback,
    )
    places = layouts.places(model, blocks)
    attached = Attached(model, rule, attachment, places, source=source, axis=axis, floor=floor, seed=seed)
    if blocks is None:
        attached.constraint.cover(layouts.segments_in_a_row(model, places))
    if example is not None:
        attached.prepare(*as_call(example))
    return attached
