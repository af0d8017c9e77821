"""Delivery of errors: the mathematics of both ways back, each with the autograd function that uses it.

Axes: N example, C output, D unit. Positions (steps of a sequence, pixels) lie between N and the last axis, or after C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import Method, StepContext


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, …) is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


class NoSecondDerivative(torch.autograd.Function):
    """The identity on an error that a rule made up; the rule says nothing about the derivative of this error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(error: Tensor) -> Tensor:
        return error.view_as(error)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        raise InvalidValue(
            "a learning rule has no second derivatives: differentiate once (create_graph=False), or take hessian, jvp "
            "and gradient penalties of attached.model"
        )


def once(error: Tensor) -> Tensor:
    """An error that cannot be differentiated again, not even one that is constant because the loss is linear."""
    if not torch.is_grad_enabled():
        return error
    if not (error.requires_grad or transformed()):  # torch.func has no leaves of its own
        error = error.detach().requires_grad_()
    return NoSecondDerivative.apply(error)


# -------------------------------------------------------------------------------------------------- straight to a block


def direct_error(error: Tensor, feedback: Tensor, shape: Sequence[int], axis: int | None) -> Tensor:
    """ε = e B, the output error as one block's output receives it (equation 6, Nøkland 2016).

    Args:
        error: e = ∂L/∂z, [N, C] or [N]; with `axis` also with positions.
        feedback: B, [C, *units]; with `axis` [C, D].
        shape: of the block's output, [N, *units]; with `axis` its positions may be any.
        axis: the axis of the C outputs in e and of the D units in ε. If e and ε have the same positions, each position
            gets its own error; otherwise every position of ε gets the sum over the positions of e.
    """
    if error.dim() == 1:
        error = error.unsqueeze(1)
    error = error.to(feedback.dtype)
    if axis is None:
        return (error @ feedback.flatten(1)).reshape(tuple(shape))
    error = error.movedim(axis, -1)
    places = list(shape)
    places.append(places.pop(axis))
    if list(error.shape[:-1]) != places[:-1]:
        error = error.flatten(1).unflatten(1, (-1, error.shape[-1])).sum(1)
        error = error.reshape(len(error), *[1] * (len(places) - 2), error.shape[-1])
    return (error @ feedback).expand(places).movedim(-1, axis)


def direct_update(error: Tensor, hidden: Tensor, feedback: Tensor, axis: int | None) -> Tensor:
    """eᵀ h, the update of feedback that learns, summed over examples and shared positions (direct Kolen-Pollack).

    Args:
        error: e as in `direct_error`.
        hidden: h, the block's output, [N, *units]; with `axis` with positions.
        feedback: B, for its shape and type.
        axis: as in `direct_error`. If e and h have other positions, each is summed over its own first.
    """
    error, hidden = error.to(feedback.dtype), hidden.to(feedback.dtype)
    if error.dim() == 1:
        error = error.unsqueeze(1)
    if axis is None:
        return (error.mT @ hidden.flatten(1)).reshape(feedback.shape)
    error, hidden = error.movedim(axis, -1), hidden.movedim(axis, -1)
    if error.shape[:-1] != hidden.shape[:-1]:
        error, hidden = (t.flatten(1).unflatten(1, (-1, t.shape[-1])).sum(1) for t in (error, hidden))
    return error.flatten(0, -2).mT @ hidden.flatten(0, -2)


Sent = Callable[[Tensor], Tensor | None]
"""From the error e at a model's output to the signal that goes to every block, both shaped like the output; None if
nothing is sent."""


class DirectError(torch.autograd.Function):
    """The identity on the model's output z, whose backward also sends `sent(e)` B to the output h of one block.

    Feedback that requires a gradient gets eᵀ h, summed over examples and shared positions, as its gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(output: Tensor, hidden: Tensor, feedback: Tensor, axis: int | None, sent: Sent | None) -> Tensor:
        return output.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, hidden, feedback, ctx.axis, ctx.sent = inputs
        # save_for_backward would guard the feedback against changes between forward and backward. Fixed feedback never
        # changes, but DistributedDataParallel writes all buffers anew in every forward pass.
        if feedback.requires_grad:
            ctx.save_for_backward(hidden)
        ctx.feedback, ctx.shape, ctx.dtype = feedback, hidden.shape, hidden.dtype

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        update = None
        if ctx.needs_input_grad[2]:
            (hidden,) = ctx.saved_tensors
            update = direct_update(error, hidden, ctx.feedback, ctx.axis)
        sent = error if ctx.sent is None else ctx.sent(error)
        if sent is None:
            return error, None, update, None, None
        delivered = direct_error(sent, ctx.feedback, ctx.shape, ctx.axis).to(ctx.dtype)
        return error, once(delivered), update, None, None


class Gate(torch.autograd.Function):
    """A copy of a block's output, whose error reaches the block only while `is_open()`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(hidden: Tensor, is_open: Callable[[], bool]) -> Tensor:
        return hidden.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.is_open = inputs[1]

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, None]:
        return (error if ctx.is_open() else None), None


# --------------------------------------------------------------------------------------------------- layer after layer


