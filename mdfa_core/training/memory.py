"""How much memory a run takes, predicted from its experiment before anything is allocated."""

from __future__ import annotations

import math

import torch

from mdfa_core.learning.cuda_graph import graphs_of
from mdfa_core.learning.learner import stored_numbers
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.learning.probes import CHUNK, Sample
from mdfa_core.nets.networks import Network
from mdfa_core.rules.methods import METHODS
from mdfa_core.training.assembly import build_network
from mdfa_core.training.batches import EVALUATION_CHUNK
from mdfa_core.training.experiment import Experiment


def predicted_memory(experiment: Experiment, device: str = "cpu") -> int:
    """Bytes that one replica of an experiment takes on a device while it trains, without its images.

    The prediction adds up:

    - for the whole run: everything the learner stores (weights, feedback, the optimizer's slots, the rule's state),
      the best weights so far, and the copies that weights and feedback are drawn into;
    - for a moment: one mini-batch (output, ε and δ of every unit) or one chunk of an evaluation (outputs only),
      whichever is larger. Both include pre-activations if the activation's derivative needs them, the inputs three
      times (pixels, numbers, and the layer's memory order), and a copy of the largest layer's outputs;
    - for a mini-batch, also the rule's workspace and the largest update that is not made in parts;
    - rounded copies of the operands of the largest product, if the precision has them on this device.

    A device that replays steps as a CUDA graph needs the mini-batch's share twice, because a graph keeps its memory.
    """
    network = build_network(experiment)
    itemsize = network.precision.storage.itemsize
    method = METHODS[experiment.method]
    transport = method.transport
    stored = stored_numbers(network, method, OPTIMIZERS[experiment.optimizer])
    whole_run = sum(stored.values()) + 2 * stored["parameters"] + stored["feedback"]
    inputs = math.prod(network.input_shape)
    units = sum(layer.units for layer in network.layers)
    kept = 1 if network.activation.from_output else 2
    passing = kept * max(layer.units for layer in network.layers) + 3 * inputs
    batch = experiment.batch_size * ((kept + 2) * units + passing)
    batch += transport.workspace(network, experiment.batch_size) + _largest_update(experiment, network)
    batch += _rounded_copies(network, experiment.batch_size, device)
    evaluation = EVALUATION_CHUNK * (kept * units + passing) + _rounded_copies(network, EVALUATION_CHUNK, device)
    recorded = 0 if graphs_of(torch.device(device)) is None or transport.draws else batch
    passing_by = recorded + max(batch, evaluation)
    return itemsize * (whole_run + passing_by)


def probe_memory(experiment: Experiment, sample: Sample | None = None) -> int:
    """Bytes that a measurement takes besides `predicted_memory`, for one replica.

    The prediction adds up:

    - the true ε and δ of every unit, and the signs of both sides of the widest layer;
    - for the measured units: both updates of every weight, the sums and differences of which the angle is the ratio,
      and both unit vectors of the largest layer;
    - or, in convolutions, the updates by single examples with their signs: some examples at a time, of both sides.

    Args:
        experiment: of the run.
        sample: the part of the network that is measured; all of it by default.
    """
    network = build_network(experiment)
    widest = max(layer.units for layer in network.layers)
    signals = experiment.batch_size * (2 * sum(layer.units for layer in network.layers) + 3 * widest)
    sizes, singles = [0], [0]
    for layer in network.hidden:
        weights = math.prod(layer.weight_shape)
        if layer.shares_weights:
            examples = experiment.batch_size if sample is None else min(sample.examples, experiment.batch_size)
            singles.append(5 * weights * min(examples, max(1, CHUNK // weights)))
        share = 1.0 if sample is None else min(1.0, sample.units / layer.weight_shape[0])
        sizes.append(math.ceil(share * weights))
    angles = 4 * sum(sizes) + 4 * max(sizes)
    return network.precision.storage.itemsize * (signals + max(angles, *singles))


def _rounded_copies(network: Network, examples: int, device: str) -> int:
    """Numbers that the operands of the largest product take while they are rounded."""
    widest = max(math.prod(network.input_shape), *(layer.units for layer in network.layers))
    largest = max(examples * widest, *(math.prod(layer.weight_shape) for layer in network.layers))
    precision = network.precision
    if precision.mixed:
        return largest * 3 // 2  # both operands and the result, at half the size
    rounds = precision.fp32_precision == "tf32" and torch.device(device).type == "cpu"
    return largest * 13 // 4 if rounds else 0  # both operands, the bits of one, and where it is NaN


def _largest_update(experiment: Experiment, network: Network) -> int:
    """Numbers in the largest g that is made whole, and in what the optimizer computes beside it."""
    rule = OPTIMIZERS[experiment.optimizer]
    if rule.linear:  # g is seldom made
        return 0
    whole = [math.prod(layer.weight_shape) for layer in network.layers if not layer.tiled(experiment.batch_size)]
    return max(whole, default=0) * (1 + rule.room + (experiment.l2 > 0))
