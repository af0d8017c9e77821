"""Cost of `attach.measure`, in CPU time, beside two backward passes for each example.

The model is a CNN of two convolutions (16 and 32 channels, 32 × 32 pixels) and two dense layers, with 32 examples. The
ways take turns, and each reports its fastest block.

Usage: python benchmarks/measure.py [METHOD …]
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mdfa_core.attach import Attached, attach, measure

EXAMPLES = 32
BLOCKS = 7


def cnn() -> nn.Sequential:
    convolutions = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    convolutions += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10))


def one_by_one(attached: Attached, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> int:
    """Signs of single updates that agree: a backward pass by the rule and one by BP for each example."""
    names = [name for names in attached.layout.segments[:-1] for name in names]
    hidden = [attached.model.get_parameter(name) for name in names]
    outputs = [way(x) for way in (attached, attached.model)]
    errors = [torch.autograd.grad(loss(z, y), z, retain_graph=True)[0] for z in outputs]
    agree = 0
    for n in range(len(x)):
        found = []
        for z, error in zip(outputs, errors, strict=True):
            alone = torch.zeros_like(error)
            alone[n] = error[n]
            found.append(torch.autograd.grad(z, hidden, alone, retain_graph=True))
        agree += sum(int((a.sign() * b.sign() > 0).sum()) for a, b in zip(*found, strict=True))
    return agree


def step(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    model.zero_grad()
    loss(model(x), y).backward()


def main(methods: list[str]) -> None:
    """Print the table of one or more methods."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y, loss = torch.randn(EXAMPLES, 3, 32, 32), torch.arange(EXAMPLES) % 10, nn.CrossEntropyLoss()
    print(f"{platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, one thread")
    for method in methods:
        attached = attach(cnn(), method, example=x)
        ways: dict[str, Callable[[], object]] = {
            "two backward passes for each example": lambda a=attached: one_by_one(a, x, y, loss),
            "measure": lambda a=attached: measure(a, (x, y), loss),
            "measure(examples=0): no single examples": lambda a=attached: measure(a, (x, y), loss, examples=0),
            "one forward and backward pass by the rule": lambda a=attached: step(a, x, y, loss),
            "one forward and backward pass by BP": lambda a=attached: step(a.model, x, y, loss),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(BLOCKS):
            for name, way in ways.items():
                way()
                repeats = 1 if name.startswith("two") else 5
                begun = time.process_time()
                for _ in range(repeats):
                    way()
                times[name].append((time.process_time() - begun) / repeats)
        slow = min(times["two backward passes for each example"])
        print(f"\n{method}, load average {os.getloadavg()[0]:.1f}")
        for name, found in times.items():
            best, worst = min(found), max(found)
            print(f"{name:<45}{1000 * best:8.1f} ms  to {1000 * worst:6.1f}  {slow / best:6.1f} ×")


if __name__ == "__main__":
    main(sys.argv[1:] or ["dfa", "fa"])
