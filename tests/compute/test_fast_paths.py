"""Every fast path (oneDNN, tiles, batched calls of a stack) agrees with float64 and plain formulas."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdfa_core import ACTIVATIONS, OPTIMIZERS, Learner
from mdfa_core.compute import conv, dense, kernels, onednn, stacked_conv
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning import optimizers
from mdfa_core.nets.networks import Network
from tests.support.cases import pairwise
from tests.support.references import PAIRS, batch_of, learner_of, network_of, relative

FLOAT32, FLOAT64 = PRECISIONS["float32"], PRECISIONS["float64"]
EXAMPLES, INPUTS, OUTPUTS = 64, 260, 300  # 5 million multiply-adds: large

gemms = pytest.mark.parametrize("gemm", ["onednn", "addmm"])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles, with a ragged last one, where production would have few."""
    monkeypatch.setattr(dense, "_TILE", 1 << 14)


@pytest.fixture
def served(gemm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.GEMM_VARIABLE, gemm)
    if gemm == "onednn" and not onednn.linear_works():
        pytest.skip("PyTorch's fused oneDNN operator is not here")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32))


# ---------------------------------------------------------------------------------------------------------- products


@gemms
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("activation", [name for name, a in ACTIVATIONS.items() if a.onednn])
@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize(("size", "kernel"), [(5, 5), (6, 6), (8, 8), (16, 16), (8, 7), (8, 3)])
def test_a_convolution(size: int, kernel: int, filters: int, activation: str) -> None:
    """A single filter as large as its image is where oneDNN's fused convolution is wrong (PyTorch 2.13)."""
    x, w, b = normal(1, 9, 4, size, size), normal(1, filters, 4, kernel, kernel, seed=1) / kernel, normal(1, filters)

    found = kernels.convolve(x, w, b, 1, FLOAT32, ACTIVATIONS[activation])

    exact = ACTIVATIONS[activation].function(torch.conv2d(x[0].double(), w[0].double(), b[0].double()))
    assert relative(found[0].double(), exact) < 1e-5


def test_without_the_private_convolution_all_is_as_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'")

    x, w, b = normal(2, 64, 3, 9, 9), normal(2, 8, 3, 3, 3, seed=1), normal(2, 8)
    layer = normal(4, 64, 32), normal(4, 16, 32, seed=1) / 6, normal(4, 16)
    tanh = ACTIVATIONS["tanh"]
    tried = conv._fuses, dense._batched_affine
    made = []
    for change in (False, True):
        for cached in tried:
            cached.cache_clear()
        if change:
            monkeypatch.setattr(onednn, "convolution", missing)
        made.append((kernels.convolve(x, w, b, 2, FLOAT32, tanh), kernels.affine(*layer, FLOAT32, tanh)))
    monkeypatch.undo()
    for cached in tried:
        cached.cache_clear()

    for with_it, without in zip(*made, strict=True):
        assert relative(with_it, without) < 1e-5


