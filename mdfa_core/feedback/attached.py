"""`attach`: a user's own model, trained with the user's own loop, by any rule of `METHODS`."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from mdfa_core import initializers
from mdfa_core.errors import GeometryError, InvalidValue
from mdfa_core.feedback import layout as layouts
from mdfa_core.feedback.layout import Layout, Weighted
from mdfa_core.feedback.premises import guarantee
from mdfa_core.feedback.routing import (
    Cut,
    DirectError,
    FixedLayer,
    Met,
    Pass,
    Switch,
    output_tensor,
    weight_fan_in,
    with_output,
)
from mdfa_core.initializers import Initializer, Zeros
from mdfa_core.methods import METHODS, Chain, Direct, FeedbackShape, Guarantee, Method
from mdfa_core.neighbours import SignSymmetric
from mdfa_core.rng import torch_generator
from mdfa_core.transports import LayerByLayer, Transport


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
) -> Attached:
    """Let a model learn by a rule of `METHODS`; the loop, the optimizer and the loss stay as they are.

    With a direct rule (DFA, mDFA) the graph is cut after every hidden block, and the block's output h_l receives
    ε_l = e B_l, e = ∂L/∂z being the error at the model's output (equation 6); inside a block autograd works as always.
    With FA every linear layer and convolution sends δ B instead of δ W to its input, with uSF and frSF δ V, where V
    has the signs of W. With BP nothing is changed.

    Args:
        model: any module whose first output tensor is [examples, outputs], or [examples] for one output.
        method: a name in `METHODS`, or a `Method` whose transport is `Direct`, `Chain` or a `SignSymmetric` whose sizes
            stay.
        blocks: the modules (or their names) after which a direct rule cuts. A Sequential needs none: every child with
            weights starts a block, and children without go to the block before them.
        feedback_init: `normal:STD` or `uniform:SCALE`, see `initializers.parse`.
        convention: what `uniform` means, see `initializers.CONVENTIONS`.
        axis: None: every unit of a block has feedback of its own, as in the paper. Else the axis on which units (and
            outputs) lie, -1 in sequences [examples, positions, units], 1 in images: positions share feedback, their
            number may change, and errors of outputs with the same positions stay where they are.
        seed: of the feedback; the same numbers as an `Experiment` of that seed draws for a net of the same shape.
        floor: lower bound of weights the method holds to ≥ 0.
        example: an input (a tuple: several; a dictionary: by name) to find the shapes with; else the first one met.

    Raises:
        InvalidValue: something cannot be attached, or the floor is no finite number of at least 0.
        UnknownName: no such method, initialiser or convention.

    Source: Lechner (ICLR 2020), equations 2 to 6 and Definition 1; Nøkland (2016); Lillicrap et al. (2016).
    """
    rule = METHODS[method] if isinstance(method, str) else method
    if not _attachable(rule.transport):
        raise InvalidValue(
            f"{rule.title} brings errors to layers in a way of its own, which cannot be attached: choose a method "
            f"whose transport is Direct or Chain, such as dfa or fa, or usf or frsf"
        )
    if isinstance(model, Attached):
        raise InvalidValue("this model is attached already: attach model.model, the net inside it")
    if not (math.isfinite(floor) and floor >= 0):
        raise InvalidValue(f"the floor of the weights is {floor!r}: give a finite number of at least 0")
    layouts.refuse_lazy(model)
    initializer = initializers.parse(feedback_init)
    if isinstance(initializer, Zeros):
        raise InvalidValue("feedback weights of zeros would deliver no error to any block: use normal:1 or uniform:1")
    attached = Attached(
        model,
        rule,
        layouts.places(model, blocks),
        draw=Draw(initializer, initializers.convention_named(convention), rule.constraint.feedback, seed),
        axis=axis,
        floor=floor,
    )
    if example is not None:
        attached.prepare(*as_call(example))
    return attached


def _attachable(transport: Transport) -> bool:
    """Whether all it needs is the output's error or a layer's, and matrices that a forward pass knows."""
    if isinstance(transport, SignSymmetric):
        return type(transport) is SignSymmetric and transport.magnitudes != "batch"
    return type(transport) in (Direct, Chain)


class Draw:
    """How feedback is drawn."""

    def __init__(self, initializer: Initializer, convention: str, nonnegative: bool, seed: int) -> None:
        self.initializer, self.convention = initializer, convention
        self.nonnegative, self.seed = nonnegative, seed

    def __call__(self, shape: FeedbackShape, number: int, like: Tensor) -> Tensor:
        """Feedback number `number` (from 0), with the type and on the device of `like`."""
        drawn = self.initializer.draw(
            shape.shape,
            shape.fan_in,
            torch_generator(self.seed, "feedback weights", number),
            nonnegative=self.nonnegative,
            convention=self.convention,
            dtype=like.dtype,
        )
        return drawn.to(like.device)


class Feedback(nn.Module):
    """Fixed feedback as numbered buffers: moved, copied and saved with the model, never learned.

    Args:
        nonnegative: whether the rule needs numbers ≥ 0; others are not loaded then.
    """

    def __init__(self, *, nonnegative: bool) -> None:
        super().__init__()
        self._nonnegative = nonnegative
        self._whole = False

    def put(self, made: Sequence[tuple[FeedbackShape, Tensor, Callable[[], Tensor]]]) -> None:
        """Make all buffers but those that were loaded already: shape, a tensor like it, and what draws it.

        Raises:
            GeometryError: what was loaded has other shapes.
        """
        loaded = {name: tuple(tensor.shape) for name, tensor in self._buffers.items() if tensor is not None}
        for number, (shape, like, draw) in enumerate(made):
            name = str(number)
            self.register_buffer(name, self[number].to(like) if name in loaded else draw())
            if self[number].shape != torch.Size(shape.shape):
                raise GeometryError(
                    f"feedback {name} was loaded with the shape {loaded[name]}, but the model needs {shape.shape}: "
                    f"{_LOAD_THE_SAME}"
                )
        if len(self) != len(made):
            raise GeometryError(f"{len(self)} feedbacks were loaded, but the model needs {len(made)}: {_LOAD_THE_SAME}")
        self._whole = True

    def __getitem__(self, number: int) -> Tensor:
        tensor = self._buffers[str(number)]
        assert tensor is not None
        return tensor

    def __len__(self) -> int:
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in range(len(self)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, tensor in state_dict.items():
            name = key.removeprefix(prefix)
            if not key.startswith(prefix) or not name.isdigit():
                continue
            if self._nonnegative and bool((tensor < 0).any()):
                raise InvalidValue(
                    f"feedback {name} has numbers below 0, and the rule needs them ≥ 0: {_LOAD_THE_SAME}"
                )
            if name not in self._buffers and not self._whole:
                self.register_buffer(name, torch.empty_like(tensor))
        super()._load_from_state_dict(state_dict, prefix, *rest)


_LOAD_THE_SAME = "load what was saved from this model with the same blocks, axis and method"


class Attached(nn.Module):
    """A model under a learning rule: call it in the model's place; made by `attach`.

    Attributes:
        model: the user's model, whose parameters these are; called directly it is as it was before.
        method: the rule.
        feedback: B_1, B_2, … as buffers; empty before the shapes are known.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        places: Sequence[layouts.Place],
        *,
        draw: Draw,
        axis: int | None,
        floor: float,
    ) -> None:
        super().__init__()
        self.model, self.method = model, method
        self.feedback = Feedback(nonnegative=method.constraint.feedback)
        self._draw, self._axis, self._floor = draw, axis, floor
        self._wanted = [place.block for place in places]
        self._layout: Layout | None = None
        self._held: tuple[str, ...] = ()
        self._versions: tuple[int, ...] = ()
        self._switch = Switch()
        self._hooks: list[RemovableHandle] = []
        self._hooked: list[nn.Module] = [place.module for place in places]
        for place in places:
            cut = Cut(place.block, self._switch)
            if place.before:
                self._hooks.append(place.module.register_forward_pre_hook(cut.before))
            else:
                self._hooks.append(place.module.register_forward_hook(cut.after))
        made = []
        for number, layer in enumerate(layouts.fixed_places(model) if self._layerwise else ()):
            weight = layer.weight.detach()
            shape = FeedbackShape(tuple(weight.shape), weight_fan_in(weight, layer.geometry))
            # Number n − 1, because layer n sends it down to layer n − 1: so a plain net has the engine's numbers.
            made.append((shape, weight, functools.partial(draw, shape, number - 1, weight)))
            fixed = FixedLayer(number, layer.geometry, self._switch)
            self._hooks.append(layer.module.register_forward_pre_hook(fixed.before))
            self._hooks.append(layer.module.register_forward_hook(fixed.after))
            self._hooked.append(layer.module)
        if self._layerwise and method.transport.needs_feedback:
            self.feedback.put(made)
        _ALL.add(self)

    # -------------------------------------------------------------------------------------------------------- training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output, from which `loss.backward()` goes the rule's ways; without gradients, just the output."""
        if self._layout is None:
            self.prepare(args, kwargs)
        if not torch.compiler.is_compiling():
            self._check_modules()
            if self._written():
                self.project_()
        if not torch.is_grad_enabled():
            return self.model(*args, **kwargs)
        current = self._learning_pass()
        output = self._passed(current, self.model, args, kwargs)
        return self._tied(output, current.met) if self._direct else output

    def _check_modules(self) -> None:
        """Refuse to go on without a hook that went away with its module."""
        there = set(map(id, self.model.modules()))
        if any(id(module) not in there for module in self._hooked):
            raise InvalidValue("a module of the model was replaced after it was attached: attach the model again")

    def _learning_pass(self) -> Pass:
        if self._direct:
            return Pass(torch.Tensor.detach, self.layout.blocks)
        return Pass(None, carrier=self._carrier if self._layerwise else None)

    def _carrier(self, number: int, weight: Tensor) -> Tensor:
        """What stands where BP has the weights of linear layer or convolution `number`."""
        own = self.feedback[number] if self.method.transport.needs_feedback else None
        if isinstance(self.method.transport, SignSymmetric):
            return self.method.transport.matrix(weight.detach(), own)
        assert own is not None
        return own

    def _passed(self, current: Pass, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One forward pass under the hooks."""
        if self._switch.current is not None:
            raise InvalidValue(
                "the model is in another forward pass, from another thread or from inside itself: call it from one "
                "thread at a time, and train on several devices with DistributedDataParallel"
            )
        self._switch.current = current
        try:
            return call(*args, **kwargs)
        finally:
            self._switch.current = None

    def _tied(self, output: Any, met: Sequence[Met]) -> Any:
        """The model's output with e B_l tied to it for every block."""
        blocks = self.layout.blocks
        if blocks and not met:
            raise InvalidValue(
                "no block ran in this forward pass, so nothing would be cut: call the model the way it was first called"
            )
        z = tied = output_tensor(output)
        for item in met:
            if item.output.requires_grad:
                number = blocks.index(item.block)
                self._check_shape(item, number)
                tied = DirectError.apply(tied, item.output, self.feedback[number], self._axis)
        return with_output(output, z, tied)

    def _check_shape(self, item: Met, number: int) -> None:
        units = tuple(item.output.shape[1:]) if self._axis is None else (item.output.shape[self._axis],)
        expected = tuple(self.feedback[number].shape[1:])
        if units != expected:
            raise GeometryError(
                f"block {item.block!r} gives {units} units an example, but its feedback was made for {expected}: keep "
                f"sizes as they are, or let positions share feedback with axis=-1 (sequences) or axis=1 (images)"
            )

    @property
    def _direct(self) -> bool:
        return isinstance(self.method.transport, Direct)

    @property
    def _layerwise(self) -> bool:
        return isinstance(self.method.transport, LayerByLayer) and not self.method.transport.exact

    # ------------------------------------------------------------------------------------------- what the model is like

    @torch.compiler.disable
    def prepare(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Find out the model's shapes by a trial pass that changes nothing, once; make feedback, constrain weights.

        Raises:
            InvalidValue: the blocks do not part the model, or their outputs cannot receive an error.
        """
        if self._layout is not None:
            return
        current = Pass(torch.Tensor.detach)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            layouts.everything_learns(self.model),
            layouts.recorded_above(self.model, current.met) as above,
        ):
            # Tensors made in inference mode cannot be part of a graph; copies can.
            args, kwargs = pytree.tree_map(
                lambda x: x.detach().clone() if isinstance(x, Tensor) else x, (tuple(args), kwargs)
            )
            output = output_tensor(self._untouched(current, args, kwargs))
            found = layouts.layout(self.model, self._wanted, current.met, output, above)
        if self._layerwise:
            layouts.refuse_unseen(self.model, found, current.seen)
        if self._direct:
            like = next(p.detach() for p in self.model.parameters() if p.is_floating_point())
            shapes = layouts.feedback_shapes(found, self._axis)
            draws = [functools.partial(self._draw, shape, number, like) for number, shape in enumerate(shapes)]
            self.feedback.put([(shape, like, draw) for shape, draw in zip(shapes, draws, strict=True)])
        self._held = self._constrained(found)
        for weight in self._held_weights():
            weight.detach().abs_()  # the paper's non-negative variant of a normal or uniform start (section 4)
        self._layout = found
        self.project_()

    def _untouched(self, current: Pass, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
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
        """Whether Theorem 2 promises every defined unit error signal at the blocks' outputs its sign, and why."""
        self._held_weights()  # says so if they are not there any more
        return guarantee(self.model, self.method, self.layout)

    def record(self, args: Sequence[Any], kwargs: dict[str, Any], *, true: bool) -> tuple[Any, tuple[Met, ...]]:
        """The output of a forward pass that changes nothing, and every hidden block's output in its graph.

        Args:
            args: of the model.
            kwargs: of the model.
            true: whether errors are to take BP's ways instead of the rule's.
        """
        if self._direct and not true:
            current = self._learning_pass()
        else:
            # A copy goes on, because what follows may overwrite what it gets.
            carrier = self._carrier if self._layerwise and not true else None
            current = Pass(torch.Tensor.clone, self.layout.blocks, carrier)
        with torch.enable_grad():
            output = self._untouched(current, args, kwargs)
            if self._direct and not true:
                output = self._tied(output, current.met)
        return output, tuple(current.met)

    # ------------------------------------------------------------------------------------------------------ constraint

    def project_(self) -> None:
        """Hold constrained weights to ≥ floor, in place.

        Done after every step of a `torch.optim` optimizer that has parameters of this model, and before a forward pass
        for weights that something else has written to (through `.data` it cannot be seen: then call this).
        """
        weights = self._held_weights()
        for weight in weights:
            # Past autograd, which would take the graphs of forward passes that wait for backward for spoilt: nothing
            # changes in a weight that nobody wrote to.
            weight.data.clamp_(min=self._floor)
        self._versions = tuple(weight._version for weight in weights)

    def _written(self) -> bool:
        return tuple(weight._version for weight in self._held_weights()) != self._versions

    def _held_weights(self) -> list[Tensor]:
        try:
            weights = [self.model.get_parameter(name) for name in self._held]
        except AttributeError:
            raise InvalidValue(
                f"weights that {self.method.title} holds to ≥ 0 are not in the model any more: attach it again after "
                f"a module was replaced, pruned or reparametrized"
            ) from None
        return [weight for weight in weights if weight.requires_grad]

    def _constrained(self, found: Layout) -> tuple[str, ...]:
        """Names of the weights of linear layers and convolutions in the blocks the constraint covers."""
        covers = self.method.constraint.covers
        covered = {
            id(self.model.get_parameter(name))  # not the name: tied weights have several
            for number, names in enumerate(found.segments)
            if covers(number)
            for name in names
        }
        held = []
        for name, module in self.model.named_modules():
            if isinstance(module, Weighted):
                if covered.isdisjoint(map(id, module.parameters())):
                    continue
                if parametrize.is_parametrized(module, "weight") or not isinstance(module.weight, nn.Parameter):
                    raise InvalidValue(
                        f"{name!r} ({type(module).__name__}) computes its weights from others, but {self.method.title} "
                        f"holds them to ≥ 0: take the parametrization away (torch.nn.utils.parametrize)"
                    )
                held.append(f"{name}.weight".removeprefix("."))
        return tuple(held)

    # ------------------------------------------------------------------------------------------------- around the model

    def release(self) -> nn.Module:
        """Take the hooks out of the model again and return it; its weights stay as they are."""
        for hook in self._hooks:
            hook.remove()
        _ALL.discard(self)
        return self.model

    def extra_repr(self) -> str:
        return f"method={self.method.title}, blocks={list(self._layout.blocks) if self._layout else self._wanted}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _ALL.add(self)  # a copy's weights are held, too

    def _replicate_for_data_parallel(self) -> nn.Module:
        raise InvalidValue(
            "DataParallel runs copies of one model in several threads, which share its hooks: use "
            "DistributedDataParallel"
        )


_ALL: weakref.WeakSet[Attached] = weakref.WeakSet()


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for attached in tuple(_ALL):
        if any(id(parameter) in stepped for parameter in attached.model.parameters()):
            attached.project_()


register_optimizer_step_post_hook(_after_step)


def as_call(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An input as a model is called with it: a tuple is several inputs, a dictionary inputs by name."""
    if isinstance(x, dict):
        return (), x
    return (tuple(x) if isinstance(x, (tuple, list)) else (x,)), {}
