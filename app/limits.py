"""What a visitor may ask of the server: every bound in one place, refused in one sentence."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mdfa_core import ACTIVATIONS, DATASETS, METHODS, OPTIMIZERS, Experiment, MdfaError, Network
from mdfa_core.errors import InvalidValue
from mdfa_core.networks import parse_architecture

_BYTES = 4  # of a float32
_UNKNOWN_CLASS = 1300  # images of a class where nobody knows, as in ImageNet


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one server."""

    batch_size: int = 512
    epochs: int = 2000
    outputs: int = 100
    hidden_layers: int = 8
    """Also the number of curves the charts can tell apart."""
    run_bytes: int = 2**29
    """Memory of one comparison: weights, feedback, optimizer, activations of a batch, pixels."""
    server_bytes: int = 2**32
    """The same over all visitors."""
    multiplications: int = 4_000_000_000
    """Of one forward pass over a mini-batch."""
    trainings: int = max(1, min(8, os.cpu_count() or 1))
    """Sessions that train at one time; others wait in a queue that is shown to them."""
    turn_seconds: float = 60.0
    """How long a session may train before it goes to the end of the queue, if there is one."""

    def check(self, experiment: Experiment) -> int:
        """The run's memory in bytes, roughly.

        Raises:
            InvalidValue: the experiment asks for more than is allowed, or for more classes than the data has.
            GeometryError: the network does not fit the images.
        """
        for name in ("batch_size", "epochs", "outputs"):
            value, most = getattr(experiment, name), getattr(self, name)
            if value > most:
                raise InvalidValue(f"the {name.replace('_', ' ')} is {value}: this server allows at most {most}")
        data = DATASETS[experiment.data]
        classes = data.facts.classes
        if classes is not None and experiment.classes > classes:
            raise InvalidValue(f"{experiment.outputs} outputs need as many classes, but {data.title} has {classes}")
        architecture = parse_architecture(experiment.network)
        if len(architecture.hidden) > self.hidden_layers:
            raise InvalidValue(
                f"the network has {len(architecture.hidden)} hidden layers: this server allows at most "
                f"{self.hidden_layers}"
            )
        network = Network(
            architecture,
            data.shape(experiment.image_size),
            experiment.outputs,
            ACTIVATIONS[experiment.activation],
        )
        work = experiment.batch_size * sum(
            math.prod(layer.weight_shape) * (layer.units // layer.weight_shape[0]) for layer in network.layers
        )
        if work > self.multiplications:
            raise InvalidValue(
                f"one mini-batch would take {work / 1e9:.1f} billion multiplications, but this server allows "
                f"{self.multiplications / 1e9:g}: choose a smaller network or batch size"
            )
        bytes_ = _memory(experiment, network)
        if bytes_ > self.run_bytes:
            raise InvalidValue(
                f"this run would need about {math.ceil(bytes_ / 2**20)} MB, but this server allows "
                f"{self.run_bytes / 2**20:.0f}: choose a smaller network, batch size or number of outputs"
            )
        return bytes_

    def check_all(self, experiments: Sequence[Experiment]) -> None:
        """Check the experiments of one comparison, which is bounded as one run is.

        Raises:
            InvalidValue: as `check`, or there is none, or they need too much memory together.
            GeometryError: as `check`.
        """
        if not experiments:
            raise InvalidValue("no learning rule is chosen: choose at least one")
        bytes_ = sum(map(self.check, experiments))
        if bytes_ > self.run_bytes:
            raise InvalidValue(
                f"these {len(experiments)} nets would need about {math.ceil(bytes_ / 2**20)} MB, but this server "
                f"allows {self.run_bytes / 2**20:.0f}: compare fewer rules, or choose a smaller network"
            )

    def fits(self, experiment: Experiment) -> bool:
        """Whether `check` lets the experiment through."""
        try:
            self.check(experiment)
        except MdfaError:
            return False
        return True


LIMITS = Limits()


def _memory(experiment: Experiment, network: Network) -> int:
    # Weights, the best ones so far, an update, feedback of at most that size, and what the optimizer remembers.
    transport = METHODS[experiment.method].transport
    copies = 4 + len(OPTIMIZERS[experiment.optimizer].slots) * (2 if transport.learns_feedback else 1)
    units = math.prod(network.input_shape) + sum(layer.units for layer in network.layers)
    activations = experiment.batch_size * units
    data = DATASETS[experiment.data]
    facts = data.facts
    known = facts.classes is not None and facts.train is not None and facts.test is not None
    per_class = (facts.train + facts.test) / facts.classes if known else _UNKNOWN_CLASS  # type: ignore[operator]
    pixels = math.ceil(per_class) * experiment.classes * math.prod(network.input_shape)
    # Of every activation: its value, its derivative's part, the delivered and the true error while measuring.
    own = transport.workspace(network, experiment.batch_size)
    return _BYTES * (copies * network.parameter_count + 4 * activations + own) + pixels