@pytest.mark.parametrize(
    ("numbers", "itemsize", "threads", "whole"),
    [
        (32, 4, 1, True),
        (16, 4, 1, False),
        (16, 8, 1, True),
        (32 * 2047, 4, 2, False),  # two threads: 32 752 numbers each
        (32 * 2047, 4, 1, True),
        (32 * 2048, 4, 2, True),
        (32 * 1023, 4, 2, True),  # too few for two
    ],
)
def test_numbers_in_whole_vectors(
    numbers: int, itemsize: int, threads: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    assert kernels.fills_whole_vectors(numbers, itemsize) == whole


@gemms
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("name", [None, *ACTIVATIONS])
def test_a_large_dense_layer(name: str | None, replicas: int) -> None:
    x, w, b = (
        normal(replicas, EXAMPLES, INPUTS),
        normal(replicas, OUTPUTS, INPUTS, seed=1) * 0.1,
        normal(replicas, OUTPUTS, seed=2),
    )
    activation = None if name is None else ACTIVATIONS[name]

    found = kernels.affine(x, w, b, FLOAT32, activation)

    exact = x.double() @ w.double().mT + b.double().unsqueeze(1)
    assert relative(found.double(), exact if activation is None else activation.function(exact)) < 1e-5


@gemms
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("shared", [True, False])
def test_large_products_and_their_tiles(shared: bool) -> None:
    delta, w, x = (
        normal(2, EXAMPLES, OUTPUTS),
        normal(2, OUTPUTS, INPUTS, seed=1),
        normal(1 if shared else 2, EXAMPLES, INPUTS, seed=2),
    )
    exact = delta.double().mT @ x.double()

    assert relative(kernels.product(delta, w, FLOAT32).double(), delta.double() @ w.double()) < 1e-5
    assert relative(kernels.outer(delta, x, FLOAT32).double(), exact) < 1e-5

    whole, times = torch.full((2, OUTPUTS, INPUTS), torch.nan), torch.zeros(2, OUTPUTS, INPUTS)
    tiles = list(kernels.outer_tiles(delta, x, FLOAT32))
    for index, g in tiles:
        whole[index] = g
        times[index] += 1
    assert len(tiles) > 10
    assert bool((times == 1).all())
    assert relative(whole.double(), exact) < 1e-5


def test_scaled_updates_are_added_at_each_replicas_factor() -> None:
    w, delta, x = normal(3, 20, 10), normal(3, 8, 20, seed=1), normal(3, 8, 10, seed=2)
    alone = w[:1].clone()
    kernels.add_outer_(alone, delta[:1], x[:1], [-0.1], FLOAT32, equal=True)
    for factors in ([-0.1, -0.1, -0.1], [-0.1, 0.5, -2.0]):
        found = w.clone()
        kernels.add_outer_(found, delta, x, factors, FLOAT32, equal=len(set(factors)) == 1)
        exact = w.double() + torch.tensor(factors).double()[:, None, None] * (delta.double().mT @ x.double())
        assert relative(found.double(), exact) < 1e-5
        assert torch.equal(found[:1], alone)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(40,), (6, 5, 4)])
def test_error_signals_in_place(shape: tuple[int, ...], activation: str, outputs: int) -> None:
    error, b = normal(1, 30, outputs), kernels.stack([normal(outputs, *shape, seed=1)])
    saved = kernels.to_kernel_layout(normal(1, 30, *shape, seed=2).clamp(-0.9, 0.9))
    rule = ACTIVATIONS[activation]

    found = kernels.project_error_through(error, b, saved, rule, FLOAT32)

    exact = (error.double() @ b.double().flatten(2)).reshape(1, 30, *shape)
    assert relative(found.double(), rule.backward(exact, saved.double())) < 1e-5


def test_stacks_start_replicas_on_cache_lines_and_keep_channels_last() -> None:
    stack = kernels.stack([normal(3, 2, 5, 5, seed=seed) for seed in range(3)])

    assert all(place.data_ptr() % kernels.CACHE_LINE == 0 for place in stack)
    assert stack.stride()[1:] == (50, 1, 10, 2)
    assert all(torch.equal(stack[seed], normal(3, 2, 5, 5, seed=seed)) for seed in range(3))
    misaligned = normal(3, 1, 7)
    assert kernels.replica(misaligned, 1).data_ptr() % kernels.CACHE_LINE == 0
    assert torch.equal(kernels.replica(misaligned, 1), misaligned[1:2])


# ------------------------------------------------------------------------------------------------------- whole steps


RATES, PENALTIES = (0.05, 0.2, 0.01), (0.0, 0.01, 0.1)
# Where only the sign of g counts, float32's rounding of a g near 0 is worth a whole step.
SIGNS_ONLY = ("signsgd", "rprop")
STEPS = [(method, optimizer) for method, optimizer in PAIRS if optimizer not in SIGNS_ONLY]


