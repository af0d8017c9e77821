"""What work is done on: the processor, its cores, and the commit of this code."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from mdfa_core.errors import InvalidValue


def cores() -> int:
    """CPU cores this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_threads(threads: int) -> int:
    """A number of CPU threads, if this machine has the cores.

    Raises:
        InvalidValue: it has not, or it is no number of threads.
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= cores():
        raise InvalidValue(
            f"{threads} threads were asked for, but this machine has {cores()} cores: give a number from 1 to {cores()}"
        )
    return threads


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def described() -> str:
    """Processor, cores and system in a line; no host's name."""
    return f"{processor()}, {cores()} cores, {platform.system()} {platform.machine()}"


def device_described(device: torch.device) -> str:
    """A device with the name of its GPU: `cpu`, `cuda:0 (NVIDIA H200)`."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@functools.cache
def commit() -> str | None:
    """The commit this code is at, `-dirty` behind it where files differ from it; None outside a repository of its own.

    An installed copy may lie in somebody else's repository: only one that tracks this package counts.
    """
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    return None if tracked is None else _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
