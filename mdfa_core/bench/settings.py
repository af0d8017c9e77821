"""How a benchmark is run: threads, precision, patience."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from mdfa_core import devices
from mdfa_core.errors import DeviceError
from mdfa_core.kernels import Precision, onednn_serves, precision_named
from mdfa_core.machine import checked_threads, cores


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the rows are measured.

    Attributes:
        threads: CPU threads; the aims are stated for two.
        precision: name of this project's precision; what it is compared with stays at float32.
        device: where; only the CPU is measured here.
        quick: whether a few blocks are enough, to see that everything runs.

    Raises:
        InvalidValue: there are not that many cores, or MDFA_GEMM names no path.
        DeviceError: the device is not here or is not the CPU, or MDFA_GEMM names a path that is not here.
        UnknownName: there is no such precision.
    """

    threads: int = field(default_factory=lambda: min(2, cores()))
    precision: str = "float32"
    device: str = "cpu"
    quick: bool = False

    def __post_init__(self) -> None:
        checked_threads(self.threads)
        precision_named(self.precision)
        onednn_serves()
        device = devices.resolve(self.device)
        if device.type != "cpu":
            raise DeviceError(f"the benchmark measures the CPU, not {device}: run python benchmarks/gpu.py for a GPU")

    @property
    def numbers(self) -> Precision:
        """The precision itself."""
        return precision_named(self.precision)

    @property
    def rounds(self) -> int:
        """Blocks of every variant."""
        return 2 if self.quick else 25

    @property
    def seconds(self) -> float:
        """What a block of steps should take."""
        return 0.001 if self.quick else 0.05

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """PyTorch uses this many threads."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