def exact_twin(learner: Learner, *, replicas: slice = slice(None)) -> Learner:
    """The same nets in float64."""
    net = learner.network
    network = Network(net.architecture, net.input_shape, net.outputs, net.activation, FLOAT64)
    weights = [w[replicas].double() for w in learner.parameters.weights]
    biases = [b[replicas].double() for b in learner.parameters.biases]
    return Learner(
        network,
        learner.method,
        learner.optimizer_state.optimizer,
        network.parameters_from(weights, biases),
        learner.method.feedback_from(network, [b[replicas].double() for b in learner.feedback]),
        learning_rates=learner.optimizer_state.rates[replicas],
        l2=learner.optimizer_state.l2[replicas],
        floor=learner.floor,
    )


def assert_steps_are_exact(learner: Learner, examples: int, steps: int = 3) -> None:
    twins = [exact_twin(learner, replicas=slice(r, r + 1)) for r in range(learner.replicas)]
    for step in range(steps):
        inputs, labels = batch_of(learner.network, examples, replicas=learner.replicas, seed=step)
        learner.step(inputs, labels)
        for r, twin in enumerate(twins):
            twin.step(inputs[r : r + 1].double(), labels[r : r + 1])
    for r, twin in enumerate(twins):
        for found, exact in zip(learner.parameters.tensors(), twin.parameters.tensors(), strict=True):
            assert relative(found[r].double(), exact[0]) < 2e-5


@gemms
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(("method", "optimizer"), STEPS)
def test_steps_of_large_nets(method: str, optimizer: str) -> None:
    network = network_of("fc:300,280", image=(1, 16, 16))
    assert_steps_are_exact(
        learner_of(network, method, optimizer=optimizer, rates=RATES[:2], l2=PENALTIES[:2], scale=0.1), EXAMPLES
    )


@pytest.mark.parametrize(
    ("step", "penalties", "rates"),
    pairwise(STEPS, [PENALTIES, (0.0,) * 3], [RATES, (0.05,) * 3]),
)
def test_stacks_in_common_calls(
    step: tuple[str, str], penalties: tuple[float, ...], rates: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced, since the trial that allows common calls would hide a wrong one by refusing it."""
    method, optimizer = step
    monkeypatch.setattr(Learner, "batched", lambda self, inputs, labels: True)
    network = network_of("fc:64,48", image=(1, 8, 8))
    assert_steps_are_exact(learner_of(network, method, optimizer=optimizer, rates=rates, l2=penalties, scale=0.1), 64)


@pytest.mark.parametrize("rates", [RATES, (0.05,) * 3], ids=["own-rates", "one-rate"])
@pytest.mark.parametrize("penalties", [PENALTIES, (0.0,) * 3], ids=["penalised", "free"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", ["fc:24,16", "conv:4/3/2,5/2/1+fc:6"])
def test_stacks_as_on_a_gpu(
    net: str, optimizer: str, penalties: tuple[float, ...], rates: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of devices on which replicas never take turns, forced on the CPU, against a loop over them."""
    for method in ("bp", "fa", "dfa", "mdfa"):
        network = network_of(net, image=(2, 8, 8))
        stack, loop = (learner_of(network, method, optimizer=optimizer, rates=rates, l2=penalties) for _ in range(2))
        for step, shared in enumerate((False, True, False)):
            if step == 2:
                for learner in (stack, loop):
                    learner.optimizer_state.rates = [0.1 * rate for rate in rates]
            inputs, labels = batch_of(network, 10, replicas=1 if shared else 3, seed=step)
            with monkeypatch.context() as patch:
                patch.setattr("mdfa_core.compute.replicas.PER_REPLICA_DEVICES", frozenset())
                patch.setattr(stacked_conv, "fastest_algorithm", lambda *of: "grouped")
                assert len(stack.step(inputs, labels).replicas) == 1
            loop.step(inputs, labels)
        for found, exact in zip(stack.parameters.tensors(), loop.parameters.tensors(), strict=True):
            torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-11)


