"""Steps of this project (PyTorch or compiled) beside JAX and autograd, on one core, by CPU time.

    python benchmarks/compiled.py [--quick] [--json FILE]

JAX (`pip install jax`) and Numba (`pip install -e '.[fast]'`) are optional: what is missing says so in its row. A busy
machine changes CPU time much less than time by the clock. Blocks of all rows take turns, and each row reports its
fastest block. JAX's steps are jitted; the time to make a step includes its compilation.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mdfa_core import Experiment, MdfaError, OnlineLearner
from mdfa_core.bench import Settings
from mdfa_core.bench.report import check_writable, machine, versions, write
from mdfa_core.bench.workloads import BATCH, CONV, DIGITS_FC, FC, Workload
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning.compiled import CompiledSteps

RATE = 0.01
METHODS = ("mdfa", "bp")
ONLINE = ((80, 16, 16, 1), (80, 64, 64, 1))
STREAM = 2000
"""Examples of a stream in one call."""

Step = Callable[[], object]


class CannotRun(Exception):
    """A library is missing; the message is shown in its row."""


def engine(workload: Workload, method: str) -> Step:
    return replace(workload, method=method).our_step(PRECISIONS["float32"])


def compiled(workload: Workload, method: str) -> Step:
    steps = CompiledSteps(replace(workload, method=method).learner(PRECISIONS["float32"]))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, BATCH, math.prod(workload.image)), generator=generator)
    y = torch.randint(0, 2, (1, BATCH), generator=generator)
    return lambda: steps.step(x, y)


def jax_library() -> Any:
    try:
        import jax
    except ImportError:
        raise CannotRun("JAX is not installed: pip install jax") from None
    return jax


def jax_step(method: str, sizes: tuple[int, ...] = (64, 128, 128, 1), examples: int = BATCH) -> Step:
    """The same step in JAX, jitted: mDFA by hand, BP by `jax.grad`."""
    jax = jax_library()
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

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = outputs(p, x)[-1][:, 0]
        return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))

    def bp(p: Any, x: Any, y: Any) -> Any:
        return jax.tree.map(lambda w, g: w - RATE * g, p, jax.grad(loss)(p, x, y))

    run = jax.jit(mdfa if method == "mdfa" else bp, donate_argnums=0)
    state = [parameters]

    def step() -> None:
        state[0] = jax.block_until_ready(run(state[0], x, y))

    return step


def jax_convolutional_step(method: str) -> Step:
    """CIFAR conv in JAX, jitted, with channels-last images."""
    jax = jax_library()
    jnp, lax = jax.numpy, jax.lax
    rng = np.random.default_rng(0)
    specs, channels = [(96, 5, 2), (96, 3, 2), (96, 3, 1)], 3
    parameters = []
    for filters, kernel, _ in specs:
        w = rng.normal(0, 0.02, (kernel, kernel, channels, filters))
        parameters.append((jnp.asarray(w, jnp.float32), jnp.zeros(filters)))
        channels = filters
    parameters.append((jnp.asarray(abs(rng.normal(0, 0.02, (1536, 1))), jnp.float32), jnp.zeros(1)))
    x = jnp.asarray(rng.random((BATCH, 32, 32, 3)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 2, BATCH), jnp.float32)

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

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = outputs(p, x)[-1][:, 0]
        return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))

    def bp(p: Any, x: Any, y: Any) -> Any:
        return jax.tree.map(lambda w, g: w - RATE * g, p, jax.grad(loss)(p, x, y))

    run = jax.jit(mdfa if method == "mdfa" else bp, donate_argnums=0)
    state = [parameters]

    def step() -> None:
        state[0] = jax.block_until_ready(run(state[0], x, y))

    return step


def online(sizes: tuple[int, ...], method: str) -> Step:
    hidden = ",".join(map(str, sizes[1:-1]))
    learner = OnlineLearner(Experiment(method=method, network=f"fc:{hidden}", learning_rate=RATE), inputs=sizes[0])
    xs = np.random.default_rng(0).choice([-1.0, 1.0], (STREAM, sizes[0])).astype(np.float32)
    labels = (xs[:, 0] * xs[:, 3] > 0).astype(np.int64)
    return lambda: learner.run(xs, labels)


def rows() -> list[tuple[str, str, int, Callable[[], Step]]]:
    """Work, code, examples in one call, and the function that creates the step."""
    found: list[tuple[str, str, int, Callable[[], Step]]] = []
    jitted = {
        DIGITS_FC.title: jax_step,
        FC.title: lambda method: jax_step(method, (3072, 1024, 1024, 1)),
        CONV.title: jax_convolutional_step,
    }
    for workload, method in itertools.product((DIGITS_FC, FC, CONV), METHODS):
        name = f"{workload.title}, {method}"
        found.append((name, "PyTorch", 1, lambda w=workload, m=method: engine(w, m)))
        if workload is not CONV:
            found.append((name, "compiled", 1, lambda w=workload, m=method: compiled(w, m)))
        found.append((name, "JAX", 1, lambda w=workload, m=method: jitted[w.title](m)))
    for workload, variant in ((DIGITS_FC, "plain"), (FC, "plain"), (CONV, "NHWC plain")):
        found.append((f"{workload.title}, bp", "autograd", 1, lambda w=workload, v=variant: w.autograd_steps()[v]))
    for sizes, method in itertools.product(ONLINE, METHODS):
        name = f"{'-'.join(map(str, sizes))}, one by one, {method}"
        found.append((name, "compiled", STREAM, lambda s=sizes, m=method: online(s, m)))
        found.append((name, "JAX", 1, lambda s=sizes, m=method: jax_step(m, s, 1)))
    return found


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per step: its CPU time, and the time to compile it, or the reason why there is none."""
    described, steps, examples = [], {}, {}
    for number, (work, code, count, make) in enumerate(rows()):
        examples[number] = count
        row: dict[str, Any] = {"work": work, "code": code}
        began = time.process_time()
        try:
            steps[number] = make()
            steps[number]()
            row["seconds to make"] = time.process_time() - began
        except (CannotRun, MdfaError) as error:
            row["skipped"] = str(error)
        described.append(row)
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(settings.rounds):
        for number, step in steps.items():
            calls, began = 0, time.process_time()
            while (taken := time.process_time() - began) < settings.seconds or calls == 0:
                step()
                calls += 1
            best[number] = min(best[number], taken / calls / examples[number])
    for number, seconds in best.items():
        described[number]["seconds"] = seconds
    return described


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few steps each, to see that everything runs")
    parser.add_argument("--json", type=Path, help="write everything here")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX counts the cores
    try:
        settings = Settings(quick=arguments.quick, threads=1)
        if arguments.json:
            check_writable(arguments.json)
        with settings.in_force():
            described = measure(settings)
        for row in described:
            time_ = f"{row['seconds'] * 1e6:9.2f} µs" if "seconds" in row else row["skipped"]
            made = f"  (made in {row['seconds to make']:.1f} s)" if "seconds to make" in row else ""
            print(f"{row['work']:38} {row['code']:9} {time_}{made}")
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        print(f"{machine()['processor']}, one core, CPU time of the fastest block; load average {load}")
        if arguments.json:
            content = {"format": 1, "machine": machine(), "versions": versions(), "load": load, "rows": described}
            write(arguments.json, content)
    except MdfaError as error:
        parser.exit(2, f"compiled.py: {error}\n")


if __name__ == "__main__":
    main()
