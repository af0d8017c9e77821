"""Nets to attach: twins of mdfa_core's, and small ones of every kind of block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdfa_core.attach import Attached, attach
from mdfa_core.attach.layout import Weighted
from mdfa_core.learning.learner import Learner
from mdfa_core.nets.layers import ConvLayer
from mdfa_core.rules import METHODS, Direct

EVERY_RULE = [name for name in METHODS if METHODS[name].transport.attachment() is not None]


def _scales_with_the_error(name: str) -> bool:
    attachment = METHODS[name].transport.attachment()
    return attachment is not None and attachment.sent is None and attachment.drawn is None


ATTACHABLE = [
    name for name in EVERY_RULE if _scales_with_the_error(name) and not METHODS[name].transport.learns_feedback
]
"""Rules whose gradients are linear in the output error, equal in every pass, and need neither labels nor an example."""

DIRECT = [name for name in ATTACHABLE if type(METHODS[name].transport) is Direct]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "hard-tanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
}


def twin(learner: Learner, activation: str) -> nn.Sequential:
    """mdfa_core's net, its first replica, in torch's own layers."""
    modules: list[nn.Module] = []
    for number, layer in enumerate(learner.network.layers):
        weight, bias = learner.parameters.weights[number][0], learner.parameters.biases[number][0]
        if isinstance(layer, ConvLayer):
            made: nn.Module = nn.Conv2d(weight.shape[1], weight.shape[0], layer.kernel, layer.stride)
        else:
            modules.append(nn.Flatten())
            made = nn.Linear(weight.shape[1], weight.shape[0])
        made = made.to(weight.dtype)
        with torch.no_grad():
            made.weight.copy_(weight)
            made.bias.copy_(bias)
        modules.append(made)
        if number < len(learner.network.hidden):
            modules.append(ACTIVATIONS[activation]())
    return nn.Sequential(*modules)


def attached_twin(learner: Learner, method: str, activation: str, inputs: Tensor) -> Attached:
    """The twin under the same rule with the same feedback."""
    attached = attach(twin(learner, activation), method, example=inputs[0])
    with torch.no_grad():
        for ours, b in zip(feedback_of_a_learner(attached, learner), learner.feedback, strict=True):
            ours.copy_(b[0].reshape(ours.shape))  # a convolution's units are flattened where the next is dense
    return attached


def feedback_of_a_learner(attached: Attached, learner: Learner) -> list[Tensor]:
    """The attached model's feedback without that of FA's first layer, which sends nothing down."""
    return list(attached.feedback)[len(attached.feedback) - len(learner.feedback) :]


def output_of(attached: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The output of a pass that learns; a rule that reads labels gets them."""
    if isinstance(attached, Attached) and attached.reads_labels:
        attached.labels = labels
    return attached(x)


def matrices(model: nn.Module) -> list[Tensor]:
    return [module.weight for module in model.modules() if isinstance(module, Weighted)]


# -------------------------------------------------------------------------------------------------- all kinds of blocks


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.first = Residual(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = Residual(nn.Conv2d(4, 4, 3, padding="same"), nn.GroupNorm(2, 4), nn.Tanh())
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x))).mean((2, 3)))


class Attention(nn.Module):
    """A transformer's block of single linear layers, before which and after which numbers are normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        mixed = torch.softmax(self.query(h) @ self.key(h).transpose(1, 2), -1) @ self.value(h)
        return x + self.out(mixed)


class Transformer(nn.Module):
    """Token by token, or one output for a sequence."""

    def __init__(self, outputs: int = 3, *, pooled: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.blocks = nn.ModuleList([Attention(6), Attention(6)])
        self.head = nn.Linear(6, outputs)
        self.pooled = pooled

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens)
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1) if self.pooled else h)


class Recurrent(nn.Module):
    """A recurrent layer whose output is a tuple, and a cell that runs once a step."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.layer = kind(3, 5, batch_first=True)
        self.cell = nn.GRUCell(5, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.layer(x)
        state = x.new_zeros(len(x), 4)
        for step in range(x.shape[1]):
            state = self.cell(steps[:, step], state)
        return self.head(state)


class Last(nn.Module):
    """The last step of a recurrent layer's output."""

    def forward(self, found: tuple[Tensor, Tensor]) -> Tensor:
        return found[0][:, -1]


def mlp(outputs: int = 1, *, bias: bool = True, width: int = 5) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, width, bias=bias),
        nn.Tanh(),
        nn.Linear(width, width, bias=bias),
        nn.Tanh(),
        nn.Linear(width, outputs, bias=bias),
    )