class Calls(TorchDispatchMode):
    """Counts what PyTorch is asked to do."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("net", ["fc:24,16", "conv:4/3/2,5/2/1+fc:6"])
@pytest.mark.usefixtures("batched_replicas")
def test_a_step_on_a_gpu_takes_no_more_calls_for_more_replicas(net: str, optimizer: str) -> None:
    network = network_of(net, image=(2, 8, 8))
    for method in ("bp", "fa", "dfa", "mdfa"):
        counts = []
        for replicas in (2, 6):
            rates, penalties = [0.1 / (r + 1) for r in range(replicas)], [0.1 * r for r in range(replicas)]
            learner = learner_of(network, method, optimizer=optimizer, rates=rates, l2=penalties)
            inputs, labels = batch_of(network, 10, replicas=replicas)
            learner.step(inputs, labels)  # what is made once
            with Calls() as calls:
                learner.step(inputs, labels)
            counts.append(calls.count)
        assert counts[1] - counts[0] < 4  # a loop would add at least one for each; a copy for alignment may come or go


def test_adam_in_one_pass_is_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, results = OPTIMIZERS["adam"], []
    for one_pass in (True, False):
        if not one_pass:
            monkeypatch.setattr("mdfa_core.learning.optimizers._one_pass_serves", lambda: False)
        parameter, mean, square = normal(50, seed=1), torch.zeros(50), torch.zeros(50)
        for step in (1, 2, 3):
            rule.update_(parameter, normal(50, seed=step) * 1e-6, [mean, square], 0.1, step)
        results.append((parameter, mean, square))
    for a, b in zip(*results, strict=True):
        assert relative(a, b) < 1e-5


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("counted", [False, True])
def test_adam_in_one_kernel_is_adam(device: str, counted: bool) -> None:
    place, rule = torch.device(device), OPTIMIZERS["adam"]
    assert optimizers._one_kernel_serves(place)
    parameter, mean, square = (t.to(place) for t in (normal(50, seed=1), torch.zeros(50), torch.zeros(50)))
    exact = [t.double() for t in (parameter, mean, square)]
    clock = optimizers.StepCounter(0, place)
    for step in (1, 2, 3):
        clock.tick()
        g = normal(50, seed=step).to(place) * 1e-6
        rate = 0.1 * rule._correction(clock.steps)
        optimizers._adam_in_one_kernel(rule, parameter, g, mean, square, rate if counted else float(rate))
        exact[1].mul_(0.9).add_(0.1 * g.double())
        exact[2].mul_(0.999).add_(0.001 * g.double().square())
        correction = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        exact[0].sub_(0.1 * correction * exact[1] / (exact[2].sqrt() + 1e-8))
    for a, b in zip((parameter, mean, square), exact, strict=True):
        assert relative(a.double(), b) < 2e-5  # CUDA's kernel takes β₂ in float32, which makes 1 - β₂ smaller by 1.3e-5


@pytest.mark.gpu
@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.1, 0.02)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_on_a_gpu_are_those_on_a_cpu(
    optimizer: str, rates: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ours = optimizers._adam_in_one_kernel
    monkeypatch.setattr(optimizers, "_adam_in_one_kernel", lambda *of: (asked.append(1), ours(*of)))
    results = []
    for device, precision in (("cpu", "float64"), ("cuda", "float32")):
        dtype = FLOAT32.storage if precision == "float32" else torch.float64
        weight = normal(2, 16, 32, seed=1).to(device, dtype)
        descent = optimizers.OptimizerState(OPTIMIZERS[optimizer], [weight], rates, [0.0, 0.0])
        for step in (1, 2, 3):
            descent.tick()
            descent.update_tensor_(0, weight, normal(2, 16, 32, seed=step).to(device, dtype), None)
        results.append(weight.double().cpu())
    assert relative(results[1], results[0]) < 1e-5
    assert bool(asked) == (optimizer == "adam" and rates[0] == rates[1])


def test_an_activation_without_fast_forms_is_used_as_it_is() -> None:
    plain = dataclasses.replace(ACTIVATIONS["tanh"], function_=None, backward_=None, onednn=None)
    x, w, b = normal(1, EXAMPLES, INPUTS), normal(1, OUTPUTS, INPUTS, seed=1) * 0.1, normal(1, OUTPUTS, seed=2)

    assert (
        relative(kernels.affine(x, w, b, FLOAT32, plain), kernels.affine(x, w, b, FLOAT32, ACTIVATIONS["tanh"])) < 1e-5
    )
