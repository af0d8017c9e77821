"""`torch.set_default_device` changes no result: every part that draws says where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mdfa_core import METHODS, Experiment, fit
from mdfa_core.attach import attach, measure


@pytest.fixture
def another_default() -> Iterator[None]:
    """A device without numbers: whatever is made there by accident fails."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("method", METHODS)
def test_a_run(method: str, another_default: None) -> None:
    experiment = Experiment(data="digits", method=method, network="fc:4", epochs=1)
    found = fit(experiment, device="cpu")
    torch.set_default_device(None)
    assert found.events == fit(experiment, device="cpu").events


@pytest.mark.parametrize("method", ["fa", "mdfa", "brsf", "sdfa"])
def test_attach(method: str, another_default: None) -> None:
    net = nn.Sequential(nn.Linear(4, 3, device="cpu"), nn.Tanh(), nn.Linear(3, 1, device="cpu"))
    x, y = torch.zeros(5, 4, device="cpu"), torch.zeros(5, 1, device="cpu")
    attached = attach(net, method, example=x)
    attached(x).sum().backward()
    measure(attached, (x, y), nn.MSELoss())
