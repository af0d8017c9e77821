from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mdfa_core import Experiment, Run
from mdfa_core.attach import attach
from tests.attach.nets import (
    ATTACHABLE,
    DIRECT,
    EVERY_RULE,
    Attention,
    Last,
    Recurrent,
    Residual,
    ResNet,
    Transformer,
    attached_twin,
    feedback_of_a_learner,
    matrices,
    mlp,
    output_of,
)
from tests.support.cases import pairwise
from tests.support.references import ARCHITECTURES, batch_of, learner_of, network_of, relative


def loss_of(output: Tensor, labels: Tensor) -> Tensor:
    if output.shape[-1] == 1:
        return functional.binary_cross_entropy_with_logits(output.squeeze(-1), labels.to(output.dtype))
    return functional.cross_entropy(output, labels)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def learned(attached: nn.Module, x: Any, y: Tensor) -> dict[str, Tensor]:
    attached.zero_grad()
    loss_of(output_of(attached, x, y), y).backward()
    return gradients(attached)


# ---------------------------------------------------------------------------------------- mdfa_core's, and autograd's


@pytest.mark.parametrize(("method", "architecture", "outputs"), pairwise(EVERY_RULE, ARCHITECTURES, [1, 3]))
def test_gradients_are_the_engines(method: str, architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 6)
    attached = attached_twin(learner, method, "tanh", inputs)

    learned(attached, inputs[0], labels[0])

    expected = learner.updates(learner.observe(inputs, labels)).tensors()  # e, and so all of it, has 1/N in both
    ours = [parameter.grad for parameter in attached.model.parameters()]
    assert len(ours) == len(expected)
    for tensor, update in zip(ours, expected, strict=True):
        assert relative(tensor, update[0]) < 1e-12


@pytest.mark.parametrize("activation", ["relu", "hard-tanh", "sigmoid"])
@pytest.mark.parametrize("method", EVERY_RULE)
def test_steps_are_the_engines(method: str, activation: str) -> None:
    network = network_of("conv:3/3/2+fc:4", activation=activation)
    learner = learner_of(network, method, rates=(0.5,), floor=0.01)
    inputs, labels = batch_of(network, 6)
    attached = attached_twin(learner, method, activation, inputs)
    attached.constraint.floor = 0.01
    optimizer = torch.optim.SGD(attached.parameters(), 0.5)

    for step in range(4):
        inputs, labels = batch_of(network, 6, seed=step)
        learner.step(inputs, labels)
        learned(attached, inputs[0], labels[0])
        optimizer.step()

    for tensor, engine in zip(attached.model.parameters(), learner.parameters.tensors(), strict=True):
        assert relative(tensor.detach(), engine[0]) < 1e-12


@pytest.mark.parametrize("network", ["fc:6,5", "conv:3/3/1,2/2/2+fc:4"])
@pytest.mark.parametrize("method", EVERY_RULE)
def test_feedback_of_a_seed_is_that_of_an_experiment(method: str, network: str) -> None:
    run = Run(Experiment(method=method, network=network, outputs=3, seed=5))
    learner = run.learner
    inputs, _ = batch_of(learner.network, 2)
    attached = attached_twin(learner_of(learner.network, method), method, "tanh", inputs)
    drawn = attach(attached.release(), method, seed=5, example=inputs[0])

    for b, engine in zip(feedback_of_a_learner(drawn, learner), learner.feedback, strict=True):
        assert torch.equal(b, engine[0].reshape(b.shape))


@pytest.mark.parametrize(
    ("model", "shape", "blocks"),
    [
        (mlp, (6, 4), None),
        (ResNet, (6, 2, 5, 5), ["first", "second"]),
        (Recurrent, (6, 7, 3), ["layer", "cell"]),
    ],
)
def test_bp_is_autograd(model: Callable[[], nn.Module], shape: tuple[int, ...], blocks: list[str] | None) -> None:
    net, x, y = model().double(), torch.randn(shape, dtype=torch.float64), torch.arange(6) % 2
    loss_of(net(x), y).backward()
    expected = gradients(net)

    ours = learned(attach(net, "bp", blocks=blocks), x, y)

    assert all(torch.equal(ours[f"model.{name}"], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Linear(6, 4),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 2, bias=False)),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 3, 2, stride=2, padding=1)),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 3, padding="same", groups=2)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, (1, 2), padding="valid", bias=False)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 2, 2, padding=2, dilation=2)),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 1, 2, 3)), nn.Conv3d(1, 2, (1, 2, 2))),
        lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.ConvTranspose1d(2, 3, 2, stride=2, output_padding=1)),
        lambda: nn.Sequential(
            nn.Unflatten(1, (2, 1, 3)), nn.ConvTranspose2d(2, 4, (1, 3), padding=(0, 1), groups=2, bias=False)
        ),
        lambda: nn.Sequential(nn.Unflatten(1, (1, 1, 2, 3)), nn.ConvTranspose3d(1, 2, (1, 2, 2))),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)),
    ],
)
def test_fa_with_the_forward_weights_is_autograd_and_with_others_is_not(layer: Callable[[], nn.Module]) -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), layer(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(1)).double()
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.arange(5) % 2
    loss_of(net(x), y).backward()
    expected = gradients(net)
    attached = attach(net, "fa")

    random = learned(attached, x, y)
    for b, weight in zip(attached.feedback, matrices(net), strict=True):
        assert b.shape == weight.shape
        with torch.no_grad():
            b.copy_(weight)
    same = learned(attached, x, y)

    first = "0.weight"
    assert relative(random[f"model.{first}"], expected[first]) > 1e-2
    for name, gradient in expected.items():
        assert relative(same[f"model.{name}"], gradient) < 1e-12