class Geometry(NamedTuple):
    """The settings of a convolution that its backward pass needs."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def layer_error(delta: Tensor, matrix: Tensor, shape: Sequence[int], geometry: Geometry | None) -> Tensor:
    """δ sent back to a layer's input of that `shape` through `matrix`, shaped like the layer's W; BP takes W itself."""
    delta = delta.to(matrix.dtype)
    if geometry is None:
        return delta @ matrix
    batch = len(geometry.stride) + 2
    unbatched = len(shape) < batch
    if unbatched:
        delta, shape = delta.unsqueeze(0), (1, *shape)
    x = delta.new_empty(1).expand(tuple(shape))  # only its shape is used
    (error, _, _) = torch.ops.aten.convolution_backward(delta, x, matrix, None, *geometry, [True, False, False])
    return error.squeeze(0) if unbatched else error


def layer_update(delta: Tensor, x: Tensor, matrix: Tensor, geometry: Geometry | None) -> Tensor:
    """δᵀ x, the update of a layer's weights by δ at its output and x at its input, shaped like `matrix`."""
    delta, x = delta.to(matrix.dtype), x.to(matrix.dtype)
    if geometry is None:
        return delta.flatten(0, -2).mT @ x.flatten(0, -2) if delta.dim() > 1 else torch.outer(delta, x)
    if x.dim() < len(geometry.stride) + 2:
        delta, x = delta.unsqueeze(0), x.unsqueeze(0)
    (_, update, _) = torch.ops.aten.convolution_backward(delta, x, matrix, None, *geometry, [False, True, False])
    found: Tensor = update
    return found


class LayerError(torch.autograd.Function):
    """The identity on a layer's output, whose backward also sends δ B to the layer's input x (Lillicrap et al. 2016).

    The layer itself reads x detached from the graph, so its own product δ W is never computed. Feedback that requires a
    gradient gets the update of W, δᵀ x, as its gradient (Kolen-Pollack).

    With `true`, the backward pass asks it whether to send δ W instead.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        output: Tensor,
        x: Tensor,
        feedback: Tensor,
        geometry: Geometry | None,
        weight: Tensor | None = None,
        true: Callable[[], bool] | None = None,
    ) -> Tensor:
        return output.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, x, feedback, ctx.geometry, ctx.weight, ctx.true = inputs
        if feedback.requires_grad:
            ctx.save_for_backward(x)
        ctx.feedback, ctx.shape, ctx.dtype = feedback, x.shape, x.dtype

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        update = None
        if ctx.needs_input_grad[2]:
            (x,) = ctx.saved_tensors
            update = layer_update(delta, x, ctx.feedback, ctx.geometry)
        matrix = ctx.weight if ctx.true is not None and ctx.true() else ctx.feedback
        delivered = layer_error(delta, matrix, ctx.shape, ctx.geometry).to(ctx.dtype)
        return delta, once(delivered), update, None, None, None


def weight_fan_in(weight: Tensor, geometry: Geometry | None) -> int:
    """Number of errors that one unit of a layer's input receives through a matrix shaped like its W."""
    if geometry is not None and geometry.transposed:  # [inputs, outputs / groups, *kernel]
        return math.prod(weight.shape[1:])
    connections = math.prod(weight.shape) // weight.shape[1]
    return connections if geometry is None else connections // geometry.groups


# ---------------------------------------------------------------------------------------- in place of the error


def labels_of(z: Tensor, axis: int, labels: Tensor | None, method: Method) -> Tensor:
    """The labels of a pass as a rule reads them, int64 [1, N · positions].

    Raises:
        InvalidValue: there are none, or they are no classes of the outputs.
    """
    if labels is None:
        raise InvalidValue(
            f"{method.title} projects the labels instead of an error: set attached.labels before every forward pass "
            f"that learns"
        )
    outputs = z.shape[axis]
    classes = max(outputs, 2)
    flat = labels.detach().to(z.device).reshape(1, -1)
    whole = flat.to(torch.int64)
    if flat.numel() * outputs != z.numel() or not bool(((whole == flat) & (whole >= 0) & (whole < classes)).all()):
        raise InvalidValue(
            f"the labels have the shape {tuple(labels.shape)} where the output has {tuple(z.shape)}: {method.title} "
            f"needs one class from 0 to {classes - 1} for every example and position"
        )
    return whole


def signal(
    sent: Callable[[Tensor, StepContext], Tensor],
    context: StepContext,
    axis: int,
    only_with_error: Callable[[], bool],
    error: Tensor,
) -> Tensor:
    """`Attachment.sent` for an error [N, C], [N], or one with positions.

    Args:
        sent: of the rule.
        context: with the labels of the pass.
        axis: of the outputs.
        only_with_error: whether examples (and positions) without an error get no signal.
        error: e.
    """
    wide = error.unsqueeze(1) if error.dim() == 1 else error
    last = wide.movedim(axis, -1)
    made = sent(last.reshape(1, -1, last.shape[-1]), context).reshape(last.shape)
    if only_with_error():
        made = made * (last != 0).any(-1, keepdim=True)
    return made.movedim(-1, axis)
