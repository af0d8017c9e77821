"""Device names: how they resolve on machines with and without accelerators, and the errors for missing devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mdfa_core import Experiment, Run
from mdfa_core.base.devices import resolve
from mdfa_core.base.errors import DeviceError

UNKNOWN = "unknown device {!r}: choose auto, cpu, cuda, cuda:0, cuda:1, … or mps"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what torch seems to find."""

    def make(*, cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


@pytest.mark.parametrize(
    ("found", "name", "device"),
    [
        ({}, "auto", "cpu"),
        ({}, "cpu", "cpu"),
        ({}, "cpu:0", "cpu"),
        ({"mps": True}, "auto", "cpu"),  # Metal only when it is asked for
        ({"mps": True}, "mps", "mps"),
        ({"mps": True}, "mps:0", "mps"),
        ({"cuda": 1}, "auto", "cuda"),
        ({"cuda": 1}, "cpu", "cpu"),
        ({"cuda": 1}, "cuda", "cuda:0"),
        ({"cuda": 1}, "cuda:0", "cuda:0"),
        ({"cuda": 2}, "cuda", "cuda:0"),
        ({"cuda": 2}, "cuda:1", "cuda:1"),
    ],
)
def test_a_name_means_a_device_that_is_there(found: dict[str, Any], name: str, device: str, machine: Any) -> None:
    machine(**found)

    assert resolve(name) == torch.device(device)


@pytest.mark.parametrize(
    ("found", "name", "has"),
    [
        ({}, "cuda", "no CUDA device"),
        ({}, "cuda:1", "no CUDA device"),
        ({"mps": True}, "cuda", "no CUDA device"),
        ({"cuda": 1}, "cuda:1", "1 CUDA device"),
        ({"cuda": 2}, "cuda:2", "2 CUDA devices"),
    ],
)
def test_an_absent_cuda_device_is_refused(found: dict[str, Any], name: str, has: str, machine: Any) -> None:
    machine(**found)

    with pytest.raises(DeviceError) as caught:
        resolve(name)
    assert str(caught.value) == f"device {name!r} was asked for, but this machine has {has}: use 'cpu' or 'auto'"


def test_an_absent_metal_device_is_refused(machine: Any) -> None:
    machine(cuda=1)

    with pytest.raises(DeviceError) as caught:
        resolve("mps")
    assert str(caught.value) == ("device 'mps' was asked for, but this machine has no Metal GPU: use 'cpu' or 'auto'")


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "CPU", "tpu", "meta", "xpu", "cpu:1", "mps:1", "cuda:", "cuda:-1", "cuda:x", "cuda 0", None, 1.5],
    ids=repr,
)
def test_an_unknown_name_is_refused(name: Any, machine: Any) -> None:
    machine(cuda=2, mps=True)

    with pytest.raises(DeviceError) as caught:
        resolve(name)
    assert str(caught.value) == UNKNOWN.format(name)


def test_a_run_says_so_before_anything_else(machine: Any) -> None:
    machine()

    with pytest.raises(DeviceError, match="no CUDA device"):
        Run(Experiment(), device="cuda")
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        Run(Experiment(), device="gpu")
    assert Run(Experiment()).device == torch.device("cpu")
