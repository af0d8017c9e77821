"""Compare training steps of other projects with this one, on the same network, batch and machine.

    python benchmarks/peers.py [--threads 2] [--quick] [--json FILE]

BioTorch is optional: pip install -e '.[peers]' in the clone. What cannot run says why in its row.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdfa_core import ACTIVATIONS, METHODS, OPTIMIZERS, Learner, MdfaError, Network
from mdfa_core.bench import Settings
from mdfa_core.bench.report import check_writable, machine, versions, write
from mdfa_core.bench.timing import Step, interleaved, ratios
from mdfa_core.nets import initializers
from mdfa_core.nets.networks import parse_architecture

INPUTS, HIDDEN, BATCH, RATE = 3072, 1024, 64, 0.01
NET = f"{INPUTS}-{HIDDEN}-{HIDDEN}-{{outputs}}, tanh, batch {BATCH}, float32, SGD at {RATE:g}"


class CannotRun(Exception):
    """A peer is missing or fails; the message is shown in its row."""


def loss_of(outputs: int) -> nn.Module:
    return nn.BCEWithLogitsLoss() if outputs == 1 else nn.CrossEntropyLoss()


def labels_of(outputs: int) -> Tensor:
    labels = torch.randint(0, 2, (BATCH,), generator=torch.Generator().manual_seed(1))
    return labels.unsqueeze(1).float() if outputs == 1 else labels


def images() -> Tensor:
    return torch.rand((BATCH, INPUTS), generator=torch.Generator().manual_seed(0))


def torch_net(outputs: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(INPUTS, HIDDEN, bias=bias),
        nn.Tanh(),
        nn.Linear(HIDDEN, HIDDEN, bias=bias),
        nn.Tanh(),
        nn.Linear(HIDDEN, outputs, bias=bias),
    )


def torch_step(outputs: int, bias: bool, fused: bool) -> Step:
    model, loss = torch_net(outputs, bias), loss_of(outputs)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, fused=fused)
    x, y = images(), labels_of(outputs)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model(x), y).backward()
        optimizer.step()

    return step


def our_step(outputs: int, method_name: str) -> Step:
    method = METHODS[method_name]
    network = Network(parse_architecture("cifar-fc"), (3, 32, 32), outputs, ACTIVATIONS["tanh"])
    parameters = method.initial_parameters(
        network, initializers.parse("normal:0.1"), seed=0, convention="paper", floor=1e-6
    )
    feedback = method.initial_feedback(network, initializers.parse("normal:1"), seed=0, convention="paper")
    learner = Learner(network, method, OPTIMIZERS["sgd"], parameters, feedback, learning_rates=[RATE])
    inputs = network.inputs_from(images().reshape(1, BATCH, 3, 32, 32))
    labels = labels_of(outputs).reshape(1, BATCH).long()
    return lambda: learner.step(inputs, labels)


def biotorch_step(outputs: int, bias: bool) -> Step:
    """BioTorch's DFA, checked against the formula for three steps."""
    try:
        from biotorch.module.biomodule import BioModule
    except ImportError as error:
        raise CannotRun(f"not installed or not importable ({error}): pip install -e '.[peers]' in the clone") from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it reports what it converts
            model = BioModule(torch_net(outputs, bias), mode="dfa", output_dim=outputs).train()
        loss = loss_of(outputs)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        x, y = images(), labels_of(outputs)

        def step() -> None:
            optimizer.zero_grad()
            loss(model(x, targets=y, loss_function=loss), y).backward()
            optimizer.step()

        step()
        if not learns_by_dfa(model.module, x, y, loss, step):
            raise CannotRun("runs, but its first layer's update is not that of DFA with this PyTorch: not timed")
    except CannotRun:
        raise
    except Exception as error:  # whatever another project raises goes into its row
        raise CannotRun(f"fails with this PyTorch ({type(error).__name__}: {str(error).splitlines()[0]})") from None
    return step


def learns_by_dfa(net: nn.Sequential, x: Tensor, y: Tensor, loss: nn.Module, step: Step) -> bool:
    """Whether the first layer's gradient in the next step is ((e B) ⊙ f′)ᵀ x."""
    with torch.no_grad():
        h = torch.tanh(net[0](x))
        logits = net[4](torch.tanh(net[2](h)))
    logits.requires_grad_()
    (error,) = torch.autograd.grad(loss(logits, y), logits)
    expected = ((error @ net[2].weight_backward) * (1 - h.square())).T @ x
    step()
    return bool(torch.allclose(net[0].weight.grad, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()))


