"""Peak resident memory of training runs, each measured in its own process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import torch

from mdfa_core.base.errors import MdfaError
from mdfa_core.bench.timing import Step
from mdfa_core.bench.workloads import FC, Workload
from mdfa_core.compute.kernels import PRECISIONS

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class Peak:
    """Peak resident bytes of a run, less the memory of the libraries.

    Attributes:
        run: the peak of the whole run.
        training: the peak from the first training step on, after the network was created.
    """

    run: int
    training: int


@functools.cache
def run_apart(kind: str, optimizer: str, *, threads: int, precision: str, steps: int) -> Peak:
    """The peak memory of a CIFAR FC run in a process of its own, measured once and then cached.

    Args:
        kind: `ours` or `autograd`.
        optimizer: name of the optimizer.
        threads: CPU threads.
        precision: name of the precision.
        steps: training steps.

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
    """The main function of `run_apart`'s process: train, and write the peak to standard output as JSON."""
    torch.set_num_threads(int(threads))
    json.dump(dataclasses.asdict(_peak(kind, optimizer, precision, int(steps))), sys.stdout)


def _peak(kind: str, optimizer: str, precision: str, steps: int) -> Peak:
    tiny = _made(kind, Workload("tiny", "fc:4", (1, 2, 2), "mdfa", optimizer), precision)
    for _ in range(2):
        tiny()  # loads what the libraries load at first use
    before = _resident()
    step = _made(kind, dataclasses.replace(FC, optimizer=optimizer), precision)
    making = _highest()
    _resident()
    for _ in range(steps):
        step()
    training = _highest()
    return Peak(run=max(making, training) - before, training=training - before)


def _made(kind: str, workload: Workload, precision: str) -> Step:
    return workload.our_step(PRECISIONS[precision]) if kind == "ours" else workload.autograd_steps()["plain"]


def _resident() -> int:
    """Resident bytes now. Also resets the peak that `_highest` reads, if the system can do that."""
    if _STATUS.exists():
        with contextlib.suppress(OSError):  # without a reset, the peak of loading the libraries counts, too
            _RESET.write_text("5", encoding="ascii")
        return _status("VmRSS")
    return _highest()


def _highest() -> int:
    """Peak resident bytes.

    Linux's `ru_maxrss` is of no use: a new process starts with its parent's peak.
    """
    if _STATUS.exists():
        return _status("VmHWM")
    import resource  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024
