"""Peak resident memory of a training run, each in a process of its own: `python -m mdfa_core.bench.memory …`."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import torch

from mdfa_core.bench.cases import FC, Case
from mdfa_core.errors import MdfaError
from mdfa_core.kernels import PRECISIONS

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def run_apart(kind: str, optimizer: str, *, threads: int, precision: str, steps: int) -> int:
    """Bytes that a CIFAR FC run of `ours` or `autograd` takes at its peak, beyond what the libraries take.

    Raises:
        MdfaError: the process failed.
    """
    command = [sys.executable, "-m", "mdfa_core.bench.memory", kind, optimizer, str(threads), precision, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MdfaError(f"the process that measures memory failed ({last[0]}): run {' '.join(command[1:])} to see why")
    return int(json.loads(done.stdout)["bytes"])


def _peak(kind: str, optimizer: str, precision: str, steps: int) -> int:
    _train(kind, Case("tiny", "fc:4", (1, 2, 2), "mdfa", optimizer), precision, 2)  # what is loaded at first use
    before = _resident()
    _train(kind, dataclasses.replace(FC, optimizer=optimizer), precision, steps)
    return _highest() - before


def _train(kind: str, case: Case, precision: str, steps: int) -> None:
    if kind == "ours":
        step = case.ours(PRECISIONS[precision])
    else:
        step = case.autograd()["plain"]
    for _ in range(steps):
        step()


def _resident() -> int:
    """Resident bytes now; from now on `_highest` forgets what was before, where the system can do that."""
    if _STATUS.exists():
        try:
            _RESET.write_text("5")
        except OSError:
            pass  # then a peak below that of the libraries' own start would not show; this run's is far above it
        return _status("VmRSS")
    return _highest()


def _highest() -> int:
    """The peak of resident bytes.

    Linux's `ru_maxrss` is not used: a new process starts with its parent's peak in it.
    """
    if _STATUS.exists():
        return _status("VmHWM")
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024


def _main(kind: str, optimizer: str, threads: str, precision: str, steps: str) -> None:
    torch.set_num_threads(int(threads))
    json.dump({"bytes": _peak(kind, optimizer, precision, int(steps))}, sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
