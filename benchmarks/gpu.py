"""Measure stacks of replicas on a GPU: correctness against the CPU, speed by stack size, and hardware limits.

    python benchmarks/gpu.py [--device cuda] [--json FILE]         a few minutes
    python benchmarks/gpu.py --precision tf32                      in another precision than float32
    python benchmarks/gpu.py --device cpu --small                  the same code in seconds, to see that it runs

It also finds out how the card rounds to TensorFloat-32, and whether two runs are bit-identical, with cuDNN's
deterministic algorithms and without.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdfa_core import METHODS, OPTIMIZERS, MdfaError
from mdfa_core.base import devices
from mdfa_core.bench.floor import multiply_adds
from mdfa_core.bench.report import check_writable, machine, versions, write
from mdfa_core.bench.timing import Spread, Step, interleaved
from mdfa_core.bench.workloads import BATCH, CONV, DIGITS_FC, FC, Workload
from mdfa_core.compute import kernels, stacked_conv
from mdfa_core.learning.learner import Learner, Sums
from mdfa_core.learning.steps import StepRunner
from mdfa_core.nets.layers import ConvLayer

TOLERANCE = 1e-4  # of a parameter after a few steps, relative to the largest of its tensor
AMPLIFIED = 3  # or so many times the CPU's own distance: FA's steps of convolutions amplify any rounding
CHECKED = ("bp", "fa", "dfa", "mdfa")  # the paper's methods, whose products all others share
CHECKED_STEPS = 5
DISTINCT = 16  # different batches drawn for a stack; they are repeated where it has more, which changes no time
PASSES = 3  # times a step of SGD moves every weight: read forward, read and written by the update
FREE = 0.8  # share of the free memory a stack may take

RUNS, EPOCHS = 2000, 100  # of Table 1 with its tuning grid, for each kind of net
STEPS_PER_EPOCH = {"CIFAR-100": 13, "CIFAR-10": 132}  # two classes, 15 % for validation, batches of 64


@dataclass(frozen=True)
class Size:
    """The amount of work.

    Attributes:
        workloads: nets, each with the stack sizes to time.
        checked: nets whose stacks are compared with the CPU's.
        replicas: in those stacks.
        ways: replicas for which the ways to a convolution are timed.
        rounds, seconds: blocks of each variant, and how long a block takes.
        matrix: rows and columns of the product whose rate is the limit.
        buffer: bytes of the copy whose rate is the limit.
    """

    workloads: tuple[tuple[Workload, tuple[int, ...]], ...]
    checked: tuple[Workload, ...]
    replicas: int
    ways: int
    rounds: int
    seconds: float
    matrix: int
    buffer: int


LARGE = Size(
    workloads=(
        (FC, (1, 4, 16, 64, 256)),
        (replace(FC, optimizer="rmsprop"), (1, 16, 64)),
        (replace(FC, optimizer="adam"), (1, 16, 64)),
        (CONV, (1, 4, 16, 64)),
        (DIGITS_FC, (1, 32, 256, 1024)),
    ),
    checked=(FC, CONV, DIGITS_FC),
    replicas=4,
    ways=16,
    rounds=7,
    seconds=0.1,
    matrix=8192,
    buffer=1 << 31,
)
SMALL = Size(
    workloads=(
        (Workload("small FC", "fc:32,32", (3, 8, 8)), (1, 4)),
        (Workload("small conv", "conv:8/3/2,8/2/1", (3, 8, 8)), (1, 4)),
    ),
    checked=(Workload("small FC", "fc:32,32", (3, 8, 8)), Workload("small conv", "conv:8/3/2,8/2/1", (3, 8, 8))),
    replicas=3,
    ways=3,
    rounds=2,
    seconds=0.005,
    matrix=256,
    buffer=1 << 22,
)


def waiting_for(device: torch.device) -> Callable[[], None]:
    """A function that waits until the device has finished its work."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


# --------------------------------------------------------------------------------------------------------- correctness


