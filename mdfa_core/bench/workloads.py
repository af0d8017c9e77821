"""The training steps that the benchmarks compare: by this project, and by torch.nn with torch.optim.

Axes: R replica, N example.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mdfa_core.bench.timing import Step
from mdfa_core.compute import kernels
from mdfa_core.compute.kernels import PRECISIONS, Precision
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets import initializers
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.nets.networks import Network, Parameters, parse_architecture
from mdfa_core.rules.methods import METHODS

BATCH = 64
CIFAR = (3, 32, 32)
DIGITS = (1, 8, 8)

_BATCHES = 4  # batches that a step cycles through
_DISTINCT = 4  # networks that are drawn for a stack
_FORWARD = initializers.parse("normal:0.1")
_FEEDBACK = initializers.parse("normal:1")
_RATES = {"sgd": 0.01, "rmsprop": 0.001, "adam": 0.001}

# PyTorch's implementations of each optimizer, of which the fastest counts. There is no fused RMSprop.
_TORCH_OPTIMIZERS: dict[str, dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": {"fused": partial(torch.optim.SGD, fused=True), "plain": torch.optim.SGD},
    "rmsprop": {
        "foreach": partial(torch.optim.RMSprop, alpha=0.9, eps=1e-10, foreach=True),
        "plain": partial(torch.optim.RMSprop, alpha=0.9, eps=1e-10),
    },
    "adam": {"fused": partial(torch.optim.Adam, fused=True), "plain": torch.optim.Adam},
}


@dataclass(frozen=True)
class Workload:
    """A training step: tanh, one output.

    Attributes:
        title: name of the network in a table.
        network: a preset or an architecture, such as `fc:32,32`.
        image: (C, H, W) of an image.
        method: name of the learning rule.
        optimizer: name of the optimizer.
        batch: examples in a mini-batch.
    """

    title: str
    network: str
    image: tuple[int, int, int]
    method: str = "mdfa"
    optimizer: str = "sgd"
    batch: int = BATCH

    def build_network(self, precision: Precision = PRECISIONS["float32"]) -> Network:
        """The network."""
        return Network(parse_architecture(self.network), self.image, 1, ACTIVATIONS["tanh"], precision)

    def learner(
        self,
        precision: Precision,
        replicas: int = 1,
        device: torch.device | str = "cpu",
        learning_rates: Sequence[float] | None = None,
    ) -> Learner:
        """A learner of R replicas. Only a few distinct networks are drawn, which saves time."""
        network, method = self.build_network(precision), METHODS[self.method]
        seeds = range(min(replicas, _DISTINCT))
        nets = [
            method.initial_parameters(network, _FORWARD, seed=seed, convention="paper", floor=1e-6) for seed in seeds
        ]
        feedback = [method.initial_feedback(network, _FEEDBACK, seed=seed, convention="paper") for seed in seeds]
        order = [r % len(seeds) for r in range(replicas)]
        return Learner(
            network,
            method,
            OPTIMIZERS[self.optimizer],
            Parameters.stack([nets[r] for r in order], device),
            [kernels.stack([column[r][0].to(device) for r in order]) for column in zip(*feedback, strict=True)],
            learning_rates=learning_rates or [_RATES[self.optimizer]] * replicas,
        )

    def our_step(self, precision: Precision, replicas: int = 1, device: torch.device | str = "cpu") -> Step:
        """This project's training step, with a batch of its own for every replica."""
        learner = self.learner(precision, replicas, device)
        batches = itertools.cycle(
            [(learner.network.inputs_from(images), labels) for images, labels in self.batches(replicas, device)]
        )
        return lambda: learner.step(*next(batches))

    def autograd_steps(self, device: torch.device | str = "cpu") -> dict[str, Step]:
        """The same step by torch.nn, autograd and torch.optim, in every variant that may be the fastest, by name."""
        layouts = {"NCHW": torch.contiguous_format}
        if any(spec.takes_images for spec in parse_architecture(self.network).hidden):
            layouts["NHWC"] = torch.channels_last
        return {
            (f"{layout} {spelling}" if len(layouts) > 1 else spelling): self._autograd_step(order, optimizer, device)
            for layout, order in layouts.items()
            for spelling, optimizer in _TORCH_OPTIMIZERS[self.optimizer].items()
        }

    def _autograd_step(
        self, order: torch.memory_format, optimizer: Callable[..., torch.optim.Optimizer], device: torch.device | str
    ) -> Step:
        model = self.torch_model().to(device)
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=order)
        torch_optimizer = optimizer(model.parameters(), lr=_RATES[self.optimizer])
        loss = nn.BCEWithLogitsLoss()
        batches = itertools.cycle(
            [
                (images[0].contiguous(memory_format=order), labels[0].unsqueeze(1).float())
                for images, labels in self.batches(1, device)
            ]
        )

        def step() -> None:
            images, labels = next(batches)
            torch_optimizer.zero_grad(set_to_none=True)
            loss(model(images), labels).backward()
            torch_optimizer.step()

        return step

    def torch_model(self) -> nn.Sequential:
        """The same network in torch.nn."""
        network = self.build_network()
        modules: list[nn.Module] = []
        shape: tuple[int, ...] = self.image
        for layer in network.layers:
            if shape != layer.input_shape:
                modules.append(nn.Flatten())
            modules += [layer.torch_module(), nn.Tanh()]
            shape = layer.output_shape
        modules.pop()  # the output layer has no activation
        return nn.Sequential(*modules)

    def batches(self, replicas: int, device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
        """The mini-batches that a step cycles through: images [R, N, C, H, W] and labels [R, N]."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(_BATCHES):
            images = torch.rand((replicas, self.batch, *self.image), generator=generator)
            labels = torch.randint(0, 2, (replicas, self.batch), generator=generator)
            yield images.to(device), labels.to(device)


FC = Workload("CIFAR FC", "cifar-fc", CIFAR)
CONV = Workload("CIFAR conv", "cifar-conv", CIFAR)
DIGITS_FC = Workload("digits FC", "digits-fc", DIGITS)
