"""A graph as a CPU can have one: PyTorch's calls, noted with their very tensors and numbers, and made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mdfa_core.replay import Graph

WAITING = (
    *("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"),  # Python reads a number
    *("aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2"),  # or a shape
    "aten::lift_fresh",  # numbers come from Python's memory
)
"""Calls for which the program waits for a device. What reads memory without a call (`tolist`, `numpy`) is not seen."""


class Tape(Graph):
    """Holds every call; as of a CUDA graph, recording changes nothing, and replaying reads and writes what it did.

    Attributes:
        made: all tapes since the test began.
        replays: how often it was replayed.
    """

    made: list[Tape]

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.replays = 0
        self.made.append(self)

    def record(self, work: Callable[[], None]) -> None:
        taping = _Taping(self)
        try:
            with taping:
                work()
        finally:
            taping.undo()

    def replay(self) -> None:
        self.replays += 1
        for function, args, kwargs, noted in self.calls:
            for old, new in zip(noted, _tensors(function(*args, **kwargs)), strict=True):
                if _place(old) != _place(new):
                    old.copy_(new)


class _Taping(TorchDispatchMode):
    """Notes calls as they are made, and what their tensors were before."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._new: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.name() in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function.name()}")
        for tensor in _tensors((args, kwargs)):
            if _place(tensor) not in self._new and _place(tensor) not in self._before:
                self._before[_place(tensor)] = (tensor.untyped_storage(), tensor.untyped_storage().clone())
        result = function(*args, **kwargs)
        noted = list(_tensors(result))
        self._new.update(_place(tensor) for tensor in noted if _place(tensor) not in self._before)
        self._tape.calls.append((function, args, kwargs, noted))
        return result

    def undo(self) -> None:
        """Give everything that was there before its old numbers."""
        for storage, old in self._before.values():
            storage.copy_(old)


def _tensors(structure: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(structure) if isinstance(leaf, Tensor))


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
