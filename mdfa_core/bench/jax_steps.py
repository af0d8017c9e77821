"""The benchmark's training steps in JAX, jitted, if it is installed: mDFA by hand, BP by `jax.grad`, with SGD."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mdfa_core.base.errors import MissingPackage
from mdfa_core.bench.timing import Step
from mdfa_core.bench.workloads import CIFAR, Workload
from mdfa_core.nets.layers import Conv
from mdfa_core.nets.networks import parse_architecture

METHODS = ("mdfa", "bp")
"""Rules with a step in JAX."""

RATE = 0.01


def jax_step(workload: Workload, threads: int) -> Step | None:
    """A workload's training step in JAX; None if its rule or optimizer has none here.

    Args:
        workload: a dense network, or convolutions of CIFAR images.
        threads: CPU threads. JAX keeps the number of the first call in a process. Without effect on macOS and Windows.

    Raises:
        MissingPackage: JAX is not installed.
    """
    if workload.method not in METHODS or workload.optimizer != "sgd":
        return None
    jax = _library(threads)
    hidden = parse_architecture(workload.network).hidden
    if not any(spec.takes_images for spec in hidden):
        sizes = (math.prod(workload.image), *(layer.units for layer in workload.build_network().layers))
        return _dense(jax, workload.method, sizes, workload.batch)
    specs = [(spec.filters, spec.kernel, spec.stride) for spec in hidden if isinstance(spec, Conv)]
    if workload.image != CIFAR or len(specs) < len(hidden):
        return None
    return _convolutional(jax, workload.method, specs, workload.batch)


@functools.cache
def _library(threads: int) -> Any:
    try:
        import jax
    except ImportError:
        raise MissingPackage("JAX is not installed: pip install jax") from None
    jax.config.update("jax_platforms", "cpu")
    if not hasattr(os, "sched_setaffinity"):
        jax.devices()
        return jax
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])  # JAX makes a thread for every core that it may use
    try:
        jax.devices()
    finally:
        os.sched_setaffinity(0, before)
    return jax


def _dense(jax: Any, method: str, sizes: tuple[int, ...], examples: int) -> Step:
    jnp = jax.numpy
    rng = np.random.default_rng(0)
    pairs = list(itertools.pairwise(sizes))
    parameters = [(jnp.asarray(abs(rng.normal(0, 0.1, pair)), jnp.float32), jnp.zeros(pair[1])) for pair in pairs]
    feedback = [jnp.asarray(rng.random((1, units)), jnp.float32) for units in sizes[1:-1]]
    x = jnp.asarray(rng.random((examples, sizes[0])), jnp.float32)
    y = jnp.asarray(rng.integers(0, 2, examples), jnp.float32)

    def outputs(p: Any, x: Any) -> list[Any]:
        hidden = [x]
        for w, b in p[:-1]:
            hidden.append(jnp.tanh(hidden[-1] @ w + b))
        return [*hidden, hidden[-1] @ p[-1][0] + p[-1][1]]

    def mdfa(p: Any, x: Any, y: Any) -> Any:
        *hidden, z = outputs(p, x)
        e = (jax.nn.sigmoid(z) - y[:, None]) / len(x)
        new = []
        for layer, (w, b) in enumerate(p):
            last = layer == len(p) - 1
            delta = e if last else (e @ feedback[layer]) * (1 - hidden[layer + 1] ** 2)
            changed = w - RATE * (hidden[layer].T @ delta)
            new.append((changed if layer == 0 else jnp.maximum(changed, 1e-6), b - RATE * delta.sum(0)))
        return new

    return _steps(jax, mdfa if method == "mdfa" else _bp(jax, outputs), parameters, x, y)


def _convolutional(jax: Any, method: str, specs: list[tuple[int, int, int]], examples: int) -> Step:
    """Convolutions (filters, kernel, stride) of CIFAR images, channels last, then one output."""
    jnp, lax = jax.numpy, jax.lax
    rng = np.random.default_rng(0)
    parameters, channels, side = [], 3, 32
    for filters, kernel, stride in specs:
        w = rng.normal(0, 0.02, (kernel, kernel, channels, filters))
        parameters.append((jnp.asarray(w, jnp.float32), jnp.zeros(filters)))
        channels, side = filters, (side - kernel) // stride + 1
    parameters.append((jnp.asarray(abs(rng.normal(0, 0.02, (channels * side**2, 1))), jnp.float32), jnp.zeros(1)))
    x = jnp.asarray(rng.random((examples, 32, 32, 3)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 2, examples), jnp.float32)

    def convolve(h: Any, w: Any, stride: int) -> Any:
        return lax.conv_general_dilated(h, w, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def outputs(p: Any, x: Any) -> list[Any]:
        hidden = [x]
        for (w, b), (_, _, stride) in zip(p[:-1], specs, strict=True):
            hidden.append(jnp.tanh(convolve(hidden[-1], w, stride) + b))
        return [*hidden, hidden[-1].reshape(len(x), -1) @ p[-1][0] + p[-1][1]]

    feedback = [jnp.asarray(rng.random((1, *h.shape[1:])), jnp.float32) for h in outputs(parameters, x)[1:-1]]

    def mdfa(p: Any, x: Any, y: Any) -> Any:
        *hidden, z = outputs(p, x)
        e = (jax.nn.sigmoid(z) - y[:, None]) / len(x)
        new = []
        for layer, ((w, b), (_, _, stride)) in enumerate(zip(p[:-1], specs, strict=True)):
            h = hidden[layer + 1]
            delta = (e @ feedback[layer].reshape(1, -1)).reshape(h.shape) * (1 - h**2)
            update = jax.vjp(lambda w, h=hidden[layer], stride=stride: convolve(h, w, stride), w)[1](delta)[0]
            changed = w - RATE * update
            new.append((changed if layer == 0 else jnp.maximum(changed, 1e-6), b - RATE * delta.sum((0, 1, 2))))
        w, b = p[-1]
        top = jnp.maximum(w - RATE * (hidden[-1].reshape(len(x), -1).T @ e), 1e-6)
        return [*new, (top, b - RATE * e.sum(0))]

    return _steps(jax, mdfa if method == "mdfa" else _bp(jax, outputs), parameters, x, y)


def _bp(jax: Any, outputs: Callable[[Any, Any], list[Any]]) -> Callable[[Any, Any, Any], Any]:
    """The update of backpropagation for a network whose last output is z, with the mean cross-entropy of σ(z)."""
    jnp = jax.numpy

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = outputs(p, x)[-1][:, 0]
        return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))

    def bp(p: Any, x: Any, y: Any) -> Any:
        return jax.tree.map(lambda w, g: w - RATE * g, p, jax.grad(loss)(p, x, y))

    return bp


def _steps(jax: Any, update: Callable[[Any, Any, Any], Any], parameters: Any, x: Any, y: Any) -> Step:
    """Jitted steps on one batch; each replaces the weights and waits for them."""
    run = jax.jit(update, donate_argnums=0)
    state = [parameters]

    def step() -> None:
        state[0] = jax.block_until_ready(run(state[0], x, y))

    return step