def test_fa_with_the_forward_weights_is_autograd_in_a_resnet_and_a_transformer() -> None:
    cases: list[tuple[nn.Module, Tensor, list[Any]]] = [
        (ResNet(), torch.randn(6, 2, 5, 5), ["first", "second"]),
        (Transformer(1, pooled=True), torch.randint(0, 7, (6, 4)), ["blocks.0", "blocks.1"]),
    ]
    for net, x, blocks in cases:
        net, x = net.double(), x.double() if x.is_floating_point() else x
        y = torch.arange(6) % 2
        loss_of(net(x), y).backward()
        expected = gradients(net)
        attached = attach(net, "fa", blocks=blocks)
        for b, weight in zip(attached.feedback, matrices(net), strict=True):
            b.copy_(weight.detach())
        same = learned(attached, x, y)
        # The key's bias has no gradient but rounding: a softmax does not see it.
        for name, gradient in expected.items():
            assert torch.allclose(same[f"model.{name}"], gradient, rtol=1e-9, atol=1e-14)


def test_dfa_with_the_forward_weights_is_autograd_under_one_cut() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)).double()
    x, y = torch.randn(6, 2, 3, 3, dtype=torch.float64), torch.arange(6) % 3
    loss_of(net(x), y).backward()
    expected = gradients(net)
    attached = attach(net, "dfa", example=x)
    assert attached.layout.blocks == ("0",)
    attached.feedback[0].copy_(matrices(net)[1].detach())  # the cut is before the last layer: at the flattened units

    for name, gradient in learned(attached, x, y).items():
        # A bias before a normalisation has no gradient but rounding.
        assert torch.allclose(gradient, expected[name.removeprefix("model.")], rtol=1e-9, atol=1e-14)


# ------------------------------------------------------------------------------------------------- what is not computed


