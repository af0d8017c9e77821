"""Timing in interleaved blocks of steps, summarized by medians and quartiles."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Step = Callable[[], Any]
"""A function that does one training step, or whatever is measured."""

UNCOUNTED = 2  # warm-up steps of a block: the previous variant has filled the caches
_MOST = 200  # counted steps of a block


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements.

    Attributes:
        median: the median.
        low: the first quartile.
        high: the third quartile.
    """

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median and quartiles of `values`, interpolated linearly."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high)

    def scaled(self, factor: float) -> Spread:
        """The spread in another unit, given a positive conversion factor."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Blocks:
    """Timings of one variant.

    Attributes:
        seconds: mean duration of a counted step, one value per block.
        steps: counted steps per block.
    """

    seconds: tuple[float, ...]
    steps: int

    @property
    def spread(self) -> Spread:
        """Seconds per step."""
        return Spread.of(self.seconds)


def interleaved(
    variants: Mapping[str, Step],
    *,
    rounds: int,
    seconds: float,
    wait: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Blocks]:
    """Time several variants in turn, one block of steps at a time.

    Alternating single steps would measure cache misses caused by the other variants. Timing one variant after the other
    would measure changes of the machine's load. Alternating blocks avoid both.

    Args:
        variants: steps by name.
        rounds: blocks per variant.
        seconds: target duration of a block's counted steps; at least one step is counted.
        wait: returns when the device has finished its work.
        clock: returns seconds.
    """
    with _undisturbed():
        steps = {name: _block_length(step, seconds, wait, clock) for name, step in variants.items()}
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, step in variants.items():
                for _ in range(UNCOUNTED):
                    step()
                times[name].append(_timed(step, steps[name], wait, clock))
    return {name: Blocks(tuple(values), steps[name]) for name, values in times.items()}


def ratios(numerator: Blocks, denominator: Blocks) -> Spread:
    """Ratios of two variants' times in the same round. If the machine slows down, it slows both."""
    return Spread.of([a / b for a, b in zip(numerator.seconds, denominator.seconds, strict=True)])


def fastest(blocks: Mapping[str, Blocks]) -> str:
    """The name of the variant with the smallest median."""
    return min(blocks, key=lambda name: blocks[name].spread.median)


def _timed(step: Step, steps: int, wait: Callable[[], Any], clock: Callable[[], float]) -> float:
    wait()
    start = clock()
    for _ in range(steps):
        step()
    wait()
    return (clock() - start) / steps


def _block_length(step: Step, seconds: float, wait: Callable[[], Any], clock: Callable[[], float]) -> int:
    for _ in range(UNCOUNTED):
        step()  # includes work that is done at first use only
    return min(_MOST, max(1, round(seconds / max(1e-7, min(_timed(step, 1, wait, clock) for _ in range(3))))))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Context manager without Python's garbage collector."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
