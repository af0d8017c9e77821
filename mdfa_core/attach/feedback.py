"""The feedback of an attached model: drawn from a seed or given by the user, and saved with the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mdfa_core.base.devices import cpu_by_default
from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.base.rng import torch_generator
from mdfa_core.nets.initializers import Initializer
from mdfa_core.rules import FeedbackShape

Given = Mapping[str, Any] | Sequence[Any]
"""Feedback from the user: a sequence with one matrix for each block or layer, or a mapping from names."""


@dataclass(frozen=True)
class Wanted:
    """One feedback tensor that a model needs.

    Attributes:
        number: of the feedback, from 0; `feedback.NUMBER` is its key in a state.
        owner: the name of the block (direct rules) or of the layer (other rules).
        shape: its shape and how many errors each unit receives.
        like: a tensor of the same type on the same device.
        draw_number: the number in `torch_generator(seed, "feedback weights", draw_number)`.
    """

    number: int
    owner: str
    shape: FeedbackShape
    like: Tensor
    draw_number: int


class FeedbackSource:
    """Draws feedback from a seed, unless the user gave it.

    Args:
        initializer: the distribution.
        convention: what `uniform` means.
        nonnegative: whether the rule needs numbers ≥ 0.
        seed: of the feedback.
        given: see `attach`.
    """

    def __init__(
        self, initializer: Initializer, convention: str, *, nonnegative: bool, seed: int, given: Given | None
    ) -> None:
        self._initializer, self._convention = initializer, convention
        self.nonnegative, self._seed, self._given = nonnegative, seed, given

    def check_owners(self, owners: Sequence[str]) -> None:
        """Refuse given feedback that belongs to no block or layer.

        Raises:
            InvalidValue: a name is unknown, or the sequence has another length.
        """
        if isinstance(self._given, Mapping):
            for name in self._given:
                if name not in owners:
                    raise InvalidValue(f"feedback is given for {name!r}: give it for {', '.join(map(repr, owners))}")
        elif self._given is not None and len(self._given) != len(owners):
            raise InvalidValue(
                f"{len(self._given)} feedback matrices are given: give {len(owners)}, for "
                f"{', '.join(map(repr, owners))}"
            )

    @cpu_by_default
    def make(self, wanted: Wanted, index: int) -> Tensor:
        """The feedback of one block or layer; `index` is its place in a given sequence.

        Raises:
            GeometryError: the given matrix has another shape.
            InvalidValue: it has numbers below 0 that the rule forbids, or numbers that are not finite.
        """
        given = self._given.get(wanted.owner) if isinstance(self._given, Mapping) else None
        if self._given is not None and not isinstance(self._given, Mapping):
            given = self._given[index]
        if given is None:
            return self._initializer.draw(
                wanted.shape.shape,
                wanted.shape.fan_in_by(self._convention),
                torch_generator(self._seed, "feedback weights", wanted.draw_number),
                nonnegative=self.nonnegative,
                convention=self._convention,
                dtype=wanted.like.dtype,
            ).to(wanted.like.device)
        tensor = torch.as_tensor(given).detach()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        if tuple(tensor.shape) != wanted.shape.shape:
            raise GeometryError(
                f"the feedback given for {wanted.owner!r} has the shape {tuple(tensor.shape)}: give "
                f"{wanted.shape.shape}"
            )
        if not bool(tensor.isfinite().all()) or (self.nonnegative and bool((tensor < 0).any())):
            bound = " of at least 0" if self.nonnegative else ""
            raise InvalidValue(f"the feedback given for {wanted.owner!r} must have finite numbers{bound}: change it")
        return tensor.to(wanted.like.device, wanted.like.dtype, copy=True)


class Feedback(nn.Module):
    """Numbered feedback tensors: moved, copied and saved with the model.

    Feedback that learns is made of parameters, which an optimizer changes; fixed feedback of buffers.

    A state that was saved before the shapes were known contains no fixed feedback. Loading it keeps the feedback that
    is there. `to_empty` leaves no numbers, so the feedback is made anew from its source.

    Args:
        source: makes the tensors.
        learns: whether the feedback learns.
    """

    def __init__(self, source: FeedbackSource, *, learns: bool) -> None:
        super().__init__()
        self.source, self.learns = source, learns
        self.wanted: tuple[Wanted, ...] | None = None

    @property
    def _tensors(self) -> Mapping[str, Tensor | None]:
        return self._parameters if self.learns else self._buffers

    def _register(self, name: str, tensor: Tensor) -> None:
        if self.learns:
            self.register_parameter(name, nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    def put(self, wanted: Sequence[Wanted]) -> None:
        """Create all tensors that were not loaded.

        Raises:
            GeometryError: a loaded or given tensor has another shape, or the number of loaded tensors is another.
            InvalidValue: given feedback does not fit.
        """
        self.source.check_owners([item.owner for item in wanted])
        loaded = {name: tuple(tensor.shape) for name, tensor in self._tensors.items() if tensor is not None}
        for index, item in enumerate(wanted):
            name = str(item.number)
            if name not in loaded:
                self._register(name, self.source.make(item, index))
            elif loaded[name] != item.shape.shape:
                raise GeometryError(
                    f"feedback {name} was loaded with the shape {loaded[name]}, but the model needs "
                    f"{item.shape.shape}: {_LOAD_THE_SAME}"
                )
            else:
                self._register(name, self[item.number].detach().to(item.like))
        if len(self) != len(wanted):
            raise GeometryError(
                f"{len(self)} feedbacks were loaded, but the model needs {len(wanted)}: {_LOAD_THE_SAME}"
            )
        self._remember(wanted)

    def _remember(self, wanted: Sequence[Wanted]) -> None:
        # With the tensors themselves as examples of type and device: others would be kept alive for nothing.
        self.wanted = tuple(replace(item, like=self[item.number].detach()) for item in wanted)

    def __getitem__(self, number: int) -> Tensor:
        tensor = self._tensors[str(number)]
        assert tensor is not None
        return tensor

    def __contains__(self, number: int) -> bool:
        return str(number) in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[number] for number in sorted(map(int, self._tensors)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        found = {
            name: tensor
            for key, tensor in state_dict.items()
            if key.startswith(prefix) and (name := key.removeprefix(prefix)).isdigit()
        }
        if not found and not self.learns:
            return
        for name, tensor in found.items():
            if self.source.nonnegative and bool((tensor < 0).any()):
                raise InvalidValue(
                    f"feedback {name} has numbers below 0, and the rule needs them ≥ 0: {_LOAD_THE_SAME}"
                )
            if name not in self._tensors and self.wanted is None:
                self._register(name, torch.empty_like(tensor))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Feedback:
        super()._apply(fn, recurse)
        if self.wanted is not None:
            self._remember(self.wanted)
            if empties(fn):
                for index, item in enumerate(self.wanted):
                    item.like.copy_(self.source.make(item, index))
        return self


_PROBE = (0.5, -3.25, 7.75)


def empties(fn: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function that `nn.Module._apply` applies to every tensor forgets the numbers, as in `to_empty`."""
    probe = torch.tensor(_PROBE, device="cpu")
    after = fn(probe)
    return after.device.type != "meta" and tuple(after.tolist()) != _PROBE


_LOAD_THE_SAME = "load a state saved from this model with the same blocks, axis and method"
