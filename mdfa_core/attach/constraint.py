"""The constraint of a rule on a user's weights (Definition 1): their start, and the clipping of later writes."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from mdfa_core.attach.delivery import transformed
from mdfa_core.attach.layout import Weighted
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import Method


class WeightConstraint:
    """Holds the weights of linear layers and convolutions in constrained blocks at or above a floor.

    The rule for every write:

    - A *start* becomes its absolute value, the paper's non-negative variant of a symmetric draw (section 4). A start is
      any value that a weight has before the first backward pass after `attach`, that `load_state_dict` writes, or that
      a frozen weight has when it is unfrozen.
    - Every later write is clipped to ≥ floor: after a step of a `torch.optim` optimizer, and before a forward pass.
    - Weights that are frozen (`requires_grad=False`) never change.

    So a model starts from the same weights with and without `example=`, and whatever came first: an evaluation, a
    restored or pretrained state, a sanity check, an averaged copy. Values ≥ floor are not changed by either operation.

    Args:
        model: the user's model.
        method: the rule.
        floor: the lower bound.
    """

    def __init__(self, model: nn.Module, method: Method, floor: float) -> None:
        self._model, self._method, self.floor = model, method, floor
        self._names: tuple[str, ...] = ()
        self._trained: set[str] = set()  # weights whose value is no start any more

    def watch_loads(self) -> list[RemovableHandle]:
        """Hooks that notice `load_state_dict` of the model or of any part of it."""
        if self._method.constraint.first_layer is None:
            return []
        return [
            module.register_load_state_dict_post_hook(self.loaded)
            for module in self._model.modules()
            if isinstance(module, Weighted)
        ]

    def cover(self, segments: Sequence[Sequence[str]]) -> None:
        """Say which parameters lie in which block, and hold those that the rule constrains.

        Raises:
            InvalidValue: a constrained layer computes its weights from other parameters.
        """
        covered = {
            id(self._model.get_parameter(name))  # not the name: tied weights have several
            for number, names in enumerate(segments)
            if self._method.constraint.covers(number)
            for name in names
        }
        held = []
        for name, module in self._model.named_modules() if covered else ():
            if isinstance(module, Weighted) and not covered.isdisjoint(map(id, module.parameters())):
                if parametrize.is_parametrized(module, "weight") or not isinstance(module.weight, nn.Parameter):
                    raise InvalidValue(
                        f"{name!r} ({type(module).__name__}) computes its weights from others, but "
                        f"{self._method.title} holds them to ≥ 0: take the parametrization away "
                        f"(torch.nn.utils.parametrize)"
                    )
                held.append(f"{name}.weight".removeprefix("."))
        self._names = tuple(held)
        self.hold()

    def hold(self) -> None:
        """Take absolute values of starts, and clip to ≥ floor, in place.

        Raises:
            InvalidValue: a weight is gone, or a weight from `torch.func.functional_call` is below 0, or a transform of
                `torch.func` is active before the weights were held.
        """
        if transformed():
            self._check_in_transform()
            return
        for name, weight in self._learning():
            # Through .data, because autograd would reject the backward passes of earlier forward passes. A weight that
            # satisfies the constraint does not change here.
            if name not in self._trained:
                weight.data.abs_()
            weight.data.clamp_(min=self.floor)

    def began(self, gradient: Tensor | None = None) -> None:
        """Training has begun: what the weights have now is no start any more."""
        self._trained.update(name for name, _ in self._learning())

    @property
    def at_start(self) -> bool:
        """Whether a weight still has its start."""
        return any(name not in self._trained for name, _ in self._learning())

    def stepped(self) -> None:
        """An optimizer made a step: clip the weights that have a gradient."""
        self._trained.update(name for name, weight in self._learning() if weight.grad is not None)
        self.hold()

    def loaded(self, module: nn.Module, keys: Any) -> None:
        """A state was loaded into a layer of the model: its values are a start."""
        for name in self._names:
            if self._model.get_submodule(name.rpartition(".")[0]) is module:
                self._trained.discard(name)
        self.hold()

    def restart(self) -> None:
        """All values are gone (`to_empty`): the next ones are a start."""
        self._trained.clear()

    def check_present(self) -> None:
        """Refuse a model whose constrained weights are gone.

        Raises:
            InvalidValue: a weight is gone.
        """
        for _ in self._learning():
            pass

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The constrained weights that are not frozen."""
        for name in self._names:
            owner, _, attribute = name.rpartition(".")
            try:
                weight = self._model.get_submodule(owner)._parameters.get(attribute)
            except AttributeError:
                weight = None
            if weight is None:
                raise InvalidValue(
                    f"weights that {self._method.title} holds to ≥ 0 are not in the model any more: attach it again "
                    f"after a module was replaced, pruned or reparametrized"
                )
            if not isinstance(weight, nn.Parameter):
                self._refuse_negative(name, weight)
            elif weight.requires_grad:
                yield name, weight

    def _check_in_transform(self) -> None:
        """A transform of `torch.func` forbids writes, so the weights have to satisfy the constraint already."""
        for name, weight in self._learning():
            if bool((weight.detach() < 0).any()):
                raise InvalidValue(
                    f"{name!r} has numbers below 0, which cannot be clipped inside a transform of torch.func: call "
                    f"project_() before it"
                )

    def _refuse_negative(self, name: str, weight: Tensor) -> None:
        """Weights from `functional_call` belong to the caller: `attach` may check them, not change them."""
        while torch._C._functorch.is_functorch_wrapped_tensor(weight):
            weight = torch._C._functorch.get_unwrapped(weight)  # a batched tensor has no truth value
        if bool((weight.detach() < 0).any()):
            raise InvalidValue(
                f"functional_call gives {name!r} numbers below 0, but {self._method.title} needs them ≥ 0: give their "
                f"absolute values"
            )


def stepped_parameters(optimizer: Optimizer) -> Container[int]:
    """The ids of all parameters of an optimizer."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
