"""The products of a layer against loops and PyTorch's layers: alone, stacked, and with a shared input."""

from __future__ import annotations

import pytest
import torch

from mdfa_core.base.errors import UnknownName
from mdfa_core.compute import kernels
from mdfa_core.compute.kernels import PRECISIONS, precision_named
from tests.support.references import convolve, convolve_back, convolve_gradient

FULL = PRECISIONS["float64"]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("examples", "inputs", "outputs"), [(4, 3, 2), (1, 1, 1), (5, 1, 3), (3, 4, 1)])
def test_dense_products(replicas: int, examples: int, inputs: int, outputs: int, shared: bool) -> None:
    x, w, b = (
        random(1 if shared else replicas, examples, inputs),
        random(replicas, outputs, inputs),
        random(replicas, outputs),
    )
    delta = random(replicas, examples, outputs)

    torch.testing.assert_close(
        kernels.affine(x, w, b, FULL), torch.einsum("rni,roi->rno", x.expand(replicas, -1, -1), w) + b[:, None]
    )
    torch.testing.assert_close(kernels.product(delta, w, FULL), torch.einsum("rno,roi->rni", delta, w))
    torch.testing.assert_close(
        kernels.outer(delta, x, FULL), torch.einsum("rno,rni->roi", delta, x.expand(replicas, -1, -1))
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("filters", "kernel"), [(4, 3), (1, 2), (2, 1)])
def test_convolutions(replicas: int, stride: int, filters: int, kernel: int, shared: bool) -> None:
    x, w, b = (
        random(1 if shared else replicas, 2, 3, 7, 6),
        random(replicas, filters, 3, kernel, kernel),
        random(replicas, filters),
    )
    ours = kernels.convolve(x, w, b, stride, FULL)
    delta = random(*ours.shape)
    back = kernels.convolve_error(delta, w, stride, 7, 6, FULL)
    gradient = kernels.convolve_outer(delta, x, kernel, stride, FULL)

    for r in range(replicas):
        image = x[0 if shared else r].numpy()
        expected = [
            convolve(image, w[r].numpy(), b[r].numpy(), stride),
            convolve_back(delta[r].numpy(), w[r].numpy(), stride, image.shape),
            convolve_gradient(delta[r].numpy(), image, stride, w[r].shape),
        ]
        for ours_r, expected_r in zip((ours[r], back[r], gradient[r]), expected, strict=True):
            torch.testing.assert_close(ours_r, torch.from_numpy(expected_r))


@pytest.mark.parametrize("name", PRECISIONS)
def test_results_have_the_storage_type(name: str) -> None:
    precision = precision_named(name)
    x, w, b = (t.to(precision.storage) for t in (random(1, 4, 3), random(1, 2, 3), random(1, 2)))

    assert kernels.affine(x, w, b, precision).dtype == precision.storage
    assert kernels.outer(x, x, precision).dtype == precision.storage


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown precision 'float16'.*bfloat16, float32, float64"):
        precision_named("float16")
