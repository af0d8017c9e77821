"""Settings of a benchmark: threads, precision, number and length of measurements."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from mdfa_core.base import devices
from mdfa_core.base.errors import DeviceError
from mdfa_core.base.machine import checked_threads, cores
from mdfa_core.compute import threads
from mdfa_core.compute.kernels import Precision, precision_named, uses_onednn


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the benchmarks are measured.

    Attributes:
        threads: CPU threads. The aims hold for two.
        precision: name of this project's precision. Autograd always uses float32.
        device: must be the CPU.
        quick: whether to measure only a few steps, to see that everything runs.

    Raises:
        InvalidValue: there are fewer cores than threads, or MDFA_GEMM has an unknown value.
        DeviceError: the device is missing or not the CPU, or MDFA_GEMM asks for a library that is missing here.
        UnknownName: there is no such precision.
    """

    threads: int = field(default_factory=lambda: min(2, cores()))
    precision: str = "float32"
    device: str = "cpu"
    quick: bool = False

    def __post_init__(self) -> None:
        checked_threads(self.threads)
        precision_named(self.precision)
        uses_onednn()
        device = devices.resolve(self.device)
        if device.type != "cpu":
            raise DeviceError(f"the benchmark measures the CPU, not {device}: run python benchmarks/gpu.py for a GPU")

    @property
    def dtypes(self) -> Precision:
        """The `Precision` called `precision`."""
        return precision_named(self.precision)

    @property
    def rounds(self) -> int:
        """Blocks of steps per variant."""
        return 2 if self.quick else 25

    @property
    def seconds(self) -> float:
        """Target duration of a block of steps."""
        return 0.001 if self.quick else 0.05

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of steps: CPU time for one thread, which other programs change least; else the time of day."""
        return time.process_time if self.threads == 1 else time.perf_counter

    def in_force(self) -> AbstractContextManager[None]:
        """Context manager in which PyTorch uses `threads` threads."""
        return threads.limited(self.threads)
