"""Every way to a stack's convolution products against loops, and how one of them is chosen."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from mdfa_core import convolutions, kernels
from mdfa_core.kernels import PRECISIONS
from tests.references import convolve, convolve_back, convolve_gradient

R, N, HEIGHT, WIDTH = 3, 2, 8, 6


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("filters", "kernel"), [(4, 3), (1, 2), (2, 1)])
@pytest.mark.parametrize("way", convolutions.WAYS)
def test_every_way_is_the_loop(way: str, stride: int, filters: int, kernel: int, shared: bool) -> None:
    x, w = random(1 if shared else R, N, 3, HEIGHT, WIDTH), random(R, filters, 3, kernel, kernel)
    products = convolutions.WAYS[way]
    y = products["convolve"](x, w, stride)
    delta = random(*y.shape)
    back, gradient = products["error"](delta, w, stride, HEIGHT, WIDTH), products["outer"](delta, x, stride, kernel)

    for r in range(R):
        image = x[0 if shared else r].numpy()
        for found, expected in (
            (y, convolve(image, w[r].numpy(), torch.zeros(filters).numpy(), stride)),
            (back, convolve_back(delta[r].numpy(), w[r].numpy(), stride, image.shape)),
            (gradient, convolve_gradient(delta[r].numpy(), image, stride, w[r].shape)),
        ):
            torch.testing.assert_close(found[r], torch.from_numpy(expected))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("way", convolutions.WAYS)
def test_kernels_take_the_chosen_way(way: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of = PRECISIONS[precision]
    x, w, b = (t.to(of.storage) for t in (random(R, N, 3, HEIGHT, WIDTH), random(R, 4, 3, 3, 3), random(R, 4)))
    delta = random(R, N, 4, 3, 2).to(of.storage)

    def products() -> list[Tensor]:
        return [
            kernels.convolve(x, w, b, 2, of),
            kernels.convolve_error(delta, w, 2, HEIGHT, WIDTH, of),
            kernels.convolve_outer(delta, x, 3, 2, of),
        ]

    expected = products()
    asked = []
    monkeypatch.setattr(kernels, "in_turn", lambda device: False)
    monkeypatch.setattr(convolutions, "_fastest_way", lambda kind, *of: asked.append(kind) or way)
    for found, by_turns in zip(products(), expected, strict=True):
        assert found.dtype is of.storage
        torch.testing.assert_close(found, by_turns, rtol=1e-2 if of.mixed else 1e-5, atol=3e-2 if of.mixed else 1e-5)
    assert asked == ["convolve", "error", "outer"]


def test_the_fastest_way_is_measured_once_and_one_that_lacks_memory_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = {"greedy": 0, "modest": 0}

    def way(name: str, error: bool) -> dict[str, object]:
        def convolve(x: Tensor, w: Tensor, stride: int) -> Tensor:
            calls[name] += 1
            if error:
                raise torch.OutOfMemoryError
            return x

        return {"convolve": convolve}

    monkeypatch.setattr(convolutions, "WAYS", {"greedy": way("greedy", True), "modest": way("modest", False)})
    convolutions._fastest_way.cache_clear()
    with caplog.at_level(logging.DEBUG, logger="mdfa_core.convolutions"):
        for _ in range(3):
            convolutions.batched("convolve", random(1, 1, 1, 4, 4), random(2, 1, 1, 2, 2), 1)

    assert calls == {"greedy": 1, "modest": 4 + 3}
    assert len(caplog.records) == 1
    convolutions._fastest_way.cache_clear()
