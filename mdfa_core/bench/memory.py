"""Peak resident memory of training runs, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import torch

from mdfa_core.bench.cases import FC, Case
from mdfa_core.bench.timing import Step
from mdfa_core.errors import MdfaError
from mdfa_core.kernels import PRECISIONS

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class Peak:
    """Resident bytes of a run beyond what the libraries take.

    Attributes:
        run: the most it had at any time.
        training: the most from its first step on, when the net had been made.
    """

    run: int
    training: int


@functools.cache
def run_apart(kind: str, optimizer: str, *, threads: int, precision: str, steps: int) -> Peak:
    """What a CIFAR FC run of `ours` or `autograd` takes at its peak; measured once.

    Raises:
        MdfaError: the process failed.
    """
    code = "import sys; from mdfa_core.bench import memory; memory.child(*sys.argv[1:])"
    command = [sys.executable, "-c", code, kind, optimizer, str(threads), precision, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise MdfaError(f"the process that measures memory failed ({last[0]}): leave its rows out with --only")
    return Peak(**json.loads(done.stdout))


def child(kind: str, optimizer: str, threads: str, precision: str, steps: str) -> None:
    """What the process of `run_apart` does: train, and write the peak to standard output."""
    torch.set_num_threads(int(threads))
    json.dump(dataclasses.asdict(_peak(kind, optimizer, precision, int(steps))), sys.stdout)


def _peak(kind: str, optimizer: str, precision: str, steps: int) -> Peak:
    tiny = _made(kind, Case("tiny", "fc:4", (1, 2, 2), "mdfa", optimizer), precision)
    for _ in range(2):
        tiny()  # what the libraries load at first use
    before = _resident()
    step = _made(kind, dataclasses.replace(FC, optimizer=optimizer), precision)
    making = _highest()
    _resident()
    for _ in range(steps):
        step()
    training = _highest()
    return Peak(run=max(making, training) - before, training=training - before)


def _made(kind: str, case: Case, precision: str) -> Step:
    return case.ours(PRECISIONS[precision]) if kind == "ours" else case.autograd()["plain"]


def _resident() -> int:
    """Resident bytes now; from now on `_highest` forgets what was before, where the system can do that."""
    if _STATUS.exists():
        with contextlib.suppress(OSError):  # then what the libraries' start took at its peak counts too
            _RESET.write_text("5", encoding="ascii")
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
