"""How much memory is free, and the refusal of runs that are too large."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mdfa_core.base import devices, machine
from mdfa_core.base.errors import InvalidValue
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.memory import predicted_memory, probe_memory

SHARE = 0.8
"""Share of the free memory that a stack may use."""


def free_memory(device: str) -> int:
    """Bytes that are free on a device now."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return machine.free_memory()


def refuse_too_large(experiments: Sequence[Experiment], *, device: str = "auto", probed: bool = False) -> None:
    """Refuse a stack that does not fit into the free memory, before any memory is allocated.

    Args:
        experiments: of the stack's replicas.
        device: where it will train.
        probed: whether sign agreement is measured in the whole network.

    Raises:
        InvalidValue: the stack does not fit; the message says how many replicas do, if one does.
        DeviceError: this machine has no such device.
    """
    where = str(devices.resolve(device))
    needed, free = predicted_memory(experiments[0], where), free_memory(where)
    needed += probe_memory(experiments[0]) if probed else 0
    if needed > free:
        raise InvalidValue(
            f"a run of {experiments[0].network} needs about {in_words(needed)} of memory, and {where} has "
            f"{in_words(free)} free: give a smaller network or a smaller batch"
        )
    most = int(free * SHARE) // needed
    if len(experiments) > max(1, most):
        raise InvalidValue(
            f"a stack of {len(experiments)} replicas needs about {in_words(len(experiments) * needed)} of memory and "
            f"may use {in_words(int(free * SHARE))} on {where}: train at most {max(1, most)} replicas at a time"
        )


def in_words(size: int) -> str:
    """A number of bytes with a unit: `12 MiB`, `3.5 GiB`."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