class Products(TorchDispatchMode):
    """Which tensors matrix products and convolutions read, and which of a convolution's gradients are made."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []
        self.input_gradients = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in ("mm", "addmm", "bmm", "baddbmm"):
            self.read += [tensor.untyped_storage().data_ptr() for tensor in args if isinstance(tensor, Tensor)]
        if name == "convolution_backward" and args[-1][0]:
            self.input_gradients += 1
            self.read.append(args[2].untyped_storage().data_ptr())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ATTACHABLE)
def test_a_direct_rule_never_multiplies_an_error_with_the_next_blocks_weights(method: str) -> None:
    net = nn.Sequential(
        *(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)),
    )
    x, y = torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 1])
    attached = attach(net, method, example=x)
    loss = loss_of(attached(x), y)
    above = {weight.untyped_storage().data_ptr() for weight in matrices(net)[1:]}

    with Products() as products:
        loss.backward()

    through = [pointer for pointer in products.read if pointer in above]
    if method in DIRECT:
        assert not through
        assert products.input_gradients == 0
    elif method == "bp":
        assert len(through) == 4
        assert products.input_gradients == 1
    else:
        assert not through  # FA reads B where BP reads W
        assert products.input_gradients == 1


def test_the_operations_of_a_backward_pass_are_the_weight_gradients_and_e_times_b() -> None:
    n, inputs, width, outputs = 8, 6, 10, 3
    net = nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )
    x, y = torch.randn(n, inputs), torch.arange(n) % outputs
    weight_gradients = 2 * n * (inputs * width + width * width + width * outputs)
    returned = 2 * n * (width * width + width * outputs)
    delivered = 2 * n * (outputs * width + outputs * width)
    expected = dict.fromkeys(("bp", "fa", "usf", "frsf"), weight_gradients + returned)
    for method in ATTACHABLE:
        loss = loss_of(attach(net, method, example=x)(x), y)
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        assert counter.get_total_flops() == expected.get(method, weight_gradients + delivered)


# ---------------------------------------------------------------------------------------------------- kinds of blocks


def cases() -> dict[str, tuple[nn.Module, Any, Tensor, dict[str, Any]]]:
    images, pairs = torch.randn(6, 2, 5, 5), torch.arange(6) % 2
    sequences, tokens = torch.randn(6, 7, 3), torch.randint(0, 7, (6, 4))
    encoder = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
    return {
        "one output": (mlp(), torch.randn(6, 4), pairs, {}),
        "no bias": (mlp(bias=False), torch.randn(6, 4), pairs, {}),
        "one unit wide": (mlp(width=1), torch.randn(6, 4), pairs, {}),
        "three outputs": (mlp(3), torch.randn(6, 4), torch.arange(6) % 3, {}),
        "flat output": (nn.Sequential(*mlp(), nn.Flatten(0)), torch.randn(6, 4), pairs, {}),
        "one example": (mlp(), torch.randn(1, 4), pairs[:1], {}),
        "one block": (nn.Sequential(nn.Linear(4, 1)), torch.randn(6, 4), pairs, {}),
        "a layer": (nn.Linear(4, 1), torch.randn(6, 4), pairs, {}),
        "shared activation": (
            (lambda act: nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 5), act, nn.Linear(5, 1)))(nn.Tanh()),
            *(torch.randn(6, 4), pairs, {}),
        ),
        "convolutions": (
            nn.Sequential(
                *(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
                *(nn.Dropout(0.3), nn.Flatten(), nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)),
            ),
            *(images, pairs, {}),
        ),
        "resnet": (ResNet(), images, pairs, {"blocks": ["first", "second"]}),
        "resnet, channels": (ResNet(), images, pairs, {"blocks": ["first", "second"], "axis": 1}),
        "resnet, all children": (
            nn.Sequential(nn.Conv2d(2, 4, 3), Residual(nn.Conv2d(4, 4, 1), nn.ReLU()), nn.Flatten(), nn.Linear(36, 1)),
            *(images, pairs, {}),
        ),
        "attention": (
            nn.Sequential(nn.Embedding(7, 6), Attention(6), encoder, nn.Linear(6, 3)),
            *(tokens, tokens % 3, {"axis": -1}),
        ),
        "transformer, pooled": (Transformer(1, pooled=True), tokens, pairs, {"blocks": ["embedding", "blocks.0"]}),
        "transformer, tokens": (Transformer(), tokens, tokens % 3, {"blocks": ["blocks.0", "blocks.1"], "axis": -1}),
        "recurrent": (Recurrent(), sequences, pairs, {"blocks": ["layer", "cell"]}),
        "recurrent, shared over steps": (Recurrent(nn.LSTM), sequences, pairs, {"blocks": ["layer"], "axis": -1}),
        "recurrent in a row": (
            nn.Sequential(nn.LSTM(3, 4, batch_first=True), Last(), nn.Linear(4, 1)),
            *(sequences, pairs, {}),
        ),
        "blocks to the last": (ResNet(), images, pairs, {"blocks": ["stem", "first", "second", "head"]}),
    }


def token_loss(output: Tensor, y: Tensor) -> Tensor:
    if output.dim() == 1:
        return functional.binary_cross_entropy_with_logits(output, y.to(output.dtype))
    return functional.cross_entropy(output.transpose(1, 2), y) if output.dim() == 3 else loss_of(output, y)


@pytest.mark.parametrize("method", [*DIRECT, "fa", "bp"])
@pytest.mark.parametrize("name", cases())
def test_every_parameter_of_every_kind_of_block_is_told_something(name: str, method: str) -> None:
    model, x, y, settings = cases()[name]
    attached = attach(model, method, **settings)

    token_loss(attached(x), y).backward()

    # A bias before a normalisation, or of an attention's keys, has a gradient of 0 by nature; rounding is left of it.
    by_nature = ("key.bias", "first.inner.0.bias", "model.0.bias")
    for parameter_name, parameter in attached.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any() or parameter_name.endswith(by_nature), parameter_name


@pytest.mark.parametrize(("name", "method"), list(zip(cases(), itertools.cycle(DIRECT))))
def test_it_learns(name: str, method: str) -> None:
    torch.manual_seed(1)
    model, x, y, settings = cases()[name]
    attached = attach(model, method, **settings)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = token_loss(attached(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])


@pytest.mark.parametrize("method", ATTACHABLE)
@pytest.mark.parametrize("when", ["before", "after"])
def test_hooks_of_the_users_own_belong_to_the_model(method: str, when: str) -> None:
    """One halves a layer's input, one triples its output; the errors have these factors, too."""

    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    x, plain = torch.randn(6, 4), mlp()
    written = nn.Sequential(*plain[:2], nn.Sequential(Scaled(0.5), copy.deepcopy(plain[2]), Scaled(3.0)), *plain[3:])
    written = copy.deepcopy(written)
    expected = attach(written, method, example=x)
    expected(x).square().sum().backward()

    def hook() -> None:
        plain[2].register_forward_pre_hook(lambda module, args: (0.5 * args[0],))
        plain[2].register_forward_hook(lambda module, args, output: 3.0 * output)

    if when == "before":
        hook()
    attached = attach(plain, method, example=x)
    if when == "after":
        hook()
    attached(x).square().sum().backward()
    for ours, theirs in zip(attached.model.parameters(), written.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