def rows() -> list[tuple[str, str, int, Callable[[], Step]]]:
    """Name, settings, number of outputs, and the function that creates the step."""
    with_bias, without = "with biases", "without biases"
    return [
        ("torch.nn, BP", f"{with_bias}, plain SGD", 1, lambda: torch_step(1, True, False)),
        ("torch.nn, BP", f"{with_bias}, fused SGD", 1, lambda: torch_step(1, True, True)),
        ("mdfa, mDFA", with_bias, 1, lambda: our_step(1, "mdfa")),
        ("mdfa, DFA", with_bias, 1, lambda: our_step(1, "dfa")),
        ("mdfa, BP", with_bias, 1, lambda: our_step(1, "bp")),
        ("BioTorch, DFA", with_bias, 1, lambda: biotorch_step(1, True)),
        ("BioTorch, DFA", f"{without}, since with them one output fails", 1, lambda: biotorch_step(1, False)),
        ("torch.nn, BP", f"{with_bias}, fused SGD", 2, lambda: torch_step(2, True, True)),
        ("mdfa, DFA", with_bias, 2, lambda: our_step(2, "dfa")),
        ("BioTorch, DFA", f"{with_bias}, two outputs since one fails", 2, lambda: biotorch_step(2, True)),
    ]


def version(row: str) -> str:
    package = {"torch.nn": "torch", "mdfa": "mdfa", "BioTorch": "biotorch"}[row.split(",")[0]]
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} –"


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per peer: its description, and its time or the reason why there is none."""
    made: dict[str, Step] = {}
    described: list[dict[str, Any]] = []
    for number, (name, setting, outputs, make) in enumerate(rows()):
        row = {"row": name, "version": version(name), "outputs": outputs, "settings": setting}
        row["net"] = NET.format(outputs=outputs)
        try:
            made[str(number)] = make()
        except CannotRun as error:
            row["skipped"] = str(error)
        described.append(row)
    blocks = interleaved(made, rounds=settings.rounds, seconds=settings.seconds)
    reference = {
        outputs: next(str(n) for n, r in enumerate(rows()) if r[2] == outputs and "fused" in r[1]) for outputs in (1, 2)
    }
    for number, row in enumerate(described):
        if str(number) in blocks:
            taken = blocks[str(number)]
            compared = ratios(taken, blocks[reference[row["outputs"]]])
            row["seconds"] = vars(taken.spread)
            row["ratio to torch.nn, fused SGD, as many outputs"] = vars(compared)
    return described


def table(described: list[dict[str, Any]]) -> str:
    lines = [f"{'row':14} {'version':16} {'outputs':>7}  {'a step':>9}  {'÷ torch.nn':18}  settings"]
    for row in described:
        if "skipped" in row:
            time, ratio = "–", "skipped"
        else:
            spread = row["ratio to torch.nn, fused SGD, as many outputs"]
            time = f"{row['seconds']['median'] * 1e3:.3g} ms"
            ratio = f"{spread['median']:.2f} ({spread['low']:.2f}–{spread['high']:.2f})"
        head = f"{row['row']:14} {row['version']:16} {row['outputs']:>7}  {time:>9}  {ratio:18}  {row['settings']}"
        lines.append(head)
        if "skipped" in row:
            lines.append(f"{'':14} {row['skipped']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="CPU threads (default: two)")
    parser.add_argument("--quick", action="store_true", help="a few steps each, to see that everything runs")
    parser.add_argument("--json", type=Path, help="write everything here")
    arguments = parser.parse_args()
    try:
        given = {} if arguments.threads is None else {"threads": arguments.threads}
        settings = Settings(quick=arguments.quick, **given)
        if arguments.json:
            check_writable(arguments.json)
    except MdfaError as error:
        parser.exit(2, f"peers.py: {error}\n")
    with settings.in_force(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other projects' use of PyTorch
        described = measure(settings)
    its, of = machine(), versions()
    print(f"{its['processor']}, {its['instructions']}, {settings.threads} threads, torch {of['torch']}")
    print(f"{NET.format(outputs='outputs')}; {settings.rounds} blocks in turn, medians and quartiles\n")
    print(table(described))
    if arguments.json:
        content = {"format": 1, "machine": its, "versions": of, "threads": settings.threads, "rows": described}
        try:
            write(arguments.json, content)
        except MdfaError as error:
            parser.exit(2, f"peers.py: {error}\n")


if __name__ == "__main__":
    main()