def batch(workload: Workload, replicas: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images and labels of a batch for every replica, equal on every device."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((min(replicas, DISTINCT), BATCH, *workload.image), generator=generator).to(device)
    labels = torch.randint(0, 2, (replicas, BATCH), generator=generator).to(device)
    repeats = -(-replicas // images.shape[0])
    return images.repeat(repeats, 1, 1, 1, 1)[:replicas], labels


def steps_of(stack: Learner, *, replayed: bool = True) -> StepRunner:
    """A stack's training steps as in a run: replayed as a CUDA graph if the device supports it."""
    return StepRunner(stack, Sums.zeros(stack.replicas, stack.parameters.weights[0].device), replayed=replayed)


def trained(workload: Workload, replicas: int, device: torch.device, precision: str) -> list[Tensor]:
    """The parameters after a few training steps, converted to float64."""
    rates = [0.01 / (1 + r % 3) for r in range(replicas)]
    stack = workload.learner(kernels.PRECISIONS[precision], replicas, device, rates)
    images, labels = batch(workload, replicas, device)
    inputs = stack.network.inputs_from(images)
    steps = steps_of(stack)
    for _ in range(CHECKED_STEPS):
        steps.take(inputs, labels)
    return [tensor.detach().cpu().double() for tensor in stack.parameters.tensors()]


def distance(found: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference between parameters, relative to the largest value of its tensor."""
    return max(((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item() for a, b in zip(exact, found, strict=True))


def check(workload: Workload, replicas: int, device: torch.device, precision: str) -> dict[str, Any]:
    """Distance of the device's stack, and of the CPU's, from the CPU's in float64 after a few steps."""
    worst: dict[str, float] = {}
    usual: dict[str, float] = {}
    for method in CHECKED:
        variant = replace(workload, method=method)
        exact = trained(variant, replicas, torch.device("cpu"), "float64")
        worst[method] = distance(trained(variant, replicas, device, precision), exact)
        usual[method] = distance(trained(variant, replicas, torch.device("cpu"), precision), exact)
    return {
        "net": workload.title,
        "replicas": replicas,
        "steps": CHECKED_STEPS,
        "largest relative difference": worst,
        "the CPU's": usual,
        "right": all(worst[method] <= max(TOLERANCE, AMPLIFIED * usual[method]) for method in CHECKED),
    }


TIES = (1 + 2**-11, 1 + 3 * 2**-11)  # in the middle of two TensorFloat-32 numbers
ROUNDINGS = {
    TIES: "not at all",
    (1 + 2**-10, 1 + 2 * 2**-10): "to the nearest, ties away from zero",
    (1.0, 1 + 2 * 2**-10): "to the nearest, ties to even",
    (1.0, 1 + 2**-10): "by truncation",
}


def roundings(size: Size, device: torch.device) -> dict[str, str]:
    """How the operands of a product and of a convolution are rounded to TensorFloat-32, in words."""
    of, edge = kernels.PRECISIONS["tf32"], min(size.matrix, 256)
    found: dict[str, list[float]] = {"product": [], "convolution": []}
    for tie in TIES:
        one = torch.eye(edge, device=device).unsqueeze(0)
        found["product"].append(kernels.product(one * tie, one, of)[0, 0, 0].item())
        images = torch.full((1, 4, edge, 4, 4), tie, device=device)
        filters = one.reshape(1, edge, edge, 1, 1)
        found["convolution"].append(kernels.convolve(images, filters, one[:, 0] * 0, 1, of)[0, 0, 0, 0, 0].item())
    return {name: ROUNDINGS.get(tuple(values), f"to {values}") for name, values in found.items()}


# --------------------------------------------------------------------------------------------------------------- limits


def limits(size: Size, device: torch.device, precision: str) -> dict[str, float]:
    """Rates of the hardware: FLOP/s of a large product of operands in the precision's format, and bytes/s (read and
    written) of a large copy.
    """
    of = kernels.PRECISIONS[precision]
    a, b = (torch.randn((size.matrix, size.matrix), dtype=of.operands, device=device) for _ in range(2))
    made = torch.empty_like(a)
    source = torch.zeros(size.buffer // 4, device=device)
    target = torch.empty_like(source)
    with of.products(device):
        blocks = interleaved(
            {"product": lambda: torch.mm(a, b, out=made), "copy": lambda: target.copy_(source)},
            rounds=size.rounds,
            seconds=size.seconds,
            wait=waiting_for(device),
        )
    return {
        "FLOP/s": 2 * size.matrix**3 / blocks["product"].spread.median,
        "bytes/s": 2 * size.buffer / blocks["copy"].spread.median,
    }


# ---------------------------------------------------------------------------------------------------------------- speed


def time_convolutions(
    workload: Workload, replicas: int, size: Size, device: torch.device, precision: str
) -> list[dict[str, Any]]:
    """Time every algorithm for a stack's convolutions. A training run uses the fastest, which it measures itself."""
    of, rows = kernels.PRECISIONS[precision], []
    for layer in workload.build_network().hidden:
        if not isinstance(layer, ConvLayer):
            continue
        x, w, delta = (
            torch.rand((replicas, *shape), dtype=of.operands, device=device)
            for shape in ((BATCH, *layer.input_shape), layer.weight_shape, (BATCH, *layer.output_shape))
        )
        operands = {
            "convolve": (x, w, layer.stride),
            "error": (delta, w, layer.stride, *layer.input_shape[1:]),
            "outer": (delta, x, layer.stride, layer.kernel),
        }
        for kind, arguments in operands.items():
            ways = {name: partial(way[kind], *arguments) for name, way in stacked_conv.ALGORITHMS.items()}
            with of.products(device):
                blocks = interleaved(ways, rounds=size.rounds, seconds=size.seconds / 10, wait=waiting_for(device))
            rows.append(
                {
                    "net": workload.title,
                    "layer": layer.name,
                    "product": kind,
                    "replicas": replicas,
                    "seconds": {name: vars(taken.spread) for name, taken in blocks.items()},
                }
            )
    return rows


def predicted_bytes(workload: Workload, replicas: int, precision: str) -> int:
    """Predicted memory of a stack: weights, optimizer state, one update and two batches, one of them in the graph."""
    network = workload.build_network()
    slots = len(OPTIMIZERS[workload.optimizer].slots)
    batches = 2 * BATCH * (2 * math.prod(workload.image) + 4 * sum(layer.units for layer in network.layers))
    numbers = network.parameter_count * (2 + slots) + batches
    return kernels.PRECISIONS[precision].storage.itemsize * numbers * replicas


def free_bytes(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def time_stacks(
    workload: Workload,
    sizes: tuple[int, ...],
    size: Size,
    device: torch.device,
    limit: dict[str, float],
    precision: str = "float32",
) -> list[dict[str, Any]]:
    """Time a network at every stack size, one row each."""
    work = multiply_adds(workload.build_network(), METHODS[workload.method], BATCH)
    weights = kernels.PRECISIONS[precision].storage.itemsize * workload.build_network().parameter_count
    rows = []
    for replicas in sizes:
        row: dict[str, Any] = {"net": workload.title, "optimizer": workload.optimizer, "replicas": replicas}
        rows.append(row)
        needed = predicted_bytes(workload, replicas, precision)
        row["predicted bytes"] = needed
        if needed > FREE * free_bytes(device):
            row["skipped"] = f"needs about {needed / 1e9:.1f} GB"
            continue
        taken, launched = timed(workload, replicas, size, device, precision)
        row["seconds"] = vars(taken)
        row["seconds without a graph"] = None if launched is None else vars(launched)
        row["replica-steps/s"] = replicas / taken.median
        row["share of the matrix rate"] = 2 * work * replicas / taken.median / limit["FLOP/s"]
        if workload.optimizer == "sgd":
            row["share of the bandwidth floor"] = PASSES * weights * replicas / taken.median / limit["bytes/s"]
        if device.type == "cuda":
            row["peak bytes"] = torch.cuda.max_memory_allocated(device)
            torch.cuda.empty_cache()
    return rows


def timed(
    workload: Workload, replicas: int, size: Size, device: torch.device, precision: str
) -> tuple[Spread, Spread | None]:
    """Time a step as in a run and, if that is a CUDA graph, the same step launched kernel by kernel."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    stack = workload.learner(kernels.PRECISIONS[precision], replicas, device)
    images, labels = batch(workload, replicas, device)
    inputs = stack.network.inputs_from(images)
    steps = steps_of(stack)
    for _ in range(CHECKED_STEPS):  # the second is recorded
        steps.take(inputs, labels)
    variants: dict[str, Step] = {"a step": partial(steps.take, inputs, labels)}
    if steps.replaying:
        variants["without"] = partial(steps_of(stack, replayed=False).take, inputs, labels)
    blocks = interleaved(variants, rounds=size.rounds, seconds=size.seconds, wait=waiting_for(device))
    return blocks["a step"].spread, blocks["without"].spread if steps.replaying else None


@contextmanager
def cudnn_deterministic(wanted: bool) -> Iterator[None]:
    """A `with` block in which cuDNN uses only algorithms that give the same bits every time, or any."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def repeatability(
    workload: Workload, replicas: int, size: Size, device: torch.device, precision: str
) -> list[dict[str, Any]]:
    """Two equal runs of a few steps, with `torch.backends.cudnn.deterministic` and without: their bits and their time.

    All runs use the convolution algorithms that were chosen before, with the setting off.
    """
    rows = []
    for wanted in (False, True):
        with cudnn_deterministic(wanted):
            first, second = (trained(workload, replicas, device, precision) for _ in range(2))
            taken, _ = timed(workload, replicas, size, device, precision)
        rows.append(
            {
                "net": workload.title,
                "replicas": replicas,
                "deterministic": wanted,
                "bit-identical": all(torch.equal(a, b) for a, b in zip(first, second, strict=True)),
                "largest relative difference": distance(second, first),
                "seconds": vars(taken),
            }
        )
    return rows


def projections(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time of all training steps of Table 1 and its hyperparameter grid at each network's best throughput with SGD."""
    timed_rows = [
        row for row in rows if "seconds" in row and row["optimizer"] == "sgd" and row["net"].startswith("CIFAR")
    ]
    made = []
    for net, group in itertools.groupby(timed_rows, key=lambda row: row["net"]):
        best = max(group, key=lambda row: row["replica-steps/s"])
        for task, steps in STEPS_PER_EPOCH.items():
            minutes = RUNS * EPOCHS * steps / best["replica-steps/s"] / 60
            made.append({"net": net, "tasks of": task, "replicas": best["replicas"], "minutes": minutes})
    return made


# --------------------------------------------------------------------------------------------------------------- report


def report(content: dict[str, Any]) -> str:
    lines = [f"{content['hardware']}; torch {content['versions']['torch']}, {content['precision']}", ""]
    for item in content["correctness"]:
        worst = max(item["largest relative difference"].values())
        usual = max(item["the CPU's"].values())
        verdict = "right" if item["right"] else f"WRONG: more than {TOLERANCE:g} and {AMPLIFIED} times that"
        lines.append(
            f"{item['net']}, {item['replicas']} replicas, {item['steps']} steps of {', '.join(CHECKED)}: differs from "
            f"the CPU in float64 by {worst:.1e} at most, the CPU in {content['precision']} by {usual:.1e}: {verdict}"
        )
    for name, rounded in content["tf32 rounding"].items():
        lines.append(f"the operands of a {name} in TensorFloat-32 are rounded {rounded}")
    limit = content["limits"]
    lines += [
        "",
        f"limits: {limit['FLOP/s'] / 1e12:.3g} TFLOP/s (product), {limit['bytes/s'] / 1e9:.4g} GB/s (copy)",
        "",
    ]
    lines.append(
        f"{'net':12} {'optimizer':9} {'R':>5} {'a step':>10} {'no graph':>10} {'÷ R':>10} {'replica-steps/s':>16} "
        f"{'of the matrix rate':>19} {'of the bandwidth floor':>23}"
    )
    for row in content["steps"]:
        head = f"{row['net']:12} {row['optimizer']:9} {row['replicas']:>5}"
        if "skipped" in row:
            lines.append(f"{head} skipped: {row['skipped']}")
            continue
        seconds, launched = row["seconds"]["median"], row["seconds without a graph"]
        without = "–" if launched is None else f"{launched['median'] * 1e3:.3f} ms"
        bandwidth = row.get("share of the bandwidth floor")
        share = "–" if bandwidth is None else f"{bandwidth:.1%}"
        lines.append(
            f"{head} {seconds * 1e3:>7.3f} ms {without:>10} {seconds / row['replicas'] * 1e6:>7.1f} µs "
            f"{row['replica-steps/s']:>16.0f} {row['share of the matrix rate']:>19.1%} {share:>23}"
        )
    lines.append("")
    for row in content["convolutions"]:
        times = ", ".join(f"{name} {spread['median'] * 1e3:.3g} ms" for name, spread in row["seconds"].items())
        lines.append(f"{row['net']}, {row['replicas']} replicas, {row['layer']}, {row['product']}: {times}")
    lines.append("")
    for row in content["repeatability"]:
        alike = "bit-identical" if row["bit-identical"] else f"different by {row['largest relative difference']:.1e}"
        lines.append(
            f"{row['net']}, {row['replicas']} replicas, cuDNN deterministic {'on' if row['deterministic'] else 'off'}: "
            f"two runs are {alike}, a step takes {row['seconds']['median'] * 1e3:.3f} ms"
        )
    if content["projections"]:
        lines.append("")
    for item in content["projections"]:
        lines.append(
            f"{RUNS} runs of {EPOCHS} epochs on two classes of {item['tasks of']}, {item['net']}, stacks of "
            f"{item['replicas']}: {item['minutes']:.1f} minutes of training steps"
        )
    lines += ["", f"{content['seconds']:.0f} s in all"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, … or cpu (default: auto)")
    parser.add_argument(
        "--precision", default="float32", choices=list(kernels.PRECISIONS), help="of everything (default: float32)"
    )
    parser.add_argument("--small", action="store_true", help="small nets and few steps, to see that everything runs")
    parser.add_argument("--json", type=Path, help="write everything here")
    arguments = parser.parse_args()
    try:
        device = devices.resolve(arguments.device)
        if device.type == "cpu" and not arguments.small:
            raise MdfaError("on a CPU this takes hours at full size: add --small, or use mdfa bench")
        kernels.check_device(arguments.precision, device)
        if arguments.json:
            check_writable(arguments.json)
    except MdfaError as error:
        parser.exit(2, f"gpu.py: {error}\n")
    size = SMALL if arguments.small else LARGE
    start = time.perf_counter()
    here = size, device
    of: str = arguments.precision
    limit = limits(*here, of)
    correctness = [check(workload, size.replicas, device, of) for workload in size.checked]
    rows = [row for workload, sizes in size.workloads for row in time_stacks(workload, sizes, *here, limit, of)]
    ways = [row for workload in size.checked for row in time_convolutions(workload, size.ways, *here, of)]
    repeated = [row for workload in size.checked for row in repeatability(workload, size.ways, *here, of)]
    content = {
        "format": 2,
        "device": str(device),
        "precision": of,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else machine()["processor"],
        "machine": machine(),
        "versions": versions() | {"cuda": torch.version.cuda or "none"},
        "small": arguments.small,
        "limits": limit,
        "correctness": correctness,
        "tf32 rounding": roundings(*here),
        "steps": rows,
        "convolutions": ways,
        "repeatability": repeated,
        "projections": projections(rows),
        "seconds": time.perf_counter() - start,
    }
    print(report(content))
    if arguments.json:
        try:
            write(arguments.json, content)
        except MdfaError as error:
            parser.exit(2, f"gpu.py: {error}\n")
    return 0 if all(item["right"] for item in correctness) else 1


if __name__ == "__main__":
    sys.exit(main())
