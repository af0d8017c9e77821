"""The cost of a live probe: the throughput of two equal runs in turn, one with a probe at 10 Hz and one without."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mdfa_core.learning.probes import Sample
from mdfa_core.training import Event, Every, Experiment, Probed, Run

HERTZ = 10

_ENDLESS = 10**6  # epochs: more than the benchmark runs
_IMAGES = 500  # of each class, as in CIFAR-100


@dataclass(frozen=True)
class Throughput:
    """Throughput of the two runs in each round.

    Attributes:
        without: steps per second of the run without a probe, one value per round.
        probed: steps per second of the run with a probe, one value per round.
        probes: probes per second, over all rounds.
    """

    without: tuple[float, ...]
    probed: tuple[float, ...]
    probes: float


def throughput(
    experiment: Experiment,
    data_dir: str | None,
    sample: Sample | None,
    *,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Measure the throughput of a run with and without a probe.

    Args:
        experiment: the run; its number of epochs is ignored.
        data_dir: folder with the data.
        sample: the units to probe; None probes all units.
        rounds: how often both runs take turns.
        seconds: length of a turn by the time of day.
        clock: measures the seconds of the throughput.
    """
    experiment = experiment.replace(epochs=_ENDLESS)
    runs = [_Advancing(experiment, data_dir, probe, sample, clock) for probe in (None, Every(seconds=1 / HERTZ))]
    for run in runs:
        run.advance(min(seconds, 0.3))
        run.probes, run.seconds = 0, 0.0
    rates: list[list[float]] = [[], []]
    for _ in range(rounds):
        for run, values in zip(runs, rates, strict=True):
            values.append(run.advance(seconds))
    return Throughput(tuple(rates[0]), tuple(rates[1]), runs[1].probes / runs[1].seconds)


class _Advancing:
    """A run that is advanced for some seconds at a time."""

    def __init__(
        self,
        experiment: Experiment,
        data_dir: str | None,
        probe: Every | None,
        sample: Sample | None,
        clock: Callable[[], float],
    ) -> None:
        self.clock = clock
        self.run = Run(experiment, device="cpu", data_dir=data_dir, threads=torch.get_num_threads())
        self.events: Iterator[Event] = self.run.events(progress=Every(seconds=0.05), probe=probe, sample=sample)
        self.probes = 0
        self.seconds = 0.0

    def advance(self, seconds: float) -> float:
        """Train for `seconds`, and return the steps per second of the clock."""
        first, start, spent = self.run.step, time.perf_counter(), self.clock()
        for event in self.events:
            self.probes += isinstance(event, Probed)
            if time.perf_counter() - start >= seconds:
                break
        self.seconds += time.perf_counter() - start
        return (self.run.step - first) / (self.clock() - spent)


@contextmanager
def noise_folder() -> Iterator[str]:
    """An image folder of noise with two classes, with as many training images as a task of two CIFAR-100 classes."""
    numbers = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="mdfa-bench-") as root:
        for part, count in (("train", _IMAGES), ("val", 10)):
            for name in ("a", "b"):
                folder = Path(root, part, name)
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = numbers.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number:03d}.bmp")
        yield root
