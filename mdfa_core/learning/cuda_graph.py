"""Kernels recorded as a CUDA graph, to be replayed with one launch. `steps` says when a step is recorded.

A graph keeps the memory addresses and the numbers its kernels were recorded with.

`MDFA_GRAPH=off` disables recording; `auto` (the default) records on CUDA devices.
"""

from __future__ import annotations

import functools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

import torch

from mdfa_core.base.errors import InvalidValue

GRAPH_VARIABLE = "MDFA_GRAPH"
GRAPHS = ("auto", "off")


class Graph(ABC):
    """Recorded kernels that can run again, on the memory and with the numbers of the recording."""

    @abstractmethod
    def record(self, work: Callable[[], None]) -> None:
        """Record every kernel that `work` launches, without running it.

        Raises:
            RuntimeError: `work` does something a graph cannot contain, such as waiting for the device. Errors of `work`
                itself are passed on.
        """

    @abstractmethod
    def replay(self) -> None:
        """Run the recorded kernels."""


class CudaGraph(Graph):
    """A graph made with `torch.cuda.CUDAGraph`.

    The context manager `torch.cuda.graph` is not used: its stream belongs to the first device that was used, and stays
    the thread's current stream if recording fails.
    """

    _one_at_a_time = threading.Lock()  # in a process

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], None]) -> None:
        with self._one_at_a_time, torch.cuda.device(self._device), torch.cuda.stream(_side_stream(self._device)):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # a graph has memory of its own
            self._graph.capture_begin(capture_error_mode="thread_local")  # other threads may use the device meanwhile
            try:
                work()
            except BaseException:
                with suppress(RuntimeError):  # it only says that the recording has failed
                    self._graph.capture_end()
                raise
            self._graph.capture_end()

    def replay(self) -> None:
        self._graph.replay()


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all recordings: PyTorch keeps a workspace for every stream that has multiplied matrices."""
    return torch.cuda.Stream(device)


def graphs_of(device: torch.device) -> Callable[[], Graph] | None:
    """A function that makes graphs for a device; None if the device has no graphs or MDFA_GRAPH disables them.

    Raises:
        InvalidValue: MDFA_GRAPH is neither auto nor off.
    """
    wanted = os.environ.get(GRAPH_VARIABLE) or "auto"
    if wanted not in GRAPHS:
        raise InvalidValue(f"{GRAPH_VARIABLE} is {wanted!r}: choose one of {', '.join(GRAPHS)}")
    return (lambda: CudaGraph(device)) if device.type == "cuda" and wanted == "auto" else None
