"""A CPU stand-in for a CUDA graph: it records PyTorch's calls with their tensors and makes them again on replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mdfa_core.learning.cuda_graph import Graph

WAITING = (
    *("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"),  # Python reads a number
    *("aten::nonzero", "aten::masked_select", "aten::unique_dim", "aten::_unique2"),  # or a shape
    "aten::lift_fresh",  # numbers come from Python's memory
)
"""Calls that make the program wait for a device. Reads that are no PyTorch call (`tolist`, `numpy`) go undetected."""


class CpuGraph(Graph):
    """A graph of recorded calls. As with a CUDA graph, recording changes no tensor, and a replay reads and writes the
    tensors of the recording.

    Attributes:
        made: all graphs created since the test began.
        replays: number of replays.
    """

    made: list[CpuGraph]

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.replays = 0
        self.made.append(self)

    def record(self, work: Callable[[], None]) -> None:
        recorder = _Recorder(self)
        try:
            with recorder:
                work()
        finally:
            recorder.undo()

    def replay(self) -> None:
        self.replays += 1
        for function, args, kwargs, results in self.calls:
            for old, new in zip(results, _tensors(function(*args, **kwargs)), strict=True):
                if _storage(old) != _storage(new):
                    old.copy_(new)


class _Recorder(TorchDispatchMode):
    """Records calls as they are made, and keeps the previous contents of their tensors."""

    def __init__(self, graph: CpuGraph) -> None:
        super().__init__()
        self._graph = graph
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self._new: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function.name() in WAITING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {function.name()}")
        for tensor in _tensors((args, kwargs)):
            if _storage(tensor) not in self._new and _storage(tensor) not in self._before:
                self._before[_storage(tensor)] = (tensor.untyped_storage(), tensor.untyped_storage().clone())
        result = function(*args, **kwargs)
        results = list(_tensors(result))
        self._new.update(_storage(tensor) for tensor in results if _storage(tensor) not in self._before)
        self._graph.calls.append((function, args, kwargs, results))
        return result

    def undo(self) -> None:
        """Restore the contents of all tensors that existed before the recording."""
        for storage, old in self._before.values():
            storage.copy_(old)


def _tensors(structure: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(structure) if isinstance(leaf, Tensor))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
