"""CUDA streams: independent calls that a GPU may compute at the same time, also inside a CUDA graph.

Never run on a GPU. Tests check the order of forks and joins with pretended streams.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STREAMS = 4
"""Streams beside the current one."""


def side_by_side(calls: Sequence[Callable[[], Tensor]], device: torch.device) -> list[Tensor]:
    """The results of independent calls; on a CUDA device, the calls are dealt to streams of their own.

    Every stream first waits for the current one (fork), and afterwards the current stream waits for all of them (join).
    So memory may be allocated and freed as if there were one stream, and a CUDA graph records the calls as branches.
    On other devices, these are plain calls.

    PyTorch has few streams per device and hands them out in turn. So one thread at a time has them; in other threads,
    the calls stay on the current stream.

    Args:
        calls: each returns a tensor on `device`.
        device: of the tensors.
    """
    streams = _lent(device) if device.type == "cuda" else []
    if not streams:
        return [call() for call in calls]
    current, results = torch.cuda.current_stream(device), []
    used = streams[: len(calls)]
    for stream in used:
        stream.wait_stream(current)
    try:
        for number, call in enumerate(calls):
            with torch.cuda.stream(used[number % len(used)]):
                results.append(call())
    finally:  # a call that fails frees memory that other streams may still use
        for stream in used:
            current.wait_stream(stream)
    return results


_lock = threading.Lock()
_owners: dict[torch.device, threading.Thread] = {}


def _lent(device: torch.device) -> Sequence[torch.cuda.Stream]:
    """The streams of a device, if this thread has them or no living thread does."""
    thread = threading.current_thread()
    with _lock:
        owner = _owners.get(device)
        if owner is None or not owner.is_alive():
            _owners[device] = owner = thread
    return _made(device) if owner is thread else ()


@functools.cache
def _made(device: torch.device) -> tuple[torch.cuda.Stream, ...]:
    return tuple(torch.cuda.Stream(device) for _ in range(STREAMS))
