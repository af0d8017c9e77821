"""The limits of a server, each with the message that refuses a request beyond it.

Memory is a share of what the machine has: `server_memory` is asked again for every new network, so that other programs
count. Runs that exist are never ended for a program that came later.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from mdfa_core import DATASETS, Experiment, MdfaError, Network
from mdfa_core.base import machine
from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning.probes import LIVE, Sample
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.runs.capacity import in_words
from mdfa_core.training.assembly import build_network
from mdfa_core.training.memory import predicted_memory, probe_memory

SEEDS = (1, 3, 5)
"""The numbers of seeds that a visitor can choose."""
EXACT_PARAMETERS = 200_000
"""Up to this size, a measurement looks at the whole network."""
MEMORY_SHARE = 0.5
"""Share of the memory that this process could have in all; the rest is for pages, data and other programs."""
_LARGEST_RUN = 2**30  # bytes, on a machine of any size
_UNKNOWN_CLASS = 1300  # images per class of a data set that states no number; ImageNet has about as many


def server_memory() -> int:
    """Bytes that the networks of all visitors may take together now."""
    return int(MEMORY_SHARE * (machine.free_memory() + psutil.Process().memory_info().rss))


def measured_part(parameters: int) -> Sample | None:
    """The part of a network with so many parameters that the page's measurements look at; None for all of it."""
    return LIVE if parameters > EXACT_PARAMETERS else None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one server."""

    batch_size: int = 512
    epochs: int = 2000
    outputs: int = 100
    hidden_layers: int = 8
    """Also the number of lines that a chart can tell apart."""
    run_bytes: int = field(default_factory=lambda: min(_LARGEST_RUN, server_memory() // 2))
    """Memory of one comparison: of every network and its measurements, and its images; half of `server_memory` at the
    start, and at most 1 GiB."""
    multiplications: int = 4_000_000_000
    """Multiplications of one forward pass over a mini-batch."""
    trainings: int = max(1, min(8, os.cpu_count() or 1))
    """Sessions that train at the same time; the others wait in a queue, which the page shows."""
    turn_seconds: float = 60.0
    """Seconds that a session may train before it moves to the end of the queue, if others wait."""

    def check(self, experiment: Experiment, seeds: int = 1) -> int:
        """The run's memory in bytes, roughly.

        Args:
            experiment: of one seed.
            seeds: the number of networks that are trained side by side.

        Raises:
            InvalidValue: the experiment asks for more than is allowed, or for more classes than the data has.
            GeometryError: the network does not fit the images.
        """
        for name in ("batch_size", "epochs", "outputs"):
            value, most = getattr(experiment, name), getattr(self, name)
            if value > most:
                raise InvalidValue(f"{name.replace('_', ' ')} is {value}: this server allows at most {most}")
        data = DATASETS[experiment.data]
        classes = data.counts.classes
        if classes is not None and experiment.classes > classes:
            raise InvalidValue(
                f"{experiment.outputs} outputs need as many classes, but {data.title} has {classes}: choose fewer "
                "outputs or other data"
            )
        architecture = parse_architecture(experiment.network)
        if len(architecture.hidden) > self.hidden_layers:
            raise InvalidValue(
                f"the network has {len(architecture.hidden)} hidden layers: this server allows at most "
                f"{self.hidden_layers}"
            )
        network = build_network(experiment)
        work = seeds * experiment.batch_size * sum(layer.multiply_adds for layer in network.layers)
        fewer = ", or fewer seeds" if seeds > 1 else ""
        if work > self.multiplications:
            raise InvalidValue(
                f"one mini-batch would take {work / 1e9:.1f} billion multiplications, but this server allows "
                f"{self.multiplications / 1e9:g}: choose a smaller network or batch size{fewer}"
            )
        bytes_ = predicted_memory(experiment) + probe_memory(experiment, measured_part(network.parameter_count))
        bytes_ = seeds * bytes_ + _pixels(experiment, network)
        if bytes_ > self.run_bytes:
            raise InvalidValue(
                f"this run would need about {in_words(bytes_)}, but this server allows {in_words(self.run_bytes)}: "
                f"choose a smaller network, batch size or number of outputs{fewer}"
            )
        return bytes_

    def check_all(self, experiments: Sequence[Experiment], seeds: int = 1) -> None:
        """Check the experiments of one comparison; together they may use as much memory as one run.

        Raises:
            InvalidValue: as `check`; or the list is empty; or they need too much memory together.
            GeometryError: as `check`.
        """
        if not experiments:
            raise InvalidValue("no learning rule is chosen: choose at least one")
        bytes_ = sum(self.check(experiment, seeds) for experiment in experiments)
        if bytes_ > self.run_bytes:
            raise InvalidValue(
                f"these {len(experiments)} networks would need about {in_words(bytes_)}, but this server "
                f"allows {in_words(self.run_bytes)}: compare fewer rules{' or seeds' if seeds > 1 else ''}, "
                f"or choose a smaller network"
            )

    def fits(self, experiment: Experiment) -> bool:
        """Whether `check` accepts the experiment."""
        try:
            self.check(experiment)
        except MdfaError:
            return False
        return True


LIMITS = Limits()


def _pixels(experiment: Experiment, network: Network) -> int:
    """Bytes of the task's images, which are kept as one byte per pixel and colour."""
    facts = DATASETS[experiment.data].counts
    known = facts.classes is not None and facts.train is not None and facts.test is not None
    per_class = (facts.train + facts.test) / facts.classes if known else _UNKNOWN_CLASS  # type: ignore[operator]
    return math.ceil(per_class) * experiment.classes * math.prod(network.input_shape)
