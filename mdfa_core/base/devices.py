"""Resolve the name of a device to a device of this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from mdfa_core.base.errors import DeviceError

P = ParamSpec("P")
T = TypeVar("T")


def cpu_by_default(function: Callable[P, T]) -> Callable[P, T]:
    """A function whose new tensors are on the CPU if it names no device, whatever `torch.set_default_device` says."""

    @functools.wraps(function)
    def on_cpu(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.get_default_device().type == "cpu":  # entering a device costs time in every call of PyTorch
            return function(*args, **kwargs)
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return on_cpu


def resolve(name: str) -> torch.device:
    """The device called `name`.

    Args:
        name: `auto` (CUDA if there is a CUDA device, else CPU), `cpu`, `cuda`, `cuda:i` or `mps` (Metal).

    Raises:
        DeviceError: the name is unknown, or this machine lacks the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type == "cpu" and device.index in (None, 0):
        return torch.device("cpu")
    if device.type == "mps" and device.index in (None, 0):
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' was asked for, but this machine has no Metal GPU: use 'cpu' or 'auto'")
        return torch.device("mps")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            has = f"{count} CUDA device{'' if count == 1 else 's'}" if count else "no CUDA device"
            raise DeviceError(f"device {name!r} was asked for, but this machine has {has}: use 'cpu' or 'auto'")
        return torch.device("cuda", device.index or 0)
    raise DeviceError(f"unknown device {name!r}: choose auto, cpu, cuda, cuda:0, cuda:1, … or mps")
