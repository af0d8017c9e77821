"""Interleaved blocks of steps, and what their times come to: medians and quartiles."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Step = Callable[[], Any]
"""Does one training step (or whatever is measured)."""

UNCOUNTED = 2  # steps at the start of a block: they find the caches as the variant before left them
_MOST = 200  # steps of a block


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of measurements of one thing.

    Attributes:
        median: half of them are smaller.
        low: a quarter of them are smaller.
        high: three quarters of them are smaller.
    """

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median and quartiles, interpolated between the two nearest of the sorted values."""
        if len(values) == 1:
            return Spread(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(median, low, high)

    def scaled(self, factor: float) -> Spread:
        """The same in another unit, by a positive factor."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Blocks:
    """What a step of one variant took, block by block.

    Attributes:
        seconds: mean duration of a counted step, one per block.
        steps: how many steps of each block were counted.
    """

    seconds: tuple[float, ...]
    steps: int

    @property
    def spread(self) -> Spread:
        """Seconds a step."""
        return Spread.of(self.seconds)


def interleaved(
    variants: Mapping[str, Step],
    *,
    rounds: int,
    seconds: float,
    wait: Callable[[], Any] = lambda: None,
) -> dict[str, Blocks]:
    """Time every variant in turn, a block of steps at a time, for so many rounds.

    Single steps in turn would measure each other's leavings in the caches, and one variant after the other the
    machine's mood at the time: blocks in turn do neither.

    Args:
        variants: what to do, by name.
        rounds: blocks of each variant.
        seconds: how long the counted steps of a block should take; there is at least one.
        wait: returns when the device has done what it was told.
    """
    with _undisturbed():
        steps = {name: _block_length(step, seconds, wait) for name, step in variants.items()}
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, step in variants.items():
                for _ in range(UNCOUNTED):
                    step()
                times[name].append(_timed(step, steps[name], wait))
    return {name: Blocks(tuple(values), steps[name]) for name, values in times.items()}


def ratios(numerator: Blocks, denominator: Blocks) -> Spread:
    """Ratios of two variants' times in the same round, so that a machine that slows down slows both."""
    return Spread.of([a / b for a, b in zip(numerator.seconds, denominator.seconds, strict=True)])


def fastest(blocks: Mapping[str, Blocks]) -> str:
    """The name of the variant with the smallest median."""
    return min(blocks, key=lambda name: blocks[name].spread.median)


def _timed(step: Step, steps: int, wait: Callable[[], Any]) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - start) / steps


def _block_length(step: Step, seconds: float, wait: Callable[[], Any]) -> int:
    for _ in range(UNCOUNTED):
        step()  # whatever is made at first use
    return min(_MOST, max(1, round(seconds / min(_timed(step, 1, wait) for _ in range(3)))))


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector out of the measurement."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
