"""The training steps that are compared: a net, a rule, an optimizer, by this project and by torch.nn with torch.optim.

Axes: R replica, N example.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mdfa_core import initializers, kernels
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.bench.timing import Step
from mdfa_core.kernels import PRECISIONS, Precision
from mdfa_core.learner import Learner
from mdfa_core.methods import METHODS
from mdfa_core.networks import Conv, Network, Parameters, parse_architecture
from mdfa_core.optimizers import OPTIMIZERS

BATCH = 64
CIFAR = (3, 32, 32)
DIGITS = (1, 8, 8)

_BATCHES = 4  # batches that are shown in turn
_DISTINCT = 4  # nets that are drawn for a stack
_FORWARD = initializers.parse("normal:0.1")
_FEEDBACK = initializers.parse("normal:1")
_RATES = {"sgd": 0.01, "rmsprop": 0.001, "adam": 0.001}

# PyTorch's own spellings of each optimizer, the fastest of which counts. There is no fused RMSprop.
_TORCH_OPTIMIZERS: dict[str, dict[str, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": {"fused": partial(torch.optim.SGD, fused=True), "plain": torch.optim.SGD},
    "rmsprop": {
        "foreach": partial(torch.optim.RMSprop, alpha=0.9, eps=1e-10, foreach=True),
        "plain": partial(torch.optim.RMSprop, alpha=0.9, eps=1e-10),
    },
    "adam": {"fused": partial(torch.optim.Adam, fused=True), "plain": torch.optim.Adam},
}


@dataclass(frozen=True)
class Case:
    """A training step on batches of 64 images, tanh, one output.

    Attributes:
        title: the net's name in a table.
        network: a preset, or a net written out.
        image: shape of an image.
        method: name of the learning rule.
        optimizer: name of the optimizer.
    """

    title: str
    network: str
    image: tuple[int, int, int]
    method: str = "mdfa"
    optimizer: str = "sgd"

    def net(self, precision: Precision = PRECISIONS["float32"]) -> Network:
        """The net's shape."""
        return Network(parse_architecture(self.network), self.image, 1, ACTIVATIONS["tanh"], precision)

    def learner(
        self,
        precision: Precision,
        replicas: int = 1,
        device: torch.device | str = "cpu",
        learning_rates: Sequence[float] | None = None,
    ) -> Learner:
        """R nets, ready to learn: a few different ones in turn, which is quicker to draw and changes no time."""
        network, method = self.net(precision), METHODS[self.method]
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

    def ours(self, precision: Precision, replicas: int = 1, device: torch.device | str = "cpu") -> Step:
        """This project's step, every replica on a batch of its own."""
        learner = self.learner(precision, replicas, device)
        batches = itertools.cycle(
            [(learner.network.inputs_from(images), labels) for images, labels in self._batches(replicas, device)]
        )
        return lambda: learner.step(*next(batches))

    def autograd(self, device: torch.device | str = "cpu") -> dict[str, Step]:
        """Backpropagation by torch.nn and torch.optim, in every spelling that may be the fastest."""
        layouts = {"NCHW": torch.contiguous_format}
        if any(isinstance(layer, Conv) for layer in parse_architecture(self.network).hidden):
            layouts["NHWC"] = torch.channels_last
        return {
            (f"{layout} {spelling}" if len(layouts) > 1 else spelling): self._autograd(order, optimizer, device)
            for layout, order in layouts.items()
            for spelling, optimizer in _TORCH_OPTIMIZERS[self.optimizer].items()
        }

    def _autograd(
        self, order: torch.memory_format, optimizer: Callable[..., torch.optim.Optimizer], device: torch.device | str
    ) -> Step:
        model = self.torch_model().to(device)
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=order)
        descent = optimizer(model.parameters(), lr=_RATES[self.optimizer])
        loss = nn.BCEWithLogitsLoss()
        batches = itertools.cycle(
            [
                (images[0].contiguous(memory_format=order), labels[0].unsqueeze(1).float())
                for images, labels in self._batches(1, device)
            ]
        )

        def step() -> None:
            images, labels = next(batches)
            descent.zero_grad(set_to_none=True)
            loss(model(images), labels).backward()
            descent.step()

        return step

    def torch_model(self) -> nn.Sequential:
        """The same net in torch.nn."""
        network = self.net()
        modules: list[nn.Module] = []
        flat = False
        for number, layer in enumerate(network.layers):
            spec = network.architecture.hidden[number] if number < len(network.hidden) else None
            if isinstance(spec, Conv):
                modules.append(nn.Conv2d(layer.input_shape[0], spec.filters, spec.kernel, spec.stride))
            else:
                if not flat:
                    modules.append(nn.Flatten())
                    flat = True
                modules.append(nn.Linear(math.prod(layer.input_shape), layer.units))
            if spec is not None:
                modules.append(nn.Tanh())
        return nn.Sequential(*modules)

    def _batches(self, replicas: int, device: torch.device | str) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(_BATCHES):
            images = torch.rand((replicas, BATCH, *self.image), generator=generator)
            labels = torch.randint(0, 2, (replicas, BATCH), generator=generator)
            yield images.to(device), labels.to(device)


FC = Case("CIFAR FC", "cifar-fc", CIFAR)
CONV = Case("CIFAR conv", "cifar-conv", CIFAR)
DIGITS_FC = Case("digits FC", "digits-fc", DIGITS)
