"""Facts about the machine and the code: processor, CPU cores, free memory, and the commit of this package."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil
import torch

from mdfa_core.base.errors import InvalidValue

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked_threads(threads: int) -> int:
    """`threads`, after a check that this machine has as many cores.

    Raises:
        InvalidValue: `threads` is no integer from 1 to the number of cores.
    """
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= cores():
        raise InvalidValue(
            f"threads is {threads}, but this machine has {cores()} cores: give a number from 1 to {cores()}"
        )
    return threads


def free_memory() -> int:
    """Bytes of memory that this process may still take: what the machine has available, less if a cgroup says so."""
    return max(0, min([psutil.virtual_memory().available, *_room_in_cgroups()]))


def _room_in_cgroups() -> Iterator[int]:
    """Bytes that are left of every memory limit around this process: a container, a service of systemd, a batch job.

    Files of cgroups are described in the kernel's `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1/memory`.
    """
    kinds = {  # by controllers in /proc/self/cgroup: folder, limits, use, and the cache in it
        "": ("", ("memory.max", "memory.high"), "memory.current", "inactive_file"),
        "memory": ("memory", ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    }
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(kinds):
            folder, limits, used, cached = kinds[controller]
            group = PurePosixPath(path.lstrip("/"))
            for place in (group, *group.parents):
                around = _CGROUPS / folder / place  # in a container, all but its own root are absent
                statistics = dict(words.split(maxsplit=1) for words in _lines(around / "memory.stat"))
                cache = int(statistics.get(cached, 0))
                for limit in [int(text) for name in limits for text in _lines(around / name) if text.isdigit()]:
                    yield limit - sum(map(int, _lines(around / used))) + cache


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def summary() -> str:
    """Processor, cores and operating system in one line, without the host name."""
    return f"{processor()}, {cores()} cores, {platform.system()} {platform.machine()}"


def device_name(device: torch.device) -> str:
    """The device with the model of its GPU: `cpu`, `cuda:0 (NVIDIA H200)`."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@functools.cache
def commit() -> str | None:
    """The git commit of this code, with `-dirty` appended if files differ from it.

    None if no repository tracks this package: an installed copy may lie in the repository of another project.
    """
    tracked = _git("ls-files", "--error-unmatch", "machine.py")
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
