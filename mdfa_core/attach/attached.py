"""A model under a learning rule: its forward pass, its trial pass, and its constraint."""

from __future__ import annotations

import copy
import functools
import math
import weakref
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from mdfa_core.attach import layout as layouts
from mdfa_core.attach.composites import Composite
from mdfa_core.attach.constraint import WeightConstraint, stepped_parameters
from mdfa_core.attach.delivery import DirectError, Gate, Sent, labels_of, signal, transformed, weight_fan_in
from mdfa_core.attach.feedback import Feedback, FeedbackSource, Wanted, empties
from mdfa_core.attach.layout import FixedPlace, Layout, Place
from mdfa_core.attach.loss_scale import ScaleWatch
from mdfa_core.attach.premises import guarantee
from mdfa_core.attach.routing import (
    BlockOutput,
    CurrentPlan,
    Cut,
    FixedLayer,
    HookPlan,
    output_tensor,
    with_output,
)
from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.rules import Attachment, FeedbackShape, Guarantee, Method, StepContext


class Attached(nn.Module):
    """A model under a learning rule; call it instead of the model. Made by `attach`.

    Attributes:
        model: the user's model; a direct call of it behaves as before.
        method: the rule.
        feedback: B_1, B_2, …, as buffers, or as parameters if they learn; empty before the shapes are known.
        constraint: holds weights at or above the floor; its docstring has the rule for starts and later writes.
        labels: for a rule that reads them (DRTP), the class of every example (and position): int64 [N, …], or 0 and 1
            for one output. Set them before each forward pass that learns; the pass takes them away.
        loss_scale: for a rule whose signals do not depend on the size of the loss (sDFA, DRTP), the factor by which you
            multiply the loss: `scaler.get_scale()` of a GradScaler, 1/k for gradients of k batches. None means 1 and
            warns once if a factor is noticed. Other rules do not need it.
    """

    labels: Tensor | None
    loss_scale: float | None
    passes: Tensor

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        attachment: Attachment,
        places: Sequence[Place],
        *,
        source: FeedbackSource,
        axis: int | None,
        floor: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.method = model, method
        self.feedback = Feedback(source, learns=method.transport.learns_feedback)
        self.constraint = WeightConstraint(model, method, floor)
        self.labels = self.loss_scale = None
        self._scale_watch = ScaleWatch(method.title)
        self._attachment = attachment
        self._model_stepped = self._feedback_stepped = self._released = False
        self._masked = self._true = False
        self._matrix = None if method.transport.exact else attachment.matrix
        self._direct = attachment.matrix is None
        self._layerwise = self._matrix is not None
        self._has_matrices = self._layerwise and method.transport.needs_feedback  # kept: torch.compile cannot ask it
        self._axis, self._seed = axis, seed
        self._wanted = [place.block for place in places]
        self._layout: Layout | None = None
        self._expected: tuple[int, ...] = ()
        self._plan = CurrentPlan()
        if attachment.drawn is not None:
            self.register_buffer("passes", torch.zeros((), dtype=torch.int64, device="cpu"))
        self._layers = layouts.fixed_places(model) if self._layerwise else []
        self._hooked = [place.module for place in places] + [layer.module for layer in self._layers]
        self._there = list(model.modules())
        self._hooks: list[RemovableHandle] = self.constraint.watch_loads()
        # Hooks of the user's own belong to their module, whether they were there before or come later.
        self._kept_last: list[tuple[Any, int]] = []
        for place in places:
            cut = Cut(place.block, self._plan)
            if place.before:
                self._hooks.append(place.module.register_forward_pre_hook(cut.before, prepend=True))
            else:
                after = place.module.register_forward_hook(cut.after)
                self._kept_last.append((place.module._forward_hooks, after.id))
                self._hooks.append(after)
        inside: dict[nn.Module, dict[str, int]] = {}
        for number, layer in enumerate(self._layers):
            if layer.composite is not None:
                inside.setdefault(layer.composite, {})[layer.matrix] = number
                continue
            fixed = FixedLayer(number, layer.geometry, self._plan)
            before = layer.module.register_forward_pre_hook(fixed.before)
            self._kept_last.append((layer.module._forward_pre_hooks, before.id))
            self._hooks += [before, layer.module.register_forward_hook(fixed.after, prepend=True)]
        self._composites = [Composite(module, numbers, self._plan) for module, numbers in inside.items()]
        layouts.forget_compiled_parts(model)
        if self._has_matrices and not self.feedback.learns:
            self.feedback.put([_wanted_matrix(number, layer) for number, layer in enumerate(self._layers)])
        _ALL.add(self)

    # -------------------------------------------------------------------------------------------------------- training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output, whose `backward()` delivers the rule's errors; without gradients, only the output."""
        if torch.compiler.is_compiling():
            if torch.compiler.is_exporting() and torch.is_grad_enabled():
                raise InvalidValue(_NO_RULE_IN.format("torch.export"))
            if self._layout is None:
                self.prepare(args, kwargs)
        else:
            self.make_ready(args, kwargs)
        if not torch.is_grad_enabled():
            return self.model(*args, **kwargs)
        labels, self.labels = self.labels, None
        current = self._learning_pass()
        output = self._passed(current, self.model, args, kwargs)
        if not torch.compiler.is_compiling():
            self._check_routed(current, output)
        output = self._tied(output, current.met, labels) if self._direct else output
        self._note_pass(output)
        return output

    @torch.compiler.disable
    def make_ready(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Do and check everything that comes before a forward pass.

        Raises:
            InvalidValue: the model was released or changed, the optimizer lacks the feedback, a transform of
                `torch.func` asks for tangents or comes before the first call, or `torch.jit.trace` runs.
        """
        if torch.jit.is_tracing() and torch.is_grad_enabled():
            raise InvalidValue(_NO_RULE_IN.format("torch.jit.trace"))
        if forward_ad._current_level >= 0:
            raise InvalidValue(
                "a learning rule says how errors come back, not how tangents go forward: take jvp, jacfwd and "
                "linearize of attached.model"
            )
        if self._layout is None and transformed():
            raise InvalidValue(
                "the model's shapes are not known yet: call it once before a transform of torch.func, or give attach "
                "an example input"
            )
        if self._released:
            raise InvalidValue("the hooks of this attached model were removed by release(): attach the model again")
        there = set(self.model.modules())
        if not there.issuperset(self._hooked):
            raise InvalidValue("a module of the model was replaced after it was attached: attach the model again")
        if not self.method.transport.exact and (added := layouts.with_matrix(there.difference(self._there))):
            raise InvalidValue(
                f"a {added} was added to the model after it was attached, so no rule reaches it: attach the model again"
            )
        for hooks, number in self._kept_last:
            hooks.move_to_end(number)
        if torch.is_grad_enabled():
            layouts.refuse_inference(self.model)
        if self.feedback.learns and self._model_stepped and not self._feedback_stepped:
            raise InvalidValue(
                f"{self.method.title} learns its feedback, but the optimizer has only the model's parameters: give it "
                f"the parameters() of what attach returned"
            )
        self.prepare(args, kwargs)
        self.project_()

    def note_step(self, stepped: Container[int]) -> None:
        """Project the weights after an optimizer's step, given the ids of the parameters that it has."""
        self._model_stepped |= any(id(parameter) in stepped for parameter in self.model.parameters())
        self._feedback_stepped |= any(id(parameter) in stepped for parameter in self.feedback.parameters())
        self._scale_watch.stepped()
        if any(id(parameter) in stepped for parameter in self.parameters()):
            self.constraint.stepped()
            self._project_feedback()

    def _note_pass(self, output: Any) -> None:
        """Count a pass that learns, and notice its backward pass."""
        if self._attachment.drawn is not None and not transformed():
            self.passes.add_(1)
        if not torch.compiler.is_compiling() and self.constraint.at_start:
            z = output_tensor(output)
            if z.requires_grad:
                z.register_hook(self.constraint.began)

    def _learning_pass(self) -> HookPlan:
        if self._direct:
            # Learned feedback reads the block's output in backward: what follows must not overwrite it.
            return HookPlan(_detached_copy if self.feedback.learns else torch.Tensor.detach, self.layout.blocks)
        return HookPlan(None, carrier=self._carrier if self._layerwise else None, drawn=self._drawn())

    def _drawn(self) -> list[Tensor] | None:
        return None if self._attachment.drawn is None else self._draw()

    @torch.compiler.disable
    def _draw(self) -> list[Tensor]:
        context = self._context(None)
        weights = [layer.weight.detach() for layer in self._layers]
        drawn = self._attachment.drawn
        assert drawn is not None
        return [drawn(number - 1, weight.unsqueeze(0), context)[0] for number, weight in enumerate(weights)]

    def _context(self, labels: Tensor | None) -> StepContext:
        labels = torch.zeros((1, 0), dtype=torch.int64, device="cpu") if labels is None else labels
        if self._attachment.drawn is None:
            return StepContext(labels, 0, (self._seed,))
        if torch._C._functorch.is_functorch_wrapped_tensor(self.passes):
            raise InvalidValue(
                f"{self.method.title} draws anew in every pass and counts passes, which vmap cannot do for several "
                f"models at once: leave the buffer passes out of what it maps"
            )
        return StepContext(labels, int(self.passes), (self._seed,))

    def _carrier(self, number: int, weight: Tensor, drawn: Sequence[Tensor] | None) -> Tensor:
        """The replacement for the weights of linear layer or convolution `number` in the backward pass."""
        assert self._matrix is not None
        if drawn is not None:
            return self._matrix(weight.detach(), drawn[number])
        if not self._has_matrices:
            return self._matrix(weight.detach(), None)
        if number not in self.feedback:
            raise InvalidValue(
                f"layer {self._layers[number].name!r} has no feedback, because its input needed no error when the "
                f"model was attached: detach the model's input"
            )
        return self._matrix(weight.detach(), self.feedback[number])

    def _passed(self, current: HookPlan, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One forward pass with active hooks."""
        if self._plan.current is not None:
            raise InvalidValue(
                "the model is in another forward pass, from another thread or from inside itself: call it from one "
                "thread at a time, and train on several devices with DistributedDataParallel"
            )
        self._plan.current = current
        if current.carrier is not None:
            self._plan.last = HookPlan(None, None, current.carrier, current.drawn, current.true)
        try:
            return call(*args, **kwargs)
        finally:
            self._plan.current = None

    def _check_routed(self, current: HookPlan, output: Any) -> None:
        """Refuse a pass in which a block or layer learned without its hooks, and so by backpropagation.

        The graph is searched only if a hook did not run that ran in the trial pass: then the module was skipped, which
        is fine, or it ran in a way that keeps hooks from running.
        """
        suspects: dict[str, list[Tensor]] = {}
        if self._layerwise:
            for number in set(self._expected).difference(current.ran):
                suspects[self._layers[number].name] = list(self._layers[number].module.parameters())
        elif self._direct and current.met:
            met = {item.block for item in current.met}
            segments = self.layout.segments
            for block, names in zip(self.layout.blocks, segments, strict=False):
                if block not in met:
                    shared = {name for other in segments if other is not names for name in other}
                    suspects[block] = [self.model.get_parameter(name) for name in names if name not in shared]
        if not suspects:
            return
        ends = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        learning = layouts.reached([*ends, *(item.output for item in current.met)])
        for name, parameters in suspects.items():
            if any(id(parameter) in learning for parameter in parameters):
                raise InvalidValue(
                    f"{name!r} ran without the hooks of attach, so it would learn by backpropagation: call modules as "
                    f"module(x), and call torch.compiler.reset() if compiled code used them before attach"
                )

    def _tied(self, output: Any, met: Sequence[BlockOutput], labels: Tensor | None, *, measured: bool = False) -> Any:
        """The model's output with the signal for every block tied to it."""
        blocks = self.layout.blocks
        if blocks and not met:
            raise InvalidValue(
                "no block ran in this forward pass, so nothing would be cut: call the model the way it was first called"
            )
        z = tied = output_tensor(output)
        sent = self._sent(z, labels) if blocks else None
        if measured:
            sent = functools.partial(self._sent_unless_true, sent)
        elif sent is not None and self._attachment.ignores_size:
            sent = functools.partial(self._scaled, sent)
        for item in met:
            if item.output.requires_grad:
                number = blocks.index(item.block)
                self._check_shape(item, number)
                tied = DirectError.apply(tied, item.output, self.feedback[number], self._axis, sent)
        return with_output(output, z, tied)

    def _sent(self, z: Tensor, labels: Tensor | None) -> Sent | None:
        """The signal of this pass, from the output error; None if it is the error itself."""
        if self._attachment.sent is None:
            return None
        wide = z.unsqueeze(1) if z.dim() == 1 else z
        axis = -1 if self._axis is None or z.dim() == 1 else self._axis
        context = self._context(labels_of(wide, axis, labels, self.method) if self._attachment.labels else None)
        return functools.partial(signal, self._attachment.sent, context, axis, self._masks)

    def _scaled(self, sent: Sent, error: Tensor) -> Tensor | None:
        """The signal, with the factor of the loss that the rule itself ignores."""
        if self.loss_scale is None and not torch.compiler.is_compiling() and not transformed():
            hidden = [self.model.get_parameter(name) for names in self.layout.segments[:-1] for name in names]
            self._scale_watch.look(error, hidden)
        made = sent(error)
        return made if made is None or self.loss_scale is None else made * self.loss_scale

    def _sent_unless_true(self, sent: Sent | None, error: Tensor) -> Tensor | None:
        if self._true:
            return None
        return error if sent is None else sent(error)

    def _masks(self) -> bool:
        return self._masked

    def _delivers_true(self) -> bool:
        return self._true

    @contextmanager
    def delivering(self, *, true: bool, one_by_one: bool = False) -> Iterator[None]:
        """Backward passes of a recorded pass (see `record`).

        Args:
            true: whether BP delivers the errors instead of the rule.
            one_by_one: examples without an error get no signal, whatever the rule sends (DRTP: labels).
        """
        self._true, self._masked = true, one_by_one
        try:
            yield
        finally:
            self._true = self._masked = False

    def _check_shape(self, item: BlockOutput, number: int) -> None:
        units = tuple(item.output.shape[1:]) if self._axis is None else (item.output.shape[self._axis],)
        expected = tuple(self.feedback[number].shape[1:])
        if units != expected:
            raise GeometryError(
                f"block {item.block!r} gives {units} units an example, but its feedback was made for {expected}: keep "
                f"sizes as they are, or let positions share feedback with axis=-1 (sequences) or axis=1 (images)"
            )

    # ------------------------------------------------------------------------------------------- what the model is like

    @torch.compiler.disable
    def prepare(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Find the model's shapes with one trial pass that changes nothing; create feedback and constrain weights.

        Raises:
            InvalidValue: the blocks do not separate the model, or their outputs cannot receive an error.
        """
        if self._layout is not None:
            return
        layouts.refuse_sharded(self.model, "attach the model with an example input first, and shard it afterwards")
        current, whole = HookPlan(torch.Tensor.detach), HookPlan(None)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            layouts.everything_learns(self.model),
        ):
            # Tensors made in inference mode cannot be part of a graph; copies can.
            args, kwargs = pytree.tree_map(
                lambda x: x.detach().clone() if isinstance(x, Tensor) else x, (tuple(args), kwargs)
            )
            with layouts.recorded_above(self.model, current.met) as above:
                output = output_tensor(self._untouched(current, args, kwargs))
            found = layouts.layout(self.model, self._wanted, current.met, output, above)
            if self._layerwise and self.feedback.learns:
                self._untouched(whole, args, kwargs)  # without cuts, to see which layers send an error down
        if self._layerwise:
            ends = [output, *(item.output for item in current.met)]
            layouts.refuse_unseen(self.model, found, self._layers, current.ran, ends)
            self._expected = tuple(dict.fromkeys(current.ran))
            if self._has_matrices and self.feedback.learns:
                self.feedback.put([_wanted_matrix(n, self._layers[n]) for n in sorted(set(whole.fed))])
        if self._direct:
            like = next(p.detach() for p in self.model.parameters() if p.is_floating_point())
            shapes = layouts.feedback_shapes(found, self._axis)
            self.feedback.put(
                [Wanted(n, block, shapes[n], like, n) for n, block in enumerate(found.blocks)],
            )
        self._settle(found, self._expected)
        for twin in _COPIES.pop(self, ()):
            twin._prepare_like(self)

    def _settle(self, found: Layout, expected: tuple[int, ...]) -> None:
        self.constraint.cover(found.segments)
        self._layout, self._expected = found, expected
        self.project_()

    def _prepare_like(self, original: Attached) -> None:
        """Take over the shapes that the original found after this copy was made, unless the copy became another model.

        Without this, averaged weights (SWA, EMA) would be averages with a start that knows no constraint.
        """
        shapes, theirs = ({n: p.shape for n, p in each.model.named_parameters()} for each in (self, original))
        if self._layout is None and shapes == theirs and not len(self.feedback):
            wanted = original.feedback.wanted
            if wanted is not None:
                self.feedback.put(wanted)
            self._settle(original.layout, original._expected)

    def _untouched(self, current: HookPlan, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """A forward pass on copies of the buffers and of the random generators' states."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        devices = {p.device.index for p in self.model.parameters() if p.device.type == "cuda"}

        def call(*args: Any, **kwargs: Any) -> Any:
            return torch.func.functional_call(self.model, buffers, args, kwargs)

        # Parts compiled by the user run as they are written: this pass is not worth a compilation.
        with torch.random.fork_rng(devices=devices), torch.compiler.set_stance("force_eager"):
            return self._passed(current, call, args, kwargs)

    @property
    def layout(self) -> Layout:
        """The hidden blocks, and which parameters lie between them.

        Raises:
            InvalidValue: the model was not called yet.
        """
        if self._layout is None:
            raise InvalidValue("the model's shapes are not known yet: call it once, or give attach an example input")
        return self._layout

    @property
    def guarantee(self) -> Guarantee:
        """Whether every defined unit error signal at the blocks' outputs has its true sign by Theorem 2, and why."""
        self.constraint.check_present()
        return guarantee(self.model, self.method, self.layout)

    @property
    def reads_labels(self) -> bool:
        """Whether the rule needs `labels` before every forward pass that learns."""
        return self._attachment.labels

    def record(
        self, args: Sequence[Any], kwargs: dict[str, Any], *, labels: Tensor | None = None
    ) -> tuple[Any, tuple[BlockOutput, ...]]:
        """The output of a forward pass that changes nothing, and every hidden block's output in its graph.

        The rule delivers the errors of its backward passes, and BP those inside `delivering(true=True)`.

        Args:
            args: of the model.
            kwargs: of the model.
            labels: as in `Attached.labels`.
        """
        carrier = self._carrier if self._layerwise else None
        current = HookPlan(
            self._gated if self._direct else torch.Tensor.clone,  # a copy, because what follows may overwrite it
            *(self.layout.blocks, carrier, self._drawn(), self._delivers_true),
        )
        with torch.enable_grad():
            output = self._untouched(current, args, kwargs)
            if self._direct:
                output = self._tied(output, current.met, labels, measured=True)
        return output, tuple(current.met)

    def _gated(self, tensor: Tensor) -> Tensor:
        return Gate.apply(tensor, self._delivers_true) if tensor.requires_grad else tensor.clone()

    # ------------------------------------------------------------------------------------------------------ constraint

    def project_(self) -> None:
        """Hold constrained weights (and constrained feedback that learns) at or above the floor, in place.

        It runs before every forward pass and after every step of a `torch.optim` optimizer that has parameters of this
        model. In a model that `torch.compile` compiled as a whole, it runs after such steps and after `load_state_dict`
        only: call it after other writes.
        """
        self.constraint.hold()
        self._project_feedback()

    def _project_feedback(self) -> None:
        if self.feedback.learns and self.method.constraint.feedback:
            for b in self.feedback:
                b.data.clamp_(min=self.constraint.floor)

    # ------------------------------------------------------------------------------------------------- around the model

    def release(self) -> nn.Module:
        """Remove the hooks from the model and return it; its weights stay as they are."""
        for hook in self._hooks:
            hook.remove()
        for composite in self._composites:
            composite.release()
        self._released = True
        _ALL.discard(self)
        return self.model

    def extra_repr(self) -> str:
        return f"method={self.method.title}, blocks={list(self._layout.blocks) if self._layout else self._wanted}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self._released:
            _ALL.add(self)  # a copy is constrained, too

    def __deepcopy__(self, memo: dict[int, Any]) -> Attached:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__dict__, memo))
        if self._layout is None:
            _COPIES.setdefault(self, weakref.WeakSet()).add(twin)
        return twin

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Attached:
        super()._apply(fn, recurse)
        if empties(fn):
            self.constraint.restart()
        return self

    def _replicate_for_data_parallel(self) -> nn.Module:
        raise InvalidValue(
            "DataParallel runs copies of one model in several threads, which share its hooks: use "
            "DistributedDataParallel"
        )


def _wanted_matrix(number: int, layer: FixedPlace) -> Wanted:
    """The feedback of one layer. Its draw has the number below, because layer n sends it down to layer n − 1.

    So a plain network has a `Run`'s numbers.
    """
    weight = layer.weight.detach()
    own = None if layer.geometry is not None and layer.geometry.transposed else math.prod(weight.shape[1:])
    shape = FeedbackShape(tuple(weight.shape), weight_fan_in(weight, layer.geometry), own)
    return Wanted(number, layer.name, shape, weight, number - 1)


_NO_RULE_IN = "{} records no rule: give it attached.model, or run it under torch.no_grad()"

_ALL: weakref.WeakSet[Attached] = weakref.WeakSet()
_COPIES: weakref.WeakKeyDictionary[Attached, weakref.WeakSet[Attached]] = weakref.WeakKeyDictionary()
"""Copies of models whose shapes were not known yet, by their original."""


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    stepped = stepped_parameters(optimizer)
    for attached in tuple(_ALL):
        attached.note_step(stepped)


register_optimizer_step_post_hook(_after_step)


def _detached_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def as_call(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with input x: a tuple has several inputs, a dictionary inputs by name."""
    if isinstance(x, dict):
        return (), x
    return (tuple(x) if isinstance(x, (tuple, list)) else (x,)), {}
