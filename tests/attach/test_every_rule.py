"""Every rule trains a small ResNet, a transformer's block on patches and an LSTM, and its agreement is logged."""

from __future__ import annotations

from collections.abc import Callable

import pandas
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdfa_core.attach import attach, measure
from tests.attach.nets import EVERY_RULE, Residual, matrices, output_of


class Tokens(nn.Module):
    """Positions become tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Mean(nn.Module):
    """The mean over tokens, or over the steps of a recurrent layer."""

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return (x[0] if isinstance(x, tuple) else x).mean(1)


def resnet() -> nn.Sequential:
    def normalised() -> list[nn.Module]:
        return [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)]

    residual = Residual(*normalised(), nn.ReLU(), *normalised())
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), residual, nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)),
    )


def vit() -> nn.Sequential:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Conv2d(1, 8, 2, stride=2), Tokens(), block, Mean(), nn.Linear(8, 1))


def lstm() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 16, batch_first=True), Mean(), nn.Linear(16, 1))


@pytest.mark.slow
@pytest.mark.parametrize("method", EVERY_RULE)
@pytest.mark.parametrize("make", [resnet, vit, lstm])
def test_every_rule_trains_every_model_and_logs_its_agreement(make: Callable[[], nn.Sequential], method: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, net = torch.randn(64, 1, 8, 8), make()
    labels = (images.mean((1, 2, 3)) > 0).float().unsqueeze(1)
    if method == "mdfa":  # weights of one sign add up, so they start small
        for weight in matrices(net):
            weight.data *= 0.1
    attached = attach(net, method, example=images)
    optimizer = torch.optim.Adam(attached.parameters(), 0.01)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    losses, log = [], []
    for epoch in range(3):
        log.append(
            measure(attached, (images, labels), functional.binary_cross_entropy_with_logits, examples=4)
            .frame()
            .assign(epoch=epoch)
        )
        for _ in range(15):
            optimizer.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(output_of(attached, images, labels), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    if not attached.reads_labels:  # labels in place of errors need not lessen the loss of so small a net
        assert sum(losses[-5:]) < 5 * losses[0]
    assert all(not torch.equal(parameter, before[name]) for name, parameter in net.named_parameters())
    table = pandas.concat(log)
    agreement = table.query("quantity == 'sign_agreement' and block.isna()").value
    angle = table.query("quantity == 'angle' and block.isna()").value
    assert agreement.between(0, 1).all()
    assert len(agreement) == 3
    if method == "bp":
        assert (agreement == 1).all()
        assert angle.max() < 0.1
    else:
        assert angle.min() > 5
