"""The matmul floor of a training step: the time of its multiply-adds at the rate of its fastest matrix product.

A step cannot be faster than this floor unless another product of its shapes is. Every weight is also read, changed and
written, so a step always takes longer.

Axes: N example, I/O units.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mdfa_core.base.errors import DeviceError, InvalidValue
from mdfa_core.bench.timing import Step
from mdfa_core.compute import kernels
from mdfa_core.nets.networks import Network
from mdfa_core.rules.methods import Method

PATHS = ("onednn", "addmm")
"""Values of MDFA_GEMM: the libraries for large float32 products."""


def multiply_adds(network: Network, method: Method, batch: int) -> int:
    """Multiply-adds of one training step of one network: forward pass, error transport and weight updates.

    For each example, a layer with P output positions (1 if dense) and |W| weights costs P |W| in the forward pass and P
    |W| for its update. In the backward pass, BP, FA and sign-symmetry cost P |W| for every layer except the first. DFA,
    mDFA, sDFA and DRTP cost outputs × units for every hidden layer. Elementwise work (activation, optimizer, clipping,
    bias) is not counted.

    Args:
        network: the network.
        method: the learning rule.
        batch: examples in a mini-batch.

    Raises:
        InvalidValue: the method learns its feedback weights, or has another kind of error transport.
    """
    local = sum(layer.multiply_adds for layer in network.layers)
    backward = method.transport.backward_cost(network)
    if backward is None:
        raise InvalidValue(
            f"the multiply-adds of {method.title}'s error transport are not known: use a rule whose feedback is fixed"
        )
    return batch * (2 * local + backward.work)


@dataclass(frozen=True)
class Product:
    """One matrix product of a training step, by one library.

    Attributes:
        name: its shapes in words.
        path: `onednn` or `addmm`.
        multiply_adds: number of multiply-adds.
        run: computes the product once.
    """

    name: str
    path: str
    multiply_adds: int
    run: Step


def products(network: Network, batch: int) -> list[Product]:
    """The large products of a step's dense layers with each matrix library available on this machine."""
    made = []
    generator = torch.Generator().manual_seed(0)
    for path in PATHS:
        try:
            with forced_gemm(path):
                kernels.uses_onednn()
        except DeviceError:
            continue
        for layer in network.layers:
            if layer.tiled(batch):
                outputs, inputs = layer.weight_shape
                x, w, b, delta = (
                    torch.randn((1, *shape), generator=generator)
                    for shape in ((batch, inputs), (outputs, inputs), (outputs,), (batch, outputs))
                )
                size = batch * inputs * outputs
                forward = f"{batch}×{inputs} by {inputs}×{outputs} (forward)"
                update = f"{outputs}×{batch} by {batch}×{inputs} (update)"
                made.append(Product(forward, path, size, _by(path, layer.activations, x, w, b, None)))
                made.append(Product(update, path, size, _by(path, layer.update, x, delta)))
    return made


def _by(path: str, function: Callable[..., object], *arguments: object) -> Step:
    def run() -> None:
        with forced_gemm(path):
            function(*arguments)

    return run


@contextmanager
def forced_gemm(path: str) -> Iterator[None]:
    """Context manager in which large products use the library `path`, by way of MDFA_GEMM."""
    before = os.environ.get(kernels.GEMM_VARIABLE)
    os.environ[kernels.GEMM_VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[kernels.GEMM_VARIABLE]
        else:
            os.environ[kernels.GEMM_VARIABLE] = before
