"""Names of devices → devices that this machine has."""

from __future__ import annotations

import torch

from mdfa_core.errors import DeviceError


def resolve(name: str) -> torch.device:
    """The device called `name`: `auto` (CUDA, else CPU), `cpu`, `cuda`, `cuda:i` or `mps`.

    Raises:
        DeviceError: the name means nothing, or this machine lacks the device.
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
