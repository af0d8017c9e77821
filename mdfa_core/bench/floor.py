"""The floor of a training step on this host: no step can be faster unless its library or its caches are.

The floor is the larger of two times, both from rates that are measured in the same run:

- operations ÷ rate: the step's multiply-adds, each as fast as in the fastest large matrix product of the host;
- bytes ÷ bandwidth: the numbers that the step must read and write, as fast as a plain triad.

Axes: N example, I/O units.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from mdfa_core.base.errors import DeviceError, InvalidValue
from mdfa_core.base.machine import cores
from mdfa_core.bench.settings import Settings
from mdfa_core.bench.timing import Step, interleaved
from mdfa_core.bench.workloads import FC, Workload
from mdfa_core.compute import kernels, threads
from mdfa_core.learning.learner import stored_numbers
from mdfa_core.learning.optimizers import OPTIMIZERS, Optimizer
from mdfa_core.nets.networks import Network
from mdfa_core.rules.methods import METHODS, Method

PATHS = ("onednn", "addmm")
"""Values of MDFA_GEMM: the libraries for large float32 products."""

_ITEM = 4  # bytes of a float32 number
_ROUNDS, _SECONDS = 8, 0.01  # blocks of a rate, and their length
_SETS = (1 << 12, 1 << 15, 1 << 18, 1 << 21, 1 << 24, 3 << 27)  # bytes of a triad's three arrays together
_CALLED = 1 << 20  # a triad of fewer bytes is shorter than PyTorch's call


# ---------------------------------------------------------------------------------------------------- a step's work


@dataclass(frozen=True)
class Work:
    """What training steps must do at least.

    Attributes:
        multiply_adds: number of multiply-adds.
        bytes: bytes read and written.
        working_set: bytes of one network and its mini-batch: a cache that has room for them makes them faster.
    """

    multiply_adds: int
    bytes: int
    working_set: int

    @staticmethod
    def of(workload: Workload) -> Work:
        """One training step of a workload."""
        network, method = workload.build_network(), METHODS[workload.method]
        optimizer = OPTIMIZERS[workload.optimizer]
        return Work(
            multiply_adds(network, method, workload.batch),
            bytes_moved(network, method, optimizer, workload.batch),
            _ITEM * (sum(stored_numbers(network, method, optimizer).values()) + _inputs(network, workload.batch)),
        )


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


def bytes_moved(network: Network, method: Method, optimizer: Optimizer, batch: int) -> int:
    """Bytes that one training step of one network reads and writes at least, in float32.

    Every parameter is read in the forward pass, and read and written by the update. An optimizer's numbers are read and
    written. The backward pass reads the feedback or, in rules without feedback, the weights of every layer except the
    first. The inputs are read once. Activations and error signals are not counted.

    Args:
        network: the network.
        method: the learning rule.
        optimizer: the optimizer.
        batch: examples in a mini-batch.
    """
    stored = stored_numbers(network, method, optimizer)
    backward = stored["feedback"] or sum(math.prod(layer.weight_shape) for layer in network.layers[1:])
    slots = len(optimizer.slots) * stored["parameters"]
    return _ITEM * (3 * stored["parameters"] + 2 * slots + backward + _inputs(network, batch))


def _inputs(network: Network, batch: int) -> int:
    return batch * math.prod(network.input_shape)


# ---------------------------------------------------------------------------------------------------- a host's rates


@dataclass(frozen=True)
class Bandwidth:
    """The rate of a triad, a ← b + s c.

    Attributes:
        working_set: bytes of the three arrays together.
        rate: bytes read and written per second.
    """

    working_set: int
    rate: float


@dataclass(frozen=True)
class Host:
    """Rates of this machine with a number of threads.

    Attributes:
        threads: CPU threads.
        flops: operations per second of the fastest product, two for a multiply-add.
        product: that product and its library.
        bandwidths: one per working set, smallest first. The last is the memory's; smaller ones are of the caches.
    """

    threads: int
    flops: float
    product: str
    bandwidths: tuple[Bandwidth, ...]

    def bandwidth(self, working_set: int) -> float | None:
        """Bytes per second for a working set; None if it is smaller than every measured one.

        It is the rate of the largest measured set that is not larger. If a set that is larger still was faster, that
        rate counts, because other programs may disturb a measurement.
        """
        sizes = [b.working_set for b in self.bandwidths if b.working_set <= working_set]
        return max(b.rate for b in self.bandwidths if b.working_set >= max(sizes)) if sizes else None

    def floor(self, work: Work) -> Floor:
        """The shortest time of this work with so many threads."""
        products, rate = 2 * work.multiply_adds / self.flops, self.bandwidth(work.working_set)
        memory = 0.0 if rate is None else work.bytes / rate
        return Floor(self.threads, max(products, memory), "products" if products >= memory else "bytes")


@dataclass(frozen=True)
class Floor:
    """The floor of a step.

    Attributes:
        threads: CPU threads.
        seconds: the larger of operations ÷ rate and bytes ÷ bandwidth.
        set_by: which of them: `products` or `bytes`.
    """

    threads: int
    seconds: float
    set_by: str


def floor_of(work: Work, hosts: Sequence[Host], threads: int) -> Floor:
    """The floor of steps that may use so many threads, or fewer if these are faster."""
    return min((host.floor(work) for host in hosts if host.threads <= threads), key=lambda floor: floor.seconds)


def measure_host(settings: Settings) -> tuple[Host, ...]:
    """The rates of this machine with one thread and with two, if it has them: the fastest of several blocks each.

    With other settings, also with their number of threads; a quick measurement leaves two threads out.

    Products are those of CIFAR FC by every library of `PATHS`. A triad runs in PyTorch; smaller ones than 1 MiB in
    Numba, on one thread, if it is installed.
    """
    counts = {1, settings.threads} | (set() if settings.quick else {min(2, cores())})
    return tuple(_host(count, settings) for count in sorted(counts))


def _host(count: int, settings: Settings) -> Host:
    rounds, seconds = (2, 0.001) if settings.quick else (_ROUNDS, _SECONDS)
    clock = replace(settings, threads=count).clock
    made = products(FC.build_network(), FC.batch)
    with threads.limited(count):
        blocks = interleaved(
            {str(n): product.run for n, product in enumerate(made)}, rounds=rounds, seconds=seconds, clock=clock
        )
        rates = [2 * product.multiply_adds / min(blocks[str(n)].seconds) for n, product in enumerate(made)]
        bandwidths = []
        for size in _SETS:
            found = _triad(size, count)
            if found is not None:
                step, repeats = found
                taken = min(interleaved({"triad": step}, rounds=rounds, seconds=seconds, clock=clock)["triad"].seconds)
                bandwidths.append(Bandwidth(size, repeats * size / taken))
    best = max(range(len(made)), key=rates.__getitem__)
    return Host(count, rates[best], f"{made[best].name} by {made[best].path}", tuple(bandwidths))


def _triad(size: int, count: int) -> tuple[Step, int] | None:
    """A function that repeats a triad of `size` bytes, and how often; None if nothing here can time it."""
    numbers = size // (3 * _ITEM)
    if size >= _CALLED:
        a, b, c = (torch.ones(numbers) for _ in range(3))
        return lambda: torch.add(b, c, alpha=0.5, out=a), 1
    if count > 1:
        return None
    try:
        from mdfa_core.bench.compiled_triad import triad
    except ImportError:
        return None
    x, y, z = (np.ones(numbers, np.float32) for _ in range(3))
    repeats = _CALLED // size
    return lambda: triad(x, y, z, np.float32(0.5), repeats), repeats


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
