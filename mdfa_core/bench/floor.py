"""What a step cannot go below: its multiply-adds at the rate this machine multiplies matrices of the step's shapes.

Axes: N example, I/O units.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mdfa_core import kernels
from mdfa_core.bench.timing import Step
from mdfa_core.errors import DeviceError, InvalidValue
from mdfa_core.methods import Direct, Method
from mdfa_core.networks import DenseLayer, Layer, Network
from mdfa_core.transports import LayerByLayer

PATHS = ("onednn", "addmm")
"""The engine's ways to a float32 matrix product, as MDFA_GEMM names them."""


def multiply_adds(network: Network, method: Method, batch: int) -> int:
    """Multiply-adds of one training step of one net: forward pass, error transport, weight updates.

    A layer of P output positions (dense: 1) costs P |W| an example forward and as much for its update. Backwards, BP
    and FA cost P |W| for every layer but the first; DFA and mDFA cost outputs × units for every hidden layer. What is
    done once a number (activation, optimizer, clipping, bias) is not counted. Sign-symmetry costs what FA does, sDFA
    and DRTP what DFA does.

    Raises:
        InvalidValue: the method's error transport is of another kind.
    """
    local = sum(_products(layer) for layer in network.layers)
    if isinstance(method.transport, Direct):
        transport = network.outputs * sum(layer.units for layer in network.hidden)
    elif isinstance(method.transport, LayerByLayer) and not method.transport.learns_feedback:
        transport = sum(_products(layer) for layer in network.layers[1:])
    else:
        raise InvalidValue(
            f"the multiply-adds of {method.title}'s error transport are not known: use a rule whose feedback is fixed"
        )
    return batch * (2 * local + transport)


def _products(layer: Layer) -> int:
    positions = layer.units // layer.weight_shape[0]
    return positions * math.prod(layer.weight_shape)


@dataclass(frozen=True)
class Product:
    """One matrix product of a step, by one path.

    Attributes:
        name: what it is in words.
        path: `onednn` or `addmm`.
        multiply_adds: its size.
        run: does it once.
    """

    name: str
    path: str
    multiply_adds: int
    run: Step


def products(network: Network, batch: int) -> list[Product]:
    """The large products of a step through dense layers, forward and update, by every path this machine has."""
    made = []
    generator = torch.Generator().manual_seed(0)
    for path in PATHS:
        try:
            with gemm(path):
                kernels.onednn_serves()
        except DeviceError:
            continue
        for layer in network.layers:
            if isinstance(layer, DenseLayer) and batch * math.prod(layer.weight_shape) >= kernels.LARGE:
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
        with gemm(path):
            function(*arguments)

    return run


@contextmanager
def gemm(path: str) -> Iterator[None]:
    """The engine's products take this path."""
    before = os.environ.get(kernels.GEMM_VARIABLE)
    os.environ[kernels.GEMM_VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[kernels.GEMM_VARIABLE]
        else:
            os.environ[kernels.GEMM_VARIABLE] = before
